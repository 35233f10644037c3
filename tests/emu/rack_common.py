"""What the rack's tests share: namespaces, fio, a load in the background, a canary, counters."""
import json
import re
import shlex

from rack.config import MIB
from rack.errors import RackError

# NSIDs: a drive behind the NIC; NIC memory with 512 and 4096-byte blocks
DRIVE, RAM, RAM_4K = 1, 2, 3
NAMESPACES = "drive:0,ram:64M,ram:64M:4096"
NATIVE_NAMESPACES = "ram:256M,ram:64M,ram:64M:4096"
IO_TIMEOUT_S = 6  # the host's; far above what a loaded machine needs, far below a test's patience
HOST_ARGS = f"nvme_core.io_timeout={IO_TIMEOUT_S} nvme_core.admin_timeout={IO_TIMEOUT_S}"

# The drive is divided: what one test writes does not disturb what another left for later.
CANARY_OFFSET, CANARY_BYTES = 192 * MIB, 8 * MIB
LOAD_OFFSET, LOAD_BYTES = 128 * MIB, 8 * MIB


def require(condition, otherwise):
    """An assert with words."""
    if not condition:
        raise RackError(otherwise)


def block_bytes(rack, nsid):
    """The logical block of a namespace."""
    return {DRIVE: rack.config.nic_drive_lba_bytes, RAM: 512, RAM_4K: 4096}[nsid]


# --- the host's nvme driver --------------------------------------------------------------------

def pci_device(rack):
    """Folder of the NVMe function below /sys/bus/pci/devices."""
    command = "grep -l '^0x010802' /sys/bus/pci/devices/*/class | head -1"
    path = rack.host.run(command).out.strip()
    require(path, "the host sees no NVMe function")
    return path.removesuffix("/class")


def controller_state(rack):
    return rack.host.run("cat /sys/class/nvme/nvme*/state", check=False).out.strip()


def wait_until_live(rack, timeout_s=60):
    """Until the host's driver calls the controller live and namespace 1 answers."""
    command = (f"for i in $(seq {timeout_s * 5}); do "
               "[ \"$(cat /sys/class/nvme/nvme*/state 2>/dev/null)\" = live ] && exit 0; "
               "sleep 0.2; done; cat /sys/class/nvme/nvme*/state; exit 1")
    result = rack.host.run(command, timeout_s + 20, check=False)
    require(result.code == 0, f"no live controller after {timeout_s} s, but: {result.out.strip()}")
    return rack.host.namespace(DRIVE, timeout_s)


def clear_log(rack):
    rack.host.run("dmesg -c > /dev/null")


def require_quiet_log(rack, allowed=""):
    """The host's kernel has not complained since clear_log(); `allowed`: a pattern more."""
    pattern = "timeout|abort|I/O error|resetting controller|Removing|kernel BUG|WARNING:|hung"
    # Linux tells the shutdown time that RTD3E asks for when it is more than its own
    harmless = "ommand line|Shutdown timeout set to" + (f"|{allowed}" if allowed else "")
    command = f"dmesg | grep -vE '{harmless}' | grep -iE '{pattern}' | head -5"
    log = rack.host.run(command, check=False).out
    require(not log, f"the host's kernel complains:\n{log}")


def set_sgl_threshold(rack, value):
    """0: the host uses PRPs alone; 1: SGLs for each I/O command."""
    rack.host.run(f"echo {value} > /sys/module/nvme/parameters/sgl_threshold")


DEFAULT_SGL_THRESHOLD = 32768

STATUS = re.compile(r"\(0x([0-9a-f]+)\)")
NVME_STATUS_DNR = 0x4000
NVME_STATUS_CODE = 0x7ff  # without More, DNR


def nvme_status(result):
    """The NVMe status as nvme-cli prints it, DNR included; 0: success."""
    if result.code == 0:
        return 0
    found = STATUS.search(result.out)
    require(found, f"nvme-cli failed without an NVMe status:\n{result.out}")
    return int(found.group(1), 16)


# --- fio -----------------------------------------------------------------------------------------

def fio(rack, device, timeout_s=120, **options):
    """One verified fio run; returns its jobs as fio's JSON has them. Options as fio's."""
    settings = {"name": "verify", "filename": device, "rw": "randrw", "direct": 1,
                "allow_file_create": 0, "ioengine": "libaio", "iodepth": 32, "verify": "crc32c",
                "verify_fatal": 1, "randseed": 1, **options}
    words = [f"--{name}={value}" for name, value in settings.items()
             if value is not None]
    command = "fio " + shlex.join(words) + " --output-format=json"
    result = rack.host.run(command, timeout_s, check=False)
    said = "\n".join(line for line in result.lines() if not line.startswith((" ", "{", "}")))
    require(result.code == 0, f"{command}\n{said}")
    jobs = json.loads(result.out[result.out.index("{"):])["jobs"]
    for job in jobs:
        require(job["error"] == 0, f"{command}\nerror {job['error']}: {said}")
    require(sum(job["write"]["total_ios"] + job["read"]["total_ios"] for job in jobs) > 0,
            "fio did nothing")
    return jobs


class Load:
    """Verified fio runs, one after the other, for as long as the block lasts.

    They must end well: what a test does meanwhile may delay an I/O, not fail it. With
    may_fail=True the drive may go away: the runs may fail, and do not verify, because Linux ends
    reads of a drive that is being removed with success and no data.
    """
    SCRIPT = ("rm -f /tmp/stop; n=0; while [ ! -e /tmp/stop ]; do "
              "fio --name=load --filename={device} --rw=randrw --bsrange=4k-64k --direct=1 "
              "--allow_file_create=0 --ioengine=libaio --iodepth=16 --offset={offset} "
              "--size={size} --io_size={size} {verify} > /tmp/load.out 2>&1 || "
              "{{ cat /tmp/load.out; exit 1; }}; n=$((n + 1)); done; echo runs $n")

    VERIFY = "--verify=crc32c --verify_fatal=1 --verify_backlog=64"

    def __init__(self, rack, device, may_fail=False):
        self.rack, self.may_fail = rack, may_fail
        self.command = self.SCRIPT.format(device=device, offset=LOAD_OFFSET, size=LOAD_BYTES,
                                          verify="" if may_fail else self.VERIFY)
        self.runs = 0

    def __enter__(self):
        self.job = self.rack.host.spawn(self.command, 240)
        self.rack.host.run("sleep 1")  # fio is under way
        return self

    def __exit__(self, kind, value, trace):
        self.rack.host.run("touch /tmp/stop")
        if kind is not None:
            return
        result = self.job.wait(check=False)
        require(self.may_fail or result.code == 0, f"the load failed:\n{result.out}")
        if result.code == 0:
            self.runs = int(result.out.split()[-1])


# --- data that must survive ----------------------------------------------------------------------

def drive_with_canary(rack):
    """The drive's device file. Before the first test breaks anything, random data is written to it,
    whose checksum is kept here."""
    device = wait_until_live(rack)
    if not hasattr(rack, "canary"):
        _canary_write(rack, device)
    return device


def _canary_write(rack, device):
    rack.host.run(f"dd if=/dev/urandom of={device} bs=1M seek={CANARY_OFFSET // MIB} "
                  f"count={CANARY_BYTES // MIB} oflag=direct conv=fsync 2>/dev/null")
    rack.canary = _canary_read(rack, device)


def _canary_read(rack, device):
    command = (f"dd if={device} bs=1M skip={CANARY_OFFSET // MIB} count={CANARY_BYTES // MIB} "
               "iflag=direct 2>/dev/null | sha256sum")
    return rack.host.run(command, 60).out.split()[0]


def require_canary(rack):
    """The drive still holds what drive_with_canary() wrote, and works."""
    device = wait_until_live(rack)
    require(_canary_read(rack, device) == rack.canary, "data on the drive has changed")
    return device


# --- the NIC's counters --------------------------------------------------------------------------

class Counters:
    """What the NIC's counters did: `with Counters(rack) as moved: ...`, moved["fn0.commands"]."""

    def __init__(self, rack):
        self.rack = rack

    def __enter__(self):
        self.before = self.rack.nic.numbers("stats")
        return self

    def __exit__(self, kind, value, trace):
        if kind is None:
            after = self.rack.nic.numbers("stats")
            self.moved = {name: after[name] - self.before.get(name, 0) for name in after}

    def __getitem__(self, name):
        return self.moved[name]

    def require_zero_copy(self, least_bytes):
        """Data went both ways, and no byte of it through NIC memory."""
        to_host, from_host = self["fn0.data_to_host_bytes"], self["fn0.data_from_host_bytes"]
        require(to_host >= least_bytes and from_host >= least_bytes,
                f"only {to_host} bytes went to the host and {from_host} from it")
        staged = {name: value for name, value in self.moved.items()
                  if name.endswith("staged_bytes") and value != 0}
        require(not staged, f"bytes were staged in NIC memory: {staged}")


def has_nic(rack):
    return rack.nic is not None
