#!/usr/bin/python3
"""Judges captures of RoCEv2: by tshark, and by an own reader that shares no code with the firmware.

    roce_check.py FILE...       a summary of each capture; exit status 1 if something is wrong

The own reader checks, for each RoCEv2 packet over IPv4 or IPv6, tagged or not: the ICRC (IBA volume 1,
annex A17.3.3), lengths, the IPv4 header checksum, P_Key and TVer; for each RC connection that PSNs go
up by one packet (9.7.2, 9.7.3; a READ request takes as many as its responses need), that messages
are first, middle..., last (9.2.1), that full packets have the path MTU, and that no acknowledgement is
ahead of the requests. Starting PSNs and path MTUs are read from the CM messages (12.6) where there
are some. Retransmissions and gaps are counted; a gap is an error unless frames were to be lost.
"""
import collections
import ipaddress
import os
import struct
import subprocess
import sys
import zlib
from dataclasses import dataclass, field

sys.dont_write_bytecode = True
TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(TOP, "boards", "qemu-virt"))

# pylint: disable=wrong-import-position
from rack.errors import RackError

# --- tshark ----------------------------------------------------------------------------------------

# Guesses at what the payload might be; test data is none of it.
GUESSES = ["rpcrdma_infiniband", "smb_direct_infiniband", "smcr_infiniband", "lnet_ib",
           "iser_infiniband", "sdp_infiniband", "fc_infiniband", "eth_over_ib"]
# RoCEv2 sends UDP without a checksum over IPv6, too (A17.3.2).
OPTIONS = ["-o", "udp.ignore_ipv6_zero_checksum:TRUE",
           *(word for name in GUESSES for word in ("--disable-heuristic", name))]
WRONG = "_ws.malformed || _ws.expert.severity == error"


def require_wellformed(path, nvme=False):
    """RackError if tshark calls a packet of the capture malformed or wrong. It looks into NVMe-oF
    only if asked: version 4.0 trips over log pages that span packets."""
    options = OPTIONS + ([] if nvme else ["--disable-protocol", "nvme-rdma"])
    result = subprocess.run(["tshark", "-n", *options, "-r", path, "-Y", WRONG], text=True,
                            stdin=subprocess.DEVNULL, capture_output=True, check=False)
    if result.returncode != 0:
        raise RackError(f"tshark does not read {path}: {result.stderr.strip()}")
    if result.stdout:
        lines = result.stdout.splitlines()
        raise RackError(f"{path}: tshark complains about {len(lines)} packets:\n"
                        + "\n".join(lines[:5]))


# --- frames ----------------------------------------------------------------------------------------

ROCE_PORT = 4791
UDP = 17
VLAN, QINQ, IPV4, IPV6 = 0x8100, 0x88a8, 0x0800, 0x86dd
BTH_BYTES, ICRC_BYTES, RETH_BYTES = 12, 4, 16

# RC operations (9.2.1, table 38), low five bits of the opcode
(SEND_FIRST, SEND_MIDDLE, SEND_LAST, SEND_LAST_IMM, SEND_ONLY, SEND_ONLY_IMM, WRITE_FIRST,
 WRITE_MIDDLE, WRITE_LAST, WRITE_LAST_IMM, WRITE_ONLY, WRITE_ONLY_IMM, READ_REQUEST, READ_FIRST,
 READ_MIDDLE, READ_LAST, READ_ONLY, ACK, ATOMIC_ACK, CMP_SWAP, FETCH_ADD) = range(21)
SEND_LAST_INV, SEND_ONLY_INV = 0x16, 0x17
NAMES = ("SEND_FIRST SEND_MIDDLE SEND_LAST SEND_LAST_IMM SEND_ONLY SEND_ONLY_IMM WRITE_FIRST "
         "WRITE_MIDDLE WRITE_LAST WRITE_LAST_IMM WRITE_ONLY WRITE_ONLY_IMM READ_REQUEST READ_FIRST "
         "READ_MIDDLE READ_LAST READ_ONLY ACK ATOMIC_ACK CMP_SWAP FETCH_ADD 0x15 SEND_LAST_INV "
         "SEND_ONLY_INV").split()
RC, UD, CNP = 0x00, 0x60, 0x81
UD_SEND_ONLY = UD | SEND_ONLY
RESPONSES = {READ_FIRST, READ_MIDDLE, READ_LAST, READ_ONLY, ACK, ATOMIC_ACK}
STARTS = {SEND_FIRST: "send", WRITE_FIRST: "write", READ_FIRST: "read"}
GOES_ON = {SEND_MIDDLE: "send", SEND_LAST: "send", SEND_LAST_IMM: "send", SEND_LAST_INV: "send",
           WRITE_MIDDLE: "write", WRITE_LAST: "write", WRITE_LAST_IMM: "write",
           READ_MIDDLE: "read", READ_LAST: "read"}
FULL = {SEND_FIRST, SEND_MIDDLE, WRITE_FIRST, WRITE_MIDDLE, READ_FIRST, READ_MIDDLE}
AETH = {READ_FIRST, READ_LAST, READ_ONLY, ACK, ATOMIC_ACK}
# bytes of extended headers between BTH and payload (9.2.1, table 38)
EXTENDED = {SEND_LAST_IMM: 4, SEND_ONLY_IMM: 4, WRITE_FIRST: 16, WRITE_LAST_IMM: 4, WRITE_ONLY: 16,
            WRITE_ONLY_IMM: 20, READ_REQUEST: 16, READ_FIRST: 4, READ_LAST: 4, READ_ONLY: 4, ACK: 4,
            ATOMIC_ACK: 12, CMP_SWAP: 28, FETCH_ADD: 28, SEND_LAST_INV: 4, SEND_ONLY_INV: 4}
PSN_MASK, PSN_HALF = 0xffffff, 0x800000


def opcode_name(opcode):
    if opcode == CNP:
        return "CNP"
    kind = {RC: "RC", UD: "UD"}.get(opcode & 0xe0, hex(opcode & 0xe0))
    low = opcode & 0x1f
    return f"{kind}_{NAMES[low] if low < len(NAMES) else hex(low)}"


def read_pcap(path):
    """Yields (nanoseconds, frame) of a capture of this byte order."""
    with open(path, "rb") as file:
        data = file.read()
    unit_ns = {0xa1b2c3d4: 1000, 0xa1b23c4d: 1}.get(struct.unpack_from("<I", data)[0])
    if unit_ns is None:
        raise RackError(f"{path} is no pcap file")
    offset = 24
    while offset + 16 <= len(data):
        seconds, fraction, kept, length = struct.unpack_from("<IIII", data, offset)
        if kept != length or offset + 16 + kept > len(data):
            raise RackError(f"{path}: a record is cut short at byte {offset}")
        yield seconds * 10**9 + fraction * unit_ns, data[offset + 16:offset + 16 + kept]
        offset += 16 + kept


@dataclass
class Packet:  # pylint: disable=too-many-instance-attributes
    """A RoCEv2 packet; `body` is what follows the BTH, without the ICRC."""
    number: int
    src: str
    dst: str
    vlan: int
    ecn: int
    opcode: int
    pad: int
    dest_qp: int
    ack_request: bool
    psn: int
    body: bytes
    wrong: list

    @property
    def operation(self):
        return self.opcode & 0x1f

    @property
    def payload_bytes(self):
        return len(self.body) - EXTENDED.get(self.operation, 0) - self.pad


def parse(number, frame):
    """The Packet in a frame, or None if it carries no RoCEv2."""
    at, vlan = 12, 0
    while struct.unpack_from(">H", frame, at)[0] in (VLAN, QINQ):
        vlan = struct.unpack_from(">H", frame, at + 2)[0] & 0xfff
        at += 4
    kind = struct.unpack_from(">H", frame, at)[0]
    ip = frame[at + 2:]
    wrong = []
    if kind == IPV4 and len(ip) >= 20 and ip[9] == UDP:
        header = 4 * (ip[0] & 15)
        total = struct.unpack_from(">H", ip, 2)[0]
        src, dst = ip[12:16], ip[16:20]
        ecn = ip[1] & 3
        if _checksum(ip[:header]) != 0:
            wrong.append("IPv4 header checksum")
    elif kind == IPV6 and len(ip) >= 40 and ip[6] == UDP:
        header = 40
        total = 40 + struct.unpack_from(">H", ip, 4)[0]
        src, dst = ip[8:24], ip[24:40]
        ecn = ip[1] >> 4 & 3
    else:
        return None
    if len(ip) < header + 8 or struct.unpack_from(">H", ip, header + 2)[0] != ROCE_PORT:
        return None
    if total > len(ip) or total < header + 8 + BTH_BYTES + ICRC_BYTES:
        return Packet(number, _address(src), _address(dst), vlan, ecn, 0, 0, 0, False, 0, b"",
                      ["length of the IP packet"])
    ip = ip[:total]  # without padding of the frame
    if struct.unpack_from(">H", ip, header + 4)[0] != total - header:
        wrong.append("UDP length")
    if icrc(ip, header) != struct.unpack_from("<I", ip, total - 4)[0]:
        wrong.append("ICRC")
    bth = ip[header + 8:header + 8 + BTH_BYTES]
    body = ip[header + 8 + BTH_BYTES:-ICRC_BYTES]
    packet = Packet(number, _address(src), _address(dst), vlan, ecn, bth[0], bth[1] >> 4 & 3,
                    int.from_bytes(bth[5:8], "big"), bool(bth[8] & 0x80),
                    int.from_bytes(bth[9:12], "big"), body, wrong)
    _check_bth(packet, bth)
    return packet


def _check_bth(packet, bth):
    if bth[1] & 15:
        packet.wrong.append("TVer")
    if bth[2:4] not in (b"\xff\xff", b"\x7f\xff"):
        packet.wrong.append("P_Key")
    if len(packet.body) % 4:
        packet.wrong.append("length is no multiple of 4")
    if packet.opcode & 0xe0 == RC and packet.payload_bytes < 0:
        packet.wrong.append("shorter than its headers")


def icrc(ip, header):
    """ICRC of an IP packet (A17.3.3): what routers change counts as ones, and so do 8 bytes before it
    that stand for the LRH."""
    masked = bytearray(ip[:-ICRC_BYTES])
    if masked[0] >> 4 == 4:
        masked[1] = masked[8] = masked[10] = masked[11] = 0xff  # TOS, TTL, checksum
    else:
        masked[0] |= 0x0f                                       # traffic class, flow label
        masked[1] = masked[2] = masked[3] = masked[7] = 0xff    # and hop limit
    masked[header + 6] = masked[header + 7] = 0xff              # UDP checksum
    masked[header + 12] = 0xff                                  # BTH: FECN, BECN, reserved
    return zlib.crc32(b"\xff" * 8 + bytes(masked))


def _checksum(header):
    total = sum(struct.unpack(f">{len(header) // 2}H", header))
    while total > 0xffff:
        total = (total & 0xffff) + (total >> 16)
    return ~total & 0xffff


def _address(raw):
    return str(ipaddress.ip_address(bytes(raw)))


# --- connections -------------------------------------------------------------------------------------

@dataclass
class Flow:
    """Packets towards one queue pair."""
    next_psn: int = None    # of requests
    mtu: int = 0            # 0: not known
    back: object = None     # the flow of the other direction
    message: str = ""       # kind of the request message under way; None: frames are missing
    response: str = ""      # the same for a READ response
    response_psn: int = 0


@dataclass
class Report:
    """What was found; `errors` is empty if all is well."""
    path: str
    packets: int = 0
    opcodes: collections.Counter = field(default_factory=collections.Counter)
    naks: collections.Counter = field(default_factory=collections.Counter)  # by syndrome
    cm: collections.Counter = field(default_factory=collections.Counter)
    marked: int = 0         # Congestion Experienced
    retransmits: int = 0
    gaps: list = field(default_factory=list)    # packets before which some are missing
    errors: list = field(default_factory=list)

    def text(self):
        lines = [f"{self.path}: {self.packets} RoCEv2 packets, {self.retransmits} sent again, "
                 f"{self.marked} marked, {len(self.gaps)} gaps, {len(self.errors)} errors",
                 "  " + ", ".join(f"{name} {count}" for name, count in sorted(self.opcodes.items()))]
        for title, counter in (("CM", self.cm), ("NAK and RNR", self.naks)):
            if counter:
                lines.append(f"  {title}: " + ", ".join(
                    f"{name} {count}" for name, count in sorted(counter.items())))
        return "\n".join(lines + ["  " + what for what in self.errors[:20] + self.gaps[:5]])


CM_CLASS = 7
CM_NAMES = {0x10: "REQ", 0x11: "MRA", 0x12: "REJ", 0x13: "REP", 0x14: "RTU", 0x15: "DREQ",
            0x16: "DREP", 0x17: "SIDR_REQ", 0x18: "SIDR_REP", 0x19: "LAP", 0x1a: "APR"}
DETH_BYTES, MAD_HEADER_BYTES, MAD_BYTES = 8, 24, 256


class Checker:
    """Takes the packets of a capture in their order."""

    def __init__(self, path):
        self.report = Report(path)
        self.flows = collections.defaultdict(Flow)  # (address, queue pair) to which they go
        self.requests = {}                          # communication id: (address, QP, path MTU)

    def take(self, packet):
        report = self.report
        report.packets += 1
        report.marked += packet.ecn == 3
        report.opcodes[opcode_name(packet.opcode)] += 1
        for what in packet.wrong:
            self._error(packet, f"bad {what}")
        if packet.wrong:
            return
        if packet.opcode == UD_SEND_ONLY and packet.dest_qp == 1:
            self._take_cm(packet)
        elif packet.opcode & 0xe0 == RC:
            flow = self.flows[packet.dst, packet.dest_qp]
            if packet.operation in RESPONSES:
                self._take_response(packet, flow)
            else:
                self._take_request(packet, flow)

    def _error(self, packet, text):
        self.report.errors.append(_describe(packet, text))

    def _gap(self, packet, psn):
        self.report.gaps.append(_describe(packet, f"PSN {psn:#x} was due"))

    def _take_cm(self, packet):
        mad = packet.body[DETH_BYTES:]
        if len(mad) != MAD_BYTES or mad[1] != CM_CLASS:
            return
        name = CM_NAMES.get(struct.unpack_from(">H", mad, 16)[0], "unknown")
        self.report.cm[name] += 1
        data = mad[MAD_HEADER_BYTES:]
        if name == "REQ":
            mtu = 128 << (data[50] >> 4)
            self._start_flow(packet.src, data[32:35], data[44:47], mtu)
            self.requests[packet.src, data[:4]] = (packet.src, data[32:35], mtu)
        elif name == "REP":
            request = self.requests.get((packet.dst, data[4:8]))
            mtu = request[2] if request else 0
            flow = self._start_flow(packet.src, data[12:15], data[20:23], mtu)
            if request:
                flow.back = self.flows[request[0], int.from_bytes(request[1], "big")]
                flow.back.back = flow

    def _start_flow(self, address, qp, psn, mtu):
        """A new connection of this queue pair, unless the message came a second time."""
        key = address, int.from_bytes(qp, "big")
        psn = int.from_bytes(psn, "big")
        flow = self.flows[key]
        if flow.next_psn is None or _ahead(flow.next_psn, psn) > 0x10000:
            self.flows[key] = Flow(next_psn=psn, mtu=mtu)
        return self.flows[key]

    def _take_request(self, packet, flow):
        count = self._psns_of(packet, flow)
        if flow.next_psn is None:
            flow.next_psn = packet.psn
        distance = _ahead(packet.psn, flow.next_psn)
        if distance != 0 and distance < PSN_HALF:
            self._gap(packet, flow.next_psn)
            flow.message = None
        is_again = distance >= PSN_HALF
        if is_again:
            self.report.retransmits += 1
        else:
            flow.next_psn = packet.psn + count & PSN_MASK if count else None
        flow.message = self._check_order(packet, flow.message, flow, is_again)

    def _psns_of(self, packet, flow):
        """How many PSNs a request takes; 0: a READ whose path MTU is not known."""
        if packet.operation != READ_REQUEST:
            return 1
        length = struct.unpack_from(">I", packet.body, 12)[0]
        return max(1, -(-length // flow.mtu)) if flow.mtu else 0

    def _check_order(self, packet, message, flow, is_again):
        """First, middle, last. Returns the message under way."""
        wanted = GOES_ON.get(packet.operation, "")
        if message is not None and wanted != message and not is_again:
            self._error(packet, f"comes within a {message} message" if message
                        else "its message has no beginning")
        if packet.operation in FULL:
            flow.mtu = flow.mtu or packet.payload_bytes
            if packet.payload_bytes != flow.mtu:
                self._error(packet, f"{packet.payload_bytes} bytes, path MTU is {flow.mtu}")
        elif flow.mtu and packet.payload_bytes > flow.mtu:
            self._error(packet, f"{packet.payload_bytes} bytes, path MTU is {flow.mtu}")
        return STARTS.get(packet.operation, wanted if packet.operation in FULL else "")

    def _take_response(self, packet, flow):
        if packet.operation in AETH and packet.body[0] >> 5:
            self.report.naks[f"{packet.body[0]:#x}"] += 1
        back = flow.back
        if back and back.next_psn is not None:
            if 0 < _ahead(packet.psn, back.next_psn - 1 & PSN_MASK) < PSN_HALF:
                self._error(packet, f"is ahead of the requests, {back.next_psn:#x} was not sent")
        if packet.operation in (ACK, ATOMIC_ACK):
            return
        is_again = _ahead(packet.psn, flow.response_psn + 1 & PSN_MASK) >= PSN_HALF
        is_next = packet.psn == flow.response_psn + 1 & PSN_MASK
        if packet.operation in (READ_MIDDLE, READ_LAST) and not is_next and not is_again:
            self._gap(packet, flow.response_psn + 1)
            flow.response = None
        flow.response = self._check_order(packet, flow.response, flow, is_again)
        flow.response_psn = packet.psn


def _describe(packet, text):
    return (f"frame {packet.number} ({opcode_name(packet.opcode)} to {packet.dst} "
            f"QP {packet.dest_qp:#x} PSN {packet.psn:#x}): {text}")


def _ahead(psn, base):
    return psn - base & PSN_MASK


def check(path):
    """The Report on a capture."""
    checker = Checker(path)
    for number, (_, frame) in enumerate(read_pcap(path), 1):
        packet = parse(number, frame) if len(frame) >= 34 else None
        if packet:
            checker.take(packet)
    return checker.report


def require_roce(path, at_least=1, lossless=True):
    """The Report on a capture in which nothing is wrong; RackError otherwise, or if there are fewer
    packets. lossless=False: the wire before the capture may have lost some."""
    report = check(path)
    if report.errors or report.packets < at_least or (lossless and report.gaps):
        raise RackError(report.text())
    return report


def main():
    failed = False
    for path in sys.argv[1:]:
        report = check(path)
        failed = failed or bool(report.errors or report.gaps)
        print(report.text())
        try:
            require_wellformed(path)
        except RackError as error:
            failed = True
            print(f"  {error}")
    return 1 if failed or len(sys.argv) < 2 else 0


if __name__ == "__main__":
    sys.exit(main())
