"""pcielink: the model of the NIC's PCIe endpoint controller, between the host's QEMU and the NIC's."""
import os

from rack.config import BUILD, scaled
from rack.process import Process
from rack.sockets import connect

PROGRAM = os.path.join(BUILD, "host", "pcielink")


class Link:
    """One process, for one host and one NIC."""

    def __init__(self, config, folder, ram_fd):
        self.config, self.folder, self.ram_fd = config, folder, ram_fd
        self.process = None

    def start(self):
        argv = [PROGRAM, "--dir", ".", "--ram", f"/proc/self/fd/{self.ram_fd}",
                "--ram-size", str(self.config.host_ram_bytes), "--doorbells", self.config.doorbells]
        if self.config.vectors:
            argv += ["--vectors", str(self.config.vectors)]
        self.process = Process("pcielink", argv, self.folder, pass_fds=[self.ram_fd])
        self.process.wait_for_output("pcielink: ready", 10)

    def stop(self):
        if self.process:
            self.process.stop()

    def control(self, command, timeout_s=5):
        """One text command, e.g. status, flr, link down, link up; returns the answer."""
        client = connect(self.folder, "ctl")
        client.settimeout(scaled(timeout_s))
        with client:
            client.sendall(command.encode() + b"\n")
            client.shutdown(1)
            answer = b""
            while block := client.recv(4096):
                answer += block
        return answer.decode()
