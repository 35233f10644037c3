"""The provider over libibverbs (hal/native/ibv) in a Linux guest: tests/native/ibv_check.c over rxe."""
import os
import re

from rack.config import BUILD
from rack.errors import RackError
from rack_common import require

PROGRAM = "/tmp/ibv_check"


def test_ibv_provider(rack):
    """All that the provider can do, between two ends of one guest; nothing is left in the kernel."""
    peer = rack.peer
    peer.put(os.path.join(BUILD, "host", "ibv_check"), PROGRAM)
    before = peer.run("rdma resource show rxe0").out
    result = peer.run(f"{PROGRAM} rxe0", 300, check=False)
    found = re.search(r"^(\d+) passed, (\d+) failed$", result.out, re.MULTILINE)
    if not found or result.code != 0:
        raise RackError(f"ibv_check ended with {result.code}:\n{result.out}")
    require(int(found.group(1)) >= 50, f"only {found.group(1)} tests ran")
    after = peer.run("rdma resource show rxe0").out
    require(before == after, f"objects are left: {after.strip()}; before: {before.strip()}")


TESTS = [test_ibv_provider]
