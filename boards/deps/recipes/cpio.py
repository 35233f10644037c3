"""Cpio archives in the "newc" format, which Linux unpacks as its initramfs: from a folder, and back.

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


def read(path, root):
    """Unpacks an archive that write() made into the folder `root`; device nodes are left out."""
    with open(path, "rb") as file:
        data = file.read()
    offset = 0
    while True:
        mode, size, name_size = (int(data[offset + at:offset + at + 8], 16) for at in (14, 54, 94))
        name = data[offset + 110:offset + 110 + name_size - 1].decode()
        start = offset + 110 + name_size + -(110 + name_size) % 4
        if name == "TRAILER!!!":
            return
        _make_file(f"{root}/{name}", mode, data[start:start + size])
        offset = start + size + -size % 4


def _make_file(path, mode, data):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    if stat.S_ISDIR(mode):
        os.makedirs(path, exist_ok=True)
    elif stat.S_ISLNK(mode):
        os.symlink(data.decode(), path)
    elif stat.S_ISREG(mode):
        with open(path, "wb") as file:
            file.write(data)
        os.chmod(path, stat.S_IMODE(mode))


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
