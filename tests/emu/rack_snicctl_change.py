"""snicctl changes a board of the rack: images, over the console while the host works; the configuration,
from a host that may."""
import os

from rack.config import RackConfig
from rack.flash import BANKS
from rack.tree import compile_tree, volumes_tree

import flash_image as flash
from rack_common import (Load, clear_log, drive_with_canary, require, require_canary, require_quiet_log,
                         wait_until_live)
from rack_snicctl import FAILED, OK, SHOWN, ask, by, compare, in_band, snicctl, validated
from rack_update import OTHER_KEY, Since, bit_flipped, dies_at_once, make_image, running


def file_of(rack, image, name="tool.fit"):
    path = os.path.join(rack.folder, name)
    with open(path, "wb") as file:
        file.write(image)
    return path


def slots_of(rack):
    return by(ask(rack, "slots")["slots"], "slot")


# --- images, out of band -------------------------------------------------------------------------

def test_bad_images_are_refused_with_their_reason(rack):
    drive_with_canary(rack)
    before = slots_of(rack)
    image = make_image(rack, "0.5")
    for name, data, reason in (
            ("cut", image[:len(image) // 8 * 4], "is cut"),
            ("damaged", bit_flipped(image, _Middle()), "damaged"),
            ("foreign", make_image(rack, "0.5", key=OTHER_KEY), "is signed by another key"),
            ("too old", make_image(rack, "0.5", security_version=0), "no longer")):
        said = snicctl(rack, "flash", "--force", file_of(rack, data), code=FAILED)
        require(reason in said, f"{name}: no '{reason}':\n{said}")
        require(slots_of(rack) == before, f"{name}: the slots have changed")
    said = snicctl(rack, "flash", file_of(rack, make_image(rack, "0.5", key=None)), code=FAILED)
    require("not signed" in said and "snicctl image sign" in said, said)  # before it is sent
    require_canary(rack)


class _Middle:
    """In place of random.Random: the middle, bit 4."""

    def randrange(self, first, end=None):
        return 4 if end is None else (first + end) // 2


def test_image_is_flashed_and_goes_on_serving(rack):
    """flash, activate under load: the host sees a pause; confirmed by itself; then rolled back."""
    device = drive_with_canary(rack)
    old = running(rack)
    path = file_of(rack, make_image(rack, "0.7"))
    require("would take it" in snicctl(rack, "flash", "--check", path), "a good image is not taken")
    clear_log(rack)
    with Load(rack, device) as load:
        said = snicctl(rack, "flash", path, timeout_s=120)
        require("written and verified" in said, said)
        slots = slots_of(rack)
        require(sorted(s["version"] for s in slots.values()) == sorted([old, "0.7"]), f"{slots}")
        for version in ("0.7", old):
            console = Since(rack)
            said = snicctl(rack, "activate", timeout_s=120)
            require(version in said and "hosts" in said, said)
            console.wait_for("it is confirmed")
            require("goes on where the image before ended" in console.log(), "the host was reset")
            require(ask(rack, "status")["from"]["firmware"] == version, "another one runs")
            snicctl(rack, "confirm")
            if version == "0.7":
                require(old in snicctl(rack, "rollback"), "it does not go back")
    require(load.runs > 0, "fio has not ended a run")
    require_quiet_log(rack)
    require_canary(rack)


def test_image_that_dies_is_told(rack):
    """activate says that the old image runs again, and why doctor is not content."""
    drive_with_canary(rack)
    old = running(rack)
    snicctl(rack, "flash", file_of(rack, make_image(rack, "0.8", spoil=dies_at_once)), timeout_s=120)
    said = snicctl(rack, "activate", code=FAILED, timeout_s=120)
    require(old in said and "0.8" in said, said)
    said = snicctl(rack, "doctor", code=None)
    require("trial of version 0.8 failed" in said, said)
    wait_until_live(rack)
    require_canary(rack)


TESTS = [test_bad_images_are_refused_with_their_reason, test_image_is_flashed_and_goes_on_serving,
         test_image_that_dies_is_told]


# --- a board without volumes, whose host may do everything ------------------------------------------

OPTIONS = {"in-band": "all"}
TREE = "set.dtb"


def put_tree(rack, tree):
    """Into the host; the tool compiles no source there, where dtc is not."""
    path = os.path.join(rack.folder, TREE)
    compile_tree(tree, path)
    rack.host.put(path, "/tmp/" + TREE)


def bare_config():
    return RackConfig(nic_boot="flash", nic_drives=0, tree=volumes_tree([], OPTIONS))


def scratch(**changes):
    return volumes_tree([], {"cores": 1, "idle": "adaptive", **OPTIONS, **changes},
                        local={"scratch": {"ram": "16M"}})


def restart(rack):
    console = Since(rack)
    in_band(rack, "reset")
    console.wait_for("app: serving")
    rack.host.run("nvme reset /dev/nvme0", 90, check=False)
    rack.host.run("for i in $(seq 300); do grep -q live /sys/class/nvme/nvme0/state && exit 0; "
                  "sleep 0.1; done; exit 1", 60)


def spaces(rack):
    return [space["name"] for space in validated(in_band(rack, "namespaces", "--json"))["namespaces"]]


def test_board_without_volumes(rack):
    for command in SHOWN:
        code = None if command == "doctor" else OK
        snicctl(rack, command, code=code)
        ask(rack, command, code=code)
        if command != "crash":
            in_band(rack, command, code=code)
    compare("bare-status", snicctl(rack, "status"))
    compare("bare-doctor", snicctl(rack, "doctor", code=None))


def test_host_activates_in_band(rack):
    """The host asks for the restart that keeps it: its driver sees nothing of it."""
    rack.host.put(file_of(rack, make_image(rack, "0.8")), "/tmp/tool.fit")
    in_band(rack, "flash", "/tmp/tool.fit")
    clear_log(rack)
    console = Since(rack)
    said = in_band(rack, "activate")
    require("0.8" in said and "confirmed: it stays" in said, said)
    require("goes on where the image before ended" in console.log(), "the host was reset")
    require_quiet_log(rack)


def test_host_changes_the_configuration(rack):
    """set, in force after a reset; what is wrong is refused with node and property; forget."""
    require(spaces(rack) == [], "there are namespaces")
    put_tree(rack, scratch())
    require("would take it" in in_band(rack, "config", "check", "/tmp/" + TREE), "not checked")
    in_band(rack, "config", "set", "/tmp/" + TREE)
    require(spaces(rack) == [], "it is in force at once")
    restart(rack)
    require(spaces(rack) == ["scratch"], f"{spaces(rack)}")
    require("scratch" in snicctl(rack, "config", "get"), "config get has it not")
    put_tree(rack, scratch(cereal="X"))
    for word in ("check", "set"):
        said = in_band(rack, "config", word, "/tmp/" + TREE, code=FAILED)
        require("/options" in said and "cereal" in said, said)
    restart(rack)
    require(spaces(rack) == ["scratch"], "a bad one came into force")


def test_host_flashes_in_band(rack):
    """The same tool over NVMe, in place of fw-download."""
    path = file_of(rack, make_image(rack, "0.9"))
    rack.host.put(path, "/tmp/tool.fit")
    in_band(rack, "flash", "/tmp/tool.fit")
    restart(rack)
    require(validated(in_band(rack, "status", "--json"))["from"]["firmware"] == "0.9", "not started")
    require(flash.read_record(os.path.join(rack.folder, BANKS[1])) is not None, "no record")


BARE_TESTS = [test_board_without_volumes, test_host_activates_in_band,
              test_host_changes_the_configuration, test_host_flashes_in_band]
