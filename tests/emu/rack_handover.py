"""An image is activated at once: the next one goes on serving the host, which sees a pause and no
error: no reset, no event, no message of its kernel."""
import re
import time

from rack_common import (Load, clear_log, drive_with_canary, require, require_canary,
                         require_quiet_log)
from rack_update import (ACTIVATE_NOW, Since, commit, download, make_image, require_slots,
                         running)

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


def hand_over_under_load(rack, device, prepare):
    clear_log(rack)
    before = rack.host.run("grep nvme /proc/interrupts | wc -l").out
    with Load(rack, device) as load:
        prepare()
        console = Since(rack)
        start_s = time.monotonic()
        code, said = commit(rack, ACTIVATE_NOW)
        require(code == 0, f"fw-commit ends with {code:#x}: {said}")
        console.wait_for("it is confirmed")
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
    hand_over_under_load(rack, device, lambda: download(rack, image))
    require(running(rack) == "0.2", f"version {running(rack)} runs")
    require_slots(rack, 2, 0, {1: "0.1", 2: "0.2"})


def test_handover_back_under_load(rack):
    device = drive_with_canary(rack)
    hand_over_under_load(rack, device, lambda: None)
    require(running(rack) == "0.1", f"version {running(rack)} runs")


def test_handover_again_and_again(rack):
    device = drive_with_canary(rack)
    for _ in range(4):
        hand_over_under_load(rack, device, lambda: None)


TESTS = [test_handover_under_load, test_handover_back_under_load, test_handover_again_and_again]
