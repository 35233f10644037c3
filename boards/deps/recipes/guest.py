"""A Linux guest out of Debian packages that are unpacked, not installed.

    vmlinux          uncompressed, starts by PVH: seconds faster than a bzImage without KVM
    vmlinuz          the same as boot loaders want it (recipes/boot.py)
    initramfs.cpio   all of the guest's userland; no disk needed
    release          the kernel's version

Adding a tool or a driver: one word in TOOLS or MODULES.
"""
import glob
import lzma
import os
import re
import shutil
import struct
import subprocess

from apt import PrivateApt
from recipes import cpio, stubs
from util import DepsError, Step, need_tools, run

SUITES = ["bookworm", "bookworm-security"]
# package: programs that the guest gets from it; all else is busybox. Shells and what else runs
# programs are not, because busybox runs its own applets rather than better programs of that name.
TOOLS = {
    "busybox-static": [],
    "dash": ["dash"],
    "bash": ["bash"],
    "coreutils": ["timeout", "env", "nice", "nohup", "dd", "sha256sum"],
    "findutils": ["find", "xargs"],
    "nvme-cli": ["nvme"],
    "fio": ["fio"],
    "e2fsprogs": ["mke2fs", "mkfs.ext4", "e2fsck", "tune2fs", "dumpe2fs"],
    "util-linux": ["lsblk", "wipefs", "blkdiscard", "findmnt", "taskset", "flock", "setsid"],
    "util-linux-extra": [],
    "mount": ["mount", "umount"],
    "kmod": ["kmod", "modprobe", "insmod", "rmmod", "lsmod", "modinfo"],
    "pciutils": ["lspci", "setpci"],
    "iproute2": ["ip", "rdma"],
    "rdma-core": [],
    "ibverbs-utils": ["ibv_devinfo", "ibv_devices", "ibv_rc_pingpong"],
    "ibverbs-providers": [],
    "rdmacm-utils": ["rping", "ucmatose", "rstream", "cmtime"],
    "perftest": ["ib_send_bw", "ib_send_lat", "ib_write_bw", "ib_write_lat", "ib_read_bw",
                 "ib_read_lat"],
    "iputils-ping": ["ping"],
}
MODULES = """
    virtio_pci virtio_console virtio_net virtio_blk virtio_rng ext4 crc32c_generic crc32c_intel
    crct10dif_generic crct10dif_pclmul crc64_rocksoft_generic
    nvme vfio_pci vfio_iommu_type1 uio_pci_generic loop brd null_blk configfs af_packet
    8021q nvme_rdma nvme_tcp nvme_loop nvmet nvmet_rdma nvmet_tcp
    rdma_rxe crc32_generic crc32_pclmul ib_uverbs rdma_ucm""".split()
SHELL = "dash"
FILES = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "guest")
LIB = "usr/lib/x86_64-linux-gnu"


class Guest:
    def __init__(self, series, kernel_package):
        self.name = f"guest-{series}"
        self.series = series
        self.kernel_package = kernel_package
        self.why = f"a Linux {series} to be the host, out of Debian's kernel and packages"

    def key(self):
        return f"guest {self.series} {self.kernel_package}"

    def inputs(self):
        return [__file__, cpio.__file__, stubs.__file__, f"{FILES}/init", f"{FILES}/agent"]

    def build(self, out, work):
        need_tools(["gcc", "readelf", "nm", "strip"], "building a guest")
        apt = PrivateApt(work, SUITES)
        escaped = re.escape(self.series)
        image = apt.direct_depends(self.kernel_package, rf"linux-image-{escaped}[.]\S+")
        release = image.removeprefix("linux-image-")
        debs = apt.unpack([image], f"{work}/kernel")
        debs += apt.unpack_closure(list(TOOLS), f"{work}/user")
        _merge_usr(f"{work}/user")
        _merge_usr(f"{work}/kernel")
        shutil.copy2(f"{work}/kernel/boot/vmlinuz-{release}", f"{out}/vmlinuz")
        extract_vmlinux(f"{out}/vmlinuz", f"{out}/vmlinux", work)
        with Step("making the initramfs"):
            Tree(f"{work}/user", f"{work}/kernel", release, f"{work}/tree").fill()
            cpio.write(f"{work}/tree", f"{out}/initramfs.cpio")
        with open(f"{out}/release", "w", encoding="utf-8") as file:
            file.write(release + "\n")
        return debs


class Tree:
    """The guest's root folder in the making."""

    def __init__(self, user, kernel, release, root):
        self.user, self.root, self.release = user, root, release
        self.modules = f"{kernel}/usr/lib/modules/{release}"
        self.stubs = f"{root}.stubs"
        self.libraries = set()

    def fill(self):
        for folder in ("usr/bin usr/lib64 dev proc sys run tmp mnt root etc/nvme "
                       "etc/libibverbs.d var/log " + LIB).split():
            os.makedirs(f"{self.root}/{folder}", exist_ok=True)
        for link, target in (("bin", "usr/bin"), ("sbin", "usr/bin"), ("usr/sbin", "bin"),
                             ("lib", "usr/lib"), ("lib64", "usr/lib64")):
            os.symlink(target, f"{self.root}/{link}")
        self._add_busybox()
        stubs.make(f"{self.user}/usr/bin/fio", f"{self.user}/{LIB}", self.stubs)
        for program in (program for programs in TOOLS.values() for program in programs):
            self._add_program(program)
        self._add_library("libgcc_s.so.1")  # glibc opens it when a thread ends by pthread_exit()
        self._add_rdma_providers()
        self._add_modules()
        self._add_files()

    def _add_busybox(self):
        busybox = f"{self.user}/usr/bin/busybox"
        shutil.copy2(busybox, f"{self.root}/usr/bin/busybox")
        applets = subprocess.run([busybox, "--list"], text=True, capture_output=True, check=True)
        for applet in applets.stdout.split():
            if applet not in ("busybox", "sh"):
                os.symlink("busybox", f"{self.root}/usr/bin/{applet}")
        os.symlink(SHELL, f"{self.root}/usr/bin/sh")

    def _add_program(self, name):
        found = [p for p in (f"{self.user}/usr/sbin/{name}", f"{self.user}/usr/bin/{name}")
                 if os.path.lexists(p)]
        if not found:
            raise DepsError(f"no package of the guest has the program {name}")
        target = f"{self.root}/usr/bin/{name}"
        if os.path.lexists(target):
            os.unlink(target)
        link = os.path.basename(os.readlink(found[0])) if os.path.islink(found[0]) else None
        if link and link != name:
            os.symlink(link, target)
            return
        real = self._inside(found[0])
        shutil.copy2(real, target)
        self._add_libraries_of(real)

    def _inside(self, path):
        """Follows links as the guest would: an absolute one leads into the guest's tree, never to
        a file of this machine."""
        for _ in range(8):
            if not os.path.islink(path):
                return path
            to = os.readlink(path)
            if to.startswith("/"):
                path = f"{self.user}/usr/{to.lstrip('/').removeprefix('usr/')}"
            else:
                path = os.path.normpath(os.path.join(os.path.dirname(path), to))
        raise DepsError(f"{path}: links lead in a circle")

    def _add_libraries_of(self, path):
        text = run(["readelf", "-d", path], f"reading {path}")
        for name in re.findall(r"NEEDED.*\[(.*)\]", text):
            if name not in self.libraries:
                self.libraries.add(name)
                self._add_library(name)

    def _add_library(self, name):
        if name.startswith("ld-linux"):
            shutil.copy(f"{self.user}/{LIB}/{name}", f"{self.root}/usr/lib64/{name}")
            return
        for folder in (self.stubs, f"{self.user}/{LIB}"):
            if os.path.exists(f"{folder}/{name}"):
                shutil.copy(self._inside(f"{folder}/{name}"), f"{self.root}/{LIB}/{name}")
                self._add_libraries_of(f"{folder}/{name}")
                return
        raise DepsError(f"no package of the guest has the library {name}")

    def _add_rdma_providers(self):
        """libibverbs opens them at run time."""
        folder = f"{LIB}/libibverbs"
        os.makedirs(f"{self.root}/{folder}")
        for path in glob.glob(f"{self.user}/{folder}/librxe-*"):
            shutil.copy(path, f"{self.root}/{folder}")
        with open(f"{self.root}/etc/libibverbs.d/rxe.driver", "w", encoding="utf-8") as file:
            file.write("driver rxe\n")

    def _add_modules(self):
        paths = {}
        for folder, _, names in os.walk(self.modules):
            for name in names:
                if ".ko" in name:
                    paths[name.split(".ko")[0].replace("-", "_")] = os.path.join(folder, name)
        target = f"{self.root}/usr/lib/modules/{self.release}"
        os.makedirs(target)
        for name in glob.glob(f"{self.modules}/modules.*"):
            shutil.copy(name, target)
        wanted, done = list(MODULES), set()
        while wanted:
            name = wanted.pop().replace("-", "_")
            if name in paths and name not in done:
                done.add(name)
                wanted += self._add_module(paths[name], target)
        run([*self._guest_program("kmod", "depmod"), "-b", self.root, self.release], "depmod")

    def _add_module(self, path, target):
        """Unpacks one module (no debug symbols); returns the names it depends on."""
        opener = lzma.open if path.endswith(".xz") else open
        with opener(path, "rb") as file:
            data = file.read()
        relative = os.path.relpath(path, self.modules).removesuffix(".xz")
        os.makedirs(os.path.dirname(f"{target}/{relative}"), exist_ok=True)
        with open(f"{target}/{relative}", "wb") as file:
            file.write(data)
        run(["strip", "-g", f"{target}/{relative}"], "stripping a module")
        depends = re.findall(rb"\0depends=([^\0]*)", data)
        soft = re.findall(rb"\0softdep=pre: ([^\0]*)", data)
        words = b",".join(depends).split(b",") + b" ".join(soft).split()
        return [word.decode() for word in words if word]

    def _guest_program(self, program, name):
        """The guest's own program, run on this machine by its own loader."""
        return [f"{self.user}/{LIB}/ld-linux-x86-64.so.2", "--library-path", f"{self.user}/{LIB}",
                "--argv0", name, f"{self.user}/usr/bin/{program}"]

    def _add_files(self):
        shutil.copy2(f"{FILES}/init", f"{self.root}/init")
        shutil.copy2(f"{FILES}/agent", f"{self.root}/agent")
        shutil.copy2(f"{self.user}/etc/mke2fs.conf", f"{self.root}/etc/mke2fs.conf")
        shutil.copytree(f"{self.user}/usr/share/misc", f"{self.root}/usr/share/misc")
        for name, text in (("passwd", "root:x:0:0:root:/root:/bin/sh\n"), ("group", "root:x:0:\n")):
            with open(f"{self.root}/etc/{name}", "w", encoding="utf-8") as file:
                file.write(text)


def extract_vmlinux(bzimage, out, work):
    """The boot protocol's header says where the ELF file is (payload_offset, payload_length)."""
    with open(bzimage, "rb") as file:
        image = file.read()
    setup_bytes = ((image[0x1f1] or 4) + 1) * 512
    offset, length = struct.unpack_from("<II", image, 0x248)
    payload = image[setup_bytes + offset:setup_bytes + offset + length]
    if payload.startswith(b"\xfd7zXZ\0"):
        data = lzma.LZMADecompressor(format=lzma.FORMAT_XZ).decompress(payload)
    elif payload.startswith(b"\x28\xb5\x2f\xfd"):
        data = _unzstd(payload, work)
    else:
        raise DepsError(f"{os.path.basename(bzimage)}: unknown compression {payload[:6].hex()}")
    if not data.startswith(b"\x7fELF"):
        raise DepsError(f"{os.path.basename(bzimage)} does not contain an ELF file")
    with open(out, "wb") as file:
        file.write(data)


def _unzstd(payload, work):
    need_tools(["zstd"], "unpacking this kernel")
    with open(f"{work}/payload.zst", "wb") as file:
        file.write(payload[:-4])  # the last word is the unpacked size
    run(["zstd", "-qdf", f"{work}/payload.zst", "-o", f"{work}/payload"], "unpacking the kernel")
    with open(f"{work}/payload", "rb") as file:
        return file.read()


def _merge_usr(root):
    """/bin, /sbin, /lib, /lib64 into /usr: packages of Debian 12 use both places."""
    for name in ("bin", "sbin", "lib", "lib64"):
        source = f"{root}/{name}"
        if os.path.isdir(source) and not os.path.islink(source):
            shutil.copytree(source, f"{root}/usr/{name}", symlinks=True, dirs_exist_ok=True)
            shutil.rmtree(source)
