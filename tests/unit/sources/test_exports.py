"""Exported files: found by content, read whole, and nothing of them passed over in silence."""

from __future__ import annotations

import gzip
from pathlib import Path

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jwt_audit.errors import EvidenceError
from jwt_audit.evidence.proof import Trust
from jwt_audit.evidence.verdict import Report, Verdict
from jwt_audit.evidence.verify import judge
from jwt_audit.sources.exports import export_files, read_exports
from support.evidence import kinds
from vectors.make import DATA

VALID = (DATA / "export-valid/audit.jsonl").read_bytes()
PROTOBUF = (DATA / "export-protobuf/audit.binpb").read_bytes()


def report(*paths: Path) -> Report:
    return judge([read_exports(paths, lambda _: None)], Trust())


def given_as(root: Path, data: bytes) -> Report:
    (root / "file").write_bytes(data)
    return report(root / "file")


@pytest.mark.parametrize("data", [VALID, PROTOBUF, gzip.compress(VALID), gzip.compress(PROTOBUF), b" \n" + VALID])
def test_what_it_is_is_seen_by_content(tmp_path: Path, data: bytes) -> None:
    """The name says nothing."""
    found = given_as(tmp_path, data)
    assert found.verdict is Verdict.VALID
    assert found.streams[0].records == 6


def test_one_request_of_protobuf_alone(tmp_path: Path) -> None:
    """As it was sent, without a length before it."""
    size = int.from_bytes(PROTOBUF[:4], "big")
    found = given_as(tmp_path, PROTOBUF[4 : 4 + size])
    assert found.streams[0].records == 1


@pytest.mark.parametrize(
    "data", [b"rubbish", b"\n\x03abc", b"\x0a\xff\xff", b"\x00\x01", b"{x", b"\x89PNG", b"\xff" * 90]
)
def test_what_is_no_export_is_refused_or_incomplete(tmp_path: Path, data: bytes) -> None:
    """Never valid, never a traceback."""
    try:
        verdict = given_as(tmp_path, data).verdict
    except EvidenceError as error:
        told = str(error)
    else:
        told = "" if verdict is Verdict.INCOMPLETE else verdict.value
    assert told == "" or "is no export" in told


def test_the_bytes_read_are_told(tmp_path: Path) -> None:
    """For the progress bar: all of them."""
    for data in (VALID, PROTOBUF):
        (tmp_path / "file").write_bytes(data)
        told: list[int] = []
        read_exports([tmp_path / "file"], told.append)
        assert sum(told) == len(data)


@pytest.mark.parametrize("cut", [1, 3, 4, 100, 700])
def test_protobuf_that_ends_too_early_is_torn(tmp_path: Path, cut: int) -> None:
    """What a kill leaves; the heads at the end are gone with it."""
    found = given_as(tmp_path, PROTOBUF[:-cut])
    assert "torn" in kinds(found, Verdict.VALID)
    assert found.streams[0].heads == 1


def test_a_message_among_others_that_is_none(tmp_path: Path) -> None:
    """A record may have been in it."""
    found = given_as(tmp_path, (3).to_bytes(4, "big") + b"\xff\xff\xff" + PROTOBUF)
    assert kinds(found) == {"unreadable"}


def test_a_length_that_cannot_be_is_unreadable(tmp_path: Path) -> None:
    """Two gigabytes are not waited for."""
    assert "unreadable" in kinds(given_as(tmp_path, PROTOBUF + b"\x7f\xff\xff\xff" + b"x" * 9))


@pytest.mark.parametrize("data", [VALID, PROTOBUF])
def test_a_damaged_archive_is_unreadable(tmp_path: Path, data: bytes) -> None:
    """Cut off or changed within; cut off in its header too."""
    packed = gzip.compress(data)
    for broken in (packed[: len(packed) // 2], packed[:5], packed[:-4]):
        found = given_as(tmp_path, broken)
        assert found.verdict is not Verdict.VALID
        assert "unreadable" in kinds(found)


def test_zstd_is_not_read_but_told_how_to(tmp_path: Path) -> None:
    """Python has it only from 3.14 on."""
    with pytest.raises(EvidenceError, match=r"zstd -dc FILE \| jwt-audit verify -"):
        given_as(tmp_path, b"\x28\xb5\x2f\xfd rest")


def test_a_directory_is_read_by_the_ends_of_its_names(tmp_path: Path) -> None:
    """Rotated files belong together: a stream may be spread over them."""
    lines = VALID.splitlines(keepends=True)
    (tmp_path / "audit-2026-11-24T00-00-00.000.jsonl").write_bytes(lines[0])
    (tmp_path / "audit.jsonl").write_bytes(lines[1])
    (tmp_path / "more.json.gz").write_bytes(gzip.compress(lines[2]))
    (tmp_path / "README.txt").write_text("not one of them")
    assert len(export_files(tmp_path)) == 3
    found = report(tmp_path)
    assert found.verdict is Verdict.VALID
    assert found.streams[0].records == 6


def test_a_path_without_an_audit_record_is_told_beside_others(tmp_path: Path) -> None:
    """A file given by mistake does not hide behind a good one; other log records are counted."""
    good, other = tmp_path / "good", tmp_path / "other"
    good.write_bytes(VALID)
    other.write_bytes(
        orjson.dumps({"resourceLogs": [{"scopeLogs": [{"logRecords": [{"body": {"stringValue": "app log"}}, {}]}]}]})
    )
    found = report(good, other)
    assert kinds(found) == {"nothing"}
    assert found.other_records == 2


@pytest.mark.parametrize(
    "value",
    [
        {"resourceLogs": 7},
        {"resourceLogs": [7]},
        {"resourceLogs": [{"scopeLogs": 7}]},
        {"resourceLogs": [{"scopeLogs": [{"logRecords": [7]}]}]},
        {"resourceLogs": [{"scopeLogs": [{"logRecords": [{"attributes": 7}]}]}]},
        {"resourceLogs": [{"scopeLogs": [{"logRecords": [{"attributes": [{}]}]}]}]},
        {"resourceLogs": [{"scopeLogs": [{"logRecords": [{"eventName": "audit.head"}]}]}]},
        {"resourceLogs": [{"scopeLogs": [{"logRecords": [{"attributes": [{"key": "audit.sequence.stream_id"}]}]}]}]},
        {"resourceLogs": [{"resource": 7, "scopeLogs": []}]},
        {"audit.integrity.canonical": 7},
        {"audit.integrity.canonical": "{}"},
        {"audit.integrity.canonical": "\ud800"},
        [[[[[[{"audit.sequence.stream_id": "s"}]]]]]],
    ],
)
def test_what_is_not_in_its_form_is_never_valid(tmp_path: Path, value: object) -> None:
    """Beside a good stream: what looks like an audit record and is none makes the whole incomplete or worse."""
    import json

    found = given_as(tmp_path, VALID + json.dumps(value).encode() + b"\n")
    assert found.verdict is not Verdict.VALID


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(st.integers(0, len(VALID) - 1), st.binary(max_size=9)), min_size=1, max_size=4), st.booleans()
)
def test_no_damage_ends_in_a_traceback(tmp_path: Path, damage: list[tuple[int, bytes]], protobuf: bool) -> None:
    """Bytes put in anywhere: a verdict, or one line that says that it is no export."""
    data = bytearray(PROTOBUF if protobuf else VALID)
    for offset, replaced in damage:
        at = offset % len(data)
        data[at : at + len(replaced)] = replaced
    try:
        given_as(tmp_path, bytes(data))
    except EvidenceError:
        pass  # as it should be
