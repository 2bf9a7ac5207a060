"""An error is a third answer: at whatever system call it comes, nothing living is taken for dead, nothing goes."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

import pytest

from jwt_audit.cli.status import look
from jwt_audit.errors import JWTAuditError
from jwt_audit.ship import shipper as shippers
from jwt_audit.ship.answers import Answer
from jwt_audit.ship.backlog import undelivered
from jwt_audit.ship.http import Endpoint
from jwt_audit.ship.shipper import Shipper
from jwt_audit.ship.turn import Turn, holder
from jwt_audit.spool import disk
from jwt_audit.spool.durable import Lock, LockState
from jwt_audit.spool.spool import Spool
from jwt_audit.spool.stream import Cursor, Stream
from jwt_audit.stream_start import known_streams
from support.shipping import Shipping
from support.spools import LiveStream, make_stream

CODES = (errno.EMFILE, errno.EIO, errno.EACCES, errno.ENOSPC)
CALLS = tuple(name for name in disk.CALLS if name not in ("close", "seek"))


class Accepting:
    """In the place of the HTTP client: takes everything."""

    def __init__(self, *_: object) -> None:
        self.bodies: list[bytes] = []

    def post(self, body: bytes, *, timeout: float | None = None) -> Answer:
        self.bodies.append(body)
        return Answer(200, rejected=0)

    def close(self) -> None:
        pass


class Spooled:
    """A spool with a living stream, one that a killed process left, and a delivered one; and who ships it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.live = LiveStream(root)
        self.live.requests(3)
        self.dead, _ = make_stream(root, records=3, end=False)
        self.done, _ = make_stream(root, records=3)
        Stream(self.done).move_cursor(Cursor("00000001.seg", 9, 5, "0" * 64, ended=True, done=True))
        self.said = Shipping()
        self.shipper = Shipper(
            Spool(root),
            Endpoint("http://receiver", "http/json"),
            emit=self.said.emit,
            settle=self.said.settle,
            suppress=nullcontext,
            warn_operator=self.said.warn_operator,
            retention=-1,
        )

    def ship(self) -> None:
        self.shipper.once()


OPERATIONS: dict[str, Callable[[Spooled], Any]] = {
    "ship": Spooled.ship,
    "status": lambda made: look(Stream(made.live.path), 0.0),
    "undelivered": lambda made: undelivered(Stream(made.dead)),
    "known": lambda made: known_streams(Spool(made.root)),
    "usage": lambda made: Spool(made.root).usage(),
    "holder": lambda made: holder(made.root),
    "turn": lambda made: Turn(Spool(made.root), sidecar=False, limit=1).wanted(),
    "append": lambda made: made.live.request(),
}


def at_each(monkeypatch: pytest.MonkeyPatch, name: str, nth: int, code: int) -> list[int]:
    """Have the ``nth`` call of that name fail; the list counts them."""
    real = getattr(disk, name)
    count: list[int] = []

    def call(*args: Any, **options: Any) -> Any:
        count.append(1)
        if len(count) == nth:
            raise OSError(code, os.strerror(code))
        return real(*args, **options)

    monkeypatch.setattr(disk, name, call)
    return count


@pytest.mark.parametrize("code", CODES, ids=errno.errorcode.get)
@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("operation", OPERATIONS)
def test_an_error_is_never_an_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, operation: str, name: str, code: int
) -> None:
    """One failing call of each kind at each place of each operation; all that it may do is raise."""
    monkeypatch.setattr(shippers, "Poster", Accepting)
    for nth in (1, 2, 4, 9):
        made = Spooled(tmp_path / str(nth))
        found: Any = None
        with monkeypatch.context() as patched:
            count = at_each(patched, name, nth, code)
            with suppress(OSError, JWTAuditError):
                found = OPERATIONS[operation](made)
        assert made.live.path.is_dir()
        assert not Stream(made.live.path).cursor().done, "a living stream was taken for dead"
        assert made.dead.is_dir() or operation == "ship"
        if operation == "undelivered":
            assert found in (True, None), "what waits was said to be delivered"
        if operation == "turn":
            assert found in (False, None), "a turn was given back to nobody"
        if operation == "status" and found is not None:
            assert found.writer in ("alive", "unknown")
        if operation == "ship":
            recovered = [one["audit.recovered.stream_id"] for one in made.said.events("audit.stream.recovered")]
            assert made.live.id not in recovered
        made.live.close()
        if len(count) < nth:
            break


@pytest.mark.parametrize("code", CODES, ids=errno.errorcode.get)
@pytest.mark.parametrize("name", ["open", "flock"])
def test_a_lock_has_three_states(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, code: int) -> None:
    """Held, free, and what cannot be told; a stream whose lock's file was removed may be written all the same."""
    path = tmp_path / "lock"
    assert Lock.state(path) is LockState.FREE
    lock = Lock.take(path)
    assert lock is not None
    assert Lock.state(path) is LockState.HELD
    with monkeypatch.context() as patched:
        at_each(patched, name, 1, code)
        assert Lock.state(path) is LockState.UNKNOWN
    lock.close()
    assert Lock.state(path) is LockState.FREE
    live = LiveStream(tmp_path / "spool")
    (live.path / "lock").unlink()
    assert Stream(live.path).writer() is LockState.UNKNOWN
    live.close()
