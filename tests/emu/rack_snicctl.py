"""snicctl against the rack: every command, out of band over the console and in band from the host,
while all is well and while it is not. What it says is compared with what the host, the target and
the console say; its JSON with the schema; its tables with what is kept (numbers apart)."""
import contextlib
import json
import os
import re
import subprocess
import time

from rack.config import BUILD, TOP, scaled
from rack.flash import flash_tree
from rack.nic import CONSOLE
from rack.tree import compile_tree

import rack_nvmf
from rack_common import (IO_TIMEOUT_S, Load, clear_log, controller_state, drive_with_canary, pci_device,
                         require, require_canary, require_quiet_log, wait_until_live)
from rack_update import KEY, OTHER_KEY, Since, make_image, put_image, running

TOOL = os.path.join(BUILD, "host", "snicctl")
SCHEMA = os.path.join(TOP, "docs", "spec", "snicctl.schema.json")
KEPT = os.path.join(TOP, "tests", "data", "snicctl", "rack")
OK, FAILED, USAGE, NO_DEVICE, PERMISSION, VERSIONS = range(6)

# commands that show something, of the whole board; of the own function of a host
SHOWN = ["status", "functions", "queues", "namespaces", "volumes", "paths", "associations",
         "connections", "qps", "ports", "drives", "reactors", "slots", "stats", "log", "crash", "trace",
         "doctor"]
TENANT = ["status", "functions", "queues", "namespaces", "volumes", "paths", "associations",
          "slots", "stats", "doctor"]


# --- asking --------------------------------------------------------------------------------------

def snicctl(rack, *words, code=OK, timeout_s=60, tool=TOOL):
    """What it prints, asked over the NIC's console."""
    done = subprocess.run([tool, "--console", os.path.join(rack.folder, CONSOLE), *words],
                          env={**os.environ, "COLUMNS": "200", "LC_ALL": "C.UTF-8"}, text=True,
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          timeout=scaled(timeout_s), check=False)
    require(code is None or done.returncode == code,
            f"snicctl {' '.join(words)} ends with {done.returncode}, not {code}:\n{done.stdout}")
    return done.stdout


def ask(rack, *words, code=OK):
    """The object that --json prints, which is as documented."""
    return validated(snicctl(rack, *words, "--json", code=code))


def validated(text):
    import jsonschema  # pylint: disable=import-outside-toplevel
    with open(SCHEMA, encoding="utf-8") as file:
        schema = json.load(file)
    found = json.loads(text)
    jsonschema.validate(found, schema, cls=jsonschema.Draft202012Validator)
    return found


def in_band(rack, *words, code=OK):
    """Asked by the host, of its own device. The tool brings its libraries along."""
    if not hasattr(rack, "has_snicctl"):
        put_tool(rack.host)
        rack.has_snicctl = True
    result = rack.host.run(f"{RUN_TOOL} --device /dev/nvme0 {' '.join(words)} 2>&1", 60, check=False)
    require(code is None or result.code == code,
            f"snicctl {' '.join(words)} in band ends with {result.code}, not {code}:\n{result.out}")
    return result.out


GUEST = "/tmp/snicctl"
RUN_TOOL = f"{GUEST}/ld-linux-x86-64.so.2 --library-path {GUEST} {GUEST}/snicctl"


def put_tool(guest):
    guest.run(f"mkdir -p {GUEST}")
    said = subprocess.run(["ldd", TOOL], stdout=subprocess.PIPE, text=True, check=True).stdout
    for path in [TOOL, *re.findall(r"(/\S+) \(0x", said)]:
        guest.put(path, f"{GUEST}/{os.path.basename(path)}")
    guest.run(f"chmod +x {GUEST}/*")


def compare(name, text):
    """A screen with what is kept of it: words, not numbers, nor how wide they make a column."""
    text = re.sub(r"\S*/nic.console", "PATH", text)
    text = re.sub(r"(?m)^.*requests had to be repeated.*\n.*->.*\n", "", text)  # a busy machine
    text = re.sub(r"(?m)^(up +)[^,]*", r"\1TIME", text)
    text = re.sub(r"(?m)(?<=LIVE)(( +[\d.]+)+) .*", r"\1 -", text)  # an attempt failed, or none
    text = re.sub(r"0x[0-9a-f]+|\d+(\.\d+)?", "N", text)
    text = "\n".join(re.sub(r" +", " ", line).rstrip() for line in text.splitlines()) + "\n"
    path = os.path.join(KEPT, name + ".txt")
    if os.environ.get("SNIC_UPDATE"):
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        return
    with open(path, encoding="utf-8") as file:
        kept = file.read()
    if kept != text:
        shown = subprocess.run(["diff", "-u", path, "-"], input=text, text=True,
                               stdout=subprocess.PIPE, check=False).stdout
        require(False, f"{name} is not as kept (SNIC_UPDATE=1 keeps it):\n{shown}")


def by(records, field):
    return {record[field]: record for record in records}


# --- all is well ---------------------------------------------------------------------------------

def test_every_command_answers(rack):
    """As text and as JSON, while the drives are busy."""
    with Load(rack, drive_with_canary(rack)):
        for command in SHOWN:
            snicctl(rack, command, code=None if command == "doctor" else OK)
            ask(rack, command, code=None if command == "doctor" else OK)
        text = snicctl(rack, "stats", "--prometheus")
        metric = re.compile(r'(# (HELP|TYPE) \w+ .*|\w+(\{(\w+="[^"]*",?)*\})? -?[0-9.e+]+)')
        wrong = [line for line in text.splitlines() if not metric.fullmatch(line)]
        require(not wrong and len(text.splitlines()) > 100, f"no Prometheus text: {wrong[:3]}")
    require_canary(rack)


def test_what_it_says_is_so(rack):
    """The host, the target and the console agree."""
    drive_with_canary(rack)
    hello = ask(rack, "status")["from"]
    require(hello["firmware"] == running(rack) and hello["board"] == "qemu-virt", f"{hello}")
    function = ask(rack, "functions")["functions"][0]
    require(function["state"] == "READY" and int(function["csts"], 16) & 1, f"{function}")
    queues = ask(rack, "queues")["queues"]
    count = int(rack.host.run("cat /sys/class/nvme/nvme0/queue_count").out)
    require(len(queues) == count, f"{len(queues)} queues, the host has {count}")
    require(queues[0]["sq_size"] == 32, f"the admin queue: {queues[0]}")
    spaces = by(ask(rack, "namespaces")["namespaces"], "nsid")
    for nsid in (*rack_nvmf.PATHS, rack_nvmf.IMPATIENT):
        name = rack.host.namespace(nsid).removeprefix("/dev/")
        size = int(rack.host.run(f"cat /sys/block/{name}/size").out)
        require(spaces[nsid]["lba_count"] * spaces[nsid]["block_bytes"] == size * 512, f"{spaces[nsid]}")
    volumes = ask(rack, "volumes")["volumes"]
    require([v["name"] for v in volumes] == ["data", "old", "rings", "hasty"] and
            all(v["state"] == "attached" and v["ready"] for v in volumes), f"{volumes}")
    paths = ask(rack, "paths")["paths"]
    require(all(p["usable"] and not p["why"] for p in paths), f"{paths}")
    pairs = [qp for qp in ask(rack, "qps")["qps"] if qp["peer_qpn"] != "0x0"]
    require(len(pairs) == rack.target.queue_pairs(), f"{len(pairs)} QPs, not "
            f"{rack.target.queue_pairs()}: {pairs}")
    moved = {f"{s['group']}{'' if s['index'] is None else s['index']}.{s['name']}": s["value"]
             for s in ask(rack, "stats")["stats"]}
    for name in ("fn0.commands", "fn0.data_to_host_bytes"):
        require(0 < moved[name] <= rack.nic.numbers("stats")[name], f"{name}: {moved[name]}")
    for command in ("status", "functions", "volumes", "doctor"):
        compare(f"well-{command}", snicctl(rack, command))


def test_host_is_a_tenant(rack):
    """In band it sees its function, and is told what it may not."""
    drive_with_canary(rack)
    for command in TENANT:
        in_band(rack, command)
        validated(in_band(rack, command, "--json"))
    groups = {stat["group"] for stat in validated(in_band(rack, "stats", "--json"))["stats"]}
    require(groups == {"fn"}, f"a tenant sees counters of {groups}")
    for words in (["log"], ["ports"], ["qps"], ["reset"], ["confirm"], ["run", "stats"],
                  ["config", "get"], ["trace"]):
        said = in_band(rack, *words, code=PERMISSION)
        require("in-band" in said or "--console" in said, f"{words}: no advice:\n{said}")
    compare("tenant-status", in_band(rack, "status"))


def test_one_io_is_followed(rack):
    """Through its stages, in order; the file for Perfetto is JSON."""
    with Load(rack, drive_with_canary(rack)):
        snicctl(rack, "trace", "--record", "1", "--ios")
        ios = [io for io in ask(rack, "trace", "--ios")["ios"] if io["done"]]
        require(len(ios) > 10, f"only {len(ios)} I/Os")
        stages = re.compile(r"(?s)IO_FETCH.*IO_SUBMIT.*FABRIC_SEND.*FABRIC_DONE.*IO_DONE.*IO_POST")
        followed = (snicctl(rack, "trace", "--io", f"{io['sqid']}.{io['cid']}") for io in ios[-8:])
        whole = next(filter(stages.search, followed), None)
        require(whole, f"none of the last {len(ios)} I/Os has all stages")
        path = os.path.join(rack.folder, "trace.json")
        snicctl(rack, "trace", "--perfetto", path)
    with open(path, encoding="utf-8") as file:
        events = json.load(file)["traceEvents"]
    require(len(events) > 100, f"only {len(events)} events")
    print("     " + whole.rstrip().replace("\n", "\n     "), flush=True)


def test_target_is_discovered_and_pinged(rack):
    ip = rack.target.ip
    require(rack_nvmf.A in snicctl(rack, "discover", ip), "the target's subsystem is not found")
    snicctl(rack, "ping", ip)
    for words in (["ping", "192.0.2.250"], ["discover", "192.0.2.250"]):
        said = snicctl(rack, *words, code=FAILED)
        require("no answer" in said or "nobody answers" in said, f"{words}: {said}")


def test_fabric_from_the_other_side(rack):
    """On the target: its RDMA ports, and whether the NIC reaches them."""
    put_tool(rack.target)
    tree = os.path.join(rack.folder, "nic.tree")
    compile_tree(flash_tree(rack.config), tree)
    rack.target.put(tree, "/tmp/nic.dtb")
    said = rack.target.run(f"{RUN_TOOL} fabric").out
    require("rxe0" in said and rack.target.ip in said and "RoCEv2" in said, said)
    said = rack.target.run(f"{RUN_TOOL} fabric --tree /tmp/nic.dtb").out
    print("     " + said.rstrip().replace("\n", "\n     "), flush=True)


class Top:
    """snicctl top in a terminal of tmux."""

    def __init__(self, rack, *words):
        self.socket = os.path.join(rack.folder, "tmux")
        command = " ".join([TOOL, "--console", os.path.join(rack.folder, CONSOLE), "top", *words])
        self.tmux("-f", "/dev/null", "new-session", "-d", "-x", "150", "-y", "24", command)

    def tmux(self, *words):
        return subprocess.run(["tmux", "-S", self.socket, *words], check=True, text=True,
                              stdout=subprocess.PIPE).stdout

    def wait_for(self, pattern):
        deadline_s = time.monotonic() + scaled(20)
        while True:
            screen = self.tmux("capture-pane", "-p")
            if re.search(pattern, screen):
                return screen
            require(time.monotonic() < deadline_s, f"top never shows {pattern}:\n{screen}")
            time.sleep(0.2)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        with contextlib.suppress(subprocess.CalledProcessError):
            self.tmux("kill-server")


def test_top_shows_the_load(rack):
    with Load(rack, drive_with_canary(rack)), Top(rack, "--interval-ms", "500") as top:
        screen = top.wait_for(r"(?m)^ 0 +[1-9] .* [1-9]\d* +[1-9]\d*$")  # rates of an I/O queue
        for key, pattern in (("2", r"RTS"), ("3", r"nvme_ep"), ("4", r"data +attached"),
                             ("5", r"path"), ("6", r"pollers"), ("7", r"\w+/s")):
            top.tmux("send-keys", key)
            top.wait_for(pattern)
    print("     " + screen.rstrip().replace("\n", "\n     "), flush=True)


# --- it is not -----------------------------------------------------------------------------------

def test_path_that_is_down(rack):
    """Each view says so, doctor says why and fails; afterwards all is well again."""
    drive_with_canary(rack)
    rack.fabric.cut("target")
    try:
        rack_nvmf.wait_for(lambda: not any(
            p["usable"] for p in ask(rack, "paths")["paths"]), "paths stay usable")
        volumes = by(ask(rack, "volumes")["volumes"], "name")
        require(not any(v["ready"] for v in volumes.values()), f"{volumes}")
        verdicts = {found["verdict"] for found in ask(rack, "doctor", code=FAILED)["findings"]}
        require({"ok", "failed"} <= verdicts, f"doctor finds {verdicts}")
        said = snicctl(rack, "doctor", code=FAILED)
        for words in ("volume data: no usable path", "192.0.2.101", "snicctl ping"):
            require(words in said, f"doctor does not say '{words}':\n{said}")
        require("no usable path" in in_band(rack, "doctor", code=FAILED), "the host is not told")
        snicctl(rack, "status")
    finally:
        rack.fabric.join("target")
    for name in ("data", "old", "rings", "hasty"):
        rack_nvmf.wait_for_volume(rack, name)
    compare("well-doctor", snicctl(rack, "doctor"))
    require_canary(rack)


def test_controller_that_is_disabled(rack):
    drive_with_canary(rack)
    device = pci_device(rack)
    address = os.path.basename(device)
    rack.host.run(f"echo {address} > {device}/driver/unbind", 60)
    try:
        function = ask(rack, "functions")["functions"][0]
        require(function["state"] in ("DISABLED", "SHUT_DOWN"), f"{function}")
        qids = [q["qid"] for q in ask(rack, "queues")["queues"]]
        require(qids in ([], [0]), f"queues of nobody: {qids}")  # the admin queue is shut down, too
        for command in SHOWN:
            ask(rack, command, code=None if command == "doctor" else OK)
        compare("disabled-functions", snicctl(rack, "functions"))
        compare("disabled-doctor", snicctl(rack, "doctor", code=None))
    finally:
        rack.host.run(f"echo {address} > /sys/bus/pci/drivers/nvme/bind", 60)
    require_canary(rack)


HANG_S = 40  # what is asked meanwhile takes 15 s on a quiet machine


def test_firmware_that_hangs(rack):
    """Core 0 does not come back from the console's poller: the board still tells, over the console."""
    clear_log(rack)
    drive_with_canary(rack)
    rack.nic.tell(f"hang {HANG_S}")
    start_s = time.monotonic()
    reactors = ask(rack, "reactors")
    require(reactors["from"]["hung"], f"{reactors['from']}")
    core = reactors["reactors"][0]
    require(core["running"] == "console" and core["turn_age_ns"] > 200e6, f"{core}")
    for command in ("functions", "queues", "stats", "log"):
        require(ask(rack, command)["from"]["hung"], f"{command}: it does not hang")
    said = snicctl(rack, "volumes", code=FAILED)
    require("hangs" in said, f"volumes: {said}")
    doctor = snicctl(rack, "doctor", code=FAILED)
    require("core 0 hangs" in doctor and "snicctl reactors" in doctor, f"doctor: {doctor}")
    took_s = time.monotonic() - start_s
    require(took_s < HANG_S, f"{took_s:.0f} s: it hung no longer")
    compare("hung-doctor", doctor)
    rack_nvmf.wait_for(lambda: not ask(rack, "status")["from"]["hung"], "it hangs for ever")
    require_canary(rack)
    require_quiet_log(rack)
    print(f"     seven commands while it hung took {took_s:.1f} s", flush=True)


def test_tool_of_the_next_version(rack):
    """It speaks messages that this firmware does not: both versions, and what to do."""
    said = snicctl(rack, "queues", code=VERSIONS, tool=TOOL + "-next")
    require("speaks messages 1 to 1, this tool" in said and "update the firmware" in said, said)
    compare("next-queues", said)


def test_panic_is_kept_with_names(rack):
    """The next start has it, and the ELF its functions."""
    drive_with_canary(rack)
    rack.nic.tell("panic")
    rack.nic.wait_until_up(30)
    rack.host.run("nvme reset /dev/nvme0", 90, check=False)
    wait_until_live(rack)
    said = snicctl(rack, "crash", "--elf", os.path.join(BUILD, "qemu-virt", "snic.elf"))
    for words in ("asked for on the console", "command_panic at "):
        require(words in said, f"no '{words}' in\n{said}")
    ask(rack, "crash")
    require_canary(rack)


TESTS = [test_every_command_answers, test_what_it_says_is_so, test_host_is_a_tenant,
         test_one_io_is_followed, test_target_is_discovered_and_pinged,
         test_fabric_from_the_other_side, test_top_shows_the_load,
         test_path_that_is_down, test_controller_that_is_disabled, test_firmware_that_hangs,
         test_tool_of_the_next_version, test_panic_is_kept_with_names]
