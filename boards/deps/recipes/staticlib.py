"""Libraries for the firmware: the static arm64 library and headers of a Debian -dev package.

    include/... .h    lib/NAME.a

What the package's code wants from a C library is newlib's; the link takes out only what is called.
"""
import glob
import os
import shutil

from apt import PrivateApt


class StaticLib:
    def __init__(self, name, package, headers, why):
        """headers: a pattern below usr/include."""
        self.name, self.package, self.headers = name, package, headers
        self.why = f"{why}, out of Debian's {package}:arm64"

    def key(self):
        return f"{self.package}:arm64 bookworm"

    def inputs(self):
        return [__file__]

    def build(self, out, work):
        apt = PrivateApt(work, ["bookworm"], arch="arm64")
        debs = apt.unpack([self.package], f"{work}/deb")
        include = f"{work}/deb/usr/include"
        os.makedirs(f"{out}/lib")
        for header in glob.glob(self.headers, root_dir=include):
            os.makedirs(os.path.dirname(f"{out}/include/{header}"), exist_ok=True)
            shutil.copy2(f"{include}/{header}", f"{out}/include/{header}")
        shutil.copy2(f"{work}/deb/usr/lib/aarch64-linux-gnu/{self.name}.a", f"{out}/lib")
        return debs
