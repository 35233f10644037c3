"""Drives of the rack's machines: files of this machine."""
import os

from rack.config import artifact


BOOT_DISK = "boot-disk"  # as an image: an operating system (boards/deps/recipes/boot.py)
BOOT = "boot-6.12"       # the artifact that it is in


def make_drive(path, size_bytes, image=""):
    """An empty drive, or a copy of an image and at least as large; its holes cost no space."""
    if image:
        image = f"{artifact(BOOT)}/disk.img" if image == BOOT_DISK else image
        copy_sparse(image, path)
        size_bytes = max(size_bytes, os.path.getsize(path))
    with open(path, "ab" if image else "wb") as file:
        file.truncate(size_bytes)


def copy_sparse(source, target):
    """Copies a file with its holes."""
    with open(source, "rb") as old, open(target, "wb") as new:
        offset, size = 0, os.fstat(old.fileno()).st_size
        while offset < size:
            try:
                offset = os.lseek(old.fileno(), offset, os.SEEK_DATA)
            except OSError:  # a hole up to the end
                break
            end = os.lseek(old.fileno(), offset, os.SEEK_HOLE)
            old.seek(offset)
            new.seek(offset)
            while offset < end:
                block = old.read(min(end - offset, 1 << 20))
                new.write(block)
                offset += len(block)
        new.truncate(size)
