"""The NIC boots from flash: bootloader, slot, configuration; it comes back from there."""
from rack_common import drive_with_canary, fio, require, require_canary, wait_until_live

import rack_life

UP_S = 30


def test_flash_boot_serves_io(rack):
    """Nothing but flash tells the NIC what to do, and the host sees its drives."""
    log = rack.nic.log()
    require("the bootloader started slot A" in log, "the bootloader did not start it")
    require("configured by a device tree" in log, "the configuration in flash is not used")
    fio(rack, drive_with_canary(rack), bsrange="4k-128k", size="16M")
    require_canary(rack)


def test_flash_reset_of_the_nic_comes_back(rack):
    """By the console, and by QEMU: each time through the bootloader, which has a record by now."""
    drive_with_canary(rack)
    for reset in (lambda: rack.nic.tell("reset"), rack.nic.reset):
        reset()
        rack.nic.wait_until_up(UP_S)
        log = rack.nic.log()
        require("the bootloader started slot A" in log, "the bootloader did not start it")
        require("no boot record" not in log, "the record was not kept")
        rack_life.recover(rack)
        wait_until_live(rack)
        require_canary(rack)
    require("running: A, active: A" in "\n".join(rack.nic.ask("update")), "slot A is not active")


def test_flash_power_cut_of_the_nic_comes_back(rack):
    rack_life.test_nic_restart_while_the_host_waits(rack)
    require("the bootloader started slot A" in rack.nic.log(), "the bootloader did not start it")


TESTS = [test_flash_boot_serves_io, test_flash_reset_of_the_nic_comes_back,
         test_flash_power_cut_of_the_nic_comes_back]
