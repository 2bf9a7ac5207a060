"""What the store confirmed is on the disk; what it did not confirm leaves no trace."""

from __future__ import annotations

import errno
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from jwt_audit.errors import SpoolError
from jwt_audit.sink.store import Store

NAMES = ("a", "b")


def write(store: Store, lines: dict[str, bytes]) -> OSError | None:
    """Write and wait for the confirmation."""
    answered = threading.Event()
    found: list[OSError | None] = []

    def done(failure: OSError | None) -> None:
        found.append(failure)
        answered.set()

    store.write(lines, done)
    assert answered.wait(60)
    return found[0]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    found = Store(tmp_path / "out", NAMES)
    yield found
    found.close()


def test_lines_are_appended_to_their_files(store: Store, tmp_path: Path) -> None:
    """In order, several files in one request; private to the owner."""
    assert write(store, {"a": b"1\n", "b": b"2\n"}) is None
    assert write(store, {"a": b"3\n"}) is None
    assert (tmp_path / "out" / "a").read_bytes() == b"1\n3\n"
    assert (tmp_path / "out" / "b").read_bytes() == b"2\n"
    assert (tmp_path / "out" / "a").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "out").stat().st_mode & 0o777 == 0o700


def test_many_requests_share_a_sync(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While one sync runs the others gather; each is confirmed once, after its own."""
    syncs: list[int] = []
    real = os.fdatasync
    gate = threading.Event()

    def slow(fd: int) -> None:
        gate.wait(60)
        syncs.append(fd)
        real(fd)

    monkeypatch.setattr(os, "fdatasync", slow)
    confirmed: list[int] = []
    all_done = threading.Event()

    def done(number: int) -> None:
        confirmed.append(number)
        if len(confirmed) == 100:
            all_done.set()

    for number in range(100):
        store.write({"a": b"%d\n" % number}, lambda failure, number=number: done(number))  # type: ignore[misc]
    assert confirmed == []
    gate.set()
    assert all_done.wait(60)
    assert confirmed == list(range(100))
    assert len(syncs) <= 2
    assert (tmp_path / "out" / "a").read_bytes() == b"".join(b"%d\n" % number for number in range(100))


@pytest.mark.parametrize("call", ["write", "fdatasync"])
def test_what_fails_is_said_and_leaves_nothing(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """A full disk in the middle of a line, a sync that fails: cut back, and the next request is whole."""
    assert write(store, {"a": b"1\n"}) is None
    real_write = os.write

    def failing_write(fd: int, data: bytes) -> int:
        if len(data) <= 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real_write(fd, data[:3])

    def failing_sync(fd: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(os, call, {"write": failing_write, "fdatasync": failing_sync}[call])
        failure = write(store, {"a": b"22222\n"})
        assert failure is not None
        assert failure.errno == {"write": errno.ENOSPC, "fdatasync": errno.EIO}[call]
    assert (tmp_path / "out" / "a").read_bytes() == b"1\n"
    assert write(store, {"a": b"3\n"}) is None
    assert (tmp_path / "out" / "a").read_bytes() == b"1\n3\n"


def test_what_could_not_be_cut_back_is_cut_before_the_next_line(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even the cutting failed: nothing is ever glued to the remains."""

    def fail(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fdatasync", fail)
        patched.setattr(os, "ftruncate", fail)
        assert write(store, {"a": b"22222\n"}) is not None
    assert write(store, {"a": b"3\n"}) is None
    assert (tmp_path / "out" / "a").read_bytes() == b"3\n"


@pytest.mark.parametrize("taken", [lambda path: path.rename(path.with_name("a.1")), Path.unlink])
def test_a_file_that_is_taken_away_is_followed_by_a_new_one(
    store: Store, tmp_path: Path, taken: Callable[[Path], object]
) -> None:
    """Log rotation, or somebody who makes room: what is confirmed from then on is in a file of that name."""
    assert write(store, {"a": b"1\n"}) is None
    taken(tmp_path / "out" / "a")
    assert write(store, {"a": b"2\n"}) is None
    assert (tmp_path / "out" / "a").read_bytes() == b"2\n"
    assert (tmp_path / "out" / "a").stat().st_mode & 0o777 == 0o600


def test_what_went_into_a_removed_file_is_not_confirmed(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Removed between the look at its name and the sync."""
    real = os.fdatasync

    def sync(fd: int) -> None:
        real(fd)
        (tmp_path / "out" / "a").unlink()

    with monkeypatch.context() as patched:
        patched.setattr(os, "fdatasync", sync)
        failure = write(store, {"a": b"1\n"})
    assert failure is not None
    assert failure.errno == errno.ENOENT
    assert write(store, {"a": b"1\n"}) is None
    assert (tmp_path / "out" / "a").read_bytes() == b"1\n"


def test_a_directory_that_is_removed_takes_nothing_any_more(
    store: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Also where somebody makes it again: another sink may have its lock. It is told once what to do."""
    shutil.rmtree(tmp_path / "out")
    for _ in range(2):
        failure = write(store, {"a": b"1\n"})
        assert failure is not None
        assert failure.errno == errno.ENOENT
    other = Store(tmp_path / "out", NAMES)
    assert write(store, {"a": b"1\n"}) is not None
    assert write(other, {"a": b"2\n"}) is None
    other.close()
    assert (tmp_path / "out" / "a").read_bytes() == b"2\n"
    assert caplog.messages == [f"{tmp_path / 'out'} was removed: nothing is stored until this is started again"]


@pytest.mark.parametrize(
    ("content", "kept"),
    [
        (b'{"a":1}\n{"b":', b'{"a":1}\n'),
        (b'{"a":1}\n{"b":1}', b'{"a":1}\n'),
        (b'{"a":1}\n\x00\x00\x00', b'{"a":1}\n'),
        (b'{"a":1}\n\x00\x00\x00\n', b'{"a":1}\n'),
        (b'{"a":1}\n{"b"\n{"c"\n', b'{"a":1}\n'),
        (b'{"a":1}\n{"b":2}\n', b'{"a":1}\n{"b":2}\n'),
        (b'{"b":', b""),
        (b"", b""),
        (b'{"a":"%b"}\n{"b"' % (b"x" * 200_000), b'{"a":"%b"}\n' % (b"x" * 200_000)),
        (b'{"a":1}\n{"b":"%b' % (b"x" * 200_000), b'{"a":1}\n'),
    ],
)
def test_a_torn_end_is_cut_at_the_start(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, content: bytes, kept: bytes
) -> None:
    """It was never confirmed; how many bytes it was is said, and not what was in them."""
    (tmp_path / "a").write_bytes(content)
    store = Store(tmp_path, NAMES)
    assert (tmp_path / "a").read_bytes() == kept
    said = [record.getMessage() for record in caplog.records]
    if content == kept:
        assert said == []
    else:
        cut = len(content) - len(kept)
        assert said == [f"{tmp_path / 'a'}: cut {cut} bytes of a write that was interrupted before it was confirmed"]
    assert write(store, {"a": b'{"z":1}\n'}) is None
    store.close()
    assert (tmp_path / "a").read_bytes() == kept + b'{"z":1}\n'


def test_two_sinks_do_not_share_a_directory(store: Store, tmp_path: Path) -> None:
    """The second is told; after the first has closed it may."""
    with pytest.raises(SpoolError, match="another sink is writing"):
        Store(tmp_path / "out", NAMES)


def test_a_directory_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    """By its path and the system's word."""
    (tmp_path / "file").touch()
    with pytest.raises(SpoolError, match="Not a directory"):
        Store(tmp_path / "file" / "out", NAMES)


def test_closing_writes_what_is_queued(tmp_path: Path) -> None:
    """And frees the directory."""
    for number in range(2):
        store = Store(tmp_path / "out", NAMES)
        for _ in range(50):
            store.write({"a": b"%d\n" % number}, lambda _: None)
        store.close()
    assert (tmp_path / "out" / "a").read_bytes() == b"0\n" * 50 + b"1\n" * 50
