"""Retention: what was delivered is kept for a time, and leaves its last head when it goes.

Invariants: only what was delivered, or is not to be, is removed, never a stream's last segment while it may go on.
Before a stream goes, its last head is in the file ``pruned``; before its first segment goes, its
first record is in ``start``. What the records that go say of other streams is said again where that is
still needed. An ``audit.stream.pruned`` record says up to which record, so that what
is missing can be told from what was taken away.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from .. import attributes as attr
from ..attributes import Value
from ..errors import JWTAuditError
from ..spool import durable
from ..spool.segment import SUFFIX
from ..spool.spool import Cursor, Spool, Stream
from ..stream_ends import Last, first_line, last_head, last_of_stream, last_record
from .deadletter import Emit
from .restate import Restate, Statement

PRESSURE = 0.7
"""From this share of the spool's limit on, delivered evidence goes before its time: new records matter more."""
INTERVAL = 10.0
"""Seconds between two passes."""
_REMOVED = ".pruned-"
_BIRTH_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class _Piece:
    """What may be removed: a delivered segment, or, with ``path`` None, a whole stream."""

    time: float
    size: int
    stream: Stream
    path: Path | None


class Pruner:
    """Removes what is past its time. For the holder of ``ship.lock`` alone."""

    def __init__(
        self,
        spool: Spool,
        emit: Emit,
        *,
        cursor: Callable[[Stream], Cursor] = Stream.cursor,
        retention: float,
        limit: int,
        now: Callable[[], float] = time.time,
        kind: str = "delivered",
    ) -> None:
        """``retention``: seconds since a stream's delivery or a segment's last write; ``limit``: bytes of the spool.

        ``cursor`` says how far a stream may be removed, ``kind`` what that is, for the statements.
        """
        self._cursor = cursor
        self._kind = kind
        self._root = spool.root
        self._emit = emit
        self._retention = retention
        self._limit = limit
        self._now = now
        self._done: dict[str, _Piece] = {}
        self._restate = Restate(spool.root)
        self._untold: list[Statement] = []
        self._next = 0.0

    def forget(self) -> None:
        """Another process ships from here on, and prunes: what was seen of the streams may not be so any more."""
        self._done.clear()

    def due(self) -> bool:
        """Whether it is time for a pass."""
        return time.monotonic() >= self._next

    def run(self, streams: list[Stream]) -> None:
        """One pass over the spool. Raises OSError or SpoolError, and then the next pass goes on."""
        self._next = time.monotonic() + INTERVAL
        self._tell()
        used = 0
        pieces: list[_Piece] = []
        for stream in streams:
            size, removable = self._survey(stream)
            used += size
            pieces += removable
        pieces.sort(key=lambda piece: piece.time)
        for piece in pieces:
            if self._now() - piece.time <= self._retention and used < self._limit * PRESSURE:
                break
            self._remove(piece)
            used -= piece.size
        self._sweep()

    def _survey(self, stream: Stream) -> tuple[int, list[_Piece]]:
        """A stream's size and what of it may go."""
        known = self._done.get(stream.id)
        if known is not None:
            return known.size, [known]
        cursor = self._cursor(stream)
        size, latest = 0, 0.0
        segments: list[_Piece] = []
        for entry in stream.path.iterdir():
            try:
                status = entry.stat()
            except FileNotFoundError:
                continue  # a cursor being replaced
            if entry.name.endswith(SUFFIX) or entry.name == "heads":
                size += status.st_size
                latest = max(latest, status.st_mtime)
            if entry.name.endswith(SUFFIX) and entry.name < cursor.segment:
                segments.append(_Piece(status.st_mtime, status.st_size, stream, entry))
        if not cursor.done:
            return size, _in_order(segments)
        path = stream.path / "cursor"
        whole = _Piece(path.stat().st_mtime if path.exists() else latest, size, stream, None)
        self._done[stream.id] = whole
        return size, [whole]

    def _remove(self, piece: _Piece) -> None:
        stream = piece.stream
        if piece.path is not None:
            durable.create(stream.path / "start", first_line(stream).raw)
            self._say_again(stream, [piece.path], whole=False)
            self._say(stream, last_record(piece.path), f"a {self._kind} segment")
            piece.path.unlink(missing_ok=True)
            durable.sync_directory(stream.path)
            return
        head = last_head(stream)
        if head is not None:
            durable.append(self._root / "pruned", head.line)
        self._say_again(stream, stream.segments(), whole=True)
        self._say(stream, last_of_stream(stream), f"a {self._kind} stream")
        # Renamed first: a crash while its files go must not leave half a stream to be found
        hidden = stream.path.with_name(f"{_REMOVED}{stream.id}")
        stream.path.rename(hidden)
        durable.sync_directory(stream.path.parent)
        shutil.rmtree(hidden, ignore_errors=True)
        self._done.pop(stream.id, None)

    def _say_again(self, stream: Stream, paths: list[Path], *, whole: bool) -> None:
        """What records that go now say of other streams, and what is still needed of it."""
        self._untold += self._restate.needed(stream, paths, whole=whole)

    def _say(self, stream: Stream, last: Last, what: str) -> None:
        if not last.number:
            return  # it holds no record
        found: dict[str, Value] = {
            attr.PRUNED_STREAM: stream.id,
            attr.PRUNED_NUMBER: last.number,
            attr.PRUNED_HASH: last.hash,
        }
        body = f"retention removed {what} up to record {last.number}"
        self._untold.append(Statement(attr.EVENT_STREAM_PRUNED, found, body))
        self._tell()

    def _tell(self) -> None:
        """Write what is not yet told. A full spool takes no record until something was removed: then later."""
        try:
            while self._untold:
                told = self._untold[0]
                self._emit(told.event, told.attributes, told.body)
                del self._untold[0]
        except JWTAuditError:
            return

    def _sweep(self) -> None:
        """Clear away what a crash left: streams half removed, and streams that were never born."""
        for path in (self._root / "streams").glob(".*"):
            try:
                old = self._now() - path.stat().st_mtime > _BIRTH_SECONDS
            except FileNotFoundError:
                continue  # just born: it has its name by now
            if path.name.startswith(_REMOVED) or (old and not durable.Lock.held(path / "lock")):
                shutil.rmtree(path, ignore_errors=True)


def _in_order(segments: list[_Piece]) -> list[_Piece]:
    """By their names, none seeming older than the one before it: they may only go from the first on."""
    latest = 0.0
    ordered = []
    for piece in sorted(segments, key=lambda piece: str(piece.path)):
        latest = max(latest, piece.time)
        ordered.append(replace(piece, time=latest))
    return ordered
