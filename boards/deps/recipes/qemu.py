"""QEMU with vfio-user-pci: the system's, if it is new enough, else Debian trixie-backports'.

    bin/qemu-system-x86_64  bin/qemu-system-aarch64    launchers, to be run like the real ones
    unpacked/                                          the unpacked packages, if not the system's

Debian 12 has QEMU 7.2 and 10.0, both without the vfio-user client. The newer one brings its own C
library along and runs with it out of the folder: nothing is installed, no chroot.
"""
import os
import re
import shutil
import subprocess

from apt import PrivateApt
from util import DepsError, Step, say

TARGETS = ("qemu-system-x86_64", "qemu-system-aarch64")
DEVICES = {"qemu-system-x86_64": ("vfio-user-pci", "nvme"),
           "qemu-system-aarch64": ("ivshmem-plain", "ivshmem-doorbell", "nvme")}
PACKAGES = ["qemu-system-x86", "qemu-system-arm"]
MIN_VERSION = (10, 1)
DROP = ("usr/share/doc", "usr/share/man", "usr/share/locale", "usr/share/icons",
        "usr/share/lintian", "usr/share/bug", "usr/share/perl",
        "usr/lib/x86_64-linux-gnu/perl-base", "etc", "var")
LAUNCHER = """#!/bin/sh
usr=$(dirname "$(readlink -f "$0")")/../unpacked/usr
exec "$usr/lib64/ld-linux-x86-64.so.2" --library-path "$usr/lib/x86_64-linux-gnu" \\
    --argv0 {name} "$usr/bin/{name}" -L "$usr/share/qemu" \\
    -L "$usr/share/seabios" -L "$usr/lib/ipxe/qemu" "$@"
"""


class Qemu:
    name = "qemu"
    why = "QEMU >= 10.1, whose vfio-user-pci device connects the host VM to the NIC"

    def key(self):
        """Changes when a system QEMU that is new enough comes, goes or is replaced."""
        paths = [shutil.which(target) for target in TARGETS]
        if not all(path and _version(path) >= MIN_VERSION for path in paths):
            return "unpacked"
        stats = [os.stat(path) for path in paths]
        return f"system {paths} {[(stat.st_size, stat.st_mtime_ns) for stat in stats]}"

    def inputs(self):
        return [__file__]

    def build(self, out, work):
        os.mkdir(f"{out}/bin")
        if _system_serves():
            return self._link_system(out)
        apt = PrivateApt(work, ["trixie", "trixie-backports"], default_release="trixie-backports")
        os.mkdir(f"{out}/unpacked")
        debs = apt.unpack_closure(PACKAGES, f"{out}/unpacked")
        for folder in DROP:
            shutil.rmtree(f"{out}/unpacked/{folder}", ignore_errors=True)
        # QEMU finds its modules and data by "qemu-bundle" beside its executable, which here is the
        # loader; else it would take those of an installed QEMU of another version.
        os.symlink("../../..", f"{out}/unpacked/usr/lib/x86_64-linux-gnu/qemu-bundle")
        for target in TARGETS:
            _write_script(f"{out}/bin/{target}", LAUNCHER.format(name=target))
        with Step("trying the devices that the rack needs"):
            for target in TARGETS:
                _require_devices(f"{out}/bin/{target}", DEVICES[target])
        return debs

    def _link_system(self, out):
        for target in TARGETS:
            path = shutil.which(target)
            say(f"qemu: using the system's {path}")
            _write_script(f"{out}/bin/{target}", f'#!/bin/sh\nexec {path} "$@"\n')
        return ["system"]


def _system_serves():
    for target in TARGETS:
        path = shutil.which(target)
        if not path or _version(path) < MIN_VERSION:
            return False
        try:
            _require_devices(path, DEVICES[target])
        except DepsError:
            return False
    return True


def _version(path):
    text = subprocess.run([path, "--version"], text=True, capture_output=True, check=False).stdout
    match = re.search(r"version (\d+)\.(\d+)", text)
    return (int(match[1]), int(match[2])) if match else (0, 0)


def _require_devices(path, devices):
    text = subprocess.run([path, "-M", "none", "-device", "help"], text=True, capture_output=True,
                          check=False).stdout
    missing = [device for device in devices if f'name "{device}"' not in text]
    if missing:
        raise DepsError(f"{os.path.basename(path)} has no {', '.join(missing)}")


def _write_script(path, text):
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
    os.chmod(path, 0o755)
