"""A peer: a Linux VM on the switch that does what a test tells it to."""
from rack.station import Station

FIRST_NUMBER = 2


class Peer(Station):
    """rack.peer is the first one, named "peer"; the others are peer2, peer3, ..."""

    def __init__(self, config, folder, number):
        name = "peer" if number == 1 else f"peer{number}"
        super().__init__(name, config, folder, FIRST_NUMBER - 1 + number)
        self.cores, self.ram_bytes = config.peer_cores, config.peer_ram_bytes
