"""Never valid where two readers see another person, action, target, outcome, time or resource.

Protobuf's own parsers, of JSON and of the wire, beside Python's json; jq stands in test_any_manipulation.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict, Parse, ParseError
from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

from jwt_audit.errors import EvidenceError
from jwt_audit.evidence.verdict import Verdict
from jwt_audit.evidence.verify import judge
from jwt_audit.sources.exports import read_exports
from support.chance import Seen, manipulated, records, rule, seen, text
from support.forms import FORMS
from support.world import TRUST, World, make_world

ROUNDS = 120


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("world") / "spool")


def valid(file: Path, data: bytes) -> bool:
    file.write_bytes(data)
    try:
        return judge([read_exports([file], lambda _: None)], TRUST).verdict is Verdict.VALID
    except EvidenceError:
        return False


def parsed(line: bytes, *, lenient: bool) -> Iterator[Seen]:
    """What protobuf's JSON parser reads, strictly or with what is unknown passed over; nothing where it refuses."""
    try:
        message = Parse(line, ExportLogsServiceRequest(), ignore_unknown_fields=lenient)
    except (ParseError, ValueError, RecursionError):
        return
    yield from records(MessageToDict(message))


@pytest.mark.parametrize("seed", range(6))
def test_protobufs_json_parser_sees_what_was_written(tmp_path: Path, world: World, seed: int) -> None:
    """Where the verdict is valid, whatever it makes of names, types and members given twice."""
    chance = random.Random(f"json {seed}")
    whole = FORMS["sink"](world.records)
    written = {one["id"]: one for one in seen(whole)}
    lines = whole.splitlines(keepends=True)
    stayed = 0
    for _ in range(ROUNDS):
        at = chance.randrange(len(lines))
        value = json.loads(lines[at])
        manipulated(value, chance)
        line = text(value) + b"\n"
        if valid(tmp_path / "export", b"".join([*lines[:at], line, *lines[at + 1 :]])):
            stayed += 1
            for lenient in (False, True):
                for one in parsed(line, lenient=lenient):
                    assert rule(one, written), (line, one)
    assert stayed < ROUNDS


def messages(data: bytes) -> Iterator[bytes]:
    while len(data) >= 4:
        size = int.from_bytes(data[:4], "big")
        yield data[4 : 4 + size]
        data = data[4 + size :]


def wired(data: bytes) -> Iterator[Seen]:
    """What protobuf's classes read of the wire: repeats merged, the last of several, unknown fields passed over."""
    for message in messages(data):
        try:
            found: Any = MessageToDict(ExportLogsServiceRequest.FromString(message))
        except DecodeError:
            continue
        yield from records(found)


def varint(number: int) -> bytes:
    return bytes((number,)) if number < 128 else bytes((number & 127 | 128,)) + varint(number >> 7)


def fields(data: bytes) -> list[bytes]:
    """The length-delimited fields of a message, each whole; empty for anything else."""
    found, position = [], 0
    while position < len(data):
        begin = position
        tag, position = data[position], position + 1
        if tag & 7 == 1:
            position += 8
        elif tag & 7 == 5:
            position += 4
        elif tag & 7 == 2:
            size = shift = 0
            while True:
                byte, position = data[position], position + 1
                size |= (byte & 127) << shift
                shift += 7
                if byte < 128:
                    break
            position += size
        else:
            return []
        found.append(data[begin:position])
    return found


def content(field: bytes) -> bytes:
    at = 1
    while field[at] >= 128:
        at += 1
    return field[at + 1 :]


def rewired(data: bytes, chance: random.Random, depth: int = 0) -> bytes:
    """One field dropped, doubled, moved, renumbered or made of another, somewhere in a message."""
    found = fields(data) if data else []
    if not found:
        return data + bytes(chance.choice((b"", b"\x0a\x07mallory", b"\x10\x01", b"\x1a\x00")))
    at = chance.randrange(len(found))
    if depth < 5 and found[at][0] & 7 == 2 and chance.random() < 0.8:
        inner = rewired(content(found[at]), chance, depth + 1)
        found[at] = found[at][:1] + varint(len(inner)) + inner
        return b"".join(found)
    how = chance.randrange(5)
    if how == 0:
        del found[at]
    elif how == 1:
        found.insert(chance.randrange(len(found) + 1), found[at])
    elif how == 2:
        found.insert(chance.randrange(len(found)), found.pop(at))
    elif how == 3:
        found[at] = bytes((chance.randrange(1, 16) << 3 | found[at][0] & 7,)) + found[at][1:]
    else:
        found.insert(at, b"\x2a\x09\x0a\x07mallory")
    return b"".join(found)


@pytest.mark.parametrize("seed", range(6))
def test_protobufs_classes_see_what_was_written(tmp_path: Path, world: World, seed: int) -> None:
    """Over messages with fields dropped, doubled, moved, renumbered and added, on every level."""
    chance = random.Random(f"wire {seed}")
    whole = FORMS["protobuf"](world.records)
    written = {one["id"]: one for one in wired(whole)}
    parts = list(messages(whole))
    assert len(written) > len(parts) // 2
    stayed = 0
    for _ in range(ROUNDS):
        at = chance.randrange(len(parts))
        made = [*parts[:at], rewired(parts[at], chance), *parts[at + 1 :]]
        data = b"".join(len(one).to_bytes(4, "big") + one for one in made)
        if valid(tmp_path / "export", data):
            stayed += 1
            for one in wired(data):
                assert rule(one, written), one
    assert stayed < ROUNDS
