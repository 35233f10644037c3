#!/usr/bin/python3
"""Everything that the build and the tests take from others, by name.

    deps.py install [--check]   Debian packages that the build and tests need (root or sudo)
    deps.py get NAME...         path of each artifact; fetched and built on first use
    deps.py path NAME           where it would be, without building it
    deps.py verify              full hash of everything in the cache
    deps.py list                artifacts and whether they are there
    deps.py clean [--all]       removes artifacts of older recipes, or all

Artifacts are kept in $SNIC_CACHE (default: ~/.cache/snic), shared by all clones of the repository.
"""
import argparse
import os
import shutil
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
sys.dont_write_bytecode = True

# pylint: disable=wrong-import-position
import cache
import packages
from recipes import ALL
from util import DepsError, say


def main():
    arguments = _parse_arguments()
    try:
        return arguments.run(arguments) or 0
    except DepsError as error:
        say(f"error: {error}")
        return 1
    except KeyboardInterrupt:
        say("interrupted; nothing half-built is kept")
        return 130


def command_install(arguments):
    packages.install(check_only=arguments.check)


def command_get(arguments):
    for name in arguments.names:
        print(cache.get(_recipe(name)), flush=True)


def command_path(arguments):
    print(cache.path_of(_recipe(arguments.name)))


def command_verify(_):
    damaged = 0
    for path in cache.entries():
        wrong = cache.verify(path)
        damaged += len(wrong)
        print(f"{'ok  ' if not wrong else 'FAIL'} {os.path.basename(path)}")
        for name in wrong:
            print(f"     differs: {name}")
    return 1 if damaged else 0


def command_list(_):
    for name, recipe in ALL.items():
        path = cache.path_of(recipe)
        print(f"{name:<12} {'ready  ' if cache.is_intact(path) else 'missing'} {path}")


def command_clean(arguments):
    current = set() if arguments.all else {cache.path_of(recipe) for recipe in ALL.values()}
    for path in cache.entries():
        if path not in current:
            say(f"removing {path}")
            shutil.rmtree(path)


def _recipe(name):
    if name not in ALL:
        raise DepsError(f"no artifact '{name}'; there are: {', '.join(ALL)}")
    return ALL[name]


def _parse_arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    install = commands.add_parser("install", help="Debian packages")
    install.add_argument("--check", action="store_true", help="only say what is missing")
    install.set_defaults(run=command_install)
    get = commands.add_parser("get", help="path of artifacts, built on first use")
    get.add_argument("names", nargs="+", metavar="NAME")
    get.set_defaults(run=command_get)
    path = commands.add_parser("path", help="where an artifact would be")
    path.add_argument("name", metavar="NAME")
    path.set_defaults(run=command_path)
    commands.add_parser("verify", help="full hashes").set_defaults(run=command_verify)
    commands.add_parser("list", help="artifacts and their state").set_defaults(run=command_list)
    clean = commands.add_parser("clean", help="remove artifacts")
    clean.add_argument("--all", action="store_true", help="those in use, too")
    clean.set_defaults(run=command_clean)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
