"""What the ends of a stream's files tell."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from jwt_audit.spool import writer as segments
from jwt_audit.spool.segment import segment_name
from jwt_audit.spool.stream import Stream
from jwt_audit.stream_ends import Last, last_head, last_of_stream
from support.spools import LiveStream, make_stream


def test_the_last_record_and_head_are_found(tmp_path: Path) -> None:
    """With and without an end."""
    stream = LiveStream(tmp_path)
    stream.request()
    signed = stream.head()
    stream.request()
    stream.close()
    assert last_of_stream(Stream(stream.path)) == Last(3, stream.position.hash, False, stream.now)
    assert last_head(Stream(stream.path)) == signed
    path, _ = make_stream(tmp_path, records=5)
    assert (last_of_stream(Stream(path)).number, last_of_stream(Stream(path)).ended) == (7, True)


@pytest.mark.parametrize("damage", ["torn", "flipped", "zeroed"])
def test_what_is_not_whole_is_passed_over(tmp_path: Path, damage: str) -> None:
    """The last record is the last whole one; the same for heads."""
    path, _ = make_stream(tmp_path, records=4, end=False, head_every=2)
    for name, good in ((segment_name(1), 4), ("heads", 2)):
        file = path / name
        data = bytearray(file.read_bytes())
        if damage == "torn":
            data = data[:-3]
        elif damage == "flipped":
            data[-100] ^= 1
        else:
            data[-80:] = bytes(80)
        file.write_bytes(data)
        stream = Stream(path)
        head = last_head(stream)
        assert head is not None
        assert (last_of_stream(stream).number if name != "heads" else head.head.number) == good


def test_an_empty_last_segment_leads_to_the_one_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A writer died right after it had begun a new one."""
    monkeypatch.setattr(segments, "SEGMENT_BYTES", 4000)
    path, _ = make_stream(tmp_path, records=9, end=False)
    index = len(Stream(path).segments()) + 1
    (path / segment_name(index)).touch()
    assert last_of_stream(Stream(path)).number == 10


def test_nothing_is_there(tmp_path: Path) -> None:
    """No file, an empty one, one without a newline."""
    (tmp_path / "s").mkdir()
    stream = Stream(tmp_path / "s")
    assert last_of_stream(stream) == Last()
    assert last_head(stream) is None
    (tmp_path / "s" / "heads").write_bytes(b"abc")
    (tmp_path / "s" / segment_name(1)).write_bytes(b"abc")
    assert last_of_stream(stream) == Last()
    assert last_head(stream) is None


def test_a_file_larger_than_what_is_read_of_it(tmp_path: Path) -> None:
    """The line that the reading begins in the middle of is not taken for a whole one."""
    path, _ = make_stream(tmp_path, records=600, end=False, head_every=2000)
    segment = path / segment_name(1)
    assert segment.stat().st_size > 600 * 1024
    assert last_of_stream(Stream(path)).number == 601
    os.truncate(segment, segment.stat().st_size - 1)
    assert last_of_stream(Stream(path)).number == 600
