"""A child process with a log, that never outlives this program."""
import ctypes
import os
import signal
import subprocess
import time

from rack.config import scaled
from rack.errors import RackError

PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None, use_errno=True)


class Process:
    """Runs in `folder`, writes <folder>/<name>.out; `console` is a file there to which it writes,
    too. Start it from the main thread: the kernel ends the child when the thread that started it
    ends."""

    def __init__(self, name, argv, folder, pass_fds=(), console=None):
        self.name = name
        self.console_path = os.path.join(folder, console) if console else None
        self.log_path = os.path.join(folder, f"{name}.out")
        parent = os.getpid()

        def before_exec():
            _LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != parent:  # the parent died before the line above
                os.kill(os.getpid(), signal.SIGKILL)

        with open(self.log_path, "ab") as log:
            log.write(f"$ {' '.join(argv)}\n".encode())
            log.flush()
            try:
                self.popen = subprocess.Popen(  # pylint: disable=consider-using-with
                    argv, cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                    pass_fds=pass_fds, start_new_session=True, preexec_fn=before_exec)
            except OSError as error:
                raise RackError(f"{name}: cannot run {argv[0]}: {error.strerror}") from error

    def is_running(self):
        return self.popen.poll() is None

    def require_running(self):
        if not self.is_running():
            how = self._exit_text()
            raise RackError(f"{self.name} ended by itself ({how}):\n{self.log_tail()}")

    def log_tail(self, lines=8):
        """The end of what it said, without its command line."""
        said = self._output().splitlines()[-lines:]
        if self.console_path and os.path.exists(self.console_path):
            with open(self.console_path, encoding="utf-8", errors="replace") as file:
                said += [line.rstrip() for line in file.readlines()[-lines:]]
        return "\n".join("    " + line for line in said)

    def wait_for(self, condition, what, timeout_s):
        """Until condition() is true; fails early when the process ends."""
        deadline = time.monotonic() + scaled(timeout_s)
        while not condition():
            self.require_running()
            if time.monotonic() > deadline:
                raise RackError(f"{self.name}: no {what} within {timeout_s} s:\n{self.log_tail()}")
            time.sleep(0.01)

    def wait_for_output(self, text, timeout_s):
        self.wait_for(lambda: text in self._output(), f"'{text}'", timeout_s)

    def wait(self, timeout_s):
        """Exit code of a process that is to end by itself."""
        try:
            return self.popen.wait(scaled(timeout_s))
        except subprocess.TimeoutExpired as error:
            raise RackError(f"{self.name} is still running after {timeout_s} s") from error

    def stop(self, first=signal.SIGTERM, grace_s=3):
        """Ends the process; returns its exit code (negative: the signal that ended it)."""
        if self.is_running():
            self.popen.send_signal(first)
            try:
                self.popen.wait(scaled(grace_s))
            except subprocess.TimeoutExpired:
                self.popen.kill()
        return self.popen.wait()

    def _output(self):
        """What it wrote since this start."""
        with open(self.log_path, encoding="utf-8", errors="replace") as file:
            return ("\n" + file.read()).rpartition("\n$ ")[2].partition("\n")[2]

    def _exit_text(self):
        code = self.popen.returncode
        return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
