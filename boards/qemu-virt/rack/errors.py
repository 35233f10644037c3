"""What can go wrong with a rack, from the general to the special."""


class RackError(Exception):
    """The text says what happened and which log tells more."""


class GuestGone(RackError):
    """The VM ended, or its command channel did."""


class GuestTimeout(RackError):
    """A command in the guest did not end in time."""


class CommandFailed(RackError):
    """A command in the guest ended with an exit code that was not expected."""

    def __init__(self, command, result):
        super().__init__(f"'{command}' ended with exit code {result.code}:\n{result.out.strip()}")
        self.result = result
