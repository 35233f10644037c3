"""Commands to the guest over its virtio serial port; boards/deps/guest/agent is the other end.

Commands run side by side in the guest: one that hangs does not block the next.
"""
import base64
import itertools
import random
import threading
import time
from dataclasses import dataclass

from rack.config import scaled
from rack.errors import CommandFailed, GuestGone, GuestTimeout
from rack.sockets import connect

KILLED_BY_TIMEOUT = 137
GRACE_S = 5  # beyond the guest's own deadline, for a slow answer


@dataclass
class Result:
    """How a command ended; `out` holds stdout and stderr."""
    code: int
    out: str
    seconds: float

    def lines(self):
        return self.out.splitlines()


class Job:
    """A command under way in the guest."""

    def __init__(self, agent, command, timeout_s):
        self.agent, self.command, self.timeout_s = agent, command, timeout_s
        self.start_s = time.monotonic()
        self.done = threading.Event()
        self.result = None

    def is_done(self):
        return self.done.is_set()

    def wait(self, check=True):
        """The Result; raises CommandFailed (if check), GuestTimeout or GuestGone."""
        left_s = self.start_s + self.timeout_s + scaled(GRACE_S) - time.monotonic()
        if not self.done.wait(max(left_s, 0)):
            raise GuestTimeout(f"'{self.command}' hangs in the guest since {self.timeout_s:.0f} s "
                               "and cannot be killed")
        if self.result is None:
            raise GuestGone(f"the guest went away during '{self.command}'")
        if self.result.code == KILLED_BY_TIMEOUT and self.result.seconds >= self.timeout_s:
            raise GuestTimeout(f"'{self.command}' took more than {self.timeout_s:.0f} s:\n"
                               + self.result.out)
        if check and self.result.code != 0:
            raise CommandFailed(self.command, self.result)
        return self.result

    def finish(self, result):
        self.result = result
        self.done.set()


class Agent:
    """The host end of the channel."""

    def __init__(self, folder, name):
        self.socket = connect(folder, name)
        self.input = self.socket.makefile("rb")
        self.ids = itertools.count(random.randrange(1 << 30))  # not what an earlier end asked for
        self.lock = threading.Lock()
        self.jobs = {}
        self.is_open = True
        self.ready = threading.Event()
        self.kernel = ""
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def start(self, command, timeout_s):
        """Sends a command; returns its Job."""
        job = Job(self, command, scaled(timeout_s))
        text = base64.b64encode(command.encode()).decode()
        with self.lock:
            if not self.is_open:
                raise GuestGone(f"the guest is gone: '{command}' cannot run")
            number = next(self.ids)
            self.jobs[number] = job
            try:
                self.socket.sendall(f"{number} {max(1, round(job.timeout_s))} {text}\n".encode())
            except OSError as error:
                raise GuestGone(f"the guest is gone: '{command}' cannot run") from error
        return job

    def close(self):
        try:
            self.socket.shutdown(2)
        except OSError:
            pass
        self.reader.join()
        self.input.close()
        self.socket.close()

    def _read(self):
        try:
            while line := self.input.readline():
                self._handle(line.split())
        except (OSError, ValueError, IndexError):
            pass
        with self.lock:
            self.is_open = False
            for job in self.jobs.values():
                job.finish(None)
            self.ready.set()

    def _handle(self, words):
        if words[0] == b"H":
            self.kernel = words[1].decode()
            self.ready.set()
            return
        _, number, code, length = words
        data = self.input.read(int(length))
        with self.lock:
            job = self.jobs.pop(int(number), None)
        if job:
            job.finish(Result(int(code), data.decode(errors="replace"),
                              time.monotonic() - job.start_s))
