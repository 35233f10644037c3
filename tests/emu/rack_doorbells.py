"""Trapped doorbells: Linux shadows them (Doorbell Buffer Config), so that few writes trap."""
import re

from rack.config import MIB

from rack_common import RAM, Counters, fio, require


def test_doorbell_buffers_are_offered(rack):
    text = rack.host.run("nvme id-ctrl /dev/nvme0").out
    oacs = int(re.search(r"^oacs\s*:\s*(\w+)", text, re.MULTILINE).group(1), 0)
    require(oacs & 0x100, f"OACS is {oacs:#x}")


def test_doorbell_buffers_save_traps(rack):
    """At depth 32, far fewer doorbell writes arrive at pcielink than there are commands."""
    before = int(rack.link.status()["doorbell_writes"])
    with Counters(rack) as moved:
        fio(rack, rack.host.namespace(RAM), bs=4096, iodepth=32, size=8 * MIB)
    trapped = int(rack.link.status()["doorbell_writes"]) - before
    commands = moved["fn0.commands"]
    require(0 < trapped < commands, f"{trapped} trapped doorbell writes for {commands} commands")


TESTS = [test_doorbell_buffers_are_offered, test_doorbell_buffers_save_traps]
