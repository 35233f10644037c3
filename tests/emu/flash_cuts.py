"""Tests of tests/emu/run.py: power is cut at each flash operation of an update.

A board takes an image over its console, writes it, starts it on trial and confirms it, and is stopped
by QEMU's gdb server before each erasure and each programming: of the firmware that writes, of the
bootloader, of the new firmware. What the bank's file has then is what a cut would leave; a board is
started with it. Some cuts are real: QEMU is killed there.
Cuts within an operation are the native model's (tests/unit/update)."""
import concurrent.futures
import struct

import flash_image as flash
import gdb
import mgmt
from flash_boot import (ACTIVATE, BUILD, REPLACE, SERVING, Board, check, client_of, put_image)
from machine import Machine

OLD, NEW = '0.1', '0.2'
USED_BYTES = flash.SLOT_OFFSETS[1] + flash.SLOT_BYTES
QUIET_S, QUIET_MAX = 2, 30


class Operation:
    """One that is about to begin, and the bank as it was then."""

    def __init__(self, where, kind, offset, content):
        self.where, self.kind, self.offset, self.content = where, kind, offset, content

    def __str__(self):
        return f'{self.where}: {self.kind} {self.offset:#x}'


def content_of(path):
    with open(path, 'rb') as file:
        return file.read(USED_BYTES)


class Update:
    """Under way on a board, stopped before each operation."""

    def __init__(self, board, machine, image):
        self.board, self.machine = board, machine
        self.client = client_of(machine)
        machine.wait_for(SERVING)
        put_image(self.client, image[0])
        self.gdb = gdb.Gdb(board.folder + '/gdb')
        self.points = {}
        for where, elf in (('firmware', 'snic.elf'), ('bootloader', 'bootloader.elf')):
            for kind in ('erase', 'program'):
                address = gdb.address_of(f'{BUILD}/{elf}', f'cfi_{kind}')
                self.points[address] = (where, kind)
                self.gdb.break_at(address)
        self.gdb.start()

    def operations(self):
        """Each in its turn; the board stands still meanwhile."""
        self.client.action(mgmt.COMMIT_IMAGE, struct.pack('<BB6x', flash.NONE, REPLACE | ACTIVATE))
        yield from self._until_quiet(lambda: True)
        self.client.action(mgmt.RESET)
        yield from self._until_quiet(lambda: self.board.record()[1] == 1)

    def _until_quiet(self, is_done):
        quiet = 0
        while quiet < QUIET_MAX:
            registers = self.gdb.stopped(QUIET_S)
            if registers is not None:
                where, kind = self.points[registers[32]]
                yield Operation(where, kind, registers[1], content_of(self.board.bank1))
                self.gdb.pass_on()
            elif is_done():
                return
            else:
                quiet += 1
        check(False, 'no end')


def update_of(board):
    """The old image in slot A; the machine, stopped at operations, takes the new one."""
    board.slots(board.image(version=OLD), active=0)
    return board.start(options=gdb.options(board.folder + '/gdb'))


def version_after(board):
    """Which one runs and is confirmed, when the board is started with what the bank has."""
    with board.start() as machine:
        machine.wait_for('it is confirmed' if board.record()[2] != flash.NONE else SERVING)
        for version in (OLD, NEW):
            if f'snic {version} on qemu-virt' in machine.output:
                return version
    return 'neither'


def restore(board, content):
    with open(board.bank1, 'r+b') as file:
        file.write(content)


def cut_at_each(operations):
    """A start with what each cut would leave, two boards at a time: the versions that ran."""
    def start(operation):
        with Board() as board:
            restore(board, operation.content)
            version = version_after(board)
        check(version in (OLD, NEW), f'{operation}: {version} runs')
        return version

    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        return list(pool.map(start, operations))


def kill_at(board, image, operations, number):
    """The same update again: QEMU dies before that operation, and the same bytes are left."""
    with update_of(board) as machine:
        for at, operation in enumerate(Update(board, machine, image).operations()):
            if at == number:
                machine.process.kill()
                machine.process.wait()
                break
    check(str(operation) == str(operations[number]), f'{operation} is not {operations[number]}')
    check(content_of(board.bank1) == operation.content == operations[number].content, 'other bytes')
    check(version_after(board) in (OLD, NEW), f'killed before {operation}: neither runs')


def flash_power_cut_before_each_operation_of_an_update():
    with Board() as board:
        image = board.image(version=NEW)
        with update_of(board) as machine:
            operations = list(Update(board, machine, image).operations())
        check(board.record()[1] == 1, f'the update failed: {board.record()}')
        check(len({(operation.where, operation.kind) for operation in operations}) == 4,
              'not all who write have been seen')
        outcomes = cut_at_each(operations)
        # the record of the trial decides: from there on the new one runs
        old = outcomes.count(OLD)
        check(0 < old < len(outcomes) and
              outcomes == [OLD] * old + [NEW] * (len(outcomes) - old), f'{outcomes}')
        for number in (len(operations) // 3, len(operations) - 1):
            kill_at(board, image, operations, number)
        Machine.last.note = (f'{len(outcomes)} cuts: {old} times the old one runs, then the new one')


TESTS = [flash_power_cut_before_each_operation_of_an_update]
