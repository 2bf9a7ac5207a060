"""Manipulations that nobody thought of: made by chance, on any level of any form, held to one rule.

Valid only if every audit record that any reader sees is one that the holder of the key wrote, and none that a
signature or a held head covers is missing. The readers are not the verifier's: Python's json with the first
and with the last of what stands twice, and jq.
"""

from __future__ import annotations

import json
import random
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from jwt_audit.errors import EvidenceError
from jwt_audit.evidence.verdict import Place, Verdict
from jwt_audit.evidence.verify import judge
from jwt_audit.sources.exports import read_exports
from jwt_audit.sources.spool import read_spool
from support.chance import lines_manipulated, manipulated, rule, seen, text
from support.forms import FORMS
from support.world import TRUST, World, make_world

ROUNDS = 60


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("world") / "spool")


def jq(file: Path) -> list[str]:
    """What jq sees: ids and persons; what is read before an error counts."""
    program = (
        '.resourceLogs[]?.scopeLogs[]?.logRecords[]? | [.attributes[]? | select(.key == "enduser.id" or '
        '.key == "audit.record.id") | .value.stringValue] | tojson'
    )
    said = subprocess.run(["jq", "-r", program, file], capture_output=True, text=True, check=False)
    return said.stdout.splitlines()


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
