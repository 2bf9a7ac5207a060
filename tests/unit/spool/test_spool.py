"""The spool: streams with one writer each, syncs outside the lock, locks that survive forks."""

from __future__ import annotations

import multiprocessing
import subprocess
import sys
from pathlib import Path

import pytest

from jwt_audit.errors import SpoolError
from jwt_audit.spool import durable
from jwt_audit.spool import spool as spool_module
from jwt_audit.spool.segment import read
from jwt_audit.spool.spool import Cursor, Spool, StreamWriter, streams

DIGEST = "0" * 64


def payloads(writer: StreamWriter) -> list[list[bytes]]:
    """What each segment holds, in order."""
    stream = next(stream for stream in streams(writer.path.parent.parent) if stream.path == writer.path)
    return [[line.payload for line in read(path)] for path in stream.segments()]


def sync(writer: StreamWriter, *, done: bool = True) -> None:
    under_way = writer.start_sync()
    assert under_way is not None
    writer.finish_sync(under_way, done=writer.run_sync(under_way) and done)


def test_a_spool_that_cannot_be_made_is_a_domain_error(tmp_path: Path) -> None:
    """A file in the way, with the path in the message."""
    (tmp_path / "file").write_text("")
    with pytest.raises(SpoolError, match="file/spool"):
        Spool(tmp_path / "file" / "spool")


def test_directories_are_for_their_owner_alone(tmp_path: Path) -> None:
    """Records hold personal data."""
    writer = Spool(tmp_path / "s").open_stream("one")
    for path in (tmp_path / "s", tmp_path / "s/streams", writer.path):
        assert path.stat().st_mode & 0o777 == 0o700
    writer.close()


def test_a_large_segment_is_followed_by_another_without_a_sync(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Segments roll in the middle of unsynced records; the next sync covers both."""
    monkeypatch.setattr(spool_module, "SEGMENT_BYTES", 150)
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


def test_a_writer_is_alive_until_it_closes_or_dies(tmp_path: Path) -> None:
    """The kernel says so, by the lock, at any kind of death."""
    code = f"""
import os, signal, sys
from pathlib import Path
from jwt_audit.spool.spool import Spool
writer = Spool(Path({str(tmp_path)!r})).open_stream("one")
print("ready", flush=True)
sys.stdin.readline()
os.kill(os.getpid(), signal.SIGKILL)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        process.stdout.readline()
        (stream,) = streams(tmp_path)
        assert stream.written()
        process.stdin.write(b"\n")
        process.stdin.flush()
        process.wait()
    assert not stream.written()


def _close_in_child(lock: durable.Lock) -> None:
    lock.close()


def test_a_forked_child_that_closes_a_lock_leaves_it_to_its_parent(tmp_path: Path) -> None:
    """flock belongs to the open file; LOCK_UN in the child would have freed it, closing does not."""
    lock = durable.Lock.take(tmp_path / "lock")
    assert lock is not None
    child = multiprocessing.get_context("fork").Process(target=_close_in_child, args=(lock,))
    child.start()
    child.join()
    assert durable.Lock.take(tmp_path / "lock") is None
    lock.close()
    again = durable.Lock.take(tmp_path / "lock")
    assert again is not None
    again.close()


def test_the_cursor_comes_back_and_a_broken_one_starts_anew(tmp_path: Path) -> None:
    """Delivered twice is right, lost is not: what cannot be read counts as nothing delivered."""
    writer = Spool(tmp_path).open_stream("one")
    (stream,) = streams(tmp_path)
    assert stream.cursor() == Cursor()
    cursor = Cursor(segment="00000001.seg", offset=7, number=1, hash=DIGEST, heads=3)
    stream.move_cursor(cursor)
    assert stream.cursor() == cursor
    for rubbish in (b"", b"{", b"[]", b'{"unknown": 1}', b"\xff"):
        (stream.path / "cursor").write_bytes(rubbish)
        assert stream.cursor() == Cursor()
    writer.close()


def test_racing_processes_agree_on_one_key(tmp_path: Path) -> None:
    """By link: whoever is second takes what the first made, whole."""
    spool = Spool(tmp_path)
    assert spool.key(b"first") == b"first"
    assert durable.create(tmp_path / "signing-key.pem", b"second") == b"first"
    assert spool.key(b"third") == b"first"
    assert (tmp_path / "signing-key.pem").stat().st_mode & 0o777 == 0o600
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_the_reserve_is_given_back_once(tmp_path: Path) -> None:
    """FAIL_MODE=closed keeps space for the requests under way."""
    writer = Spool(tmp_path).open_stream("one", reserve=True)
    assert (writer.path / "reserve").stat().st_size == spool_module.RESERVE_BYTES
    assert writer.free_reserve()
    assert not writer.free_reserve()
    assert (writer.path / "reserve").stat().st_size == 0
    assert writer.refill_reserve()
    assert writer.has_reserve
    writer.close()


def test_usage_counts_segments_and_heads(tmp_path: Path) -> None:
    """What the limit is about: evidence, not cursors."""
    spool = Spool(tmp_path)
    writer = spool.open_stream("one")
    writer.append(b"1", DIGEST)
    writer.append_head(b"head\n")
    assert spool.usage() == writer.bytes == len(b"1\t" + DIGEST.encode() + b"\n") + 5
    writer.close()


def test_reading_streams_of_no_spool_is_a_domain_error(tmp_path: Path) -> None:
    """And makes nothing."""
    with pytest.raises(SpoolError, match="cannot read the spool"):
        streams(tmp_path)
    assert not list(tmp_path.iterdir())
