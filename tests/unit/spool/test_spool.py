"""The spool: streams with one writer each, locks that survive forks, cursors, the key."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
from pathlib import Path

import pytest

from jwt_audit.errors import SpoolError
from jwt_audit.spool import durable
from jwt_audit.spool.spool import Spool
from jwt_audit.spool.stream import Cursor, streams

DIGEST = "0" * 64


def test_a_spool_that_cannot_be_made_is_a_domain_error(tmp_path: Path) -> None:
    """A file in the way, with the path in the message."""
    (tmp_path / "file").write_text("")
    with pytest.raises(SpoolError, match="file/spool"):
        Spool(tmp_path / "file" / "spool")


def test_a_spool_that_never_was_is_not_called_gone() -> None:
    """Where no directory can be made, that is said; "gone" is one that was there."""
    with pytest.raises(SpoolError, match="cannot make the spool /proc/nowhere/spool"):
        Spool(Path("/proc/nowhere/spool"))


def test_directories_are_for_their_owner_alone(tmp_path: Path) -> None:
    """Records hold personal data."""
    writer = Spool(tmp_path / "s").open_stream("one")
    for path in (tmp_path / "s", tmp_path / "s/streams", writer.path):
        assert path.stat().st_mode & 0o777 == 0o700
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
        assert stream.writer() is durable.LockState.HELD
        process.stdin.write(b"\n")
        process.stdin.flush()
        process.wait()
    assert stream.writer() is durable.LockState.FREE


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


def test_nobody_else_may_replace_a_spool_that_was_made_here(tmp_path: Path) -> None:
    """Whatever the umask is, as 0 in some containers: what is made on the way to the spool is the user's own too."""
    before = os.umask(0)
    try:
        Spool(tmp_path / "jwt-audit-65534" / "state" / "orders").make()
    finally:
        os.umask(before)
    made = [path for path in tmp_path.rglob("*") if path.is_dir()]
    assert len(made) == 4
    assert {path.stat().st_mode & 0o777 for path in made} == {0o700}
