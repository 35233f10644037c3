#!/usr/bin/python3
"""Runs the tests and counts them.

  run.py quick PROGRAM...                  unit programs and tidy checks
  run.py tidy                              tidy checks alone
  run.py fuzz [--seconds N] PROGRAM...     libFuzzer programs
  run.py all --unit P... --unit-clang P... --unit-tsan P... --fuzz P...   everything, the QEMU board and the rack too

The last line is always "N passed, N failed". Output of what passes goes to build/log/, of what
fails to the screen too.
"""
import argparse
import concurrent.futures
import os
import re
import subprocess
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
LOG = os.path.join(ROOT, 'build', 'log')
PY = '/usr/bin/python3'


class Result:
    """What one test program said: counts, and its output if it failed."""

    def __init__(self, name, passed, failed, seconds, output):
        self.name, self.passed, self.failed = name, passed, failed
        self.seconds, self.output = seconds, output


def run_one(name, command, timeout_s, count):
    """Runs a command; `count(returncode, output)` gives (passed, failed)."""
    start = time.monotonic()
    env = dict(os.environ, ASAN_OPTIONS='detect_leaks=1:abort_on_error=0',
               UBSAN_OPTIONS='print_stacktrace=1')
    try:
        done = subprocess.run(command, cwd=ROOT, env=env, timeout=timeout_s, text=True,
                              errors='replace', stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
        output, code = done.stdout, done.returncode
    except subprocess.TimeoutExpired as expired:
        partial = expired.stdout or b''
        output = partial.decode(errors='replace') if isinstance(partial, bytes) else partial
        output += f'\n{name}: no end after {timeout_s} s\n'
        code = -1
    os.makedirs(LOG, exist_ok=True)
    with open(os.path.join(LOG, name.replace('/', '_') + '.log'), 'w', encoding='utf-8') as log:
        log.write(output)
    passed, failed = count(code, output)
    if code != 0 and failed == 0:
        failed = 1
    return Result(name, passed, failed, time.monotonic() - start, output)


def count_cmocka(code, output):
    passed = sum(int(n) for n in re.findall(r'^\[  PASSED  \] (\d+) test', output, re.M))
    failed = sum(int(n) for n in re.findall(r'^\[  FAILED  \] (\d+) test', output, re.M))
    if passed + failed == 0:  # died before its summary
        return 0, 1
    return passed, failed


def count_exit(code, _output):
    return (1, 0) if code == 0 else (0, 1)


def count_closing_line(code, output):
    found = re.findall(r'^(?:\w+: )?(\d+) passed, (\d+) failed', output, re.M)
    if not found:
        return 0, 1
    return int(found[-1][0]), int(found[-1][1])


def what_failed(output):
    """A suite's tests that failed, each with what follows up to the next test; else the end."""
    shown, is_failure = [], False
    for line in output.splitlines():
        if re.match(r'(ok|FAIL) ', line):
            is_failure = line.startswith('FAIL ')
        if is_failure:
            shown.append(line)
    return shown[:200] + output.splitlines()[-10 if shown else -60:]


class Report:
    """Prints a line for each program as it ends and adds up."""

    def __init__(self):
        self.passed = self.failed = 0
        self.failures = []  # names
        self.start = time.monotonic()

    def add(self, result):
        self.passed += result.passed
        self.failed += result.failed
        word = 'ok  ' if result.failed == 0 else 'FAIL'
        print(f'{word} {result.name}: {result.passed} passed, {result.failed} failed '
              f'({result.seconds:.1f} s)', flush=True)
        if result.failed:
            self.failures.append(result.name)
            print('\n'.join('     | ' + line for line in what_failed(result.output)), flush=True)

    def end(self):
        print(f'{time.monotonic() - self.start:.0f} s in all; logs are in build/log/')
        for name in self.failures:
            print(f'failed: {name}')
        print(f'{self.passed} passed, {self.failed} failed', flush=True)
        return 0 if self.failed == 0 and self.passed > 0 else 1


def run_parallel(report, jobs):
    with concurrent.futures.ThreadPoolExecutor(max_workers=os.cpu_count() or 2) as pool:
        waiting = [pool.submit(run_one, *job) for job in jobs]
        for future in concurrent.futures.as_completed(waiting):
            report.add(future.result())


def unit_jobs(programs, prefix):
    jobs = []
    for program in programs:
        name = prefix + '/'.join(program.split('/')[-2:])
        jobs.append((name, [os.path.join(ROOT, program)], 300, count_cmocka))
    return jobs


def tidy_jobs():
    folder = os.path.join(ROOT, 'tests', 'tidy')
    scripts = sorted(f for f in os.listdir(folder) if f.startswith('check_') and f.endswith('.py'))
    return [('tidy/' + s[:-3], [PY, os.path.join(folder, s)], 300, count_exit) for s in scripts]


def fuzz_jobs(programs, seconds):
    jobs = []
    for program in programs:
        name = os.path.basename(program)
        corpus = os.path.join(ROOT, 'build', 'corpus', name)
        os.makedirs(corpus, exist_ok=True)
        command = [os.path.join(ROOT, program), f'-max_total_time={seconds}', '-timeout=20',
                   '-rss_limit_mb=4096', f'-artifact_prefix={corpus}-crash-', corpus]
        seeds = os.path.join(ROOT, 'tests', 'data', 'fuzz', name)
        if os.path.isdir(seeds):
            command.append(seeds)
        jobs.append(('fuzz/' + name, command, seconds + 120, count_exit))
    return jobs


def sim_job(name, seeds, timeout_s):
    program = os.path.join(ROOT, 'build', 'sim', name)
    return (name, [program, '--seeds', f'1..{seeds}'], timeout_s, count_closing_line)


def script_suites():
    """Suites that start QEMU: each prints its own closing line. One after the other."""
    suites = []
    for name, script, timeout_s, *words in (('native', 'tests/native/run.py', 300),
                                    ('snicctl', 'tests/host_tools/run.py', 600),
                                    ('emu', 'tests/emu/run.py', 1200),
                                    ('bench', 'tests/bench/run.py', 600, 'check'),
                                    ('rack', 'tests/emu/rack.py', 7200),
                                    ('readme', 'tests/readme.py', 900)):
        if os.path.exists(os.path.join(ROOT, script)):
            suites.append((name, [PY, os.path.join(ROOT, script), *words], timeout_s,
                           count_closing_line))
    return suites


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('what', choices=['quick', 'tidy', 'fuzz', 'all'])
    parser.add_argument('programs', nargs='*')
    parser.add_argument('--unit', nargs='*', default=[])
    parser.add_argument('--unit-clang', nargs='*', default=[])
    parser.add_argument('--unit-tsan', nargs='*', default=[])
    parser.add_argument('--fuzz', nargs='*', default=[])
    parser.add_argument('--seconds', type=int, default=15)
    args = parser.parse_intermixed_args()
    report = Report()
    if args.what == 'fuzz':
        run_parallel(report, fuzz_jobs(args.programs, args.seconds))
        return report.end()
    run_parallel(report, tidy_jobs())
    if args.what == 'quick':
        run_parallel(report, unit_jobs(args.programs, 'unit/'))
        report.add(run_one(*sim_job('sim_rdma', 300, 300)))
        report.add(run_one(*sim_job('sim_path', 20, 300)))
    if args.what == 'all':
        run_parallel(report, unit_jobs(args.unit, 'unit/') + unit_jobs(args.unit_clang, 'clang/') +
                     unit_jobs(args.unit_tsan, 'tsan/'))
        run_parallel(report, fuzz_jobs(args.fuzz, args.seconds))
        run_parallel(report, [sim_job('sim_path', 150, 1200), sim_job('sim_rdma', 10000, 1200)])
        for suite in script_suites():
            print(f'     {suite[0]}: running, see build/log/{suite[0]}.log', flush=True)
            report.add(run_one(*suite))
    return report.end()


if __name__ == '__main__':
    sys.exit(main())
