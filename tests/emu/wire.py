"""The other end of an Ethernet cable of a QEMU machine: unix datagrams, one a frame."""
import json
import os
import random
import select
import socket
import struct
import time

GUEST_MAC = '52:54:00:12:34:56'
MTU = 4200
ETHERTYPE = 0x88b5  # IEEE 802: local experiments
ECHO, END, BREAK = ord('e'), ord('q'), ord('b')
WINDOW = 24         # frames on the way at a time


def frame(command, len_bytes, segments, in_bar, filler):
    head = bytes.fromhex(GUEST_MAC.replace(':', '') + '020000000001') + struct.pack('>H', ETHERTYPE)
    head += bytes((command, segments, in_bar, 0))
    return head + filler(len_bytes - len(head))


class Wire:
    """Options for a machine, and the frames that go to and fro."""

    def __init__(self, folder, more=''):
        self.guest = os.path.join(folder, 'guest.eth')
        self.monitor = os.path.join(folder, 'qmp')
        own = os.path.join(folder, 'runner.eth')
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(own)
        self.socket.settimeout(10)
        self.random = random.Random(1)
        self.options = [
            '-netdev', f'dgram,id=n0,local.type=unix,local.path={self.guest},'
                       f'remote.type=unix,remote.path={own}',
            '-device', f'virtio-net-pci,netdev=n0,mac={GUEST_MAC},disable-legacy=on,mq=off,romfile=,'
                       f'host_mtu={MTU}{more}',
            '-qmp', f'unix:{self.monitor},server=on,wait=off']

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def send(self, data):
        self.socket.sendto(data, self.guest)

    def receive(self):
        return self.socket.recv(65536)

    def echo(self, count, lengths, segments=range(1, 9)):
        """Sends `count` frames and compares what comes back; returns how often they overtook."""
        waiting = []
        sent = 0
        while sent < count or waiting:
            if sent < count and len(waiting) < WINDOW:
                data = frame(ECHO, self.random.choice(lengths), self.random.choice(segments),
                             sent % 2, self.random.randbytes)
                self.send(data)
                waiting.append(data)
                sent += 1
                if not select.select([self.socket], [], [], 0)[0]:
                    continue
            back = self.receive()
            want = waiting.pop(0)
            want = want[6:12] + want[:6] + want[12:]
            if back != want:
                raise RuntimeError(f'frame {sent - len(waiting)}: {len(want)} bytes went out, '
                                   f'{len(back)} came back, not the same')

    def tell(self, command):
        self.send(frame(command, 60, 1, 0, bytes))

    def feed(self, process, count):
        """Sends `count` small frames and takes whatever comes until the process ends."""
        self.socket.setblocking(False)
        deadline_s = time.monotonic() + 20
        while process.poll() is None and time.monotonic() < deadline_s:
            try:
                while count > 0:
                    self.send(frame(ECHO, 64, 1, 0, bytes))
                    count -= 1
            except BlockingIOError:
                pass
            while select.select([self.socket], [], [], 0.01)[0]:
                self.receive()

    def set_link(self, is_up):
        """Pulls the cable, or plugs it in."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as monitor:
            monitor.connect(self.monitor)
            with monitor.makefile('rw', encoding='utf-8') as lines:
                lines.readline()
                for command in ({'execute': 'qmp_capabilities'},
                                {'execute': 'set_link', 'arguments': {'name': 'n0', 'up': is_up}}):
                    lines.write(json.dumps(command) + '\n')
                    lines.flush()
                    while 'return' not in json.loads(lines.readline()):
                        pass
