#!/usr/bin/python3
"""Named barriers are in the machine code: compiles for aarch64 by gcc and clang and looks.

The machines that run the other tests order loads and stores by themselves, so a missing barrier
fails no test there. Here each barrier of BARRIERS names a function and what its code must hold, in
this order, anything between. The sources are compiled with -O2 and without inlining of plain
functions, so that a static function can be named; each must still exist.

To add one: name it as the comment beside the barrier does, with its partner.
"""
import os
import re
import shutil
import subprocess
import sys
import tempfile

import source

# Instructions by what they do. A stronger one always serves.
FULL = r'd[ms]b\s+(ish|osh|sy)$'
LOAD_ORDER = r'd[ms]b\s+(ish|ishld|osh|oshld|sy|ld)$'
STORE_ORDER = r'd[ms]b\s+(ish|ishst|osh|oshst|sy|st)$'
SYSTEM_STORE = r'd[ms]b\s+(osh|oshst|sy|st)$'  # reaches devices: inner shareable does not suffice
SYSTEM_LOAD = r'd[ms]b\s+(osh|oshld|sy|ld)$'
SYSTEM_FULL = r'dsb\s+sy$'
LOAD_ACQUIRE = r'(ldar|ldapr|ldaxr|ldaddal?|swpal?|casal?)[bh]?\s'
STORE_RELEASE = r'(stlr|stlxr|casal|swpal|casl)[bh]?\s'
LOAD = r'(ldr|ldp|ldrb|ldrh|ldur)\s'
STORE = r'(str|stp|strb|strh|stur)\s'
CALL = r'(blr|br)\s'  # through a pointer


class Barrier:
    """A named barrier: `needs` is the sequence of instructions that `function` must hold."""

    def __init__(self, name, path, function, needs, partner):
        self.name, self.path, self.function = name, path, function
        self.needs, self.partner = needs, partner


LITMUS = 'tests/tidy/litmus.c'
BARRIERS = [
    # The primitives, as any user of them gets them.
    Barrier('shm acquire', LITMUS, 'litmus_acquire', [LOAD_ACQUIRE, LOAD], 'shm release'),
    Barrier('shm release', LITMUS, 'litmus_release', [STORE, STORE_RELEASE], 'shm acquire'),
    Barrier('shm full', LITMUS, 'litmus_arm', [STORE, FULL, LOAD], 'itself, on the other side'),
    Barrier('before doorbell', LITMUS, 'litmus_doorbell', [STORE, SYSTEM_STORE, STORE], 'device'),
    Barrier('after device read', LITMUS, 'litmus_device_read', [LOAD, SYSTEM_LOAD, LOAD], 'device'),
    Barrier('full system', LITMUS, 'litmus_fence', [STORE, SYSTEM_FULL, STORE], 'devices, host'),

    # Between cores.
    Barrier('MSG-PUSH', 'firmware/sched/reactor.c', 'msg_send', [STORE_RELEASE], 'MSG-TAKE'),
    Barrier('MSG-WAKE', 'firmware/sched/reactor.c', 'msg_send', [STORE_RELEASE, LOAD_ACQUIRE],
            'REACTOR-SLEEP'),
    Barrier('MSG-TAKE', 'firmware/sched/reactor.c', 'run_messages', [LOAD_ACQUIRE], 'MSG-PUSH'),
    Barrier('REACTOR-SLEEP', 'firmware/sched/reactor.c', 'idle', [STORE_RELEASE, LOAD_ACQUIRE],
            'MSG-WAKE'),
    Barrier('POLLER-ADD', 'firmware/sched/sched.c', 'add', [STORE_RELEASE],
            'sched_visit_pollers()'),
    Barrier('POLLER-ADD partner', 'firmware/sched/sched.c', 'sched_visit_pollers', [LOAD_ACQUIRE],
            'POLLER-ADD'),
    Barrier('VOL-BEST', 'firmware/vol/vol_path.c', 'best_set', [STORE_RELEASE], 'VOL-BEST partner'),
    Barrier('VOL-BEST partner', 'firmware/vol/vol_io.c', 'vol_submit', [LOAD_ACQUIRE, LOAD],
            'VOL-BEST'),
    Barrier('VOL-QUIET', 'firmware/vol/vol_io.c', 'quiet_raise', [STORE_RELEASE],
            'VOL-QUIET partner'),
    Barrier('VOL-QUIET partner', 'firmware/vol/vol_io.c', 'must_be_quiet', [LOAD_ACQUIRE],
            'VOL-QUIET'),
    Barrier('VOL-WAKE', 'firmware/vol/vol.c', 'vol_wake', [LOAD_ACQUIRE, STORE_RELEASE],
            'look_asked()'),
    Barrier('TRACE-OVERWRITE, -PUBLISH', LITMUS, 'litmus_trace',
            [STORE_ORDER, STORE, STORE_RELEASE], 'trace_read()'),
    Barrier('TRACE partner', 'firmware/base/trace.c', 'trace_read',
            [LOAD_ACQUIRE, LOAD_ORDER, LOAD], 'TRACE-PUBLISH, TRACE-OVERWRITE'),
    Barrier('LOG-LOCK', 'firmware/base/log.c', 'log_lock', [LOAD_ACQUIRE], 'LOG-UNLOCK'),
    Barrier('LOG-UNLOCK', 'firmware/base/log.c', 'log_unlock', [STORE_RELEASE], 'LOG-LOCK'),

    # Between the NIC and its host.
    Barrier('EVENT', 'hal/drivers/pcie_ep_link.c', 'link_event_pop', [LOAD_ACQUIRE], 'pcielink'),
    Barrier('TAIL', 'hal/drivers/pcie_ep_link.c', 'tail_publish', [STORE_RELEASE], 'pcielink'),
    Barrier('FENCE', 'hal/drivers/pcie_ep_link.c', 'link_event_ack',
            [SYSTEM_FULL, STORE_RELEASE, SYSTEM_STORE], 'pcielink'),
    Barrier('ARM', 'hal/drivers/pcie_ep_link.c', 'link_doorbells_arm', [STORE, FULL], 'pcielink'),
    Barrier('before MSI-X', 'hal/drivers/pcie_ep_link.c', 'link_irq_raise', [SYSTEM_STORE, CALL],
            "the host's interrupt handler"),

    # Between the endpoint and the host's queues.
    Barrier('SQ-TAIL', 'firmware/nvme_ep/poll.c', 'nvme_ep_poll_io', [LOAD_ACQUIRE, 'bl\\s'],
            'the host: SQE, then doorbell'),
    Barrier('CQE', 'firmware/nvme_ep/complete.c', 'nvme_ep_complete', [STORE, STORE_RELEASE],
            'the host: phase, then the rest'),
    Barrier('CQ-HEAD', 'firmware/nvme_ep/doorbell.c', 'nvme_ep_cq_head_read', [LOAD_ACQUIRE],
            'the host: entry read, then doorbell'),
    Barrier('EP-ARM', 'firmware/nvme_ep/poll.c', 'nvme_ep_arm', [CALL, FULL],
            'who rings: doorbell, barrier, look at armed and EventIdx'),
    Barrier('REGS', 'firmware/nvme_ep/registers.c', 'reg32_publish', [STORE_RELEASE],
            'the host: CSTS, then what it says'),
    Barrier('DOORBELL-MSG', 'firmware/nvme_ep/doorbell.c', 'doorbell_report', [STORE_RELEASE],
            'nvme_ep_doorbell_error()'),
    Barrier('DOORBELL-MSG partner', 'firmware/nvme_ep/doorbell.c', 'nvme_ep_doorbell_error',
            [LOAD_ACQUIRE], 'DOORBELL-MSG'),

    # Between the NIC and its drives.
    Barrier('DRV-SQ', LITMUS, 'litmus_drv_sq_ring', [SYSTEM_STORE, STORE], 'the drive'),
    Barrier('DRV-CQ', LITMUS, 'litmus_drv_cq_pop', [LOAD_ACQUIRE, LOAD], 'the drive'),
    Barrier('DRV-CQ-FREE', LITMUS, 'litmus_drv_cq_ring', [SYSTEM_LOAD, STORE], 'the drive'),
    Barrier('DRV-CALL', 'firmware/nvme_drv/nvme_drv_queue.c', 'call_core0',
            [LOAD_ACQUIRE, STORE_RELEASE], 'nvme_drv_admin_called()'),
    Barrier('DRV-ABORT', 'firmware/nvme_drv/nvme_drv_queue.c', 'begin_abort', [STORE_RELEASE],
            'nvme_drv_admin_called()'),
    Barrier('DRV-CALL, -ABORT partner', 'firmware/nvme_drv/nvme_drv_admin.c',
            'nvme_drv_admin_called', [LOAD_ACQUIRE, STORE_RELEASE, LOAD_ACQUIRE],
            'DRV-CALL, DRV-ABORT'),

    # Between the NIC and a virtio device.
    Barrier('VIRTQ-AVAIL, -KICK', LITMUS, 'litmus_virtq_publish',
            [SYSTEM_STORE, STORE, SYSTEM_FULL, LOAD], 'the device: index, then entries; look again'),
    Barrier('VIRTQ-USED', LITMUS, 'litmus_virtq_take', [LOAD, SYSTEM_LOAD, LOAD],
            'the device: frame and entry, then index'),
    Barrier('VIRTQ-ARM', LITMUS, 'litmus_virtq_arm', [STORE, SYSTEM_FULL, LOAD],
            'the device: used index, then used_event'),
    Barrier('VIRTQ-REFILL', LITMUS, 'litmus_virtq_refill', [SYSTEM_LOAD, STORE],
            'the device: descriptor, then frame'),
    Barrier('VIRTIO-OWNER', 'hal/drivers/virtio_net.c', 'net_arm', [STORE, SYSTEM_FULL, LOAD],
            'on_config()'),
    Barrier('VIRTIO-OWNER partner', 'hal/drivers/virtio_net_start.c', 'on_config',
            [STORE_RELEASE, LOAD_ACQUIRE], 'net_arm()'),
]

FLAGS = ['-std=c11', '-O2', '-fno-inline-functions', '-ffreestanding', '-fno-pic',
         '-mcpu=cortex-a72', '-mstrict-align', '-mno-outline-atomics', '-U__linux__', '-U__linux',
         '-Ifirmware', '-Ihal/include', '-I.', '-S', '-o', '-']
COMPILERS = {
    'gcc': ['aarch64-linux-gnu-gcc', '-fno-inline-small-functions',
            '-fno-inline-functions-called-once', '-fno-partial-inlining', '-fno-ipa-cp',
            '-fno-ipa-sra'],
    'clang': ['clang', '--target=aarch64-none-elf', '-fno-inline'],
}

# What the sources take from the C library: declarations are enough to compile.
LIBC = {
    'string.h': '''#include <stddef.h>
void *memcpy(void *, const void *, size_t); void *memmove(void *, const void *, size_t);
void *memset(void *, int, size_t); int memcmp(const void *, const void *, size_t);
size_t strlen(const char *); int strcmp(const char *, const char *);
int strncmp(const char *, const char *, size_t); size_t strnlen(const char *, size_t);
''',
    'stdio.h': '''#include <stdarg.h>
#include <stddef.h>
int snprintf(char *, size_t, const char *, ...);
int vsnprintf(char *, size_t, const char *, va_list);
''',
}


def compile_to_assembly(compiler, path, libc):
    """(assembly, None) or (None, what the compiler said)."""
    builtin = {'gcc': ['-print-file-name=include'], 'clang': ['-print-resource-dir']}[compiler]
    where = subprocess.run([COMPILERS[compiler][0], *builtin], text=True, stdout=subprocess.PIPE,
                           check=True).stdout.strip()
    own = where if compiler == 'gcc' else os.path.join(where, 'include')
    command = [*COMPILERS[compiler], *FLAGS, '-nostdinc', '-isystem', own, '-isystem', libc, path]
    done = subprocess.run(command, cwd=source.ROOT, text=True, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, check=False)
    return (done.stdout, None) if done.returncode == 0 else (None, done.stderr)


def instructions(assembly, function):
    """The function's instructions, one a string; None when there is no such function. Clones that
    the compiler made of it (name.isra.0) count as the function."""
    name = re.escape(function)
    found = re.search(rf'^{name}(?:\.[\w.]+)?:.*?(?=^\s*\.size\s+{name})', assembly, re.M | re.S)
    if found is None:
        return None
    lines = [re.sub(r'\s*(//|;).*', '', line).strip() for line in found.group(0).splitlines()[1:]]
    return [line for line in lines if line and not line.startswith('.') and not line.endswith(':')]


def first_missing(needs, code):
    """The first of `needs` that does not follow on the ones before; None: all are there."""
    position = 0
    for need in needs:
        while position < len(code) and not re.match(need, code[position]):
            position += 1
        if position == len(code):
            return need
        position += 1
    return None


def check(barriers, compilers):
    """Problems as (path, line, what)."""
    problems = []
    with tempfile.TemporaryDirectory() as libc:
        for name, text in LIBC.items():
            with open(os.path.join(libc, name), 'w', encoding='utf-8') as f:
                f.write(text)
        for compiler in compilers:
            for path in sorted({b.path for b in barriers}):
                assembly, error = compile_to_assembly(compiler, path, libc)
                if assembly is None:
                    problems.append((path, 1, f'{compiler} cannot compile it: {error.strip()}'))
                    continue
                problems += look(compiler, assembly, [b for b in barriers if b.path == path])
    return problems


def look(compiler, assembly, barriers):
    for barrier in barriers:
        code = instructions(assembly, barrier.function)
        if code is None:
            yield (barrier.path, 1, f'{barrier.name}: there is no function {barrier.function}() '
                                    f'({compiler}); did the barrier move?')
            continue
        missing = first_missing(barrier.needs, code)
        if missing is not None:
            yield (barrier.path, 1, f'{barrier.name}: {barrier.function}() has no "{missing}" '
                                    f'where it must ({compiler}); partner: {barrier.partner}')


def main():
    there = [name for name, command in COMPILERS.items() if shutil.which(command[0])]
    for name in COMPILERS:
        if name not in there:
            print(f'{COMPILERS[name][0]} is not installed: its code is not checked')
    return source.report(check(BARRIERS, there))


if __name__ == '__main__':
    sys.exit(main())
