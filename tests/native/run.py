#!/usr/bin/python3
"""Starts the native board and checks it from outside with our own vfio-user client.

  run.py            tests; last line "N passed, N failed"
  run.py bench      rates of a null namespace, 4 KiB random reads: shown, never judged
"""
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
SNIC = os.path.join(ROOT, 'build', 'native', 'snic')
CHECK = os.path.join(ROOT, 'build', 'host', 'vfu_check')
PERF = os.path.join(ROOT, 'build', 'host', 'vfu_perf')


class Target:
    """A native board in a temporary folder, gone when the block ends."""

    def __init__(self, config, count=1, options=()):
        self.folder = tempfile.mkdtemp(prefix='snic-')
        self.dirs = [os.path.join(self.folder, str(i)) for i in range(count)]
        self.config, self.options = config, list(options)
        self.log = None
        self.process = None

    def __enter__(self):
        self.log = open(os.path.join(self.folder, 'log'), 'w+', encoding='utf-8')
        self.process = subprocess.Popen([SNIC, '--config', self.config] + self.options + self.dirs,
                                        stdin=subprocess.DEVNULL, stdout=self.log,
                                        stderr=subprocess.STDOUT)
        deadline = time.monotonic() + 10
        while not all(os.path.exists(os.path.join(d, 'cntrl')) for d in self.dirs):
            if time.monotonic() > deadline or self.process.poll() is not None:
                raise RuntimeError('the native board does not listen:\n' + self.text())
            time.sleep(0.01)
        return self

    def text(self):
        self.log.flush()
        with open(self.log.name, encoding='utf-8', errors='replace') as log:
            return log.read()

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.log.close()
        shutil.rmtree(self.folder, ignore_errors=True)


def cpu_seconds(pid):
    """(in user mode, in the kernel)"""
    with open(f'/proc/{pid}/stat', encoding='ascii') as stat:
        fields = stat.read().rsplit(')', 1)[1].split()
    return tuple(int(field) / os.sysconf('SC_CLK_TCK') for field in fields[11:13])


def busy_seconds(pid):
    return sum(cpu_seconds(pid))


def check(config, options=(), count=1):
    """Runs vfu_check against each controller; returns (passed, failed)."""
    passed = failed = 0
    names = set()
    with Target(config, count, options) as target:
        for folder in target.dirs:
            done = subprocess.run([CHECK, folder], capture_output=True, text=True, timeout=120,
                                  check=False)
            print(done.stdout + done.stderr, end='')
            found = re.search(r'^(\d+) passed, (\d+) failed', done.stdout, re.M)
            passed += int(found[1]) if found else 0
            failed += int(found[2]) if found else 1
            names.update(re.findall(r'^identity (\S+)\s+(\S+)', done.stdout, re.M))
        if target.process.poll() is not None:
            print('FAIL the native board ended:\n' + target.text())
            failed += 1
    if target.process.returncode != 0:
        print(f'FAIL exit status {target.process.returncode} after SIGTERM')
        failed += 1
    serials, nqns = (set(column) for column in zip(*names)) if names else (set(), set())
    if len(serials) != count or len(nqns) != count:
        print(f'FAIL a host would refuse one of {count} controllers: {sorted(names)}')
        failed += 1
    return passed, failed


def idle():
    """An idle board does not burn a core, also with a client connected earlier."""
    with Target('ns=ram:64M idle=adaptive') as target:
        subprocess.run([CHECK, target.dirs[0]], stdout=subprocess.DEVNULL, timeout=120, check=True)
        before = busy_seconds(target.process.pid)
        time.sleep(2)
        used = busy_seconds(target.process.pid) - before
    good = used < 1.0
    print(f'{"ok  " if good else "FAIL"} idle for 2 s costs {used:.2f} s of a core')
    return (1, 0) if good else (0, 1)


def polling():
    """A polling board stays out of the kernel: one system call in every turn would be most of it.
    """
    with Target('ns=null:64M idle=poll cores=1') as target:
        before = cpu_seconds(target.process.pid)
        time.sleep(2)
        user, kernel = (now - then for now, then in zip(cpu_seconds(target.process.pid), before))
    good = kernel < 0.2 * user
    print(f'{"ok  " if good else "FAIL"} polling: {user:.2f} s in user mode, {kernel:.2f} s in the '
          'kernel')
    return (1, 0) if good else (0, 1)


def tests():
    total = [0, 0]
    cases = [
        ('RAM, 512-byte blocks, adaptive', lambda: check('ns=ram:64M idle=adaptive cores=1')),
        ('RAM, 4096-byte blocks, polling', lambda: check('ns=ram:64M:4096 idle=poll cores=1')),
        ('two cores, trapped doorbells', lambda: check('ns=ram:64M cores=2',
                                                       ['--doorbells', 'trapped'])),
        ('two controllers', lambda: check('ns=ram:16M', count=2)),
        ('idle', idle),
        ('polling', polling),
    ]
    for name, case in cases:
        print(f'-- {name}')
        passed, failed = case()
        total[0] += passed
        total[1] += failed
    print(f'{total[0]} passed, {total[1]} failed')
    return 0 if total[1] == 0 else 1


def bench():
    print('native board, null namespace, one core, one polled queue; rates depend on the machine')
    with Target('ns=null:1G idle=poll cores=1') as target:
        for size, depth in ((4096, 1), (4096, 32), (4096, 128), (131072, 32)):
            subprocess.run([PERF, target.dirs[0], '--depth', str(depth), '--bytes', str(size)],
                           timeout=60, check=True)
    return 0


if __name__ == '__main__':
    sys.exit(bench() if sys.argv[1:] == ['bench'] else tests())
