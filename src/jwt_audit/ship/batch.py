"""A batch: what is sent in one request, and where the stream stands once it is delivered."""

from __future__ import annotations

from dataclasses import dataclass

from ..spool.stream import Cursor

MAX_RECORDS = 512
MAX_BYTES = 3_500_000
"""Of one request's records before compression: receivers and their proxies take 4 MiB by default."""
MAX_HEADS = 64
"""Beside the records, so that heads travel with them also while a backlog drains."""


@dataclass(slots=True)
class Item:
    """One log record to deliver. ``data`` is what was hashed or signed; ``signature`` is set for a head."""

    fragment: bytes
    number: int
    hash: str
    event: str
    record_id: str
    data: bytes
    signature: str = ""


@dataclass(slots=True)
class Broken:
    """A whole line of the stream that is not what its writer wrote; ``number`` is the one it stands for."""

    number: int
    hash: str
    raw: bytes
    reason: str


class Batch:
    """Filled by the reader. Its place is mutable, since a frozen cursor for each line costs as much as parsing it."""

    def __init__(self, cursor: Cursor) -> None:
        self.items: list[Item] = []
        self.broken: list[Broken] = []
        self.exhausted = False
        """All that was there to be read is in it."""
        self.finished = False
        """The writer is dead and nothing follows this batch."""
        self.segment, self.offset = cursor.segment, cursor.offset
        self.number, self.hash = cursor.number, cursor.hash
        self.heads, self.ended, self.torn = cursor.heads, cursor.ended, cursor.torn
        self._size = 0
        self._heads = 0

    @property
    def cursor(self) -> Cursor:
        """Where the stream stands once all of this is delivered."""
        return Cursor(
            self.segment, self.offset, self.number, self.hash, heads=self.heads, ended=self.ended, torn=self.torn
        )

    @property
    def full(self) -> bool:
        """Whether it takes no more records."""
        return len(self.items) + len(self.broken) >= MAX_RECORDS

    @property
    def full_of_heads(self) -> bool:
        """Whether it takes no more heads."""
        return self._heads >= MAX_HEADS

    def add(self, item: Item) -> bool:
        """Take a record, unless the request would become too large; the first is taken in any case."""
        if self.items and self._size + len(item.fragment) > MAX_BYTES:
            return False
        self.items.append(item)
        self._size += len(item.fragment)
        return True

    def add_head(self, item: Item) -> None:
        """Take a head."""
        self._heads += 1
        self.items.append(item)

    def pass_broken(self, raw: bytes, digest: str, reason: str) -> None:
        """Go past a whole line of a segment that is no record."""
        self.number, self.hash = self.number + 1, digest
        self.offset += len(raw)
        self.broken.append(Broken(self.number, digest, raw, reason))
