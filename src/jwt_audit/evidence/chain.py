"""The hash chain: each record names the one before it (draft audit signal, ``audit.sequence.*``).

Invariants of a stream: numbers count from 1 without a gap; ``previous_hash`` is absent on the first
record and the hash of the record before on each other; the time of observation never goes back.
"""

from __future__ import annotations

import hashlib
from typing import NamedTuple

from .. import attributes as attr
from .canonical import canonical
from .record import Record


def record_hash(data: bytes) -> str:
    """SHA-256 of canonical bytes in lowercase hex."""
    return hashlib.sha256(data).hexdigest()


class Position(NamedTuple):
    """How far a stream has come: its last record's number and hash; number 0 before the first."""

    stream_id: str
    number: int = 0
    hash: str = ""
    observed: int = 0


def link(record: Record, last: Position, *, now: int, end: bool = False) -> tuple[bytes, Position]:
    """Give ``record`` its place after ``last``: its canonical bytes, and the stream's new position.

    ``now`` is nanoseconds since the epoch; where the clock has gone back, the previous record's time
    of observation stands instead. Raises RecordError, and then the stream has not moved.
    """
    number = last.number + 1
    form = record.form
    form[attr.STREAM_ID] = {"stringValue": last.stream_id}
    form[attr.NUMBER] = {"intValue": str(number)}
    if last.number:
        form[attr.PREVIOUS_HASH] = {"stringValue": last.hash}
    if end:
        form[attr.END] = {"boolValue": True}
    record.observed_timestamp = max(now, last.observed)
    record.timestamp = min(record.timestamp, record.observed_timestamp)
    data = canonical(record)
    return data, Position(last.stream_id, number, record_hash(data), record.observed_timestamp)
