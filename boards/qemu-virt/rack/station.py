"""A Linux VM with a port of the rack's Ethernet switch, and RDMA over it by the kernel's rxe."""
import ipaddress

from rack.errors import RackError
from rack.fabric import netdev
from rack.guest import Guest

MODULES = "rdma_rxe ib_uverbs rdma_ucm"


class Station(Guest):
    """A guest with addresses. set_up() gives them to the kernel, after each boot."""

    def __init__(self, name, config, folder, number):
        """`number`: the last byte of its addresses (RackConfig.station_ip)."""
        super().__init__(name, config, folder)
        self.ip, self.ip6 = config.station_ip(number), config.station_ip6(number)
        self.mac = config.station_mac(number)

    def devices(self):
        return netdev(self.name, self.mac, self.config.mtu)

    def restart(self):
        super().restart()
        self.set_up()

    def reboot(self):
        super().reboot()
        self.set_up()

    def set_up(self):
        """Addresses and RDMA; returns when the port is active and its addresses are usable."""
        config = self.config
        name = "eth0"
        lines = ["set -e", "ip link set lo up",
                 "echo 0 > /proc/sys/net/ipv6/conf/default/accept_dad",
                 "echo 0 > /proc/sys/net/ipv6/conf/eth0/accept_dad",
                 f"ip link set eth0 mtu {config.mtu} up"]
        if config.vlan:
            name = f"eth0.{config.vlan}"
            lines += ["modprobe 8021q",
                      f"ip link add link eth0 name {name} type vlan id {config.vlan}",
                      f"ip link set {name} up"]
        lines += [f"ip addr add {self.ip}/{config.prefix} dev {name}",
                  f"ip addr add {self.ip6}/{config.prefix6} dev {name} nodad",
                  f"modprobe -a {MODULES}",
                  "rdma link add rxe0 type rxe netdev eth0",
                  "for i in $(seq 100); do",
                  "  rdma link show rxe0/1 | grep -q 'state ACTIVE' && exit 0",
                  "  sleep 0.1",
                  "done", "rdma link", "exit 1"]
        result = self.run("\n".join(lines), 60, check=False)
        if result.code != 0:
            raise RackError(f"{self.name}: no RDMA on its Ethernet:\n{result.out}")

    def serve(self, command, port, timeout_s=60):
        """Starts a server; returns its Job once it listens by the connection manager."""
        job = self.spawn(command, timeout_s)
        listens = f"rdma resource show cm_id | grep -q 'LISTEN.*:{port} '"
        result = self.run(f"for i in $(seq 100); do {listens} && exit 0; sleep 0.05; done; exit 1",
                          timeout_s, check=False)
        if result.code != 0 and not job.is_done():
            raise RackError(f"{self.name}: '{command}' does not listen on port {port}")
        return job

    def gid_index(self, address):
        """Index of the GID of one of the station's addresses, for programs that do without the
        connection manager (their option -g, or -x for perftest)."""
        command = f"cd /sys/class/infiniband/rxe0/ports/1/gids && grep -slx {_gid_text(address)} *"
        found = self.run(command, check=False).out.split()
        if found:
            return int(found[0])
        raise RackError(f"{self.name} has no GID for {address}")


def _gid_text(address):
    """An address as sysfs shows its GID; IPv4 is mapped (RFC 4291, 2.5.5.2)."""
    ip = ipaddress.ip_address(address)
    if ip.version == 4:
        ip = ipaddress.IPv6Address(b"\0" * 10 + b"\xff\xff" + ip.packed)
    return ip.exploded
