"""The firmware speaks RoCEv2 with Linux: rxe, librdmacm's rping, perftest and ping are the judges.

The NIC is one station of the switch, a Linux guest the other. Every exchange is captured at the NIC;
tshark and roce_check.py look at each packet.
"""
import re
import time

from rack.errors import RackError
from roce_check import require_roce, require_wellformed
from rack_common import require

RPING_PORT, PERFTEST_PORT = 7174, 18515
CLEAN_KEYS = ("rx_icrc", "rx_malformed", "rx_wrong_peer", "key_violations")


def peer(rack):
    return rack.peers[0]


def number(rack, command, name):
    return int(rack.nic.numbers(command)[name])


def rping_from_linux(rack, address, count, size, timeout_s=90):
    """Linux is the client and compares what comes back (-V)."""
    peer(rack).run(f"rping -c -a {address} -V -C {count} -S {size}", timeout_s)


def rping_from_nic(rack, address, count, size, connections=1, timeout_s=90):
    """The NIC is the client; a Linux server that outlives it."""
    job = peer(rack).serve(f"rping -s -P -a {address} -V -S {size}", RPING_PORT, timeout_s + 20)
    try:
        lines = rack.nic.ask(f"rping {address} {count} {size} {connections}", timeout_s)
    finally:
        peer(rack).run("killall -KILL rping", check=False)
        job.wait(check=False)
    answer = dict(line.split(maxsplit=1) for line in lines if " " in line)
    require(answer.get("rping.end") == "done", "\n".join(lines))
    require(int(answer["rping.pings"]) == count * connections, "\n".join(lines))
    require(answer["rping.mismatches"] == "0", "\n".join(lines))


def require_no_mismatch(rack):
    require(number(rack, "rdma", "rping0.mismatches") == 0, "the NIC's server saw wrong data")


def require_reclaimed(rack, timeout_s=60):
    """No queue pair but QP1, no connection but the listeners, and rping's and perftest's objects back."""
    deadline = time.monotonic() + timeout_s
    while True:
        lines = rack.nic.ask("rdma")
        qps = [line for line in lines if re.match(r"rdma0[.]qp ", line) and "0x000001" not in line]
        ids = [line for line in lines if line.startswith("rdma0.connection") and "LISTEN" not in line]
        if not qps and not ids:
            return
        require(time.monotonic() < deadline, "something is left:\n" + "\n".join(qps + ids))
        time.sleep(0.5)


def perftest(rack, program, words, timeout_s=90):
    """Linux is the client, the NIC the server; RackError if the client ends with a failure."""
    peer(rack).run(f"{program} -R {words} {rack.config.nic_ip}", timeout_s)


# --- on a good wire --------------------------------------------------------------------------------

def test_ping_up_to_the_mtu(rack):
    mtu, linux = rack.config.mtu, peer(rack)
    for address, headers in ((rack.config.nic_ip, 28), (rack.config.nic_ip6, 48)):
        for size in (0, 56, mtu - headers):
            linux.run(f"ping -c 1 -W 5 -M do -s {size} {address}")
    lines = rack.nic.ask(f"ping {linux.ip}")
    require(any("round_trip" in line for line in lines), "\n".join(lines))


def test_rping_both_roles(rack):
    linux, before = peer(rack), rack.nic.numbers("rdma")
    with rack.fabric.capture("nic") as pcap:
        for size in (23, 64, 5000, 60000):
            rping_from_linux(rack, rack.config.nic_ip, 5, size)
        rping_from_linux(rack, rack.config.nic_ip6, 5, 3000)
        rping_from_nic(rack, linux.ip, 5, 60000)
        rping_from_nic(rack, linux.ip6, 5, 3000)
    report = require_roce(pcap, 200)
    require_wellformed(pcap)
    require(report.retransmits == 0, f"retransmissions on a good wire:\n{report.text()}")
    require(report.cm["REQ"] == 7 and report.cm["DREP"] >= 7, report.text())
    after = rack.nic.numbers("rdma")
    for key in CLEAN_KEYS:
        require(after[f"rdma0.{key}"] == before[f"rdma0.{key}"], f"{key} grew")
    require(int(after["rdma0.zero_copy_bytes"]) > int(before["rdma0.zero_copy_bytes"]), "all copied")
    require_no_mismatch(rack)
    require_reclaimed(rack)


def test_perftest_all_kinds(rack):
    """1 B to 1 MiB, few iterations: guests are slow here."""
    with rack.fabric.capture("nic") as pcap:
        for program in ("ib_write_bw", "ib_read_bw", "ib_send_bw"):
            for size in (1, 65536, 1048576):
                perftest(rack, program, f"-n 5 -s {size}")
        perftest(rack, "ib_read_lat", "-n 20 -s 4096")
        perftest(rack, "ib_send_lat", "-n 20 -s 64")
    report = require_roce(pcap, 500)
    require_wellformed(pcap)
    require(report.opcodes["RC_WRITE_MIDDLE"] > 0 and report.opcodes["RC_READ_MIDDLE"] > 0,
            report.text())
    require_reclaimed(rack)


def test_thousand_connections_leak_nothing(rack):
    """Made by the NIC, each with one ping; then some by Linux."""
    rping_from_nic(rack, peer(rack).ip, 1, 64, connections=1000, timeout_s=400)
    require_reclaimed(rack)
    peer(rack).run(f"for i in $(seq 20); do rping -c -a {rack.config.nic_ip} -V -C 1 -S 64 || exit 1; "
                   "done", 120)
    require_reclaimed(rack)


# --- on a bad one ----------------------------------------------------------------------------------

def both_roles(rack, count=8, size=30000):
    rping_from_linux(rack, rack.config.nic_ip, count, size, 120)
    rping_from_nic(rack, peer(rack).ip, count, size, timeout_s=120)
    require_no_mismatch(rack)


def test_loss_is_repaired(rack):
    with rack.fabric.capture("nic") as pcap:
        with rack.fabric.faults("nic", "both", loss="1%", only="roce"):
            both_roles(rack)
    report = require_roce(pcap, lossless=False)
    require_wellformed(pcap)
    status = rack.fabric.status()
    lost = int(status["nic.eth.in.lost"]) + int(status["nic.eth.out.lost"])
    require(lost > 0 and report.retransmits > 0, f"{lost} lost:\n{report.text()}")
    require_reclaimed(rack)


def test_duplicates_and_reordering_do_no_harm(rack):
    """What Linux gets keeps its order: its rxe hangs when READ responses change places."""
    with rack.fabric.faults("nic", "out", dup="3%", reorder="3%", only="roce"):
        rack.fabric.fault("nic", "in", dup="3%", only="roce")
        both_roles(rack)
        rack.fabric.clear()
    status = rack.fabric.status()
    require(int(status["nic.eth.out.reordered"]) > 0 and int(status["nic.eth.in.duplicated"]) > 0,
            "the switch did nothing")
    require_reclaimed(rack)


def test_corruption_is_caught(rack):
    before = number(rack, "rdma", "rdma0.rx_icrc")
    with rack.fabric.faults("nic", "both", corrupt="2%", only="roce"):
        both_roles(rack)
    dropped = rack.nic.numbers("rdma")
    require(int(dropped["rdma0.rx_icrc"]) > before, "the ICRC caught nothing")
    require_reclaimed(rack)


def test_marks_of_congestion_do_no_harm(rack):
    """What the NIC sends is ECN-capable, so the switch marks it; Linux' rxe ignores the marks. What
    rxe sends is not ECN-capable and stays unmarked: that the NIC notifies its peer of marks (CNP)
    is shown in tests/unit/rdma/test_congestion.c."""
    before = rack.fabric.number("nic.eth.in.marked")
    with rack.fabric.faults("nic", "both", ecn="100%"):
        both_roles(rack, 3)
    require(rack.fabric.number("nic.eth.in.marked") > before, "nothing was marked")
    require_reclaimed(rack)


def test_cut_of_a_second_only_delays(rack):
    job = peer(rack).spawn(f"rping -c -a {rack.config.nic_ip} -V -C 600 -S 30000", 240)
    time.sleep(1)  # a fast machine needs some seconds for all of it, a busy one a minute
    require(not job.is_done(), "the load ended before the cut")
    rack.fabric.cut("nic")
    time.sleep(1)
    rack.fabric.join("all")
    job.wait()
    require_no_mismatch(rack)
    require_reclaimed(rack)


def test_peer_that_dies_under_load_is_given_up(rack):
    """Power cut at the Linux end while the NIC is its client: the NIC's requests end with an error
    within the retry bound, and everything is reclaimed; Linux comes back and is served again."""
    linux = peer(rack)
    linux.serve(f"rping -s -P -a {linux.ip} -V -S 60000", RPING_PORT)
    rack.nic.tell(f"rping {linux.ip} 100000 60000")
    time.sleep(3)
    linux.stop()
    rack.nic.wait_for_log("rping.end", 60)
    require("rping.end done" not in rack.nic.log(), "it ended well?")
    require_reclaimed(rack, 120)
    linux.start()
    linux.wait_until_up()
    linux.set_up()
    rping_from_linux(rack, rack.config.nic_ip, 3, 64)


# --- the native board on the switch ----------------------------------------------------------------

def test_native_board_on_the_switch_answers_linux(rack):
    """ping, rping and perftest. The board's console is its output: nobody asks it anything."""
    linux, config = peer(rack), rack.config
    with rack.fabric.capture("nic") as pcap:
        for address, headers in ((config.nic_ip, 28), (config.nic_ip6, 48)):
            for size in (56, config.mtu - headers):
                linux.run(f"ping -c 1 -W 5 -M do -s {size} {address}")
            rping_from_linux(rack, address, 20, 60000)
        perftest(rack, "ib_write_bw", "-n 20 -s 65536")
    report = require_roce(pcap, 500)
    require_wellformed(pcap)
    require(report.retransmits == 0, f"retransmissions on a good wire:\n{report.text()}")
    require(report.cm["REQ"] == 4 and report.cm["DREP"] >= 4, report.text())


TESTS = [test_ping_up_to_the_mtu, test_rping_both_roles, test_perftest_all_kinds,
         test_loss_is_repaired, test_duplicates_and_reordering_do_no_harm, test_corruption_is_caught,
         test_marks_of_congestion_do_no_harm, test_cut_of_a_second_only_delays,
         test_thousand_connections_leak_nothing, test_peer_that_dies_under_load_is_given_up]
LARGE_MTU_TESTS = [test_ping_up_to_the_mtu, test_rping_both_roles, test_perftest_all_kinds,
                   test_loss_is_repaired, test_duplicates_and_reordering_do_no_harm,
                   test_corruption_is_caught]
NATIVE_TESTS = [test_native_board_on_the_switch_answers_linux]
