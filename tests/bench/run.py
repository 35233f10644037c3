#!/usr/bin/python3
"""Counts what an I/O costs, and prints it against the budgets of docs/BENCHMARKS.md.

  run.py          everything: board under icount, native under callgrind, sizes, native rates
  run.py check    the budgets alone, as tests: last line "N passed, N failed"

Instructions are exact and repeatable; rates are of this machine at this moment and only shown.
"""
import os
import re
import shutil
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, 'tests', 'emu'))
import machine  # noqa: E402

IMAGES = os.path.join(ROOT, 'build', 'qemu-virt')
IMAGE_SECONDS = 120
STAGES = os.path.join(ROOT, 'build', 'qemu-virt-stages', 'bench.elf')
SCALE = os.path.join(ROOT, 'build', 'native', 'scale')
SCALE_BUDGET_BYTES = 64 << 20
SCALE_VOLUMES = (64, 1024)
NATIVE = os.path.join(ROOT, 'build', 'native', 'bench_ep')
TEXT_BUDGET_BYTES = 352 * 1024
LOADER_TEXT_BUDGET_BYTES = 64 * 1024
CALLGRIND_IOS = 2000


def board_lines(image):
    """Output of a bench image with exact instruction counts."""
    machine.TIMEOUT_S = IMAGE_SECONDS
    with machine.Machine('', image=image, options=('-icount', 'shift=0')) as board:
        code = board.wait()
        if code != 0 or 'bench done' not in board.output:
            raise RuntimeError(f'{image}: exit code {code}:\n{board.output[-2000:]}')
        return board.output.splitlines()


RDMA_CASE = re.compile(r'rdma (\w+)\s+mtu (\d+) depth\s+(\d+) bytes\s+(\d+): requester (\d+) '
                       r'responder (\d+) icrc (\d+) place (\d+)')
QP_BYTES_BUDGET = 4096
# (name, path MTU, depth): most that both sides may need together for one message
RDMA_BUDGETS = {('send', 4096, 32): 1860, ('write', 4096, 32): 4870, ('read', 4096, 32): 6090,
                ('write', 1024, 32): 9420, ('read', 1024, 32): 10730}


PATH_CASE = re.compile(r'path (\w+)\s+([\w-]+)\s+bytes\s+(\d+): endpoint (\d+) host (\d+) engine (\d+) '
                       r'icrc (\d+) place (\d+) staged (\d+) packets/100 (\d+) reads/100 (\d+) '
                       r'of (\d+) writes/100 (\d+) of (\d+) queue pairs (\d+)')
PATH_CASES = 12
# (name, data path, bytes): most that one I/O may need from the host's queue to the wire and back
PATH_BUDGETS = {('read', 'zero-copy', 4096): 6000, ('write', 'zero-copy', 4096): 6000,
                ('read', 'host-queues', 4096): 6000, ('write', 'host-queues', 4096): 6000}


def path_cases(lines):
    """[(name, data path, bytes, endpoint, host, engine, icrc, place, staged, packets * 100,
    PCIe reads * 100, their bytes, PCIe writes * 100, their bytes, queue pairs)]"""
    return [(found[1], found[2], *map(int, found.groups()[2:]))
            for found in map(PATH_CASE.match, lines) if found]


def rdma_cases(lines):
    """[(name, mtu, depth, bytes, requester, responder, icrc, place)]"""
    return [(found[1], *map(int, found.groups()[1:]))
            for found in map(RDMA_CASE.match, lines) if found]


def rdma_memory(lines):
    """(bytes of a queue pair, bytes of its rings for 32 + 32 work requests)"""
    found = re.search(r'rdma memory: queue pair (\d+), ring for 32 \+ 32 work requests (\d+)',
                      '\n'.join(lines))
    return int(found[1]), int(found[2])


def board_cases(lines=None):
    """[(name, depth, bytes, instructions, budget)] and the cost of an empty turn."""
    cases, idle = [], 0
    for line in lines or board_lines(os.path.join(IMAGES, 'bench.elf')):
        if found := re.match(r'bench (.+?)\s+depth\s+(\d+) bytes\s+(\d+): (\d+) \(budget (\d+)\)', line):
            cases.append((found[1], *map(int, found.groups()[1:])))
        elif found := re.match(r'bench idle turn: (\d+)', line):
            idle = int(found[1])
    if not cases or not idle:
        raise RuntimeError('the bench image printed no cases')
    return cases, idle


def stage_table():
    """{(name, depth, bytes): [(stage, instructions)]}"""
    table = {}
    for line in board_lines(STAGES):
        if found := re.match(r'stage (.+?)\s+depth\s+(\d+) bytes\s+(\d+) (\w+)\s+(\d+)', line):
            key = (found[1], int(found[2]), int(found[3]))
            table.setdefault(key, []).append((found[4], int(found[5])))
    return table


def verdict(value, budget):
    if budget == 0:
        return ''
    return f'budget {budget}: ' + ('met' if value <= budget else 'MISSED')


def show_board():
    cases, idle = board_cases()
    print('Instructions per I/O on aarch64 (cortex-a72, gcc -O2), endpoint + controller + device,')
    print('counted by QEMU -icount; the host model is not in them.')
    print(f'  {"case":<10} {"depth":>5} {"bytes":>7} {"instructions":>13}')
    for name, depth, size, count, budget in cases:
        print(f'  {name:<10} {depth:>5} {size:>7} {count:>13}   {verdict(count, budget)}')
    print(f'  an empty turn of the reactor: {idle}')
    print('\nWhere they go (a second build with stage marks; the marks are subtracted)')
    table = stage_table()
    names = [stage for stage, _ in next(iter(table.values()))]
    print(f'  {"case":<10} {"depth":>5} {"bytes":>7} ' + ''.join(f'{n:>10}' for n in names))
    for (name, depth, size), stages in table.items():
        print(f'  {name:<10} {depth:>5} {size:>7} ' + ''.join(f'{c:>10}' for _, c in stages))


def show_rdma():
    lines = board_lines(os.path.join(IMAGES, 'bench.elf'))
    marks = {case[:4]: case[6:] for case in rdma_cases(board_lines(STAGES))}
    print('\nInstructions per RDMA message on aarch64: engine, IP and acknowledgements of each side;')
    print('of these, both sides together: ICRC, and the copy to the final place. Wire and driver apart.')
    print(f'  {"case":<6} {"mtu":>5} {"depth":>5} {"bytes":>6} {"requester":>10} {"responder":>10} '
          f'{"both":>6} {"ICRC":>6} {"copy":>5}')
    for name, mtu, depth, size, requester, responder, _, _ in rdma_cases(lines):
        icrc, place = marks[(name, mtu, depth, size)]
        budget = RDMA_BUDGETS.get((name, mtu, depth), 0)
        print(f'  {name:<6} {mtu:>5} {depth:>5} {size:>6} {requester:>10} {responder:>10} '
              f'{requester + responder:>6} {icrc:>6} {place:>5}   '
              f'{verdict(requester + responder, budget)}')
    qp_bytes, ring_bytes = rdma_memory(lines)
    print(f'  a queue pair: {qp_bytes} bytes ({verdict(qp_bytes, QP_BYTES_BUDGET)}), its rings for '
          f'32 + 32 work requests: {ring_bytes}')


def show_path():
    lines = board_lines(os.path.join(IMAGES, 'bench.elf'))
    marks = {case[:3]: case[6:8] for case in path_cases(board_lines(STAGES))}
    print('\nInstructions per I/O over the whole path on aarch64, depth 32, MTU 4096: endpoint, volume +')
    print('initiator, RDMA engine; of the engine: ICRC, and the copy to its place. Target and driver apart.')
    print(f'  {"case":<6} {"data path":<11} {"bytes":>7} {"endpoint":>9} {"vol+host":>9} {"engine":>7} '
          f'{"sum":>7} {"ICRC":>6} {"copy":>6} {"staged":>7} {"packets":>8} {"PCIe rd":>8} {"bytes":>7} '
          f'{"PCIe wr":>8} {"bytes":>7} {"QPs":>4}')
    for case in path_cases(lines):
        name, way, size, endpoint, host, engine, _, _, staged, packets = case[:10]
        reads, read_bytes, writes, write_bytes, pairs = case[10:]
        icrc, place = marks[case[:3]]
        total = endpoint + host + engine
        print(f'  {name:<6} {way:<11} {size:>7} {endpoint:>9} {host:>9} {engine:>7} {total:>7} '
              f'{icrc:>6} {place:>6} {staged:>7} {packets / 100:>8.2f} {reads / 100:>8.2f} '
              f'{read_bytes:>7} {writes / 100:>8.2f} {write_bytes:>7} {pairs:>4}   {verdict(total, PATH_BUDGETS.get(case[:3], 0))}')


def scale(volumes):
    """(bytes, queue pairs) with so many volumes over 64 associations on 4 cores."""
    listing = subprocess.run([SCALE, str(volumes)], capture_output=True, text=True, check=True).stdout
    return tuple(int(re.search(rf'^scale {word}: (\d+)', listing, re.M).group(1))
                 for word in ('memory', 'queue pairs'))


def show_scale():
    print('\nAt scale: 64 associations, 4 cores, room for 128 host queue pairs')
    for volumes in SCALE_VOLUMES:
        size, pairs = scale(volumes)
        print(f'  {volumes:>5} volumes: {size / 1e6:.1f} MB ({verdict(size, SCALE_BUDGET_BYTES)}), '
              f'{pairs} queue pairs (drives x cores: {4 * volumes})')


def native_cases():
    listing = subprocess.run([NATIVE], capture_output=True, text=True, check=True).stdout
    return re.findall(r'^(\d+) (.+?) depth (\d+) bytes (\d+)', listing, re.M)


def callgrind(case, count):
    """Instructions of bench_turn() and what it calls, over `count` I/Os."""
    done = subprocess.run(['valgrind', '--tool=callgrind', '--callgrind-out-file=/dev/null',
                           '--toggle-collect=bench_turn', NATIVE, case, str(count)],
                          capture_output=True, text=True, check=True)
    return int(re.search(r'Collected : (\d+)', done.stderr)[1])


def show_native():
    print('\nThe same natively (x86-64 instructions, gcc -O2, callgrind)')
    if not shutil.which('valgrind'):
        print('  valgrind is not installed: apt-get install valgrind')
        return
    for case, name, depth, size in native_cases():
        once, twice = callgrind(case, CALLGRIND_IOS), callgrind(case, 2 * CALLGRIND_IOS)
        print(f'  {name:<10} {depth:>5} {size:>7} {(twice - once) / CALLGRIND_IOS:>13.0f}')


def sections(image):
    """(text + rodata, data, bss) in bytes."""
    lines = subprocess.run(['aarch64-linux-gnu-size', image], capture_output=True, text=True,
                           check=True).stdout.splitlines()
    return tuple(map(int, lines[1].split()[:3]))


def show_size():
    print('\nSizes in bytes')
    for name in ('qemu-virt', 'qemu-virt-clang'):
        text, data, bss = sections(os.path.join(ROOT, 'build', name, 'snic.elf'))
        print(f'  {name:<16} text + rodata {text:>7} ({verdict(text, TEXT_BUDGET_BYTES)}), '
              f'data {data}, bss {bss}')
        text = sections(os.path.join(ROOT, 'build', name, 'bootloader.elf'))[0]
        print(f'    bootloader     text + rodata {text:>7} ({verdict(text, LOADER_TEXT_BUDGET_BYTES)})')


def show_rates():
    print('\nRates: of this machine at this moment')
    sys.stdout.flush()
    subprocess.run([sys.executable, os.path.join(ROOT, 'tests/native/run.py'), 'bench'], check=True)
    compare = os.path.join(ROOT, 'tests/native/compare_spdk.py')
    if os.path.exists(compare):
        subprocess.run([sys.executable, compare], check=True)


def check():
    passed = failed = 0

    def judge(name, good):
        nonlocal passed, failed
        print(f'{"ok  " if good else "FAIL"} {name}')
        passed, failed = passed + good, failed + (not good)

    lines = board_lines(os.path.join(IMAGES, 'bench.elf'))
    cases, _ = board_cases(lines)
    for name, depth, size, count, budget in cases:
        if budget:
            judge(f'{name}, depth {depth}, {size} bytes: {count} instructions, budget {budget}',
                  count <= budget)
    rdma = rdma_cases(lines)
    for name, mtu, depth, size, requester, responder, _, _ in rdma:
        budget = RDMA_BUDGETS.get((name, mtu, depth))
        if budget:
            judge(f'RDMA {name}, MTU {mtu}, {size} bytes: {requester} + {responder} instructions, '
                  f'budget {budget}', requester + responder <= budget)
    judge('RDMA cases', len(rdma) == 12)
    path = path_cases(lines)
    for case in path:
        if budget := PATH_BUDGETS.get(case[:3]):
            judge(f'{case[0]}, whole path, {case[1]}, {case[2]} bytes: {sum(case[3:6])} instructions, '
                  f'budget {budget}', sum(case[3:6]) <= budget)
    judge('nothing staged but by terminate', all(c[8] == 0 for c in path if c[1] != 'terminate'))
    judge('cases of the whole path', len(path) == PATH_CASES)
    qp_bytes, _ = rdma_memory(lines)
    judge(f'a queue pair: {qp_bytes} bytes, budget {QP_BYTES_BUDGET}', qp_bytes <= QP_BYTES_BUDGET)
    few, many = (scale(volumes) for volumes in SCALE_VOLUMES)
    judge(f'{SCALE_VOLUMES[1]} volumes: {many[0]} bytes, budget {SCALE_BUDGET_BYTES}',
          many[0] <= SCALE_BUDGET_BYTES)
    judge(f'{many[1]} queue pairs, for {SCALE_VOLUMES[0]} volumes as many', few[1] == many[1])
    second = board_lines(os.path.join(IMAGES, 'bench.elf'))
    judge('a second run counts the same',
          (cases, rdma, path) == (board_cases(second)[0], rdma_cases(second), path_cases(second)))
    for name in ('qemu-virt', 'qemu-virt-clang'):
        text = sections(os.path.join(ROOT, 'build', name, 'snic.elf'))[0]
        judge(f'{name}: {text} bytes of text and rodata, budget {TEXT_BUDGET_BYTES}',
              text <= TEXT_BUDGET_BYTES)
        text = sections(os.path.join(ROOT, 'build', name, 'bootloader.elf'))[0]
        judge(f'{name}: {text} bytes of the bootloader, budget {LOADER_TEXT_BUDGET_BYTES}',
              text <= LOADER_TEXT_BUDGET_BYTES)
    print(f'{passed} passed, {failed} failed')
    return 0 if failed == 0 and passed else 1


def main():
    what = sys.argv[1:]
    if what == ['check']:
        return check()
    if what == ['size']:
        show_size()
        return 0
    if what:
        print(__doc__)
        return 2
    show_board()
    show_rdma()
    show_path()
    show_scale()
    show_native()
    show_size()
    show_rates()
    return 0


if __name__ == '__main__':
    sys.exit(main())
