"""What a path holds: a spool, a stream, an export; each spool one copy, all exports together one."""

from __future__ import annotations

from pathlib import Path

import pytest

from jwt_audit.errors import EvidenceError
from jwt_audit.sources import inputs
from vectors.make import DATA, FIRST

SPOOL, EXPORT = DATA / "spool-valid/spool", DATA / "export-valid/audit.jsonl"


def copies(*paths: Path) -> list[tuple[str, bool, int]]:
    """Of each copy its source, whether it is a spool, its records."""
    return [(copy.source, copy.spool, copy.records) for copy in inputs.read(paths, lambda _: None)]


def test_a_spool_a_stream_and_a_file() -> None:
    """Found by content."""
    assert copies(SPOOL) == [(str(SPOOL), True, 12)]
    assert copies(SPOOL / "streams" / FIRST) == [(str(SPOOL / "streams" / FIRST), True, 6)]
    assert copies(EXPORT) == [(str(EXPORT), False, 6)]


def test_exports_are_one_copy_and_are_read_first() -> None:
    """A spool that grows meanwhile is then never behind what it has delivered."""
    other = DATA / "export-protobuf/audit.binpb"
    assert copies(SPOOL, EXPORT, other) == [("2 exports", False, 6), (str(SPOOL), True, 12)]


def test_a_path_given_twice_is_read_once() -> None:
    """Shell patterns overlap."""
    assert copies(EXPORT, EXPORT) == [(str(EXPORT), False, 6)]


def test_a_directory_of_exports(tmp_path: Path) -> None:
    """As the sink leaves it."""
    (tmp_path / "audit.jsonl").write_bytes(EXPORT.read_bytes())
    assert copies(tmp_path) == [(str(tmp_path), False, 6)]


def test_what_is_neither_is_refused(tmp_path: Path) -> None:
    """With its path: nothing, an empty directory, a device."""
    for path in (tmp_path / "missing", tmp_path, Path("/dev/null")):
        with pytest.raises(EvidenceError, match=str(path)):
            copies(path)


def test_the_size_is_what_will_be_read(tmp_path: Path) -> None:
    """As far as it can be known before: of what is missing it is nothing."""
    for path in (SPOOL, EXPORT, SPOOL / "streams" / FIRST):
        told: list[int] = []
        inputs.read([path], told.append)
        assert inputs.size([path]) == sum(told)
    assert inputs.size([tmp_path / "missing", Path("-")]) == 0
