"""How much of the spool's limit is used: by what others wrote, and by the stream that is being written."""

from __future__ import annotations

from .diagnostics import tell
from .errors import SpoolError
from .spool.spool import Spool

_WARN = 0.8
"""The share of the limit at which the operator is told."""
_SURVEY_TICKS = 16
"""So many ticks pass between two looks at the whole spool: there may be very many streams."""


class Room:
    """Compares a spool with its limit, in bytes."""

    def __init__(self, spool: Spool, limit: int, advice: str) -> None:
        self.limit = limit
        self._advice = advice
        self._spool = spool
        self._others = 0
        self._ticks = 0

    def survey(self, own: int = 0) -> None:
        """Look at the whole spool, of which the present stream has written ``own`` bytes. Raises SpoolError."""
        self._others = self._spool.usage() - own

    def full(self, own: int) -> bool:
        """Whether no more may be written."""
        return self._others + own >= self.limit

    def watch(self, own: int) -> None:
        """Called by every tick: look again now and then, and warn the operator in time."""
        self._ticks += 1
        if self._ticks >= _SURVEY_TICKS:
            self._ticks = 0
            try:
                self.survey(own)
            except SpoolError:
                return  # it has just gone: the next tick sees that
        used = self._others + own
        if used >= self.limit * _WARN:
            tell(
                f"the spool {self._spool.root} is at {used * 100 // self.limit} % of its limit; {self._advice}",
                once="spool-limit",
            )
