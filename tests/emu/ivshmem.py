"""A minimal ivshmem server (QEMU docs/specs/ivshmem-spec): one client, shared memory, vectors."""
import contextlib
import os
import socket
import struct
import threading

VERSION = 0
PEER = 7


class Server:
    """Listens at `path`; gives the first client `size_bytes` of sparse memory and its vectors."""

    def __init__(self, path, size_bytes, vectors):
        self.memory = os.memfd_create('ivshmem')
        os.ftruncate(self.memory, size_bytes)
        self.events = [os.eventfd(0, os.EFD_NONBLOCK) for _ in range(vectors)]
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.bind(path)
        self.socket.listen(1)
        self.client = None
        threading.Thread(target=self._serve, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for thing in (self.client, self.socket):
            if thing:
                with contextlib.suppress(OSError):
                    thing.shutdown(socket.SHUT_RDWR)
                thing.close()
        for fd in (self.memory, *self.events):
            os.close(fd)

    def _serve(self):
        try:
            self.client, _ = self.socket.accept()
        except OSError:
            return
        self._send(VERSION)
        self._send(PEER)
        self._send(-1, self.memory)
        for event in self.events:
            self._send(PEER, event)

    def _send(self, number, fd=None):
        socket.send_fds(self.client, [struct.pack('<q', number)], [] if fd is None else [fd])

    def write(self, offset, data):
        os.pwrite(self.memory, data, offset)

    def read(self, offset, len_bytes):
        return os.pread(self.memory, len_bytes, offset)
