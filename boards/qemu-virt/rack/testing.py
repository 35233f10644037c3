"""Runs a list of test functions over one running rack and counts.

    def test_reads_back(rack): ...          raises (assert, RackError, ...) when it fails

    SUITES = [Suite("linux-6.12", RackConfig(), [test_reads_back, ...])]
    sys.exit(testing.main(SUITES))

Each test gets the rack as the one before left it, which is part of the test: a drive that is unwell
after a reset fails the next one. A rack that does not answer after a failure is started anew.
"""
import argparse
import dataclasses
import fnmatch
import time
import traceback
from dataclasses import dataclass

from rack.config import RackConfig
from rack.errors import RackError
from rack.rack import Rack

LOG_LINES = 12


@dataclass
class Suite:
    """Tests that share one rack. `setup` runs after each start of the rack."""
    name: str
    config: RackConfig
    tests: list
    setup: object = None


def main(suites, argv=None):
    """Runs what the command line selects; returns the exit status."""
    arguments = _parse_arguments(argv)
    passed, failed = 0, []
    start_s = time.monotonic()
    for suite in suites:
        tests = [test for test in suite.tests if _is_selected(suite, test, arguments.patterns)]
        if arguments.list:
            print("".join(f"{suite.name}/{_name(test)}\n" for test in tests), end="")
        elif tests:
            if arguments.board:
                suite.config = dataclasses.replace(suite.config, board=arguments.board)
            runner = _Runner(suite)
            for test in tests:
                if runner.run(test):
                    passed += 1
                else:
                    failed.append(f"{suite.name}/{_name(test)}")
            runner.end()
    if not arguments.list:
        print("".join(f"     failed: {name}\n" for name in failed), end="")
        print(f"{passed} passed, {len(failed)} failed ({time.monotonic() - start_s:.0f} s)")
    return 1 if failed else 0


class _Runner:
    """Holds the rack of one suite."""

    def __init__(self, suite):
        self.suite = suite
        self.rack = None

    def run(self, test):
        start_s = time.monotonic()
        name = f"{self.suite.name}/{_name(test)}"
        error = None
        try:
            if self.rack is None:
                self._start()
                start_s = time.monotonic()
            test(self.rack)
            self.rack.require_running()
        except RackError as failure:
            error = str(failure)
        except Exception:  # pylint: disable=broad-except
            error = traceback.format_exc(limit=-3)
        print(f"{'ok  ' if error is None else 'FAIL'} {name} ({time.monotonic() - start_s:.1f} s)",
              flush=True)
        if error is not None:
            _print_indented(error)
            self._after_failure(name)
        return error is None

    def end(self):
        if self.rack:
            self.rack.stop()
            self.rack = None

    def _start(self):
        start_s = time.monotonic()
        rack = Rack(f"test-{self.suite.name}", self.suite.config)
        rack.start()
        self.rack = rack
        if self.suite.setup:
            self.suite.setup(rack)
        took_s = time.monotonic() - start_s
        print(f"     {self.suite.name}: rack is up ({took_s:.1f} s)", flush=True)

    def _after_failure(self, name):
        """Shows what the parts said last; gives up a rack that does not answer."""
        if self.rack is None:
            return
        for title, text in self.rack.last_words(LOG_LINES):
            _print_indented(f"--- {title}\n{text}")
        if not self.rack.answers():
            self.end()
            # the next rack of this name empties the folder
            kept = Rack(f"test-{self.suite.name}").move_logs(name.replace("/", "-"))
            print(f"     the rack does not answer and is started anew; its logs: {kept}",
                  flush=True)


def _name(test):
    return test.__name__.removeprefix("test_")


def _is_selected(suite, test, patterns):
    name = f"{suite.name}/{_name(test)}"
    return not patterns or any(fnmatch.fnmatch(name, f"*{pattern}*") for pattern in patterns)


def _print_indented(text):
    print("".join(f"     {line}\n" for line in text.rstrip().splitlines()), end="", flush=True)


def _parse_arguments(argv):
    parser = argparse.ArgumentParser(description="Tests on a running rack.")
    parser.add_argument("patterns", nargs="*", help="only tests whose suite/name contains one")
    parser.add_argument("--list", action="store_true", help="only their names")
    parser.add_argument("--board", help="run them on another board: native, reference")
    return parser.parse_args(argv)
