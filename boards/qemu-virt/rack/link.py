"""pcielink: the model of the NIC's PCIe endpoint controller, between the two QEMUs."""
import os

from rack.config import BUILD
from rack.process import Process
from rack.sockets import ask_service

PROGRAM = os.path.join(BUILD, "host", "pcielink")


class Link:
    """One process, for one host and one NIC."""

    def __init__(self, config, folder, ram_fd):
        self.config, self.folder, self.ram_fd = config, folder, ram_fd
        self.process = None

    def start(self):
        argv = [PROGRAM, "--dir", ".", "--ram", f"/proc/self/fd/{self.ram_fd}",
                "--ram-size", str(self.config.host_ram_bytes), "--doorbells", self.config.doorbells,
                "--host-poll", self.config.host_poll]
        argv += self.config.link_args
        self.process = Process("pcielink", argv, self.folder, pass_fds=[self.ram_fd])
        self.process.wait_for_output("pcielink: ready", 10)

    def stop(self):
        if self.process:
            self.process.stop()

    def control(self, command, timeout_s=5):
        """One command: status, flr, link down, link up; returns the lines of the answer."""
        return ask_service(self.folder, "ctl", "pcielink", command, timeout_s)

    def status(self):
        """{name: text} as pcielink sees the link."""
        return dict(line.split(maxsplit=1) for line in self.control("status"))
