"""Starts, holds and ends the processes of one rack."""
import fcntl
import os
import shutil
import signal
import sys
import time

from rack.config import BUILD, RackConfig, fetch
from rack.errors import RackError
from rack.fabric import Fabric
from rack.host import Host
from rack.link import Link
from rack.native import Native
from rack.nic import Nic
from rack.peer import Peer
from rack.target import Target


class Rack:
    """`with Rack("name") as rack:` — everything ends with the block, and with this program.

    rack.host      the host VM: run(), spawn(), restart(), ...; None without one
    rack.nic       the NIC's VM (board "qemu-virt"): ask(), restart(), log(), ...
    rack.link      pcielink (board "qemu-virt"): control()
    rack.native    the firmware as a process (board "native")
    rack.fabric    the Ethernet switch (fabric=True): faults(), capture(), ...
    rack.peer      the first Linux on it: run(), spawn(), put(), ...; rack.peers: all
    rack.target    the first NVMe-oF target on it: subsystem(), content(), ...; rack.targets: all
    rack.folder    logs, sockets and drives: build/rack/<name>/
    """

    def __init__(self, name, config=None, progress=None):
        self.name = name
        self.config = config or RackConfig()
        self.progress = progress or (lambda text: None)
        self.folder = os.path.join(BUILD, "rack", name)
        self.lock = None
        self.host = self.nic = self.link = self.native = self.fabric = None
        self.peers, self.targets = [], []
        self.ram_fd = -1

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, kind, value, trace):
        self.stop()

    def start(self):
        """Starts all and waits until the guests take commands."""
        end_by_exception_on_sigterm()
        try:
            self._prepare()
            self._start_fabric()
            self._start_guests(self.targets, False)
            self._start_device()
            self._wait_for_guests(self.targets)  # then what the NIC waits for is there
            self._wait_for_device()
            others = [guest for guest in self.guests() if guest not in self.targets]
            self._start_guests(others)
        except BaseException:
            self.stop()
            raise

    def stop(self):
        """Ends all that runs, guests first as they use the others."""
        for part in self._all():
            part.stop()
        if self.ram_fd >= 0:
            os.close(self.ram_fd)
            self.ram_fd = -1
        if self.lock:
            self.lock.close()
            self.lock = None

    def parts(self):
        """The processes, by the names of their logs."""
        return [part.process for part in self._all() if part.process]

    @property
    def peer(self):
        """The first of the peers."""
        return self.peers[0]

    @property
    def target(self):
        """The first of the targets."""
        return self.targets[0]

    def guests(self):
        """The Linux VMs."""
        return [guest for guest in [self.host, *self.peers, *self.targets] if guest]

    def require_running(self):
        """RackError if one of them ended by itself."""
        for process in self.parts():
            process.require_running()

    def answers(self):
        """True if all parts run, the guests take commands, and the host's drive answers an
        identify."""
        try:
            self.require_running()
            for guest in self.guests():
                guest.run("true", 10)
            return (self.host is None or
                    self.host.run("nvme id-ctrl /dev/nvme0", 15, check=False).code == 0)
        except RackError:
            return False

    def last_words(self, lines):
        """[(title, text)]: the end of what the guests' kernels, the NIC and the processes said."""
        words = []
        for guest in self.guests():
            try:
                said = guest.run(f"dmesg | tail -{lines}", 10, False).out
                words.append((f"{guest.name}'s kernel", said))
            except (RackError, AttributeError):
                said = _tail(os.path.join(self.folder, f"{guest.name}.log"), lines)
                words.append((f"{guest.name}'s console", said))
        if self.nic:
            words.append(("NIC's console", _tail(os.path.join(self.folder, "nic.log"), lines)))
        for process in self.parts():
            if not process.is_running():
                words.append((f"{process.name} ended", process.log_tail(lines)))
        return words

    def move_logs(self, name):
        """Moves the folder of a stopped rack aside; returns its new place."""
        target = os.path.join(BUILD, "rack", f"failed-{name}")
        shutil.rmtree(target, ignore_errors=True)
        os.rename(self.folder, target)
        return target

    def _prepare(self):
        os.makedirs(self.folder, exist_ok=True)
        self._take_lock()
        for name in os.listdir(self.folder):
            if name != "lock":
                _remove(os.path.join(self.folder, name))
        fetch(self.config)
        self.ram_fd = os.memfd_create("snic-host-ram")
        os.ftruncate(self.ram_fd, self.config.host_ram_bytes)
        if self.config.host:
            self.host = Host(self.config, self.folder, self.ram_fd)

    def _all(self):
        """The parts in the order in which they end."""
        parts = [*self.guests(), self.nic, self.native, self.link, self.fabric]
        return [part for part in parts if part]

    def _take_lock(self):
        self.lock = open(os.path.join(self.folder, "lock"), "a", encoding="utf-8")
        try:
            fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self.lock.close()
            self.lock = None
            raise RackError(f"the rack '{self.name}' is running already") from error

    def _start_device(self):
        config = self.config
        if config.board == "qemu-virt":
            self.link = Link(config, self.folder, self.ram_fd)
            self.nic = Nic(config, self.folder, self.ram_fd)
            self.nic.make_drives()
            self.progress("starting pcielink")
            self.link.start()
            self.progress(f"starting the NIC ({config.bootargs()})")
            self.nic.start()
        elif config.board == "native":
            self.native = Native(config, self.folder)
            self.progress(f"starting the native board ({config.bootargs()})")
            self.native.start()
        elif config.board not in ("reference", "none"):
            raise RackError(f"no such board: {config.board}")

    def _wait_for_device(self):
        for device in (self.nic, self.native):
            if device:
                device.wait_until_up()

    def _start_fabric(self):
        config = self.config
        if not config.fabric:
            return
        peers = [Peer(config, self.folder, number) for number in range(1, 1 + config.peers)]
        targets = [Target(config, self.folder, number) for number in range(1, 1 + config.targets)]
        stations = [] if config.board in ("none", "reference") else ["nic"]
        stations += [guest.name for guest in peers + targets]
        stations += [self.host.name] if self.host and config.host_on_fabric else []
        self.fabric = Fabric(self.folder, stations, config.fabric_seed)
        self.progress("starting the Ethernet switch")
        self.fabric.start()
        for target in targets:
            target.make_drives()
        self.peers, self.targets = peers, targets

    def _start_guests(self, guests, wait=True):
        """All of them boot at the same time."""
        for guest in guests:
            slow = " (no usable KVM: emulated, slower)" if guest.accel == "tcg" else ""
            self.progress(f"starting the {guest.name} VM{slow}")
            guest.start()
        if wait:
            self._wait_for_guests(guests)

    def _wait_for_guests(self, guests):
        start_s = time.monotonic()
        for guest in guests:
            guest.wait_until_up()
            self.progress(f"{guest.name} is up: Linux {guest.agent.kernel}, "
                          f"after {time.monotonic() - start_s:.1f} s")
        for guest in guests:
            guest.set_up()


def end_by_exception_on_sigterm():
    """SIGTERM ends the program as Ctrl-C does: by an exception, so that `with` blocks clean up."""
    def end(number, _frame):
        sys.exit(128 + number)
    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGHUP, end)


def _tail(path, lines):
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            # management frames tell nobody anything
            said = [line for line in file.readlines() if not line.startswith("\x01")]
            return "".join(said[-lines:])
    except OSError:
        return "(nothing)"


def _remove(path):
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    else:
        os.unlink(path)
