"""The host: an x86-64 VM with an unmodified Linux that uses the NIC's NVMe function."""
import os

from rack.agent import Agent
from rack.config import accelerator, artifact, scaled
from rack.errors import RackError
from rack.process import Process
from rack.sockets import Qmp

CONSOLE = "host.console"
AGENT = "host.agent"
MONITOR = "host.monitor"
# Without KVM a small old CPU and fewer start-up checks halve the time to boot; rdrand seeds the
# random numbers, for which programs would wait for seconds.
KERNEL_ARGS = ("console=ttyS0 quiet loglevel=4 panic=-1 mitigations=off nokaslr no_timer_check "
               "tsc=reliable edd=off audit=0 random.trust_cpu=on net.ifnames=0")
BOOT_S = 90


class Host:
    """One VM; start() and stop() as often as wanted, with the same RAM file."""

    def __init__(self, config, folder, ram_fd):
        self.config, self.folder, self.ram_fd = config, folder, ram_fd
        self.process = None
        self.agent = None
        self.accel = accelerator()

    def start(self):
        """Starts the VM; the guest boots meanwhile."""
        for name in (CONSOLE, AGENT, MONITOR):
            _unlink(os.path.join(self.folder, name))
        self.process = Process("host-qemu", self._argv(), self.folder, pass_fds=[self.ram_fd],
                               console="host.log")

    def wait_until_up(self):
        """Until the guest takes commands."""
        self.connect()
        self.process.wait_for(self.agent.ready.is_set, "answer from the guest's agent", BOOT_S)
        if not self.agent.is_open:
            raise RackError(f"the guest ended while booting; see {self.folder}/host.log")

    def connect(self):
        """Opens the command channel of a VM that may have been started by another program."""
        self.agent = Agent(self.folder, AGENT)

    def disconnect(self):
        """Leaves the command channel to others."""
        if self.agent:
            self.agent.close()
            self.agent = None

    def stop(self):
        """As if power was cut."""
        if self.process:
            self.process.stop()
        self.disconnect()

    def restart(self):
        """Power off, power on, boot."""
        self.stop()
        self.start()
        self.wait_until_up()

    def reboot(self):
        """Reset of the running VM, as by its reset button; the device sees a bus reset."""
        self.disconnect()
        self.monitor("set-action", reboot="reset")
        self.monitor("system_reset")
        self.wait_until_up()
        self.monitor("set-action", reboot="shutdown")  # a panic ends the VM: it must not go unseen

    def run(self, command, timeout_s=60, check=True):
        """Runs a shell command in the guest; returns its Result."""
        return self.spawn(command, timeout_s).wait(check)

    def spawn(self, command, timeout_s=60):
        """Starts a shell command in the guest; the Job's wait() returns its Result."""
        self.process.require_running()
        return self.agent.start(command, timeout_s)

    def namespace(self, nsid=1, timeout_s=30):
        """Device file of a namespace (Linux numbers them as it finds them), once it is there."""
        find = (f"for i in $(seq {round(scaled(timeout_s)) * 10}); do\n"
                "  for n in /sys/block/nvme*n*; do\n"
                f'    [ "$(cat $n/nsid 2>/dev/null)" = {nsid} ] && echo /dev/${{n##*/}} && exit 0\n'
                "  done\n  sleep 0.1\ndone\nexit 1")
        result = self.run(find, timeout_s + 10, check=False)
        if result.code != 0:
            log = self.run("dmesg | grep -i nvme | tail -5", check=False).out
            raise RackError(f"the host found no namespace {nsid} within {timeout_s} s:\n{log}")
        return result.out.strip()

    def monitor(self, command, **arguments):
        """One command to QEMU."""
        qmp = Qmp(self.folder, MONITOR)
        try:
            return qmp.run(command, **arguments)
        finally:
            qmp.close()

    def log(self):
        """All that the guest's console said so far."""
        path = os.path.join(self.folder, "host.log")
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()

    def _argv(self):
        guest = artifact(self.config.guest)
        size = self.config.host_ram_bytes
        argv = [
            f"{artifact('qemu')}/bin/qemu-system-x86_64", "-name", "host",
            "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
            "-M", "q35,memory-backend=ram", "-smp", str(self.config.host_cores), *self._cpu(),
            "-m", f"{size}B",
            "-object", f"memory-backend-file,id=ram,size={size},share=on,"
                       f"mem-path=/proc/self/fd/{self.ram_fd}",
            "-kernel", f"{guest}/vmlinux", "-initrd", f"{guest}/initramfs.cpio",
            "-append", f"{KERNEL_ARGS} {self.config.host_args}",
            "-chardev", f"socket,id=con,path={CONSOLE},server=on,wait=off,logfile=host.log,"
                        "logappend=on",
            "-serial", "chardev:con",
            "-qmp", f"unix:{MONITOR},server=on,wait=off",
            "-chardev", f"socket,id=agent,path={AGENT},server=on,wait=off",
            "-device", "virtio-serial-pci",
            "-device", "virtserialport,chardev=agent,name=snic.agent",
        ]
        for device in self._nvme() + self.config.host_devices:
            argv += ["-device", device]
        return argv + self._reference_drives()

    def _cpu(self):
        if self.accel == "kvm":
            return ["-accel", "kvm", "-cpu", "host"]
        return ["-accel", "tcg,thread=multi", "-cpu", "Nehalem,+rdrand"]

    def _nvme(self):
        if self.config.board == "reference":
            return []
        return ['{"driver":"vfio-user-pci","id":"nic","socket":{"type":"unix","path":"cntrl"}}']

    def _reference_drives(self):
        """QEMU's own NVMe function in place of the NIC: what a test expects of a good drive."""
        if self.config.board != "reference":
            return []
        argv = ["-device", "nvme,id=nic,serial=reference"]
        for number, size in enumerate([self.config.nic_drive_bytes, 64 << 20]):
            path = os.path.join(self.folder, f"reference-{number}.img")
            with open(path, "wb") as file:
                file.truncate(size)
            argv += ["-drive", f"if=none,id=ns{number},file={path},format=raw,cache=unsafe",
                     "-device", f"nvme-ns,drive=ns{number},bus=nic,nsid={number + 1}"]
        return argv


def _unlink(path):
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
