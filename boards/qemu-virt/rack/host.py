"""The host: an x86-64 VM with an unmodified Linux that uses the NIC's NVMe function."""
import os
import shutil

from rack.config import artifact, scaled
from rack.errors import RackError
from rack.images import BOOT, make_drive
from rack.station import Station

NUMBER = 201  # of its addresses
BOOT_FROM_DRIVE_S = 240


class Host(Station):
    """Its memory is a file that the NIC reaches, the same after a restart. It is a station of the
    switch, too, if config.host_on_fabric."""

    def __init__(self, config, folder, ram_fd):
        super().__init__("host", config, folder, NUMBER)
        self.ram_fd = ram_fd
        self.pass_fds = [ram_fd]
        self.cores, self.ram_bytes = config.host_cores, config.host_ram_bytes
        self.kernel_args = config.host_args
        if config.host_boot != "kernel":
            self.boot_s = BOOT_FROM_DRIVE_S

    def namespace(self, nsid=1, timeout_s=30):
        """Device file of a namespace of the NIC (Linux numbers them as it finds them), once it is
        there. Where the kernel sees one through a subsystem, transport stands a folder deeper."""
        test = (f'[ "$(cat $n/nsid 2>/dev/null)" = {nsid} ] && '
                "cat $n/device/transport $n/device/nvme*/transport 2>/dev/null | grep -qx pcie")
        return self._find(test, f"namespace {nsid}", timeout_s)

    def namespace_of(self, uuid, timeout_s=30):
        """Device file of the namespace with that UUID, of whatever transport."""
        return self._find(f'[ "$(cat $n/uuid 2>/dev/null)" = {uuid} ]', f"UUID {uuid}", timeout_s)

    def _find(self, test, what, timeout_s):
        """The kernel's names of paths (nvme0c0n1) have no device file."""
        find = (f"for i in $(seq {round(scaled(timeout_s)) * 10}); do\n"
                "  for n in /sys/block/nvme*n*; do\n"
                f"    [ -b /dev/${{n##*/}} ] && {test} && echo /dev/${{n##*/}} && exit 0\n"
                "  done\n  sleep 0.1\ndone\nexit 1")
        result = self.run(find, timeout_s + 10, check=False)
        if result.code != 0:
            log = self.run("dmesg | grep -i nvme | tail -5", check=False).out
            raise RackError(f"the host found no {what} within {timeout_s} s:\n{log}")
        return result.out.strip()

    def connect_fabric(self, target, nqn, options="-i 2"):
        """By the kernel's own nvme-rdma, over the host's own Ethernet port."""
        self.run(f"modprobe nvme_rdma && nvme connect -t rdma -a {target.ip} -s 4420 -n {nqn} "
                 f"{options}")

    def set_up(self):
        if self.config.host_on_fabric:
            super().set_up()

    def boot(self):
        if self.config.host_boot == "kernel":
            return super().boot()
        if self.config.host_boot == "bios":  # SeaBIOS tells what it does at this port
            return ["-chardev", "file,id=bios,path=host-bios.log,append=on",
                    "-device", "isa-debugcon,iobase=0x402,chardev=bios"]
        return ["-drive", "if=pflash,format=raw,unit=0,readonly=on,"
                          f"file={artifact(BOOT)}/OVMF_CODE.fd",
                "-drive", f"if=pflash,format=raw,unit=1,file={self._uefi_variables()}"]

    def _uefi_variables(self):
        """They outlive a power cut, as in a PC."""
        path = os.path.join(self.folder, "host-uefi-variables.fd")
        if not os.path.exists(path):
            shutil.copy(f"{artifact(BOOT)}/OVMF_VARS.fd", path)
        return path

    def memory(self):
        return ["-M", "q35,memory-backend=ram", "-m", f"{self.ram_bytes}B",
                "-object", f"memory-backend-file,id=ram,size={self.ram_bytes},share=on,"
                           f"mem-path=/proc/self/fd/{self.ram_fd}"]

    def devices(self):
        argv = super().devices() if self.config.host_on_fabric else []
        for device in self._nvme() + self.config.host_devices:
            argv += ["-device", device]
        return argv + self._reference_drives()

    def _nvme(self):
        if self.config.board in ("reference", "none"):
            return []
        return ['{"driver":"vfio-user-pci","id":"nic","socket":{"type":"unix","path":"cntrl"}}']

    def _reference_drives(self):
        """QEMU's own NVMe function in place of the NIC: what a test expects of a good drive."""
        if self.config.board != "reference":
            return []
        argv = ["-device", "nvme,id=nic,serial=reference"]
        for number, size in enumerate([self.config.nic_drive_bytes, 64 << 20]):
            path = os.path.join(self.folder, f"reference-{number}.img")
            if not os.path.exists(path):
                make_drive(path, size, self.config.nic_drive_image if number == 0 else "")
            argv += ["-drive", f"if=none,id=ns{number},file={path},format=raw,cache=unsafe",
                     "-device", f"nvme-ns,drive=ns{number},bus=nic,nsid={number + 1}"]
        return argv
