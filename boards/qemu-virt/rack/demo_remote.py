"""The whole rack: host, NIC, fabric, target. The host's drives are namespaces of a Linux target, on
each of the three data paths, and the host has nothing but its NVMe driver."""
import re

from rack.config import MIB, RackConfig
from rack.demo_steps import TIMEOUT_S, Steps, squeeze
from rack.tree import Volume, volumes_tree

TOPOLOGY = """
   host VM ── x86-64, Linux {kernel}, its own nvme driver
      │
      │  NVMe over PCIe                                    (vfio-user; host RAM is shared)
      │
   {nic}
      │
      │  NVMe over Fabrics: RDMA, RoCEv2 over Ethernet, MTU {mtu}
      │
   switch ── loses, delays and records frames when told to
      │
   target VM ── x86-64, Linux {kernel}, nvmet-rdma over rxe
      │
      └─ {drives} drives, files of this machine"""
NICS = {
    "qemu-virt": "SmartNIC ── aarch64, {cores}, snic firmware        (pcielink: its PCIe endpoint)",
    "native": "snic ── the firmware as a process of this machine",
}
SUBSYSTEM, RINGS_SUBSYSTEM = "nqn.2026-01.rack:drives", "nqn.2026-01.rack:rings"
HOSTNQN = "nqn.2026-01.rack:tenant-0"
PATHS = {1: "zero-copy", 2: "terminate", 3: "host-queues"}  # by NSID
DRIVE_BYTES = 256 * MIB
WAIT_MS = 150000  # of the volumes, for a target that boots on a slow machine
LOADS = [("4 KiB", 4096, "64"), ("128 KiB", 128 << 10, "16")]  # block, number of I/Os each way


def config(**changes):
    """One subsystem for two data paths; the third has queues of its own kind, so its own."""
    patient = {"wait-ms": WAIT_MS}
    tree = volumes_tree(
        [Volume("data", SUBSYSTEM, 1, PATHS[1], patient),
         Volume("staged", SUBSYSTEM, 2, PATHS[2], patient),
         Volume("rings", RINGS_SUBSYSTEM, 1, PATHS[3], patient)],
        {"serve-wait-ms": 15000}, {"hostnqn": HOSTNQN})
    return RackConfig(fabric=True, peers=0, targets=1, nic_drives=0, mtu=4200, tree=tree,
                      target_drives=[DRIVE_BYTES] * len(PATHS),
                      target_serves={SUBSYSTEM: [0, 1], RINGS_SUBSYSTEM: [2]},
                      host_args="nvme_core.io_timeout=240", **changes)


class RemoteDemo(Steps):
    """The steps, in the order in which they are shown."""

    def run(self):
        self.show_topology()
        self.discover()
        self.find_drives()
        self.use_filesystem(random_mib=16)
        self.compare_with_file(self.rack.target.drives[0], 64, "the target's drive")
        self.verify_by_fio(size="16m")
        self.compare_paths()
        self.check_kernel_log()

    def show_topology(self):
        rack = self.rack
        cores = f"{rack.config.nic_cores} core" + ("s" if rack.config.nic_cores > 1 else "")
        self.out.title("The rack")
        print(TOPOLOGY.format(kernel=self.host.agent.kernel, mtu=rack.config.mtu,
                              nic=NICS[rack.config.board].format(cores=cores),
                              drives=len(rack.target.drives)))

    def discover(self):
        """What the target tells the NIC, and what the target says about the NIC."""
        target, nic = self.rack.target, self.rack.nic
        self.out.title("Discovery")
        if nic:
            with self.out.step("the NIC asks the target's discovery service") as step:
                said = "\n".join(nic.ask(f"discover {target.ip}", 60))
                step.require(SUBSYSTEM in said and RINGS_SUBSYSTEM in said, said)
            self.out.show_command(f"snic> discover {target.ip}", said)
            self.out.show_command("snic> subsystems", "\n".join(nic.ask("subsystems")))
        with self.out.step("the target knows the NIC by its host name") as step:
            log = target.kernel_log(f"creating .*controller.*{re.escape(HOSTNQN)}")
            step.require(HOSTNQN in log, f"it says:\n{target.kernel_log()}")
        lines = [line.partition("] ")[2] for line in log.splitlines()]
        self.out.show_command("target# dmesg", "\n".join(lines[-3:]))

    def find_drives(self):
        self.out.title("What the host sees")
        with self.out.step("its nvme driver finds three drives; each is the target's by its UUID"
                           ) as step:
            devices = {nsid: self.host.namespace(nsid, 120) for nsid in PATHS}
            for nsid, device in devices.items():
                seen = self.host.run(f"cat /sys/block/{device[5:]}/uuid").out.strip()
                sub = self.rack.target.subsystems[SUBSYSTEM if nsid < 3 else RINGS_SUBSYSTEM]
                real = sub.uuid(nsid if nsid < 3 else 1)
                step.require(seen == real, f"{device} is {seen}, not {real}")
        self.device = devices[1]
        self.devices = devices
        self.out.show_command("host# nvme list", squeeze(self.host.run("nvme list").out))
        self.out.show_command("host# lsblk", self.host.run("lsblk").out)

    def compare_paths(self):
        """The same loads on each data path, and what they cost."""
        if not self.rack.nic:
            return
        self.out.title("The three data paths, by the NIC's own counters, for each I/O")
        tables = [(f"{name} {pattern}s", {
            path: self._measure(self.devices[nsid], pattern, size, count)
            for nsid, path in PATHS.items()})
            for name, size, count in LOADS for pattern in ("read", "write")]
        rows = list(tables[0][1]["zero-copy"])
        for title, columns in tables:
            print(f"      {title:<30}" + "".join(f"{path:>14}" for path in columns))
            for row in rows:
                print(f"        {row:<28}" + "".join(f"{cost[row]:>14.1f}"
                                                     for cost in columns.values()))
        print(f"      queue pairs of all three, at the target: {self.rack.target.queue_pairs()}")
        with self.out.step("zero copy: no byte of data was staged in the NIC") as step:
            staged = {title: columns["zero-copy"]["bytes staged in NIC memory"]
                      for title, columns in tables}
            step.require(not any(staged.values()), f"{staged}")

    def _measure(self, device, pattern, size, count):
        before = self._counters()
        self.host.run(f"fio --name=cost --filename={device} --rw={pattern} --bs={size} "
                      f"--number_ios={count} --size={16 * MIB} --iodepth=8 --direct=1 "
                      "--ioengine=libaio --allow_file_create=0", TIMEOUT_S)
        after = self._counters()
        moved = {name: value - before.get(name, 0) for name, value in after.items()}
        ios = max(int(count), 1)

        def each(*names):
            return sum(moved.get(name, 0) for name in names) / ios

        return {
            "bytes staged in NIC memory": sum(value for name, value in moved.items()
                                              if name.endswith("staged_bytes")) / ios,
            "PCIe reads": each("fn0.sqe_reads", "fn0.list_reads", "fn0.data_from_host",
                               "rdma0.host_ring_reads"),
            "PCIe bytes read": each("fn0.sqe_read_bytes", "fn0.list_read_bytes",
                                    "fn0.data_from_host_bytes", "rdma0.host_ring_read_bytes"),
            "PCIe writes": each("fn0.cqe_writes", "fn0.data_to_host", "rdma0.host_ring_writes"),
            "PCIe bytes written": each("fn0.cqe_write_bytes", "fn0.data_to_host_bytes",
                                       "rdma0.host_ring_write_bytes"),
            "packets sent": each("rdma0.tx_packets"),
            "packets received": each("rdma0.rx_packets"),
            "bytes copied to be sent": each("rdma0.copied_bytes"),
            "bytes placed from packets": each("rdma0.placed_bytes"),
        }

    def _counters(self):
        return {**self.rack.nic.numbers("stats"), **self.rack.nic.numbers("rdma")}
