"""The native board: the firmware as a process of this machine, with the vfio-user server inside."""
import os

from rack.config import BUILD
from rack.process import Process

PROGRAM = os.path.join(BUILD, "native", "snic")


class Native:
    """Serves the host VM at <folder>/cntrl, as pcielink does."""

    def __init__(self, config, folder):
        self.config, self.folder = config, folder
        self.process = None

    def start(self):
        argv = [PROGRAM, "--config", self.config.bootargs(),
                "--doorbells", self.config.doorbells, "."]
        self.process = Process("native", argv, self.folder)
        socket = os.path.join(self.folder, "cntrl")
        self.process.wait_for(lambda: os.path.exists(socket), "socket", 10)

    def stop(self):
        if self.process:
            self.process.stop()

    def restart(self):
        self.stop()
        self.start()
