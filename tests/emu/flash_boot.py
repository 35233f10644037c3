"""Tests of tests/emu/run.py: QEMU's `virt` boots from flash: bootloader, slots, trials, watchdog."""
import os
import random
import re
import struct
import subprocess
import sys
import tempfile
import time
import zlib

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, 'boards/qemu-virt'))

# pylint: disable=wrong-import-position
import flash_image as flash
import mgmt
from machine import Machine

BUILD = os.path.join(ROOT, 'build/qemu-virt')
KEY = os.path.join(ROOT, 'boards/keys/development.key')
SERVING = 'ms after the start'  # the end of "app: serving ..."
ICOUNT = ['-icount', 'shift=0']
# What does nothing is skipped: a hang costs no time here.
ICOUNT_SKIPS = ['-icount', 'shift=0,sleep=off']
WATCHDOG = ['-device', 'i6300esb', '-action', 'watchdog=reset']
TRIAL_ATTEMPTS = 3


class Failure(Exception):
    """A check of a test did not hold."""


def check(holds, text):
    if not holds:
        raise Failure(text)


class Board:
    """Two banks of flash in a folder; machines on them, one after the other."""

    def __init__(self):
        self._folder = tempfile.TemporaryDirectory()
        self.folder = self._folder.name
        self.bank0 = os.path.join(self.folder, 'flash0.img')
        self.bank1 = os.path.join(self.folder, 'flash1.img')
        self.fill({})
        flash.make_bank(self.bank0, {0: flash.read(f'{BUILD}/bootloader.bin')})

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._folder.cleanup()

    def fill(self, parts):
        flash.make_bank(self.bank1, parts)

    def image(self, name='snic', key=KEY, **head):
        """(FIT, Head) of build/qemu-virt/NAME.bin that says `head` of itself."""
        data = flash.with_head(flash.read(f'{BUILD}/{name}.bin'), **head)
        path = os.path.join(self.folder, 'image.fit')
        flash.make_fit(data, key, path)
        return flash.read(path), flash.Head(data)

    def slots(self, first, second=None, config=None, **record):
        """Fills both slots, each an image() or None, and writes a record: see flash.record()."""
        parts = {}
        for offset, image in zip(flash.SLOT_OFFSETS, (first, second)):
            if image:
                parts[offset] = image[0]
        sizes = [image and (len(image[0]), image[1]) for image in (first, second)]
        parts[0] = flash.record(slots=sizes, **record)
        if config:
            parts[flash.CONFIG_OFFSET] = config
        self.fill(parts)

    def record(self):
        return flash.read_record(self.bank1)

    def configs(self):
        """Both copies."""
        return flash.read(self.bank1)[flash.CONFIG_OFFSET:flash.SLOT_OFFSETS[0]]

    def start(self, bootargs='', options=(), cores=1, memory='512M'):
        """`-kernel` does not start anything when there is flash: it brings the bootargs along."""
        banks = ['-drive', f'if=pflash,format=raw,readonly=on,file={self.bank0}',
                 '-drive', f'if=pflash,format=raw,file={self.bank1}']
        # QEMU's main loop misses wake-ups of a core that writes flash, or is reset: see rack/flash.py
        tick = ['-chardev', 'socket,id=tick,path=nobody.listens,reconnect-ms=100']
        carrier = f'{BUILD}/selftest.bin' if bootargs else None
        return Machine(bootargs, cores=cores, memory=memory, image=carrier,
                       options=[*banks, *tick, *options])


def damaged(image, at=0.5):
    """One bit of the FIT is another."""
    fit, head = bytearray(image[0]), image[1]
    fit[int(len(fit) * at)] ^= 0x10
    return bytes(fit), head


def wait_for_slots(machine, text):
    """Until the console's `update` says so: a record is written after it was asked for."""
    for _ in range(20):
        if text in machine.output:
            return
        machine.send('update\r')
        time.sleep(0.1)
    check(False, f'`update` never said "{text}"')


# --- choosing --------------------------------------------------------------------------------------

def flash_new_board_starts_slot_a_and_records_it():
    with Board() as board:
        image = board.image()
        board.fill({flash.SLOT_OFFSETS[0]: image[0]})
        with board.start(cores=2) as machine:
            machine.wait_for(SERVING)
            check('the bootloader started slot A, after' in machine.output, 'not told the firmware')
        expected = (1, 0, flash.NONE, 0, [(len(image[0]), image[1].version, 0), (0, '', 0)])
        check(board.record() == expected, f'the record is {board.record()}')
        with board.start() as machine:
            machine.wait_for(SERVING)
            check('no boot record' not in machine.output, 'the record is not read')
        check(board.record() == expected, f'a start changed the record to {board.record()}')


def flash_damaged_slot_a_starts_b():
    with Board() as board:
        good = board.image(version='0.2')
        for at in (0, 0.3, 0.9):
            board.slots(damaged(board.image(), at), good, active=0)
            with board.start() as machine:
                machine.wait_for(SERVING)
                check('bootloader started slot B' in machine.output, 'it is not slot B')
                check('snic 0.2 on qemu-virt' in machine.output, 'the wrong image runs')
                machine.wait_for('it is confirmed')
                wait_for_slots(machine, 'running: B, active: B')
            check(board.record()[1:3] == (1, flash.NONE), f'the record is {board.record()}')
            check(board.record()[4][0][0] == 0, 'slot A may still be started')


def flash_both_slots_damaged_ends_in_the_recovery():
    with Board() as board:
        bad = damaged(board.image())
        board.slots(bad, bad, active=0)
        with board.start() as machine:
            machine.wait_for('recovery: waits for an image')
            check('the image in slot A is damaged' in machine.output, 'no word about A')
            check('the image in slot B is damaged' in machine.output, 'no word about B')
        board.fill({})
        with board.start() as machine:
            machine.wait_for('recovery: waits for an image')


def flash_unsigned_or_foreign_images_never_start():
    with Board() as board:
        other = os.path.join(board.folder, 'other.key')
        subprocess.run(['openssl', 'genrsa', '-out', other, '2048'], check=True,
                       capture_output=True)
        signed = board.image(version='0.2')
        for image, why in ((board.image(key=None), 'is not signed'),
                           (board.image(key=other), 'is signed by another key'),
                           (board.image(board='qemu-other'), 'is for another board')):
            board.fill({flash.SLOT_OFFSETS[0]: image[0], flash.SLOT_OFFSETS[1]: signed[0]})
            with board.start() as machine:
                machine.wait_for(SERVING)
                check(f'the image in slot A {why}' in machine.output, f'not told that it {why}')
                check('bootloader started slot B' in machine.output, 'it is not slot B')
            board.slots(image, image, active=0, trial=1, attempts_left=2)
            with board.start() as machine:
                machine.wait_for('recovery: waits for an image')
                check('snic: start' not in machine.output, f'an image that {why} was started')


def flash_image_below_the_least_security_version_never_starts():
    with Board() as board:
        old = board.image(security_version=4)
        new = board.image(version='0.5', security_version=5)
        # the record says 5 of the slot, its image says 4
        board.slots((old[0], new[1]), new, active=0, min_security_version=5)
        with board.start() as machine:
            machine.wait_for(SERVING)
            check('has a security version that is no longer' in machine.output, 'no word about it')
            check('bootloader started slot B' in machine.output, 'it is not slot B')


def flash_image_over_the_bootloader_never_starts():
    with Board() as board:
        data = bytearray(flash.read(f'{BUILD}/snic.bin'))
        fields = list(flash.HEAD.unpack_from(data, flash.HEAD_OFFSET))
        for address in (0x4e000000, 0x4c200000, 0x40000000, 0x5fff0000, 0x80000000, 0x4dff0000):
            fields[2] = address
            flash.HEAD.pack_into(data, flash.HEAD_OFFSET, *fields)
            path = os.path.join(board.folder, 'image.fit')
            flash.make_fit(bytes(data), KEY, path)
            board.fill({flash.SLOT_OFFSETS[0]: flash.read(path)})
            with board.start() as machine:
                machine.wait_for('recovery: waits for an image')
                check('are not free' in machine.output, f'{address:#x} is taken to be free')


# --- images over the console -----------------------------------------------------------------------

PIECE = 1000
UPDATE_RECORD = struct.Struct('<IIII16s112s')
REPLACE, ACTIVATE, CHECK = 1, 2, 4


def client_of(machine):
    return mgmt.Client(machine.send_bytes, lambda: machine.output)


def update_of(client):
    """(state, fault, is busy, received bytes)"""
    received, _, _, busy, state, fault = UPDATE_RECORD.unpack_from(client.records(mgmt.UPDATE)[0])
    return mgmt.text_of(state), mgmt.text_of(fault), bool(busy), received


def put_image(client, fit):
    for at in range(0, len(fit), PIECE):
        piece = fit[at:at + PIECE]
        client.get(mgmt.WRITE, struct.pack('<HHIQ', mgmt.IMAGE, 0, len(piece), at) + piece)
    check(update_of(client)[3] == len(fit), 'not all has arrived')


def send_image(client, fit, actions=REPLACE | ACTIVATE):
    """Over management messages, as a tool would; returns the fault, empty when it is in a slot."""
    put_image(client, fit)
    client.action(mgmt.COMMIT_IMAGE, struct.pack('<BB6x', flash.NONE, actions))
    for _ in range(200):
        state, fault, busy, _ = update_of(client)
        if not busy:
            return fault
        time.sleep(0.02)
    return f'no end: {state}'


def flash_recovery_takes_an_image_and_starts_it():
    with Board() as board:
        bad = damaged(board.image())
        for first in (lambda: board.fill({}), lambda: board.slots(bad, bad, active=0)):
            first()
            with board.start() as machine:
                machine.wait_for('recovery: waits for an image')
                client = client_of(machine)
                hello = client.hello()
                check(hello['firmware'].startswith('recovery') and hello['board'] == 'qemu-virt' and
                      hello['boot_slot'] == flash.NONE, f'{hello}')
                unsigned = send_image(client, board.image(key=None)[0])
                check('is not signed' in unsigned, f'an unsigned image: "{unsigned}"')
                fault = send_image(client, board.image(version='0.3')[0])
                check(fault == '', f'the image is refused: {fault}')
                client.action(mgmt.RESET)
                machine.wait_for('it is confirmed')
                check('snic 0.3 on qemu-virt' in machine.output, 'another image runs')


def flash_recovery_survives_noise():
    draw = random.Random(1)
    with Board() as board, board.start() as machine:
        machine.wait_for('recovery: waits for an image')
        for _ in range(20):
            machine.send_bytes(draw.randbytes(500))
            machine.send_bytes(b'\x01' + bytes(draw.choices(b'ABCD=+/', k=1600)) + b'\n')
        # more at once than an interrupt takes: what is left must not wait for another one
        machine.send_bytes(b'A' * 20000 + b'\n')
        client = client_of(machine)
        client.at = len(machine.output)
        check(client.hello()['board'] == 'qemu-virt', 'no answer')
        check(client.ask(mgmt.WRITE, struct.pack('<HHIQ', mgmt.IMAGE, 0, 4, 1 << 40) + b'abcd')
              .status == mgmt.OUT_OF_RANGE, 'an offset beyond the slot')
        check(client.ask(mgmt.WRITE, struct.pack('<HHIQ', mgmt.IMAGE, 0, 4, (4 << 20) - 2) + b'abcd')
              .status == mgmt.OUT_OF_RANGE, 'a piece beyond the slot')


def flash_firmware_takes_an_image_over_the_console_and_tries_it():
    with Board() as board:
        board.slots(board.image(), active=0)
        with board.start() as machine:
            machine.wait_for(SERVING)
            client = client_of(machine)
            check(client.hello()['boot_slot'] == 0, 'HELLO does not know the slot')
            before = flash.read(board.bank1)[flash.SLOT_OFFSETS[0]:]
            fault = send_image(client, board.image(key=None)[0], CHECK)
            check('is not signed' in fault, f'checked: "{fault}"')
            fault = send_image(client, board.image(version='0.4')[0], CHECK)
            check(fault == '', f'checked: {fault}')
            check(flash.read(board.bank1)[flash.SLOT_OFFSETS[0]:] == before, 'a check has written')
            fault = send_image(client, board.image(version='0.4')[0])
            check(fault == '', f'the image is refused: {fault}')
            check(board.record()[1:3] == (0, 1), f'the record is {board.record()}')
            client.action(mgmt.RESET)
            machine.wait_for('it is confirmed')
            check('snic 0.4 on qemu-virt' in machine.output, 'another image runs')
            wait_for_slots(machine, 'running: B, active: B')


# --- trials ----------------------------------------------------------------------------------------

def flash_trial_that_serves_is_confirmed():
    with Board() as board:
        board.slots(board.image(), board.image(version='0.2', security_version=3), active=0,
                    trial=1, attempts_left=TRIAL_ATTEMPTS)
        with board.start() as machine:
            machine.wait_for('it is confirmed')
            check('slot B is on trial, 2 attempts more' in machine.output, 'attempts not counted')
            check('no watchdog' in machine.output, 'no word about the missing watchdog')
            wait_for_slots(machine, 'running: B, active: B, trial: none with 0 attempts, '
                                    'least security version 3')
        check(board.record()[1:4] == (1, flash.NONE, 0), f'the record is {board.record()}')


def trial_gives_way(bootargs, sign):
    """The self-test on trial ends three times, which `sign` on the console tells; the old image
    serves. All that the console said."""
    with Board() as board:
        board.slots(board.image(), board.image('selftest', version='0.2'), active=0, trial=1,
                    attempts_left=TRIAL_ATTEMPTS)
        with board.start(bootargs) as machine:
            machine.wait_for(SERVING)
            starts = machine.output.count(sign)
            check(starts == TRIAL_ATTEMPTS, f'{starts} attempts')
            check('the bootloader started slot A' in machine.output, 'it is not slot A')
        check(board.record()[1:3] == (0, flash.NONE), f'the record is {board.record()}')
        check(board.record()[4][1][2] == 1, 'slot B has not failed')
    return machine.output


def flash_trial_that_panics_gives_way_to_the_old_one():
    said = trial_gives_way('test=panic', '*** panic')
    check('the run before ended in panic 3' in said, 'nothing left of the panic')


def flash_trial_that_stops_gives_way_to_the_old_one():
    """board_exit(2), as a firmware does that refuses its configuration."""
    trial_gives_way('serial=TRIAL', 'bootargs have no test=')


def flash_confirmed_image_that_stops_powers_off():
    with Board() as board:
        board.slots(board.image('selftest'), active=0)
        with board.start('serial=TRIAL') as machine:
            machine.wait()
            check(machine.output.count('bootargs have no test=') == 1, 'it starts again')


def flash_confirmed_image_that_panics_ends_in_a_halt():
    with Board() as board:
        board.slots(board.image('selftest'), active=0)
        with board.start('test=panic') as machine:
            machine.wait_for('record kept; halted')
            check(machine.output.count('*** panic') == 3, 'not after three panics')


def flash_trial_that_hangs_is_reset_by_the_watchdog():
    with Board() as board:
        board.slots(board.image(), board.image('selftest', version='0.2'), active=0, trial=1,
                    attempts_left=2)
        with board.start('test=hang', WATCHDOG + ICOUNT_SKIPS) as machine:
            machine.wait_for(SERVING)
            check(machine.output.count('selftest: hangs') == 2, 'not two attempts')
            check('a watchdog, which has reset the board' in machine.output or
                  'the watchdog has reset the board' in machine.output, 'no word about why')
            check('the bootloader started slot A' in machine.output, 'it is not slot A')
        check(board.record()[4][1][2] == 1, 'slot B has not failed')


def flash_watchdog_is_fed_by_an_image_that_works():
    with Board() as board:
        board.slots(board.image(), board.image(version='0.2'), active=0, trial=1, attempts_left=1)
        with board.start('cores=2', WATCHDOG, cores=2) as machine:
            machine.wait_for('it is confirmed')
            time.sleep(12)  # longer than it waits
            wait_for_slots(machine, 'running: B, active: B')
            check(machine.output.count(SERVING) == 1, 'the watchdog has reset it')


# --- configuration ---------------------------------------------------------------------------------

TREE = """/dts-v1/;
/ {
    compatible = "snic,config";
    options { cores = <2>; serial = "FLASH1"; };
    volumes { v0: scratch { paths { path@0 { reg = <0>; ram = "16M"; }; }; }; };
    functions { function@0 { reg = <0>; namespace@1 { reg = <1>; volume = <&v0>; }; }; };
};
"""


def compile_tree(text):
    return subprocess.run(['dtc', '-q', '-I', 'dts', '-O', 'dtb'], input=text.encode(),
                          stdout=subprocess.PIPE, check=True).stdout


def flash_configuration_is_used_and_a_loaders_tree_wins():
    with Board() as board:
        board.slots(board.image(), active=0, config=flash.config(compile_tree(TREE)))
        with board.start(cores=4) as machine:
            machine.wait_for(SERVING)
            check('configured by a device tree: 1 volumes' in machine.output, 'it is not used')
            check('serving 0 functions on 2 cores' in machine.output, 'options are not used')
        path = os.path.join(board.folder, 'loader.dtb')
        with open(path, 'wb') as file:
            file.write(compile_tree(TREE.replace('cores = <2>', 'cores = <3>')))
        loader = ['-device', f'loader,file={path},addr=0x4f000000,force-raw=on']
        with board.start(cores=4, options=loader) as machine:
            machine.wait_for(SERVING)
            check('serving 0 functions on 3 cores' in machine.output, "the loader's does not win")


def flash_wrong_configuration_costs_only_the_namespaces():
    with Board() as board:
        wrong = compile_tree(TREE.replace('serial', 'cereal'))
        board.slots(board.image(), active=0, config=flash.config(wrong))
        with board.start(cores=2) as machine:
            machine.wait_for(SERVING)
            check('cereal' in machine.output and 'is not used' in machine.output, 'not told')


def send_config(client, tree):
    for at in range(0, len(tree), PIECE):
        piece = tree[at:at + PIECE]
        client.get(mgmt.WRITE, struct.pack('<HHIQ', mgmt.CONFIG, 0, len(piece), at) + piece)


def commit_config(client, tree, check_only=False):
    client.action(mgmt.COMMIT_CONFIG, struct.pack('<IIB7x', len(tree), zlib.crc32(tree), check_only))


def refusal(what, *arguments):
    try:
        what(*arguments)
    except mgmt.Refused as refused:
        return str(refused)
    return 'taken'


def flash_configuration_over_the_console_is_used_by_the_next_start():
    good, bad = compile_tree(TREE), compile_tree(TREE.replace('serial', 'cereal'))
    with Board() as board:
        board.slots(board.image(), active=0, config=flash.config(bad))
        with board.start(cores=4) as machine:
            machine.wait_for(SERVING)
            check('/options: cereal' in machine.output, 'the bad one in flash is not told')
            client = client_of(machine)
            check(client.hello()['actions'] >> mgmt.COMMIT_CONFIG & 1, 'no such action')
            send_config(client, bad)
            before = board.configs()
            words = refusal(commit_config, client, bad)
            check('status 10' in words and '/options: cereal' in words, words)
            send_config(client, good)
            commit_config(client, good, check_only=True)
            words = refusal(commit_config, client, good[:-1] + b'x')
            check('damaged' in words, words)
            check(board.configs() == before, 'the flash has changed')
            commit_config(client, good)
            check(good in board.configs(), 'it is not in flash')
            client.action(mgmt.RESET)
            machine.wait_for('serving 0 functions on 2 cores')
            check(client.hello()['serial'] == 'FLASH1', 'it is not used')
            check(client.read(mgmt.CONFIG) == good, 'another one is read')
            commit_config(client, b'')
            client.action(mgmt.RESET)
            machine.wait_for('serving 0 functions on 4 cores', 2)
            check(client.read(mgmt.CONFIG) == b'', 'it is not forgotten')


# --- time ------------------------------------------------------------------------------------------

def flash_boot_takes_less_than_a_second_of_board_time():
    with Board() as board:
        board.slots(board.image(), active=0, config=flash.config(compile_tree(TREE)))
        with board.start(options=ICOUNT) as machine:
            machine.wait_for('ms after the start')
            loader_us = int(re.search(r'starts the image at \S+ after (\d+) us', machine.output)[1])
            stages = re.findall(r'boot: .* \((\d+) us\)', machine.output)
            ready_us = loader_us + sum(int(us) for us in stages)
            serving_ms = int(re.search(r'(\d+) ms after the start', machine.output)[1])
            total_ms = loader_us / 1000 + serving_ms
            check(total_ms <= 1000, f'{total_ms:.0f} ms until it serves')
            check(ready_us <= 100000, f'{ready_us} us until the endpoint is ready')
            machine.note = (f'bootloader {loader_us / 1000:.1f} ms, endpoint after '
                            f'{ready_us / 1000:.1f} ms, serves after {total_ms:.1f} ms')


TESTS = [
    flash_new_board_starts_slot_a_and_records_it, flash_damaged_slot_a_starts_b,
    flash_both_slots_damaged_ends_in_the_recovery, flash_unsigned_or_foreign_images_never_start,
    flash_image_below_the_least_security_version_never_starts,
    flash_image_over_the_bootloader_never_starts, flash_recovery_takes_an_image_and_starts_it,
    flash_recovery_survives_noise, flash_firmware_takes_an_image_over_the_console_and_tries_it,
    flash_trial_that_serves_is_confirmed,
    flash_trial_that_panics_gives_way_to_the_old_one,
    flash_trial_that_stops_gives_way_to_the_old_one, flash_confirmed_image_that_stops_powers_off,
    flash_confirmed_image_that_panics_ends_in_a_halt,
    flash_trial_that_hangs_is_reset_by_the_watchdog, flash_watchdog_is_fed_by_an_image_that_works,
    flash_configuration_is_used_and_a_loaders_tree_wins,
    flash_wrong_configuration_costs_only_the_namespaces,
    flash_configuration_over_the_console_is_used_by_the_next_start,
    flash_boot_takes_less_than_a_second_of_board_time,
]
