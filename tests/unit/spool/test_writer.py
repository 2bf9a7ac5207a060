"""A stream's writer: segments that roll, syncs outside the lock, syncs that fail, the reserve."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from jwt_audit.spool import disk
from jwt_audit.spool import writer as writer_module
from jwt_audit.spool.segment import read
from jwt_audit.spool.spool import Spool
from jwt_audit.spool.stream import Extent, Stream, streams
from jwt_audit.spool.writer import StreamWriter
from support.failing import failing

DIGEST = "0" * 64


def payloads(writer: StreamWriter) -> list[list[bytes]]:
    """What each segment holds, in order."""
    stream = next(stream for stream in streams(writer.path.parent.parent) if stream.path == writer.path)
    return [[line.payload for line in read(path)] for path in stream.segments()]


def sync(writer: StreamWriter) -> bool:
    under_way = writer.start_sync()
    assert under_way is not None
    done = writer.run_sync(under_way)
    writer.finish_sync(under_way)
    return done


def synced(writer: StreamWriter) -> tuple[int, int]:
    extent = Stream(writer.path).synced()
    return extent.segment, extent.offset


def test_a_segment_is_followed_by_another_when_all_of_it_is_synced(tmp_path: Path) -> None:
    """Else a power loss could take the end of one and leave the next: records without those before them."""
    writer = Spool(tmp_path).open_stream("one", segment_bytes=150)
    for number in range(1, 6):
        writer.append(b"%d" % number, DIGEST)
    assert payloads(writer) == [[b"1", b"2", b"3", b"4", b"5"]]
    assert synced(writer) == (0, 0)
    assert sync(writer)
    assert synced(writer) == (1, 335)
    assert writer.start_sync() is None
    writer.append(b"6", DIGEST)
    assert payloads(writer)[1:] == [[b"6"]]
    writer.close()


def test_what_comes_while_a_full_segment_is_synced_is_synced_with_it(tmp_path: Path) -> None:
    """So that a busy stream begins new segments, too."""
    writer = Spool(tmp_path).open_stream("one", segment_bytes=100)
    for number in range(1, 3):
        writer.append(b"%d" % number, DIGEST)
    assert sync(writer)
    writer.append(b"3", DIGEST)
    writer.append(b"4", DIGEST)
    under_way = writer.start_sync()
    assert under_way is not None
    writer.append(b"5", DIGEST)
    assert writer.run_sync(under_way)
    writer.finish_sync(under_way)
    assert synced(writer) == (2, 201)
    writer.append(b"6", DIGEST)
    assert payloads(writer) == [[b"1", b"2"], [b"3", b"4", b"5"], [b"6"]]
    writer.close()


def test_after_a_failed_sync_the_segment_is_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel may have dropped its pages. Each record stands in one place, and none counts too early."""
    writer = Spool(tmp_path).open_stream("one")
    writer.append(b"1", DIGEST)
    assert sync(writer)
    writer.append(b"2", DIGEST)
    before = (writer.path / "00000001.seg").stat().st_ino
    with monkeypatch.context() as patched:
        patched.setattr(disk, "datasync", failing())
        patched.setattr(disk, "fsync", failing())
        for number in (3, 4, 5):
            assert not sync(writer)
            writer.append(b"%d" % number, DIGEST)
            assert payloads(writer) == [[b"%d" % n for n in range(1, number + 1)]]
            assert synced(writer) == (1, 67)
    again = writer.start_sync()
    assert again is not None
    assert not writer.run_sync(again)
    writer.append(b"6", DIGEST)  # while it is made
    writer.finish_sync(again)
    assert (writer.path / "00000001.seg").stat().st_ino != before
    assert synced(writer) == (1, 67)
    assert sync(writer)
    assert payloads(writer) == [[b"%d" % n for n in range(1, 7)]]
    assert synced(writer) == (1, 402)
    writer.append(b"7", DIGEST)
    assert payloads(writer)[-1][-1] == b"7"
    writer.close()


def test_a_head_that_could_not_be_synced_spoils_none_after_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file of heads is made anew as well."""
    writer = Spool(tmp_path).open_stream("one")
    writer.append_head(b"first\n")
    with monkeypatch.context() as patched:
        patched.setattr(disk, "datasync", failing())
        with pytest.raises(OSError, match="Input/output"):
            writer.append_head(b"second\n")
    assert Stream(writer.path).synced().heads == 6
    before = (writer.path / "heads").stat().st_ino
    writer.append_head(b"third\n")
    assert (writer.path / "heads").read_bytes() == b"first\nsecond\nthird\n"
    assert (writer.path / "heads").stat().st_ino != before
    assert Stream(writer.path).synced().heads == 19
    writer.close()


def test_an_end_that_is_not_known_takes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A write that failed may have written all the same; while the file cannot be cut back, nothing follows."""
    writer = Spool(tmp_path).open_stream("one")
    writer.append(b"1", DIGEST)
    whole = disk.write

    def writes_and_fails(fd: int, data: bytes) -> int:
        whole(fd, data)
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(disk, "write", writes_and_fails)
        patched.setattr(disk, "truncate", failing())
        with pytest.raises(OSError, match="Input/output"):
            writer.append(b"ghost", DIGEST)
        patched.setattr(disk, "write", whole)
        with pytest.raises(OSError, match="Input/output"):
            writer.append(b"2", DIGEST)
        assert payloads(writer) == [[b"1", b"ghost"]]
        assert not sync(writer)  # which makes it anew
        assert payloads(writer) == [[b"1"]]
        writer.append(b"2", DIGEST)
    assert payloads(writer) == [[b"1", b"2"]]
    writer.close()


def test_without_a_descriptor_a_segment_takes_more_than_its_share(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other threads of the process may have used them up: it still records, syncs and signs."""
    writer = Spool(tmp_path).open_stream("one", segment_bytes=10)
    writer.append(b"1", DIGEST)
    assert sync(writer)
    with monkeypatch.context() as patched:
        patched.setattr(disk, "open", failing(errno.EMFILE))
        writer.append(b"2", DIGEST)
        assert sync(writer)
        writer.append_head(b"head\n")
    writer.append(b"3", DIGEST)
    assert payloads(writer) == [[b"1", b"2"], [b"3"]]
    writer.close()


def test_what_no_disk_syncs_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is kept in memory: past a limit records are refused, until the disk syncs again."""
    monkeypatch.setattr(writer_module, "UNSYNCED_BYTES", 300)
    writer = Spool(tmp_path).open_stream("one", segment_bytes=100)
    with monkeypatch.context() as patched:
        patched.setattr(disk, "datasync", failing())
        for _ in range(5):
            writer.append(b"x", DIGEST)
        with pytest.raises(OSError, match="nothing could be synced"):
            writer.append(b"x", DIGEST)
    assert sync(writer)
    writer.append(b"y", DIGEST)
    assert payloads(writer) == [[b"x"] * 5, [b"y"]]
    writer.close()


def test_a_sync_covers_what_was_there_when_it_began(tmp_path: Path) -> None:
    """Records appended while the disk works stay unsynced."""
    writer = Spool(tmp_path).open_stream("one")
    writer.append(b"1", DIGEST)
    first = writer.start_sync()
    writer.append(b"2", DIGEST)
    assert first is not None
    assert writer.run_sync(first)
    writer.finish_sync(first)
    assert synced(writer) == (1, 67)
    assert sync(writer)
    assert synced(writer) == (1, 134)
    writer.close()


def test_the_first_record_is_kept_aside_while_there_is_room(tmp_path: Path) -> None:
    """From the second segment on: when retention removes the first one, the disk may be full."""
    writer = Spool(tmp_path).open_stream("one", segment_bytes=100)
    writer.append(b"1", DIGEST)
    assert sync(writer)
    assert not (writer.path / "start").exists()
    writer.append(b"2", DIGEST)
    assert sync(writer)
    writer.append(b"3", DIGEST)
    assert sync(writer)
    assert (writer.path / "start").read_bytes() == b"1\t%b\n" % DIGEST.encode()
    writer.close()


@pytest.mark.parametrize("line", [b"", b"\n", b"1 2 3 4\n", Extent(1, 2, 3).line[:-1], Extent(1, 2, 3).line + b"x"])
def test_half_a_word_of_the_writer_is_none(line: bytes) -> None:
    """A reader may meet the writer at the same line."""
    assert Extent.parse(line) is None
    assert Extent.parse(Extent(1, 2, 3).line) == Extent(1, 2, 3)
    mixed = Extent(1, 999, 3).line[:27] + Extent(1, 1000, 3).line[27:]
    assert Extent.parse(mixed) is None


def test_a_second_writer_of_a_stream_is_refused(tmp_path: Path) -> None:
    """One stream, one writer: by name and by lock."""
    spool = Spool(tmp_path)
    writer = spool.open_stream("one")
    with pytest.raises(OSError, match=r"File exists|not empty"):
        spool.open_stream("one")
    assert writer.path.is_dir()
    writer.close()


def test_the_reserve_is_given_back_once(tmp_path: Path) -> None:
    """Space for what must be written when the disk is full."""
    writer = Spool(tmp_path).open_stream("one")
    assert (writer.path / "reserve").stat().st_size == writer_module.RESERVE_BYTES
    assert writer.free_reserve()
    assert not writer.free_reserve()
    assert (writer.path / "reserve").stat().st_size == 0
    assert writer.refill_reserve()
    assert writer.has_reserve
    writer.close()
