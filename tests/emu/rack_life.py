"""Lives and deaths: the NIC, the host and the link between them go away and come back."""
import os
import time

from rack.errors import RackError

from rack_common import (IO_TIMEOUT_S, Load, drive_with_canary, pci_device, require,
                         require_canary, wait_until_live)

RECOVERY_S = 90
NIC_UP_S = 20


def recover(rack):
    """The host's driver gets the controller going: by itself after its time-out, or, when it has
    given up, by a reset through PCI, as an administrator would do it."""
    try:
        return wait_until_live(rack, 4 * IO_TIMEOUT_S)
    except RackError:
        rack.host.run(f"echo 1 > {pci_device(rack)}/reset", 60, check=False)
        return wait_until_live(rack, RECOVERY_S)


def test_link_status_is_up(rack):
    status = rack.link.status()
    expected = {"link": "up", "host": "connected", "nic": "ready", "bus_master": "1"}
    for name, value in expected.items():
        require(status[name] == value, f"{name} is {status[name]}, not {value}")
    require(int(status["message_errors"]) == 0, f"vfio-user errors: {status['message_errors']}")
    try:
        rack.link.control("nonsense")
    except RackError:
        return
    raise RackError("pcielink takes any command")


def test_nic_restart_while_the_host_waits(rack):
    """Power cut at the NIC under load. The host's commands hang until its time-out; then it resets
    a controller that has come back meanwhile, sends them again, and no byte is lost."""
    device = drive_with_canary(rack)
    with Load(rack, device) as load:
        rack.nic.stop()
        require(_wait_for(lambda: rack.link.status()["nic"] == "none", 5), "a dead NIC is kept")
        time.sleep(1)
        rack.nic.start()
        rack.nic.wait_until_up(NIC_UP_S)
        recover(rack)
        rack.host.run("sleep 2")
    require(load.runs > 0, "fio has not ended a run")
    require_canary(rack)


def test_nic_away_for_longer_than_the_time_out(rack):
    """The host's driver starts its reset while nobody is there; CAP.TO gives us the time."""
    device = drive_with_canary(rack)
    with Load(rack, device):
        rack.nic.stop()
        time.sleep(IO_TIMEOUT_S + 4)
        rack.nic.start()
        rack.nic.wait_until_up(NIC_UP_S)
        recover(rack)
    require_canary(rack)


def test_warm_reset_of_the_nic(rack):
    """system_reset of the NIC's machine under load: no record of a crash, and the host recovers."""
    device = drive_with_canary(rack)
    with Load(rack, device):
        rack.nic.reset()
        rack.nic.wait_until_up(NIC_UP_S)
        require("ended in panic" not in rack.nic.log(), "a crash is told that was none")
        recover(rack)
    require_canary(rack)


def test_panic_leaves_its_record(rack):
    """A panic resets the NIC, whose next start tells what happened; the host recovers."""
    device = drive_with_canary(rack)
    with Load(rack, device):
        start = len(rack.nic.log())
        rack.nic.tell("panic")
        rack.nic.wait_until_up(NIC_UP_S)
        dump, again, rest = rack.nic.log().partition("snic: start at")
        require("*** panic" in dump and "backtrace" in dump, f"no dump:\n{dump}")
        require("ended in panic" in rest and "asked for on the console" in rest,
                f"the next start tells nothing:\n{again}{rest}")
        recover(rack)
    require_canary(rack)


def test_host_power_cut_and_start(rack):
    """The host VM dies under load; NIC and pcielink go on and serve the next boot."""
    device = drive_with_canary(rack)
    pids = [process.popen.pid for process in (rack.nic.process, rack.link.process)]
    Load(rack, device, may_fail=True).__enter__()
    rack.host.stop()
    require(_wait_for(lambda: rack.link.status()["host"] == "none", 10), "a dead host is kept")
    rack.host.start()
    rack.host.wait_until_up()
    require(pids == [process.popen.pid for process in (rack.nic.process, rack.link.process)],
            "NIC or pcielink has been started anew")
    require_canary(rack)


def test_host_reset_button(rack):
    """Reset of the running host under load, as by its button: bus reset, firmware, boot."""
    device = drive_with_canary(rack)
    Load(rack, device, may_fail=True).__enter__()
    rack.host.reboot()
    require_canary(rack)


def test_link_down_and_up(rack):
    """The link goes down under load; the host loses the drive's answers, then gets them back."""
    device = drive_with_canary(rack)
    with Load(rack, device):
        rack.link.control("link down")
        require(rack.link.status()["link"] == "down", "the link is not down")
        time.sleep(1)
        rack.link.control("link up")
        recover(rack)
    require_canary(rack)


def _wait_for(condition, timeout_s):
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


# --- at rest -------------------------------------------------------------------------------------

IDLE_S = 4
IDLE_LIMIT = {"mapped": 0.30, "trapped": 0.10}  # of one processor of this machine


def _cpu_seconds(process):
    with open(f"/proc/{process.popen.pid}/stat", encoding="utf-8") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_idle_nic_uses_little_cpu(rack):
    """With an idle host the NIC sleeps: at once with trapped doorbells, else in short naps."""
    rack.host.run("sync; sleep 1")
    processes = (rack.nic.process, rack.link.process)
    before = [_cpu_seconds(process) for process in processes]
    time.sleep(IDLE_S)
    used = [(_cpu_seconds(process) - start) / IDLE_S for process, start in zip(processes, before)]
    limit = IDLE_LIMIT[rack.config.doorbells]
    require(used[0] <= limit, f"the idle NIC uses {used[0]:.0%} of a processor; limit {limit:.0%}")
    require(used[1] <= 0.05, f"the idle pcielink uses {used[1]:.0%} of a processor")


TESTS = [test_link_status_is_up, test_idle_nic_uses_little_cpu,
         test_nic_restart_while_the_host_waits,
         test_nic_away_for_longer_than_the_time_out, test_warm_reset_of_the_nic,
         test_panic_leaves_its_record, test_link_down_and_up, test_host_power_cut_and_start,
         test_host_reset_button]
