"""Bytes of an export that parsers resolve in silence, each in its own way: a member or field given twice, or unknown.

The verdicts are those of the table of manipulations.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from support.forms import FORMS
from support.world import World, make_world, verdicts


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("world") / "spool")


# JSON

TARGET = b'{"key":"enduser.id","value":{"stringValue":"alice"}}'
TEXTS: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "a value's member twice": (
        lambda line: line.replace(b'{"stringValue":"alice"}', b'{"stringValue":"mallory","stringValue":"alice"}', 1),
        "IIII",
    ),
    "an attribute's value twice": (
        lambda line: line.replace(
            TARGET, b'{"key":"enduser.id","value":{"stringValue":"mallory"},"value":{"stringValue":"alice"}}', 1
        ),
        "IIII",
    ),
    "a member twice, once escaped": (
        lambda line: line.replace(
            b'{"stringValue":"alice"}', b'{"stringV\\u0061lue":"mallory","stringValue":"alice"}', 1
        ),
        "IIII",
    ),
    "the attributes twice": (
        lambda line: line.replace(b'"attributes":[{"key":"audit', b'"attributes":[],"attributes":[{"key":"audit', 1),
        "IIII",
    ),
    "the body twice": (lambda line: line.replace(b'"body":', b'"body":{"stringValue":"mallory"},"body":', 1), "IIII"),
    "the time twice": (lambda line: line.replace(b'"timeUnixNano":', b'"timeUnixNano":"1","timeUnixNano":', 1), "IIII"),
    "the resource twice": (
        lambda line: line.replace(b'"resource":', b'"resource":{"attributes":[]},"resource":', 1),
        "IIII",
    ),
    "the records twice": (lambda line: line.replace(b'"logRecords":', b'"logRecords":[],"logRecords":', 1), "IIII"),
    "a second list of groups by the proto's name": (
        lambda line: line.replace(b'{"resourceLogs":', b'{"resource_logs":[{"scope_logs":[]}],"resourceLogs":', 1),
        "????",
    ),
    "a request by the proto's names": (lambda line: line + line.replace(b"resourceLogs", b"resource_logs"), "????"),
    "a request in a list": (lambda line: line + b"[" + line.strip() + b"]\n", "VV?V"),
    "a scope with a person": (
        lambda line: line.replace(
            b'"scope":{}', b'"scope":{"attributes":[{"key":"enduser.id","value":{"stringValue":"mallory"}}]}', 1
        ),
        "IIII",
    ),
    "a scope attribute twice": (
        lambda line: line.replace(
            b'"scope":{}',
            b'"scope":{"attributes":[{"key":"a","value":{"stringValue":"b"}},{"key":"a","value":{"stringValue":"c"}}]}',
            1,
        ),
        "IIII",
    ),
    "a scope of a name": (lambda line: line.replace(b'"scope":{}', b'"scope":{"name":"x"}', 1), "VV?V"),
    "a request that is not JSON for all": (lambda line: line + line.replace(b'"flags":1', b'"flags":NaN', 1), "????"),
    "a torn request at the end": (lambda line: line + line[:1000], "V??V"),
    "spaces between": (lambda line: line.replace(b'","', b'" , "').replace(b'},{"key"', b'} , {"key"'), "VV?V"),
    "letters escaped": (lambda line: line.replace(b'"alice"', b'"\\u0061lice"'), "VV?V"),
}


@pytest.mark.parametrize("form", ["sink", "collector"])
@pytest.mark.parametrize("name", TEXTS)
def test_bytes_that_readers_part_over_are_found(tmp_path: Path, world: World, name: str, form: str) -> None:
    """In one of the lines, small or large enough to be cut into its records."""
    change, expected = TEXTS[name]
    lines = FORMS[form](world.records).splitlines(keepends=True)
    at = next(index for index, line in enumerate(lines) if TARGET in line)
    lines[at] = change(lines[at])
    assert lines[at] != FORMS[form](world.records).splitlines(keepends=True)[at]
    (tmp_path / "export").write_bytes(b"".join(lines))
    assert verdicts(tmp_path / "export", world) == expected


# Protobuf


def varint(number: int) -> bytes:
    return bytes((number,)) if number < 128 else bytes((number & 127 | 128,)) + varint(number >> 7)


def field(number: int, data: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(data)) + data


def wire(group: bytes = b"", logs: bytes = b"", record: bytes = b"", first: bytes = b"") -> Callable[[bytes], bytes]:
    """These bytes put behind (``first``: before) what is in ResourceLogs, ScopeLogs and the record of a message."""

    def change(data: bytes) -> bytes:
        inner = inside(data, 1)
        scope = inside(inner, 2)
        log = inside(scope, 2)
        made = scope[: len(scope) - len(field(2, log))] + field(2, first + log + record) + logs
        rest = inner[: len(inner) - len(field(2, scope))]
        return field(1, rest + field(2, made) + group)

    return change


def inside(data: bytes, number: int) -> bytes:
    """The last field of a message, which has this number."""
    position = 0
    while True:
        tag, position = data[position], position + 1
        size = shift = 0
        while True:
            byte, position = data[position], position + 1
            size |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                break
        content, position = data[position : position + size], position + size
        if position == len(data):
            assert tag == number << 3 | 2
            return content


MALLORY_VALUE = field(1, b"mallory")
WIRES: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "two bodies": (wire(record=field(5, MALLORY_VALUE)), "IIII"),
    "two bodies, the other first": (wire(first=field(5, MALLORY_VALUE)), "IIII"),
    "two times": (wire(first=b"\x09" + b"\x01" * 8), "IIII"),
    "two trace ids": (wire(first=field(9, b"\xff" * 16)), "IIII"),
    "an attribute twice": (wire(record=field(6, field(1, b"enduser.id") + field(2, MALLORY_VALUE))), "IIII"),
    "an attribute with two values": (wire(record=field(6, field(1, b"x") + field(2, MALLORY_VALUE) * 2)), "IIII"),
    "a value of two kinds": (wire(record=field(6, field(1, b"x") + field(2, MALLORY_VALUE + b"\x10\x01"))), "IIII"),
    "two resources": (wire(group=field(1, field(1, field(1, b"enduser.id") + field(2, MALLORY_VALUE)))), "IIII"),
    "two empty resources": (wire(group=field(1, b"")), "IIII"),
    "two scopes": (wire(logs=field(1, field(1, b"x")) * 2), "IIII"),
    "a scope with a person": (wire(logs=field(1, field(3, field(1, b"enduser.id") + field(2, MALLORY_VALUE)))), "IIII"),
    "an unknown field": (wire(record=field(99, b"mallory")), "????"),
    "a field of another wire type": (wire(record=field(1, b"mallory")), "????"),
    "instrumentation library logs": (wire(group=varint(1000 << 3 | 2) + b"\x00"), "????"),
    "an attribute more": (wire(record=field(6, field(1, b"k8s.pod") + field(2, MALLORY_VALUE))), "VV?V"),
}


@pytest.mark.parametrize("name", WIRES)
def test_protobuf_that_parsers_merge_is_found(tmp_path: Path, world: World, name: str) -> None:
    """A field given twice, of another kind, or unknown, on every level."""
    change, expected = WIRES[name]
    data, found, done = FORMS["protobuf"](world.records), b"", False
    while data:
        size = int.from_bytes(data[:4], "big")
        message, data = data[4 : 4 + size], data[4 + size :]
        if not done and b"request-0003" in message:
            message, done = change(message), True
        found += len(message).to_bytes(4, "big") + message
    assert done
    (tmp_path / "export").write_bytes(found)
    assert verdicts(tmp_path / "export", world) == expected
