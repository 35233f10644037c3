#!/usr/bin/python3
"""Layout as .clang-format says. `make format` repairs it. Skipped where clang-format is not installed."""
import re
import shutil
import subprocess
import sys

import source


def check(paths):
    """One problem for each file that clang-format would change: its first line that differs."""
    done = subprocess.run(['clang-format', '--dry-run', '--', *paths], cwd=source.ROOT, text=True,
                          stderr=subprocess.PIPE, check=False)
    first = {}
    for found in re.finditer(r'^(\S[^:\n]*):(\d+):\d+: (?:warning|error): (.*)', done.stderr, re.M):
        first.setdefault(found.group(1), (int(found.group(2)), found.group(3)))
    problems = [(path, line, 'clang-format would change this: make format')
                for path, (line, _) in first.items()]
    if done.returncode != 0 and not problems:
        problems.append(('.clang-format', 1, done.stderr.strip()))
    return problems


def main():
    if shutil.which('clang-format') is None:
        print('clang-format is not installed: layout not checked')
        return 0
    return source.report(check(source.files()))


if __name__ == '__main__':
    sys.exit(main())
