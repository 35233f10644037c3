"""Management frames on the console of the firmware in an emulated board: answered in a turn of core 0,
and by the interrupt handler when core 0 hangs."""
import base64
import re
import struct
import time

import mgmt
from machine import FIRMWARE, Machine

HANG_S = 4


def check(holds, text):
    assert holds, text


class Board(Machine):
    """The firmware without a host; `mgmt` speaks over its console."""

    def __init__(self, cores, nudge=False, options=()):
        super().__init__('panic=reset serial=EMU1', cores=cores, image=FIRMWARE, options=options)
        self.wait_for('snic> ')
        self.mgmt = mgmt.Client(self.send_bytes, lambda: self.output, nudge)

    def text(self):
        """What the console said beside frames."""
        return re.sub('\x01[^\n]*\n', '', self.output)


def mgmt_hello_tells_what_there_is():
    with Board(cores=2) as board:
        hello = board.mgmt.hello()
        check(hello['board'] == 'qemu-virt' and hello['serial'] == 'EMU1', f'{hello}')
        check(hello['origin'] == 0xffff and hello['may'] == 3 and hello['cores'] == 2, f'{hello}')
        check(hello['message_max'] == 1048 and hello['reset_cause'] == 'power-on', f'{hello}')
        check(hello['classes'] >> mgmt.REACTOR & 1 and hello['actions'] >> mgmt.RUN & 1, f'{hello}')
        for kind in range(1, 64):
            if hello['classes'] >> kind & 1:
                board.mgmt.records(kind)
        long = board.mgmt.ask(mgmt.HELLO, bytes([1, 1]) + bytes(1022))
        check(long.status == mgmt.OK, 'a request of the largest size')
        times = []
        for _ in range(50):
            start_s = time.monotonic()
            board.mgmt.ask(mgmt.HELLO)
            times.append(time.monotonic() - start_s)
        board.note = f'{1000 * sorted(times)[25]:.1f} ms for an answer'


def mgmt_reactors_and_pollers_turn():
    with Board(cores=2) as board:
        check([r[0] for r in board.mgmt.reactors()] == [0, 1], 'not two reactors')
        check((0, 1, 'console') in board.mgmt.pollers(), 'the console does not answer itself')


def mgmt_log_is_kept_and_grows():
    with Board(cores=1) as board:
        log = board.mgmt.read(mgmt.LOG).decode()
        check('snic 0.1 on qemu-virt' in log and log.endswith('\n'), f'log: {log[-200:]}')
        first, end, grows, _ = board.mgmt.read_piece(mgmt.LOG, 1 << 40)
        check(first == end == len(log) and grows, 'reading beyond the end is not at the end')


def mgmt_console_commands_run_and_tell():
    with Board(cores=2) as board:
        check('core1:' in board.mgmt.run('reactors'), 'no reactors')
        check("no command 'x'" in board.mgmt.run('x'), 'an unknown command')
        check('core1:' not in board.text(), 'the console says it, too')
        board.send('reactors\r')
        board.wait_for('core1:')


def mgmt_frames_and_text_do_not_mix():
    """Letters of a line come between two frames, while log lines of other cores go out."""
    with Board(cores=2) as board:
        for letter in 'help':
            board.send(letter)
            board.mgmt.hello()
        board.send('\r')
        board.wait_for('die on purpose')


def mgmt_bad_frames_are_dropped_or_refused():
    with Board(cores=1) as board:
        good = mgmt.request(mgmt.HELLO, 7)

        def send(message):
            return board.mgmt.raw(b'\x01' + base64.b64encode(message) + b'\n', 0.3)

        damaged = bytearray(good)
        damaged[20] ^= 1
        check(send(bytes(damaged)).status == mgmt.BAD_MESSAGE, 'a wrong CRC is taken')
        check(send(good[:10]).status == mgmt.BAD_MESSAGE, 'half a head is taken')
        for line in (b'\x01\n', b'\x01====\n', b'\x01' + b'A' * 5000 + b'\n', b'\x01AAA\n',
                     b'\x01\x01\x01\x02\xff\n'):
            check(board.mgmt.raw(line, 0.3) is None, f'{line[:20]} is answered')
        check(send(good[:23] + b'\0' * 300).status == mgmt.BAD_MESSAGE, 'garbage is taken')
        check(board.mgmt.raw(b'\x01AAA' + b'\x01' + base64.b64encode(good) + b'\r\n').tag == 7,
              'a frame behind half a frame is lost')


def mgmt_versions_and_bounds():
    with Board(cores=1) as board:
        def status(*ask, **more):
            return board.mgmt.ask(*ask, **more).status

        reactors = struct.pack('<HHI', mgmt.REACTOR, 0, 0)
        check(status(mgmt.HELLO, version=9) == mgmt.OK, 'HELLO of a newer version')
        check(status(mgmt.LIST, reactors, version=9) == mgmt.OLD_FIRMWARE, 'a newer version')
        check(status(mgmt.LIST, reactors, version=0) == mgmt.OLD_TOOL, 'an older version')
        check(status(mgmt.LIST, reactors + b'more') == mgmt.OK, 'a longer request')
        check(status(mgmt.LIST, reactors[:7]) == mgmt.OUT_OF_RANGE, 'a shorter one')
        check(status(99) == mgmt.UNKNOWN_OP, 'an unknown operation')
        check(status(mgmt.LIST, struct.pack('<HHI', 63, 0, 0)) == mgmt.NOT_FOUND, 'a class')
        check(status(mgmt.READ, struct.pack('<HHIQ', 31, 0, 0, 0)) == mgmt.NOT_FOUND, 'an object')
        check(status(mgmt.READ, struct.pack('<HHIQ', mgmt.TRACE, 9, 0, 0)) == mgmt.OUT_OF_RANGE,
              'the trace of core 9')
        check(status(mgmt.ACTION, struct.pack('<HHI', 99, 0, 0)) == mgmt.NOT_FOUND, 'an action')
        check(status(mgmt.ACTION, struct.pack('<HHI', mgmt.RUN, 0, 9) + b'x') == mgmt.OUT_OF_RANGE,
              'arguments that are not there')
        check(status(mgmt.WRITE, struct.pack('<HHIQ', mgmt.LOG, 0, 0, 0)) == mgmt.UNSUPPORTED,
              'writing the log')


def mgmt_reset_and_crash():
    with Board(cores=1) as board:
        check(board.mgmt.read(mgmt.CRASH) == b'', 'a crash before the first')
        board.mgmt.action(mgmt.RESET)
        board.wait_for('snic> ', 2)
        check(board.mgmt.hello()['reset_cause'] == 'warm reset', 'no warm reset')
        board.send('panic\r')
        board.wait_for('snic> ', 3)
        check(board.mgmt.hello()['reset_cause'] == 'panic', 'no panic')
        check(b'asked for on the console' in board.mgmt.read(mgmt.CRASH), 'the crash is not there')


def hangs(cores):
    with Board(cores=cores, nudge=True) as board:
        before = board.mgmt.ask(mgmt.HELLO)
        check(not before.is_hung, 'it hangs from the start')
        board.send(f'hang {HANG_S}\r')
        start_s = time.monotonic()
        time.sleep(0.1)
        response = board.mgmt.ask(mgmt.HELLO)
        check(response.status == mgmt.OK and response.is_hung, 'not answered by the handler')
        hello = mgmt.hello_of(response.payload)
        check(hello['actions'] == 0 and hello['objects'] >> mgmt.LOG & 1, f'{hello}')
        took_s = time.monotonic() - start_s
        core, age_ns, running = board.mgmt.reactors()[0]
        check((core, running) == (0, 'console') and age_ns > 100e6, f'{running}, {age_ns} ns')
        check((0, 1, 'console') in board.mgmt.pollers(), 'no poller is said to run')
        check(b'snic 0.1 on qemu-virt' in board.mgmt.read_piece(mgmt.LOG, 0)[3], 'no log')
        check(board.mgmt.ask(mgmt.LIST, struct.pack('<HHI', mgmt.VOLUME, 0, 0)).status == mgmt.HUNG,
              'volumes are read')
        check(board.mgmt.ask(mgmt.ACTION, struct.pack('<HHI', mgmt.RESET, 0, 0)).status == mgmt.HUNG,
              'it can be reset')
        check(time.monotonic() - start_s < HANG_S, 'that was too slow to be asked while it hung')
        board.wait_for('snic> ', 2)
        check(not board.mgmt.ask(mgmt.HELLO).is_hung, 'it still hangs')
        board.note = f'first answer {took_s:.2f} s after the hang began'


def mgmt_hung_core_answers_one_core():
    hangs(1)


def mgmt_hung_core_answers_four_cores():
    hangs(4)


def mgmt_hung_request_leaves_others_answered():
    """A command that does not end, itself a message: the handler has a buffer of its own."""
    with Board(cores=1, nudge=True) as board:
        board.mgmt.ask(mgmt.HELLO)
        line = f'hang {HANG_S}'.encode()
        hang = mgmt.request(mgmt.ACTION, 7, struct.pack('<HHI', mgmt.RUN, 0, len(line)) + line)
        board.send_bytes(b'\x01' + base64.b64encode(hang) + b'\n')
        start_s = time.monotonic()
        time.sleep(0.1)
        response = board.mgmt.ask(mgmt.HELLO)
        check(response.status == mgmt.OK and response.is_hung, 'not answered by the handler')
        check(board.mgmt.reactors()[0][2] == 'console', 'another poller is said to run')
        check((0, 1, 'console') in board.mgmt.pollers(), 'no poller is said to run')
        check(time.monotonic() - start_s < HANG_S, 'that was too slow to be asked while it hung')
        while time.monotonic() < start_s + 3 * HANG_S:
            answers = [mgmt.Response(message) for message in board.mgmt.frames()]
            if answers:
                break
            time.sleep(0.05)
        check([(a.tag, a.status, a.is_hung) for a in answers] == [(7, mgmt.OK, False)], f'{answers}')
        check(not board.mgmt.ask(mgmt.HELLO).is_hung, 'it still hangs')


TESTS = [
    mgmt_hello_tells_what_there_is, mgmt_reactors_and_pollers_turn, mgmt_log_is_kept_and_grows,
    mgmt_console_commands_run_and_tell, mgmt_frames_and_text_do_not_mix,
    mgmt_bad_frames_are_dropped_or_refused, mgmt_versions_and_bounds, mgmt_reset_and_crash,
    mgmt_hung_request_leaves_others_answered, mgmt_hung_core_answers_one_core,
    mgmt_hung_core_answers_four_cores,
]
