#!/usr/bin/python3
"""Reaches into the running rack (see up.py).

    attach.py host          the host's shell
    attach.py peer          the shell of the first peer; peer2, ..., target, ... likewise
    attach.py nic           the NIC's console
    attach.py run COMMAND   one shell command in the host; its output and exit code

    --in GUEST              run it there: host, peer, peer2, ..., target
    --rack NAME             another rack than the one of `make rack`, below build/rack/
"""
import argparse
import os
import select
import sys
import termios
import tty

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

# pylint: disable=wrong-import-position
from rack.agent import Agent
from rack.config import BUILD
from rack.errors import GuestGone, RackError
from rack.guest import agent_of, console_of
from rack.sockets import connect

LEAVE = b"\x1d"  # Ctrl-]


def main():
    arguments = _parse_arguments()
    folder = os.path.join(BUILD, "rack", arguments.rack)
    try:
        if arguments.what == "run":
            _require(folder, agent_of(arguments.guest))
            return run(folder, arguments)
        console = console_of(arguments.what)
        _require(folder, console)
        bridge(connect(folder, console, timeout_s=1))
    except RackError as error:
        print(f"attach: {error}", file=sys.stderr)
        return 1
    return 0


def _require(folder, name):
    """RackError, in words that help, unless the rack has such a socket."""
    if os.path.exists(os.path.join(folder, name)):
        return
    if os.path.exists(os.path.join(folder, "host.console")):
        raise RackError(f"this rack has no {name}: its NIC is no machine with a console, or the "
                        "guest is not there")
    raise RackError("no rack is running: start one by `make rack`")


def run(folder, arguments):
    """One command by the guest's agent, which serves one caller at a time."""
    agent = Agent(folder, agent_of(arguments.guest))
    try:
        result = agent.start(" ".join(arguments.command), arguments.timeout).wait(check=False)
    except GuestGone as error:
        raise RackError("the guest is gone, or another program uses its agent") from error
    finally:
        agent.close()
    print(result.out, end="")
    return result.code


def bridge(console):
    """Terminal <-> console, until Ctrl-] or the end of either."""
    print("Ctrl-] leaves; Enter shows a prompt.")
    is_terminal = os.isatty(0)
    saved = termios.tcgetattr(0) if is_terminal else None
    try:
        if is_terminal:
            tty.setraw(0)
        console.sendall(b"\r")
        _copy(console)
    finally:
        if saved:
            termios.tcsetattr(0, termios.TCSADRAIN, saved)
        print()


def _copy(console):
    while True:
        ready = select.select([0, console], [], [])[0]
        if console in ready:
            data = console.recv(65536)
            if not data:
                return
            os.write(1, data)
        if 0 in ready:
            data = os.read(0, 4096)
            if not data or LEAVE in data:
                return
            console.sendall(data)


def _parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", metavar="host|nic|peer|run")
    parser.add_argument("command", nargs=argparse.REMAINDER, metavar="COMMAND")
    parser.add_argument("--in", dest="guest", default="host", metavar="GUEST",
                        help="where to run it (host)")
    parser.add_argument("--rack", default="rack", help="name of the rack")
    parser.add_argument("--timeout", type=float, default=600, help="seconds for run (600)")
    arguments = parser.parse_args()
    if (arguments.what == "run") != bool(arguments.command):
        parser.error("run, and nothing else, takes a COMMAND; options come before: --rack NAME nic")
    return arguments


if __name__ == "__main__":
    sys.exit(main())
