"""Tests of snicctl that go on for a while: top, log -f; lines and boards that mean no good."""
import fcntl
import os
import pty
import re
import struct
import subprocess
import termios
import time

from common import fail, succeed, write_file

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


# --- log -f --------------------------------------------------------------------------------------

def log_follows_over_a_restart(bench):
    said = fail(bench.ask('restarts', ['log', '-f']), 3, 'closed')
    lines = said.split('\n')
    at = lines.index('-- the board restarted, after warm reset --')
    assert 'app: warning' in lines[at - 1] and lines[at + 1].endswith('boot: fake, warm reset'), said
    assert said.count('the board restarted') == 1 and said.count('boot: fake') == 1, said


def log_shows_a_run_that_is_older_when_seen(bench):
    """A board that dies young, and answers again only when it is older."""
    said = fail(bench.ask('crash-loop', ['log', '-f']), 3, 'closed')
    assert said.count('-- the board restarted, after warm reset --') == 1, said
    assert said.count('boot: fake, warm reset') == 1 and 'no answer to' not in said, said


# --- lines ---------------------------------------------------------------------------------------

def line_in_use_is_left_alone(bench):
    """Who holds the lock has set the line as it is."""
    ours, theirs = pty.openpty()
    path = os.ttyname(theirs)
    before = termios.tcgetattr(theirs)
    fcntl.flock(theirs, fcntl.LOCK_EX)
    fail(bench.run(['--console', path, '--baud', '9600', 'status']), 3, 'another snicctl uses it')
    assert termios.tcgetattr(theirs) == before, 'the line was set before it was locked'
    fcntl.flock(theirs, fcntl.LOCK_UN)
    fail(bench.run(['--console', path, '--baud', '9601', 'status']), 2, 'no speed')
    os.close(ours)
    os.close(theirs)


def user_who_may_not_is_told(bench):
    """Exit code 4; root may everything, and becomes nobody for it."""
    path = write_file(bench, 'line', '')
    os.chmod(path, 0)
    os.chmod(bench.folder, 0o711)
    tool = os.path.join(bench.folder, 'snicctl')
    with open(os.path.join(bench.root, 'build/host/snicctl'), 'rb') as file:
        write_file(bench, 'snicctl', file.read())
    os.chmod(tool, 0o755)
    as_nobody = {'user': 65534} if os.getuid() == 0 else {}
    for option in ('--console', '--device'):
        done = subprocess.run([tool, option, path, 'status'], cwd='/', text=True, check=False,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, **as_nobody)
        assert done.returncode == 4 and 'permission denied' in done.stderr, done


# --- boards that mean no good ----------------------------------------------------------------------

def hostile_tree(bench):
    """A tree with a node that would drive the terminal, and that dtc has words about."""
    strings = b'reg\0'
    name = b'\x1b]0;owned\x07\x1b[2J@zz'
    block = struct.pack('>I', 1) + b'\0\0\0\0' + struct.pack('>I', 1)
    block += name + b'\0' * (4 - len(name) % 4)
    block += struct.pack('>III', 3, 3, 0) + b'abc\0' + struct.pack('>III', 2, 2, 9)
    at = 40 + 16
    head = struct.pack('>10I', 0xd00dfeed, at + len(block) + len(strings), at, at + len(block), 40, 17, 16,
                       0, len(strings), len(block))
    return write_file(bench, 'hostile.dtb', head + b'\0' * 16 + block + strings)


def hostile_tree_reaches_no_terminal(bench):
    path = hostile_tree(bench)
    code, out, err = bench.ask('good', ['config', 'set', path])
    assert code == 0, err
    _, out, err = bench.ask('good', ['config', 'get'])
    bad = [c for c in out + err if ord(c) < 0x20 and c not in '\n\t']
    assert not bad and 'owned' in out + err, (out, err)
    bench.end_boards()


def command_without_end_ends(bench):
    start_s = time.monotonic()
    fail(bench.ask('hostile-crawl', ['run', 'status', '--timeout', '1']), 1, 'not ended after 1 s')
    assert time.monotonic() - start_s < 10


TESTS = [(f.__name__, f) for f in (
    top_on_a_terminal, top_says_why_it_ends, top_shows_a_hung_board, top_without_terminal_prints_lines,
    log_follows_over_a_restart, log_shows_a_run_that_is_older_when_seen, line_in_use_is_left_alone, user_who_may_not_is_told,
    hostile_tree_reaches_no_terminal, command_without_end_ends)]
