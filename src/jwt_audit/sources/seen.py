"""A record as it stands somewhere, and how what is new there is found: whole lines, each record once."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

from .. import attributes as attr

_BLOCK = 64 * 1024
LONGEST = 64 * 2**20
"""Bytes of a line; what is longer is no request that a receiver took."""
_REMEMBERED = 65_536
"""Records whose ids are kept, to show one that was written or delivered twice only once."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A record as it stands there. ``time`` and ``recorded`` (its observation) in nanoseconds.

    ``service`` is the name of its resource's service; empty is what is not there.
    """

    event: str
    time: int
    recorded: int
    attributes: dict[str, Any]
    service: str = ""
    body: str = ""
    trace_id: str = ""
    span_id: str = ""


class NewLines:
    """The whole lines of a file that are new, without their newlines."""

    def __init__(self) -> None:
        self.offset = 0

    def read(self, file: BinaryIO) -> Iterator[bytes]:
        """From where the last reading ended to the file's end as it is now."""
        while True:
            file.seek(self.offset)
            block = file.read(_BLOCK)
            while b"\n" not in block and (more := file.read(len(block) or _BLOCK)):
                block += more
                if len(block) > LONGEST:
                    break
            end = block.rfind(b"\n") + 1
            if not end:
                if len(block) > LONGEST:
                    self.offset += len(block)
                    yield b"..."  # no record, whatever it is the start of
                    continue
                return
            self.offset += end
            yield from block[: end - 1].split(b"\n")


class Once:
    """Tells what was not seen before, within a bounded memory."""

    def __init__(self) -> None:
        self._ids: set[str] = set()
        self._order: deque[str] = deque()

    def new(self, seen: Seen) -> bool:
        """Whether its id was not seen before; True for what has none."""
        name = seen.attributes.get(attr.RECORD_ID)
        if not isinstance(name, str):
            return True
        if name in self._ids:
            return False
        self._ids.add(name)
        self._order.append(name)
        if len(self._order) > _REMEMBERED:
            self._ids.discard(self._order.popleft())
        return True
