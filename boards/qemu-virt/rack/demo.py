#!/usr/bin/python3
"""The main job, shown: an unmodified Linux finds an NVMe drive that is our firmware, and uses it.

Ends with a verdict; exit status 0 means that every step passed.
"""
import argparse
import hashlib
import json
import os
import re
import sys
import time

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

# pylint: disable=wrong-import-position
from rack import Rack, RackConfig, RackError
from rack.config import MIB, TOP

TOPOLOGY = {
    "qemu-virt": """
   host VM ── x86-64, Linux {kernel}, its own nvme driver
      │
      │  NVMe over PCIe: registers, queues, MSI-X          (vfio-user; host RAM is shared)
      │
   pcielink ── the endpoint controller's model
      │
      │  BAR pages, register events, host RAM as a BAR     (ivshmem)
      │
   SmartNIC ── aarch64, {cores}, snic firmware
      │
      └─ its own NVMe drive, {drive_mib} MiB: namespace 1;  namespace 2 is NIC memory""",
    "native": """
   host VM ── x86-64, Linux {kernel}, its own nvme driver
      │
      │  NVMe over PCIe: registers, queues, MSI-X          (vfio-user; host RAM is shared)
      │
   snic ── the firmware as a process of this machine; namespace 1 is its memory""",
    "reference": """
   host VM ── x86-64, Linux {kernel}, its own nvme driver
      │
   QEMU's own NVMe device, for comparison: no snic here""",
}
FILES_DIR = "/mnt/files"
FIO = ("fio --name=verify --filename={device} --rw=randrw --bsrange=4k-128k --direct=1 "
       "--ioengine=libaio --iodepth=32 --offset={offset} --size={size} --verify=crc32c "
       "--verify_fatal=1 --randseed=1 --output-format=json")


class Demo:
    """The steps, in the order in which they are shown."""

    def __init__(self, rack, out):
        self.rack, self.host, self.out = rack, rack.host, out
        self.device = None

    def run(self):
        self.show_topology()
        self.find_drive()
        self.use_filesystem()
        self.compare_with_drive_behind_nic()
        before = self.counters()
        self.verify_by_fio()
        self.show_counters(before, self.counters())
        self.check_kernel_log()

    def show_topology(self):
        config = self.rack.config
        cores = f"{config.nic_cores} core" + ("s" if config.nic_cores > 1 else "")
        self.out.title("The rack")
        print(TOPOLOGY[config.board].format(
            kernel=self.host.agent.kernel, cores=cores, drive_mib=config.nic_drive_bytes // MIB))

    def find_drive(self):
        self.out.title("What the host sees")
        with self.out.step("the host's nvme driver finds the drive"):
            self.device = self.host.namespace(1)
        self.out.show_command("nvme list", squeeze(self.host.run("nvme list").out))
        self.out.show_command("lsblk", self.host.run("lsblk").out)

    def use_filesystem(self):
        self.out.title("A filesystem on it")
        host, device = self.host, self.device
        with self.out.step(f"mkfs.ext4 {device}"):
            host.run(f"mkfs.ext4 -q -F {device}", 120)
        with self.out.step("mount, copy files, write 32 MiB of random data"):
            host.run(f"mount {device} /mnt && mkdir {FILES_DIR} && cp /usr/bin/fio /usr/bin/nvme "
                     f"{FILES_DIR} && dd if=/dev/urandom of={FILES_DIR}/random bs=1M count=32 "
                     "2>/dev/null && sync", 120)
        with self.out.step("checksums, unmount"):
            sums = host.run(f"cd {FILES_DIR} && sha256sum *", 120).out
            host.run("umount /mnt")
        with self.out.step("forget all caches, check the filesystem, mount again"):
            host.run("echo 3 > /proc/sys/vm/drop_caches", 120)
            host.run(f"e2fsck -fn {device} && mount {device} /mnt", 120)
        with self.out.step("checksums again: the same") as step:
            again = host.run(f"cd {FILES_DIR} && sha256sum *", 120).out
            host.run("umount /mnt")
            step.require(sums == again, f"before:\n{sums}after:\n{again}")
        self.out.show_command(f"sha256sum {FILES_DIR}/*", again)

    def compare_with_drive_behind_nic(self):
        """What the host reads is what lies on the drive, seen from this machine."""
        if not self.rack.nic or not self.rack.nic.drives:
            return
        with self.out.step("the drive behind the NIC holds the same bytes (first 64 MiB)") as step:
            command = f"dd if={self.device} bs=1M count=64 iflag=direct 2>/dev/null | sha256sum"
            seen = self.host.run(command, 120).out.split()[0]
            with open(self.rack.nic.drives[0], "rb") as file:
                real = hashlib.sha256(file.read(64 * MIB)).hexdigest()
            step.require(seen == real, "the drive's content is another one")

    def verify_by_fio(self):
        self.out.title("A load that checks what it reads")
        size = "48m"
        with self.out.step(f"fio: {size} random reads and writes of 4-128 KiB, depth 32, verified"):
            command = FIO.format(device=self.device, offset="0", size=size)
            text = self.host.run(command, 300).out
        job = json.loads(text[text.index("{"):])["jobs"][0]
        for kind in ("write", "read"):
            done = job[kind]
            print(f"      {kind:<6} {done['total_ios']:>7} I/Os  {done['io_bytes'] / MIB:>7.1f} MiB"
                  f"  {done['iops']:>8.0f} per second")
        print(f"      errors {job['error']:>7}")

    def counters(self):
        return self.rack.nic.numbers("stats") if self.rack.nic else {}

    def show_counters(self, before, after):
        """What moved during the fio run, and that nothing went through NIC memory."""
        if not after:
            return
        moved = {name: value - before.get(name, 0) for name, value in after.items()}
        self.out.title("How the data moved (the NIC's own counters, during the fio run)")
        commands = max(moved["fn0.commands"], 1)

        def row(title, name):
            return (title, f"{moved[name]}", f"{moved[name] / commands:.2f} per command")

        to_host, from_host = moved["fn0.data_to_host_bytes"], moved["fn0.data_from_host_bytes"]
        rows = [
            ("commands", f"{commands}", "one per I/O"),
            row("SQE fetches over PCIe", "fn0.sqe_reads"),
            row("CQE writes", "fn0.cqe_writes"),
            row("interrupts", "fn0.interrupts"),
            ("data drive -> host RAM", f"{to_host / MIB:.1f} MiB", ""),
            ("data host RAM -> drive", f"{from_host / MIB:.1f} MiB", ""),
            ("bytes staged in NIC memory", f"{self._staged(moved)}", "zero copy: must be 0"),
        ]
        for name, value, remark in rows:
            print(f"      {name:<28} {value:>12}   {remark}")
        with self.out.step("no byte of data was staged in the NIC") as step:
            step.require(self._staged(moved) == 0, f"{self._staged(moved)} bytes were")

    def check_kernel_log(self):
        with self.out.step("the host's kernel has nothing to complain about") as step:
            log = self.host.run("dmesg | grep -E 'nvme nvme.*(timeout|[Aa]bort|reset|error|fail)|"
                                "I/O error|kernel BUG|WARNING:' | head -5", check=False).out
            step.require(not log, log)

    @staticmethod
    def _staged(moved):
        return sum(value for name, value in moved.items() if name.endswith(".staged_bytes"))


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
        print(f"      {self._paint('2', 'host# ' + command)}")
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


def main():
    config = _parse_arguments()
    out = Output()
    start_s = time.monotonic()
    print("snic: a SmartNIC that is an NVMe drive to its host")
    out.title("Starting")
    rack = Rack("demo", config, progress=out.note)
    try:
        with rack:
            Demo(rack, out).run()
    except RackError as error:
        print("\n" + "\n".join("    " + line for line in str(error).splitlines()))
        print(f"\n{out.bad('FAILED')}; logs: {os.path.relpath(rack.folder, TOP)}/")
        return 1
    except KeyboardInterrupt:
        print("\ninterrupted; everything is stopped")
        return 130
    print(f"\n{out.good('PASSED')}: {out.step_count} steps in {time.monotonic() - start_s:.0f} s. "
          "Try it by hand: make rack")
    return 0


def _parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    default = RackConfig()
    parser.add_argument("--board", default=default.board, choices=list(TOPOLOGY))
    parser.add_argument("--guest", default=default.guest)
    parser.add_argument("--nic-cores", type=int, default=default.nic_cores)
    parser.add_argument("--doorbells", default=default.doorbells, choices=["mapped", "trapped"])
    arguments = parser.parse_args()
    return RackConfig(board=arguments.board, guest=arguments.guest, nic_cores=arguments.nic_cores,
                      doorbells=arguments.doorbells)


if __name__ == "__main__":
    sys.exit(main())
