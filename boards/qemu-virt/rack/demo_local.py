"""The NIC with a drive of its own: an unmodified Linux finds an NVMe drive that is our firmware."""
from rack.config import MIB
from rack.demo_steps import Steps, squeeze

TOPOLOGY = {
    "qemu-virt": """
   host VM ── x86-64, Linux {kernel}, its own nvme driver
      │
      │  NVMe over PCIe: registers, queues, MSI-X          (vfio-user; host RAM is shared)
      │
   pcielink ── the endpoint controller's model
      │
      │  BAR pages, register events, host RAM as a BAR     (ivshmem)
      │
   SmartNIC ── aarch64, {cores}, snic firmware
      │
      └─ its own NVMe drive, {drive_mib} MiB: namespace 1;  namespace 2 is NIC memory""",
    "native": """
   host VM ── x86-64, Linux {kernel}, its own nvme driver
      │
      │  NVMe over PCIe: registers, queues, MSI-X          (vfio-user; host RAM is shared)
      │
   snic ── the firmware as a process of this machine; namespace 1 is its memory""",
    "reference": """
   host VM ── x86-64, Linux {kernel}, its own nvme driver
      │
   QEMU's own NVMe device, for comparison: no snic here""",
}


class LocalDemo(Steps):
    """The steps, in the order in which they are shown."""

    def run(self):
        self.show_topology()
        self.find_drive()
        self.use_filesystem()
        if self.rack.nic and self.rack.nic.drives:
            self.compare_with_file(self.rack.nic.drives[0], 64, "the drive behind the NIC")
        before = self.counters()
        self.verify_by_fio()
        self.show_counters(before, self.counters())
        self.check_kernel_log()

    def show_topology(self):
        config = self.rack.config
        cores = f"{config.nic_cores} core" + ("s" if config.nic_cores > 1 else "")
        self.out.title("The rack")
        print(TOPOLOGY[config.board].format(
            kernel=self.host.agent.kernel, cores=cores, drive_mib=config.nic_drive_bytes // MIB))

    def find_drive(self):
        self.out.title("What the host sees")
        with self.out.step("the host's nvme driver finds the drive"):
            self.device = self.host.namespace(1)
        self.out.show_command("host# nvme list", squeeze(self.host.run("nvme list").out))
        self.out.show_command("host# lsblk", self.host.run("lsblk").out)

    def counters(self):
        return self.rack.nic.numbers("stats") if self.rack.nic else {}

    def show_counters(self, before, after):
        """What moved during the fio run, and that nothing went through NIC memory."""
        if not after:
            return
        moved = {name: value - before.get(name, 0) for name, value in after.items()}
        self.out.title("How the data moved (the NIC's own counters, during the fio run)")
        commands = max(moved["fn0.commands"], 1)

        def row(title, name):
            return (title, f"{moved[name]}", f"{moved[name] / commands:.2f} per command")

        to_host, from_host = moved["fn0.data_to_host_bytes"], moved["fn0.data_from_host_bytes"]
        rows = [
            ("commands", f"{commands}", "one per I/O"),
            row("SQE fetches over PCIe", "fn0.sqe_reads"),
            row("CQE writes", "fn0.cqe_writes"),
            row("interrupts", "fn0.interrupts"),
            ("data drive -> host RAM", f"{to_host / MIB:.1f} MiB", ""),
            ("data host RAM -> drive", f"{from_host / MIB:.1f} MiB", ""),
            ("bytes staged in NIC memory", f"{self._staged(moved)}", "zero copy: must be 0"),
        ]
        for name, value, remark in rows:
            print(f"      {name:<28} {value:>12}   {remark}")
        with self.out.step("no byte of data was staged in the NIC") as step:
            step.require(self._staged(moved) == 0, f"{self._staged(moved)} bytes were")

    @staticmethod
    def _staged(moved):
        return sum(value for name, value in moved.items() if name.endswith(".staged_bytes"))
