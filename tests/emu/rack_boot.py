"""The host boots its operating system from a namespace of the NIC: no other disk, no kernel by QEMU."""
import time

from rack.config import RackConfig
from rack.images import BOOT_DISK
from rack.tree import Volume, volumes_tree

from rack_common import require


def root_drive(rack):
    """(device of the root filesystem, its drive); a partition of one of the NIC's namespaces."""
    device = rack.host.run("awk '$2 == \"/\" && $3 == \"ext4\" { print $1 }' /proc/mounts").out.strip()
    require(device.startswith("/dev/nvme"), f"the root filesystem is on {device or 'no drive'}")
    return device, device.rpartition("p")[0]


def test_root_filesystem_is_on_the_nics_drive(rack):
    """By the firmware that is asked for, and nothing else is there to boot from."""
    host = rack.host
    _, drive = root_drive(rack)
    require(drive == host.namespace(1), f"root is on {drive}, not on namespace 1")
    others = host.run("ls /sys/block | grep -vE '^(nvme|loop|ram|nullb)'", check=False).out
    require(not others, f"other drives: {others}")
    is_uefi = host.run("test -d /sys/firmware/efi", check=False).code == 0
    require(is_uefi == (rack.config.host_boot == "uefi"), "booted by the other firmware")


def test_drive_keeps_what_the_host_writes(rack):
    """Power cut after sync, boot: the file is there, and the filesystem is whole."""
    host = rack.host
    host.run("head -c 3000000 /dev/urandom > /kept; sync")
    before = host.run("sha256sum /kept").out
    host.restart()
    require(host.run("sha256sum /kept").out == before, "the file has changed")
    errors = host.run("dmesg | grep -E 'EXT4-fs error|I/O error' | head -3", check=False).out
    require(not errors, errors)


def test_nic_and_host_are_powered_on_together(rack):
    """As in a server: the host's firmware starts while the NIC's does."""
    rack.host.stop()
    rack.nic.stop()
    time.sleep(1)
    rack.nic.start()
    rack.host.start()
    rack.nic.wait_until_up()
    rack.host.wait_until_up()
    root_drive(rack)


def test_reset_button_boots_again(rack):
    rack.host.reboot()
    root_drive(rack)


TESTS = [test_root_filesystem_is_on_the_nics_drive, test_drive_keeps_what_the_host_writes,
         test_nic_and_host_are_powered_on_together, test_reset_button_boots_again]


# --- from a volume across the fabric -----------------------------------------------------------

NQN = "nqn.2026-01.rack:boot"


def remote_config(firmware):
    """The only drive of the host is a remote one; the target's first drive has the system on it."""
    volume = Volume("system", NQN, 1, "zero-copy", {"wait-ms": 150000, "size": "191M"})
    return RackConfig(host_boot=firmware, fabric=True, peers=0, targets=1, nic_drives=0, mtu=4200,
                      target_drives=[BOOT_DISK], target_serves={NQN: [0]},
                      tree=volumes_tree([volume], {"serve-wait-ms": 19000}))


def test_targets_drive_has_what_the_host_wrote(rack):
    """The operating system's own file, found in the target's view of its drive."""
    mark = f"written by the host at {time.time():.3f} on its root filesystem"
    rack.host.run(f"echo '{mark}' > /mark; sync")
    require(mark.encode() in rack.target.content(0), "the target's drive has no such bytes")


def test_system_survives_a_target_restart(rack):
    """The root filesystem's own drive goes away and comes back."""
    job = rack.host.spawn("set -e; rm -f /stop; i=0; until [ -e /stop ]; do i=$((i % 20 + 1)); "
                          "head -c 100000 /dev/urandom > /f$i; sync; done; echo written", 400)
    rack.host.run("sleep 0.5")
    require(not job.is_done(), "the writes have ended before the power cut")
    rack.target.restart()
    rack.host.run("touch /stop", 200)
    require("written" in job.wait().out, "the host could not write")
    errors = rack.host.run("dmesg | grep -E 'EXT4-fs error|I/O error' | head -3", check=False).out
    require(not errors, errors)


REMOTE_TESTS = TESTS + [test_targets_drive_has_what_the_host_wrote,
                        test_system_survives_a_target_restart]
REMOTE_SHORT_TESTS = [test_root_filesystem_is_on_the_nics_drive, test_reset_button_boots_again,
                      test_targets_drive_has_what_the_host_wrote]
