#!/usr/bin/python3
"""Boots the self-test firmware under QEMU and checks what it says: start-up, cores, faults, devices.

  run.py [NAME...]     all tests, or those whose name contains a NAME

Prints "ok NAME (seconds)" or "FAIL NAME" with the console, then "N passed, N failed".
Wants build/qemu-virt/{selftest.elf,selftest.bin,snic.elf,snic.bin,bootloader.bin} and
build/qemu-virt-clang/selftest.elf (make all).
"""
import os
import re
import subprocess
import sys
import tempfile
import time
import traceback

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
sys.dont_write_bytecode = True

# pylint: disable=wrong-import-position
import emu_mgmt
import flash_boot
import flash_cuts
import ivshmem
import trees
import wire
from flash_boot import Failure, check
from machine import ELF, ELF_CLANG, IMAGE, Machine

WAKE_LINE = 'x' * 64 + '\r'
EXIT_STOPPED = 90
EXIT_PANIC = 91


def expect_selftest(machine, *names):
    """The run ended well, no check failed, and those named were made."""
    code = machine.wait()
    failed = re.findall(r'selftest: FAIL (.*)', machine.output)
    check(not failed, 'the firmware says: ' + '; '.join(failed))
    check(code == 0, f'exit code {code}')
    for name in names:
        check(f'selftest: ok {name}:' in machine.output, f'{name} was not checked')


def run_selftest(tests, *names, **options):
    with Machine(f'panic=exit test={tests}', **options) as machine:
        expect_selftest(machine, *names)


# --- start-up ------------------------------------------------------------------------------------

def boot_elf_one_core_at_el1():
    run_selftest('memory,time,cores', 'memory_pool_ends_hold_data', 'idle_deadline_is_kept', cores=1)


def boot_elf_two_cores_at_el1():
    run_selftest('memory,cores', 'cores_lose_no_wake', cores=2)


def boot_elf_four_cores_at_el2():
    run_selftest('memory,cores', 'cores_lose_no_wake', 'libc_works_on_all_cores', cores=4,
                 options=['-M', 'virtualization=on'])


def boot_image_two_cores():
    run_selftest('memory,cores', 'cores_all_start', cores=2, image=IMAGE)


def boot_image_at_el2():
    run_selftest('memory,cores', 'cores_all_start', cores=2, image=IMAGE,
                 options=['-M', 'virtualization=on'])


def boot_from_flash_copies_itself():
    with Machine('', cores=2, image=None, options=['-bios', IMAGE]) as machine:
        machine.wait()  # no bootargs without -kernel: it starts, finds nothing to do, says so
        check('bootargs have no test=' in machine.output, 'the start did not reach app_main()')


def boot_clang_image():
    run_selftest('memory,time,cores', 'cores_lose_no_wake', cores=2, image=ELF_CLANG)


def boot_more_cores_than_the_limit_uses_four():
    with Machine('panic=exit test=cores', cores=6) as machine:
        expect_selftest(machine, 'cores_all_start')
        check('4 of 6 cores are used' in machine.output, 'no word about it')


def boot_memory_above_4_gib():
    run_selftest('memory', 'memory_pool_ends_hold_data', cores=1, memory='6G')


def boot_memory_small():
    run_selftest('memory', 'memory_pool_ends_hold_data', cores=1, memory='128M')


def boot_reaches_app_within_100_ms_of_board_time():
    with Machine('panic=exit test=pmu', cores=1, options=['-icount', 'shift=0']) as machine:
        expect_selftest(machine, 'pmu_counts_are_exact')
        stages = re.findall(r'boot: (.*) \((\d+) us\)', machine.output)
        total_us = sum(int(us) for _, us in stages)
        check(len(stages) >= 5 and total_us < 100000, f'{stages}')
        machine.note = f'{total_us} us'


# --- time and sleep ------------------------------------------------------------------------------

def wake_takes_less_than_50_us_of_board_time():
    with Machine('icount panic=exit test=time,cores', cores=2,
                 options=['-icount', 'shift=0,sleep=off']) as machine:
        expect_selftest(machine, 'cores_wake_in_time', 'idle_deadline_is_kept', 'cores_lose_no_wake')
        machine.note = re.search(r'cores_wake_in_time: (.*)', machine.output)[1].strip()


def idle_cores_cost_nothing_and_input_wakes():
    with Machine('panic=exit test=idle', cores=4) as machine:
        machine.wait_for('selftest: ok idle_begins')
        time.sleep(0.3)
        before_s = machine.cpu_seconds()
        time.sleep(2)
        spent_s = machine.cpu_seconds() - before_s
        machine.send(WAKE_LINE)
        expect_selftest(machine, 'console_receives_by_interrupt')
        check(spent_s <= 0.06, f'{spent_s:.2f} s of CPU in 2 s of idling')
        machine.note = f'{spent_s:.2f} s of CPU in 2 s'


# --- faults --------------------------------------------------------------------------------------

# What the dump of each fault of selftest_fault.c must say, in its order.
FAULTS = [
    ('null_write', r'core 0.*data abort: write to 0x0: nothing is mapped'),
    ('null_read', r'core 0.*data abort: read of 0x10: nothing is mapped'),
    ('exec_data', r'instruction abort: execution at 0x\w+: not allowed by the mapping'),
    ('text_write', r'data abort: write to 0x\w+: not allowed by the mapping'),
    ('rodata_write', r'data abort: write to 0x\w+: not allowed by the mapping'),
    ('device_unaligned', r'data abort: read of 0x9000019: alignment fault'),
    ('undefined', r'undefined instruction'),
    ('stack_overflow', r'stack overflow: guard page of the thread stack'),
    ('fault_in_interrupt', r'data abort: write to 0x20: nothing is mapped'),
    ('overflow_in_interrupt', r'stack overflow: guard page of the exception stack'),
    ('heap_after_seal', r'heap: used after start-up'),
    ('failed_assertion', r'assertion failed: tests/emu/selftest\w*\.c:\d+'),
    ('on_other_core', r'core 1.*data abort: write to 0x0'),
]


def faults_are_dumped_and_remembered_over_a_warm_reset():
    with Machine('test=faults', cores=2) as machine:
        expect_selftest(machine, 'start_after_panic_knows_it', 'start_after_reset_knows_it')
        runs = re.split(r'selftest: fault \d+', machine.output)[1:]
        check(len(runs) == len(FAULTS), f'{len(runs)} faults of {len(FAULTS)}')
        for count, ((name, pattern), text) in enumerate(zip(FAULTS, runs), 1):
            dump = re.search(r'\*\*\* panic on ' + r'(.*)', text)
            check(dump and re.search(pattern, dump[1]), f'{name}: dump says {dump and dump[1]}')
            check(re.search(r'  backtrace:( 0x[0-9a-f]+)+', text), f'{name}: no backtrace')
            reason = dump[1].split(': ', 1)[1].strip()
            check(f'W boot:   {reason}' in text, f'{name}: the next start does not know')
            check(f'ended in panic {count} since power-on' in text, f'{name}: wrong count')
        check('core 0 was stopped at 0x' in runs[-1], 'the other core was not stopped')


def backtrace_names_the_functions():
    with Machine('test=faults panic=exit', cores=1) as machine:
        code = machine.wait()
        check(code == EXIT_PANIC, f'exit code {code}')
        addresses = re.search(r'  backtrace:((?: 0x[0-9a-f]+)+)', machine.output)[1].split()
        names = subprocess.run(['aarch64-linux-gnu-addr2line', '-fe', ELF, *addresses], text=True,
                               capture_output=True, check=True).stdout
        for name in ('selftest_faults', 'app_main', 'boot_cold'):
            check(name in names, f'{name} is not in {names}')


def panic_loop_ends_in_a_halt():
    with Machine('test=panic', cores=1) as machine:
        machine.wait_for('record kept; halted')
        check(machine.output.count('*** panic') == 3, 'not after three panics')
        check('selftest: start 3' in machine.output, 'starts are not counted')


def panic_halt_is_idle_without_semihosting():
    with Machine('test=panic panic=exit', cores=1, semihosting=False) as machine:
        machine.wait_for('record kept; halted')
        check(machine.output.count('*** panic') == 1, 'the missing semihosting was a fault')


def exit_without_semihosting_powers_off():
    with Machine('test=memory', cores=1, semihosting=False) as machine:
        check(machine.wait() == 0, 'PSCI SYSTEM_OFF ends QEMU with 0')
        check('selftest: end, 0 failed' in machine.output, 'did not come to its end')


# --- devices -------------------------------------------------------------------------------------

def ivshmem_memory_and_vectors_work():
    with tempfile.TemporaryDirectory() as folder, \
            ivshmem.Server(f'{folder}/socket', 8 << 30, vectors=3) as server:
        server.write(0, b'from the runner\0')
        options = ['-chardev', f'socket,path={folder}/socket,id=peer',
                   '-device', 'ivshmem-doorbell,vectors=3,chardev=peer']
        with Machine('panic=exit test=devices', cores=2, options=options) as machine:
            expect_selftest(machine, 'bar_memory_is_shared', 'msix_vectors_arrive_once_and_wake')
        check(server.read((8 << 30) - 16, 13) == b'from firmware', 'the last page is not shared')


def drive_options(folder):
    """Two NVMe drives: 512 byte blocks; 4 KiB blocks and at most 32 KiB per command."""
    options = []
    for name, drive, block in (('first', 'nvme,serial=A', ''),
                               ('second', 'nvme,serial=B,mdts=3',
                                ',logical_block_size=4096,physical_block_size=4096')):
        path = f'{folder}/{name}'
        with open(path, 'wb') as file:
            file.truncate(16 << 20)
        options += ['-drive', f'file={path},if=none,format=raw,id={name}',
                    '-device', f'{drive},id=ctrl-{name}',
                    '-device', f'nvme-ns,bus=ctrl-{name},drive={name}{block}']
    return options


def drives_take_all_shapes_from_all_cores():
    with tempfile.TemporaryDirectory() as folder, \
            Machine('panic=exit test=drives', cores=2, options=drive_options(folder)) as machine:
        expect_selftest(machine, 'drive_nvme0n1_core1_gaps', 'drive_nvme1n1_core1_odd',
                        'drive_stages_nothing', 'drive_serves_after_reset')


def drive_read_of_4_kib_is_cheap():
    with tempfile.TemporaryDirectory() as folder, \
            Machine('icount panic=exit test=drives', cores=1,
                    options=drive_options(folder) + ['-icount', 'shift=0,sleep=off']) as machine:
        expect_selftest(machine, 'drive_read_instructions')
        machine.note = re.search(r'drive_read_instructions: (.*)', machine.output)[1].strip()


# --- Ethernet ------------------------------------------------------------------------------------

BAR = ['-object', 'memory-backend-ram,id=bar,size=4M,share=on', '-device', 'ivshmem-plain,memdev=bar']


def eth_frames_of_all_sizes_come_back():
    with tempfile.TemporaryDirectory() as folder, wire.Wire(folder) as cable, \
            Machine('panic=exit test=eth', cores=1, options=cable.options + BAR) as machine:
        machine.wait_for('selftest: ok eth_echo_begins')
        cable.echo(200, [60, 61, 1514, wire.MTU + 14, wire.MTU + 18])
        cable.echo(3000, range(60, wire.MTU + 15))
        cable.tell(wire.END)
        expect_selftest(machine, 'eth_all_frames_were_good', 'eth_frames_left_out_of_the_bar')
        machine.note = re.search(r'eth_all_frames_were_good: (.*)', machine.output)[1].strip()


def eth_idle_core_sleeps_and_a_frame_or_the_link_wakes_it():
    with tempfile.TemporaryDirectory() as folder, wire.Wire(folder) as cable, \
            Machine('panic=exit test=eth', cores=2, options=cable.options + BAR) as machine:
        machine.wait_for('selftest: ok eth_echo_begins')
        for _ in range(20):
            cable.echo(1, [64])
            time.sleep(0.02)
        before_s = machine.cpu_seconds()
        time.sleep(1)
        spent_s = machine.cpu_seconds() - before_s
        cable.set_link(False)
        machine.wait_for('virtio_net: eth0: link down')
        cable.set_link(True)
        machine.wait_for('virtio_net: eth0: link up', count=2)
        cable.echo(10, [3000])
        cable.tell(wire.END)
        expect_selftest(machine, 'eth_core_slept_and_was_woken')
        check(spent_s <= 0.06, f'{spent_s:.2f} s of CPU in 1 s of idling')
        machine.note = re.search(r'was_woken: (.*)', machine.output)[1].strip()


def eth_frames_pass_large_ring_without_event_idx():
    with tempfile.TemporaryDirectory() as folder, \
            wire.Wire(folder, ',event_idx=off,rx_queue_size=1024') as cable, \
            Machine('panic=exit test=eth', cores=1, options=cable.options + BAR) as machine:
        machine.wait_for('selftest: ok eth_echo_begins')
        cable.echo(2500, [60, 700])
        cable.tell(wire.END)
        expect_selftest(machine, 'eth_all_frames_were_good')


def eth_broken_device_is_reset_and_goes_on():
    with tempfile.TemporaryDirectory() as folder, wire.Wire(folder) as cable, \
            Machine('panic=exit test=eth', cores=1, options=cable.options + BAR) as machine:
        machine.wait_for('selftest: ok eth_echo_begins')
        for count in (1, 2):
            cable.echo(300, [60, 1514])
            cable.tell(wire.BREAK)
            machine.wait_for('virtio_net: eth0: started again', count)
        cable.echo(300, [60, 4214])
        time.sleep(0.1)  # the interrupt works again, too
        cable.tell(wire.END)
        expect_selftest(machine, 'eth_all_frames_were_good', 'eth_core_slept_and_was_woken')


def eth_legacy_device_is_left_alone():
    options = ['-device', 'virtio-net-pci,disable-modern=on,disable-legacy=off,romfile=']
    with Machine('panic=exit test=memory', cores=1, options=options) as machine:
        expect_selftest(machine)
        check('virtio-net at 00:01.0: this board or device cannot do it' in machine.output,
              'no word about it')


def eth_frame_is_cheap():
    with tempfile.TemporaryDirectory() as folder, wire.Wire(folder) as cable, \
            Machine('icount panic=exit test=eth', cores=1,
                    options=cable.options + ['-icount', 'shift=0,sleep=off']) as machine:
        machine.wait_for('selftest: ok eth_port_says_what_it_is')
        cable.feed(machine.process, 64)
        expect_selftest(machine, 'eth_instructions')
        machine.note = re.search(r'eth_instructions: (.*)', machine.output)[1].strip()


# --- device trees --------------------------------------------------------------------------------

def broken_tree(edit, message):
    def test():
        with trees.edited(edit) as path, \
                Machine('panic=exit test=memory', cores=2, options=['-dtb', path]) as machine:
            code = machine.wait()
            check(code == EXIT_STOPPED, f'exit code {code}')
            check(f'boot: stopped: {message}' in machine.output, f'it does not say: {message}')
    return test


def tree_unchanged_boots():
    with trees.edited(lambda tree: None) as path:
        run_selftest('memory', cores=2, options=['-dtb', path])


def tree_without_flash_or_msi_frame_boots():
    def edit(tree):
        tree.remove_node('flash@0')
        tree.remove_node('v2m@8020000')
        tree.remove_property('pcie@10000000', 'msi-map')
    with trees.edited(edit) as path, \
            Machine('panic=exit test=memory', cores=1, options=['-dtb', path]) as machine:
        expect_selftest(machine)
        check('board: no flash' in machine.output, 'no word about the flash')
        check('no v2m frame' in machine.output, 'no word about the frame')


BROKEN_TREES = {
    'without_uart': (lambda t: t.remove_node('pl011@9000000'),
                     'device tree: arm,pl011: no such node'),
    'with_disabled_uart': (lambda t: t.add_property('pl011@9000000', 'status = "disabled"'),
                           'device tree: arm,pl011: no such node'),
    'without_pcie': (lambda t: t.remove_node('pcie@10000000'),
                     'device tree: pci-host-ecam-generic: no such node'),
    'with_half_a_pcie_window': (
        lambda t: t.set_property('pcie@10000000', 'ranges', '<0x2000000 0 0x10000000>'),
        "device tree: /pcie@10000000: property 'ranges': does not have seven cells per window"),
    'with_translated_pcie_window': (
        lambda t: t.set_property('pcie@10000000', 'ranges',
                                 '<0x2000000 0 0 0 0x10000000 0 0x1000000>'),
        "device tree: /pcie@10000000: property 'ranges': translates memory"),
    'with_tiny_ecam': (
        lambda t: t.set_property('pcie@10000000', 'reg', '<0x40 0x10000000 0 0x1000>'),
        "device tree: /pcie@10000000: property 'reg': is too small for a bus"),
    'with_three_cells_of_gic': (
        lambda t: t.set_property('intc@8000000', 'reg', '<0 0x8000000 0>'),
        "device tree: /intc@8000000: property 'reg': is not a whole number"),
    'with_half_a_gic': (
        lambda t: t.set_property('intc@8000000', 'reg', '<0 0x8000000 0 0x10000>'),
        "device tree: /intc@8000000: property 'reg': has too few ranges"),
    'with_wrapping_gic': (
        lambda t: t.set_property('intc@8000000', 'reg',
                                 '<0xffffffff 0xffff0000 0 0x20000 0 0x8010000 0 0x10000>'),
        "device tree: /intc@8000000: property 'reg': wraps round"),
    'with_gic_over_memory': (
        lambda t: t.set_property('intc@8000000', 'reg',
                                 '<0 0x40300000 0 0x10000 0 0x8010000 0 0x10000>'),
        "device tree: /intc@8000000: property 'reg': overlaps memory or another device"),
    'with_unknown_gic': (lambda t: t.set_property('intc@8000000', 'compatible', '"arm,gic-v9"'),
                         'device tree: arm,gic-400: no such node'),
    'without_timer': (lambda t: t.remove_node('timer'),
                      'device tree: arm,armv8-timer: no such node'),
    'with_short_timer_interrupts': (
        lambda t: t.set_property('timer', 'interrupts', '<1 13 4>'),
        "device tree: /timer: property 'interrupts': has too few cells"),
    'with_impossible_uart_interrupt': (
        lambda t: t.set_property('pl011@9000000', 'interrupts', '<0 990 4>'),
        "device tree: /pl011@9000000: property 'interrupts': names an interrupt that no GIC has"),
    'without_cores': (lambda t: t.remove_node('cpus'), 'device tree: /cpus: no such node'),
    'with_wide_core_numbers': (
        lambda t: t.set_property('cpu@1', 'reg', '<0 1>'),
        "device tree: /cpus/cpu@1: property 'reg': does not have the cells that /cpus says"),
    'with_spin_table_cores': (
        lambda t: t.set_property('cpu@1', 'enable-method', '"spin-table"'),
        "device tree: /cpus/cpu@1: property 'enable-method': is not psci"),
    'with_flash_without_width': (
        lambda t: t.remove_property('flash@0', 'bank-width'),
        "device tree: /flash@0: property 'bank-width': is missing"),
}


def config_with_wrong_panic_word_stops():
    with Machine('panic=maybe', cores=1) as machine:
        check(machine.wait() == EXIT_STOPPED, 'wrong exit code')
        check("expected reset, halt or exit, not 'maybe'" in machine.output, 'no clear message')


def config_too_long_stops():
    with Machine('x' * 3000, cores=1) as machine:
        check(machine.wait() == EXIT_STOPPED, 'wrong exit code')
        check("/chosen: property 'bootargs': is too long" in machine.output, 'no clear message')


TESTS = [
    boot_elf_one_core_at_el1, boot_elf_two_cores_at_el1, boot_elf_four_cores_at_el2,
    boot_image_two_cores, boot_image_at_el2, boot_from_flash_copies_itself, boot_clang_image,
    boot_more_cores_than_the_limit_uses_four, boot_memory_above_4_gib, boot_memory_small,
    boot_reaches_app_within_100_ms_of_board_time, wake_takes_less_than_50_us_of_board_time,
    idle_cores_cost_nothing_and_input_wakes, faults_are_dumped_and_remembered_over_a_warm_reset,
    backtrace_names_the_functions, panic_loop_ends_in_a_halt,
    panic_halt_is_idle_without_semihosting, exit_without_semihosting_powers_off,
    ivshmem_memory_and_vectors_work, drives_take_all_shapes_from_all_cores,
    drive_read_of_4_kib_is_cheap, eth_frames_of_all_sizes_come_back,
    eth_idle_core_sleeps_and_a_frame_or_the_link_wakes_it,
    eth_frames_pass_large_ring_without_event_idx, eth_broken_device_is_reset_and_goes_on,
    eth_legacy_device_is_left_alone,
    eth_frame_is_cheap, tree_unchanged_boots, tree_without_flash_or_msi_frame_boots,
    config_with_wrong_panic_word_stops, config_too_long_stops, *flash_boot.TESTS,
    *flash_cuts.TESTS,
    *emu_mgmt.TESTS,
]


def all_tests():
    named = [(test.__name__, test) for test in TESTS]
    return named + [(f'tree_{name}_stops', broken_tree(*what)) for name, what in BROKEN_TREES.items()]


def main():
    passed = failed = 0
    for name, test in all_tests():
        if len(sys.argv) > 1 and not any(word in name for word in sys.argv[1:]):
            continue
        Machine.last = None
        start_s = time.monotonic()
        try:
            test()
            note = Machine.last.note if Machine.last else ''
            print(f'ok {name} ({time.monotonic() - start_s:.1f} s)' + (note and f': {note}'),
                  flush=True)
            passed += 1
        except Exception as error:  # pylint: disable=broad-except
            failed += 1
            text = str(error) if isinstance(error, Failure) else traceback.format_exc()
            print(f'FAIL {name}: {text}')
            if Machine.last:
                print('\n'.join('    | ' + line for line in Machine.last.output.splitlines()[-40:]))
            sys.stdout.flush()
    print(f'{passed} passed, {failed} failed')
    return 0 if failed == 0 and passed > 0 else 1


if __name__ == '__main__':
    sys.exit(main())
