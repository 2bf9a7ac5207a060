"""A stream's writer: segments that roll, syncs outside the lock, the reserve."""

from __future__ import annotations

from pathlib import Path

import pytest

from jwt_audit.spool import writer as writer_module
from jwt_audit.spool.segment import read
from jwt_audit.spool.spool import Spool, streams
from jwt_audit.spool.writer import StreamWriter

DIGEST = "0" * 64


def payloads(writer: StreamWriter) -> list[list[bytes]]:
    """What each segment holds, in order."""
    stream = next(stream for stream in streams(writer.path.parent.parent) if stream.path == writer.path)
    return [[line.payload for line in read(path)] for path in stream.segments()]


def sync(writer: StreamWriter, *, done: bool = True) -> None:
    under_way = writer.start_sync()
    assert under_way is not None
    writer.finish_sync(under_way, done=writer.run_sync(under_way) and done)


def test_a_large_segment_is_followed_by_another_without_a_sync(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Segments roll in the middle of unsynced records; the next sync covers both."""
    monkeypatch.setattr(writer_module, "SEGMENT_BYTES", 150)
    writer = Spool(tmp_path).open_stream("one")
    for number in range(1, 6):
        assert writer.append(b"%d" % number, DIGEST) == number
    assert payloads(writer) == [[b"1", b"2", b"3"], [b"4", b"5"]]
    sync(writer)
    assert writer.start_sync() is None
    writer.close()


def test_after_a_failed_sync_unsynced_records_are_written_again(tmp_path: Path) -> None:
    """The kernel may have dropped the pages: a new segment holds what the last good sync did not cover."""
    writer = Spool(tmp_path).open_stream("one")
    writer.append(b"1", DIGEST)
    sync(writer)
    writer.append(b"2", DIGEST)
    writer.append(b"3", DIGEST)
    sync(writer, done=False)
    sync(writer)
    assert payloads(writer) == [[b"1", b"2", b"3"], [b"2", b"3"]]
    writer.append(b"4", DIGEST)
    assert payloads(writer)[-1] == [b"2", b"3", b"4"]
    writer.close()


def test_a_sync_covers_what_was_there_when_it_began(tmp_path: Path) -> None:
    """Records appended while the disk works stay unsynced."""
    writer = Spool(tmp_path).open_stream("one")
    writer.append(b"1", DIGEST)
    first = writer.start_sync()
    writer.append(b"2", DIGEST)
    assert first is not None
    assert first.upto == 1
    writer.finish_sync(first, done=writer.run_sync(first))
    second = writer.start_sync()
    assert second is not None
    assert second.upto == 2
    writer.finish_sync(second, done=writer.run_sync(second))
    writer.close()


def test_a_second_writer_of_a_stream_is_refused(tmp_path: Path) -> None:
    """One stream, one writer: by name and by lock."""
    spool = Spool(tmp_path)
    writer = spool.open_stream("one")
    with pytest.raises(OSError, match=r"File exists|not empty"):
        spool.open_stream("one")
    assert writer.path.is_dir()
    writer.close()


def test_the_reserve_is_given_back_once(tmp_path: Path) -> None:
    """FAIL_MODE=closed keeps space for the requests under way."""
    writer = Spool(tmp_path).open_stream("one", reserve=True)
    assert (writer.path / "reserve").stat().st_size == writer_module.RESERVE_BYTES
    assert writer.free_reserve()
    assert not writer.free_reserve()
    assert (writer.path / "reserve").stat().st_size == 0
    assert writer.refill_reserve()
    assert writer.has_reserve
    writer.close()
