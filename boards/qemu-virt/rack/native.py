"""The native board: the firmware as a process of this machine, with the vfio-user server inside."""
import os

from rack.config import BUILD
from rack.errors import RackError
from rack.fabric import socket_of
from rack.process import Process
from rack.tree import compile_tree

TREE = "nic.dtb"
PROGRAM = os.path.join(BUILD, "native", "snic")


class Native:
    """Serves the host VM at <folder>/cntrl, as pcielink does."""

    def __init__(self, config, folder):
        self.config, self.folder = config, folder
        self.process = None

    def start(self):
        if not os.path.exists(PROGRAM):
            raise RackError(f"there is no native board at {PROGRAM}: run `make all` first")
        argv = [PROGRAM, "--config", self.config.bootargs(),
                "--doorbells", self.config.doorbells]
        if self.config.tree:
            compile_tree(self.config.tree, os.path.join(self.folder, TREE))
            argv += ["--config", TREE]
        argv += ["--fabric", socket_of("nic")] if self.config.fabric else []
        argv.append(".")
        self.process = Process("native", argv, self.folder)

    def wait_until_up(self, timeout_s=20):
        self.process.wait_for_output("app: serving", timeout_s)

    def stop(self):
        if self.process:
            self.process.stop()

    def restart(self):
        self.stop()
        self.start()
        self.wait_until_up()
