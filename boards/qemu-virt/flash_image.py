#!/usr/bin/python3
"""What lies in the flash of QEMU's `virt`: signed images, banks, boot records (docs/spec/boot.md).

    flash_image.py fit SNIC.bin OUT.fit --key KEY.pem      signed by mkimage
    flash_image.py bank0 BOOTLOADER.bin OUT.img            64 MiB, sparse
    flash_image.py bank1 SNIC.fit OUT.img                  slot A holds it; no boot record

Tests import it.
"""
import argparse
import os
import struct
import subprocess
import sys
import tempfile
import zlib

BANK_BYTES = 64 << 20
BLOCK_BYTES = 256 << 10
SLOT_BYTES = 4 << 20
SLOT_OFFSETS = [4 * BLOCK_BYTES, 4 * BLOCK_BYTES + SLOT_BYTES]
CONFIG_OFFSET = 2 * BLOCK_BYTES
NONE = 0xff

# firmware/spec/boot.h
RECORD_MAGIC, CONFIG_MAGIC, HEAD_MAGIC = 0x52424e53, 0x43464e53, 0x48494e53
RECORD = struct.Struct("<IHHIIBBBBI")
RECORD_SLOT = struct.Struct("<II16sB7x")
HEAD_OFFSET = 64
HEAD = struct.Struct("<IIQQQII24s16s16x")

ITS = """/dts-v1/;
/ {{
    description = "snic {version}";
    images {{
        firmware {{
            description = "snic {version} for {board}";
            type = "firmware";
            arch = "arm64";
            os = "u-boot";
            compression = "none";
            load = <{load_high:#x} {load_low:#x}>;
            data = /incbin/("{data}");
            hash-1 {{ algo = "sha256"; }};
            {signature}
        }};
    }};
    configurations {{
        default = "conf-1";
        conf-1 {{ firmware = "firmware"; }};
    }};
}};
"""
SIGNATURE = 'signature-1 {{ algo = "sha256,rsa2048"; key-name-hint = "{name}"; }};'


class Head:
    """The head inside of a flat image."""

    def __init__(self, data):
        fields = HEAD.unpack_from(data, HEAD_OFFSET)
        if fields[0] != HEAD_MAGIC:
            raise ValueError("no image head at byte 64: is it a flat image of this firmware?")
        (_, _, self.load_addr, self.load_bytes, _, self.security_version, _, board,
         version) = fields
        self.board = board.rstrip(b"\0").decode()
        self.version = version.rstrip(b"\0").decode()


def with_head(data, version=None, security_version=None, board=None):
    """The flat image, which says something else of itself."""
    fields = list(HEAD.unpack_from(data, HEAD_OFFSET))
    fields[5] = fields[5] if security_version is None else security_version
    fields[7] = fields[7] if board is None else board.encode()
    fields[8] = fields[8] if version is None else version.encode()
    out = bytearray(data)
    HEAD.pack_into(out, HEAD_OFFSET, *fields)
    return bytes(out)


def make_fit(data, key, out):
    """Signs the flat image `data` with the PEM file `key`; None: not at all."""
    head = Head(data)
    with tempfile.TemporaryDirectory() as folder:
        with open(f"{folder}/data", "wb") as file:
            file.write(data)
        name = os.path.splitext(os.path.basename(key))[0] if key else ""
        with open(f"{folder}/image.its", "w", encoding="utf-8") as file:
            file.write(ITS.format(version=head.version, board=head.board, data=f"{folder}/data",
                                  load_high=head.load_addr >> 32,
                                  load_low=head.load_addr & 0xffffffff,
                                  signature=SIGNATURE.format(name=name) if key else ""))
        if key:  # mkimage wants a folder, and NAME.key in it
            os.symlink(os.path.abspath(key), f"{folder}/{name}.key")
        command = ["mkimage", "-f", f"{folder}/image.its", *(["-k", folder] if key else []), out]
        try:
            result = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True,
                                    text=True, check=False,
                                    env={**os.environ, "SOURCE_DATE_EPOCH": "1"})
        except FileNotFoundError:
            raise SystemExit("mkimage is not installed: run `make deps` first") from None
        if result.returncode != 0:
            raise SystemExit("mkimage failed:\n" + result.stdout + result.stderr)


def make_bank(out, parts):
    """An erased bank (zeros cost no space, and read as nothing either) with {offset: bytes}."""
    with open(out, "wb") as file:
        file.truncate(BANK_BYTES)
        for offset, data in parts.items():
            if offset + len(data) > BANK_BYTES:
                raise SystemExit(f"{out}: {len(data)} bytes do not fit at {offset:#x}")
            file.seek(offset)
            file.write(data)


def record(sequence=1, active=0, trial=NONE, attempts_left=0, slots=(None, None),
           min_security_version=0):
    """A boot record; slots: (bytes of the FIT, Head) or None for each."""
    body = RECORD.pack(RECORD_MAGIC, 1, 96, sequence, min_security_version, active, trial,
                       attempts_left, 0, 0)
    for slot in slots:
        size, head = slot or (0, None)
        body += RECORD_SLOT.pack(size, head.security_version if head else 0,
                                 head.version.encode() if head else b"", 0)
    body += bytes(4)
    return body + struct.pack("<I", zlib.crc32(body))


def config(tree, sequence=1):
    """A configuration: head and device tree."""
    head = struct.pack("<III", CONFIG_MAGIC, len(tree), sequence)
    return head + struct.pack("<I", zlib.crc32(head + tree)) + tree


def read_record(bank):
    """(sequence, active, trial, attempts_left, [(bytes, version, failed)]) of the record that
    counts in the bank's file; None: there is none."""
    best = None
    with open(bank, "rb") as file:
        for copy in range(2):
            file.seek(copy * BLOCK_BYTES)
            data = file.read(96)
            fields = RECORD.unpack_from(data)
            if (fields[0] != RECORD_MAGIC or
                    zlib.crc32(data[:92]) != struct.unpack_from("<I", data, 92)[0]):
                continue
            if best is None or fields[3] > best[0]:
                slots = [RECORD_SLOT.unpack_from(data, RECORD.size + i * RECORD_SLOT.size)
                         for i in range(2)]
                best = (fields[3], fields[5], fields[6], fields[7],
                        [(s[0], s[2].rstrip(b"\0").decode(), s[3]) for s in slots])
    return best


def read(path):
    with open(path, "rb") as file:
        return file.read()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["fit", "bank0", "bank1"])
    parser.add_argument("source")
    parser.add_argument("out")
    parser.add_argument("--key")
    arguments = parser.parse_args()
    data = read(arguments.source)
    if arguments.what == "fit":
        make_fit(data, arguments.key, arguments.out)
    elif arguments.what == "bank0":
        make_bank(arguments.out, {0: data})
    else:
        make_bank(arguments.out, {SLOT_OFFSETS[0]: data})
    return 0


if __name__ == "__main__":
    sys.exit(main())
