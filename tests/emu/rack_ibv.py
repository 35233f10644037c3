"""The provider over libibverbs (hal/native/ibv) in Linux guests, over rxe: tests/native/ibv_check.c,
and the native board's firmware with its rping, both ways, against Linux' own.
"""
import os
import re

from rack.config import BUILD
from rack.errors import RackError
from rack_common import require

CHECK, FIRMWARE = "/tmp/ibv_check", "/tmp/snic"
RPING_PORT = 7174
# not ib_write_lat, whose client waits for a WRITE of a length that it does not name
PERFTEST = ["ib_send_bw", "ib_send_lat", "ib_write_bw", "ib_read_bw", "ib_read_lat"]


def rdma_objects(guest):
    """What the kernel counts of the device's objects."""
    return guest.run("rdma resource show rxe0").out.strip()


def require_nothing_left(guest, before):
    after = rdma_objects(guest)
    require(before == after, f"objects are left: {after}; before: {before}")


def test_ibv_provider(rack):
    """All that the provider can do, between two ends of one guest; nothing is left in the kernel."""
    peer = rack.peer
    peer.put(os.path.join(BUILD, "host", "ibv_check"), CHECK)
    before = rdma_objects(peer)
    result = peer.run(f"{CHECK} rxe0", 300, check=False)
    found = re.search(r"^(\d+) passed, (\d+) failed$", result.out, re.MULTILINE)
    if not found or result.code != 0:
        raise RackError(f"ibv_check ended with {result.code}:\n{result.out}")
    require(int(found.group(1)) >= 50, f"only {found.group(1)} tests ran")
    require_nothing_left(peer, before)


class Firmware:
    """The native board in a guest, with its rxe as fabric and the rping service."""

    def __init__(self, guest):
        self.guest = guest

    def __enter__(self):
        self.guest.put(os.path.join(BUILD, "native-ibv", "snic"), FIRMWARE)
        self.before = rdma_objects(self.guest)
        self.guest.run("rm -f /tmp/in; mkfifo /tmp/in")
        # the console's input stays open for as long as the firmware runs
        self.job = self.guest.serve(
            f"exec 3<>/tmp/in; {FIRMWARE} --rdma rxe0 --config 'diag=rping,perf ns=none' /tmp/nvme "
            "<&3 >/tmp/out 2>&1", RPING_PORT, 300)
        return self

    def __exit__(self, kind, value, trace):
        self.guest.run("killall -TERM snic", check=False)
        self.job.wait(check=False)
        if kind is None:
            require_nothing_left(self.guest, self.before)
        else:
            print(self.guest.run("tail -20 /tmp/out", check=False).out)

    def console(self, command, answer, timeout_s=60):
        """Types a command; returns what was said after it, once `answer` is part of that."""
        script = (f"n=$(wc -c < /tmp/out); echo '{command}' > /tmp/in; "
                  f"for i in $(seq {timeout_s * 10}); do "
                  f"tail -c +$((n + 1)) /tmp/out | grep -q '{answer}' && break; sleep 0.1; done; "
                  "tail -c +$((n + 1)) /tmp/out")
        said = self.guest.run(script, timeout_s + 10).out
        require(answer in said, f"'{command}' was answered by:\n{said}")
        return said


def test_ibv_firmware_answers_rping(rack):
    """Linux pings the firmware; data is compared, several connections one after the other."""
    firmware_guest, client = rack.peers[0], rack.peers[1]
    with Firmware(firmware_guest) as firmware:
        for size in (64, 1000, 65535):
            client.run(f"rping -c -a {firmware_guest.ip} -V -C 50 -S {size}", 120)
        said = firmware.console("rdma", "qps_ERR")
        require("rdma0.name rxe0" in said, said)


def test_ibv_firmware_pings_linux(rack):
    """The firmware pings Linux' rping server."""
    firmware_guest, server = rack.peers[0], rack.peers[1]
    with Firmware(firmware_guest) as firmware:
        job = server.serve(f"rping -s -a {server.ip} -V -C 50", RPING_PORT)
        said = firmware.console(f"rping {server.ip} 50 64", "rping.end")
        require("rping.end done" in said and "rping.mismatches 0" in said, said)
        job.wait()


def test_ibv_firmware_answers_perftest(rack):
    """perftest's programs, connected by the connection manager."""
    firmware_guest, client = rack.peers[0], rack.peers[1]
    with Firmware(firmware_guest):
        for program in PERFTEST:
            client.run(f"{program} -R -F -s 4096 -n 20 {firmware_guest.ip}", 60)


TESTS = [test_ibv_provider, test_ibv_firmware_answers_rping, test_ibv_firmware_pings_linux,
         test_ibv_firmware_answers_perftest]
