"""The host's drives are namespaces of a Linux target across the fabric: the NIC's initiator, volumes
and three data paths, on good and bad days.

One rack has a volume on each data path: NSID 1 zero-copy, 2 terminate, both of one subsystem; 3
host-queues, of another. NSID 4 gives up soon when its target is away.
"""
import time

from rack.config import MIB, RackConfig, scaled
from rack.errors import RackError
from rack.tree import Volume, volumes_tree

from rack_common import (Counters, Load, clear_log, drive_with_canary, fio, require, require_canary,
                         require_quiet_log)
from rack_common import wait_until_live as wait_for_host

A, B, C = "nqn.2026-01.rack:a", "nqn.2026-01.rack:b", "nqn.2026-01.rack:c"
ZERO_COPY, TERMINATE, HOST_QUEUES, IMPATIENT = 1, 2, 3, 4
PATHS = {ZERO_COPY: "zero-copy", TERMINATE: "terminate", HOST_QUEUES: "host-queues"}
DRIVES = [256 * MIB, 64 * MIB, 64 * MIB, 64 * MIB]  # the first: see rack_common
HOSTNQN = "nqn.2026-01.rack:tenant-0"
# Guests are slow here: the volumes wait for a target that boots, and the host waits longer.
WAIT_MS = 150000
HOST_ARGS = "nvme_core.io_timeout=240 nvme_core.admin_timeout=60"
LIVE = "LIVE"  # nvmf_ctrl_state_name()
OPTIONS = {"serve-wait-ms": 15000}


def nvmf(volumes, drives, function=None, **changes):
    """A host, the NIC and a target; nothing but these volumes. MTU 4200: RoCE packets of 4 KiB."""
    tree = volumes_tree(volumes, OPTIONS, {"hostnqn": HOSTNQN, **(function or {})})
    return RackConfig(**{"fabric": True, "peers": 0, "targets": 1, "nic_drives": 0, "mtu": 4200,
                         "tree": tree, "target_drives": drives, "host_args": HOST_ARGS, **changes})


EAGER = {"backoff-ms": [200, 500]}  # finds a target that boots soon


def volumes(wait_ms=WAIT_MS, **more):
    patient = {"wait-ms": wait_ms}
    return [Volume("data", A, 1, "zero-copy", patient, **more),
            Volume("old", A, 2, "terminate", patient, **more),
            Volume("rings", B, 1, "host-queues", patient, **more),
            Volume("hasty", C, 1, "zero-copy", {"wait-ms": 6000}, **more)]


def main_config(**changes):
    return nvmf(volumes(), DRIVES, **changes)


def eager_config(**changes):
    """The same, but for the default pauses between attempts, which take a rack longer to start."""
    return nvmf(volumes(subsystem=EAGER), DRIVES, **changes)


def serve(rack):
    """Suite.setup: what the target serves; the NIC finds it by its own attempts."""
    target = rack.target
    target.subsystem(A, [0, 1])
    target.subsystem(B, [2], allow=[HOSTNQN])
    target.subsystem(C, [3])
    for nsid in (*PATHS, IMPATIENT):
        wait_until_ready(rack, nsid)


# --- the NIC as its console shows it -----------------------------------------------------------

def subsystem(rack, nqn):
    """{field: text} of the console's word "subsystems" about one; the first with that NQN."""
    groups = {}
    for line in rack.nic.ask("subsystems"):
        name, _, value = line.partition(" ")
        group, _, key = name.partition(".")
        groups.setdefault(group, {})[key] = value
    return next((fields for fields in groups.values() if fields.get("nqn") == nqn), {})


def volume_is_ready(rack, name):
    return f"volume.{name}.ready yes" in rack.nic.ask("volumes")


def wait_for(condition, what, timeout_s=120):
    """Until condition() is true; `what` may be a function that tells more."""
    deadline = time.monotonic() + scaled(timeout_s)
    while not condition():
        if time.monotonic() > deadline:
            raise RackError(what() if callable(what) else what)
        time.sleep(0.5)


def wait_until_connected(rack, nqn):
    wait_for(lambda: subsystem(rack, nqn).get("state") == LIVE,
             lambda: f"{nqn} does not come to live: {subsystem(rack, nqn)}")


def wait_for_reason(rack, nqn, words):
    wait_for(lambda: words in subsystem(rack, nqn).get("fail", ""),
             lambda: f"no '{words}' for {nqn}: {subsystem(rack, nqn)}")


def wait_for_volume(rack, name, is_ready=True):
    wait_for(lambda: volume_is_ready(rack, name) == is_ready,
             lambda: f"volume {name}:\n" + "\n".join(rack.nic.ask("volumes")))


def wait_until_ready(rack, nsid, timeout_s=90):
    """Until the host can read block 0 of a namespace."""
    device = rack.host.namespace(nsid, timeout_s)
    rack.host.run(f"dd if={device} of=/dev/null bs=4096 count=1 iflag=direct", timeout_s)
    return device


def remote_bytes(rack, nsid, size):
    """(what the host reads at the start of a namespace, what the target's file has), as SHA-256."""
    device, drive = rack.host.namespace(nsid), nsid - 1
    seen = rack.host.run(f"dd if={device} bs=1M count={size // MIB} iflag=direct 2>/dev/null "
                         "| sha256sum", 120).out.split()[0]
    return seen, rack.target.checksum(drive, 0, size)


# --- on a good wire ----------------------------------------------------------------------------

def test_host_sees_the_targets_namespaces(rack):
    """Size, UUID and NGUID are the target's; the model is the NIC's."""
    for nqn, nsid_there, nsid in ((A, 1, ZERO_COPY), (A, 2, TERMINATE), (B, 1, HOST_QUEUES)):
        sub = rack.target.subsystems[nqn]
        name = rack.host.namespace(nsid).removeprefix("/dev/")
        said = rack.host.run(f"cd /sys/block/{name}; cat size uuid; cat nguid").out.split()
        drive = sub.namespaces[nsid_there]
        expected = [str(DRIVES[drive] // 512), sub.uuid(nsid_there), sub.nguid(nsid_there)]
        require(said == expected, f"namespace {nsid}: {said}, not {expected}")


def _mixes(rack, nsid):
    """Sizes from one block to 1 MiB, depth 1 and 128, four jobs; then both ends' views of it."""
    clear_log(rack)
    device = rack.host.namespace(nsid)
    fio(rack, device, 240, bs=512, iodepth=1, size=32 << 10)
    fio(rack, device, 240, bsrange="512-1m", iodepth=16, size=8 * MIB)
    fio(rack, device, 240, bsrange="512-16k", iodepth=128, size=2 * MIB)
    fio(rack, device, 240, bsrange="4k-64k", iodepth=8, size=2 * MIB, numjobs=4,
        offset_increment=2 * MIB, group_reporting=1)
    seen, real = remote_bytes(rack, nsid, 16 * MIB)
    require(seen == real, "the target has other data than the host")
    require_quiet_log(rack)


def test_fio_mixes_zero_copy(rack):
    with Counters(rack) as moved:
        _mixes(rack, ZERO_COPY)
    moved.require_zero_copy(4 * MIB)


def test_fio_mixes_terminate(rack):
    _mixes(rack, TERMINATE)


def host_queues(rack):
    """(I/O queues that lie in the host's memory, requests that found none there, reads of rings)"""
    stats = rack.nic.numbers()
    count = sum(value for name, value in rack.nic.numbers("subsystems").items()
                if name.endswith(".host_queues"))
    return (count, stats["path.host-queues.fallbacks"], stats["path.host-queues.host_ring_reads"])


def test_fio_mixes_host_queues(rack):
    """Over rings in the memory that Linux' driver grants by itself."""
    count, fallbacks, reads = host_queues(rack)
    require(count > 0, "no queue lies in the host's memory")
    _mixes(rack, HOST_QUEUES)
    after = host_queues(rack)
    require(after[1] == fallbacks, f"{after[1] - fallbacks} requests found no ring there")
    require(after[2] > reads, "nothing was read from rings in the host's memory")


def test_filesystem_across_the_fabric(rack):
    host, device = rack.host, rack.host.namespace(TERMINATE)
    host.run(f"mkfs.ext4 -q -F {device} && mount {device} /mnt && cp /usr/bin/fio /mnt && sync && "
             "sha256sum < /mnt/fio > /tmp/sum && umount /mnt", 240)
    host.run(f"echo 3 > /proc/sys/vm/drop_caches; e2fsck -fn {device} && mount {device} /mnt", 120)
    try:
        host.run("sha256sum < /mnt/fio | cmp - /tmp/sum", 120)
    finally:
        host.run("umount /mnt", 60)


def test_write_zeroes_discard_and_flush(rack):
    host, device = rack.host, rack.host.namespace(ZERO_COPY)
    start, size = 4 * MIB, 64 << 10
    host.run(f"dd if=/dev/urandom of={device} bs={size} seek={start // size} count=2 oflag=direct "
             f"2>/dev/null; blkdiscard -z -o {start} -l {size} {device}; nvme flush {device}")
    there = rack.target.content(0, start, 2 * size)
    require(there[:size] == bytes(size) and there[size:] != bytes(size), "not what was asked for")
    host.run(f"blkdiscard -o {start + size} -l {size} {device}")


# --- the target and the wire go away -----------------------------------------------------------

def test_target_restart_under_load(rack):
    """Power cut at the target: the host's I/O waits, nothing fails, nothing is lost."""
    device = drive_with_canary(rack)
    clear_log(rack)
    with Load(rack, device) as load:
        rack.target.restart()
        wait_until_connected(rack, A)
        rack.host.run("sleep 2")
    require(load.runs > 0, "fio has not ended a run")
    require_canary(rack)
    require_quiet_log(rack)


def test_target_that_leaves_in_order_comes_back(rack):
    """The subsystem is taken off its port under load, and put back."""
    device = drive_with_canary(rack)
    with Load(rack, device):
        rack.target.subsystems[A].unlink()
        time.sleep(3)
        rack.target.subsystems[A].link()
        wait_until_connected(rack, A)
    require_canary(rack)


def _cut(rack, seconds):
    device = drive_with_canary(rack)
    clear_log(rack)
    with Load(rack, device):
        rack.fabric.cut("nic")
        time.sleep(seconds)
        rack.fabric.join("all")
        wait_until_connected(rack, A)
        rack.host.run("sleep 2")
    require_canary(rack)
    require_quiet_log(rack)


def test_link_cut_for_one_second(rack):
    _cut(rack, 1)


def test_link_cut_for_ten_seconds(rack):
    _cut(rack, 10)


def test_link_cut_for_ever_fails_cleanly(rack):
    """The hasty volume's I/O ends with an error that names no data; it works again afterwards."""
    device = rack.host.namespace(IMPATIENT)
    read = f"dd if={device} of=/dev/null bs=4096 count=1 iflag=direct"
    rack.host.run(read, 60)
    rack.fabric.cut("nic")
    try:
        result = rack.host.run(read, 400, check=False)
        require(result.code != 0, "a read across a cut link succeeded")
        wait_for_volume(rack, "hasty", False)
    finally:
        rack.fabric.join("all")
    wait_for_volume(rack, "hasty")
    wait_until_ready(rack, IMPATIENT)
    drive_with_canary(rack)


def test_loss_of_one_percent(rack):
    clear_log(rack)
    with rack.fabric.faults("nic", "both", loss="1%", only="roce"):
        for nsid in PATHS:
            fio(rack, rack.host.namespace(nsid), 300, bsrange="4k-64k", iodepth=8, size=2 * MIB)
    for nsid in PATHS:
        seen, real = remote_bytes(rack, nsid, 2 * MIB)
        require(seen == real, f"namespace {nsid}: the target has other data")
    require_quiet_log(rack)


# --- the host and the administrator do things --------------------------------------------------

def test_controller_resets_under_load(rack):
    device = drive_with_canary(rack)
    with Load(rack, device):
        for _ in range(8):
            rack.host.run("nvme reset /dev/nvme0", 120)
            rack.host.run("sleep 0.5")
    wait_for_host(rack)
    require_canary(rack)


def _load_driver(rack, options=""):
    rack.host.run(f"rmmod nvme && modprobe nvme {options}", 120)
    wait_until_ready(rack, HOST_QUEUES)


def test_host_memory_is_taken_back(rack):
    """Resets under load take the Host Memory Buffer and give it again. A driver that grants none is
    served all the same, and told of; one that grants it again has its queues there again."""
    device = rack.host.namespace(HOST_QUEUES)
    with Load(rack, device):
        for _ in range(3):
            rack.host.run("nvme reset /dev/nvme0", 120)
            rack.host.run("sleep 1")
    wait_for_host(rack)
    seen, real = remote_bytes(rack, HOST_QUEUES, 16 * MIB)
    require(seen == real, "the target has other data than the host")
    fallbacks = host_queues(rack)[1]
    told = rack.nic.log().count("grants no memory for queues")
    _load_driver(rack, "max_host_mem_size_mb=0")
    fio(rack, rack.host.namespace(HOST_QUEUES), bs=4096, iodepth=4, size=256 << 10)
    count, now, _ = host_queues(rack)
    require(count == 0 and now > fallbacks, f"{count} queues there, {now - fallbacks} fallbacks")
    require(rack.nic.log().count("grants no memory for queues") > told, "the NIC's log is silent")
    _load_driver(rack)
    fio(rack, rack.host.namespace(HOST_QUEUES), bs=4096, iodepth=4, size=256 << 10)
    require(host_queues(rack)[0] > 0, "no queue lies in the host's memory any more")


def test_volume_detached_and_attached_under_load(rack):
    """Another volume goes and comes while one works; lsblk follows."""
    device = drive_with_canary(rack)
    gone = rack.host.namespace(TERMINATE)
    with Load(rack, device):
        for _ in range(3):
            rack.nic.ask("volume detach old", 30)
            rack.host.run(f"for i in $(seq 200); do [ -b {gone} ] || exit 0; sleep 0.1; done; "
                          "exit 1")
            rack.nic.ask("volume attach old", 30)
            gone = wait_until_ready(rack, TERMINATE)
    require_canary(rack)


def test_target_removes_and_adds_a_namespace(rack):
    """What the target takes away is not ready here, not absent; it comes back by its UUID."""
    device, sub = drive_with_canary(rack), rack.target.subsystems[A]
    old = rack.host.namespace(TERMINATE)
    with Load(rack, device):
        sub.namespace_enable(2, False)
        wait_for_volume(rack, "old", False)
        rack.host.run(f"test -b {old}")
        sub.namespace_enable(2, True)
        wait_until_ready(rack, TERMINATE)
    require_canary(rack)


def test_nic_restart_finds_its_volumes_again(rack):
    """Power cut at the NIC, no I/O under way: the host resets it and goes on."""
    drive_with_canary(rack)
    rack.nic.restart()
    rack.nic.wait_until_up(40)
    rack.host.run("nvme reset /dev/nvme0", 120, check=False)
    device = wait_for_host(rack, 120)
    fio(rack, device, bs=4096, iodepth=8, size=1 * MIB)
    require_canary(rack)


def test_two_queue_pairs_for_each_subsystem(rack):
    """An admin queue and one I/O queue for each, since one core has the port, for whatever number of
    the host's queues and drives."""
    expected = 2 * len(rack.target.subsystems)
    count = rack.target.queue_pairs()
    require(count == expected, f"the target has {count} queue pairs, not {expected}")


TESTS = [test_host_sees_the_targets_namespaces, test_two_queue_pairs_for_each_subsystem,
         test_fio_mixes_zero_copy, test_fio_mixes_terminate, test_fio_mixes_host_queues,
         test_filesystem_across_the_fabric, test_write_zeroes_discard_and_flush,
         test_loss_of_one_percent, test_link_cut_for_one_second, test_link_cut_for_ten_seconds,
         test_target_that_leaves_in_order_comes_back, test_target_restart_under_load,
         test_link_cut_for_ever_fails_cleanly, test_controller_resets_under_load,
         test_host_memory_is_taken_back, test_volume_detached_and_attached_under_load,
         test_target_removes_and_adds_a_namespace, test_nic_restart_finds_its_volumes_again]
SHORT_TESTS = [test_host_sees_the_targets_namespaces, test_fio_mixes_zero_copy,
               test_fio_mixes_terminate, test_fio_mixes_host_queues, test_target_restart_under_load]


# --- four subsystems with four namespaces each ------------------------------------------------

FOUR = [f"nqn.2026-01.rack:four-{i}" for i in range(4)]


def four_by_four_config():
    paths = list(PATHS.values()) + ["zero-copy"]
    sixteen = [Volume(f"d{i}{j}", FOUR[i], j + 1, paths[i], {"wait-ms": WAIT_MS}, subsystem=EAGER)
               for i in range(4) for j in range(4)]
    return nvmf(sixteen, [16 * MIB] * 16, nic_cores=2)


def four_by_four_serve(rack):
    for i, nqn in enumerate(FOUR):
        rack.target.subsystem(nqn, [4 * i + j for j in range(4)])
    for nsid in range(1, 17):
        wait_until_ready(rack, nsid)


def test_sixteen_volumes_hold_their_own_data(rack):
    """A different content on each, written at the same time; the target's files tell them apart."""
    commands = [f"head -c 1048576 /dev/urandom > /tmp/d{nsid}; dd if=/tmp/d{nsid} "
                f"of={rack.host.namespace(nsid)} bs=64k oflag=direct 2>/dev/null &"
                for nsid in range(1, 17)]
    sums = rack.host.run(" ".join(commands) + " wait; cd /tmp; for i in $(seq 16); do "
                         "sha256sum < d$i; done; rm /tmp/d*", 240).out.split()[0::2]
    require(len(sums) == 16, f"{len(sums)} checksums of 16")
    for nsid, expected in enumerate(sums, 1):
        require(rack.target.checksum(nsid - 1, 0, 1 * MIB) == expected, f"namespace {nsid} differs")
    test_two_queue_pairs_for_each_subsystem(rack)


def test_sixteen_volumes_survive_a_target_restart(rack):
    jobs = [rack.host.spawn(f"fio --name=l --filename={rack.host.namespace(nsid)} --rw=randrw "
                            "--bs=4k --size=256k --time_based=1 --runtime=8 --ioengine=libaio "
                            "--direct=1 --iodepth=4 --verify=crc32c --verify_fatal=1 --allow_file_create=0",
                            400) for nsid in (1, 5, 9, 13)]
    rack.host.run("sleep 1")
    require(not any(job.is_done() for job in jobs), "a load has ended before the power cut")
    rack.target.restart()
    for job in jobs:
        job.wait()


FOUR_TESTS = [test_sixteen_volumes_hold_their_own_data,
              test_sixteen_volumes_survive_a_target_restart]


# --- what goes wrong is told -------------------------------------------------------------------

WRONG, REFUSED, FULL = (f"nqn.2026-01.rack:{word}" for word in ("nobody", "refused", "full"))
OTHER_HOSTNQN = "nqn.2026-01.rack:other-host"
PROBLEMS = {  # volume: its subsystem, words of the reason that the console tells
    "wrong": (WRONG, "no such subsystem"), "refused": (REFUSED, "does not allow this host"),
    "full": (FULL, "takes no more controllers"), "silent": (A, "nobody answers"),
}


def problems_config():
    quick = {"backoff-ms": [200, 1000], "connect-timeout-ms": 1500}
    broken = [Volume(name, nqn, 1, "zero-copy", {"wait-ms": 2000, "size": "64M"},
                     address="192.0.2.99" if name == "silent" else "192.0.2.101", subsystem=quick)
              for name, (nqn, _) in PROBLEMS.items()]
    return nvmf([Volume("data", B, 1, "zero-copy"), *broken], [64 * MIB] * 4, host_on_fabric=True,
                host_args=f"{HOST_ARGS} snic.hostnqn={OTHER_HOSTNQN}")


def problems_serve(rack):
    """The host itself takes the only controller ID of the full subsystem."""
    target = rack.target
    target.subsystem(B, [0])
    target.subsystem(REFUSED, [1], allow=["nqn.2026-01.rack:somebody-else"])
    full = target.subsystem(FULL, [2], allow=[OTHER_HOSTNQN], cntlids=(700, 700))
    wait_until_ready(rack, 1)
    rack.host.connect_fabric(target, full.nqn, "-i 1")
    full.allow_hosts(None)


def test_each_problem_is_told(rack):
    for nqn, words in PROBLEMS.values():
        wait_for_reason(rack, nqn, words)


def test_good_volume_beside_bad_ones_works(rack):
    fio(rack, rack.host.namespace(1), bsrange="4k-64k", iodepth=8, size=2 * MIB)


def test_volume_without_path_is_present_and_not_ready(rack):
    """Its size is configured: the host has a drive whose I/O fails, and that works one day."""
    device = rack.host.namespace(3)
    result = rack.host.run(f"dd if={device} of=/dev/null bs=4096 count=1 iflag=direct", 300,
                           check=False)
    require(result.code != 0, "a read from nowhere")
    rack.target.subsystems[REFUSED].allow_hosts([HOSTNQN])
    wait_until_connected(rack, REFUSED)
    wait_until_ready(rack, 3)


def test_full_subsystem_is_used_once_there_is_room(rack):
    rack.host.run("nvme disconnect-all", 60)
    wait_until_connected(rack, FULL)
    wait_until_ready(rack, 4)


def test_subsystem_that_appears_late_is_used(rack):
    rack.target.subsystem(WRONG, [3])
    wait_until_connected(rack, WRONG)
    wait_until_ready(rack, 2)


PROBLEM_TESTS = [test_each_problem_is_told, test_good_volume_beside_bad_ones_works,
                 test_volume_without_path_is_present_and_not_ready,
                 test_full_subsystem_is_used_once_there_is_room,
                 test_subsystem_that_appears_late_is_used]


# --- beside the kernel's own initiator ---------------------------------------------------------

def rates_config():
    return eager_config(host_on_fabric=True)


def _iops(rack, device, pattern, depth, size=4096, seconds=1):
    job = fio(rack, device, 120, name="rate", rw=pattern, bs=size, iodepth=depth, size=16 * MIB,
              runtime=seconds, time_based=1, verify=None, verify_fatal=None)[0]
    return job["read"]["iops"] + job["write"]["iops"]


def rates(rack):
    """[(pattern, depth, {who: IOPS})]: the three data paths, and the same guest's own kernel with
    nvme-rdma over rxe to the same target."""
    sub = rack.target.subsystem("nqn.2026-01.rack:own", [3])
    rack.host.connect_fabric(rack.target, sub.nqn)
    devices = {"kernel": rack.host.namespace_of(sub.uuid(1)),
               **{path: rack.host.namespace(nsid) for nsid, path in PATHS.items()}}
    try:
        return [(pattern, depth, {who: _iops(rack, device, pattern, depth)
                                  for who, device in devices.items()})
                for pattern in ("randread", "randwrite") for depth in (1, 32)]
    finally:
        rack.host.run("nvme disconnect-all", 60, check=False)
        sub.remove()


def test_rates_beside_the_kernels_own_initiator(rack):
    """Ratios are printed, not judged."""
    for pattern, depth, row in rates(rack):
        require(all(row.values()), f"no I/O in some of {row}")
        own = row["kernel"]
        words = "  ".join(f"{who} {iops:.0f} ({iops / own:.2f})" for who, iops in row.items())
        print(f"     {pattern} 4 KiB, depth {depth}: {words}", flush=True)


RATE_TESTS = [test_rates_beside_the_kernels_own_initiator]
