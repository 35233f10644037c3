"""One QEMU `virt` machine with the firmware, its console as text."""
import functools
import os
import subprocess
import sys
import threading
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
ELF = os.path.join(ROOT, 'build/qemu-virt/selftest.elf')
FIRMWARE = os.path.join(ROOT, 'build/qemu-virt/snic.elf')
IMAGE = os.path.join(ROOT, 'build/qemu-virt/selftest.bin')
ELF_CLANG = os.path.join(ROOT, 'build/qemu-virt-clang/selftest.elf')
TIMEOUT_S = 20


@functools.lru_cache(maxsize=None)
def qemu():
    """The emulator out of the cache (older ones do not fault unaligned device accesses), or the one
    that QEMU_AARCH64 names."""
    if 'QEMU_AARCH64' in os.environ:
        return os.environ['QEMU_AARCH64']
    found = subprocess.run([sys.executable, os.path.join(ROOT, 'boards/deps/deps.py'), 'get', 'qemu'],
                           text=True, stdout=subprocess.PIPE, check=True).stdout.strip()
    return os.path.join(found, 'bin/qemu-system-aarch64')


class Machine:
    """Starts at once; leaving the `with` block ends it."""

    last = None  # the newest one, for reports

    def __init__(self, bootargs, cores=1, memory='512M', image=ELF, semihosting=True, options=()):
        command = [qemu(), '-nodefaults', '-M', 'virt', '-cpu', 'cortex-a72', '-smp', str(cores),
                   '-m', memory, '-display', 'none', '-serial', 'stdio']
        if semihosting:
            command += ['-semihosting-config', 'enable=on,target=native']
        if image:
            command += ['-kernel', image, '-append', bootargs]
        self.output = ''
        self.note = ''
        self.process = subprocess.Popen([*command, *options], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        Machine.last = self

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self._reader.join(5)
        self.process.stdin.close()
        self.process.stdout.close()

    def _read(self):
        while chunk := self.process.stdout.read1(65536):
            self.output += chunk.decode(errors='replace').replace('\r', '')

    def wait(self):
        """Exit code of QEMU, which is the firmware's."""
        try:
            code = self.process.wait(TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.output += f'\n(no end after {TIMEOUT_S} s)\n'
            return -1
        self._reader.join(5)
        return code

    def wait_for(self, text, count=1):
        """Until the console has said it so often."""
        deadline_s = time.monotonic() + TIMEOUT_S
        while self.output.count(text) < count:
            if time.monotonic() > deadline_s or self.process.poll() is not None:
                self._reader.join(1)
                if self.output.count(text) >= count:
                    return
                raise RuntimeError(f'the console never said "{text}"')
            time.sleep(0.01)

    def send(self, text):
        """Types, no faster than a FIFO of 16 bytes can take without flow control."""
        for i in range(0, len(text), 8):
            self.process.stdin.write(text[i:i + 8].encode())
            self.process.stdin.flush()
            time.sleep(0.01)

    def send_bytes(self, data):
        """All at once: the receiver has to take them as they come."""
        self.process.stdin.write(data)
        self.process.stdin.flush()

    def cpu_seconds(self):
        """User and system time of all threads so far."""
        with open(f'/proc/{self.process.pid}/stat', encoding='ascii') as file:
            fields = file.read().rsplit(')', 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf('SC_CLK_TCK')
