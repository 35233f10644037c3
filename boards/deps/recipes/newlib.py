"""newlib for aarch64-none-elf out of Debian's source package; serves gcc and clang firmware builds.

    include/      headers; the compiler's own include folder must come before it (stdatomic.h)
    lib/libc.a    with reentrancy by __getreent() and locks by __retarget_lock_*()
    lib/libm.a

Formatted output is complete (not the nano variant, with C99 formats): %zu, %llu and %hhx are used.
"""
import glob
import os
import shutil
import subprocess

from apt import PrivateApt
from util import Step, need_tools, run

CROSS = "aarch64-linux-gnu-"
CONFIGURE = """
    --target=aarch64-none-elf --disable-multilib --disable-libgloss --disable-nls
    --disable-newlib-supplied-syscalls --enable-newlib-nano-malloc --enable-newlib-io-long-long
    --enable-newlib-io-c99-formats --disable-newlib-wide-orient --disable-newlib-unbuf-stream-opt
    --enable-newlib-reent-small --enable-newlib-global-atexit --enable-lite-exit
    --enable-newlib-retargetable-locking MAKEINFO=true""".split()
# The compiler is Debian's for Linux: it must not say so to newlib's headers, nor outline atomics.
CFLAGS = """
    -O2 -g1 -ffreestanding -ffunction-sections -fdata-sections -fno-pic -fno-pie
    -fno-stack-protector -mno-outline-atomics -mstrict-align -march=armv8-a -mtune=cortex-a72
    -U__linux__ -U__linux -Ulinux -U__gnu_linux__ -U__unix__ -U__unix -Uunix
    -D__DYNAMIC_REENT__ -nostdinc -w""".split()


class Newlib:
    name = "newlib"
    why = "the C library of the firmware, built from Debian's newlib-source"

    def key(self):
        need_tools([CROSS + "gcc"], "newlib")
        return "newlib bookworm gcc " + _gcc("-dumpfullversion")

    def inputs(self):
        return [__file__]

    def build(self, out, work):
        need_tools(["make", "cc", "xz", "tar"], "building newlib")
        apt = PrivateApt(work, ["bookworm"])
        debs = apt.unpack(["newlib-source"], f"{work}/deb")
        tarball = glob.glob(f"{work}/deb/usr/src/newlib/newlib-*.tar.xz")[0]
        os.makedirs(f"{work}/src")
        run(["tar", "-C", f"{work}/src", "--strip-components=1", "-xf", tarball], "unpacking newlib")
        self._compile(work)
        shutil.copytree(f"{work}/prefix/aarch64-none-elf/include", f"{out}/include")
        os.makedirs(f"{out}/lib")
        for library in ("libc.a", "libm.a"):
            shutil.copy2(f"{work}/prefix/aarch64-none-elf/lib/{library}", f"{out}/lib")
        return debs

    def _compile(self, work):
        build, prefix = f"{work}/build", f"{work}/prefix"
        os.makedirs(build)
        flags = CFLAGS + ["-isystem", _gcc("-print-file-name=include"),
                          f"-ffile-prefix-map={work}=newlib"]
        tools = [f"{tool.upper()}_FOR_TARGET={CROSS}{tool}" for tool in
                 ("as", "ar", "ranlib", "ld", "nm", "strip", "objdump", "readelf")]
        with Step("configuring newlib"):
            run([f"{work}/src/configure", f"--prefix={prefix}", *CONFIGURE, *tools,
                 f"CC_FOR_TARGET={CROSS}gcc", "CFLAGS_FOR_TARGET=" + " ".join(flags)],
                "newlib's configure", cwd=build, env=_clean_env())
        with Step("compiling newlib (about 80 s of CPU)"):
            for goal in ("all-target-newlib", "install-target-newlib"):
                run(["make", f"-j{os.cpu_count()}", goal, "MAKEINFO=true"], "compiling newlib",
                    cwd=build, env=_clean_env())


def _gcc(option):
    return subprocess.run([CROSS + "gcc", option], text=True, capture_output=True,
                          check=True).stdout.strip()


def _clean_env():
    """A `make` around this program must not pass its flags and job server on."""
    drop = ("MAKEFLAGS", "MFLAGS", "MAKELEVEL", "CC", "CFLAGS", "CPPFLAGS", "LDFLAGS")
    return {**{k: v for k, v in os.environ.items() if k not in drop}, "LC_ALL": "C"}
