"""An image is activated at once: the next one goes on serving the host, which sees a pause and no
error: no reset, no event, no message of its kernel."""
import re
import time

import rack_nvmf
from rack_common import (Load, clear_log, drive_with_canary, fio, require, require_canary,
                         require_quiet_log)
from rack_update import (ACTIVATE_NOW, Since, commit, dies_at_once, download, make_image,
                         require_identify, require_slots, running)

PAUSE_MS = 2000  # of board time


def pause_ms(console):
    """From the command's end to the first queue that is served again, in the board's own time: what
    the old image took to rest, the bootloader, the new image up to `serving`."""
    log = console.log()
    rest = re.search(r"functions rest after (\d+) ms", log)
    serving = re.search(r"app: serving .* (\d+) ms after the start", log)
    loader = re.search(r"after (\d+) us", log[log.index("bootloader: starts"):])
    require(rest and serving and loader, f"the console says {log}")
    return int(rest[1]) + int(loader[1]) / 1000 + int(serving[1])


def hand_over_under_load(rack, device, prepare, end="it is confirmed"):
    clear_log(rack)
    before = rack.host.run("grep nvme /proc/interrupts | wc -l").out
    with Load(rack, device) as load:
        prepare()
        console = Since(rack)
        start_s = time.monotonic()
        code, said = commit(rack, ACTIVATE_NOW)
        require(code == 0, f"fw-commit ends with {code:#x}: {said}")
        console.wait_for(end)
        took_s = time.monotonic() - start_s
        rack.host.run("sleep 1")
    require(load.runs > 0, "fio has not ended a run")
    log = console.log()
    require("bootloader: starts the image" in log, "the board was not restarted")
    require("goes on where the image before ended" in log, "the host was reset")
    require(rack.host.run("grep nvme /proc/interrupts | wc -l").out == before,
            "the host has other interrupts than before")
    require_quiet_log(rack)
    require_canary(rack)
    print(f"     pause {pause_ms(console):.0f} ms of board time, confirmed after {took_s:.1f} s, "
          f"{load.runs} verified runs of fio meanwhile", flush=True)
    return console


def test_handover_under_load(rack):
    device = drive_with_canary(rack)
    image = make_image(rack, "0.2")
    require_identify(rack, frmw=0x14)
    hand_over_under_load(rack, device, lambda: download(rack, image))
    require(running(rack) == "0.2", f"version {running(rack)} runs")
    require_slots(rack, 2, 0, {1: "0.1", 2: "0.2"})


def test_handover_back_under_load(rack):
    device = drive_with_canary(rack)
    hand_over_under_load(rack, device, lambda: None)
    require(running(rack) == "0.1", f"version {running(rack)} runs")


def test_handover_again_and_again(rack):
    device = drive_with_canary(rack)
    for _ in range(2):
        hand_over_under_load(rack, device, lambda: None)


def test_handover_of_remote_drives_under_load(rack):
    """The associations end in order and come again; the host's memory is lent back and granted again."""
    device = drive_with_canary(rack)
    image = make_image(rack, "0.2")
    hand_over_under_load(rack, device, lambda: download(rack, image))
    rack_nvmf.wait_until_ready(rack, rack_nvmf.HOST_QUEUES)
    for nsid in rack_nvmf.PATHS:
        fio(rack, rack.host.namespace(nsid), bsrange="4k-64k", iodepth=8, size="4M")
    count, fallbacks, _ = rack_nvmf.host_queues(rack)
    require(count > 0 and fallbacks == 0, "the queues are not in the host's memory again")


def test_handover_of_remote_drives_back_under_load(rack):
    hand_over_under_load(rack, drive_with_canary(rack), lambda: None)


def test_handover_to_an_image_that_dies(rack):
    """All its attempts end in resets; then the old one goes on, and the host has only waited."""
    device = drive_with_canary(rack)
    before = running(rack)
    image = make_image(rack, "0.9", spoil=dies_at_once)
    console = hand_over_under_load(rack, device, lambda: download(rack, image), "app: serving")
    require("failed its trial" in "\n".join(rack.nic.ask("update")), "no slot has failed")
    require(console.log().count("is on trial") == 3, "not three attempts")
    require(running(rack) == before, f"version {running(rack)} runs")


REMOTE_TESTS = [test_handover_of_remote_drives_under_load,
                test_handover_of_remote_drives_back_under_load]
TESTS = [test_handover_under_load, test_handover_back_under_load, test_handover_again_and_again,
         test_handover_to_an_image_that_dies]
