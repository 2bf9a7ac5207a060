"""How far streams were written, read from their ends alone, without the shipper and without its lock."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import orjson

from .. import attributes as attr
from ..errors import RecordError, SpoolError
from ..evidence import heads
from ..evidence.chain import record_hash
from ..evidence.heads import SignedHead
from ..spool.segment import MAX_LINE, read
from ..spool.spool import Cursor, Stream


@dataclass(frozen=True, slots=True)
class Last:
    """A stream's last whole record; number 0 where there is none. ``time`` of its observation, in nanoseconds."""

    number: int = 0
    hash: str = ""
    ended: bool = False
    time: int = 0


@dataclass(frozen=True, slots=True)
class End:
    """How far a stream was written: its last segment, the size of that, the size of ``heads``."""

    segment: str = ""
    offset: int = 0
    heads: int = 0


@dataclass(frozen=True, slots=True)
class Waiting:
    """What of a stream is not delivered. ``since`` is when the first of it was recorded, nanoseconds, 0 if unknown."""

    bytes: int = 0
    since: int = 0


def last_record(path: Path) -> Last:
    """The last whole record of a segment."""
    for raw in _lines_from_end(path):
        payload, _, digest = raw.rpartition(b"\t")
        if record_hash(payload).encode("ascii") != digest:
            continue  # a torn or changed line
        try:
            form = orjson.loads(payload)
            number = int(form["attributes"][attr.NUMBER]["intValue"])
            time = int(form["observed_timestamp"])
            return Last(number, digest.decode("ascii"), form["event_name"] == attr.EVENT_STREAM_END, time)
        except (ValueError, TypeError, KeyError):
            continue
    return Last()


def last_of_stream(stream: Stream) -> Last:
    """The last whole record of a stream."""
    for path in reversed(stream.segments()):
        found = last_record(path)
        if found.number:
            return found
    return Last()


def last_head(stream: Stream) -> SignedHead | None:
    """The last whole head of a stream; its signature is not checked."""
    for raw in _lines_from_end(stream.heads):
        try:
            return heads.parse_line(raw)
        except RecordError:
            continue
    return None


def undelivered(stream: Stream) -> bool:
    """Whether something of the stream is written that was not delivered."""
    cursor = stream.cursor()
    if cursor.done:
        return False
    try:
        segments = stream.segments()
        later = [path for path in segments if path.name > cursor.segment and path.stat().st_size]
        here = [path for path in segments if path.name == cursor.segment and path.stat().st_size != cursor.offset]
        headed = stream.heads.exists() and stream.heads.stat().st_size != cursor.heads
    except (OSError, SpoolError):
        return False  # removed by retention, so delivered
    return bool(later or here or headed)


def end(stream: Stream) -> End:
    """How far a stream is written now. Raises SpoolError."""
    segments = stream.segments()
    heads_size = _size(stream.heads)
    return End(segments[-1].name, _size(segments[-1]), heads_size) if segments else End(heads=heads_size)


def passed(cursor: Cursor, mark: End) -> bool:
    """Whether all up to ``mark`` is delivered."""
    return cursor.done or (
        (cursor.segment, cursor.offset) >= (mark.segment, mark.offset) and cursor.heads >= mark.heads
    )


def waiting(stream: Stream, cursor: Cursor) -> Waiting:
    """What of a stream follows ``cursor``. Raises SpoolError."""
    if cursor.done:
        return Waiting()
    total = since = 0
    for path in stream.segments():
        offset = cursor.offset if path.name == cursor.segment else 0
        if path.name < cursor.segment or _size(path) <= offset:
            continue
        total += _size(path) - offset
        since = since or _recorded_at(path, offset)
    behind = max(0, _size(stream.heads) - cursor.heads)
    if behind and not since:
        since = _signed_at(stream.heads, cursor.heads)
    return Waiting(total + behind, since)


def _recorded_at(path: Path, offset: int) -> int:
    for line in read(path, offset):
        try:
            return int(orjson.loads(line.payload)["observed_timestamp"])
        except (ValueError, TypeError, KeyError):
            break
    return 0


def _signed_at(path: Path, offset: int) -> int:
    try:
        with path.open("rb") as file:
            file.seek(offset)
            return heads.parse_line(file.readline(MAX_LINE)).head.time
    except (OSError, RecordError):
        return 0


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _lines_from_end(path: Path) -> list[bytes]:
    """The whole lines in the last part of a file without their newlines, the last first."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            start = max(0, size - 2 * MAX_LINE)
            file.seek(start)
            found = file.read().split(b"\n")
    except OSError:
        return []
    # What follows the last newline is not whole, and the first may have been cut by the seek
    return found[-2:0:-1] if start else found[-2::-1]
