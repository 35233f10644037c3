"""Tests of snicctl: what documents, schema and completion say is so; traces and crashes."""
import json
import os
import re
import shutil
import subprocess

import cases
from common import fail, path_of, succeed, write_file

# --- what documents say is so ------------------------------------------------------------------

def schema_is_kept(bench):
    text = succeed(bench.run(['schema']))
    with open(os.path.join(bench.root, 'docs/spec/snicctl.schema.json'), encoding='utf-8') as file:
        assert file.read() == text, 'run: build/host/snicctl schema > docs/spec/snicctl.schema.json'


def schema_finds_faults(bench):
    import jsonschema  # pylint: disable=import-outside-toplevel
    text = succeed(bench.ask('good', ['queues', '--json']))
    for harm in (lambda d: d['queues'][0].pop('qid'), lambda d: d.update(more=1),
                 lambda d: d['queues'][0].update(qid='1'), lambda d: d['queues'][0].update(new=1)):
        spoilt = json.loads(text)
        harm(spoilt)
        try:
            bench.validate(json.dumps(spoilt))
        except jsonschema.ValidationError:
            continue
        raise AssertionError('the schema accepts anything')


def commands_of(bench):
    return re.findall(r'^  ([a-z]+) {2,}', succeed(bench.run(['help'])), re.M)


def groff_says(bench, path):
    return subprocess.run(['groff', '-ww', '-man', '-Tutf8', '-z', path], cwd=bench.root, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False).stderr


def man_page_has_all_commands(bench):
    path = os.path.join(bench.root, 'docs/man/snicctl.1')
    with open(path, encoding='utf-8') as file:
        text = file.read()
    for command in commands_of(bench):
        assert re.search(rf'^\.B[IR]? "?{command}\b', text, re.M), f'{command} is not in the man page'
        usage = succeed(bench.run(['help', command])).split('\n')[0]
        for option in re.findall(r'--[a-z][a-z-]+', usage):
            assert option.replace('-', '\\-') in text, f'{command}: {option} is not in the man page'
    if shutil.which('groff') is not None:
        assert groff_says(bench, path) == ''
        spoilt = write_file(bench, 'spoilt.1', text.replace('.SH OPTIONS', '.NOSUCHMACRO OPTIONS'))
        assert groff_says(bench, spoilt) != '', 'groff does not find faults'


def completion_has_all_commands(bench):
    script = os.path.join(bench.root, 'host_tools/snicctl/completion.bash')
    ask = ('source {}; COMP_WORDS=(snicctl {}); COMP_CWORD={}; _snicctl; echo "${{COMPREPLY[*]}}"')

    def complete(words):
        line = ask.format(script, ' '.join(f"'{word}'" for word in words), len(words))
        return subprocess.run(['bash', '-c', line], text=True, stdout=subprocess.PIPE,
                              check=True).stdout.split()

    first = complete([''])
    for command in commands_of(bench):
        assert command in first, f'{command} is not completed'
        usage = succeed(bench.run(['help', command]))
        for option in re.findall(r'--[a-z][a-z-]+', usage.split('\n')[0]):
            offered = complete([command, '--'])
            assert option in offered, f'{command}: {option} is not completed, only {offered}'
    assert complete(['--console', '/dev/nul']) == ['/dev/null']


def every_object_is_validated(bench):
    """Each command with --json has a test that validates it: in cases.py, or one of these."""
    schema = json.loads(succeed(bench.run(['schema'])))
    named = set(schema['properties']['command']['enum'])
    tested = {words[0] for name, _, words, _ in cases.CASES if name in cases.JSON}
    for words in (['version', '--json'], ['fabric', '--json']):
        _, text, _ = bench.run(words)  # without an RDMA device fabric fails, and says so in JSON too
        bench.validate(text)
        tested.add(json.loads(text)['command'])
    text = succeed(bench.ask('good', ['config', 'get', '--json']))
    bench.validate(text)
    tested |= {'config', 'image'}  # with content: updates.py
    assert named == tested, named ^ tested


# --- traces, crashes -----------------------------------------------------------------------------

def perfetto_file_is_right(bench):
    path = path_of(bench, 'trace.json')
    succeed(bench.ask('good', ['trace', '--perfetto', path]))
    with open(path, encoding='utf-8') as file:
        events = json.load(file)['traceEvents']
    for event in events:
        assert {'name', 'cat', 'ph', 'ts', 'pid', 'tid'} <= event.keys(), event
    edges = {}
    for event in events:
        if event['ph'] in 'be':
            edges.setdefault((event['cat'], event['id'], event['name']), {})[event['ph']] = event['ts']
    assert all(set(edge) == {'b', 'e'} and edge['b'] <= edge['e'] for edge in edges.values()), edges
    write = next(e for e in events if e['ph'] == 'b' and e['name'] == 'write')
    assert write['ts'] == 2000.0 and write['args']['slba'] == 4096 and write['args']['bytes'] == 4096
    stages = {name: (edge['b'], edge['e']) for (cat, number, name), edge in edges.items()
              if cat == 'io' and number == write['id']}
    assert stages == {'write': (2000.0, 2183.0), 'controller': (2000.0, 2004.0), 'volume': (2004.0, 2010.0),
                      'fabric': (2010.0, 2170.0), 'end': (2170.0, 2180.5), 'cq': (2180.5, 2181.0),
                      'irq': (2181.0, 2183.0)}, stages
    requests = [(name, edge['b'], edge['e']) for (cat, _, name), edge in edges.items() if cat == 'request']
    assert ('cntlid 1 qid 1 cid 78', 2012.0, 2190.0) in requests, requests
    assert ('cntlid 2 qid 1 cid 5', 2400.0, 2590.0) in requests, requests
    assert ('drive 0 qid 1 cid 9', 2101.5, 2150.0) in requests and len(requests) == 5, requests
    assert any(e['ph'] == 'i' and e['name'] == 'BAD_ADDRESS' for e in events)
    assert any(e['ph'] == 'i' and e['name'] == 'VOL_WAIT' for e in events)


CRASH_SOURCE = """
    .text
    .globl queue_check
    .type queue_check, %function
queue_check:
    .rept 64
    nop
    .endr
    .size queue_check, 0x100
"""


def crash_names_functions(bench):
    """The fake's crash lies in a function that is made here; the others' addresses nobody knows."""
    source = write_file(bench, 'crash.s', CRASH_SOURCE)
    elf = path_of(bench, 'crash.elf')
    subprocess.run(['aarch64-linux-gnu-gcc', '-g', '-nostdlib', '-static', '-o', elf, source,
                    '-Wl,-Ttext=0x40112300,-e,queue_check'], check=True)
    lines = succeed(bench.ask('good', ['crash', '--elf', elf])).split('\n')
    pc = [line for line in lines if line.startswith('pc 0x000040112344')]
    assert len(pc) == 1 and 'queue_check at ' in pc[0] and 'crash.s:' in pc[0], lines
    other = [line for line in lines if line.startswith('   0x000040100100')]
    assert len(other) == 1 and 'queue_check' not in other[0], lines
    frames = json.loads(succeed(bench.ask('good', ['crash', '--elf', elf, '--json'])))['crash']['frames']
    assert 'queue_check at ' in frames[0]['place'] and frames[-1]['place'] is None, frames
    fail(bench.ask('good', ['crash', '--elf', '/dev/null']), 1, 'could not read')


def crash_of_another_elf_is_told(bench):
    """A program of this machine has no code where the firmware died."""
    source = write_file(bench, 'other.c', 'int main(void) { return 0; }\n')
    elf = path_of(bench, 'other')
    subprocess.run(['gcc', '-o', elf, source], check=True)
    _, out, err = bench.ask('good', ['crash', '--elf', elf])
    assert 'it has no code at' in err and '0x40112344' in err and 'Linux build' in err, out + err


def crash_names_lines_alone(bench):
    """addr2line tells of blocks within a line, too, which says nothing to people."""
    write_file(bench, 'aarch64-linux-gnu-addr2line',
               '#!/bin/sh\nfor i in 1 2 3 4 5 6 7 8; do echo f; echo "a.c:7 (discriminator 3)"; done\n')
    os.chmod(path_of(bench, 'aarch64-linux-gnu-addr2line'), 0o755)
    before = os.environ['PATH']
    words = ['env', f'PATH={bench.folder}:{before}', os.path.join(bench.root, 'build/host/snicctl'),
             '--console', bench.console('good'), 'crash', '--elf', '/dev/null']
    out = subprocess.run(words, text=True, stdout=subprocess.PIPE, check=True).stdout
    assert 'f at a.c:7\n' in out and 'discriminator' not in out, out


TESTS = [
    ('schema_is_kept', schema_is_kept),
    ('schema_finds_faults', schema_finds_faults),
    ('man_page_has_all_commands', man_page_has_all_commands),
    ('completion_has_all_commands', completion_has_all_commands),
    ('every_object_is_validated', every_object_is_validated),
    ('perfetto_file_is_right', perfetto_file_is_right),
    ('crash_names_functions', crash_names_functions),
    ('crash_of_another_elf_is_told', crash_of_another_elf_is_told),
    ('crash_names_lines_alone', crash_names_lines_alone),
]
