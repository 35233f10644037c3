"""The rack's NVMe-oF target (rack/target.py), used by Linux' own initiator: the ground on which the
tests of the NIC's initiator stand. The host has no NIC here, only an Ethernet port.
"""
import hashlib

from rack.config import MIB

from rack_common import fio, require

A, B = "nqn.2026-01.rack:linux-a", "nqn.2026-01.rack:linux-b"
HOSTNQN = "nqn.2026-01.rack:host"
DRIVES = [64 * MIB] * 3


def disconnect(rack):
    rack.host.run("nvme disconnect-all", 60, check=False)


def test_discovery_tells_subsystems_and_referrals(rack):
    target = rack.target
    first, second = target.subsystem(A, [0, 1]), target.subsystem(B, {7: 2}, allow=[HOSTNQN])
    target.referral("elsewhere", "192.0.2.102")
    try:
        said = rack.host.run(f"modprobe nvme_rdma && nvme discover -t rdma -a {target.ip} -s 4420 "
                             f"-q {HOSTNQN}").out
        for word in (A, B, "192.0.2.102", "referral"):
            require(word in said, f"no {word} in\n{said}")
        said = rack.host.run(f"nvme discover -t rdma -a {target.ip} -s 4420 -q {HOSTNQN}:other").out
        require(A in said and B not in said, f"a host sees what it may not use:\n{said}")
    finally:
        first.remove()
        second.remove()


def test_target_shows_what_the_host_wrote(rack):
    """Identifiers, verified data, and the target's own view of them."""
    sub = rack.target.subsystem(A, {3: 0})
    try:
        rack.host.connect_fabric(rack.target, A)
        device = rack.host.namespace_of(sub.uuid(3))
        fio(rack, device, bsrange="512-1m", iodepth=16, size=8 * MIB)
        seen = rack.host.run(f"dd if={device} bs=1M count=16 iflag=direct 2>/dev/null | sha256sum",
                             120).out.split()[0]
        require(seen == rack.target.checksum(0, 0, 16 * MIB), "the target has other data")
        require(seen != hashlib.sha256(bytes(16 * MIB)).hexdigest(), "nothing was written")
    finally:
        disconnect(rack)
        sub.remove()


def test_refused_hosts_and_full_subsystems(rack):
    """A subsystem for other hosts, one with a single controller ID that another one has."""
    target, host = rack.target, rack.host
    first, second = target.subsystem(A, [0], cntlids=(500, 500)), target.subsystem(
        B, [1], allow=[HOSTNQN], cntlids=(500, 500))
    try:
        refused = host.run(f"nvme connect -t rdma -a {target.ip} -s 4420 -n {B}", check=False)
        require(refused.code != 0, "a host that is not allowed got in")
        host.connect_fabric(target, A)
        second.allow_hosts(None)
        full = host.run(f"nvme connect -t rdma -a {target.ip} -s 4420 -n {B}", check=False)
        require(full.code != 0, "the same controller ID was given twice")
    finally:
        disconnect(rack)
        first.remove()
        second.remove()


def test_namespaces_come_grow_and_go(rack):
    sub = rack.target.subsystem(A, [0])
    try:
        rack.host.connect_fabric(rack.target, A)
        sub.namespace_add(5, 1)
        device = rack.host.namespace_of(sub.uuid(5))
        sub.namespace_resize(5, 96 * MIB)
        size = f"/sys/block/{device.removeprefix('/dev/')}/size"
        rack.host.run(f"for i in $(seq 100); do [ $(cat {size}) = {96 * MIB // 512} ] && exit 0; "
                      "sleep 0.1; done; exit 1")
        sub.namespace_remove(5)
        rack.host.run(f"for i in $(seq 100); do [ -e {size} ] || exit 0; sleep 0.1; done; exit 1")
    finally:
        disconnect(rack)
        sub.remove()


def test_power_cut_of_the_target_only_delays(rack):
    """It serves the same namespaces with the same data after its boot."""
    sub = rack.target.subsystem(A, [0])
    try:
        rack.host.connect_fabric(rack.target, A, "-i 1 -k 3 -c 2")
        device = rack.host.namespace_of(sub.uuid(1))
        job = rack.host.spawn(f"fio --name=load --filename={device} --rw=randrw --bs=4k --size=1m "
                              "--ioengine=libaio --direct=1 --iodepth=4 --verify=crc32c "
                              "--verify_fatal=1 --allow_file_create=0 --loops=8", 300)
        rack.host.run("sleep 1")
        rack.target.restart()
        job.wait()
    finally:
        disconnect(rack)
        sub.remove()


TESTS = [test_discovery_tells_subsystems_and_referrals, test_target_shows_what_the_host_wrote,
         test_refused_hosts_and_full_subsystems, test_namespaces_come_grow_and_go,
         test_power_cut_of_the_target_only_delays]
