"""Data: all sizes, depths and alignments by PRP and SGL, a filesystem, the other I/O commands."""
from rack.config import MIB

from rack_common import (DEFAULT_SGL_THRESHOLD, DRIVE, NVME_STATUS_CODE, RAM, RAM_4K, Counters,
                         block_bytes, clear_log, fio, has_nic, nvme_status, require,
                         require_quiet_log, set_sgl_threshold)

# --- fio -----------------------------------------------------------------------------------------


def test_fio_one_block_at_a_time(rack):
    """512 bytes at depth 1 and 128, on a drive and in NIC memory."""
    clear_log(rack)
    for nsid in (DRIVE, RAM):
        device = rack.host.namespace(nsid)
        fio(rack, device, bs=512, iodepth=1, size=256 << 10)
        fio(rack, device, bs=512, iodepth=128, size=1 * MIB)
    fio(rack, rack.host.namespace(RAM_4K), bs=4096, iodepth=128, size=4 * MIB)
    require_quiet_log(rack)


def test_fio_mixed_sizes_with_prps(rack):
    _fio_mixed_sizes(rack, 0)


def test_fio_mixed_sizes_with_sgls(rack):
    _fio_mixed_sizes(rack, 1)


def _fio_mixed_sizes(rack, sgl_threshold):
    clear_log(rack)
    set_sgl_threshold(rack, sgl_threshold)
    try:
        for nsid in (DRIVE, RAM, RAM_4K):
            block = block_bytes(rack, nsid)
            fio(rack, rack.host.namespace(nsid), bsrange=f"{block}-1m", blockalign=block,
                size=32 * MIB)
    finally:
        set_sgl_threshold(rack, DEFAULT_SGL_THRESHOLD)
    require_quiet_log(rack)


def test_fio_unaligned_buffers(rack):
    """Buffers that start 4, 508 and 2052 bytes into a page: offsets in PRP1, odd SGL segments."""
    clear_log(rack)
    device = rack.host.namespace(DRIVE)
    block = block_bytes(rack, DRIVE)
    try:
        for sgl_threshold in (0, 1):
            set_sgl_threshold(rack, sgl_threshold)
            for start in (4, 508, 2052):
                fio(rack, device, bsrange=f"{block}-128k", blockalign=block, iodepth=8,
                    size=4 * MIB, mem_align=start)
    finally:
        set_sgl_threshold(rack, DEFAULT_SGL_THRESHOLD)
    require_quiet_log(rack)


def test_unaligned_buffers_reach_the_nic(rack):
    """The kernel does not copy them: 128 KiB take 33 pages, so a list of 32 entries."""
    if not has_nic(rack):
        return
    set_sgl_threshold(rack, 0)
    try:
        with Counters(rack) as moved:
            fio(rack, rack.host.namespace(RAM), rw="read", bs="128k", size=4 * MIB, mem_align=4,
                verify=None, verify_fatal=None)
    finally:
        set_sgl_threshold(rack, DEFAULT_SGL_THRESHOLD)
    read = moved["fn0.list_read_bytes"]
    require(read == 32 * 32 * 8, f"{read} bytes of PRP lists, not {32 * 32 * 8}")


def test_fio_several_jobs(rack):
    """Four jobs, each with its own part and queue depth, from both of the host's processors."""
    clear_log(rack)
    for nsid in (DRIVE, RAM):
        fio(rack, rack.host.namespace(nsid), bsrange="4k-64k", iodepth=16, size=8 * MIB, numjobs=4,
            offset_increment=8 * MIB, group_reporting=1)
    require_quiet_log(rack)


def test_sgl_and_prp_are_what_the_nic_sees(rack):
    """Lists behind 128 KiB I/Os: a PRP list is 31 entries of 8 bytes; an SGL is not."""
    if not has_nic(rack):
        return
    device = rack.host.namespace(RAM)
    sizes = []
    try:
        for sgl_threshold in (0, 1):
            set_sgl_threshold(rack, sgl_threshold)
            with Counters(rack) as moved:
                rack.host.run(f"dd if={device} of=/dev/null bs=128k count=64 iflag=direct "
                              "2>/dev/null")
            sizes.append(moved["fn0.list_read_bytes"])
            require(moved["fn0.data_to_host_bytes"] == 64 * 128 << 10, f"{moved.moved}")
    finally:
        set_sgl_threshold(rack, DEFAULT_SGL_THRESHOLD)
    require(sizes[0] == 64 * 31 * 8, f"{sizes[0]} bytes of PRP lists, not {64 * 31 * 8}")
    require(sizes[1] != sizes[0] and sizes[1] % 16 == 0, f"{sizes[1]} bytes of SGLs")


def test_drive_data_is_never_staged(rack):
    """Host RAM and drive exchange data without a copy in NIC memory, by PRP and by SGL."""
    if not has_nic(rack):
        return
    device = rack.host.namespace(DRIVE)
    try:
        for sgl_threshold in (0, 1):
            set_sgl_threshold(rack, sgl_threshold)
            with Counters(rack) as moved:
                fio(rack, device, bsrange="4k-256k", iodepth=32, size=16 * MIB)
            moved.require_zero_copy(8 * MIB)
    finally:
        set_sgl_threshold(rack, DEFAULT_SGL_THRESHOLD)


def test_traffic_per_command_is_within_bounds(rack):
    """One SQE fetch or less and one CQE write at most per I/O, at depth 32; interrupts likewise."""
    if not has_nic(rack):
        return
    device = rack.host.namespace(RAM)
    with Counters(rack) as moved:
        fio(rack, device, bs=4096, iodepth=32, size=8 * MIB)
    commands = moved["fn0.commands"]
    for name in ("fn0.sqe_reads", "fn0.cqe_writes", "fn0.interrupts"):
        require(moved[name] <= commands + 16, f"{name}: {moved[name]} for {commands} commands")


# --- a filesystem --------------------------------------------------------------------------------

def test_filesystem_survives_remounts(rack):
    for nsid in (RAM_4K, DRIVE):
        _use_filesystem(rack.host, rack.host.namespace(nsid))


def _use_filesystem(host, device):
    host.run(f"mkfs.ext4 -q -F {device} && mount -o discard {device} /mnt", 60)
    try:
        host.run("mkdir /mnt/files && cp -r /usr/bin/fio /usr/bin/nvme /usr/bin/busybox /mnt/files "
                 "&& dd if=/dev/urandom of=/mnt/files/random bs=1M count=8 2>/dev/null && sync", 60)
        before = host.run("cd /mnt/files && sha256sum *").out
        host.run("rm /mnt/files/random && cp /mnt/files/fio /mnt/files/copy && sync", 60)
    finally:
        host.run("cd /; umount /mnt", 60)
    host.run(f"echo 3 > /proc/sys/vm/drop_caches; e2fsck -fn {device} && mount {device} /mnt", 60)
    try:
        after = host.run("cd /mnt/files && sha256sum busybox copy fio nvme").out.split()
    finally:
        host.run("cd /; umount /mnt", 60)
    sums = dict(zip(before.split()[1::2], before.split()[0::2]))
    require(after[0::2] == [sums[name] for name in ("busybox", "fio", "fio", "nvme")],
            "a file has changed")


# --- the other commands --------------------------------------------------------------------------

BYTES, START = 64 << 10, 4 * MIB
INVALID_OPCODE, COMPARE_FAILURE = 0x001, 0x285


def _random(host, device, size=BYTES):
    """Writes random data at START; leaves it in /tmp/data, too."""
    host.run(f"head -c {size} /dev/urandom > /tmp/data && dd if=/tmp/data of={device} bs={size} "
             f"seek={START // size} oflag=direct 2>/dev/null")


def _count_other_bytes(host, device, size, value="\\0"):
    """How many of the bytes at START are not `value`."""
    return int(host.run(f"dd if={device} bs={size} skip={START // size} count=1 iflag=direct "
                        f"2>/dev/null | tr -d '{value}' | wc -c").out)


def test_write_zeroes_leaves_zeroes(rack):
    """blkdiscard -z (the kernel's Write Zeroes) and nvme-cli's, with and without deallocation."""
    for nsid in (DRIVE, RAM, RAM_4K):
        device = rack.host.namespace(nsid)
        block = block_bytes(rack, nsid)
        by_nvme_cli = f"nvme write-zeroes {device} -s {START // block} -c {BYTES // block - 1}"
        for command in (f"blkdiscard -z -o {START} -l {BYTES} {device}", by_nvme_cli,
                        f"{by_nvme_cli} -d"):
            _random(rack.host, device)
            rack.host.run(command)
            require(_count_other_bytes(rack.host, device, BYTES) == 0, f"not zero after {command}")


def test_discard_keeps_the_rest(rack):
    """What is discarded may read as anything; what is beside it stays."""
    for nsid in (DRIVE, RAM, RAM_4K):
        device = rack.host.namespace(nsid)
        _random(rack.host, device)
        half = BYTES // 2
        rack.host.run(f"blkdiscard -o {START} -l {half} {device}")
        rack.host.run(f"dd if={device} bs={half} skip={START // half + 1} count=1 iflag=direct "
                      f"2>/dev/null > /tmp/rest && tail -c {half} /tmp/data | cmp - /tmp/rest")


def test_compare_finds_one_other_byte(rack):
    for nsid in (DRIVE, RAM, RAM_4K):
        device = rack.host.namespace(nsid)
        block = block_bytes(rack, nsid)
        count = 16384 // block
        words = f"-s {START // block} -c {count - 1} -z 16384 -d"
        rack.host.run(f"head -c 16384 /dev/urandom > /tmp/a && nvme write {device} {words} /tmp/a "
                      f"&& nvme compare {device} {words} /tmp/a")
        rack.host.run("cp /tmp/a /tmp/b; printf '\\132\\245' | "
                      "dd of=/tmp/b bs=1 seek=10001 conv=notrunc 2>/dev/null")
        status = nvme_status(rack.host.run(f"nvme compare {device} {words} /tmp/b", check=False))
        require(status & NVME_STATUS_CODE == COMPARE_FAILURE, f"namespace {nsid}: {status:#x}")


def test_verify_and_flush(rack):
    """Verify is offered where the namespace's device has it: NIC memory does, a drive may not."""
    for nsid in (DRIVE, RAM, RAM_4K):
        device = rack.host.namespace(nsid)
        rack.host.run(f"nvme flush {device} -n {nsid}")
        status = nvme_status(rack.host.run(f"nvme verify {device} -s 0 -c 63", check=False))
        allowed = (0, INVALID_OPCODE) if nsid == DRIVE else (0,)
        require(status & NVME_STATUS_CODE in allowed, f"namespace {nsid}: verify: {status:#x}")


def test_force_unit_access_and_no_write_cache(rack):
    """Writes with FUA; then with the volatile write cache off (feature 6), and on again."""
    device = rack.host.namespace(DRIVE)
    words = f"-s {START // 512} -c 7 -z 4096"
    rack.host.run("head -c 4096 /dev/urandom > /tmp/a; rm -f /tmp/b")
    for before, after in (("true", "true"),
                          ("nvme set-feature /dev/nvme0 -f 6 --value=0",
                           "nvme set-feature /dev/nvme0 -f 6 --value=1")):
        rack.host.run(f"{before} && nvme write {device} {words} -d /tmp/a -f && "
                      f"nvme read {device} {words} -d /tmp/b && cmp /tmp/a /tmp/b && {after}")


TESTS = [test_fio_one_block_at_a_time, test_fio_mixed_sizes_with_prps,
         test_fio_mixed_sizes_with_sgls, test_fio_unaligned_buffers,
         test_unaligned_buffers_reach_the_nic, test_fio_several_jobs,
         test_sgl_and_prp_are_what_the_nic_sees, test_drive_data_is_never_staged,
         test_traffic_per_command_is_within_bounds, test_filesystem_survives_remounts,
         test_write_zeroes_leaves_zeroes, test_discard_keeps_the_rest,
         test_compare_finds_one_other_byte, test_verify_and_flush,
         test_force_unit_access_and_no_write_cache]
