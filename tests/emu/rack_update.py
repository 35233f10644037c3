"""A host updates the firmware of its NIC by NVMe, while it works on the drive (nvme-cli alone)."""
import os
import random
import re
import struct
import time

import flash_image as flash
from rack.config import BUILD, TOP
from rack.errors import RackError
from rack.flash import BANKS

from rack_common import (IO_TIMEOUT_S, Load, NVME_STATUS_CODE, clear_log, drive_with_canary,
                         nvme_status, pci_device, require, require_canary, require_quiet_log,
                         wait_until_live)
from rack_life import recover

KEY = os.path.join(TOP, "boards", "keys", "development.key")
OTHER_KEY = os.path.join(TOP, "tests", "data", "keys", "other.key")
SERVING = "app: serving"
NIC_UP_S = 30

INVALID_SLOT, INVALID_IMAGE, NEEDS_RESET, PROHIBITED = 0x106, 0x107, 0x111, 0x113
REPLACE, REPLACE_AND_ACTIVATE, ACTIVATE, ACTIVATE_NOW = range(4)


# --- what the host does --------------------------------------------------------------------------

def make_image(rack, version, key=KEY, spoil=bytes, **head):
    """The bytes of a FIT of the firmware that calls itself `version`; spoil(data): before it is
    signed."""
    path = os.path.join(rack.folder, "update.fit")
    data = flash.with_head(flash.read(f"{BUILD}/qemu-virt/snic.bin"), version=version, **head)
    flash.make_fit(spoil(data), key, path)
    return flash.read(path)


def dies_at_once(data):
    """The image's first instructions become PSCI's SYSTEM_RESET: mov, movk, hvc."""
    data = bytearray(data)
    branch = struct.unpack_from("<I", data, 0)[0]
    require(branch >> 26 == 5, "the image does not begin with a branch")
    struct.pack_into("<III", data, (branch & 0x3ffffff) * 4, 0x52800120, 0x72b08000, 0xd4000002)
    return bytes(data)


def record_of(rack):
    return flash.read_record(os.path.join(rack.folder, BANKS[1]))


def put_image(rack, image):
    path = os.path.join(rack.folder, "update.fit")
    with open(path, "wb") as file:
        file.write(image)
    rack.host.put(path, "/tmp/update.fit")


def nvme(rack, command, timeout_s=60):
    """The code of the NVMe status, and what nvme-cli says."""
    result = rack.host.run(f"nvme {command} 2>&1", timeout_s, check=False)
    if result.code != 0 and "reset" in result.out and "Success" in result.out:
        return NEEDS_RESET, result.out
    return nvme_status(result) & NVME_STATUS_CODE, result.out


def download(rack, image):
    put_image(rack, image)
    code, said = nvme(rack, "fw-download /dev/nvme0 --fw=/tmp/update.fit")
    require(code == 0, f"fw-download: {said}")


def commit(rack, action, slot=0):
    return nvme(rack, f"fw-commit /dev/nvme0 --slot={slot} --action={action}")


def slots(rack):
    """(active, next, {slot: version}) as `nvme fw-log` shows them."""
    said = rack.host.run("nvme fw-log /dev/nvme0").out
    afi = re.search(r"afi\s*:\s*(?:0x)?([0-9a-f]+)", said)
    require(afi, f"fw-log says {said}")
    versions = re.findall(r"frs(\d)\s*:\s*0x[0-9a-f]+ \(([^)]*)\)", said)
    value = int(afi[1], 16)
    return value & 7, value >> 4 & 7, {int(slot): text.rstrip(". ") for slot, text in versions}


def require_slots(rack, *expected):
    found = slots(rack)
    require(found == expected, f"fw-log shows {found}, not {expected}")


def running(rack):
    """The version that Identify shows."""
    return re.search(r"^fr\s*:\s*(\S+)", rack.host.run("nvme id-ctrl /dev/nvme0").out, re.M)[1]


class Since:
    """What the NIC's console says from here on."""

    def __init__(self, rack):
        self.nic = rack.nic
        self.start = len(self.nic.log())

    def log(self):
        return self.nic.log()[self.start:]

    def wait_for(self, text, timeout_s=NIC_UP_S):
        self.nic.process.wait_for(lambda: text in self.log(), f"'{text}' on the console", timeout_s)


def reset_and_read(rack, device):
    """Resets the controller; the seconds until it has come back and a read is answered."""
    command = ("read start rest < /proc/uptime; nvme reset /dev/nvme0 && "
               f"dd if={device} of=/dev/null bs=4k count=1 iflag=direct 2>/dev/null && "
               "read end rest < /proc/uptime && echo $start $end")
    start, end = rack.host.run(command, 60).out.split()[-2:]
    return float(end) - float(start)


def activate_under_load(rack, device, prepare):
    """prepare(), then the reset that starts the image, under a load that must not see an error."""
    clear_log(rack)
    with Load(rack, device) as load:
        start_s = time.monotonic()
        prepare()
        commit_s = time.monotonic() - start_s
        console = Since(rack)
        pause_s = reset_and_read(rack, device)
        console.wait_for("it is confirmed")
        rack.host.run("sleep 1")
    require(load.runs > 0, "fio has not ended a run")
    require("bootloader: starts the image" in console.log(), "the board was not restarted")
    require_quiet_log(rack, "resetting controller")  # as it was told to
    require_canary(rack)
    print(f"     update sent and in flash after {commit_s:.1f} s, pause {pause_s:.2f} s, "
          f"{load.runs} verified runs of fio meanwhile", flush=True)


def require_identify(rack, **fields):
    identify = rack.host.run("nvme id-ctrl /dev/nvme0").out
    for field, value in fields.items():
        found = int(re.search(rf"^{field}\s*:\s*(\S+)", identify, re.M)[1], 0)
        require(found == value, f"{field} is {found:#x}")


# --- updates -------------------------------------------------------------------------------------

def test_new_board_tells_its_slot(rack):
    drive_with_canary(rack)
    require_slots(rack, 1, 0, {1: "0.1"})
    require_identify(rack, frmw=0x04, fwug=1)  # RAM disks: no activation without a reset


def test_update_under_load(rack):
    """fw-download, fw-commit, reset: the host sees a pause and the new version, fio no error."""
    device = drive_with_canary(rack)
    image = make_image(rack, "0.2")

    def prepare():
        download(rack, image)
        code, said = commit(rack, REPLACE_AND_ACTIVATE)
        require(code == 0, f"fw-commit: {said}")
        require_slots(rack, 1, 2, {1: "0.1", 2: "0.2"})

    activate_under_load(rack, device, prepare)
    require(running(rack) == "0.2", f"version {running(rack)} runs")
    require_slots(rack, 2, 0, {1: "0.1", 2: "0.2"})
    require(record_of(rack)[1] == 1, "slot B is not the active one")


def test_roll_back_under_load(rack):
    device = drive_with_canary(rack)
    require(running(rack) == "0.2", "the test before has failed")

    def prepare():
        code, said = commit(rack, ACTIVATE, 1)
        require(code == 0, f"fw-commit: {said}")
        require_slots(rack, 2, 1, {1: "0.1", 2: "0.2"})

    activate_under_load(rack, device, prepare)
    require(running(rack) == "0.1", f"version {running(rack)} runs")
    require_slots(rack, 1, 0, {1: "0.1", 2: "0.2"})


def test_activation_at_once_waits_for_the_reset(rack):
    """Commit Action 011b with RAM disks: done, but for the reset. Any kind activates: here FLR."""
    drive_with_canary(rack)
    download(rack, make_image(rack, "0.3"))
    code, said = commit(rack, ACTIVATE_NOW)
    require(code == NEEDS_RESET, f"fw-commit ends with {code:#x}: {said}")
    require_slots(rack, 1, 2, {1: "0.1", 2: "0.3"})
    console = Since(rack)
    rack.host.run("echo 1 > /sys/class/nvme/nvme0/device/reset", 60, check=False)
    console.wait_for("it is confirmed")
    recover(rack)
    require_canary(rack)
    require(running(rack) == "0.3", f"version {running(rack)} runs")


# --- what is refused -----------------------------------------------------------------------------

def test_slots_in_use_are_not_written(rack):
    drive_with_canary(rack)
    active = slots(rack)[0]
    download(rack, make_image(rack, "0.4"))
    for slot in (active, 3, 7):
        code, said = commit(rack, REPLACE, slot)
        require(code == INVALID_SLOT, f"slot {slot}: {code:#x}: {said}")


def bit_flipped(image, draw):
    bad = bytearray(image)
    # Past the tree's own head, whose unused fields nobody reads
    bad[draw.randrange(len(bad) * 1 // 100, len(bad) * 99 // 100)] ^= 1 << draw.randrange(8)
    return bytes(bad)


def test_bad_images_are_refused(rack):
    """Each with its reason on the console; what runs goes on, and no slot has changed."""
    device = drive_with_canary(rack)
    before, record = slots(rack), record_of(rack)
    image = make_image(rack, "0.5")
    draw = random.Random(7)
    bad = [
        ("cut", image[:len(image) // 8 * 4], INVALID_IMAGE, "is cut"),
        ("no image", os.urandom(65536), INVALID_IMAGE, ""),
        ("unsigned", make_image(rack, "0.5", key=None), INVALID_IMAGE, "is not signed"),
        ("by another key", make_image(rack, "0.5", key=OTHER_KEY), INVALID_IMAGE,
         "is signed by another key"),
        ("for another board", make_image(rack, "0.5", board="qemu-other"), INVALID_IMAGE,
         "is for another board"),
        ("too old", make_image(rack, "0.5", security_version=0), PROHIBITED,
         "has a security version that is no longer"),
    ]
    bad += [(f"bit flip {number}", bit_flipped(image, draw), INVALID_IMAGE, "")
            for number in range(4)]
    with Load(rack, device):
        for name, data, expected, reason in bad:
            console = Since(rack)
            download(rack, data)
            code, said = commit(rack, REPLACE_AND_ACTIVATE)
            require(code == expected, f"{name}: {code:#x}: {said}")
            console.wait_for(f"image is refused: it {reason}", 5)
            require(slots(rack) == before, f"{name}: fw-log shows {slots(rack)}")
    reset_and_read(rack, device)
    require(slots(rack) == before, f"after a reset fw-log shows {slots(rack)}")
    require(record_of(rack) == record, "the record has changed")
    require_canary(rack)


def test_trial_that_dies_gives_way(rack):
    """A good signature, but it resets the board at its start: three times, then the old one answers
    the host, and tells it."""
    drive_with_canary(rack)
    version = running(rack)
    download(rack, make_image(rack, "0.6", spoil=dies_at_once))
    code, said = commit(rack, REPLACE_AND_ACTIVATE)
    require(code == 0, f"fw-commit: {said}")
    console = Since(rack)
    rack.host.run("nvme reset /dev/nvme0", 90, check=False)
    console.wait_for(SERVING, 60)
    require(console.log().count("is on trial") == 3, "not after three attempts")
    recover(rack)
    require(running(rack) == version, f"version {running(rack)} runs")
    log = rack.host.run("nvme error-log /dev/nvme0 -e 4").out
    require("FIRMWARE_IMAGE" in log.upper() or f"{INVALID_IMAGE:#x}" in log,
            f"the error log says nothing of it:\n{log}")
    require_canary(rack)


# --- power cuts ----------------------------------------------------------------------------------

CUTS = 2  # at each flash operation: flash_cuts.py


def start_update(rack, version):
    download(rack, make_image(rack, version))
    return rack.host.spawn(f"nvme fw-commit /dev/nvme0 --action={REPLACE_AND_ACTIVATE} && "
                           "nvme reset /dev/nvme0", 90)


def revive(rack):
    """A NIC that dies within the host's own reset: Linux gives the device up for good; whoever
    administers it binds it anew."""
    try:
        wait_until_live(rack, 4 * IO_TIMEOUT_S)
    except RackError:
        address = os.path.basename(pci_device(rack))
        driver = "/sys/bus/pci/drivers/nvme"
        rack.host.run(f"echo {address} > {driver}/unbind; echo {address} > {driver}/bind", 60,
                      check=False)
        wait_until_live(rack, NIC_UP_S)


def test_power_cuts_during_updates(rack):
    """The NIC dies at some time between commit and the new image's start: it always comes back with
    an image that is whole. One that is left alone says how long that is."""
    drive_with_canary(rack)
    job = start_update(rack, "1.0")
    start_s = time.monotonic()
    job.wait()
    took_s = time.monotonic() - start_s
    draw = random.Random(11)
    outcomes = []
    for number in range(1, 1 + CUTS):
        old, new = running(rack), f"1.{number}"
        job = start_update(rack, new)
        time.sleep(draw.random() * took_s)
        rack.nic.stop()
        rack.nic.start()
        rack.nic.wait_until_up(NIC_UP_S)
        job.wait(check=False)
        revive(rack)
        rack.host.run("nvme reset /dev/nvme0", 60, check=False)
        wait_until_live(rack, NIC_UP_S)
        found = running(rack)
        require(found in (old, new), f"version {found} runs, neither {old} nor {new}")
        outcomes.append("new" if found == new else "old")
    require_canary(rack)
    print(f"     {CUTS} cuts within {took_s:.1f} s; afterwards ran: {' '.join(outcomes)}",
          flush=True)


TESTS = [test_new_board_tells_its_slot, test_update_under_load, test_roll_back_under_load,
         test_activation_at_once_waits_for_the_reset, test_slots_in_use_are_not_written,
         test_bad_images_are_refused, test_trial_that_dies_gives_way,
         test_power_cuts_during_updates]
