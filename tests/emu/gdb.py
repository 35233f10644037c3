"""A client of QEMU's gdb server, for tests that must stop a board at an instruction of its firmware
(GDB manual, appendix E: the remote serial protocol). No signals, no threads: one core."""
import socket
import struct
import subprocess
import time

TIMEOUT_S = 60


def address_of(elf, symbol):
    """Of a function, whose instructions lie where they were linked."""
    found = subprocess.run(['aarch64-linux-gnu-nm', elf], check=True, text=True,
                           stdout=subprocess.PIPE).stdout
    for line in found.splitlines():
        fields = line.split()
        if fields[-1] == symbol:
            return int(fields[0], 16)
    raise ValueError(f'{elf} has no {symbol}')


def options(path):
    """Of QEMU, whose gdb server listens on a socket there."""
    return ['-chardev', f'socket,id=gdb,path={path},server=on,wait=off', '-gdb', 'chardev:gdb']


class Gdb:
    """Connecting stops the board; start() lets it run."""

    def __init__(self, path):
        deadline_s = time.monotonic() + TIMEOUT_S
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(TIMEOUT_S)
        while True:
            try:
                self._socket.connect(path)
                break
            except (FileNotFoundError, ConnectionRefusedError):
                if time.monotonic() > deadline_s:
                    raise
                time.sleep(0.05)
        self._data = b''
        self._ask('?')

    def close(self):
        self._socket.close()

    def break_at(self, address):
        self._ask(f'Z0,{address:x},4')

    def start(self):
        """Lets it run; returns at once."""
        self._send('c')

    def stopped(self, timeout_s):
        """Waits until a breakpoint is met: registers x0 to x30, sp, pc. None: it runs on."""
        self._socket.settimeout(timeout_s)
        try:
            self._receive()
        except socket.timeout:
            return None
        finally:
            self._socket.settimeout(TIMEOUT_S)
        return struct.unpack('<33Q', bytes.fromhex(self._ask('g')[:33 * 16]))

    def pass_on(self):
        """From the breakpoint that was met, on to the next."""
        self._ask('s')
        self.start()

    def _send(self, text):
        total = sum(text.encode()) & 0xff
        self._socket.sendall(f'${text}#{total:02x}'.encode())

    def _receive(self):
        """The next packet, acknowledged."""
        while True:
            start = self._data.find(b'$')
            end = self._data.find(b'#', start)
            if start >= 0 and end >= 0 and len(self._data) >= end + 3:
                packet = self._data[start + 1:end].decode()
                self._data = self._data[end + 3:]
                self._socket.sendall(b'+')
                return packet
            block = self._socket.recv(65536)
            if not block:
                raise ConnectionError('the board has ended')
            self._data += block

    def _ask(self, text):
        self._send(text)
        answer = self._receive()
        if answer.startswith('E'):
            raise ValueError(f'{text}: {answer}')
        return answer
