"""What the demonstrations share: how steps are shown, and steps that both have."""
import hashlib
import json
import re
import sys
import time

from rack.config import MIB
from rack.errors import RackError

FILES_DIR = "/mnt/files"
FIO = ("fio --name=verify --filename={device} --rw=randrw --bsrange=4k-128k --direct=1 "
       "--ioengine=libaio --iodepth=32 --offset={offset} --size={size} --verify=crc32c "
       "--verify_fatal=1 --randseed=1 --output-format=json")
TIMEOUT_S = 600  # without KVM, on a busy machine


class Steps:
    """Steps on self.device, a drive of the host."""

    def __init__(self, rack, out):
        self.rack, self.host, self.out = rack, rack.host, out
        self.device = None

    def use_filesystem(self, random_mib=32):
        self.out.title("A filesystem on it")
        host, device = self.host, self.device
        with self.out.step(f"mkfs.ext4 {device}"):
            host.run(f"mkfs.ext4 -q -F {device}", TIMEOUT_S)
        with self.out.step(f"mount, copy files, write {random_mib} MiB of random data"):
            host.run(f"mount {device} /mnt && mkdir {FILES_DIR} && cp /usr/bin/fio /usr/bin/nvme "
                     f"{FILES_DIR} && dd if=/dev/urandom of={FILES_DIR}/random bs=1M "
                     f"count={random_mib} 2>/dev/null && sync", TIMEOUT_S)
        with self.out.step("checksums, unmount"):
            sums = host.run(f"cd {FILES_DIR} && sha256sum *", TIMEOUT_S).out
            host.run("umount /mnt")
        with self.out.step("forget all caches, check the filesystem, mount again"):
            host.run("echo 3 > /proc/sys/vm/drop_caches", TIMEOUT_S)
            host.run(f"e2fsck -fn {device} && mount {device} /mnt", TIMEOUT_S)
        with self.out.step("checksums again: the same") as step:
            again = host.run(f"cd {FILES_DIR} && sha256sum *", TIMEOUT_S).out
            host.run("umount /mnt")
            step.require(sums == again, f"before:\n{sums}after:\n{again}")
        self.out.show_command("host# sha256sum *", again)

    def compare_with_file(self, path, size_mib, who):
        """What the host reads is what lies in a file of this machine."""
        with self.out.step(f"{who} holds the same bytes (first {size_mib} MiB)") as step:
            command = (f"dd if={self.device} bs=1M count={size_mib} iflag=direct 2>/dev/null "
                       "| sha256sum")
            seen = self.host.run(command, TIMEOUT_S).out.split()[0]
            with open(path, "rb") as file:
                real = hashlib.sha256(file.read(size_mib * MIB)).hexdigest()
            step.require(seen == real, f"its content is another one: {real}, not {seen}")

    def verify_by_fio(self, size="48m"):
        self.out.title("A load that checks what it reads")
        with self.out.step(f"fio: {size} random reads and writes of 4-128 KiB, depth 32, verified"):
            command = FIO.format(device=self.device, offset="0", size=size)
            text = self.host.run(command, TIMEOUT_S).out
        job = json.loads(text[text.index("{"):])["jobs"][0]
        for kind in ("write", "read"):
            done = job[kind]
            print(f"      {kind:<6} {done['total_ios']:>7} I/Os  {done['io_bytes'] / MIB:>7.1f} MiB"
                  f"  {done['iops']:>8.0f} per second")
        print(f"      errors {job['error']:>7}")

    def check_kernel_log(self):
        with self.out.step("the host's kernel has nothing to complain about") as step:
            log = self.host.run("dmesg | grep -E 'nvme nvme.*(timeout|[Aa]bort|reset|error|fail)|"
                                "I/O error|kernel BUG|WARNING:' | head -5", check=False).out
            step.require(not log, log)


def squeeze(table):
    """The same table with columns as wide as what is in them; its ruler shows where they are."""
    lines = table.splitlines()
    ruler = next((line for line in lines if line.startswith("--")), "")
    spans = [match.span() for match in re.finditer("-+", ruler)]
    if not spans:
        return table
    rows = [[line[start:end].strip() for start, end in spans] for line in lines]
    widths = [max(len(row[i]) for row in rows if set(row[i]) != {"-"}) for i in range(len(spans))]
    rows = [["-" * width if set(cell) == {"-"} else cell.ljust(width)
             for cell, width in zip(row, widths)] for row in rows]
    return "".join("  ".join(row).rstrip() + "\n" for row in rows)


class Output:
    """What a person reads; colours only on a terminal."""

    def __init__(self):
        self.is_terminal = sys.stdout.isatty()
        self.step_count = 0

    def title(self, text):
        print(f"\n{self._paint('1', text)}")

    def show_command(self, command, text):
        print(f"      {self._paint('2', command)}")
        print("".join(f"      {line}\n" for line in text.rstrip().splitlines()))

    def note(self, text):
        print(f"  - {text}", flush=True)

    def step(self, text):
        self.step_count += 1
        return Step(self, text)

    def good(self, text):
        return self._paint("32", text)

    def bad(self, text):
        return self._paint("31", text)

    def _paint(self, code, text):
        return f"\033[{code}m{text}\033[0m" if self.is_terminal else text


class Step:
    """One line: what is done, then how it ended."""

    def __init__(self, out, text):
        self.out, self.text = out, text

    def __enter__(self):
        self.start_s = time.monotonic()
        if self.out.is_terminal:
            print(f"  ... {self.text}", end="", flush=True)
        return self

    def __exit__(self, kind, value, trace):
        took = f"({time.monotonic() - self.start_s:.1f} s)"
        mark = self.out.good("ok  ") if kind is None else self.out.bad("FAIL")
        start = "\r" if self.out.is_terminal else ""
        print(f"{start}  {mark} {self.text} {took}", flush=True)

    @staticmethod
    def require(condition, otherwise):
        if not condition:
            raise RackError(otherwise)
