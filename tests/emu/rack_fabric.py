"""RoCEv2 over the rack's Ethernet switch, between stations that serve and use each other.

Here both are Linux (rack.peers): it shows that the switch, its faults and the checks of captures
are good before the firmware takes the place of one. Each test judges what both ends say, and the
capture.
"""
from rack.errors import RackError
from roce_check import check, require_roce, require_wellformed
from rack_common import require

RPING_PORT, PERFTEST_PORT = 7174, 18515


def client_and_server(rack):
    """(client, server): the guests of this suite."""
    return rack.peers[0], rack.peers[1]


def exchange(client, server, server_command, port, client_command, timeout_s=60):
    """Runs a server and its client to their ends, which must be good; the client's output."""
    job = server.serve(server_command, port, timeout_s)
    result = client.run(client_command, timeout_s)
    job.wait()
    return result.out


def rping(rack, address, count, size):
    """Pings by READ and WRITE; the data that comes back is compared (-V)."""
    client, server = client_and_server(rack)
    words = f"-a {address} -V -C {count} -S {size}"
    return exchange(client, server, f"rping -s {words}", RPING_PORT, f"rping -c {words}")


def perftest(rack, program, address, words):
    """One of perftest's programs between the two, connected by the connection manager."""
    client, server = client_and_server(rack)
    command = f"{program} -R {words}"
    for _ in range(3):
        job = server.serve(command, PERFTEST_PORT)
        result = client.run(f"{command} {address}", check=False)
        if result.code == 0:
            job.wait()
            return result.out
        # perftest connects twice; on a slow machine its server does not listen yet when its
        # client comes the second time
        require("RDMA_CM_EVENT_REJECTED; error: 8" in result.out, f"{command}:\n{result.out}")
        server.run(f"killall -KILL {program}", check=False)
        job.wait(check=False)
    raise RackError(f"{command}: its client comes too early, three times")


def require_clean(rack, pcap, at_least):
    """Nothing in a capture is wrong, and no packet was sent twice without a reason."""
    report = require_roce(pcap, at_least)
    require_wellformed(pcap)
    require(report.retransmits == 0, f"retransmissions on a good wire:\n{report.text()}")
    require(rack.fabric.number("buffers_free") > 4000, "the switch holds frames back")
    return report


# --- on a good wire -----------------------------------------------------------------------------

def test_ping_up_to_the_mtu(rack):
    client, server = client_and_server(rack)
    mtu = rack.config.mtu
    for address, headers in ((server.ip, 28), (server.ip6, 48)):
        client.run(f"ping -c 1 -W 5 -M do -s {mtu - headers} {address}")
        too_long = client.run(f"ping -c 1 -W 1 -M do -s {mtu - headers + 1} {address}", check=False)
        require(too_long.code != 0, f"more than the MTU passes to {address}")


def test_rping_over_ipv4_and_ipv6(rack):
    _, server = client_and_server(rack)
    with rack.fabric.capture("peer") as pcap:
        rping(rack, server.ip, 10, 5000)
        rping(rack, server.ip6, 10, 64)
    report = require_clean(rack, pcap, 100)
    require(report.cm["REQ"] == 2 and report.cm["RTU"] == 2, report.text())


def test_perftest_write_read_send(rack):
    _, server = client_and_server(rack)
    with rack.fabric.capture("peer2") as pcap:
        perftest(rack, "ib_write_bw", server.ip, "-n 10 -s 65536")
        perftest(rack, "ib_read_bw", server.ip, "-n 10 -s 16384")
        perftest(rack, "ib_send_lat", server.ip, "-n 10 -s 64")
    report = require_clean(rack, pcap, 200)
    for name in ("RC_WRITE_MIDDLE", "RC_READ_MIDDLE", "RC_SEND_ONLY"):
        require(report.opcodes[name] > 0, f"no {name}:\n{report.text()}")


# --- on a bad one -------------------------------------------------------------------------------

def test_loss_is_repaired(rack):
    """Both ends: what peer2 is sent, and what it sends."""
    _, server = client_and_server(rack)
    with rack.fabric.capture("peer") as pcap:
        with rack.fabric.faults("peer2", "both", loss="1%", only="roce"):
            rping(rack, server.ip, 20, 8000)
    report = require_roce(pcap, lossless=False)
    require_wellformed(pcap)
    lost = rack.fabric.number("peer2.eth.in.lost") + rack.fabric.number("peer2.eth.out.lost")
    require(lost > 0 and report.retransmits > 0,
            f"{lost} frames lost, none sent again:\n{report.text()}")


def test_duplicates_and_reordering_do_no_harm(rack):
    """What peer2 sends comes out of order. The other direction keeps it: Linux' rxe, as requester,
    hangs for good when READ responses change places (6.12, a WARNING in rxe_completer())."""
    _, server = client_and_server(rack)
    before = rack.fabric.status()
    with rack.fabric.faults("peer2", "in", dup="5%", reorder="3%", only="roce"):
        rack.fabric.fault("peer2", "out", dup="5%", only="roce")
        try:
            rping(rack, server.ip, 30, 8000)
        finally:
            rack.fabric.clear()
    after = rack.fabric.status()
    for key in ("peer2.eth.in.duplicated", "peer2.eth.out.duplicated", "peer2.eth.in.reordered"):
        require(int(after[key]) > int(before[key]), f"{key} did not grow")


def test_corruption_is_dropped(rack):
    """The receiver's ICRC catches it: rping's data is right though frames were not."""
    _, server = client_and_server(rack)
    with rack.fabric.capture("peer2") as pcap:
        before = rack.fabric.number("peer2.eth.out.corrupted")
        with rack.fabric.faults("peer2", "out", corrupt="3%", corrupt_bits=2, only="roce"):
            rping(rack, server.ip, 15, 8000)
        corrupted = rack.fabric.number("peer2.eth.out.corrupted") - before
    require(corrupted > 0, "the switch has corrupted no frame")
    report = check(pcap)
    require(report.errors, f"{corrupted} corrupted frames, and none is noticed in the capture")


def test_marks_of_congestion_reach_the_receiver(rack):
    """A ping with ECN set: RoCE of rxe is not ECN-capable."""
    client, server = client_and_server(rack)
    with rack.fabric.faults("peer2", "out", ecn="100%"):
        before = rack.fabric.number("peer2.eth.out.marked")
        client.run(f"ping -c 1 -W 5 -Q 2 {server.ip}; ping -c 1 -W 5 -Q 2 {server.ip6}")
        marked = rack.fabric.number("peer2.eth.out.marked") - before
    require(marked >= 2, f"{marked} of 2 packets were marked")


def test_cut_for_a_while_only_delays(rack):
    """Linux' rxe takes a retry count of 7, which the connection manager's users ask for, as for
    ever: so it is not the retries that are tried here."""
    client, server = client_and_server(rack)
    words = f"-a {server.ip} -V -C 200 -S 8000"

    def lost():
        return sum(rack.fabric.number(f"{guest.name}.eth.cut") for guest in (client, server))

    job = server.serve(f"rping -s {words}", RPING_PORT)
    load = client.spawn(f"rping -c {words}")
    before = rack.fabric.number("peer.eth.in.frames")
    rack.fabric.process.wait_for(lambda: rack.fabric.number("peer.eth.in.frames") > before + 50,
                                 "load", 20)
    rack.fabric.cut("peer", "peer2")
    rack.fabric.process.wait_for(lambda: lost() > 2, "frame that meets the cut", 20)
    require(not load.is_done(), "the load ended before the cut")
    rack.fabric.join("peer", "peer2")
    load.wait()
    job.wait()


TESTS = [test_ping_up_to_the_mtu, test_rping_over_ipv4_and_ipv6, test_perftest_write_read_send,
         test_loss_is_repaired, test_duplicates_and_reordering_do_no_harm,
         test_corruption_is_dropped, test_marks_of_congestion_reach_the_receiver,
         test_cut_for_a_while_only_delays]
LARGE_MTU_TESTS = [test_ping_up_to_the_mtu, test_rping_over_ipv4_and_ipv6]
