"""A spool read for verification: what a crash leaves, and what it does not."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from jwt_audit.errors import EvidenceError
from jwt_audit.evidence.proof import Trust
from jwt_audit.evidence.verdict import Report, Verdict
from jwt_audit.evidence.verify import judge
from jwt_audit.sources import spool as reading
from jwt_audit.sources.files import opened
from jwt_audit.sources.spool import read_heads, read_spool, read_stream
from jwt_audit.spool.segment import MAX_LINE
from support.evidence import kinds
from support.spools import LiveStream, make_stream

Stream = tuple[Path, Path]


@pytest.fixture
def stream(tmp_path: Path) -> Stream:
    """A spool, and its one stream: five records under a head, then two of an open tail."""
    made = LiveStream(tmp_path)
    made.requests(4).head()
    made.requests(2)
    made.close()
    return tmp_path, made.path


def report(root: Path) -> Report:
    return judge([read_spool(root, lambda _: None)], Trust())


@pytest.mark.parametrize(
    "tail",
    [
        pytest.param(b'{"attributes":{', id="a torn line"),
        pytest.param(b"{" * MAX_LINE, id="a long one"),
        pytest.param(b"\0" * 700, id="zeros"),
        pytest.param(b'{"attributes":{"a"' + b"\0" * 600, id="a torn line and zeros"),
        pytest.param(b'{"attributes"\n' + b"\0" * 512 + b"\nx\n", id="blocks of zeros among lines"),
    ],
)
def test_what_a_crash_leaves_at_the_end_is_set_aside(stream: Stream, tail: bytes) -> None:
    """It was never promised to anyone: told, and not called tampering."""
    root, path = stream
    with (path / "00000001.seg").open("ab") as file:
        file.write(tail)
    found = report(root)
    assert kinds(found) == {"no_end"}
    assert kinds(found, Verdict.VALID) == {"torn"}
    assert found.streams[0].last == 7


@pytest.mark.parametrize(
    "tail", [b"rubbish\n", b"\n", b"{}\t" + b"0" * 64 + b"\n", b"x" * (MAX_LINE + 9) + b"\n", b"torn\nand more\n"]
)
def test_whole_lines_that_are_none_are_not(stream: Stream, tail: bytes) -> None:
    """A crash leaves no newline behind what it tore."""
    root, path = stream
    with (path / "00000001.seg").open("ab") as file:
        file.write(tail)
    assert "hash_mismatch" in kinds(report(root), Verdict.INVALID)


def test_damage_in_the_middle_is_not_a_torn_tail(stream: Stream) -> None:
    """Lines follow it."""
    root, path = stream
    segment = path / "00000001.seg"
    data = bytearray(segment.read_bytes())
    data[100] ^= 1
    segment.write_bytes(data)
    found = report(root)
    assert found.verdict is Verdict.INVALID
    assert found.problems()[0].place is not None


def test_a_torn_tail_under_a_head_is_cut_off(tmp_path: Path) -> None:
    """A head covers only what was synced, so a crash cannot have torn that."""
    path, _ = make_stream(tmp_path, records=2)
    segment = path / "00000001.seg"
    segment.write_bytes(segment.read_bytes()[:-9])
    assert "cut_off" in kinds(report(tmp_path), Verdict.INVALID)


@pytest.mark.parametrize("tail", [b'{"algorithm":"EdDSA"', b"\0" * 40])
def test_a_torn_head_is_set_aside(stream: Stream, tail: bytes) -> None:
    """The one before it counts."""
    root, path = stream
    with (path / "heads").open("ab") as file:
        file.write(tail)
    assert kinds(report(root)) == {"no_end"}
    assert "torn" in kinds(report(root), Verdict.VALID)


def test_a_line_of_the_heads_that_is_none_is_told(stream: Stream) -> None:
    """Whole by its newline, and no head."""
    root, path = stream
    (path / "heads").write_bytes(b"rubbish\n" + (path / "heads").read_bytes())
    assert kinds(report(root), Verdict.INVALID) == {"bad_head"}


def test_a_stream_alone_is_read_by_its_directory(stream: Stream) -> None:
    """Its name is the stream's."""
    root, path = stream
    found = judge([read_stream(path, lambda _: None)], Trust())
    assert kinds(found) == {"no_end"}
    moved = root / "other"
    shutil.copytree(path, moved)
    assert kinds(judge([read_stream(moved, lambda _: None)], Trust()), Verdict.INVALID) == {"splice"}
    shutil.copytree(path, root / "no stream")
    with pytest.raises(EvidenceError, match="has not the name of a stream"):
        read_stream(root / "no stream", lambda _: None)


def test_what_is_not_the_spools_own_is_told(stream: Stream) -> None:
    """Files, segments under other names, directories that are no streams, what a pruner never wrote."""
    root, path = stream
    (path / "notes.txt").touch()
    (path / "1.seg").touch()
    (root / "streams" / "not a stream").mkdir()
    (root / "pruned").write_bytes(b"rubbish\n")
    found = report(root)
    assert kinds(found) == {"no_end"}
    assert kinds(found, Verdict.VALID) == {"unknown_file"}
    everything = [*found.findings.kept, *found.streams[0].findings.kept]
    assert len([one for one in everything if one.kind == "unknown_file"]) == 4


def test_the_spools_own_files_are_not_told(stream: Stream) -> None:
    """A cursor, a lock, a reserve, and the temporary file of a cursor that a crash left."""
    root, path = stream
    for name in ("cursor", "reserve", ".cursor.0123456789ab"):
        (path / name).touch()
    assert kinds(report(root), Verdict.VALID) == set()


def test_a_segment_whose_name_is_skipped_is_told(tmp_path: Path) -> None:
    """The records themselves go on: nothing is missing but a number in a name."""
    path, _ = make_stream(tmp_path, records=2)
    segment = path / "00000001.seg"
    lines = segment.read_bytes().splitlines(keepends=True)
    segment.write_bytes(b"".join(lines[:2]))
    (path / "00000003.seg").write_bytes(b"".join(lines[2:]))
    found = report(tmp_path)
    assert found.verdict is Verdict.VALID
    assert kinds(found, Verdict.VALID) == {"segment_gap"}


def test_a_spool_of_which_retention_removes_a_stream_meanwhile_is_read_again(
    stream: Stream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The statement of what went was signed before it went: it is found in the second reading."""
    root, path = stream
    LiveStream(root).end()

    gone = path

    def vanishing(path: Path, **options: bool) -> object:
        if path.suffix == ".seg" and gone.exists():
            shutil.rmtree(gone)
        return opened(path, **options)

    monkeypatch.setattr(reading, "opened", vanishing)
    found = report(root)
    assert found.verdict is Verdict.VALID
    assert len(found.streams) == 1


def test_what_retention_removed_is_listed(tmp_path: Path) -> None:
    """A stream that another names and that the spool's own list says went away: nobody signed that list."""
    first = LiveStream(tmp_path).requests(1)
    first.end()
    head = first.heads[-1]
    LiveStream(tmp_path, known=(f"{first.id} {head.head.number} {head.head.hash}",)).end()
    (tmp_path / "pruned").write_bytes(head.line)
    shutil.rmtree(tmp_path / "streams" / first.id)
    found = report(tmp_path)
    assert kinds(found) == {"missing_stream"}
    assert "which nobody signed" in found.problems()[0].detail


def test_the_bytes_read_are_told(stream: Stream) -> None:
    """Segments and heads, for the progress bar."""
    root, path = stream
    told: list[int] = []
    read_spool(root, told.append)
    assert sum(told) == sum((path / name).stat().st_size for name in ("00000001.seg", "heads"))


def test_what_is_no_spool_is_refused(tmp_path: Path) -> None:
    """With the path."""
    with pytest.raises(EvidenceError, match=str(tmp_path)):
        read_spool(tmp_path, lambda _: None)


def test_heads_kept_elsewhere_are_read_line_by_line(stream: Stream) -> None:
    """As they stand in the spool."""
    _, path = stream
    ((head, place),) = read_heads(path / "heads")
    assert head.head.number == 5
    assert place.line == 1
