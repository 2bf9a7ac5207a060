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


def confirmed(directory: Path, *lines: bytes) -> None:
    """A directory as a sink leaves it that confirmed ``lines`` of ``a``."""
    store = Store(directory, NAMES)
    for line in lines:
        assert write(store, {"a": line}) is None
    store.close()


LINE = b'{"a":1}\n'


@pytest.mark.parametrize("torn", [b'{"b":', b'{"b":1}', b"\x00\x00\x00", b'{"b":"%b' % (b"x" * 3_000_000)])
def test_an_interrupted_write_is_kept_beside(tmp_path: Path, caplog: pytest.LogCaptureFixture, torn: bytes) -> None:
    """It was never confirmed; where it is now is said, and not what is in it. A second one gets a name of its own."""
    confirmed(tmp_path, LINE)
    for number in (1, 2):
        with (tmp_path / "a").open("ab") as file:
            file.write(torn)
        store = Store(tmp_path, NAMES)
        assert (tmp_path / "a").read_bytes() == LINE * number
        assert (tmp_path / f"a.unconfirmed-{number}").read_bytes() == torn
        assert caplog.messages[number - 1] == (
            f"{tmp_path / 'a'}: the last {len(torn)} bytes are of a write that was interrupted before it was "
            f"confirmed; they are in a.unconfirmed-{number} now"
        )
        assert write(store, {"a": LINE}) is None
        store.close()
    assert (tmp_path / "a").read_bytes() == LINE * 3


@pytest.mark.parametrize("rest", [b"", b"{}\n", b"\x00\n", b"no JSON\n"])
def test_whole_lines_stay(tmp_path: Path, caplog: pytest.LogCaptureFixture, rest: bytes) -> None:
    """Written and not confirmed, or changed afterwards: whatever they say, the sink is no judge of lines."""
    confirmed(tmp_path, LINE, LINE)
    (tmp_path / "a").write_bytes(LINE + LINE.replace(b"1", b"]") + rest)
    Store(tmp_path, NAMES).close()
    assert (tmp_path / "a").read_bytes() == LINE + LINE.replace(b"1", b"]") + rest
    assert caplog.messages == []


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"x" * 1800, "does not begin as this sink began it"),
        (b"", None),
        (LINE, "lacks 8 bytes that were confirmed"),
        (LINE + LINE[:-1] + b" ", "was changed after it was confirmed"),
        (LINE + LINE[:-1] + b' {"torn', "was changed after it was confirmed"),
        (b"[" + LINE[1:] + LINE, "does not begin as this sink began it"),
    ],
)
def test_a_file_that_is_not_as_the_sink_left_it_is_not_touched(
    tmp_path: Path, content: bytes, said: str | None
) -> None:
    """The sink does not start then, and says which file; an empty one may be log rotation's."""
    confirmed(tmp_path, LINE, LINE)
    (tmp_path / "a").write_bytes(content)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    if said is None:
        confirmed(tmp_path, LINE)
        assert (tmp_path / "a").read_bytes() == LINE
        return
    with pytest.raises(SpoolError, match=f"{tmp_path / 'a'} {said}.*: move it away"):
        Store(tmp_path, NAMES)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    (tmp_path / "a").rename(tmp_path / "moved")
    confirmed(tmp_path, LINE)


@pytest.mark.parametrize(
    "state", [None, b"", b"[]", b'{"confirmed":"0","start":""}', b'{"start":"zz","confirmed":"1"}']
)
def test_a_file_that_the_sink_did_not_begin_is_not_touched(tmp_path: Path, state: bytes | None) -> None:
    """Without a state beside it that says otherwise, it is somebody else's: JSON or not, torn or not."""
    (tmp_path / "a").write_bytes(LINE + b'{"torn')
    if state is not None:
        (tmp_path / "a.state").write_bytes(state)
    with pytest.raises(SpoolError, match="move it away, or give another directory"):
        Store(tmp_path, NAMES)
    assert (tmp_path / "a").read_bytes() == LINE + b'{"torn'


def test_a_moved_directory_is_still_the_sinks_own(tmp_path: Path) -> None:
    """Copied to another disk, say: a file is known by what it begins with."""
    confirmed(tmp_path / "old", LINE)
    shutil.copytree(tmp_path / "old", tmp_path / "new")
    confirmed(tmp_path / "new", LINE)
    assert (tmp_path / "new" / "a").read_bytes() == LINE * 2


def test_what_others_do_to_a_file_is_seen_before_it_is_written(
    tmp_path: Path, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    """Lines of somebody else in it, or another file in its place: nothing is confirmed and nothing changed."""
    path = tmp_path / "out" / "a"
    assert write(store, {"a": LINE}) is None
    with path.open("ab") as file:
        file.write(b"mine\n")
    for _ in range(2):
        assert write(store, {"a": LINE}) is not None
    assert path.read_bytes() == LINE + b"mine\n"
    path.rename(tmp_path / "moved")
    assert write(store, {"a": LINE}) is None
    path.unlink()
    path.write_bytes(b"mine\n")
    assert write(store, {"a": LINE}) is not None
    assert path.read_bytes() == b"mine\n"
    assert write(store, {"b": LINE}) is None
    assert caplog.messages == [
        f"{path} was changed by somebody else while the sink was writing it: nothing is stored in it; move it away"
    ]


def test_a_file_that_is_emptied_is_begun_anew(tmp_path: Path) -> None:
    """As log rotation does with ``copytruncate``: no hole is left where the lines were."""
    store = Store(tmp_path / "out", NAMES)
    assert write(store, {"a": LINE * 9}) is None
    os.truncate(tmp_path / "out" / "a", 0)
    assert write(store, {"a": LINE}) is None
    assert (tmp_path / "out" / "a").read_bytes() == LINE
    store.close()
    confirmed(tmp_path / "out", LINE)
    assert (tmp_path / "out" / "a").read_bytes() == LINE * 2


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
