"""Small helpers: progress lines, errors that a person can act on, and running commands."""
import os
import subprocess
import sys
import time


class DepsError(Exception):
    """Something the user can act on; the text says what to do."""


def say(text):
    """Progress goes to stderr: stdout carries only the path that the caller asked for."""
    print(f"deps: {text}", file=sys.stderr, flush=True)


def human_size(size_bytes):
    """12345678 -> '12.3 MB'."""
    if size_bytes >= 1e6:
        return f"{size_bytes / 1e6:.1f} MB"
    return f"{size_bytes / 1e3:.0f} kB"


class Step:
    """`with Step("what"):` prints a line when the step starts, and its seconds when it was long."""

    def __init__(self, text):
        self.text = text

    def __enter__(self):
        say(f"{self.text} ...")
        self.start_s = time.monotonic()
        return self

    def __exit__(self, kind, value, trace):
        took_s = time.monotonic() - self.start_s
        if kind is None and took_s >= 1:
            say(f"    done in {took_s:.0f} s")


def run(argv, what, log=None, **kwargs):
    """Runs a command quietly; on failure raises DepsError with the last lines of its output."""
    result = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT, text=True, errors="replace", check=False,
                            **kwargs)
    if log:
        with open(log, "a", encoding="utf-8") as file:
            file.write(result.stdout)
    if result.returncode != 0:
        tail = "\n".join("    " + line for line in result.stdout.splitlines()[-12:])
        raise DepsError(f"{what} failed (exit {result.returncode}):\n{tail}")
    return result.stdout


def need_tools(tools, why):
    """Stops early, with the one command that helps, if a tool is not there."""
    path = os.environ.get("PATH", "").split(":") + ["/usr/sbin", "/sbin"]
    missing = [t for t in tools if not any(os.access(f"{d}/{t}", os.X_OK) for d in path)]
    if missing:
        raise DepsError(f"{why} needs {', '.join(missing)}: run `make deps` first")
