#!/usr/bin/python3
"""Tests of snicctl against boards that are none (fake.h): what it prints and how it ends.

    run.py [--update] [WORD]     only tests whose name contains WORD; --update: take what it prints now

Last line: "N passed, N failed".
"""
import concurrent.futures
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

# pylint: disable=wrong-import-position
import cases
import live
import special
import updates

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
DATA = os.path.join(ROOT, 'tests', 'data', 'snicctl')
TOOL = os.path.join(ROOT, 'build', 'host', 'snicctl')
FAKE = os.path.join(ROOT, 'build', 'host', 'fake_board')
TIMEOUT_S = 60
MODULE = 'tests-'  # boards have names of their own
SLOW = tuple(MODULE + name for name in ('live', 'updates', 'special'))  # first


class Bench:
    """Boards, started as they are needed; the tool."""

    def __init__(self):
        self.folder = tempfile.mkdtemp(prefix='snicctl-')
        self.boards = {}
        self.update = False
        self.data = DATA
        self.root = ROOT

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.end_boards()
        shutil.rmtree(self.folder)

    def end_boards(self):
        """What was written to them is forgotten."""
        for board in self.boards.values():
            board.kill()
            board.wait()
        self.boards = {}

    def console(self, mode):
        """The socket of a board of that kind."""
        path = os.path.join(self.folder, mode)
        if mode not in self.boards:
            if os.path.exists(path):
                os.unlink(path)
            self.boards[mode] = subprocess.Popen([FAKE, path, mode])
            deadline_s = time.monotonic() + 10
            while not os.path.exists(path) and time.monotonic() < deadline_s:
                time.sleep(0.01)
        return path

    def run(self, words, stdin=None):
        """(exit code, what it says; paths of this run taken out)"""
        env = dict(os.environ, LC_ALL='C.UTF-8', COLUMNS='100')
        done = subprocess.run([TOOL, *words], cwd=self.folder, env=env, timeout=TIMEOUT_S,
                              stdin=stdin or subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, check=False)
        out = done.stdout.decode().replace(self.folder + '/', '')
        err = done.stderr.decode().replace(self.folder + '/', '')
        return done.returncode, out, err

    def ask(self, mode, words):
        return self.run(['--console', self.console(mode), *words])

    def compare(self, name, text):
        """With what is kept under that name."""
        path = os.path.join(DATA, name)
        if self.update:
            with open(path, 'w', encoding='utf-8') as file:
                file.write(text)
            return
        with open(path, encoding='utf-8') as file:
            kept = file.read()
        if kept != text:
            shown = subprocess.run(['diff', '-u', path, '-'], input=text, text=True,
                                   stdout=subprocess.PIPE, check=False).stdout
            raise AssertionError('not as kept:\n' + shown)

    def validate(self, text):
        """Against docs/spec/snicctl.schema.json."""
        import jsonschema  # pylint: disable=import-outside-toplevel
        with open(os.path.join(ROOT, 'docs/spec/snicctl.schema.json'), encoding='utf-8') as file:
            schema = json.load(file)
        jsonschema.Draft202012Validator.check_schema(schema)
        jsonschema.validate(json.loads(text), schema, cls=jsonschema.Draft202012Validator)


def is_clean(text):
    """Nothing that a terminal would obey."""
    bad = [c for c in text if (ord(c) < 0x20 and c not in '\n\t') or 0x7f <= ord(c) < 0xa0]
    assert not bad, f'control characters reach the terminal: {bad[:5]}'


def check_text(bench, name, result, code):
    got, out, err = result
    is_clean(out + err)
    assert got == code, f'exit code {got}, not {code}:\n{out}{err}'
    bench.compare(name + '.txt', out + err)


def check_json(bench, name, result, code):
    got, out, err = result
    assert got == code, f'exit code {got}, not {code}:\n{err}'
    is_clean(out)
    bench.validate(out)
    bench.compare(name + '.json', out)


def case_tests(bench, name, mode, words, code):
    yield name, lambda: check_text(bench, name, bench.ask(mode, words), code)
    if name in cases.JSON:
        yield name + '-json', lambda: check_json(bench, name, bench.ask(mode, [*words, '--json']), code)


def all_groups(bench):
    """{what shares boards, and runs in order: [(name, function)]}"""
    groups = {}
    for name, mode, words, code in cases.CASES:
        groups.setdefault(mode, []).extend(case_tests(bench, name, mode, words, code))
    for name, words, code in cases.ALONE:
        name = 'alone-' + name
        groups.setdefault('alone', []).append(
            (name, lambda n=name, w=words, c=code: check_text(bench, n, bench.run(w), c)))
    for module in (special, updates, live):
        groups[MODULE + module.__name__] = [(name, lambda f=function: f(bench))
                                   for name, function in module.TESTS]
    return groups


def run_group(group, words, is_update):
    """(passed, failed)"""
    passed = failed = 0
    with Bench() as bench:
        bench.update = is_update
        for name, test in all_groups(bench)[group]:
            if words and not any(word in name for word in words):
                continue
            try:
                test()
                passed += 1
                print(f'ok {name}\n', end='', flush=True)
            except Exception as error:  # pylint: disable=broad-except
                failed += 1
                print(f'FAIL {name}\n{type(error).__name__}: {error}\n', end='', flush=True)
    return passed, failed


def main():
    """Most of the time somebody waits for somebody: groups run side by side."""
    words = sys.argv[1:]
    is_update = '--update' in words
    words = [word for word in words if word != '--update']
    os.makedirs(DATA, exist_ok=True)
    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        groups = sorted(all_groups(None), key=lambda group: group not in SLOW)
        counts = list(pool.map(lambda group: run_group(group, words, is_update), groups))
    passed, failed = (sum(count) for count in zip(*counts))
    print(f'{passed} passed, {failed} failed')
    return 0 if failed == 0 and passed > 0 else 1


if __name__ == '__main__':
    sys.exit(main())
