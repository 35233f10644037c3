"""libfdt for the firmware: the static arm64 library and headers of Debian's libfdt-dev.

    include/libfdt.h ...    lib/libfdt.a
"""
import glob
import os
import shutil

from apt import PrivateApt


class Libfdt:
    name = "libfdt"
    why = "reads the device tree in the firmware, out of Debian's libfdt-dev:arm64"

    def key(self):
        return "libfdt-dev:arm64 bookworm"

    def inputs(self):
        return [__file__]

    def build(self, out, work):
        apt = PrivateApt(work, ["bookworm"], arch="arm64")
        debs = apt.unpack(["libfdt-dev"], f"{work}/deb")
        os.makedirs(f"{out}/include")
        os.makedirs(f"{out}/lib")
        for header in glob.glob(f"{work}/deb/usr/include/*fdt*.h"):
            shutil.copy2(header, f"{out}/include")
        shutil.copy2(f"{work}/deb/usr/lib/aarch64-linux-gnu/libfdt.a", f"{out}/lib")
        return debs
