"""What a rack consists of. Everything that the firmware is told stands in RackConfig.bootargs()."""
import fcntl
import functools
import os
import re
import subprocess
import sys
from dataclasses import dataclass, field

from rack.errors import RackError

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.dirname(os.path.dirname(os.path.dirname(HERE)))
BUILD = os.path.join(TOP, "build")
MIB = 1 << 20


@dataclass
class RackConfig:  # pylint: disable=too-many-instance-attributes
    """A rack of the default kind serves every test that does not say otherwise."""
    # "native": firmware as a process; "reference": QEMU's own NVMe; "none": no NIC, only peers
    board: str = "qemu-virt"
    host: bool = True              # a host VM
    guest: str = "guest-6.12"      # artifact with the host's kernel and userland
    host_cores: int = 2
    host_ram_bytes: int = 512 * MIB
    host_args: str = ""            # more kernel arguments, e.g. "snic.coldplug=no"
    host_boot: str = "kernel"      # given by QEMU; "bios", "uefi": from a drive, with no other disk
    host_devices: list = field(default_factory=list)  # more -device arguments of the host VM
    nic_cores: int = 1
    nic_ram_bytes: int = 512 * MIB
    nic_drives: int = 1
    nic_drive_bytes: int = 256 * MIB
    nic_drive_lba_bytes: int = 512
    nic_drive_image: str = ""      # what is on the first drive; see images.BOOT_DISK
    namespaces: str = ""           # the default: a drive (native: RAM) of 256 MiB, and 64 MiB of RAM
    doorbells: str = "mapped"      # or "trapped"
    host_poll: str = "cheap"       # host RAM is shared memory here; "dear": as over a real bus
    link_args: list = field(default_factory=list)  # more arguments of pcielink
    idle: str = "adaptive"
    # "elf": given by QEMU; "flash": by the bootloader, out of flash that restarts keep (make image),
    # which holds the configuration, too: then nic_args does nothing, see flash.py
    nic_boot: str = "elf"
    firmware: str = os.path.join(BUILD, "qemu-virt", "snic.elf")
    bootloader: str = os.path.join(BUILD, "qemu-virt", "bootloader.bin")
    image: str = os.path.join(BUILD, "qemu-virt", "snic.fit")  # what slot A holds at first
    tree: dict | None = None       # the NIC's device tree (tree.py): volumes in place of namespaces
    nic_args: str = ""             # more key=value words for the firmware
    # Ethernet: 192.0.2.0/24 and fd00::/64; the NIC is 1 in both, the peers are 2, 3, ..., the
    # targets 101, 102, ..., the host 201
    fabric: bool = False           # the switch; the NIC and the peers have a port each
    peers: int = 1                 # Linux VMs on the switch
    peer_cores: int = 1
    peer_ram_bytes: int = 512 * MIB
    targets: int = 0               # Linux VMs on the switch that serve NVMe-oF (target.py)
    target_cores: int = 1
    target_ram_bytes: int = 512 * MIB
    target_drives: list = field(default_factory=lambda: [256 * MIB])  # sizes, or images to copy
    target_lba_bytes: int = 512
    target_serves: dict = field(default_factory=dict)  # by the first: {NQN: drives}, from the start
    host_on_fabric: bool = False   # the host VM has an Ethernet port, too
    mtu: int = 1500                # of IP; RoCE's path MTU is 1024 then, 4096 with 4200
    vlan: int = 0                  # tag of all that carries IP; 0: none
    fabric_seed: int = 1           # of the switch's faults
    prefix: int = 24
    prefix6: int = 64
    nic_ip: str = "192.0.2.1"
    nic_ip6: str = "fd00::1"
    nic_mac: str = "52:54:00:00:00:01"

    def bootargs(self):
        """The firmware's configuration; keys are documented in firmware/app/config.h."""
        first = "ram:256M" if self.board == "native" else "drive:0"
        words = [f"cores={self.nic_cores}", f"idle={self.idle}"]
        if not self.tree:
            words.append(f"ns={self.namespaces or first + ',ram:64M'}")
        if self.fabric:
            words += [f"ip={self.nic_ip}/{self.prefix}", f"ip6={self.nic_ip6}/{self.prefix6}",
                      f"mtu={self.mtu}", f"vlan={self.vlan}" if self.vlan else ""]
        words.append(self.nic_args)
        return " ".join(word for word in words if word)

    def station_ip(self, number):
        """Of the station with that last byte."""
        return f"192.0.2.{number}"

    def station_ip6(self, number):
        return f"fd00::{number:x}"

    def station_mac(self, number):
        return f"52:54:00:00:00:{number:02x}"

    def drives_bytes(self):
        return [self.nic_drive_bytes] * self.nic_drives


@functools.lru_cache
def artifact(name):
    """Path of something in the cache, fetched or built on first use (boards/deps)."""
    program = os.path.join(TOP, "boards", "deps", "deps.py")
    result = subprocess.run([sys.executable, program, "get", name], stdout=subprocess.PIPE,
                            text=True, check=False)
    if result.returncode != 0:
        raise RackError(f"could not get {name}")
    return result.stdout.strip()


def fetch(config):
    """What takes long on first use, and says so on stderr."""
    boot = ["boot-6.12"] if config.host_boot != "kernel" else []
    for name in ("qemu", config.guest, *boot):
        artifact(name)


def accelerator():
    """"kvm" where it works, else "tcg". SNIC_ACCEL overrides.

    A /dev/kvm that opens proves nothing: on some cloud machines it serves only special kernels, so
    the processor must show the feature to this kernel, too.
    """
    wanted = os.environ.get("SNIC_ACCEL")
    if wanted:
        return wanted
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        if not re.search(r"^flags\s*:.*\b(vmx|svm)\b", file.read(), re.MULTILINE):
            return "tcg"
    get_version, create_vm = 0xae00, 0xae01
    try:
        with open("/dev/kvm", "rb+", buffering=0) as kvm:
            if fcntl.ioctl(kvm, get_version) != 12:
                return "tcg"
            os.close(fcntl.ioctl(kvm, create_vm, 0))
    except OSError:
        return "tcg"
    return "kvm"


def scaled(seconds):
    """Deadlines for slow or busy machines: SNIC_TIME_SCALE=3 triples them all."""
    return seconds * float(os.environ.get("SNIC_TIME_SCALE", "1"))
