#!/usr/bin/python3
"""The key that images are signed with: its public half as C (update/image.h), and new keys.

    make_key.py source OUT.c --key KEY.pem --development DEV.pem [--release]
    make_key.py new KEY.key

KEY.pem is an RSA-2048 key, private or public half. One whose numbers are the development key's is
marked as such, whatever its file is called; with --release it is refused.
"""
import argparse
import os
import re
import subprocess
import sys

KEY_BITS = 2048
EXPONENT_BYTES = 3


class BadKey(Exception):
    """Something a person can act on; the text says what to do."""


def openssl(*words):
    try:
        return subprocess.run(["openssl", *words], stdin=subprocess.DEVNULL, capture_output=True,
                              text=True, check=False)
    except FileNotFoundError:
        raise BadKey("openssl is not installed: run `make deps` first") from None


def numbers(path):
    """(modulus, exponent) of a PEM file."""
    if not os.path.isfile(path):
        raise BadKey(f"there is no key {path}: `make keys` makes one")
    for half in ([], ["-pubin"]):
        result = openssl("rsa", *half, "-in", path, "-noout", "-modulus", "-text")
        modulus = re.search(r"^Modulus=([0-9A-F]+)$", result.stdout, re.M)
        exponent = re.search(r"^(?:public)?Exponent: (\d+)", result.stdout, re.M)
        if result.returncode == 0 and modulus and exponent:
            break
    else:
        raise BadKey(f"{path} is no RSA key in PEM without a passphrase")
    modulus, exponent = int(modulus.group(1), 16), int(exponent.group(1))
    if modulus.bit_length() != KEY_BITS:
        raise BadKey(f"{path} has {modulus.bit_length()} bits: images take RSA-{KEY_BITS}")
    if exponent.bit_length() > 8 * EXPONENT_BYTES:
        raise BadKey(f"{path} has the exponent {exponent}: images take 65537")
    return modulus, exponent


def c_bytes(value, size):
    words = [f"0x{b:02x}" for b in value.to_bytes(size, "big")]
    lines = [", ".join(words[i:i + 12]) for i in range(0, size, 12)]
    return ",\n            ".join(lines)


def make_source(out, key, development, release):
    modulus, exponent = numbers(key)
    is_development = (modulus, exponent) == numbers(development)
    if is_development and release:
        raise BadKey(
            f"{key} is the development key, whose private half everybody has: it signs no release.\n"
            "  `make keys` makes a key; then: make RELEASE=1 KEY=keys/image.key ...")
    text = f"""/* Made by boards/keys/make_key.py: what this build trusts. */
#include "update/image.h"

const struct image_key image_build_key = {{
    .modulus =
        {{
            {c_bytes(modulus, KEY_BITS // 8)},
        }},
    .exponent = {{{c_bytes(exponent, EXPONENT_BYTES)}}},
    .is_development = {"true" if is_development else "false"},
}};
"""
    with open(out, "w", encoding="utf-8") as file:
        file.write(text)


def make_new(path):
    if os.path.exists(path):
        raise BadKey(f"{path} is there already: a device takes images of its own key only, so it "
                        "is never overwritten")
    os.makedirs(os.path.dirname(path) or ".", mode=0o700, exist_ok=True)
    old = os.umask(0o077)
    result = openssl("genrsa", "-out", path, str(KEY_BITS))
    os.umask(old)
    if result.returncode != 0:
        raise BadKey("openssl genrsa failed:\n" + result.stderr)
    public = os.path.splitext(path)[0] + ".pub"
    result = openssl("rsa", "-in", path, "-pubout", "-out", public)
    if result.returncode != 0:
        raise BadKey("openssl rsa failed:\n" + result.stderr)
    print(f"""  {path}: the private key. Who has it makes images that every device with its public half
    starts. Keep it off this tree's machine, and a copy where it cannot be lost: without it no
    device takes another image. git ignores it.
  {public}: the public half, which may be in anybody's hands.
  Build and sign with it:  make RELEASE=1 KEY={path} ...""")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    source = commands.add_parser("source")
    source.add_argument("out")
    source.add_argument("--key", required=True)
    source.add_argument("--development", required=True)
    source.add_argument("--release", action="store_true")
    commands.add_parser("new").add_argument("path")
    arguments = parser.parse_args()
    try:
        if arguments.command == "new":
            make_new(arguments.path)
        else:
            make_source(arguments.out, arguments.key, arguments.development, arguments.release)
    except BadKey as error:
        print(f"keys: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
