#!/usr/bin/env python3
"""Writes the first inputs of the fuzz targets, made of the recordings in Tests/Vectors. Usage: corpus.py DIRECTORY"""
import hashlib
import json
import pathlib
import sys

root = pathlib.Path(__file__).resolve().parent.parent
out = pathlib.Path(sys.argv[1])
# Longer recordings teach the fuzzer nothing that shorter ones do not.
LONGEST = 8192


def cases(name, *kinds):
    loaded = json.loads((root / "Tests/Vectors" / f"{name}.json").read_text())["cases"]
    return [case for case in loaded if not kinds or case["kind"] in kinds]


def unhex(value):
    return bytes.fromhex(value) if isinstance(value, str) else b""


def words(value):
    """Every text in a recording."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from words(item)
    elif isinstance(value, list):
        for item in value:
            yield from words(item)


def write(target, *parts):
    data = b"".join(bytes([part]) if isinstance(part, int) else part for part in parts)
    if len(data) <= LONGEST:
        directory = out / target
        directory.mkdir(parents=True, exist_ok=True)
        (directory / hashlib.sha1(data).hexdigest()).write_bytes(data)


def piece(data):
    return len(data).to_bytes(2, "big") + data


SHAPES = 16  # as many as FuzzGob.swift has
for number, case in enumerate(cases("gob")):
    write("gob", number % SHAPES, 7, unhex(case.get("bytes")))

for case in cases("mesh-handshake"):
    for side in (case, case.get("dialler") or {}, case.get("listener") or {}):
        plaintexts = [unhex(message.get("plaintext")) for message in side.get("messages") or []]
        stream = unhex(side.get("bytes")) or b"".join(map(unhex, side.get("writes") or []))
        for options in (0, 2, 4, 6, 8):
            write("handshake", options, 3, stream)
        if plaintexts:
            write("handshake", 1, 0, *[piece(text) for text in plaintexts])

payloads = []
for case in cases("mesh-gossip"):
    data = unhex(case.get("bytes"))
    if case["kind"].startswith("topology"):
        write("topology", 0, data)
    elif case["kind"] == "apply-update":
        for step in case["steps"]:
            for word in words(step):
                if len(word) > 60 and len(word) % 2 == 0 and all(c in "0123456789abcdef" for c in word):
                    write("topology", 2, bytes.fromhex(word))
                    write("topology", 4, bytes.fromhex(word))
    elif data:
        tag = case["tag"]
        write("gossip", (tag - 4) << 1, data)
        payloads.append((tag, data))
        write("gossip", 1, tag | 8, piece(data), 0x10 | tag, piece(data))
for tag, data in payloads[:8]:
    for other, more in payloads[8:16]:
        write("gossip", 1, tag, piece(data), 0x20 | other | 8, piece(more))
# A topology update in its envelope, and digests: names and versions, names alone.
for case in cases("mesh-gossip", "topology"):
    update = unhex(case["bytes"])
    if len(update) < 120:
        continue
    count = (len(update)).to_bytes(2, "big")
    envelope = b"\x0b\x0c\x00\x08topology" + b"\x03\x06\x00\x20"
    body = b"\x0a\x00" + b"\xfe" + count + update
    envelope += b"\xfe" + len(body).to_bytes(2, "big") + body
    write("gossip", 1, 4 | 8, piece(envelope), 0x10 | 4 | 8, piece(envelope))
write("topology", 1, 1, bytes(range(6)), 1, bytes(range(8)), 5, bytes(range(6)), 0, bytes(8), b"\xfe\x01\x00")
write("topology", 1, 2, bytes(range(12)))

for case in cases("sleeve"):
    for word in words(case):
        if len(word) >= 28 and len(word) % 2 == 0 and all(c in "0123456789abcdef" for c in word):
            data = bytes.fromhex(word)
            write("sleeve", 0, data)
            write("frames", 70, data)
            write("sealed", 0, 0, 40, data)
            write("sealed", 0x21, 0, 9, data)
    if case["kind"] == "overlay-control":
        write("sleeve", 1 | case["tcp_tag"] << 2, unhex(case["bytes"]))


def transport(six, tcp, payload, sequence=1):
    """A frame without checksums; the target completes them for the frames that follow."""
    header = b"\x10\x01\x13\x88" + sequence.to_bytes(4, "big") + bytes(4) + b"\x50\x10\x20\x00" + bytes(4)
    segment = (header if tcp else b"\x10\x01\x13\x88" + (8 + len(payload)).to_bytes(2, "big") + b"\1\1") + payload
    number = 6 if tcp else 17
    if six:
        ip = b"\x60\0\0\0" + len(segment).to_bytes(2, "big") + bytes([number, 64]) + b"\xfd" + bytes(30) + b"\1"
    else:
        ip = b"\x45\0" + (20 + len(segment)).to_bytes(2, "big") + b"\0\1\x40\0\x40" + bytes([number])
        ip += bytes(2) + b"\x0a\x20\0\1\x0a\x20\0\2"
    return b"\2\0\0\0\0\2\2\0\0\0\0\1" + (b"\x86\xdd" if six else b"\x08\0") + ip + segment


for six in (False, True):
    for tcp in (False, True):
        for size in (1, 40, 700):
            frame = transport(six, tcp, bytes(i & 255 for i in range(size)))
            write("frames", 9, frame)
            write("offload", 0, 3, piece(frame), 3, piece(frame))
            write("offload", 0, 7, piece(frame))
            start = 54 if six else 34
            kind = 5 if not tcp else 4 if six else 1
            offload = bytes([1, kind, 0, 0, 17, 0, start, 0, 16 if tcp else 6, 0])
            write("offload", 1, offload, frame)

for case in cases("ipam-ring", "gossip", "gossip-malformed"):
    data = unhex(case.get("bytes"))
    write("ipam", 0, data)
    write("ipam", 1, 1, data)
    write("ipam", 2, 2, piece(data), 0, piece(data))
    write("ipam", 6 + 2, 2, piece(data))
for case in cases("ipam-ring", "unicast"):
    write("ipam", 1, unhex(case["bytes"]))
    write("ipam", 2, 1, piece(unhex(case["bytes"])))
    write("ipam", 8, 1, piece(unhex(case["bytes"])))

for name in ("ipam-space", "mesh-handshake"):
    for word in set(words(cases(name))):
        if 0 < len(word) < 40:
            write("text", word.encode())
for word in ("[fd00::1]:6783", "fd00::1", "::", "host:6783", "10.0.0.1:http", "0a:0b:0c:0d:0e:0f", "::ffff:1.2.3.4"):
    write("text", word.encode())
