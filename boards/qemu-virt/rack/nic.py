"""The NIC: an aarch64 VM that runs the firmware, with drives of its own behind its root complex."""
import os
import select
import time

from rack.config import artifact, scaled
from rack.errors import RackError
from rack.fabric import netdev
from rack.flash import flash_arguments, make_flash
from rack.images import make_drive
from rack.process import Process
from rack.sockets import Qmp, connect
from rack.tree import LOAD_ADDRESS, compile_tree

CONSOLE = "nic.console"
MONITOR = "nic.monitor"
PROMPT = "snic> "
TREE = "nic.dtb"
LINK_VECTORS = 72  # of the ivshmem device: what pcielink announces


class Nic:
    """One VM; start() and stop() as often as wanted, its drives and flash keep their content."""

    def __init__(self, config, folder, ram_fd):
        self.config, self.folder, self.ram_fd = config, folder, ram_fd
        self.process = None
        self.log_start = 0
        self.drives = [os.path.join(folder, f"nic-drive-{number}.img")
                       for number in range(len(config.drives_bytes()))]

    def make_drives(self):
        """Empty ones, but the first may have an operating system on it."""
        for number, (path, size) in enumerate(zip(self.drives, self.config.drives_bytes())):
            make_drive(path, size, self.config.nic_drive_image if number == 0 else "")
        if self.is_flashed():
            make_flash(self.config, self.folder)

    def is_flashed(self):
        return self.config.nic_boot == "flash"

    def start(self):
        if not self.is_flashed() and not os.path.exists(self.config.firmware):
            raise RackError(f"there is no firmware at {self.config.firmware}: run `make all` first")
        for name in (CONSOLE, MONITOR):
            if os.path.exists(os.path.join(self.folder, name)):
                os.unlink(os.path.join(self.folder, name))
        if self.config.tree and not self.is_flashed():
            compile_tree(self.config.tree, os.path.join(self.folder, TREE))
        self._mark_log()
        self.process = Process("nic-qemu", self._argv(), self.folder, pass_fds=[self.ram_fd],
                               console="nic.log")
        console = os.path.join(self.folder, CONSOLE)
        self.process.wait_for(lambda: os.path.exists(console), "console", 20)

    def stop(self):
        """As if power was cut."""
        if self.process:
            self.process.stop()

    def restart(self):
        self.stop()
        self.start()

    def reset(self):
        """Warm reset: memory keeps its content."""
        self._mark_log()
        self.monitor("system_reset")

    def monitor(self, command, **arguments):
        """One command to QEMU."""
        qmp = Qmp(self.folder, MONITOR)
        try:
            return qmp.run(command, **arguments)
        finally:
            qmp.close()

    def ask(self, command, timeout_s=10):
        """Types a command on the console; returns the lines of the answer."""
        with connect(self.folder, CONSOLE) as console:
            console.sendall(command.encode() + b"\r")
            return _read_answer(console, command + "\n", time.monotonic() + scaled(timeout_s))

    def tell(self, command):
        """Types a command that is not answered, e.g. reset or panic."""
        self._mark_log()
        with connect(self.folder, CONSOLE) as console:
            console.sendall(command.encode() + b"\r")
            time.sleep(scaled(0.2))  # a console that nobody holds would forget what was typed

    def numbers(self, command="stats"):
        """{name: number} out of an answer made of "name number" lines."""
        words = (line.split() for line in self.ask(command))
        return {pair[0]: int(pair[1]) for pair in words if len(pair) == 2 and pair[1].isdigit()}

    def log(self):
        """What the NIC's console said since the last start() or reset()."""
        with open(os.path.join(self.folder, "nic.log"), "rb") as file:
            file.seek(self.log_start)
            return file.read().decode(errors="replace").replace("\r", "")

    def wait_until_up(self, timeout_s=20):
        """Until the firmware says that it serves."""
        self.wait_for_log("app: serving", timeout_s)

    def _mark_log(self):
        path = os.path.join(self.folder, "nic.log")
        self.log_start = os.path.getsize(path) if os.path.exists(path) else 0

    def wait_for_log(self, text, timeout_s):
        self.process.wait_for(lambda: text in self.log(), f"'{text}' on the console", timeout_s)

    def _argv(self):
        config = self.config
        argv = [
            f"{artifact('qemu')}/bin/qemu-system-aarch64", "-name", "nic",
            "-nodefaults", "-no-user-config", "-display", "none",
            "-M", "virt,gic-version=2", "-cpu", "cortex-a72", "-smp", str(config.nic_cores),
            "-accel", "tcg,thread=multi", "-m", f"{config.nic_ram_bytes}B",
            *(flash_arguments() if self.is_flashed() else
              ["-kernel", config.firmware, "-append", config.bootargs()]),
            "-chardev", f"socket,id=con,path={CONSOLE},server=on,wait=off,logfile=nic.log,"
                        "logappend=on",
            "-serial", "chardev:con",
            "-qmp", f"unix:{MONITOR},server=on,wait=off",
            "-chardev", "socket,id=link,path=ivshmem.sock",
            "-device", f"ivshmem-doorbell,chardev=link,vectors={LINK_VECTORS}",
            "-object", f"memory-backend-file,id=host,size={config.host_ram_bytes},share=on,"
                       f"mem-path=/proc/self/fd/{self.ram_fd}",
            "-device", "ivshmem-plain,memdev=host",
        ]
        if config.tree and not self.is_flashed():
            argv += ["-device", f"loader,file={TREE},addr={LOAD_ADDRESS:#x},force-raw=on"]
        size = config.nic_drive_lba_bytes
        for number, path in enumerate(self.drives):
            argv += ["-drive", f"if=none,id=drive{number},file={path},format=raw,cache=unsafe,"
                               "discard=unmap",
                     "-device", f"nvme,drive=drive{number},serial=drive{number},"
                                f"logical_block_size={size},physical_block_size={size}"]
        return argv + (netdev("nic", config.nic_mac, config.mtu) if config.fabric else [])


def _read_answer(console, echo, deadline_s):
    """The lines between the command's echo and the next prompt.

    Nobody may hold the console without reading it: QEMU, and with it the NIC, waits for the reader.
    """
    data = b""
    while True:
        text = data.decode(errors="replace").replace("\r", "")
        answer, prompt, _ = text.partition(echo)[2].partition(PROMPT)
        if prompt:
            return answer.splitlines()
        left_s = deadline_s - time.monotonic()
        if left_s <= 0 or not select.select([console], [], [], left_s)[0]:
            raise RackError(f"no answer on the NIC's console, only {text!r}")
        block = console.recv(65536)
        if not block:
            raise RackError("the NIC's console was closed")
        data += block
