"""Writes a folder as a cpio archive in the "newc" format, which Linux unpacks as its initramfs.

All owned by root, all times 0: the same tree gives the same bytes. Device nodes need no root here.
"""
import os
import stat

DEVICES = {"dev/console": (5, 1), "dev/null": (1, 3)}


def write(root, out):
    """Packs `root` into the file `out`."""
    with open(out, "wb") as file:
        writer = _Writer(file)
        for folder, folders, names in os.walk(root):
            folders.sort()
            relative = os.path.relpath(folder, root)
            if relative != ".":
                writer.add(relative, stat.S_IFDIR | 0o755)
            links = [name for name in folders if os.path.islink(f"{folder}/{name}")]
            for name in sorted(names + links):
                _add_file(writer, root, os.path.join(folder, name))
        for name, device in DEVICES.items():
            writer.add(name, stat.S_IFCHR | 0o600, device=device)
        writer.add("TRAILER!!!", 0)


def _add_file(writer, root, path):
    name, mode = os.path.relpath(path, root), os.lstat(path).st_mode
    if stat.S_ISLNK(mode):
        writer.add(name, stat.S_IFLNK | 0o777, os.readlink(path).encode())
        return
    with open(path, "rb") as file:
        writer.add(name, stat.S_IFREG | (0o755 if mode & 0o100 else 0o644), file.read())


class _Writer:
    def __init__(self, file):
        self.file = file
        self.inode = 0

    def add(self, name, mode, data=b"", device=(0, 0)):
        self.inode += 1
        encoded = name.encode() + b"\0"
        fields = (self.inode, mode, 0, 0, 1, 0, len(data), 0, 0, *device, len(encoded), 0)
        header = b"070701" + b"".join(b"%08X" % field for field in fields)
        self._padded(header + encoded)
        self._padded(data)

    def _padded(self, data):
        self.file.write(data + b"\0" * (-len(data) % 4))
