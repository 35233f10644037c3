#!/usr/bin/python3
"""The rack's tests: an unmodified Linux host uses the firmware's NVMe function in every way it can.

    rack.py [PATTERN...]          all, or those whose suite/name contains a pattern
    rack.py --list

Each suite starts one rack; its tests run one after the other on it. Logs: build/rack/test-<suite>/.
"""
import os
import sys

sys.dont_write_bytecode = True
TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(TOP, "boards", "qemu-virt"))

# pylint: disable=wrong-import-position
import rack_admin
import rack_boot
import rack_doorbells
import rack_fabric
import rack_flash
import rack_handover
import rack_ibv
import rack_io
import rack_life
import rack_nvmf
import rack_reset
import rack_roce
import rack_snicctl
import rack_snicctl_change
import rack_target
import rack_update
from rack import RackConfig
from rack.images import BOOT_DISK
from rack.testing import Suite, main
from rack_common import HOST_ARGS, NAMESPACES, NATIVE_NAMESPACES


def config(**changes):
    return RackConfig(namespaces=NAMESPACES, host_args=HOST_ARGS, **changes)


def boot(firmware):
    """The host has nothing but the NIC's drive."""
    return RackConfig(host_boot=firmware, nic_drive_image=BOOT_DISK)


def roce(**changes):
    """The NIC and a Linux guest on the switch; no host."""
    return RackConfig(host=False, fabric=True, peers=1, nic_drives=0, namespaces="ram:16M",
                      nic_args="diag=rping,perf", **changes)


def linux_pair(**changes):
    return RackConfig(board="none", host=False, fabric=True, peers=2, **changes)


def linux_and_target(**changes):
    """A host without a NIC, whose own kernel is the target's initiator."""
    return RackConfig(board="none", fabric=True, host_on_fabric=True, peers=0, targets=1,
                      target_drives=rack_target.DRIVES, mtu=4200, **changes)


SHORT = [rack_admin.test_probe_finds_all_namespaces, rack_admin.test_id_ns_says_size_and_block,
         rack_io.test_fio_mixed_sizes_with_sgls,
         rack_io.test_fio_unaligned_buffers, rack_reset.test_controller_reset_loop_under_load]

SUITES = [
    Suite("linux-6.12", config(),
          rack_admin.TESTS + rack_io.TESTS + rack_reset.TESTS + rack_life.TESTS),
    # two NIC cores, doorbells that pcielink traps and Linux shadows
    Suite("trapped", config(doorbells="trapped", nic_cores=2),
          [rack_admin.test_probe_finds_all_namespaces] + rack_doorbells.TESTS + [
              rack_life.test_idle_nic_uses_little_cpu, rack_io.test_fio_mixed_sizes_with_prps,
              rack_io.test_fio_several_jobs, rack_reset.test_controller_reset_loop_under_load,
              rack_reset.test_function_level_reset_under_load,
              rack_life.test_nic_restart_while_the_host_waits]),
    # the older kernel, and a drive with large blocks
    Suite("linux-6.1", config(guest="guest-6.1", nic_drive_lba_bytes=4096), SHORT),
    # the same firmware as a process of this machine, memory in place of the drive
    Suite("native", RackConfig(board="native", namespaces=NATIVE_NAMESPACES, host_args=HOST_ARGS),
          SHORT + [rack_reset.test_unbind_and_bind_under_load,
                   rack_reset.test_function_level_reset_under_load,
                   rack_reset.test_bus_master_off_under_load]),
    # the NIC's bootloader starts the firmware, whose configuration is in flash, too; updates
    Suite("flash", config(nic_boot="flash", nic_cores=2),
          rack_flash.TESTS + rack_update.TESTS),
    # a new image goes on serving the host of the old one
    Suite("handover", RackConfig(nic_boot="flash", nic_cores=2, namespaces="drive:0",
                                 host_args=HOST_ARGS), rack_handover.TESTS),
    Suite("flash-remote", rack_nvmf.eager_config(nic_boot="flash", nic_cores=2),
          rack_snicctl.TESTS + rack_snicctl_change.TESTS + rack_handover.REMOTE_TESTS,
          rack_nvmf.serve),
    # a board without volumes, whose host may do everything
    Suite("bare", rack_snicctl_change.bare_config(), rack_snicctl_change.BARE_TESTS),
    # an operating system on the drive behind the NIC, found by SeaBIOS and by OVMF
    Suite("boot-bios", boot("bios"), rack_boot.TESTS),
    Suite("boot-uefi", boot("uefi"), rack_boot.TESTS),
    # the NIC speaks RoCEv2 with Linux' rxe: path MTU 1024, and 4096 with a VLAN tag
    Suite("roce", roce(mtu=1500), rack_roce.TESTS),
    Suite("roce-4200", roce(mtu=4200, guest="guest-6.1", vlan=7), rack_roce.LARGE_MTU_TESTS),
    # the native board's Ethernet port is the switch's datagram socket: no virtio-net, no guest
    Suite("native-fabric", RackConfig(board="native", host=False, fabric=True, peers=1, mtu=4200,
                                      namespaces="ram:16M", nic_args="diag=rping,perf"),
          rack_roce.NATIVE_TESTS),
    # two Linux guests on the Ethernet switch, no NIC: what the fabric's tests stand on
    Suite("fabric-linux", linux_pair(mtu=1500), rack_fabric.TESTS + rack_ibv.TESTS),
    Suite("fabric-linux-4200", linux_pair(mtu=4200, guest="guest-6.1"),
          rack_fabric.LARGE_MTU_TESTS + rack_ibv.TESTS),
    # Linux' nvme-rdma and nvmet, no NIC: what the initiator's tests stand on
    Suite("target", linux_and_target(), rack_target.TESTS),
    Suite("target-6.1", linux_and_target(guest="guest-6.1"), rack_target.TESTS[1:2]),
    # the host's drives are namespaces of that target, through the NIC
    Suite("nvmf", rack_nvmf.main_config(), rack_nvmf.TESTS, rack_nvmf.serve),
    # the older kernel, RoCE packets of 1 KiB, two NIC cores
    Suite("nvmf-6.1", rack_nvmf.eager_config(guest="guest-6.1", mtu=1500, nic_cores=2),
          rack_nvmf.SHORT_TESTS, rack_nvmf.serve),
    Suite("nvmf-4x4", rack_nvmf.four_by_four_config(), rack_nvmf.FOUR_TESTS,
          rack_nvmf.four_by_four_serve),
    Suite("nvmf-problems", rack_nvmf.problems_config(), rack_nvmf.PROBLEM_TESTS,
          rack_nvmf.problems_serve),
    Suite("nvmf-rates", rack_nvmf.rates_config(), rack_nvmf.RATE_TESTS, rack_nvmf.serve),
    Suite("boot-bios-remote", rack_boot.remote_config("bios"), rack_boot.REMOTE_TESTS),
    Suite("boot-uefi-remote", rack_boot.remote_config("uefi"),
          rack_boot.REMOTE_SHORT_TESTS),
]

if __name__ == "__main__":
    sys.exit(main(SUITES))
