"""Tests of snicctl that are more than one call and what it says."""
import json
import os
import re
import struct
import subprocess
import time

HEAD = struct.Struct('<IIQQQII24s16s16x')
TREE = """/dts-v1/;
/ {
    compatible = "snic,config";
    ports { port@0 { reg = <0>; ip = "192.0.2.1/24"; mtu = <4200>; }; };
};
"""


def succeed(result):
    code, out, err = result
    assert code == 0, f'exit code {code}:\n{out}{err}'
    return out


def path_of(bench, name):
    return os.path.join(bench.folder, name)


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


def man_page_has_all_commands(bench):
    with open(os.path.join(bench.root, 'docs/man/snicctl.1'), encoding='utf-8') as file:
        text = file.read()
    for command in commands_of(bench):
        assert re.search(rf'^\.B[IR]? "?{command}\b', text, re.M), f'{command} is not in the man page'
    done = subprocess.run(['man', '--warnings', '-l', '-P', 'cat', 'docs/man/snicctl.1'],
                          cwd=bench.root, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          env=dict(os.environ, LC_ALL='C.UTF-8', MANWIDTH='100'), check=False)
    if done.returncode != 127:
        assert done.returncode == 0 and not done.stderr, done.stderr


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


# --- files ---------------------------------------------------------------------------------------

def perfetto_file_is_right(bench):
    path = path_of(bench, 'trace.json')
    succeed(bench.ask('good', ['trace', '--perfetto', path]))
    with open(path, encoding='utf-8') as file:
        events = json.load(file)['traceEvents']
    for event in events:
        assert {'name', 'cat', 'ph', 'ts', 'pid', 'tid'} <= event.keys(), event
    begun = [(e['id'], e['name']) for e in events if e['ph'] == 'b']
    ended = [(e['id'], e['name']) for e in events if e['ph'] == 'e']
    assert sorted(begun) == sorted(ended) and len(begun) == 4, (begun, ended)
    write = next(e for e in events if e['ph'] == 'b' and e['name'] == 'write')
    assert write['ts'] == 2000.0 and write['args']['slba'] == 4096
    assert any(e['ph'] == 'i' and e['name'] == 'BAD_ADDRESS' for e in events)


def config_comes_back_as_it_went(bench):
    bench.end_boards()
    source = path_of(bench, 'c.dts')
    with open(source, 'w', encoding='utf-8') as file:
        file.write(TREE)
    assert 'no device tree' in succeed(bench.ask('good', ['config', 'get']))
    assert 'would take it' in succeed(bench.ask('good', ['config', 'check', source]))
    assert 'no device tree' in succeed(bench.ask('good', ['config', 'get']))
    assert 'kept' in succeed(bench.ask('good', ['config', 'set', source]))
    assert 'ip = "192.0.2.1/24"' in succeed(bench.ask('good', ['config', 'get']))
    text = succeed(bench.ask('good', ['config', 'get', '--json']))
    bench.validate(text)
    tree = path_of(bench, 'c.dtb')
    succeed(bench.ask('good', ['config', 'get', '-o', tree]))
    assert 'kept' in succeed(bench.ask('good', ['config', 'set', tree]))
    assert 'forgotten' in succeed(bench.ask('good', ['config', 'forget']))
    bench.end_boards()


def config_refused_says_why(bench):
    source = path_of(bench, 'c.dts')
    with open(source, 'w', encoding='utf-8') as file:
        file.write(TREE)
    code, _, err = bench.ask('refuses', ['config', 'set', source])
    assert code == 1 and '/volumes/v0/paths/path@0: subsystem' in err, err
    with open(source, 'w', encoding='utf-8') as file:
        file.write('no tree')
    code, _, err = bench.ask('good', ['config', 'set', source])
    assert code == 1 and 'dtc refuses' in err, err


def flat_image(bench, board='fake', version='0.2'):
    path = path_of(bench, 'flat.bin')
    data = bytearray(os.urandom(30000))
    HEAD.pack_into(data, 64, 0x48494e53, 1, 0x40200000, len(data), 50000, 2, 0, board.encode(),
                   version.encode())
    with open(path, 'wb') as file:
        file.write(data)
    return path


def make_key(bench, name):
    path = path_of(bench, name)
    subprocess.run(['openssl', 'genrsa', '-out', path, '2048'], stderr=subprocess.DEVNULL, check=True)
    return path


def signed_image(bench, **words):
    fit = path_of(bench, 'image.fit')
    key = make_key(bench, 'ours.key')
    succeed(bench.run(['image', 'build', flat_image(bench, **words), fit, '--key', key]))
    return fit, key


def image_shows_who_signed(bench):
    fit, key = signed_image(bench)
    out = succeed(bench.run(['image', 'show', fit, '--key', key]))
    assert 'key "ours": good' in out and 'version     0.2' in out, out
    bench.validate(succeed(bench.run(['image', 'show', fit, '--json', '--key', key])))
    code, out, _ = bench.run(['image', 'show', fit, '--key', make_key(bench, 'other.key')])
    assert code == 1 and 'NOT by' in out, out
    with open(fit, 'rb') as file:
        data = bytearray(file.read())
    data[len(data) // 2] ^= 1
    with open(fit, 'wb') as file:
        file.write(data)
    code, out, err = bench.run(['image', 'show', fit, '--key', key])
    assert code == 1 and 'damaged' in out + err, out + err
    with open(fit, 'wb') as file:
        file.write(data[:-100])
    code, _, err = bench.run(['image', 'show', fit])
    assert code == 1 and 'cut off' in err, err


def image_is_signed_again(bench):
    fit, _ = signed_image(bench)
    out = path_of(bench, 'again.fit')
    key = make_key(bench, 'new.key')
    assert 'key "new": good' in succeed(bench.run(['image', 'sign', fit, out, '--key', key]))
    code, _, err = bench.run(['image', 'sign', fit, out])
    assert code == 2 and '--key' in err, err


def flash_writes_and_activates(bench):
    bench.end_boards()
    fit, _ = signed_image(bench)
    out = succeed(bench.ask('good', ['flash', fit]))
    assert 'version 0.2 for fake' in out and 'starts next' in out, out
    slots = json.loads(succeed(bench.ask('good', ['slots', '--json'])))['slots']
    assert slots[1]['trial'] and slots[1]['image_bytes'] == os.path.getsize(fit), slots
    assert 'not activated' in succeed(bench.ask('good', ['flash', fit, '--slot', '1', '--no-activate']))
    slots = json.loads(succeed(bench.ask('good', ['slots', '--json'])))['slots']
    assert not slots[1]['trial'], slots
    assert 'slot 1' in succeed(bench.ask('good', ['rollback']))
    assert 'would take it' in succeed(bench.ask('good', ['flash', fit, '--check']))
    bench.end_boards()


def flash_refuses_what_cannot_be(bench):
    fit, _ = signed_image(bench, board='other')
    code, _, err = bench.ask('good', ['flash', fit])
    assert code == 1 and 'for the board other, this one is fake' in err, err
    unsigned = path_of(bench, 'unsigned.fit')
    succeed(bench.run(['image', 'build', flat_image(bench), unsigned]))
    code, _, err = bench.ask('good', ['flash', unsigned])
    assert code == 1 and 'not signed' in err, err
    fit, _ = signed_image(bench)
    code, _, err = bench.ask('refuses', ['flash', fit])
    assert code == 1 and 'signed by another key' in err, err


def crash_names_functions(bench):
    """By the ELF of this very program: addresses of the fake's crash are not in it, and that is said
    by no name, not by a failure."""
    elf = os.path.join(bench.root, 'build/host/snicctl')
    out = succeed(bench.ask('good', ['crash', '--elf', elf]))
    assert 'pc 0x000040112344' in out, out
    code, _, err = bench.ask('good', ['crash', '--elf', '/dev/null'])
    assert code == 1 and 'could not read' in err, err


# --- top -----------------------------------------------------------------------------------------

class Terminal:
    """A terminal of 130 x 24 with a command in it."""

    count = 0

    def __init__(self, bench, command):
        Terminal.count += 1
        self.name = f'snicctl-{os.getpid()}-{Terminal.count}'
        self.folder = bench.folder
        self.tmux('-f', '/dev/null', 'new-session', '-d', '-x', '130', '-y', '24',
                  f'{command}; echo "ended $?"; sleep 60')

    def tmux(self, *words):
        env = dict(os.environ, LC_ALL='C.UTF-8', TMUX_TMPDIR=self.folder, TERM='xterm')
        env.pop('TMUX', None)
        return subprocess.run(['tmux', '-L', self.name, *words], env=env, text=True,
                              stdout=subprocess.PIPE, check=True).stdout

    def wait_for(self, pattern):
        deadline_s = time.monotonic() + 20
        while True:
            screen = self.tmux('capture-pane', '-p')
            if re.search(pattern, screen):
                return screen
            assert time.monotonic() < deadline_s, f'"{pattern}" never came:\n{screen}'
            time.sleep(0.05)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.tmux('kill-server')


def top_on_a_terminal(bench):
    tool = os.path.join(bench.root, 'build/host/snicctl')
    command = f'{tool} --console {bench.console("live")} top --interval-ms 200'
    with Terminal(bench, command) as terminal:
        screen = terminal.wait_for(r' 5000 +5000')
        lines = screen.split('\n')
        assert lines[0].startswith('snicctl top - fake, firmware 0.1'), screen
        assert 'sqes/s*' in lines[2] and re.match(r' 0 +1 ', lines[3]), screen  # the busiest first
        terminal.tmux('send-keys', '3')
        assert 'nvme_ep0' in terminal.wait_for(r' 5\.0 %').split('\n')[3]
        terminal.tmux('send-keys', '<')
        terminal.wait_for(r'work/s\*')
        terminal.tmux('send-keys', '7')
        terminal.wait_for(r'path.zero-copy')
        terminal.tmux('resize-window', '-x', '60', '-y', '10')
        terminal.wait_for(r'stats: 5')
        terminal.tmux('send-keys', 'q')
        terminal.wait_for(r'ended 0')


def top_says_why_it_ends(bench):
    tool = os.path.join(bench.root, 'build/host/snicctl')
    with Terminal(bench, f'{tool} --console {bench.console("live")} top --interval-ms 200') as terminal:
        terminal.wait_for(r'queues: 3')
        bench.end_boards()
        terminal.wait_for(r'snicctl: [^$]*closed[^$]*ended 3')


def top_shows_a_hung_board(bench):
    tool = os.path.join(bench.root, 'build/host/snicctl')
    command = f'{tool} --console {bench.console("hung")} top --view reactors --interval-ms 200'
    with Terminal(bench, command) as terminal:
        screen = terminal.wait_for(r'CORE 0 HANGS')
        assert '14.50 s' in screen and 'console' in screen, screen


def top_without_terminal_prints_lines(bench):
    out = succeed(bench.ask('live', ['top', '--count', '2', '--interval-ms', '60']))
    assert out.count('snicctl top - fake') == 2 and '5000' in out, out


TESTS = [
    ('schema_is_kept', schema_is_kept),
    ('schema_finds_faults', schema_finds_faults),
    ('man_page_has_all_commands', man_page_has_all_commands),
    ('completion_has_all_commands', completion_has_all_commands),
    ('perfetto_file_is_right', perfetto_file_is_right),
    ('config_comes_back_as_it_went', config_comes_back_as_it_went),
    ('config_refused_says_why', config_refused_says_why),
    ('image_shows_who_signed', image_shows_who_signed),
    ('image_is_signed_again', image_is_signed_again),
    ('flash_writes_and_activates', flash_writes_and_activates),
    ('flash_refuses_what_cannot_be', flash_refuses_what_cannot_be),
    ('crash_names_functions', crash_names_functions),
    ('top_on_a_terminal', top_on_a_terminal),
    ('top_says_why_it_ends', top_says_why_it_ends),
    ('top_shows_a_hung_board', top_shows_a_hung_board),
    ('top_without_terminal_prints_lines', top_without_terminal_prints_lines),
]
