"""The host boots its operating system from a namespace of the NIC: no other disk, no kernel by QEMU."""
import time

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
    host.run("head -c 3000000 /dev/urandom > /root/kept; sync")
    before = host.run("sha256sum /root/kept").out
    host.restart()
    require(host.run("sha256sum /root/kept").out == before, "the file has changed")
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
