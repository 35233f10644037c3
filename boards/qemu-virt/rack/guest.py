"""A Linux VM of the rack: x86-64, unmodified kernel, commands over a virtio serial port."""
import base64
import hashlib
import os

from rack.agent import Agent
from rack.config import accelerator, artifact, scaled
from rack.errors import RackError
from rack.process import Process
from rack.sockets import Qmp, connect

# Without KVM a small old CPU and fewer start-up checks halve the time to boot; rdrand seeds the
# random numbers, for which programs would wait for seconds.
KERNEL_ARGS = ("console=ttyS0 quiet loglevel=4 panic=-1 mitigations=off nokaslr no_timer_check "
               "tsc=reliable edd=off audit=0 random.trust_cpu=on net.ifnames=0")
BOOT_S = 90
FILES_PORT = "snic.files"  # serial port by which put() sends


def console_of(name):
    return f"{name}.console"


def agent_of(name):
    return f"{name}.agent"


class Guest:
    """One VM; start() and stop() as often as wanted. Its sockets and logs in the rack's folder bear
    its name. What it has besides processor and memory is for the kinds of guests to say: devices()
    and memory()."""

    def __init__(self, name, config, folder):
        self.name, self.config, self.folder = name, config, folder
        self.cores = 1
        self.ram_bytes = 512 << 20
        self.kernel_args = ""
        self.boot_s = BOOT_S
        self.pass_fds = []
        self.process = None
        self.agent = None
        self.accel = accelerator()

    def devices(self):
        """More arguments for QEMU."""
        return []

    def memory(self):
        """Arguments for QEMU: the machine and its memory."""
        return ["-M", "q35", "-m", f"{self.ram_bytes}B"]

    def boot(self):
        """Arguments for QEMU: what runs."""
        guest = artifact(self.config.guest)
        return ["-kernel", f"{guest}/vmlinux", "-initrd", f"{guest}/initramfs.cpio",
                "-append", f"{KERNEL_ARGS} {self.kernel_args}"]

    def set_up(self):
        """What is done after each boot, once it takes commands."""

    def start(self):
        """Starts the VM; the guest boots meanwhile."""
        for kind in ("console", "agent", "monitor", "files"):
            _unlink(os.path.join(self.folder, f"{self.name}.{kind}"))
        self.process = Process(f"{self.name}-qemu", self._argv(), self.folder,
                               pass_fds=self.pass_fds, console=f"{self.name}.log")

    def wait_until_up(self):
        """Until the guest takes commands."""
        self.connect()
        self.process.wait_for(self.agent.ready.is_set, "answer from the guest's agent",
                              self.boot_s)
        if not self.agent.is_open:
            raise RackError(f"the guest ended while booting; see {self.folder}/{self.name}.log")

    def connect(self):
        """Opens the command channel of a VM that may have been started by another program."""
        self.agent = Agent(self.folder, agent_of(self.name))

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

    def put(self, path, target, mode=0o755, timeout_s=60):
        """Copies a file of this machine into the guest."""
        with open(path, "rb") as file:
            data = file.read()
        command = (f"port=$(grep -lx {FILES_PORT} /sys/class/virtio-ports/*/name) && "
                   "port=${port%/name} && "
                   f"head -c {len(data)} /dev/${{port##*/}} > '{target}' && "
                   f"chmod {mode:o} '{target}' && sha256sum < '{target}'")
        with connect(self.folder, f"{self.name}.files") as files:
            files.settimeout(scaled(timeout_s))
            job = self.spawn(command, timeout_s)
            files.sendall(data)
            said = job.wait().out.split()
        if said[:1] != [hashlib.sha256(data).hexdigest()]:
            raise RackError(f"{path} came into the guest damaged")

    def get(self, path, timeout_s=60):
        """The bytes of a file of the guest; for small ones."""
        return base64.b64decode(self.run(f"base64 '{path}'", timeout_s).out)

    def monitor(self, command, **arguments):
        """One command to QEMU."""
        qmp = Qmp(self.folder, f"{self.name}.monitor")
        try:
            return qmp.run(command, **arguments)
        finally:
            qmp.close()

    def log(self):
        """All that the guest's console said so far."""
        path = os.path.join(self.folder, f"{self.name}.log")
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()

    def _argv(self):
        name = self.name
        return [
            f"{artifact('qemu')}/bin/qemu-system-x86_64", "-name", name,
            "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
            *self.memory(), "-smp", str(self.cores), *self._cpu(),
            *self.boot(),
            "-chardev", f"socket,id=con,path={console_of(name)},server=on,wait=off,"
                        f"logfile={name}.log,logappend=on",
            "-serial", "chardev:con",
            "-qmp", f"unix:{name}.monitor,server=on,wait=off",
            "-chardev", f"socket,id=agent,path={agent_of(name)},server=on,wait=off",
            "-chardev", f"socket,id=files,path={name}.files,server=on,wait=off",
            "-device", "virtio-serial-pci",
            "-device", "virtserialport,chardev=agent,name=snic.agent",
            "-device", f"virtserialport,chardev=files,name={FILES_PORT}",
            *self.devices(),
        ]

    def _cpu(self):
        if self.accel == "kvm":
            return ["-accel", "kvm", "-cpu", "host"]
        return ["-accel", "tcg,thread=multi", "-cpu", "Nehalem,+rdrand"]


def _unlink(path):
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
