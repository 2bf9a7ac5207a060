"""Whether a spool is delivered whole, asked from outside of the process that writes it."""

from __future__ import annotations

import time
from pathlib import Path

from jwt_audit.errors import SpoolError
from jwt_audit.ship.backlog import undelivered
from jwt_audit.spool.stream import streams
from jwt_audit.stream_ends import last_head, last_of_stream

from .workers import DELIVERY_SECONDS


def wait(spool: Path) -> None:
    """Until every record has a head over it, and records and heads are acknowledged. Raises RuntimeError."""
    until = time.monotonic() + DELIVERY_SECONDS
    while not _settled(spool):
        if time.monotonic() > until:
            raise RuntimeError(f"{spool} was not delivered")
        time.sleep(0.05)


def _settled(spool: Path) -> bool:
    try:
        found = streams(spool)
    except SpoolError:
        return False
    for stream in found:
        head = last_head(stream)
        if head is None or head.head.number != last_of_stream(stream).number or undelivered(stream):
            return False
    return bool(found)
