"""Resets of all kinds while the host works: nothing may fail for good, no byte may change."""
import time

from rack_common import (IO_TIMEOUT_S, LOAD_BYTES, LOAD_OFFSET, Load, clear_log, drive_with_canary,
                         fio, has_nic, pci_device, require, require_canary, wait_until_live)

SETTLE_S = 60


def test_controller_reset_loop_under_load(rack):
    device = drive_with_canary(rack)
    with Load(rack, device) as load:
        for _ in range(15):
            rack.host.run("nvme reset /dev/nvme0", SETTLE_S)
    require(load.runs > 0, "fio has not ended a run")
    require_canary(rack)


def test_rescan_and_identify_under_load(rack):
    device = drive_with_canary(rack)
    with Load(rack, device):
        for _ in range(10):
            rack.host.run("nvme ns-rescan /dev/nvme0 && nvme id-ctrl /dev/nvme0 > /dev/null "
                          "&& nvme smart-log /dev/nvme0 > /dev/null && nvme list > /dev/null",
                          SETTLE_S)
    require_canary(rack)


def test_unbind_and_bind_under_load(rack):
    """The driver lets go in the middle of I/O, and takes the function again."""
    for _ in range(3):
        device = drive_with_canary(rack)
        address = pci_device(rack).rsplit("/", 1)[-1]
        with Load(rack, device, may_fail=True):
            driver = "/sys/bus/pci/drivers/nvme"
            rack.host.run(f"echo {address} > {driver}/unbind", SETTLE_S)
            rack.host.run(f"echo {address} > {driver}/bind", SETTLE_S)
        fio(rack, require_canary(rack), bsrange="4k-64k", offset=LOAD_OFFSET, size=LOAD_BYTES)


def test_function_level_reset_under_load(rack):
    """FLR through PCI: the host's driver is told and takes the controller up again."""
    device = drive_with_canary(rack)
    folder = pci_device(rack)
    methods = rack.host.run(f"cat {folder}/reset_method").out
    require("flr" in methods, f"reset methods: {methods}")
    rack.host.run(f"echo flr > {folder}/reset_method")
    with Load(rack, device) as load:
        for _ in range(8):
            rack.host.run(f"echo 1 > {folder}/reset", SETTLE_S)
            wait_until_live(rack)
    require(load.runs > 0, "fio has not ended a run")
    require_canary(rack)


def test_hot_function_level_reset(rack):
    """FLR behind the driver's back (Initiate Function Level Reset by setpci): I/O hangs until the
    host's time-out, then its driver finds the function as after power-on and starts it again."""
    device = drive_with_canary(rack)
    folder = pci_device(rack)
    address = folder.rsplit("/", 1)[-1]
    clear_log(rack)
    with Load(rack, device):
        # bit 15 of Device Control; FLR clears the function's whole configuration
        rack.host.run(f"head -c 64 {folder}/config > /tmp/config; "
                      f"setpci -s {address} CAP_EXP+8.w=8000:8000; sleep 0.2; "
                      f"setpci -s {address} COMMAND=0406:0406")
        time.sleep(IO_TIMEOUT_S)
        rack.host.run("nvme reset /dev/nvme0", SETTLE_S, check=False)
        _recover(rack, folder)
    require_canary(rack)


def _recover(rack, folder):
    """As an administrator would: a reset through PCI restores the configuration, too."""
    rack.host.run(f"echo 1 > {folder}/reset", SETTLE_S, check=False)
    wait_until_live(rack, SETTLE_S)


def test_bus_master_off_under_load(rack):
    """Bus mastering cleared: not one access of ours to host memory; set again: it goes on."""
    device = drive_with_canary(rack)
    address = pci_device(rack).rsplit("/", 1)[-1]
    with Load(rack, device) as load:
        for seconds in (0.2, 1):
            rack.host.run(f"setpci -s {address} COMMAND=0000:0004; sleep {seconds}; "
                          f"setpci -s {address} COMMAND=0004:0004")
            rack.host.run("sleep 1")
    require(load.runs > 0, "fio has not ended a run")
    require_canary(rack)


def test_bus_master_off_until_the_host_resets(rack):
    """Off for longer than the host's time-out: its driver resets the controller and goes on."""
    device = drive_with_canary(rack)
    folder = pci_device(rack)
    address = folder.rsplit("/", 1)[-1]
    clear_log(rack)
    with Load(rack, device):
        rack.host.run(f"setpci -s {address} COMMAND=0000:0004")
        complained = rack.host.run(f"for i in $(seq {3 * IO_TIMEOUT_S * 5}); do dmesg | "
                                   "grep 'nvme nvme.*timeout' && exit 0; sleep 0.2; done", 60).out
        rack.host.run(f"sleep 1; setpci -s {address} COMMAND=0004:0004")
        require(complained, "the host has not noticed that I/O hangs")
        wait_until_live(rack, SETTLE_S)
    require_canary(rack)


def test_reset_by_the_link(rack):
    """pcielink's own FLR: as if the slot's reset line was pulled, behind the host's back."""
    if not has_nic(rack):
        return
    device = drive_with_canary(rack)
    with Load(rack, device):
        rack.link.control("flr")
        rack.host.run("sleep 1")
        _recover(rack, pci_device(rack))
    require_canary(rack)


TESTS = [test_controller_reset_loop_under_load,
         test_rescan_and_identify_under_load, test_unbind_and_bind_under_load,
         test_function_level_reset_under_load, test_hot_function_level_reset,
         test_bus_master_off_under_load, test_bus_master_off_until_the_host_resets,
         test_reset_by_the_link]
