"""The artifacts that `deps.py get NAME` knows."""
from recipes.boot import Boot
from recipes.guest import Guest
from recipes.newlib import Newlib
from recipes.qemu import Qemu
from recipes.staticlib import StaticLib

GUEST = Guest("6.12", "linux-image-6.12-amd64")
ALL = {recipe.name: recipe for recipe in (
    Newlib(),
    StaticLib("libfdt", "libfdt-dev", "*fdt*.h", "reads the device tree in the firmware"),
    StaticLib("libbearssl", "libbearssl-dev", "bearssl/*.h", "cryptography in the firmware"),
    Qemu(),
    GUEST,
    Guest("6.1", "linux-image-amd64"),
    Boot(GUEST),
)}
