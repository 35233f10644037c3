"""What the host learns about the drive, and what it is told when it asks for nonsense."""
import re

from rack_common import (DRIVE, NVME_STATUS_CODE, NVME_STATUS_DNR, RAM, RAM_4K, block_bytes,
                         clear_log, require, require_quiet_log)

# Identify, figure 247 and 245: what the configuration of these racks must lead to.
NAMESPACE_BYTES = {DRIVE: 256 << 20, RAM: 64 << 20, RAM_4K: 64 << 20}


def test_probe_finds_all_namespaces(rack):
    for nsid in NAMESPACE_BYTES:
        rack.host.namespace(nsid)
    require_quiet_log(rack)


def test_list_shows_the_namespaces(rack):
    lines = rack.host.run("nvme list").out.splitlines()
    require(sum("snic SmartNIC drive" in line for line in lines) == len(NAMESPACE_BYTES),
            "\n".join(lines))
    text = rack.host.run("nvme list-ns /dev/nvme0").out
    require(re.findall(r":(0x\w+)", text) == ["0x1", "0x2", "0x3"], text)


def _fields(text):
    """{name: value} of nvme-cli's "name : value" lines."""
    pairs = (line.partition(":") for line in text.splitlines() if ":" in line)
    return {name.strip(): value.strip() for name, _, value in pairs}


def test_id_ctrl_says_nvme_1_4(rack):
    fields = _fields(rack.host.run("nvme id-ctrl /dev/nvme0").out)
    expected = {"ver": "0x10400", "sn": "SNIC-0", "cntrltype": "1", "sqes": "0x66",
                "cqes": "0x44"}
    for name, value in expected.items():
        require(fields[name] == value, f"{name} is {fields[name]}, not {value}")
    require(int(fields["oncs"], 0) & 0x0d == 0x0d, "Compare, DSM, Write Zeroes: " + fields["oncs"])
    require(int(fields["sgls"], 0) & 3 != 0, "no SGLs: " + fields["sgls"])


def test_id_ns_says_size_and_block(rack):
    for nsid, size in NAMESPACE_BYTES.items():
        block = block_bytes(rack, nsid)
        device = rack.host.namespace(nsid)
        fields = _fields(rack.host.run(f"nvme id-ns {device}").out)
        require(int(fields["nsze"], 0) * block == size, f"namespace {nsid}: nsze {fields['nsze']}")
        text = rack.host.run(f"cat /sys/block/{device.split('/')[-1]}/queue/logical_block_size").out
        require(int(text) == block, f"namespace {nsid}: blocks of {text}")
        descriptors = rack.host.run(f"nvme ns-descs /dev/nvme0 -n {nsid}").out
        require(re.search(r"(nguid|eui64|uuid)\s*:\s*\S", descriptors), descriptors)


LOG_PAGES = ["smart-log /dev/nvme0", "error-log /dev/nvme0", "fw-log /dev/nvme0",
             "changed-ns-list-log /dev/nvme0", "get-log /dev/nvme0 -i 5 -l 4096"]


def test_log_pages_are_readable(rack):
    clear_log(rack)
    for page in LOG_PAGES:
        rack.host.run(f"nvme {page}")
    require_quiet_log(rack)


def test_log_pages_by_parts_are_the_same(rack):
    """NUMD and LPOL: the effects log read at once and in two halves."""
    whole = rack.host.run("nvme get-log /dev/nvme0 -i 5 -l 4096 -b | sha256sum").out
    halves = rack.host.run("(nvme get-log /dev/nvme0 -i 5 -l 2048 -b; "
                           "nvme get-log /dev/nvme0 -i 5 -l 2048 -o 2048 -b) | sha256sum").out
    require(whole == halves, f"{whole}{halves}")


def test_effects_log_names_what_is_served(rack):
    """Figure 200: CSUPP of each command. Byte 0 on: admin commands; 1024 on: I/O commands."""
    text = rack.host.run("nvme get-log /dev/nvme0 -i 5 -l 4096 -b | od -An -v -tx4 -w4").out
    effects = [int(word, 16) for word in text.split()]
    for opcode in (0x00, 0x01, 0x02, 0x04, 0x05, 0x06, 0x08, 0x09, 0x0a, 0x0c):
        require(effects[opcode] & 1, f"admin command {opcode:#x} is not in the log")
    for opcode in (0x00, 0x01, 0x02, 0x05, 0x08, 0x09):
        require(effects[256 + opcode] & 1, f"I/O command {opcode:#x} is not in the log")
    require(effects[0x7f] == 0 and effects[256 + 0x7f] == 0, "the log names what does not exist")


def test_smart_counts_commands(rack):
    """Figure 194: Host Read Commands."""
    device = rack.host.namespace(RAM)

    def host_reads():
        text = rack.host.run("nvme smart-log /dev/nvme0").out
        return int(re.search(r"host_read_commands\s*:\s*([\d,]+)", text).group(1).replace(",", ""))

    before = host_reads()
    rack.host.run(f"dd if={device} of=/dev/null bs=4k count=100 iflag=direct 2>/dev/null")
    count = host_reads() - before
    require(count == 100, f"{count} reads counted, not 100")


def test_error_log_names_a_bad_command(rack):
    """5.14.1.1: the newest entry says status and namespace of the command that failed."""
    device = rack.host.namespace(RAM)
    beyond = (64 << 20) // 512
    rack.host.run(f"nvme read {device} -s {beyond} -c 0 -z 512", check=False)
    text = rack.host.run("nvme error-log /dev/nvme0 -e 1").out
    require("LBA Out of Range" in text, text)
    require(re.search(rf"nsid\s*:\s*(0x)?{RAM}\b", text), text)


# Feature: nvme-cli's words after the number, where it needs some
FEATURES = {0x01: "", 0x02: "", 0x04: "", 0x05: "-n 1", 0x06: "", 0x07: "", 0x08: "", 0x09: "",
            0x0a: "", 0x0b: "", 0x0e: ""}


def test_get_feature_of_each(rack):
    """Current value, default and supported capabilities."""
    lines = [(f"feature {feature:#x}, select {select}",
              f"nvme get-feature /dev/nvme0 -f {feature} -s {select} {words}", 0)
             for feature, words in FEATURES.items() for select in (0, 1, 3)]
    _run_table(rack, lines)


def test_set_feature_reads_back(rack):
    """Interrupt coalescing, temperature threshold: set, read, set back."""
    for feature, value in ((0x08, 0x0204), (0x04, 340)):
        text = rack.host.run(f"nvme get-feature /dev/nvme0 -f {feature}").out
        old = int(re.search(r"value:\s*(\w+)", text).group(1), 16)
        rack.host.run(f"nvme set-feature /dev/nvme0 -f {feature} --value={value}")
        text = rack.host.run(f"nvme get-feature /dev/nvme0 -f {feature}").out
        require(int(re.search(r"value:\s*(\w+)", text).group(1), 16) == value, text)
        rack.host.run(f"nvme set-feature /dev/nvme0 -f {feature} --value={old}")


# --- nonsense ------------------------------------------------------------------------------------

DATA_IN, DATA_OUT = "-r -l 4096", "-w -l 4096 -i /dev/zero"
# what it is: (opcode, nsid, {dword: value}, data, expected status without DNR)
BAD_ADMIN = {
    "unknown opcode": (0x7f, 0, {}, "", 0x001),
    "format, which is not offered": (0x80, 0, {}, "", 0x001),
    "security receive, not offered": (0x82, 0, {}, DATA_IN, 0x001),
    "identify: unknown CNS": (0x06, 0, {10: 0xff}, DATA_IN, 0x002),
    "identify: namespace 0": (0x06, 0, {10: 0}, DATA_IN, 0x00b),
    "identify: namespace above NN": (0x06, 0x10000, {10: 0}, DATA_IN, 0x00b),
    "identify: broadcast namespace": (0x06, 0xffffffff, {10: 0}, DATA_IN, 0x00b),
    "identify: list after the last NSID": (0x06, 0xfffffffe, {10: 2}, DATA_IN, 0x00b),
    "identify: descriptors of namespace 0": (0x06, 0, {10: 3}, DATA_IN, 0x00b),
    "identify: descriptors of an inactive one": (0x06, 9, {10: 3}, DATA_IN, 0x002),
    "log page: unknown": (0x02, 0xffffffff, {10: 0xee | 127 << 16}, DATA_IN, 0x109),
    "log page: offset is no multiple of 4": (0x02, 0, {10: 2 | 127 << 16, 12: 2}, DATA_IN, 0x002),
    "log page: offset behind the end": (0x02, 0, {10: 2 | 127 << 16, 12: 0x10000}, DATA_IN, 0x002),
    "get features: unknown": (0x0a, 0, {10: 0x7f}, "", 0x002),
    "get features: reserved select": (0x0a, 0, {10: 4 << 8 | 1}, "", 0x002),
    "get features: vector that is not there": (0x0a, 0, {10: 9, 11: 0xffff}, "", 0x002),
    "get features: namespace above NN": (0x0a, 0x10000, {10: 5}, "", 0x00b),
    "set features: unknown": (0x09, 0, {10: 0x7f}, "", 0x002),
    "set features: save": (0x09, 0, {10: 1 << 31 | 4, 11: 340}, "", 0x10d),
    "set features: namespace for a controller's": (0x09, 1, {10: 4, 11: 340}, "", 0x10f),
    "set features: power state that is not there": (0x09, 0, {10: 2, 11: 7}, "", 0x002),
    "create CQ: queue 0": (0x05, 0, {10: 0x000f0000, 11: 1}, DATA_OUT, 0x101),
    "create CQ: exists": (0x05, 0, {10: 0x000f0001, 11: 1}, DATA_OUT, 0x101),
    "create CQ: above what was granted": (0x05, 0, {10: 0x000fffff, 11: 1}, DATA_OUT, 0x101),
    "create SQ: queue 0": (0x01, 0, {10: 0x000f0000, 11: 0x00010001}, DATA_OUT, 0x101),
    "create SQ: exists": (0x01, 0, {10: 0x000f0001, 11: 0x00010001}, DATA_OUT, 0x101),
    "delete SQ: queue 0": (0x00, 0, {10: 0}, "", 0x101),
    "delete SQ: not there": (0x00, 0, {10: 0x30}, "", 0x101),
    "delete CQ: queue 0": (0x04, 0, {10: 0}, "", 0x101),
    "delete CQ: not there": (0x04, 0, {10: 0x30}, "", 0x101),
    "delete CQ: its SQ lives": (0x04, 0, {10: 1}, "", 0x10c),
    "abort of what is not there": (0x08, 0, {10: 0x12340001}, "", 0x000),
}
RAM_BLOCKS = (64 << 20) // 512
# of the 512-byte RAM namespace
BAD_IO = {
    "unknown opcode": (0x7f, {}, "", 0x001),
    "write uncorrectable, not offered": (0x04, {10: 0, 12: 0}, "", 0x001),
    "reservation report, not offered": (0x0e, {10: 3}, DATA_IN, 0x001),
    "read: starts behind the end": (0x02, {10: RAM_BLOCKS, 12: 0}, DATA_IN, 0x080),
    "read: ends behind the end": (0x02, {10: RAM_BLOCKS - 7, 12: 7}, DATA_IN, 0x080),
    "read: start wraps": (0x02, {10: 0xffffffff, 11: 0xffffffff, 12: 7}, DATA_IN, 0x080),
    "read: longer than MDTS": (0x02, {10: 0, 12: 0xffff}, DATA_IN, 0x002),
    "write: starts behind the end": (0x01, {10: RAM_BLOCKS, 12: 0}, DATA_OUT, 0x080),
    "write: longer than MDTS": (0x01, {10: 0, 12: 0xffff}, DATA_OUT, 0x002),
    "compare: ends behind the end": (0x05, {10: RAM_BLOCKS - 7, 12: 7}, DATA_OUT, 0x080),
    "write zeroes: ends behind the end": (0x08, {10: RAM_BLOCKS - 1, 12: 1}, "", 0x080),
    "verify: ends behind the end": (0x0c, {10: RAM_BLOCKS - 1, 12: 1}, "", 0x080),
}


def _run_table(rack, lines):
    """Runs the commands in one go; raises with all that did not answer as expected."""
    script = "\n".join(f"{command} > /tmp/out 2>&1; echo \"@ $? $(tr '\\n' ' ' < /tmp/out)\""
                       for _, command, _ in lines)
    answers = [line for line in rack.host.run(script, 120).lines() if line.startswith("@ ")]
    require(len(answers) == len(lines), "answers are missing")
    wrong = []
    for (name, command, expected), answer in zip(lines, answers):
        found = re.search(r"\(0x([0-9a-f]+)\)", answer)
        status = 0 if answer.startswith("@ 0 ") else int(found.group(1), 16) if found else -1
        has_dnr = status & NVME_STATUS_DNR != 0
        if status & NVME_STATUS_CODE != expected or (expected != 0 and not has_dnr):
            wrong.append(f"{name}: {answer[2:]}, not {expected:#x} with DNR\n    {command}")
    require(not wrong, "\n".join(wrong))


def _words(dwords):
    return " ".join(f"--cdw{number}={value:#x}" for number, value in dwords.items())


def test_bad_admin_commands_get_their_status(rack):
    clear_log(rack)
    command = "nvme admin-passthru /dev/nvme0"
    _run_table(rack, [
        (name, f"{command} -o {opcode:#x} -n {nsid:#x} {_words(dwords)} {data}", expected)
        for name, (opcode, nsid, dwords, data, expected) in BAD_ADMIN.items()])
    require_quiet_log(rack)


def test_bad_io_commands_get_their_status(rack):
    clear_log(rack)
    device = rack.host.namespace(RAM)
    command = f"nvme io-passthru {device} -n {RAM}"
    _run_table(rack, [(name, f"{command} -o {opcode:#x} {_words(dwords)} {data}", expected)
                      for name, (opcode, dwords, data, expected) in BAD_IO.items()])
    require_quiet_log(rack)


TESTS = [test_probe_finds_all_namespaces, test_list_shows_the_namespaces,
         test_id_ctrl_says_nvme_1_4, test_id_ns_says_size_and_block, test_log_pages_are_readable,
         test_log_pages_by_parts_are_the_same,
         test_effects_log_names_what_is_served, test_smart_counts_commands,
         test_error_log_names_a_bad_command, test_get_feature_of_each, test_set_feature_reads_back,
         test_bad_admin_commands_get_their_status, test_bad_io_commands_get_their_status]
