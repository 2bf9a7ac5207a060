"""Retention: what was delivered is kept for a time, and leaves its last head when it goes.

Invariants: only what was delivered, or is not to be, is removed, never a stream's last segment while it may go on, and
nothing of which anything cannot be told. An ``audit.stream.pruned`` record says up to which record,
and is signed before anything goes: what is missing can be told from what was taken away, whenever
the process is killed. What the records that go say of other streams is said again, signed too, where
that is still needed. Before a stream goes, its last head is in the file ``pruned`` where that takes
it; before its first segment goes, its first record is in ``start``. Of very many streams a pass does
a part, so that delivery does not wait.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from .. import attributes as attr
from ..attributes import Value
from ..errors import JWTAuditError, SpoolError
from ..spool import disk, durable
from ..spool.durable import LockState
from ..spool.segment import SUFFIX, segment_index
from ..spool.spool import Spool
from ..spool.stream import Cursor, Stream
from ..stream_ends import Last, first_line, last_head, last_of_stream, last_record
from .deadletter import Emit, Settle
from .restate import Restate

PRESSURE = 0.7
"""From this share of the room that there is, delivered evidence goes before its time: new records matter more."""
INTERVAL = 10.0
"""Seconds between two passes."""
MAX_PIECES = 256
"""Removed in one pass at most; the next one follows at once."""
_HURRY_SECONDS = 1.0
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
        settle: Settle,
        *,
        cursor: Callable[[Stream], Cursor],
        retention: float,
        limit: int,
        now: Callable[[], float] = time.time,
        kind: str = "delivered",
    ) -> None:
        """``retention``: seconds since a stream's delivery or a segment's last write; ``limit``: bytes of the spool.

        ``cursor`` says how far a stream may be removed, also where a full disk takes no cursor; ``kind`` what
        that is, for the statements.
        """
        self._root = spool.root
        self._emit = emit
        self._settle = settle
        self._cursor = cursor
        self._kind = kind
        self._retention = retention
        self._limit = limit
        self._now = now
        self._done: dict[str, _Piece] = {}
        self._stated: set[tuple[str, str]] = set()
        """What was stated and could not be removed yet."""
        self._restate = Restate(spool.root)
        self._next = 0.0

    def forget(self) -> None:
        """Another process ships from here on, and prunes: what was seen of the streams may not be so any more."""
        self._done.clear()

    def due(self) -> bool:
        """Whether it is time for a pass."""
        return time.monotonic() >= self._next

    def hurry(self) -> None:
        """The spool is full: do not wait for long."""
        self._next = min(self._next, time.monotonic() + _HURRY_SECONDS)

    def run(self, streams: list[Stream]) -> None:
        """One pass over the spool. Raises OSError or SpoolError of the first part that it could not do."""
        self._next = time.monotonic() + INTERVAL
        failures: list[Exception] = []
        used = sum(durable.size(self._root / name) or 0 for name in ("dead-letter", "pruned"))
        pieces: list[_Piece] = []
        for stream in streams:
            try:
                size, removable = self._survey(stream)
            except FileNotFoundError:
                continue  # it has just gone
            except (OSError, JWTAuditError) as error:
                failures.append(error)
                continue
            used += size
            pieces += removable
        room = min(self._limit, used + durable.free(self._root)) * PRESSURE
        chosen: list[_Piece] = []
        for piece in sorted(pieces, key=lambda piece: piece.time):
            if self._now() - piece.time <= self._retention and used < room:
                break
            if len(chosen) == MAX_PIECES:
                self._next = 0.0
                break
            chosen.append(piece)
            used -= piece.size
        self._remove_all(chosen, failures)
        self._sweep()
        if failures:
            raise failures[0]

    def _survey(self, stream: Stream) -> tuple[int, list[_Piece]]:
        """A stream's size and what of it may go. Raises OSError, SpoolError."""
        known = self._done.get(stream.id)
        if known is not None:
            return known.size, [known]
        cursor = self._cursor(stream)
        size, latest, delivered = 0, 0.0, 0.0
        segments: list[_Piece] = []
        last = ""
        for name in disk.listdir(stream.path):
            if not (name.endswith(SUFFIX) or name in ("heads", "cursor")):
                continue
            status = disk.stat(stream.path / name)
            if name == "cursor":
                delivered = status.st_mtime
            else:
                size += status.st_size
                latest = max(latest, status.st_mtime)
            if segment_index(name) and status.st_size:
                last = max(last, name)
            if segment_index(name) and name < cursor.segment:
                segments.append(_Piece(status.st_mtime, status.st_size, stream, stream.path / name))
        if not cursor.done:
            # The last that holds records stays: a first record alone would look as if all else was cut off
            return size, _in_order([piece for piece in segments if piece.path is None or piece.path.name < last])
        whole = _Piece(delivered or latest, size, stream, None)
        self._done[stream.id] = whole
        return size, [whole]

    def _remove_all(self, pieces: list[_Piece], failures: list[Exception]) -> None:
        """State what goes, have it signed, and remove it. What fails is left, and told in ``failures``."""
        stated: list[_Piece] = []
        for piece in pieces:
            try:
                self._state(piece)
            except (OSError, JWTAuditError) as error:
                failures.append(error)
                break  # no room for a statement, or nothing can be read: nothing more goes
            stated.append(piece)
        if not stated:
            return
        if not self._settle():
            failures.append(SpoolError("what retention is to remove could not be stated under a signature"))
            return
        stuck: set[str] = set()
        for piece in stated:
            if piece.stream.id in stuck:
                continue  # its segments go from the first on
            try:
                self._remove(piece)
            except (OSError, JWTAuditError) as error:
                failures.append(error)
                stuck.add(piece.stream.id)

    def _state(self, piece: _Piece) -> None:
        """Raises JWTAuditError."""
        key = piece.stream.id, "" if piece.path is None else piece.path.name
        if key in self._stated:
            return
        stream, whole = piece.stream, piece.path is None
        if piece.path is None:
            paths, last, what = stream.segments(), last_of_stream(stream), f"a {self._kind} stream"
        else:
            paths, last, what = [piece.path], last_record(piece.path), f"a {self._kind} segment"
        for said in self._restate.needed(stream, paths, whole=whole):
            self._emit(said.event, said.attributes, said.body)
        if last.number:  # else it holds no record
            self._emit(attr.EVENT_STREAM_PRUNED, *_statement(stream, last, what))
        self._stated.add(key)

    def _remove(self, piece: _Piece) -> None:
        """Raises OSError, SpoolError."""
        stream = piece.stream
        if piece.path is not None:
            self._keep_start(stream)
            disk.unlink(piece.path)
            durable.sync_directory(stream.path)
            self._stated.discard((stream.id, piece.path.name))
            return
        head = last_head(stream)
        if head is not None:
            try:
                durable.append(self._root / "pruned", head.line)
            except OSError:
                pass  # on a full disk: the signed record says the same, and what is removed makes room
        # Renamed first: a crash while its files go must not leave half a stream to be found
        hidden = stream.path.with_name(f"{_REMOVED}{stream.id}")
        disk.rename(stream.path, hidden)
        durable.sync_directory(stream.path.parent)
        self._done.pop(stream.id, None)
        self._stated.discard((stream.id, ""))
        durable.remove_tree(hidden)  # what is left of it is swept

    def _keep_start(self, stream: Stream) -> None:
        path = stream.path / "start"
        if durable.exists(path):
            return
        line = first_line(stream)
        if line is None:
            raise SpoolError(f"the stream {stream.id} has no first record")
        durable.create(path, line.raw)

    def _sweep(self) -> None:
        """Clear away what a crash left: streams half removed, and streams that were never born."""
        for name in disk.directories(self._root / "streams"):
            path = self._root / "streams" / name
            if not name.startswith("."):
                continue
            try:
                old = self._now() - disk.stat(path).st_mtime > _BIRTH_SECONDS
                unborn = old and durable.Lock.state(path / "lock") is LockState.FREE
                if name.startswith(_REMOVED) or unborn:
                    durable.remove_tree(path)
            except OSError:
                continue  # just born, and so under another name by now; or it is tried again


def _statement(stream: Stream, last: Last, what: str) -> tuple[dict[str, Value], str]:
    found: dict[str, Value] = {
        attr.PRUNED_STREAM: stream.id,
        attr.PRUNED_NUMBER: last.number,
        attr.PRUNED_HASH: last.hash,
    }
    return found, f"retention removed {what} up to record {last.number}"


def _in_order(segments: list[_Piece]) -> list[_Piece]:
    """By their names, none seeming older than the one before it: they may only go from the first on."""
    latest = 0.0
    ordered = []
    for piece in sorted(segments, key=lambda piece: str(piece.path)):
        latest = max(latest, piece.time)
        ordered.append(replace(piece, time=latest))
    return ordered
