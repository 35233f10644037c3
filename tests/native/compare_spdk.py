#!/usr/bin/python3
"""Compares the native board with SPDK's nvmf_tgt as vfio-user NVMe targets on this machine.

  SPDK_DIR=... compare_spdk.py [--runs N] [--clients LIST] [--seconds S] [--realtime] [--no-steps]

SPDK_DIR is a built SPDK (build/bin/nvmf_tgt, build/bin/spdk_nvme_perf); without it nothing is
measured. Both targets serve a null device from one polling core and take turns under the same
client, run by run: the one that rests is stopped. Clients: vfu_perf (ours, PRPs), spdk (SGLs).

  --realtime   the target under test and the client get real-time priority while they measure:
               for machines that others use too (root)
  --no-steps   instructions are not counted

Numbers are shown, never judged. Wants build/native/snic, build/host/vfu_perf and step_count, two
processors, and for SPDK huge pages: as root it reserves what is missing and gives it back.
"""
import argparse
import json
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
SNIC = os.path.join(ROOT, 'build', 'native', 'snic')
VFU_PERF = os.path.join(ROOT, 'build', 'host', 'vfu_perf')
STEP_COUNT = os.path.join(ROOT, 'build', 'host', 'step_count')

NQN = 'nqn.2019-07.io.spdk:cnode0'
CASES = ((1, 4096), (32, 4096), (128, 4096), (32, 131072))
NULL_BYTES = 1 << 30
HUGE_MIB = 1024           # two SPDK processes
CLIENT_MIB = 256
STEPS = 400000
STARTS = 5
LISTEN_TIMEOUT_S = 30
RUN_TIMEOUT_S = 90
REST_S = 0.1              # between real-time runs others get the processors


def spdk_bin(name):
    return os.path.join(os.environ['SPDK_DIR'], 'build', 'bin', name)


# --- huge pages --------------------------------------------------------------------------------

class HugePages:
    """Reserves and mounts what SPDK needs and takes back at the end what it added."""
    COUNT = '/proc/sys/vm/nr_hugepages'

    def __init__(self):
        self.before = None
        self.mount = None

    @staticmethod
    def _meminfo(name):
        with open('/proc/meminfo', encoding='ascii') as info:
            return int(re.search(rf'^{name}:\s+(\d+)', info.read(), re.M)[1])

    def _set(self, count):
        with open(self.COUNT, 'w', encoding='ascii') as file:
            file.write(str(count))

    def __enter__(self):
        size_kib = self._meminfo('Hugepagesize')
        missing = HUGE_MIB * 1024 // size_kib - self._meminfo('HugePages_Free')
        if missing > 0:
            self.before = self._meminfo('HugePages_Total')
            self._set(self.before + missing)
        with open('/proc/mounts', encoding='ascii') as mounts:
            mounted = any(line.split()[2] == 'hugetlbfs' for line in mounts)
        if not mounted:
            self.mount = tempfile.mkdtemp(prefix='snic-huge-')
            subprocess.run(['mount', '-t', 'hugetlbfs', 'none', self.mount], check=True)
        return self

    def __exit__(self, *_):
        if self.mount:
            subprocess.run(['umount', self.mount], check=False)
            os.rmdir(self.mount)
        if self.before is not None:
            self._set(self.before)


# --- targets -----------------------------------------------------------------------------------

class Target:
    """A server at `dir`/cntrl, pinned to one processor."""
    name = symbol = ''

    def __init__(self, folder, cpu):
        self.folder, self.cpu = os.path.join(folder, self.name), cpu
        self.dir = os.path.join(self.folder, 'vu')
        self.process = self.log = None
        self.listen_s = 0.0

    def command(self):
        raise NotImplementedError

    def start(self):
        shutil.rmtree(self.folder, ignore_errors=True)
        os.makedirs(self.dir)
        self.log = open(os.path.join(self.folder, 'log'), 'w', encoding='utf-8')
        command, begin = self.command(), time.monotonic()
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=self.log,
                                        stderr=subprocess.STDOUT)
        os.sched_setaffinity(self.process.pid, {self.cpu})
        while not os.path.exists(os.path.join(self.dir, 'cntrl')):
            if self.process.poll() is not None or time.monotonic() - begin > LISTEN_TIMEOUT_S:
                raise RuntimeError(f'{self.name} does not listen: see {self.log.name}')
            time.sleep(0.0005)
        self.listen_s = time.monotonic() - begin

    def stop(self):
        if self.process is not None:
            self.process.send_signal(signal.SIGCONT)
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
            self.process = None
            self.log.close()

    def priority(self, realtime):
        """The polling thread, and above it those that it would starve."""
        pid = self.process.pid
        for task in map(int, os.listdir(f'/proc/{pid}/task')):
            level = 1 if task == pid else 2
            os.sched_setscheduler(task, os.SCHED_FIFO if realtime else os.SCHED_OTHER,
                                  os.sched_param(level if realtime else 0))

    def work(self):
        self.process.send_signal(signal.SIGCONT)

    def rest(self):
        self.process.send_signal(signal.SIGSTOP)

    def memory_kib(self):
        """(resident, huge pages)"""
        with open(f'/proc/{self.process.pid}/status', encoding='ascii') as status:
            text = status.read()
        return tuple(int(re.search(rf'^{name}:\s+(\d+)', text, re.M)[1])
                     for name in ('VmRSS', 'HugetlbPages'))

    def address(self):
        """Where the running process has the function that each I/O passes once; None: no symbols.
        """
        binary = os.path.realpath(f'/proc/{self.process.pid}/exe')
        names = subprocess.run(['nm', binary], capture_output=True, text=True, check=False).stdout
        found = re.search(rf'^([0-9a-f]+) [tT] {self.symbol}$', names, re.M)
        with open(f'/proc/{self.process.pid}/maps', encoding='utf-8') as maps:
            base = next(line for line in maps if line.rstrip().endswith(binary)).split('-')[0]
        return int(found[1], 16) + int(base, 16) if found else None


class Snic(Target):
    name, symbol = 'snic', 'null_submit'

    def command(self):
        return [SNIC, '--config', 'ns=null:1G:4096 idle=poll cores=1', self.dir]


class Spdk(Target):
    name, symbol = 'spdk', 'bdev_null_submit_request'

    def command(self):
        def call(method, **params):
            return {'method': method, 'params': params}
        bdev = [call('bdev_null_create', name='Null0', num_blocks=NULL_BYTES // 4096,
                     block_size=4096)]
        nvmf = [call('nvmf_create_transport', trtype='VFIOUSER', max_queue_depth=256),
                call('nvmf_create_subsystem', nqn=NQN, allow_any_host=True),
                call('nvmf_subsystem_add_ns', nqn=NQN, namespace={'bdev_name': 'Null0'}),
                call('nvmf_subsystem_add_listener', nqn=NQN,
                     listen_address={'trtype': 'VFIOUSER', 'traddr': self.dir})]
        config = os.path.join(self.folder, 'config.json')
        with open(config, 'w', encoding='ascii') as file:
            json.dump({'subsystems': [{'subsystem': 'bdev', 'config': bdev},
                                      {'subsystem': 'nvmf', 'config': nvmf}]}, file)
        return [spdk_bin('nvmf_tgt'), '-m', f'[{self.cpu}]', '--no-pci', '-c', config,
                '-r', os.path.join(self.folder, 'rpc.sock')]


# --- clients -----------------------------------------------------------------------------------

def vfu_perf_command(target, case, cpu, seconds):
    return ['taskset', '-c', str(cpu), VFU_PERF, target.dir, '--depth', str(case[0]), '--bytes',
            str(case[1]), '--seconds', str(seconds)]


def spdk_perf_command(target, case, cpu, seconds):
    # -g: one file for all memory, hence few DMA windows
    return [spdk_bin('spdk_nvme_perf'), '-r', f'trtype:VFIOUSER traddr:{target.dir} subnqn:{NQN}',
            '-q', str(case[0]), '-o', str(case[1]), '-w', 'randread', '-t',
            str(max(1, round(seconds))), '-c', f'[{cpu}]', '-s', str(CLIENT_MIB), '-g']


CLIENTS = {'vfu_perf': vfu_perf_command, 'spdk': spdk_perf_command}


def iops(output):
    """Million I/Os per second, as either client says it."""
    if found := re.search(r': ([\d.]+) M IOPS.* 0 errors', output):
        return float(found[1])
    if found := re.search(r'^Total\s*:\s*([\d.]+)', output, re.M):
        return float(found[1]) / 1e6
    raise RuntimeError('the client failed:\n' + output[-2000:])


def measure(target, client, case, options):
    """One run. Real-time priority begins when both sides have met: SPDK's start needs helpers."""
    command = CLIENTS[client](target, case, options.client_cpu, options.seconds)
    target.work()
    process = subprocess.Popen(['stdbuf', '-oL'] + command, stdin=subprocess.DEVNULL,
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    watch = threading.Timer(RUN_TIMEOUT_S, process.kill)
    watch.start()
    lines = []
    try:
        if options.realtime and client != 'spdk':
            hurry(target, process)
        for line in process.stdout:
            lines.append(line)
            if options.realtime and 'Launching workers' in line:
                hurry(target, process)
        process.wait()
    finally:
        watch.cancel()
        if options.realtime:
            target.priority(False)
        target.rest()
    return iops(''.join(lines))


def hurry(target, client):
    target.priority(True)
    os.sched_setscheduler(client.pid, os.SCHED_FIFO, os.sched_param(1))


def instructions(target, client, case, options):
    """Instructions of the target's polling thread per I/O; None: cannot be counted."""
    address = target.address()
    if address is None:
        return None
    target.work()
    command = CLIENTS[client](target, case, options.client_cpu, 60)
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL)
    try:
        time.sleep(3 if client == 'spdk' else 1)
        done = subprocess.run(['taskset', '-c', str(target.cpu), STEP_COUNT,
                               str(target.process.pid), str(STEPS), f'{address:x}'],
                              capture_output=True, text=True, timeout=RUN_TIMEOUT_S, check=False)
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        target.rest()
    found = re.match(r'(\d+) instructions', done.stdout)
    return int(found[1]) if found else None


# --- the comparison ----------------------------------------------------------------------------

def show(label, values):
    print(f'  {label:<38}' + ''.join(f'{value:>24}' for value in values), flush=True)


def text_of(count):
    return 'not counted' if count is None else f'{count}'


def case_label(case):
    return f'{case[1] // 1024:>3} KiB, depth {case[0]}'


def compare_start(targets):
    listen = {target: [] for target in targets}
    for _ in range(STARTS):
        for target in targets:
            target.start()
            listen[target].append(target.listen_s)
            target.stop()
    show('start to listening, ms: median', [f'{statistics.median(listen[t]) * 1e3:.0f}'
                                            for t in targets])


def compare_memory(targets):
    memory = [target.memory_kib() for target in targets]
    show('memory after the runs, MiB', [f'{(rss + huge) / 1024:.0f}' for rss, huge in memory])
    show('  of it huge pages', [f'{huge / 1024:.0f}' for _, huge in memory])


def compare_rates(targets, client, options):
    print(f'\n  M IOPS, client {client}: median (worst - best) of {options.runs} runs', flush=True)
    rates = {(case, target): [] for case in CASES for target in targets}
    for _ in range(options.runs):
        for case in CASES:
            for target in targets:
                rates[case, target].append(measure(target, client, case, options))
                if options.realtime:
                    time.sleep(REST_S)
    for case in CASES:
        show(case_label(case),
             [f'{statistics.median(r):.2f} ({min(r):.2f} - {max(r):.2f})'
              for r in (rates[case, target] for target in targets)])


def compare_instructions(targets, client, options):
    lists = 'SGL' if client == 'spdk' else 'PRPs'
    print(f'\n  instructions of the target per I/O, single-stepped, client {client} ({lists})')
    for case in CASES:
        show(case_label(case), [text_of(instructions(target, client, case, options))
                                for target in targets])


def compare(targets, options):
    print('native board and SPDK nvmf_tgt: vfio-user, null device, random reads, one target core')
    print(f'  {time.strftime("%Y-%m-%d")}, {os.cpu_count()} processors, load '
          f'{os.getloadavg()[0]:.1f}' + (', real-time priority' if options.realtime else ''))
    show('', [target.name for target in targets])
    compare_start(targets)
    for target in targets:
        target.start()
        target.rest()
    for client in options.clients:
        compare_rates(targets, client, options)
        if not options.no_steps:
            compare_instructions(targets, client, options)
    print()
    compare_memory(targets)


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument('--runs', type=int, default=7)
    parser.add_argument('--seconds', type=float, default=0.5)
    parser.add_argument('--clients', type=lambda text: text.split(','), default=list(CLIENTS))
    parser.add_argument('--realtime', action='store_true')
    parser.add_argument('--no-steps', action='store_true')
    options = parser.parse_args()
    if not os.environ.get('SPDK_DIR'):
        print('comparison with SPDK: set SPDK_DIR to a built SPDK to see it')
        return 0
    cpus = sorted(os.sched_getaffinity(0))
    wanted = [spdk_bin('nvmf_tgt'), spdk_bin('spdk_nvme_perf'), SNIC, VFU_PERF, STEP_COUNT]
    missing = [path for path in wanted if not os.path.exists(path)]
    if missing or len(cpus) < 2:
        print('comparison with SPDK: ' + (f'{missing[0]} is missing' if missing
                                          else 'two processors are needed'))
        return 1
    options.client_cpu = cpus[1]
    folder = tempfile.mkdtemp(prefix='snic-spdk-')
    targets = [Snic(folder, cpus[0]), Spdk(folder, cpus[0])]
    try:
        with HugePages():
            try:
                compare(targets, options)
            finally:
                for target in targets:
                    target.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return 0


if __name__ == '__main__':
    sys.exit(main())
