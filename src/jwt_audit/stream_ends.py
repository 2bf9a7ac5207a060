"""A stream's first record, its last one and its last head: read from the ends of its files alone.

None and number 0 say that there is no such thing; where that cannot be told, SpoolError is raised.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import orjson

from . import attributes as attr
from .errors import RecordError, SpoolError
from .evidence.chain import record_hash
from .evidence.heads import SignedHead, parse_line
from .spool import disk
from .spool.segment import MAX_LINE, Line, lines, segment_name
from .spool.stream import Stream

_HEADS_BYTES = 16 * 1024
"""Of the end of ``heads``: a head has some hundred bytes, and of very many streams the last one is looked for."""


@dataclass(frozen=True, slots=True)
class Last:
    """A stream's last whole record; number 0 where there is none. ``time`` of its observation, in nanoseconds."""

    number: int = 0
    hash: str = ""
    ended: bool = False
    time: int = 0


def first_line(stream: Stream) -> Line | None:
    """The line of a stream's first record, also after retention removed its segment. Raises SpoolError."""
    for name in (segment_name(1), "start"):
        try:
            with disk.reader(stream.path / name) as file:
                for line in lines(file):
                    return line
        except FileNotFoundError:
            continue
        except OSError as error:
            raise SpoolError(f"cannot read {stream.path / name} ({error.strerror})") from error
    return None


def kept_locally(stream: Stream) -> bool:
    """Whether a stream's first record says that nothing of it is to be delivered. Raises SpoolError."""
    try:
        line = first_line(stream)
        form = {} if line is None else orjson.loads(line.payload)
        return form["attributes"][attr.STREAM_LOCAL]["boolValue"] is True
    except (ValueError, TypeError, KeyError):
        return False


def last_record(path: Path) -> Last:
    """The last whole record of a segment. Raises SpoolError."""
    for raw in _lines_from_end(path, 2 * MAX_LINE):
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
    """The last whole record of a stream. Raises SpoolError."""
    for path in reversed(stream.segments()):
        found = last_record(path)
        if found.number:
            return found
    return Last()


def last_head(stream: Stream) -> SignedHead | None:
    """The last whole head of a stream; its signature is not checked. Raises SpoolError."""
    for raw in _lines_from_end(stream.heads, _HEADS_BYTES):
        try:
            return parse_line(raw)
        except RecordError:
            continue
    return None


def _lines_from_end(path: Path, size: int) -> list[bytes]:
    """The whole lines in the last ``size`` bytes of a file without their newlines, the last first."""
    try:
        with disk.reader(path) as file:
            start = max(0, file.seek(0, os.SEEK_END) - size)
            file.seek(start)
            found = file.read().split(b"\n")
    except FileNotFoundError:
        return []
    except OSError as error:
        raise SpoolError(f"cannot read {path} ({error.strerror})") from error
    # What follows the last newline is not whole, and the first may have been cut by the seek
    return found[-2:0:-1] if start else found[-2::-1]
