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
from ..spool.segment import MAX_LINE
from ..spool.spool import Stream


@dataclass(frozen=True, slots=True)
class Last:
    """A stream's last whole record; number 0 where there is none."""

    number: int = 0
    hash: str = ""
    ended: bool = False


def last_record(path: Path) -> Last:
    """The last whole record of a segment."""
    for raw in _lines_from_end(path):
        payload, _, digest = raw.rpartition(b"\t")
        if record_hash(payload).encode("ascii") != digest:
            continue  # a torn or changed line
        try:
            form = orjson.loads(payload)
            number = int(form["attributes"][attr.NUMBER]["intValue"])
            return Last(number, digest.decode("ascii"), form["event_name"] == attr.EVENT_STREAM_END)
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
