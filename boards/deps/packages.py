"""The Debian packages that the build and the tests need installed, and installing them."""
import os
import shutil
import subprocess

from util import DepsError, Step, say

# package: why
PACKAGES = {
    "make": "runs everything",
    "gcc": "native board, unit tests, host tools",
    "libc6-dev": "the same",
    "binutils": "readelf and strip, for the guests' images",
    "gcc-aarch64-linux-gnu": "firmware",
    "clang": "firmware by a second compiler, fuzzing",
    "lld": "links clang's firmware",
    "llvm": "objcopy, size, symbolizer for sanitizer reports",
    "clang-format": "make format",
    "libcmocka-dev": "unit tests",
    "libibverbs-dev": "native board with rdma-core: an RNIC of this machine",
    "librdmacm-dev": "the same",
    "libfdt-dev": "native board: configuration by a device tree",
    "libbearssl-dev": "cryptography: the cipher of the random generator, signatures of images",
    "device-tree-compiler": "configurations, device trees of the tests",
    "openssl": "the keys that sign images",
    "u-boot-tools": "mkimage: makes and signs images",
    "libncurses-dev": "snicctl top",
    "tmux": "tests of snicctl top: a terminal",
    "python3-jsonschema": "tests of snicctl: what --json prints is as documented",
    "valgrind": "make bench: instructions of the native board",
    "zstd": "unpacks the guests' kernels",
    "mtools": "the disk that the rack's host boots from",
    "dosfstools": "the same",
    "e2fsprogs": "the same",
    "fdisk": "the same",
    "grub-pc-bin": "the same, its loader for BIOS",
    "xz-utils": "unpacks newlib's source",
    "debian-archive-keyring": "checks signatures of fetched packages",
    "tshark": "reads the captures of the rack's Ethernet",
    "git": "file lists for the style checks",
}
# clang only recommends its sanitizer and fuzzer runtimes; their package name carries the version
CLANG_RUNTIME = {"bookworm": "libclang-rt-14-dev"}


def install(check_only=False):
    """Installs what is missing, or says in one line how to."""
    missing = _missing()
    if not missing:
        return
    line = "apt-get install --no-install-recommends " + " ".join(missing)
    prefix = _root_prefix()
    if check_only or prefix is None:
        raise DepsError(f"packages are missing; run as root: {line}")
    with Step(f"installing {len(missing)} packages: {' '.join(missing)}"):
        if _apt_get(prefix, ["install", *missing]).returncode == 0:
            return
        say("the package lists are missing or old: apt-get update")
        _apt_get(prefix, ["update"])
        result = _apt_get(prefix, ["install", *missing])
    if result.returncode != 0:
        tail = "\n".join("    " + text for text in result.stdout.splitlines()[-10:])
        raise DepsError(f"apt-get failed:\n{tail}\n  The command was: {line}")


def _wanted():
    runtime = CLANG_RUNTIME.get(_codename(), "libclang-rt-dev")
    return [*PACKAGES, runtime]


def _missing():
    """Installed means state 'ii'; a package that dpkg never heard of is just not in the list."""
    if not shutil.which("dpkg-query"):
        raise DepsError("this is not a Debian system; what is needed is: " + " ".join(_wanted()))
    text = subprocess.run(
        ["dpkg-query", "-W", "-f=${Package} ${db:Status-Status}\\n", *_wanted()],
        text=True, capture_output=True, check=False).stdout
    installed = {line.split()[0] for line in text.splitlines() if line.endswith(" installed")}
    return [package for package in _wanted() if package not in installed]


def _codename():
    try:
        with open("/etc/os-release", encoding="utf-8") as file:
            fields = dict(line.strip().split("=", 1) for line in file if "=" in line)
    except OSError:
        return ""
    return fields.get("VERSION_CODENAME", "")


def _root_prefix():
    """[] as root, ["sudo", ...] if sudo asks for no password or can ask for it, else None."""
    if os.geteuid() == 0:
        return []
    if not shutil.which("sudo"):
        return None
    if os.isatty(0):
        return ["sudo"]
    silent = subprocess.run(["sudo", "-n", "true"], capture_output=True, check=False)
    return ["sudo", "-n"] if silent.returncode == 0 else None


def _apt_get(prefix, words):
    return subprocess.run(
        [*prefix, "env", "DEBIAN_FRONTEND=noninteractive", "LC_ALL=C", "apt-get", "-q", "-y",
         "-o", "DPkg::Lock::Timeout=300", "--no-install-recommends", *words],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
