"""A disk from which a PC boots Linux, by BIOS and by UEFI, and has its root filesystem on it.

    disk.img         an MBR, GRUB for BIOS, a FAT partition with systemd-boot for UEFI, the kernel
                     and a small initramfs, an ext4 partition with the userland of the rack's guests
    OVMF_CODE.fd     UEFI firmware for QEMU, and the empty store of its variables
    OVMF_VARS.fd

Both load the same kernel with the same arguments. The initramfs waits for the root filesystem to
appear on an NVMe drive and leaves for it. Adding a word to the kernel's arguments: COMMAND_LINE.

It is GRUB, because a drive of the rack writes host memory that TCG does not see being written: of
boot loaders that read one stage over another, as syslinux' do, TCG would run the old one again. GRUB
copies its stages with the processor.
"""
import glob
import os
import shutil
import stat

import cache
from apt import PrivateApt
from recipes import cpio
from util import DepsError, Step, need_tools, run

SECTOR, MIB = 512, 1 << 20
ESP_START, ESP_BYTES = 1 * MIB, 40 * MIB
ROOT_START, ROOT_BYTES = ESP_START + ESP_BYTES, 150 * MIB
LABEL = "rackroot"
GRUB = "/usr/lib/grub/i386-pc"
GRUB_MODULES = "biosdisk part_msdos fat linux boot".split()
COMMAND_LINE = ("console=ttyS0 loglevel=4 panic=-1 mitigations=off nokaslr no_timer_check "
                "tsc=reliable edd=off audit=0 random.trust_cpu=on net.ifnames=0")
GRUB_SCRIPT = f"linux /vmlinuz {COMMAND_LINE}\ninitrd /initrd\nboot\n"
LOADER = "default linux\ntimeout 0\n"
ENTRY = f"title linux\nlinux /vmlinuz\ninitrd /initrd\noptions {COMMAND_LINE}\n"
# in the initramfs of the disk; see also guest/init, which runs from its root filesystem
INIT = f"""#!/bin/sh
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
modprobe -a crc32c_generic nvme ext4
n=0
until root=$(findfs LABEL={LABEL} 2>/dev/null); do
    n=$((n + 1))
    [ $n = 600 ] && echo 'boot: no filesystem {LABEL} on any drive' && exec sh
    sleep 0.1
done
echo "boot: root filesystem is on $root"
mount -t ext4 $root /root || exec sh
umount /dev /sys /proc
exec switch_root /root /init
"""
MODULES = ("crc32c_generic", "nvme", "ext4")


class Boot:
    def __init__(self, guest):
        self.guest = guest
        self.name = f"boot-{guest.series}"
        self.why = f"a disk that boots Linux {guest.series}, and UEFI firmware"

    def key(self):
        return f"boot {cache.recipe_hash(self.guest)}"

    def inputs(self):
        return [__file__, cpio.__file__]

    def build(self, out, work):
        need_tools(["grub-mkimage", "mcopy", "mkfs.vfat", "mke2fs", "sfdisk"], "making a boot disk")
        guest = cache.get(self.guest)
        apt = PrivateApt(work, ["bookworm"])
        debs = apt.unpack(["ovmf", "systemd-boot-efi"], f"{work}/debs")
        for kind in ("CODE", "VARS"):
            shutil.copy(f"{work}/debs/usr/share/OVMF/OVMF_{kind}_4M.fd", f"{out}/OVMF_{kind}.fd")
        with Step("making the boot disk"):
            tree = f"{work}/tree"
            cpio.read(f"{guest}/initramfs.cpio", tree)
            _make_initrd(tree, f"{work}/initrd")
            _make_root(tree, f"{work}/root.ext4")
            _make_esp(f"{work}/esp", {
                "vmlinuz": f"{guest}/vmlinuz", "initrd": f"{work}/initrd",
                "loader/loader.conf": LOADER,
                "loader/entries/linux.conf": ENTRY,
                "EFI/BOOT/BOOTX64.EFI":
                    f"{work}/debs/usr/lib/systemd/boot/efi/systemd-bootx64.efi"}, work)
            _make_grub(f"{work}/grub")
            _make_disk(f"{out}/disk.img", f"{work}/grub", f"{work}/esp", f"{work}/root.ext4")
        return debs


def _make_initrd(tree, out):
    """The few programs and modules that find the root filesystem."""
    root = f"{out}.tree"
    for folder in "usr/bin proc sys dev root".split():
        os.makedirs(f"{root}/{folder}")
    for link in ("bin", "sbin"):
        os.symlink("usr/bin", f"{root}/{link}")
    os.symlink("usr/lib", f"{root}/lib")
    shutil.copy2(f"{tree}/usr/bin/busybox", f"{root}/usr/bin/busybox")
    for applet in "sh mount umount modprobe findfs sleep switch_root".split():
        os.symlink("busybox", f"{root}/usr/bin/{applet}")
    for module in _with_what_they_need(tree):
        target = f"{root}/{os.path.relpath(module, tree)}"
        os.makedirs(os.path.dirname(target), exist_ok=True)
        shutil.copy2(module, target)
    release = os.listdir(f"{tree}/usr/lib/modules")[0]
    for path in glob.glob(f"{tree}/usr/lib/modules/{release}/modules.*"):
        shutil.copy2(path, f"{root}/usr/lib/modules/{release}")
    with open(f"{root}/init", "w", encoding="utf-8") as file:
        file.write(INIT)
    os.chmod(f"{root}/init", 0o755)
    cpio.write(root, out)


def _with_what_they_need(tree):
    """Paths of MODULES and of all that modules.dep names for them."""
    path = glob.glob(f"{tree}/usr/lib/modules/*/modules.dep")[0]
    needs = {}
    with open(path, encoding="utf-8") as file:
        for line in file:
            module, _, others = line.partition(":")
            needs[os.path.basename(module).removesuffix(".ko")] = [module, *others.split()]
    return {os.path.join(os.path.dirname(path), module)
            for name in MODULES for module in needs[name]}


def _make_root(tree, out):
    run(["mke2fs", "-q", "-t", "ext4", "-L", LABEL, "-d", tree, out, f"{ROOT_BYTES >> 10}k"],
        "making the root filesystem", env={**os.environ, "PATH": _path()})


def _make_esp(out, files, work):
    """`files`: {name on it: path of a file here, or its text}."""
    environment = {**os.environ, "MTOOLS_SKIP_CHECK": "1", "PATH": _path()}
    with open(out, "wb") as file:
        file.truncate(ESP_BYTES)
    run(["mkfs.vfat", "-F", "16", "-h", str(ESP_START // SECTOR), out], "mkfs.vfat", env=environment)
    folders = set()
    for name, source in files.items():
        parts = name.split("/")[:-1]
        for depth in range(1, len(parts) + 1):
            folder = "/".join(parts[:depth])
            if folder not in folders:
                folders.add(folder)
                run(["mmd", "-i", out, f"::{folder}"], "mmd", env=environment)
        if not source.startswith("/"):
            text, source = source, f"{work}/text"
            with open(source, "w", encoding="utf-8") as file:
                file.write(text)
        run(["mcopy", "-i", out, source, f"::{name}"], "mcopy", env=environment)


def _make_grub(out):
    """GRUB's core, which its boot sector expects right behind itself."""
    with open(f"{out}.cfg", "w", encoding="utf-8") as file:
        file.write(GRUB_SCRIPT)
    run(["grub-mkimage", "-O", "i386-pc", "-d", GRUB, "-p", "(hd0,msdos1)/", "-c", f"{out}.cfg",
         "-o", out, *GRUB_MODULES], "grub-mkimage")
    if os.path.getsize(out) > ESP_START - SECTOR:
        raise DepsError("GRUB is too large for the room before the first partition")


def _make_disk(out, grub, esp, root):
    with open(out, "wb") as disk:
        disk.truncate(ROOT_START + ROOT_BYTES)
    table = (f"label: dos\nunit: sectors\n"
             f"start={ESP_START // SECTOR}, size={ESP_BYTES // SECTOR}, type=ef, bootable\n"
             f"start={ROOT_START // SECTOR}, size={ROOT_BYTES // SECTOR}, type=83\n")
    with open(f"{out}.table", "w", encoding="utf-8") as file:
        file.write(table)
    run(["sh", "-c", 'sfdisk -q "$1" < "$1.table"', "sh", out], "sfdisk",
        env={**os.environ, "PATH": _path()})
    os.unlink(f"{out}.table")
    with open(out, "r+b") as disk, open(f"{GRUB}/boot.img", "rb") as code:
        disk.write(code.read(440))
        for start, path in ((SECTOR, grub), (ESP_START, esp), (ROOT_START, root)):
            with open(path, "rb") as file:
                while block := file.read(MIB):
                    if block.count(0) != len(block):  # leaves a hole for zeroes
                        disk.seek(start)
                        disk.write(block)
                    start += len(block)
    os.chmod(out, stat.S_IRUSR | stat.S_IWUSR | stat.S_IRGRP | stat.S_IROTH)


def _path():
    return os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
