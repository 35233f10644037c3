"""The artifacts that `deps.py get NAME` knows."""
from recipes.guest import Guest
from recipes.libfdt import Libfdt
from recipes.newlib import Newlib
from recipes.qemu import Qemu

ALL = {recipe.name: recipe for recipe in (
    Newlib(),
    Libfdt(),
    Qemu(),
    Guest("6.12", "linux-image-6.12-amd64"),
    Guest("6.1", "linux-image-amd64"),
)}
