#!/usr/bin/python3
"""Includes go downward only, and siblings never include each other.

  base < spec < hal contracts < sched < blk < {nvme, vol, net} < {rdma, nvme_ep, nvme_drv, nvmf}
       < {nvmf_host, nvmf_tgt, diag} < mgmt < app

update: base, spec, hal contracts; bootloader: the same, update, mgmt and boot; mgmt and app use update. hal drivers: the same, and their own headers, never
another driver's. boot and arch: the same, and arch. Boards: these, drivers, and sched (to end a run).
Host tools, pcielink and fabric share only base and spec with the firmware; pcielink may use hal/native/vfu,
both the command socket (ctl), which uses it too; hal/native its drivers and vfu; hal/native/ibv implements a contract of rdma, and so may include it.
Private headers (_priv.h) are for their own folder. Portable code includes no POSIX header.
"""
import os
import re

import source

LAYERS = [['base'], ['spec'], ['hal'], ['sched'], ['blk'], ['nvme', 'vol', 'net'],
          ['rdma', 'nvme_ep', 'nvme_drv', 'nvmf'], ['nvmf_host', 'nvmf_tgt', 'diag'], ['mgmt'], ['app']]
LEVEL = {part: i for i, parts in enumerate(LAYERS) for part in parts}
BOTTOM = {'base', 'spec', 'hal'}

# What a part may include besides itself. Portable parts follow from LAYERS.
ALLOWED = {
    'update': BOTTOM,
    'bootloader': BOTTOM | {'update', 'boot', 'mgmt'},
    'boot': BOTTOM | {'arch'},
    'arch': BOTTOM,
    'driver': BOTTOM,
    'native': BOTTOM | {'driver', 'vfu'},
    'ibv': BOTTOM | {'sched', 'net', 'rdma'},
    'vfu': {'base', 'spec'},
    'ctl': {'base', 'vfu'},
    'pcielink': {'base', 'spec', 'vfu', 'ctl'},
    'fabric': {'base', 'spec', 'ctl'},
    'board': BOTTOM | {'boot', 'bootloader', 'arch', 'driver', 'native', 'vfu', 'ibv', 'sched'},
    'host_tools': {'base', 'spec'},
}
for part_, level_ in LEVEL.items():
    ALLOWED[part_] = {p for p, lower in LEVEL.items() if lower < level_}
ALLOWED['app'].add('update')
ALLOWED['mgmt'].add('update')

PREFIXES = [  # the first that fits
    ('hal/include/hal/', 'hal'),
    ('hal/arch/', 'arch'),
    ('hal/drivers/', 'driver'),
    ('hal/native/vfu/', 'vfu'),
    ('hal/native/ibv/', 'ibv'),
    ('hal/native/', 'native'),
    ('boards/qemu-virt/pcielink/', 'pcielink'),
    ('boards/qemu-virt/fabric/', 'fabric'),
    ('boards/qemu-virt/ctl/', 'ctl'),
    ('boards/', 'board'),
    ('host_tools/', 'host_tools'),
    ('tests/', 'tests'),
]
SEARCH = ['firmware', 'hal/include', '.', 'tests/unit']

# What a freestanding C11 compiler or newlib gives without an operating system.
PORTABLE_HEADERS = {'stdarg.h', 'stdatomic.h', 'stdbool.h', 'stddef.h', 'stdint.h', 'stdalign.h',
                    'limits.h', 'inttypes.h', 'string.h', 'stdio.h', 'libfdt.h',
                    'bearssl/bearssl_block.h', 'bearssl/bearssl_hash.h', 'bearssl/bearssl_rsa.h'}
PORTABLE_PARTS = set(LEVEL) | {'update', 'bootloader', 'driver'}


def part_of(path):
    """The part a file belongs to; None: nobody's business (tests)."""
    for prefix, part in PREFIXES:
        if path.startswith(prefix):
            return None if part == 'tests' else part
    pieces = path.split('/')
    if len(pieces) >= 3 and pieces[0] == 'firmware':
        return pieces[1]
    return None


def resolve(path, name, exists):
    """Where an include leads, as a path from the root; None: nowhere."""
    for folder in [os.path.dirname(path)] + SEARCH:
        candidate = os.path.normpath(os.path.join(folder, name))
        if exists(candidate):
            return candidate
    return None


def is_own_header(path, target):
    """A driver's headers bear its name, or the beginning of it: pl011.h, pl011_priv.h."""
    stem = os.path.splitext(os.path.basename(path))[0]
    other = re.sub(r'_(priv|regs)$', '', os.path.splitext(os.path.basename(target))[0])
    same = stem == other or stem.startswith(other + '_')
    return same and os.path.dirname(path) == os.path.dirname(target)


def check_local(path, part, target):
    """What is wrong with including `target`, or None."""
    other = part_of(target)
    if target.endswith('_priv.h') and os.path.dirname(target) != os.path.dirname(path):
        return f'{target} is private to its folder'
    if other is None:
        return f'{part} must not include {target}'
    if part == 'driver' and other == 'driver':
        return None if is_own_header(path, target) else f'drivers do not know each other: {target}'
    if part == 'board' and other == 'board':
        own = path.split('/')[1] == target.split('/')[1]
        return None if own else f'boards do not know each other: {target}'
    if other == part or other in ALLOWED[part]:
        return None
    return f'{part} must not include {other} ({target})'


def check(path, text, exists=lambda p: os.path.isfile(os.path.join(source.ROOT, p))):
    part = part_of(path)
    if part is None:
        return
    if part not in ALLOWED:
        yield 1, f'{part} has no place in the order of tests/tidy/check_includes.py'
        return
    for number, line in enumerate(text.splitlines(), 1):
        found = re.match(r'\s*#\s*include\s*(?:"([^"]+)"|<([^>]+)>)', line)
        if not found:
            continue
        local, system = found.groups()
        if system is not None:
            if part in PORTABLE_PARTS and system not in PORTABLE_HEADERS:
                yield number, f'<{system}> is not portable'
            continue
        target = resolve(path, local, exists)
        what = f'"{local}" is not found' if target is None else check_local(path, part, target)
        if what is not None:
            yield number, what


if __name__ == '__main__':
    source.main(check)
