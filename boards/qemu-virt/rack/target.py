"""An NVMe-oF target: a Linux VM on the switch whose kernel (nvmet, nvmet-rdma over rxe) serves drives.

    sub = rack.target.subsystem("nqn.2026-01.rack:a", [0, 1])        NSIDs 1, 2: drives 0 and 1
    sub = rack.target.subsystem("nqn.2026-01.rack:b", {7: 2}, allow=["nqn.2026-01.rack:host"])
    sub.namespace_add(8, 3); sub.namespace_enable(8, False); sub.namespace_remove(8); sub.remove()
    rack.target.port(2, trsvcid=4421); rack.target.referral("other", ip, 4420)
    rack.target.restart()             power cut and boot: all of this is served again, same data

Its drives are files of this machine (config.target_drives), so what lies on them can be read here:
content(), checksum(). A namespace's NGUID and UUID follow from its subsystem's NQN and its NSID.
"""
import hashlib
import os
import uuid
from dataclasses import dataclass, field

from rack.errors import RackError
from rack.images import make_drive
from rack.station import Station
from rack.tree import namespace_uuid

FIRST_NUMBER = 101
ROOT = "/sys/kernel/config/nvmet"
SERVICE = 4420
SHELL_FUNCTIONS = f"""
set -e
modprobe -a nvmet nvmet_rdma
cd {ROOT}
put() {{ echo -n "$2" > "$1" || {{ echo "$1: '$2' is refused"; exit 1; }}; }}
drive() {{ f=$(grep -lx "$1" /sys/block/vd*/serial); f=${{f%/serial}}; echo /dev/${{f##*/}}; }}
"""


class Target(Station):
    """rack.target is the first one, named "target"; the others are target2, ..."""

    def __init__(self, config, folder, number):
        name = "target" if number == 1 else f"target{number}"
        super().__init__(name, config, folder, FIRST_NUMBER - 1 + number)
        self.cores, self.ram_bytes = config.target_cores, config.target_ram_bytes
        self.drives = [os.path.join(folder, f"{name}-drive-{i}.img")
                       for i in range(len(config.target_drives))]
        self.ports, self.subsystems = {}, {}
        for nqn, drives in (config.target_serves if number == 1 else {}).items():
            self.subsystems[nqn] = Subsystem(self, nqn, dict(enumerate(drives, 1)))
        self.before_serving = []  # shell commands: devices that are not drives

    def devices(self):
        argv = super().devices()
        for i, path in enumerate(self.drives):
            block = self.config.target_lba_bytes
            argv += ["-drive", f"if=none,id=drive{i},file={path},format=raw,cache=unsafe,"
                               "discard=unmap",
                     "-device", f"virtio-blk-pci,drive=drive{i},serial=drive{i},"
                                f"logical_block_size={block},physical_block_size={block}"]
        return argv

    def make_drives(self):
        """Drives of the sizes that are asked for, or copies of images."""
        for path, what in zip(self.drives, self.config.target_drives):
            if isinstance(what, str):
                make_drive(path, 0, what)
            else:
                make_drive(path, what)

    def set_up(self):
        """As a station; then serves what it served before, or just an empty port."""
        super().set_up()
        self.ports.setdefault(1, Port(1, self.ip))
        lines = list(self.before_serving)
        lines += [line for sub in self.subsystems.values() for line in sub.commands()]
        lines += [line for port in self.ports.values() for line in port.commands()]
        lines += [line for sub in self.subsystems.values() for line in sub.link_commands()]
        self.run_in_configfs(lines)

    def run_in_configfs(self, lines):
        """Shell commands with put() and drive(), in nvmet's folder of configfs."""
        result = self.run(SHELL_FUNCTIONS + "\n".join(lines), 60, check=False)
        if result.code != 0:
            raise RackError(f"{self.name}: nvmet does not take it:\n{result.out}")

    # pylint: disable-next=too-many-arguments
    def subsystem(self, nqn, namespaces=(), allow=None, *, cntlids=None, max_qid=None, ports=(1,)):
        """Serves one. `namespaces`: numbers of drives (NSIDs from 1), or {NSID: drive}; a drive may
        also be the path of a device in the guest. `allow`: NQNs of hosts; None: any host.
        `cntlids`: (least, most), so a bound for the number of controllers; the kernel gives an ID
        once, not once per subsystem. `max_qid`: I/O queues."""
        if not isinstance(namespaces, dict):
            namespaces = dict(enumerate(namespaces, 1))
        sub = Subsystem(self, nqn, dict(namespaces), allow, cntlids, max_qid, tuple(ports))
        self.run_in_configfs(sub.commands() + sub.link_commands())
        self.subsystems[nqn] = sub
        return sub

    def port(self, number, ip=None, trsvcid=SERVICE, inline_bytes=None):
        """One more address to listen at; subsystem(ports=...) names it by its number. Port 1 is
        there from the start."""
        port = Port(number, ip or self.ip, trsvcid, inline_bytes)
        self.run_in_configfs(port.commands())
        self.ports[number] = port
        return port

    def referral(self, name, ip, trsvcid=SERVICE, port=1):
        """The discovery log of `port` points to another discovery service."""
        referral = (name, ip, trsvcid)
        self.run_in_configfs(self.ports[port].referral_commands(referral))
        self.ports[port].referrals.append(referral)

    def null_device(self, size_bytes, options="queue_mode=2 irqmode=0"):
        """A device that completes at once and keeps nothing; its path."""
        command = (f"modprobe null_blk nr_devices=1 gb={max(size_bytes >> 30, 1)} bs=512 "
                   f"memory_backed=0 {options}")
        self.run(command)
        self.before_serving.append(command)
        return "/dev/nullb0"

    def content(self, drive, offset=0, size=None):
        """Bytes of a drive, as its file here has them."""
        with open(self.drives[drive], "rb") as file:
            file.seek(offset)
            return file.read() if size is None else file.read(size)

    def checksum(self, drive, offset=0, size=None):
        """SHA-256 of content(), as hexadecimal digits."""
        digest = hashlib.sha256()
        with open(self.drives[drive], "rb") as file:
            file.seek(offset)
            left = os.path.getsize(self.drives[drive]) - offset if size is None else size
            while left > 0 and (block := file.read(min(left, 1 << 20))):
                digest.update(block)
                left -= len(block)
        return digest.hexdigest()

    def queue_pairs(self):
        """How many there are, without those of connection management."""
        out = self.run("rdma resource show qp link rxe0/1 type RC", check=False).out
        return sum("lqpn" in line for line in out.splitlines())

    def kernel_log(self, pattern="nvmet"):
        return self.run(f"dmesg | grep -E '{pattern}'", check=False).out


@dataclass
class Port:
    """Where the target listens."""
    number: int
    ip: str
    trsvcid: int = SERVICE
    inline_bytes: int | None = None  # in-capsule data; None: the kernel's choice (4 KiB)
    referrals: list = field(default_factory=list)

    def commands(self):
        path = f"ports/{self.number}"
        family = "ipv6" if ":" in self.ip else "ipv4"
        lines = [f"mkdir {path}", f"put {path}/addr_trtype rdma", f"put {path}/addr_adrfam {family}",
                 f"put {path}/addr_traddr {self.ip}", f"put {path}/addr_trsvcid {self.trsvcid}"]
        if self.inline_bytes is not None:
            lines.append(f"put {path}/param_inline_data_size {self.inline_bytes}")
        return lines + [line for one in self.referrals for line in self.referral_commands(one)]

    def referral_commands(self, referral):
        name, ip, trsvcid = referral
        path = f"ports/{self.number}/referrals/{name}"
        family = "ipv6" if ":" in ip else "ipv4"
        return [f"mkdir {path}", f"put {path}/addr_trtype rdma", f"put {path}/addr_adrfam {family}",
                f"put {path}/addr_traddr {ip}", f"put {path}/addr_trsvcid {trsvcid}",
                f"put {path}/enable 1"]


@dataclass
class Subsystem:  # pylint: disable=too-many-instance-attributes
    """One that the target serves; changes are made in the running kernel, and kept for its next
    boot."""
    target: Target
    nqn: str
    namespaces: dict
    allow: list | None = None
    cntlids: tuple | None = None
    max_qid: int | None = None
    ports: tuple = (1,)
    disabled: set = field(default_factory=set)

    def uuid(self, nsid):
        return namespace_uuid(self.nqn, nsid)

    def nguid(self, nsid):
        """As configfs takes it: like a UUID."""
        return str(uuid.uuid5(uuid.NAMESPACE_URL, f"{self.nqn}/{nsid}/nguid"))

    @property
    def serial(self):
        return hashlib.sha256(self.nqn.encode()).hexdigest()[:16].upper()

    def remove(self):
        """Its connections end, and it is gone."""
        lines = [f"rm ports/{port}/subsystems/{self.nqn}" for port in self.ports]
        for nsid in self.namespaces:
            lines += self._remove_commands(nsid)
        lines += [f"rm {self._path}/allowed_hosts/{host}" for host in self.allow or []]
        self.target.run_in_configfs(lines + [f"rmdir {self._path}"])
        del self.target.subsystems[self.nqn]

    def namespace_add(self, nsid, drive):
        self.target.run_in_configfs(self._add_commands(nsid, drive))
        self.namespaces[nsid] = drive

    def namespace_remove(self, nsid):
        self.target.run_in_configfs(self._remove_commands(nsid))
        del self.namespaces[nsid]
        self.disabled.discard(nsid)

    def namespace_enable(self, nsid, is_enabled=True):
        """A disabled namespace is not there, as hosts see it."""
        self.target.run_in_configfs([self._enable_command(nsid, is_enabled)])
        (self.disabled.discard if is_enabled else self.disabled.add)(nsid)

    def namespace_resize(self, nsid, size_bytes):
        """Only the namespace of a drive; the target tells its hosts."""
        drive = self.namespaces[nsid]
        self.target.monitor("block_resize", device=f"drive{drive}", size=size_bytes)
        self.target.run_in_configfs([f"put {self._path}/namespaces/{nsid}/revalidate_size 1"])

    def allow_hosts(self, hosts):
        """Other hosts from now on; None: any. Who is connected stays so."""
        lines = [f"rm {self._path}/allowed_hosts/{host}" for host in self.allow or []]
        self.allow = hosts
        self.target.run_in_configfs(lines + self._allow_commands())

    def unlink(self):
        """Off all ports: connections end, new ones are refused; link() undoes it."""
        self.target.run_in_configfs(
            [f"rm ports/{port}/subsystems/{self.nqn}" for port in self.ports])

    def link(self):
        self.target.run_in_configfs(self.link_commands())

    def commands(self):
        path = self._path
        lines = [f"mkdir {path}", f"put {path}/attr_serial {self.serial}",
                 f"put {path}/attr_model 'rack target'"]
        if self.cntlids:
            # the kernel refuses a least above its most, whose default is 65519
            lines += [f"put {path}/attr_cntlid_min {self.cntlids[0]}",
                      f"put {path}/attr_cntlid_max {self.cntlids[1]}"]
        if self.max_qid is not None:
            lines.append(f"put {path}/attr_qid_max {self.max_qid}")
        lines += self._allow_commands()
        for nsid, drive in self.namespaces.items():
            lines += self._add_commands(nsid, drive)
        return lines

    def link_commands(self):
        return [f"ln -s {ROOT}/{self._path} ports/{port}/subsystems/{self.nqn}"
                for port in self.ports]

    @property
    def _path(self):
        return f"subsystems/{self.nqn}"

    def _allow_commands(self):
        lines = [f"put {self._path}/attr_allow_any_host {int(self.allow is None)}"]
        for host in self.allow or []:
            lines += [f"mkdir -p hosts/{host}",
                      f"ln -s {ROOT}/hosts/{host} {self._path}/allowed_hosts/{host}"]
        return lines

    def _add_commands(self, nsid, drive):
        path = f"{self._path}/namespaces/{nsid}"
        device = drive if isinstance(drive, str) else f"$(drive drive{drive})"
        lines = [f"mkdir {path}", f"put {path}/device_path {device}",
                 f"put {path}/device_uuid {self.uuid(nsid)}",
                 f"put {path}/device_nguid {self.nguid(nsid)}"]
        return lines + [self._enable_command(nsid, nsid not in self.disabled)]

    def _enable_command(self, nsid, is_enabled):
        return f"put {self._path}/namespaces/{nsid}/enable {int(is_enabled)}"

    def _remove_commands(self, nsid):
        return [self._enable_command(nsid, False), f"rmdir {self._path}/namespaces/{nsid}"]
