"""What of a spool is not delivered, seen without the shipper and without its lock.

Where it cannot be told, SpoolError is raised: an error is never "nothing waits".
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import orjson

from ..errors import RecordError, SpoolError
from ..evidence import heads
from ..spool import disk, durable
from ..spool.segment import MAX_LINE, read
from ..spool.stream import Cursor, Stream


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


def undelivered(stream: Stream) -> bool:
    """Whether something of the stream is written that was not delivered. Raises SpoolError."""
    cursor = stream.cursor()
    if cursor.done:
        return False
    try:
        segments = stream.segments()
    except SpoolError:
        if stream.gone():
            return False  # removed by retention, so delivered
        raise
    later = any(path.name > cursor.segment and _size(path) for path in segments)
    here = any(path.name == cursor.segment and _size(path) != cursor.offset for path in segments)
    return later or here or _size(stream.heads) != cursor.heads


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
        with disk.reader(path) as file:
            file.seek(offset)
            return heads.parse_line(file.readline(MAX_LINE)).head.time
    except (OSError, RecordError):
        return 0  # which is: unknown


def _size(path: Path) -> int:
    """Bytes; 0 where there is no such file. Raises SpoolError where that cannot be told."""
    try:
        return durable.size(path) or 0
    except OSError as error:
        raise SpoolError(f"cannot read {path} ({error.strerror})") from error
