#!/usr/bin/python3
"""Tests of snicctl against boards that are none (fake.h): what it prints and how it ends.

    run.py [--update] [WORD]     only tests whose name contains WORD; --update: take what it prints now

Last line: "N passed, N failed".
"""
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


def all_tests(bench):
    """(name, function)"""
    tests = []
    for name, mode, words, code in cases.CASES:
        tests.append((name, lambda n=name, m=mode, w=words, c=code:
                      check_text(bench, n, bench.ask(m, w), c)))
        if name in cases.JSON:
            tests.append((name + '-json', lambda n=name, m=mode, w=words, c=code:
                          check_json(bench, n, bench.ask(m, [*w, '--json']), c)))
    for name, words, code in cases.ALONE:
        tests.append(('alone-' + name, lambda n=name, w=words, c=code:
                      check_text(bench, 'alone-' + n, bench.run(w), c)))
    tests += [(name, lambda f=function: f(bench)) for module in (special, updates, live) for name, function in module.TESTS]
    return tests


def main():
    words = sys.argv[1:]
    passed = failed = 0
    with Bench() as bench:
        bench.update = '--update' in words
        words = [word for word in words if word != '--update']
        os.makedirs(DATA, exist_ok=True)
        for name, test in all_tests(bench):
            if words and not any(word in name for word in words):
                continue
            try:
                test()
                passed += 1
                print(f'ok {name}', flush=True)
            except Exception as error:  # pylint: disable=broad-except
                failed += 1
                print(f'FAIL {name}\n{type(error).__name__}: {error}', flush=True)
    print(f'{passed} passed, {failed} failed')
    return 0 if failed == 0 and passed > 0 else 1


if __name__ == '__main__':
    sys.exit(main())
