"""How much of the spool's limit is used, and by what it may be used.

A full spool has to empty again, and what empties it has to be written, too: what was recovered or
refused is stated before a stream is done with, and what retention removes before it goes. So a part
of the limit is not for records, and such statements are written even beyond it: the spool is looked
at now and then, so several processes may have passed the limit together. They are bounded by what
they speak of: one for each dead stream, each refused record, each part removed. And what is being
written cannot be removed: segments are a small part of the limit.
"""

from __future__ import annotations

from enum import IntEnum

from .diagnostics import warn_operator
from .errors import SpoolError
from .spool.segment import SEGMENT_BYTES
from .spool.spool import Spool, Usage

MIN_LIMIT = 2**20
"""Bytes. With less there is no room for a record of the largest size beside the statements."""
_WARN = 0.8
"""The share of the limit at which the operator is told."""
_BUSY = 0.5
"""From this share on the spool is looked at by every tick."""
_SURVEY_TICKS = 16
"""Else so many ticks pass between two looks: there may be very many streams."""
_SEGMENTS = 256
_SMALLEST_SEGMENT = 64 * 1024


class Need(IntEnum):
    """What a record is for: the higher, the longer it is still written."""

    RECORD = 0
    UNDER_WAY = 1
    """Of a request that was let in."""
    STATEMENT = 2
    """Without it nothing is done with; and a stream's last record."""


_SHARE = (7 / 8, 1.0, float("inf"))


class Room:
    """Compares a spool with its limit, in bytes."""

    def __init__(self, spool: Spool, limit: int, advice: str) -> None:
        self.limit = limit
        self._advice = advice
        self._spool = spool
        self._usage = Usage(spool)
        self._bounds = tuple(limit * share for share in _SHARE)
        self._others = 0
        self._ticks = _SURVEY_TICKS

    @property
    def segment_bytes(self) -> int:
        """Of a segment at most: one that is being written cannot be removed, and many processes write one each."""
        return min(SEGMENT_BYTES, max(_SMALLEST_SEGMENT, self.limit // _SEGMENTS))

    def survey(self, own: int = 0) -> None:
        """Look at the whole spool, ``own`` bytes of it by the present stream. Raises SpoolError, OSError."""
        self._others = self._usage.bytes() - own

    def full(self, own: int, need: Need = Need.RECORD) -> bool:
        """Whether no more may be written for this."""
        return self._others + own >= self._bounds[need]

    def watch(self, own: int) -> None:
        """Called by every tick: look again now and then, and warn the operator in time."""
        self._ticks += 1
        if self._ticks >= _SURVEY_TICKS or self._others + own >= self.limit * _BUSY:
            try:
                self.survey(own)
            except (SpoolError, OSError):
                return  # it cannot be told now: what was seen last stands, and the next tick looks again
            self._ticks = 0
        used = self._others + own
        if used >= self.limit * _WARN:
            warn_operator(
                f"the spool {self._spool.root} is at {used * 100 // self.limit} % of its limit; {self._advice}",
                once="spool-limit",
            )
