"""The count of what could not be recorded: never a silent drop."""

from __future__ import annotations

from dataclasses import dataclass

from . import attributes as attr
from .attributes import Value
from .evidence.record import Record, system_record


@dataclass(slots=True)
class Losses:
    """Records that could not be written: how many, since when (ns since the epoch), and how many of
    them are of requests that were refused for it and never reached the app."""

    count: int = 0
    refused: int = 0
    since: int = 0

    def add(self, event: str, now: int) -> None:
        """One more, of the event ``event``."""
        self.count += 1
        self.refused += event == attr.EVENT_RECEIVED
        self.since = self.since or now

    def record(self, now: int) -> Record:
        """What tells of them in a stream."""
        since = attr.iso_8601(self.since // 1_000_000_000)
        body = f"{self.count} audit records could not be written since {since}"
        if self.refused:
            body += f", {self.refused} of them of requests that were refused before the app ran"
        found: dict[str, Value] = {
            attr.LOST_COUNT: self.count,
            attr.LOST_REFUSED: self.refused,
            attr.LOST_SINCE: since,
            attr.OUTCOME: "failure",
        }
        return system_record(attr.EVENT_LOST, now=now, attributes=found, body=body)
