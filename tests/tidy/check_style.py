#!/usr/bin/python3
"""The rules of style that a script can see: sizes, tabs, line length, braces, TODO, volatile, heap,
printf, recursion. Layout is clang-format's: check_format.py.
"""
import re

import source

FUNCTION_LINES = 70
FILE_LINES = 600
TEST_FILE_LINES = 900  # a test file is a list; its length costs a reader less
CONTRACT_LINES = 200   # hal/include
COLUMNS = 100

VOLATILE_HOME = 'hal/include/hal/mmio.h'

# Per I/O nothing is formatted: these folders never call the printf family. snprintf and vsnprintf are
# left to what speaks to people (log, app, mgmt, boot).
DATA_PATH = re.compile(r'firmware/(spec|sched|blk|nvme|nvme_ep|nvme_drv|net|rdma|nvmf|nvmf_host|'
                       r'nvmf_tgt|diag|vol)/')
HEAP = re.compile(r'\b(malloc|calloc|realloc|free|aligned_alloc|posix_memalign|strdup|strndup|alloca)'
                  r'\s*\(')
PRINTF = re.compile(r'\b(v?s?n?printf|vf?printf|fprintf|puts|putchar|sprintf)\s*\(')
UNBOUNDED = re.compile(r'\b(sprintf|vsprintf|strcpy|strcat|gets)\s*\(')
FIRMWARE = 'firmware/'


def file_limit(path):
    if path.startswith('hal/include/'):
        return CONTRACT_LINES
    if path.startswith('tests/'):
        return TEST_FILE_LINES
    return FILE_LINES


def check_lines(path, text):
    lines = text.split('\n')
    if text and not text.endswith('\n'):
        yield len(lines), 'the last line has no end'
    if len(lines) - 1 > file_limit(path):
        yield file_limit(path), f'{len(lines) - 1} lines in a file: at most {file_limit(path)}'
    for number, line in enumerate(lines, 1):
        if '\t' in line:
            yield number, 'a tab'
        if len(line) > COLUMNS:
            yield number, f'{len(line)} columns: at most {COLUMNS}'
        if line != line.rstrip():
            yield number, 'blanks at the end'
        if re.search(r'\bTODO\b(?!\(#\d+\))', line):
            yield number, 'a TODO names its follow-up: TODO(#12)'
        if re.search(r'\b(FIXME|XXX|HACK)\b', line):
            yield number, 'an open end: fix it, or TODO(#12)'


def check_words(path, text, code):
    def each(pattern, what):
        for found in re.finditer(pattern, code):
            word = found.group(1) if found.groups() else found.group(0)
            yield source.line_at(code, found.start()), what.format(word)

    if path != VOLATILE_HOME:
        yield from each(r'(?<!__asm__ )\b(volatile)\b', '{} belongs into ' + VOLATILE_HOME)
    if not path.startswith('tests/'):
        yield from each(UNBOUNDED, '{}() does not know how long its buffer is')
    if path.startswith(FIRMWARE) and not path.startswith('firmware/boot/'):
        yield from each(HEAP, '{}(): there is no heap in the firmware')
    if DATA_PATH.match(path):
        yield from each(PRINTF, '{}(): nothing is formatted on the data path')


def close_of(code, position):
    """Behind the bracket that closes the one at `position`."""
    depth = 0
    for i in range(position, len(code)):
        depth += {'(': 1, ')': -1}.get(code[i], 0)
        if depth == 0:
            return i + 1
    return len(code)


def check_braces(code):
    """if, else, for and while have a block. (`while` may close a do.)"""
    code = source.without_preprocessor(code)
    for found in re.finditer(r'\b(if|for|while)\s*\(', code):
        rest = code[close_of(code, found.end() - 1):].lstrip()
        if not rest.startswith('{') and not (found.group(1) == 'while' and rest.startswith(';')):
            yield source.line_at(code, found.start()), f'{found.group(1)} without braces'
    for found in re.finditer(r'\belse\b\s*(?!\{|if\b|\s)', code):
        yield source.line_at(code, found.start()), 'else without braces'


def check_functions(code):
    for function in source.functions(code):
        length = function.last_line - function.first_line + 1
        if length > FUNCTION_LINES:
            yield (function.first_line,
                   f'{function.name}() has {length} lines: at most {FUNCTION_LINES}')


def check(path, text):
    code = source.code_of(text)
    yield from check_lines(path, text)
    yield from check_words(path, text, code)
    yield from check_braces(code)
    yield from check_functions(code)


# --- recursion: over all files at once ---------------------------------------------------------

def is_bounded(text, function):
    """The comment right above says why the recursion ends: "Bounded recursion: ..."."""
    above = '\n'.join(text.split('\n')[:function.first_line - 1])
    comment = re.search(r'/\*((?:(?!\*/).)*)\*/\s*$', above, re.S)
    return comment is not None and 'Bounded recursion:' in comment.group(1)


def call_graph(texts):
    """{(file or '', name): (line, path, {callees})}; '' stands for what all files see. Only calls by
    name: what goes through an ops table is not seen. Functions that explain themselves are left out."""
    nodes = {}
    for path, text in texts.items():
        for function in source.functions(source.code_of(text)):
            if not is_bounded(text, function):
                key = (path if function.is_static else '', function.name)
                nodes[key] = (function.first_line, path, function.body)
    graph = {}
    for key, (line, path, body) in nodes.items():
        names = set(re.findall(r'(?<![\w.>])(\w+)\s*\(', body))
        callees = {k for n in names for k in ((path, n), ('', n)) if k in nodes}
        graph[key] = (line, path, callees)
    return graph


def find_cycles(graph):
    """One (path, line, what) for each function that reaches itself."""
    for start, (line, path, _) in graph.items():
        seen, todo, first = set(), [start], True
        while todo:
            key = todo.pop()
            if key == start and not first:
                yield path, line, (f'{start[1]}() can call itself; if that must be, a comment '
                                   '"Bounded recursion: why" above one of the circle')
                break
            first = False
            for callee in graph[key][2]:
                if callee == start or callee not in seen:
                    seen.add(callee)
                    todo.append(callee)


def recursion(texts):
    return list(find_cycles(call_graph(texts)))


def main():
    texts = {path: source.read(path) for path in source.files()}
    problems = [(path, line, what) for path, text in texts.items()
                for line, what in check(path, text)]
    problems += recursion({p: t for p, t in texts.items() if p.startswith(('firmware/', 'hal/'))})
    return source.report(problems)


if __name__ == '__main__':
    raise SystemExit(main())
