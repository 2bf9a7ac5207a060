"""What the receiver refused for good, and what of a stream was no record: kept, and told in a stream.

Order: the line in ``dead-letter`` is synced, then ``audit.record.undelivered`` is written and signed,
then the caller moves the cursor. A crash in between repeats the former, and loses nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import orjson

from .. import attributes as attr
from ..attributes import Value
from ..spool import durable
from .batch import Broken, Item

Emit = Callable[[str, Mapping[str, Value], str], None]
"""Writes a statement into this process's own stream: event name, attributes, body. Raises JWTAuditError."""
Settle = Callable[[], bool]
"""Syncs and signs that stream; whether that was done."""


@dataclass(frozen=True, slots=True)
class Parked:
    """One thing that will not be delivered, and why."""

    what: Item | Broken
    reason: str


class DeadLetter:
    """The file ``dead-letter`` of a spool: one JSON object a line, nothing is ever removed from it."""

    def __init__(self, root: Path, emit: Emit, settle: Settle, now: Callable[[], float]) -> None:
        self.path = root / "dead-letter"
        self._emit = emit
        self._settle = settle
        self._now = now
        self._kept: Parked | None = None

    def park(self, stream_id: str, parked: list[Parked]) -> None:
        """Keep these and say so, taking from the list what is done. Raises OSError or JWTAuditError; then
        call again with the same list.
        """
        stated = False
        while parked:
            one = parked[0]
            if self._kept is not one:
                durable.append(self.path, self._line(stream_id, one))
                self._kept = one
            # A receiver that refuses everything would else have it go on for ever
            if not (isinstance(one.what, Item) and one.what.event == attr.EVENT_UNDELIVERED):
                self._emit(attr.EVENT_UNDELIVERED, _statement(stream_id, one), _body(one))
                stated = True
            del parked[0]
        if stated:
            self._settle()  # where no signature is to be had, delivery goes on all the same

    def _line(self, stream_id: str, one: Parked) -> bytes:
        what = one.what
        form: dict[str, object] = {
            "time": int(self._now() * 1e9),
            "stream_id": stream_id,
            "number": what.number,
            "hash": what.hash,
            "reason": one.reason,
        }
        if isinstance(what, Broken):
            form["raw"] = what.raw.decode("latin-1")
        else:
            form["event_name"] = what.event
            form["record_id"] = what.record_id
            form["canonical"] = what.data.decode("utf-8")
            if what.signature:
                form["value"] = what.signature
        return orjson.dumps(form, option=orjson.OPT_APPEND_NEWLINE)


def _statement(stream_id: str, one: Parked) -> dict[str, Value]:
    what = one.what
    found: dict[str, Value] = {
        attr.OUTCOME: "failure",
        attr.UNDELIVERED_STREAM: stream_id,
        attr.UNDELIVERED_NUMBER: what.number,
        attr.UNDELIVERED_REASON: attr.text(one.reason),
    }
    if what.hash:
        found[attr.UNDELIVERED_HASH] = what.hash
    if isinstance(what, Item):
        found[attr.UNDELIVERED_ID] = what.record_id
        if not what.signature:
            # With it the verifier can follow the chain across the hole that this record leaves
            previous = orjson.loads(what.data)["attributes"].get(attr.PREVIOUS_HASH)
            found |= {} if previous is None else {attr.UNDELIVERED_PREVIOUS: previous["stringValue"]}
    return found


def _body(one: Parked) -> str:
    kind = "head at" if isinstance(one.what, Item) and one.what.signature else "record"
    return f"{kind} {one.what.number} of another stream is undelivered: {attr.text(one.reason, 200)}"
