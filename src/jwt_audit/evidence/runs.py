"""Records of one stream that stand without a hole between them: of each its hash and time, in 40 bytes."""

from __future__ import annotations

from array import array

from .verdict import Place


class Run:
    """Records with numbers that follow each other: ``first`` to ``last``; ``previous`` is the hash before them."""

    __slots__ = ("_digests", "_observed", "first", "last", "place", "previous", "proved")

    def __init__(self, first: int, previous: str, place: Place) -> None:
        self.first = first
        self.last = first - 1
        self.previous = previous
        self.place = place
        self.proved = first - 1
        """The last record that something signed covers; set once the heads are known."""
        self._digests = bytearray()
        self._observed = array("Q")

    def append(self, digest: str, observed: int) -> None:
        """The next record: its hash in hex, its time of observation in nanoseconds."""
        self._digests += bytes.fromhex(digest)
        self._observed.append(observed)
        self.last += 1

    def join(self, following: Run) -> None:
        """Take over the records of the run that begins where this one ends."""
        self._digests += following._digests
        self._observed += following._observed
        self.last = following.last

    def __contains__(self, number: int) -> bool:
        return self.first <= number <= self.last

    def digest(self, number: int) -> str:
        """The hash of a record of this run, in hex."""
        index = (number - self.first) * 32
        return self._digests[index : index + 32].hex()

    def digests(self, first: int, last: int) -> bytes:
        """All hashes from ``first`` to ``last``, joined."""
        return bytes(self._digests[(first - self.first) * 32 : (last + 1 - self.first) * 32])

    def observed(self, number: int) -> int:
        """A record's time of observation, in nanoseconds."""
        return self._observed[number - self.first]
