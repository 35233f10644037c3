"""Unix sockets below a folder of any path length, and QEMU's control protocol."""
import json
import os
import socket
import time

from rack.config import scaled
from rack.errors import RackError


def connect(folder, name, timeout_s=10):
    """Connects to <folder>/<name>, waiting for it to appear. The way through /proc keeps the
    address within its 108 bytes."""
    deadline = time.monotonic() + scaled(timeout_s)
    folder_fd = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        while True:
            client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                client.connect(f"/proc/self/fd/{folder_fd}/{name}")
                return client
            except OSError as error:
                client.close()
                if time.monotonic() > deadline:
                    raise RackError(f"{folder}/{name}: {error.strerror}") from error
                time.sleep(0.01)
    finally:
        os.close(folder_fd)


def ask_service(folder, name, who, command, timeout_s=5):
    """One command to a program of the rack; returns the lines of its answer before the "ok"."""
    client = connect(folder, name)
    client.settimeout(scaled(timeout_s))
    lines = []
    with client, client.makefile("r", encoding="utf-8") as answer:
        client.sendall(command.encode() + b"\n")
        for line in answer:
            if line == "ok\n":
                return lines
            if line.startswith("error:"):
                raise RackError(f"{who}: {command}: {line.strip()}")
            lines.append(line.strip())
    raise RackError(f"{who} ended during {command}")


class Qmp:
    """Commands to a running QEMU; events are dropped."""

    def __init__(self, folder, name):
        self.socket = connect(folder, name)
        self.socket.settimeout(scaled(20))
        self.file = self.socket.makefile("rwb")
        json.loads(self.file.readline())  # greeting
        self.run("qmp_capabilities")

    def run(self, command, **arguments):
        """Result of a command; RackError with QEMU's own words if it fails."""
        request = {"execute": command, "arguments": arguments}
        self.file.write(json.dumps(request).encode() + b"\n")
        self.file.flush()
        while line := self.file.readline():
            reply = json.loads(line)
            if "error" in reply:
                raise RackError(f"QEMU refuses {command}: {reply['error']['desc']}")
            if "return" in reply:
                return reply["return"]
        raise RackError(f"QEMU ended during {command}")

    def close(self):
        self.file.close()
        self.socket.close()
