"""The time that a verification is asked about.

Invariant: it excuses only what may lie outside of it, at its two ends. What is given is judged whatever
its time; a hole within is a hole.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timezone

_ID = re.compile(r"(\d{8}T\d{6})(?:\.(\d{3}))?Z")
SLACK = 10_000_000_000
"""Nanoseconds within which a head follows the record that it signs."""


@dataclass(frozen=True, slots=True)
class Span:
    """From ``since`` on and before ``until``, in nanoseconds since the epoch; None where that end is not given."""

    since: int | None = None
    until: int | None = None

    def is_before(self, time: int) -> bool:
        """Whether ``time`` lies before it."""
        return self.since is not None and time < self.since

    def is_after(self, time: int) -> bool:
        """Whether ``time`` lies after it."""
        return self.until is not None and time >= self.until


def started(stream: str) -> int | None:
    """When a stream began, by its id, in nanoseconds; None for an id that does not tell."""
    match = _ID.match(stream)
    if match is None:
        return None
    try:
        moment = datetime.strptime(match[1], "%Y%m%dT%H%M%S").replace(tzinfo=timezone.utc)
    except ValueError:
        return None
    return int(moment.timestamp()) * 1_000_000_000 + int(match[2] or 0) * 1_000_000
