#!/usr/bin/python3
"""Images for tests (tests/model/images.h): make_images.py OUT.c. Runs mkimage once for each.

    make_images.py --fit OUT.fit --payload FILE [--board NAME] [--version TEXT]

makes a single one around a payload, for measurements.
"""
import argparse
import os
import random
import struct
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "boards/keys"))
import make_key  # noqa: E402

DEVELOPMENT = os.path.join(ROOT, "boards/keys/development.key")
OTHER = os.path.join(ROOT, "tests/data/keys/other.key")

# firmware/spec/boot.h
HEAD = struct.Struct("<IIQQQII24s16s16x")
HEAD_OFFSET = 64
HEAD_MAGIC = 0x48494E53

ITS = """/dts-v1/;
/ {{
    description = "snic";
    images {{
        firmware {{
            description = "snic";
            type = "firmware";
            arch = "arm64";
            os = "u-boot";
            compression = "none";
            load = <0x0 0x40200000>;
            data = /incbin/("{data}");
            hash-1 {{ algo = "{hash_algo}"; }};
            {signature}
        }};
    }};
    configurations {{
        default = "conf-1";
        conf-1 {{ firmware = "firmware"; }};
    }};
}};
"""
SIGNATURE = 'signature-1 { algo = "sha256,rsa2048"; key-name-hint = "key"; };'


def data_of(payload, magic=HEAD_MAGIC, head_version=1, load_addr=0x40200000, load_bytes=None,
            run_bytes=None, security_version=1, board=b"test", version=b"1.0"):
    size = HEAD_OFFSET + HEAD.size + len(payload)
    load_bytes = size if load_bytes is None else load_bytes
    run_bytes = 2 * size if run_bytes is None else run_bytes
    head = HEAD.pack(magic, head_version, load_addr, load_bytes, run_bytes, security_version, 0,
                     board, version)
    return bytes(HEAD_OFFSET) + head + payload


def fit_of(data, key=DEVELOPMENT, hash_algo="sha256", words=()):
    """What mkimage makes of the data; no key: not signed."""
    with tempfile.TemporaryDirectory() as folder:
        with open(f"{folder}/data", "wb") as file:
            file.write(data)
        with open(f"{folder}/image.its", "w", encoding="utf-8") as file:
            file.write(ITS.format(data=f"{folder}/data", hash_algo=hash_algo,
                                  signature=SIGNATURE if key else ""))
        signing = ["-k", folder] if key else []
        if key:
            os.symlink(key, f"{folder}/key.key")
        result = subprocess.run(
            ["mkimage", "-f", f"{folder}/image.its", *signing, *words, f"{folder}/image.fit"],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
            env={**os.environ, "SOURCE_DATE_EPOCH": "1"})
        if result.returncode != 0:
            raise SystemExit("mkimage failed:\n" + result.stdout + result.stderr)
        with open(f"{folder}/image.fit", "rb") as file:
            return file.read()


def images():
    """(name, FIT): good ones first."""
    noise = random.Random(1).randbytes
    yield "good", fit_of(data_of(noise(1500)))
    # A length that is no multiple of 4, more than an erase block of the tests' flash.
    yield "good-new", fit_of(data_of(noise(4999), version=b"2.0", security_version=2))
    yield "good-old", fit_of(data_of(noise(300), version=b"0.9", security_version=0))
    yield "good-full", fit_of(data_of(b"", board=b"test", version=b"123456789012345"))
    yield "unsigned", fit_of(data_of(noise(300)), key=None)
    yield "other-key", fit_of(data_of(noise(300)), key=OTHER)
    yield "other-board", fit_of(data_of(noise(300), board=b"tes"))
    yield "longer-board", fit_of(data_of(noise(300), board=b"test2"))
    yield "other-hash", fit_of(data_of(noise(300)), hash_algo="sha1")
    yield "external-data", fit_of(data_of(noise(300)), words=["-E"])
    yield "short-data", fit_of(data_of(b"")[:-1])
    yield "no-data", fit_of(b"")
    heads = {
        "magic": {"magic": 0x48494E52},
        "version": {"head_version": 2},
        "load-less": {"load_bytes": 319},
        "load-more": {"load_bytes": 321},
        "run-less": {"run_bytes": 319},
        "run-huge": {"run_bytes": (1 << 64) - 0x40200000},
        "unaligned": {"load_addr": 0x40200800},
        "high": {"load_addr": 1 << 48},
        "board-empty": {"board": b""},
        "board-endless": {"board": b"b" * 24},
        "version-empty": {"version": b""},
        "version-endless": {"version": b"v" * 16},
    }
    for name, words in heads.items():
        yield "head-" + name, fit_of(data_of(noise(160), **words))


def c_bytes(data):
    return "\n".join("    " + " ".join(f"{b}," for b in data[i:i + 24])
                     for i in range(0, len(data), 24))


def c_key(name, path):
    modulus, exponent = make_key.numbers(path)
    return (f"const struct image_key {name} = {{\n"
            f"    .modulus = {{{make_key.c_bytes(modulus, 256)}}},\n"
            f"    .exponent = {{{make_key.c_bytes(exponent, 3)}}},\n}};\n")


def write_source(out):
    made = list(images())
    text = ['/* Made by tests/model/make_images.py. */\n#include "tests/model/images.h"\n']
    for i, (_, fit) in enumerate(made):
        text.append(f"static const _Alignas(8) uint8_t image_{i}[] = {{\n{c_bytes(fit)}\n}};\n")
    text.append("const struct test_image test_images[] = {")
    text += [f'    {{"{name}", image_{i}, sizeof(image_{i})}},' for i, (name, _) in enumerate(made)]
    text.append(f"}};\nconst uint32_t test_image_count = {len(made)};\n")
    text.append(c_key("test_image_key", DEVELOPMENT))
    text.append(c_key("test_other_key", OTHER))
    with open(out, "w", encoding="utf-8") as file:
        file.write("\n".join(text))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out")
    parser.add_argument("--fit", action="store_true")
    parser.add_argument("--payload")
    parser.add_argument("--board", default="test")
    parser.add_argument("--version", default="1.0")
    arguments = parser.parse_args()
    if not arguments.fit:
        write_source(arguments.out)
        return
    with open(arguments.payload, "rb") as file:
        data = data_of(file.read(), board=arguments.board.encode(),
                       version=arguments.version.encode())
    with open(arguments.out, "wb") as file:
        file.write(fit_of(data))


if __name__ == "__main__":
    main()
