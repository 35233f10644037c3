"""The host: an x86-64 VM with an unmodified Linux that uses the NIC's NVMe function."""
import os

from rack.config import scaled
from rack.errors import RackError
from rack.guest import Guest


class Host(Guest):
    """Its memory is a file that the NIC reaches, the same after a restart."""

    def __init__(self, config, folder, ram_fd):
        super().__init__("host", config, folder)
        self.ram_fd = ram_fd
        self.pass_fds = [ram_fd]
        self.cores, self.ram_bytes = config.host_cores, config.host_ram_bytes
        self.kernel_args = config.host_args

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

    def memory(self):
        return ["-M", "q35,memory-backend=ram", "-m", f"{self.ram_bytes}B",
                "-object", f"memory-backend-file,id=ram,size={self.ram_bytes},share=on,"
                           f"mem-path=/proc/self/fd/{self.ram_fd}"]

    def devices(self):
        argv = []
        for device in self._nvme() + self.config.host_devices:
            argv += ["-device", device]
        return argv + self._reference_drives()

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
