"""The rack: a host VM, pcielink and the NIC, peers and their Ethernet, started and stopped as one.

    from rack import Rack, RackConfig
    with Rack("mytest", RackConfig()) as rack:
        print(rack.host.run("nvme list").out)
"""
from rack.config import RackConfig
from rack.errors import GuestGone, GuestTimeout, CommandFailed, RackError
from rack.rack import Rack

__all__ = ["Rack", "RackConfig", "RackError", "GuestGone", "GuestTimeout", "CommandFailed"]
