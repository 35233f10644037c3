#!/usr/bin/python3
"""Starts the rack and leaves it running in the background.

    up.py [--board B] [--guest G] [--nic-args WORDS] [--fabric [--mtu N]] [--target]
                                                          start (see attach.py for how to reach it)
    up.py stop                                            end it
    up.py status                                          what runs
"""
import argparse
import fcntl
import os
import signal
import sys
import time

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

# pylint: disable=wrong-import-position
from rack import Rack, RackConfig, RackError
from rack import demo_remote
from rack.config import BUILD, TOP, fetch

NAME = "rack"
FOLDER = os.path.join(BUILD, "rack", NAME)
PID_FILE = os.path.join(FOLDER, "pid")


def main():
    arguments = _parse_arguments()
    if arguments.action == "stop":
        return stop()
    if arguments.action == "status":
        return status()
    words = {"board": arguments.board, "guest": arguments.guest, "nic_args": arguments.nic_args,
             "doorbells": arguments.doorbells, "nic_cores": arguments.nic_cores}
    if arguments.target:
        return start(demo_remote.config(host_on_fabric=True, **words))
    config = RackConfig(fabric=arguments.fabric, mtu=arguments.mtu, **words)
    return start(config)


def start(config):
    """Starts the keeper, a process without terminal; relays its progress until the rack is up."""
    if _keeper():
        print("The rack is running already.\n" + _how_to_reach())
        return 0
    try:
        fetch(config)  # here, where it is seen: the keeper's stderr is a file
    except RackError as error:
        print(f"The rack is not up: {error}")
        return 1
    read_fd, write_fd = os.pipe()
    if os.fork() == 0:
        os.close(read_fd)
        os.setsid()
        os._exit(_keep(config, write_fd))
    os.close(write_fd)
    with os.fdopen(read_fd, encoding="utf-8") as lines:
        for line in lines:
            if line == "up\n":
                print("The rack is up.\n" + _how_to_reach())
                return 0
            print("  " + line, end="", flush=True)
    print(f"The rack is not up; logs: {os.path.relpath(FOLDER, TOP)}/")
    return 1


def stop():
    """Ends the rack; it is gone when this returns."""
    keeper = _keeper()
    if not keeper:
        print("No rack is running.")
        return 0
    os.kill(keeper, signal.SIGTERM)
    while os.path.exists(f"/proc/{keeper}"):
        time.sleep(0.05)
    print("The rack is down.")
    return 0


def status():
    keeper = _keeper()
    print(f"running (keeper: process {keeper})" if keeper else "not running")
    return 0 if keeper else 1


def _keep(config, write_fd):
    """Life of the keeper: holds the rack until it is told to end or a part of it ends."""
    report = os.fdopen(write_fd, "w", encoding="utf-8", buffering=1)
    _leave_terminal()
    try:
        with Rack(NAME, config, progress=lambda text: report.write(text + "\n")) as rack:
            with open(PID_FILE, "w", encoding="utf-8") as file:
                file.write(f"{os.getpid()}\n")
            for guest in rack.guests():
                guest.disconnect()
            report.write("up\n")
            report.close()
            while True:
                time.sleep(0.5)
                rack.require_running()
    except RackError as error:
        _try_write(report, f"{error}\n")
        print(error, flush=True)
        return 1
    except (SystemExit, KeyboardInterrupt):
        return 0
    finally:
        if os.path.exists(PID_FILE):
            os.unlink(PID_FILE)


def _try_write(report, text):
    try:
        report.write(text)
        report.close()
    except (OSError, ValueError):
        pass


def _leave_terminal():
    null = os.open(os.devnull, os.O_RDONLY)
    os.makedirs(FOLDER, exist_ok=True)
    log = os.open(FOLDER + ".keeper.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    os.dup2(null, 0)
    os.dup2(log, 1)
    os.dup2(log, 2)


def _keeper():
    """Process id of the running keeper, or None. A file that a killed keeper left may name a
    stranger: only the lock, which ends with its process, tells."""
    try:
        with open(os.path.join(FOLDER, "lock"), encoding="utf-8") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return None
    except BlockingIOError:
        pass
    except OSError:
        return None
    try:
        with open(PID_FILE, encoding="utf-8") as file:
            return int(file.read())
    except (OSError, ValueError):
        return None  # it is still starting


def _how_to_reach():
    here = os.path.relpath(os.path.dirname(os.path.abspath(__file__)), TOP)
    attach, up = f"{here}/attach.py", f"{here}/up.py"
    lines = [f"  the host's shell       {attach} host",
             f"  one command there      {attach} run 'nvme list'"]
    if os.path.exists(os.path.join(FOLDER, "peer.console")):
        lines.append(f"  the peer's shell       {attach} peer     (--in peer run: one command there)")
    if os.path.exists(os.path.join(FOLDER, "target.console")):
        lines.append(f"  the target's shell     {attach} target   (see /sys/kernel/config/nvmet)")
    if os.path.exists(os.path.join(FOLDER, "nic.console")):
        lines.append(f"  the NIC's console      {attach} nic      (type help)")
    lines += [f"  logs                   {os.path.relpath(FOLDER, TOP)}/",
              f"  end it                 {up} stop"]
    return "\n".join(lines)


def _parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    default = RackConfig()
    parser.add_argument("action", nargs="?", default="start", choices=["start", "stop", "status"])
    parser.add_argument("--board", default=default.board,
                        choices=["qemu-virt", "native", "reference"])
    parser.add_argument("--guest", default=default.guest)
    parser.add_argument("--nic-args", default="", help="more key=value words for the firmware")
    parser.add_argument("--nic-cores", type=int, default=default.nic_cores)
    parser.add_argument("--doorbells", default=default.doorbells, choices=["mapped", "trapped"])
    parser.add_argument("--fabric", action="store_true",
                        help="with an Ethernet switch and a Linux peer on it")
    parser.add_argument("--target", action="store_true",
                        help="whose drives are on an NVMe-oF target across the switch")
    parser.add_argument("--mtu", type=int, default=default.mtu, help="of IP, with --fabric")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
