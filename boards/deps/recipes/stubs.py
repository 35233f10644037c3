"""Empty stand-ins for libraries that Debian's fio loads at start but the guests never use.

With the real ceph and gluster libraries and theirs, the guest's image would be twice as large, and
each start of fio several times as slow without KVM.
"""
import os
import re

from util import run

LIBRARIES = ("librbd.so.1", "librados.so.2", "libgfapi.so.0", "libnbd.so.0", "libpmemblk.so.1",
             "libpmem.so.1")


def make(program, real_folder, out):
    """Builds one stub per library, with just the symbols (and versions) that the program wants."""
    os.makedirs(out)
    wanted = dict(_symbols(program, "--undefined-only"))
    for library in LIBRARIES:
        defined = _symbols(f"{real_folder}/{library}", "--defined-only")
        _compile(library, [(name, version) for name, version in defined
                           if wanted.get(name) in (version, "")], out)


def _symbols(path, which):
    """[(name, version or '')] of the dynamic symbols."""
    text = run(["nm", "-D", which, "--with-symbol-versions", path], f"reading {path}")
    words = (line.split()[-1] for line in text.splitlines() if line.strip())
    parts = (re.split("@@?", word, maxsplit=1) + [""] for word in words)
    return [(part[0], part[1]) for part in parts]


def _compile(library, symbols, out):
    source, script = f"{out}/stub.c", f"{out}/stub.map"
    with open(source, "w", encoding="utf-8") as file:
        for name in sorted({name for name, _ in symbols}):
            file.write(f"int {name}(void) {{ return -1; }}\n")
    with open(script, "w", encoding="utf-8") as file:
        for version in sorted({version for _, version in symbols if version}):
            names = " ".join(f"{name};" for name, v in symbols if v == version)
            file.write(f"{version} {{ global: {names} }};\n")
    options = [f"-Wl,--version-script={script}"] if os.path.getsize(script) else []
    run(["gcc", "-shared", "-fPIC", "-Os", "-w", "-nostdlib", f"-Wl,-soname,{library}", *options,
         "-o", f"{out}/{library}", source], f"making a stub of {library}")
    os.unlink(source)
    os.unlink(script)
