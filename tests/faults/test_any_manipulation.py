"""Manipulations that nobody thought of: made by chance, on any level of any form, held to one rule.

Valid only if every audit record that any reader sees is one that the holder of the key wrote, and none that a
signature or a held head covers is missing. The readers are not the verifier's: Python's json with the first
and with the last of what stands twice, and jq.
"""

from __future__ import annotations

import copy
import json
import random
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from jwt_audit.errors import EvidenceError
from jwt_audit.evidence.verdict import Place, Verdict
from jwt_audit.evidence.verify import judge
from jwt_audit.sources.exports import read_exports
from jwt_audit.sources.spool import read_spool
from support.forms import FORMS
from support.world import TRUST, World, make_world

NAMES = ("enduser.id", "audit.actor.id", "audit.action", "audit.target.id", "audit.outcome", "session.id")
WORDS: tuple[Any, ...] = (
    "mallory", "alice", "", "0", 7, None, True, [], {}, {"stringValue": "mallory"}, {"intValue": "7"}, ["mallory"],
    "enduser.id", "audit.record.id", "audit.integrity.canonical", "audit_integrity_canonical", "1795600000000000001",
)  # fmt: skip
MEMBERS = (
    "x", "key", "value", "stringValue", "string_value", "body", "eventName", "event_name", "attributes",
    "resource", "timeUnixNano", "resourceLogs", "resource_logs", "logRecords", "enduser.id", "enduser_id", "line",
)  # fmt: skip
ROUNDS = 60


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("world") / "spool")


def nodes(value: Any) -> Iterator[Any]:
    """Every object and list in a value."""
    if isinstance(value, (dict, list)):
        if value:
            yield value
        for item in value.values() if isinstance(value, dict) else value:
            yield from nodes(item)


def manipulated(value: Any, chance: random.Random) -> None:
    """One thing dropped, doubled, swapped, edited, renamed or added somewhere in it."""
    node = chance.choice(list(nodes(value)))
    if isinstance(node, dict):
        name = chance.choice(list(node))
        how = chance.randrange(5)
        if how == 0:
            del node[name]
        elif how == 1:
            node[name] = copy.deepcopy(chance.choice(WORDS))
        elif how == 2:
            node[chance.choice(MEMBERS)] = copy.deepcopy(chance.choice(WORDS))
        elif how == 3:
            node[chance.choice(MEMBERS)] = node.pop(name)
        else:
            node[f"{name}\u0000twice"] = copy.deepcopy(chance.choice(WORDS))  # written as a second one: see `text`
    else:
        at = chance.randrange(len(node))
        how = chance.randrange(4)
        if how == 0:
            del node[at]
        elif how == 1:
            node.insert(at, copy.deepcopy(node[at]))
        elif how == 2:
            other = chance.randrange(len(node))
            node[at], node[other] = node[other], node[at]
        else:
            node[at] = copy.deepcopy(chance.choice(WORDS))


def text(value: Any) -> bytes:
    """As JSON, with the members that are to stand twice."""
    return json.dumps(value, separators=(",", ":")).replace("\\u0000twice", "").encode()


def lines_manipulated(lines: list[bytes], chance: random.Random) -> list[bytes]:
    """A line dropped, doubled, moved, cut or changed in a byte."""
    found, at, how = list(lines), chance.randrange(len(lines)), chance.randrange(5)
    if how == 0:
        del found[at]
    elif how == 1:
        found.insert(chance.randrange(len(found)), found[at])
    elif how == 2:
        found.insert(chance.randrange(len(found)), found.pop(at))
    elif how == 3:
        found[at] = found[at][: chance.randrange(len(found[at]))]
    else:
        line = bytearray(found[at])
        line[chance.randrange(len(line))] ^= 1 << chance.randrange(8)
        found[at] = bytes(line)
    return found


def first_of(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    return dict(reversed(pairs))


Seen = dict[str, Any]


def seen(data: bytes) -> Iterator[Seen]:
    """What readers see: of each record its person, action, target, outcome, time, and the resource's service."""
    for line in data.splitlines():
        for hook in (None, first_of):
            try:
                value = json.loads(line, object_pairs_hook=hook)
            except (ValueError, RecursionError):
                continue
            yield from records(value)


def records(value: Any) -> Iterator[Seen]:
    if isinstance(value, list):
        for item in value:
            yield from records(item)
    elif isinstance(value, dict):
        for group in listed(value, "resourceLogs"):
            for scope in listed(group, "scopeLogs"):
                for record in listed(scope, "logRecords"):
                    if isinstance(record, dict):
                        yield from shown(record, group.get("resource"))


def listed(holder: Any, name: str) -> list[Any]:
    found = holder.get(name) if isinstance(holder, dict) else None
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []


def shown(record: dict[str, Any], resource: Any) -> Iterator[Seen]:
    """Once with the first, once with the last of the attributes of one name."""
    items, around = listed(record, "attributes"), listed(resource, "attributes")
    for order in (items, items[::-1]):
        found = {item.get("key"): bare(item.get("value")) for item in order if isinstance(item.get("key"), str)}
        if "audit.record.id" in found or "audit.sequence.stream_id" in found:
            services = [bare(item.get("value")) for item in around if item.get("key") == "service.name"]
            yield {
                **{name: found.get(name) for name in NAMES},
                "id": found.get("audit.record.id"),
                "time": record.get("timeUnixNano"),
                "event": record.get("eventName"),
                "body": bare(record.get("body")),
                "service": services[0] if services else None,
            }


def bare(value: Any) -> Any:
    """What a reader makes of a value who takes the first member that looks like one."""
    return next(iter(value.values()), None) if isinstance(value, dict) else value


def jq(file: Path) -> list[str]:
    """What jq sees: ids and persons; what is read before an error counts."""
    program = (
        '.resourceLogs[]?.scopeLogs[]?.logRecords[]? | [.attributes[]? | select(.key == "enduser.id" or '
        '.key == "audit.record.id") | .value.stringValue] | tojson'
    )
    said = subprocess.run(["jq", "-r", program, file], capture_output=True, text=True, check=False)
    return said.stdout.splitlines()


def rule(found: Seen, written: dict[Any, Seen]) -> bool:
    """Whether what a reader sees is what was written: each value that is shown, of the record of that id."""
    right = written.get(found["id"])
    if found["id"] is None:
        return any(agrees(found, one) for one in written.values())
    return right is not None and agrees(found, right)


def agrees(found: Seen, right: Seen) -> bool:
    return all(value in (None, "") or name == "id" or str(value) == str(right[name]) for name, value in found.items())


def heads_of(world: World) -> list[Any]:
    return [(one.heads[-1], Place("held")) for one in (world.first, world.dead, world.last)]


@pytest.mark.parametrize("form", ["sink", "collector"])
@pytest.mark.parametrize("seed", range(8))
def test_what_is_valid_is_what_was_written(tmp_path: Path, world: World, form: str, seed: int) -> None:
    """In JSON: any node of it, any line, any byte."""
    chance = random.Random(f"{form} {seed}")
    whole = FORMS[form](world.records)
    written = {one["id"]: one for one in seen(whole)}
    file = tmp_path / "export"
    count = sum(len(one.lines) for one in (world.first, world.dead, world.last))
    valid = 0
    for _ in range(ROUNDS):
        lines = whole.splitlines(keepends=True)
        for _ in range(chance.randrange(1, 3)):
            if chance.random() < 0.7:
                at = chance.randrange(len(lines))
                try:
                    value = json.loads(lines[at])
                    manipulated(value, chance)
                except ValueError:
                    continue
                lines[at] = text(value) + b"\n"
            elif len(lines) > 1:
                lines = lines_manipulated(lines, chance)
        data = b"".join(lines)
        file.write_bytes(data)
        try:
            report = judge([read_exports([file], lambda _: None)], TRUST, held=heads_of(world))
        except EvidenceError:
            continue
        if report.verdict is not Verdict.VALID:
            continue
        valid += 1
        for one in seen(data):
            assert rule(one, written), (one, written.get(one["id"]))
        assert sum(one.proved for one in report.streams) == count
    assert valid < ROUNDS


@pytest.mark.skipif(shutil.which("jq") is None, reason="jq is not here")
@pytest.mark.parametrize("seed", range(3))
def test_what_is_valid_is_what_jq_sees(tmp_path: Path, world: World, seed: int) -> None:
    """The auditor's own reader, over the same manipulations of values."""
    chance = random.Random(seed)
    file = tmp_path / "export"
    file.write_bytes(FORMS["sink"](world.records))
    written = set(jq(file))
    lines = file.read_bytes().splitlines(keepends=True)
    for _ in range(ROUNDS):
        at = chance.randrange(len(lines))
        value = json.loads(lines[at])
        manipulated(value, chance)
        file.write_bytes(b"".join([*lines[:at], text(value) + b"\n", *lines[at + 1 :]]))
        try:
            verdict = judge([read_exports([file], lambda _: None)], TRUST).verdict
        except EvidenceError:
            continue
        if verdict is Verdict.VALID:
            for line in jq(file):
                assert line in written or any(set(json.loads(line)) <= set(json.loads(one)) for one in written), line


@pytest.mark.parametrize("form", ["protobuf", "loki", "logcli", "victorialogs"])
@pytest.mark.parametrize("seed", range(3))
def test_bytes_of_the_other_forms(tmp_path: Path, world: World, form: str, seed: int) -> None:
    """Bytes flipped, cut and doubled: valid only with all records, each as it was written."""
    chance = random.Random(f"{form} {seed}")
    whole = FORMS[form](world.records)
    file = tmp_path / "export"
    count = sum(len(one.lines) for one in (world.first, world.dead, world.last))
    for _ in range(ROUNDS):
        data = bytearray(whole)
        at = chance.randrange(len(data))
        size = chance.randrange(1, 40)
        how = chance.randrange(3)
        if how == 0:
            data[at] ^= 1 << chance.randrange(8)
        elif how == 1:
            del data[at : at + size]
        else:
            data[at:at] = data[at : at + size]
        file.write_bytes(data)
        try:
            report = judge([read_exports([file], lambda _: None)], TRUST, held=heads_of(world))
        except EvidenceError:
            continue
        if report.verdict is Verdict.VALID:
            assert sum(one.records for one in report.streams) == count
            assert sum(one.proved for one in report.streams) == count


@pytest.mark.parametrize("seed", range(6))
def test_any_change_of_a_spool(tmp_path: Path, world: World, seed: int) -> None:
    """Lines, bytes, names and files: valid only while every record that was signed is there."""
    chance = random.Random(seed)
    count = sum(len(one.lines) for one in (world.first, world.dead, world.last))
    for number in range(ROUNDS // 3):
        root = tmp_path / f"spool{number}"
        shutil.copytree(world.root, root)
        files = sorted(path for path in root.rglob("*") if path.is_file() and path.stat().st_size)
        path = chance.choice(files)
        how = chance.randrange(6)
        if how < 4:
            path.write_bytes(b"".join(lines_manipulated(path.read_bytes().splitlines(keepends=True), chance)))
        elif how == 4:
            path.unlink()
        else:
            path.rename(path.with_name(chance.choice(("start", "00000002.seg", "heads", "x", ".hidden"))))
        try:
            report = judge([read_spool(root, lambda _: None)], TRUST, held=heads_of(world))
        except EvidenceError:
            continue
        if report.verdict is Verdict.VALID:
            proved = sum(one.proved for one in report.streams)
            # A signed record says that retention removed the first stream, so it may be gone
            assert proved in (count, count - len(world.first.lines)), (path, how)
        shutil.rmtree(root)
