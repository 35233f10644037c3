#!/usr/bin/python3
"""A client of management messages, made from docs/spec/mgmt.md alone: no byte of it comes from the
firmware's sources. It speaks over a console that can be written and read as bytes.

  mgmt.py SOCKET          HELLO and the lists of what there is, over a UNIX socket
"""
import base64
import socket
import struct
import sys
import time
import zlib

HEAD = struct.Struct('<4sBBHIIII')
MAGIC = b'SNMG'
HELLO, LIST, READ, WRITE, ACTION = 1, 2, 3, 4, 5
OK, BAD_MESSAGE, UNKNOWN_OP, NOT_ALLOWED, OUT_OF_RANGE, BUSY, OLD_FIRMWARE, OLD_TOOL, NOT_FOUND, \
    UNSUPPORTED, REFUSED, FAILED, HUNG = range(13)
FLAG_RESPONSE, FLAG_HUNG = 1, 2
FUNCTION, QUEUE, DRIVE, NAMESPACE, VOLUME, PATH, ASSOCIATION, CONNECTION, QP, PORT, REACTOR, POLLER, \
    STAT, SLOT, UPDATE = range(1, 16)
LOG, TRACE, CRASH, CONSOLE, CONFIG, IMAGE = range(1, 7)
RUN, RESET, SET_TRACE, LOG_LEVEL, COMMIT_IMAGE, CONFIRM, COMMIT_CONFIG = range(1, 8)
LIST_END = 0xffffffff
NUDGE = b'\x01\n'


class Refused(Exception):
    """The response's status is not OK."""

    def __init__(self, status, text):
        super().__init__(f'status {status}' + (text and f': {text}'))
        self.status = status


class Response:
    """What came back, with head and CRC checked."""

    def __init__(self, message):
        head = HEAD.unpack_from(message)
        magic, self.version, self.op, self.status, self.tag, self.flags, length, crc = head
        self.payload = message[HEAD.size:]
        if magic != MAGIC or length != len(self.payload) or not self.flags & FLAG_RESPONSE:
            raise ValueError(f'no response: {head}')
        if crc != zlib.crc32(message[:20] + self.payload):
            raise ValueError('wrong CRC')
        self.is_hung = bool(self.flags & FLAG_HUNG)


def request(op, tag, payload=b'', version=1):
    head = HEAD.pack(MAGIC, version, op, 0, tag, 0, len(payload), 0)[:20]
    return head + struct.pack('<I', zlib.crc32(head + payload)) + payload


def text_of(field):
    return field.split(b'\0')[0].decode()


# What tests look at; records may be longer.
REACTOR_RECORD = struct.Struct('<HHIQQQQQQ32s')
POLLER_RECORD = struct.Struct('<HHIQQQ32s')
STAT_RECORD = struct.Struct('<22sH24sQ')
HELLO_RECORD = struct.Struct('<BBHIIIQIIQIBBH24s16s24s32s')


def hello_of(payload):
    names = ('version', 'min_version', 'origin', 'message_max', 'may', 'cores', 'classes', 'objects',
             'actions', 'uptime_ns', 'functions', 'boot_slot', 'is_trial', 'reserved', 'board',
             'firmware', 'serial', 'reset_cause')
    values = HELLO_RECORD.unpack_from(payload)
    return {name: text_of(value) if isinstance(value, bytes) else value
            for name, value in zip(names, values)}


class Client:
    """send(bytes); text() is all that the console has said so far, as latin-1."""

    def __init__(self, send, text, nudge=False):
        self.send, self.text, self.tag, self.at = send, text, 0x1000, 0
        self.nudge = nudge  # when there is no answer

    def frames(self):
        """Messages in frames that ended since the last look."""
        text = self.text()
        while (start := text.find('\x01', self.at)) >= 0 and (end := text.find('\n', start)) >= 0:
            self.at = end + 1
            yield base64.b64decode(text[start + 1:end].rstrip('\r'), validate=True)

    def raw(self, line, wait_s=5.0):
        """Sends bytes, returns the next response; None: none came."""
        self.send(line)
        nudge_s = time.monotonic() + 0.25
        deadline_s = time.monotonic() + wait_s
        while time.monotonic() < deadline_s:
            for message in self.frames():
                return Response(message)
            time.sleep(0.005)
            if self.nudge and time.monotonic() > nudge_s:
                self.send(NUDGE)
                nudge_s += 0.25
        return None

    def ask(self, op, payload=b'', version=1):
        """The response, whatever its status."""
        self.tag += 1
        line = b'\x01' + base64.b64encode(request(op, self.tag, payload, version)) + b'\n'
        response = self.raw(line)
        if response is None:
            raise TimeoutError('no answer')
        if response.tag != self.tag or response.op != op:
            raise ValueError(f'tag {response.tag:#x}, not {self.tag:#x}')
        return response

    def get(self, op, payload=b''):
        """The payload, once the firmware is no longer busy."""
        for _ in range(100):
            response = self.ask(op, payload)
            if response.status != BUSY:
                break
            time.sleep(0.01)
        if response.status != OK:
            raise Refused(response.status, response.payload.decode(errors='replace'))
        return response.payload

    def hello(self):
        return hello_of(self.get(HELLO))

    def records(self, kind):
        """All records of a class, as bytes."""
        found, index = [], 0
        while index != LIST_END:
            answer = self.get(LIST, struct.pack('<HHI', kind, 0, index))
            got, size, count, index, _ = struct.unpack_from('<HHIII', answer)
            if got != kind or len(answer) != 16 + size * count:
                raise ValueError('a list that is none')
            found += [answer[16 + i * size:16 + (i + 1) * size] for i in range(count)]
        return found

    def reactors(self):
        return [(r[0], r[8], text_of(r[9])) for r in map(REACTOR_RECORD.unpack_from,
                                                         self.records(REACTOR))]

    def pollers(self):
        return [(p[0], p[1], text_of(p[6])) for p in map(POLLER_RECORD.unpack_from,
                                                         self.records(POLLER))]

    def stats(self):
        found = {}
        for record in self.records(STAT):
            group, index, name, value = STAT_RECORD.unpack_from(record)
            where = text_of(group) + ('' if index == 0xffff else str(index))
            found[f'{where}.{text_of(name)}'] = value
        return found

    def read_piece(self, kind, offset, part=0, most=0):
        """(offset of the first byte, end, may grow, bytes)"""
        answer = self.get(READ, struct.pack('<HHIQ', kind, part, most, offset))
        got, flags, size, first, end = struct.unpack_from('<HHIQQ', answer)
        if got != kind or len(answer) != 24 + size:
            raise ValueError('a piece that is none')
        return first, end, bool(flags & 1), answer[24:]

    def read(self, kind, part=0):
        """All that is there."""
        data, at = b'', 0
        while True:
            first, end, _, piece = self.read_piece(kind, at, part)
            data, at = data + piece, first + len(piece)
            if at >= end or not piece:
                return data

    def action(self, kind, arguments=b''):
        return self.get(ACTION, struct.pack('<HHI', kind, 0, len(arguments)) + arguments)

    def run(self, line):
        """What a command of the console prints."""
        self.action(RUN, line.encode())
        for _ in range(500):
            if not self.read_piece(CONSOLE, 0)[2]:
                break
            time.sleep(0.02)
        return self.read(CONSOLE).decode()


def main():
    line = socket.socket(socket.AF_UNIX)
    line.connect(sys.argv[1])
    line.settimeout(0)
    said = ['']

    def text():
        try:
            said[0] += line.recv(65536).decode('latin-1')
        except BlockingIOError:
            pass
        return said[0]

    client = Client(line.sendall, text, nudge=True)
    print(client.hello())
    for core, age_ns, running in client.reactors():
        print(f'core {core}: {running or "-"}, {age_ns / 1e6:.1f} ms')
    for name, value in client.stats().items():
        print(name, value)


if __name__ == '__main__':
    main()
