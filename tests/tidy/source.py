"""What the tidy checks share: which files there are, and C text without comments and strings."""
import os
import re
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
C_ENDINGS = ('.c', '.h')


def files(endings=C_ENDINGS):
    """Paths (relative to the root) of the sources that git knows or would add; sorted."""
    listed = subprocess.run(['git', 'ls-files', '-co', '--exclude-standard'], cwd=ROOT, text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False)
    if listed.returncode == 0:
        paths = listed.stdout.splitlines()
    else:  # an unpacked archive
        paths = [os.path.relpath(os.path.join(folder, name), ROOT)
                 for folder, folders, names in os.walk(ROOT)
                 for name in names if not prune(folders)]
    return sorted({p for p in paths if p.endswith(endings) and not p.startswith('build/')
                   and os.path.isfile(os.path.join(ROOT, p))})


def prune(folders):
    """Keeps os.walk() out of what is not source."""
    folders[:] = [f for f in folders if f not in ('.git', 'build')]


def read(path):
    with open(os.path.join(ROOT, path), encoding='utf-8') as f:
        return f.read()


_NOT_CODE = re.compile(r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.S)


def blank(match):
    """The same length and lines, nothing in it; quotes stay."""
    text = match.group(0)
    body = re.sub(r'[^\n]', ' ', text)
    return text[0] + body[1:-1] + text[-1] if text[0] in '"\'' else body


def code_of(text):
    """C text with comments and the content of strings blanked; positions and lines stay."""
    return _NOT_CODE.sub(blank, text)


def without_preprocessor(code):
    """Blanks directives with their continued lines (and so the bodies of macros)."""
    return re.sub(r'^[ \t]*#(?:[^\n]*\\\n)*[^\n]*', lambda m: re.sub(r'[^\n]', ' ', m.group(0)),
                  code, flags=re.M)


def line_at(text, position):
    return text.count('\n', 0, position) + 1


class Function:
    """A function definition: name, first and last line, text of the body."""

    def __init__(self, name, is_static, first_line, last_line, body):
        self.name, self.is_static = name, is_static
        self.first_line, self.last_line, self.body = first_line, last_line, body


_NAME = re.compile(r'(\w+)\s*\(')
_NOT_NAMES = {'if', 'for', 'while', 'switch', 'return', 'sizeof', '__attribute__', '_Alignas',
              'PRINTF_LIKE', 'ALIGNED', 'SECTION'}


def functions(code):
    """All definitions, as our format writes them: the body's braces alone in column 0."""
    found = []
    code = without_preprocessor(code)
    for opening in re.finditer(r'^\{$', code, re.M):
        closing = re.compile(r'^\}', re.M).search(code, opening.end())
        if closing is None:
            continue
        # The head: what stands between the last end of something and the brace.
        before = code[:opening.start()].rstrip()
        start = max(before.rfind(';'), before.rfind('}')) + 1
        head = before[start:]
        if not head.endswith(')'):
            continue
        names = [n for n in _NAME.findall(head) if n not in _NOT_NAMES]
        if not names:
            continue
        lead = len(head) - len(head.lstrip())
        found.append(Function(names[0], re.search(r'\b(static|ALWAYS_INLINE)\b', head) is not None,
                              line_at(code, start + lead), line_at(code, closing.start()),
                              code[opening.start():closing.end()]))
    return found


def report(problems):
    """Prints "path:line: what" for each and gives the exit status."""
    for path, line, what in sorted(set(problems)):
        print(f'{path}:{line}: {what}')
    return 1 if problems else 0


def main(check, endings=C_ENDINGS):
    """Runs check(path, text) over all sources."""
    problems = []
    for path in files(endings):
        problems += [(path, line, what) for line, what in check(path, read(path))]
    sys.exit(report(problems))
