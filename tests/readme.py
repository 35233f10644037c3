#!/usr/bin/python3
"""Runs what the README tells a reader to type. Last line: "N passed, N failed".

Targets that others run (check, check-quick) or that take as long as one likes (fuzz) are only
looked up; everything else is run as it stands there.
"""
import os
import re
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
NOT_RUN = {'check', 'check-quick', 'fuzz'}
TIMEOUT_S = 900


def readme():
    with open(os.path.join(ROOT, 'README.md'), encoding='utf-8') as text:
        return text.read()


def run(command, timeout_s=TIMEOUT_S):
    done = subprocess.run(command, cwd=ROOT, shell=True, timeout=timeout_s, text=True,
                          errors='replace', stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, check=False)
    if done.returncode != 0:
        raise AssertionError(f'"{command}" ended with {done.returncode}:\n{done.stdout[-3000:]}')
    return done.stdout


def targets_exist():
    helped = run('make')
    for target in re.findall(r'`make ([a-z-]+)`', readme()):
        assert re.search(rf'^  make {target}\s', helped, re.M), f'make does not list {target}'


def links_lead_somewhere():
    for link in re.findall(r'\]\(([^)#:]+)\)', readme()):
        assert os.path.exists(os.path.join(ROOT, link)), f'{link} is not there'
    for folder in re.findall(r'^\| `([^`]+)`.*\|', readme(), re.M):
        path = folder.split(' ')[0]
        assert path == 'make' or os.path.exists(os.path.join(ROOT, path)), f'{path} is not there'


def listens(command, folder):
    """The native board, which serves in folder/nvme0; its log."""
    path, text = os.path.join(folder, 'log'), ''
    with open(path, 'wb') as log:
        process = subprocess.Popen(f'exec {command}', cwd=ROOT, shell=True,
                                   stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 20
        while not (os.path.exists(os.path.join(folder, 'nvme0/cntrl')) and 'serving' in text):
            assert time.monotonic() < deadline and process.poll() is None, f'no start:\n{text}'
            time.sleep(0.05)
            with open(path, encoding='utf-8', errors='replace') as log:
                text = log.read()
        process.terminate()
        assert process.wait(20) == 0, 'it does not end well'
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
    return text


def native_board_listens():
    words = re.search(r'^build/native/snic (--config "[^"]*") (/tmp/\S+)$', readme(), re.M)
    assert words, 'the README shows no native board'
    with tempfile.TemporaryDirectory(prefix='snic-readme-') as folder:
        listens(f'build/native/snic {words[1]} {folder}/nvme0', folder)


def remote_drives_are_configured():
    """The device tree as it stands there, by the two lines below it."""
    tree = re.search(r'^```dts\n(.*?)^```', readme(), re.M | re.S)
    lines = re.search(r'^```\n(dtc .*)\n(build/native/snic --config .*)\n```', readme(), re.M)
    assert tree and lines, 'the README shows no remote drive'
    with tempfile.TemporaryDirectory(prefix='snic-readme-') as folder:
        with open(os.path.join(folder, 'config.dts'), 'w', encoding='utf-8') as file:
            file.write(tree[1])
        names = {'config.dtb': f'{folder}/config.dtb', 'config.dts': f'{folder}/config.dts',
                 'SOCKET': f'{folder}/eth', '/tmp/nvme0': f'{folder}/nvme0'}
        compile_it, start_it = (re.sub('|'.join(names), lambda name: names[name[0]], line)
                                for line in lines.groups())
        run(compile_it)
        log = listens(start_it, folder)
        assert re.search(r'configured by a device tree: 1 volumes, 1 subsystems', log), log
        assert not re.search(r'\] \d+ E ', log), log


def make_target(target):
    return lambda: run(f'make {target}')


def rack_stays_and_goes():
    run('make rack')
    try:
        run("boards/qemu-virt/rack/attach.py run 'nvme list'")
    finally:
        run('boards/qemu-virt/rack/up.py stop')


def rdma_is_seen_as_told():
    """The block that starts the rack with its Ethernet, line by line."""
    block = re.search(r'^```\n(make rack RACK=.*?)^```', readme(), re.M | re.S)
    assert block, 'the README shows no rack with an Ethernet'
    lines = block[1].splitlines()
    assert lines[-1].endswith('up.py stop'), lines[-1]
    try:
        for line in lines[:-1]:
            run(line)
    finally:
        run(lines[-1])


def main():
    tests = [('targets exist', targets_exist), ('links lead somewhere', links_lead_somewhere)]
    for target in dict.fromkeys(re.findall(r'^(?:\| `)?make ([a-z-]+)', readme(), re.M)):
        if target not in NOT_RUN:
            test = rack_stays_and_goes if target == 'rack' else make_target(target)
            tests.append((f'make {target}', test))
    tests.append(('RDMA is seen as told', rdma_is_seen_as_told))
    tests.append(('native board listens', native_board_listens))
    tests.append(('remote drives are configured', remote_drives_are_configured))
    failed = 0
    for name, test in tests:
        start = time.monotonic()
        try:
            test()
            print(f'ok   {name} ({time.monotonic() - start:.1f} s)', flush=True)
        except (AssertionError, subprocess.TimeoutExpired) as error:
            failed += 1
            print(f'FAIL {name}: {error}', flush=True)
    print(f'{len(tests) - failed} passed, {failed} failed')
    return 0 if failed == 0 else 1


if __name__ == '__main__':
    sys.exit(main())
