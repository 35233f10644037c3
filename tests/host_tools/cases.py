"""What snicctl is asked, of which board, and how it must end. Its words are in tests/data/snicctl/."""

OK, FAILED, USAGE, NO_DEVICE, PERMISSION, VERSIONS = range(6)

# Every command that shows something, as text and as JSON, of a board where all is there.
SHOWN = ['status', 'functions', 'queues', 'namespaces', 'volumes', 'paths', 'associations',
         'connections', 'qps', 'ports', 'drives', 'reactors', 'slots', 'stats', 'log', 'crash', 'trace',
         'doctor']

# (name, board, words, exit code)
CASES = [(f'good-{command}', 'good', [command], FAILED if command == 'doctor' else OK)
         for command in SHOWN]
CASES += [
    ('good-functions-all', 'good', ['functions', '--all'], OK),
    ('good-queues-where', 'good', ['queues', '--where', 'qid=1'], OK),
    ('good-queues-bad-where', 'good', ['queues', '--where', 'nothing=1'], USAGE),
    ('good-prometheus', 'good', ['stats', '--prometheus'], OK),
    ('good-trace-ios', 'good', ['trace', '--ios'], OK),
    ('good-trace-io', 'good', ['trace', '--io', '1.10'], OK),
    ('good-trace-event', 'good', ['trace', '--event', 'irq_raise'], OK),
    ('good-trace-enable', 'good', ['trace', '--enable', 'io,fault'], OK),
    ('good-trace-bad-class', 'good', ['trace', '--enable', 'io,nonsense'], USAGE),
    ('good-run', 'good', ['run', 'status'], OK),
    ('good-run-unknown', 'good', ['run', 'sing', 'a', 'song'], FAILED),
    ('good-ping', 'good', ['ping', '192.0.2.101'], OK),
    ('good-discover', 'good', ['discover', '192.0.2.101'], OK),
    ('good-confirm', 'good', ['confirm'], OK),
    ('good-reset', 'good', ['reset'], OK),
    ('good-log-level', 'good', ['log', '--level', 'debug'], OK),
    ('good-version', 'good', ['version'], OK),
    ('good-bad-option', 'good', ['queues', '--nonsense'], USAGE),
    ('good-no-json', 'good', ['reset', '--json'], USAGE),
    ('empty-status', 'empty', ['status'], OK),
    ('empty-queues', 'empty', ['queues'], OK),
    ('empty-volumes', 'empty', ['volumes'], OK),
    ('empty-crash', 'empty', ['crash'], OK),
    ('empty-log', 'empty', ['log'], OK),
    ('empty-trace', 'empty', ['trace', '--ios'], OK),
    ('old-status', 'old', ['status'], OK),
    ('old-queues', 'old', ['queues'], OK),
    ('old-reactors', 'old', ['reactors'], VERSIONS),
    ('new-status', 'new', ['status'], OK),
    ('new-qps', 'new', ['qps'], OK),
    ('new-doctor', 'new', ['doctor'], FAILED),
    ('too-new-status', 'too-new', ['status'], VERSIONS),
    ('too-old-status', 'too-old', ['status'], VERSIONS),
    ('hung-reactors', 'hung', ['reactors'], OK),
    ('hung-queues', 'hung', ['queues'], OK),
    ('hung-volumes', 'hung', ['volumes'], FAILED),
    ('hung-trace', 'hung', ['trace'], OK),
    ('tenant-status', 'tenant', ['status'], OK),
    ('tenant-log', 'tenant', ['log'], PERMISSION),
    ('tenant-ports', 'tenant', ['ports'], PERMISSION),
    ('tenant-flash', 'tenant', ['flash', '/dev/null'], PERMISSION),
    ('busy-qps', 'busy', ['qps'], OK),
    ('noisy-queues', 'noisy', ['queues'], OK),
    ('lossy-ports', 'lossy', ['ports'], OK),
    ('no-flash-slots', 'no-flash', ['slots'], VERSIONS),
    ('no-flash-confirm', 'no-flash', ['confirm'], VERSIONS),
    ('hostile-short', 'hostile-short', ['queues'], FAILED),
    ('hostile-crc', 'hostile-crc', ['queues'], NO_DEVICE),
    ('hostile-loop', 'hostile-loop', ['queues'], FAILED),
    ('hostile-endless', 'hostile-endless', ['queues'], FAILED),
    ('hostile-read', 'hostile-read', ['log'], FAILED),
    ('hostile-text-status', 'hostile-text', ['status'], OK),
    ('hostile-text-paths', 'hostile-text', ['paths'], OK),
    ('hostile-text-stats', 'hostile-text', ['stats'], OK),
    ('hostile-text-prometheus', 'hostile-text', ['stats', '--prometheus'], OK),
    ('hostile-text-doctor', 'hostile-text', ['doctor'], OK),
    ('silent', 'silent', ['status'], NO_DEVICE),
]

# Those whose JSON is kept and checked too.
JSON = [name for name, _, words, code in CASES
        if words[0] in [*SHOWN, 'run', 'ping', 'discover', 'version'] and '--prometheus' not in words
        and '--enable' not in words and '--level' not in words
        and (code == OK or (words[0] == 'doctor'))]

# Without a board.
ALONE = [
    ('help', ['help'], OK),
    ('help-trace', ['help', 'trace'], OK),
    ('no-command', ['sing'], USAGE),
    ('version', ['version'], OK),
    ('no-device', ['--device', '/dev/nvme-none', 'status'], NO_DEVICE),
    ('no-nvme', ['--device', '/dev/null', 'status'], NO_DEVICE),
    ('no-console', ['--console', 'nowhere', 'status'], NO_DEVICE),
    ('no-line', ['--console', '/dev/null', 'status'], NO_DEVICE),
    ('two-ways', ['--device', 'a', '--console', 'b', 'status'], USAGE),
    ('no-value', ['status', '--device'], USAGE),
    ('no-fit', ['image', 'show', '/dev/null'], FAILED),
]
