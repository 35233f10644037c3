"""The rack's Ethernet: the switch program boards/qemu-virt/fabric, its faults and captures.

    with rack.fabric.capture("peer") as pcap, rack.fabric.faults("peer", "out", loss="1%"):
        rack.peer.run(...)
    rack.fabric.status()["peer.eth.out.lost"]

A station is named as the rack names it: "nic", "peer", "peer2"; "all" means all of them. Directions
are the station's wire as the switch sees it: "in" from the station, "out" to it, "both".
"""
import contextlib
import os

from rack.config import BUILD
from rack.process import Process
from rack.sockets import ask_service

PROGRAM = os.path.join(BUILD, "host", "fabric")
CONTROL = "fabric.ctl"


def socket_of(station):
    """The station's datagram socket, below the rack's folder; also the name of its port."""
    return f"{station}.eth"


def netdev(station, mac, mtu):
    """QEMU's arguments for a modern virtio-net device on the switch; `mtu` is the IP MTU."""
    path = socket_of(station)
    return ["-netdev", f"dgram,id=net,local.type=unix,local.path={path},"
                       f"remote.type=unix,remote.path={path}.switch",
            "-device", f"virtio-net-pci,netdev=net,mac={mac},disable-legacy=on,mq=off,"
                       f"host_mtu={mtu},romfile="]


class Fabric:
    """One switch with a port for each station."""

    def __init__(self, folder, stations, seed):
        self.folder, self.stations, self.seed_at_start = folder, stations, seed
        self.process = None

    def start(self):
        ports = [socket_of(station) for station in self.stations]
        argv = [PROGRAM, "--dir", ".", "--seed", str(self.seed_at_start), *ports]
        self.process = Process("fabric", argv, self.folder)
        self.process.wait_for_output("fabric: ready", 10)

    def stop(self):
        if self.process:
            self.process.stop()

    def control(self, command):
        """One command (boards/qemu-virt/fabric/cmd.c lists them); the lines of the answer."""
        return ask_service(self.folder, CONTROL, "fabric", command)

    def status(self):
        """{name: text}, e.g. "nic.eth.in.frames"."""
        return dict(line.split(maxsplit=1) for line in self.control("status"))

    def number(self, name):
        """One number of status()."""
        return int(self.status()[name])

    def seed(self, number):
        """From here on the faults depend on the frames and their order alone."""
        self.control(f"seed {number}")

    def fault(self, station, direction, **settings):
        """Changes settings, e.g. loss="1%", only="roce"; others stay."""
        words = " ".join(f"{name}={value}" for name, value in settings.items())
        self.control(f"fault {_port(station)} {direction} {words}")

    def clear(self):
        """No faults, no cuts."""
        self.control("fault all both none")
        self.control("join all")

    @contextlib.contextmanager
    def faults(self, station, direction, **settings):
        """As fault(), for as long as the block lasts: then the station has none any more."""
        self.fault(station, direction, **settings)
        try:
            yield
        finally:
            self.control(f"fault {_port(station)} {direction} none")

    def cut(self, station, other=None):
        """No frame from or to the station, or between the two."""
        self.control(f"cut {_port(station)} {_port(other) if other else ''}")

    def join(self, station="all", other=None):
        """Undoes cut()."""
        self.control(f"join {_port(station)} {_port(other) if other else ''}")

    @contextlib.contextmanager
    def capture(self, station, name=None):
        """Records what the station sends and gets; the value is the file's path, which may be read
        while the block runs."""
        name = name or f"{station}.pcap"
        self.control(f"capture {_port(station)} {name}")
        try:
            yield os.path.join(self.folder, name)
        finally:
            if self.process.is_running():
                self.control(f"capture {_port(station)} stop")


def _port(station):
    return station if station == "all" else socket_of(station)
