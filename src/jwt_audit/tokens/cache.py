"""Results of verification, kept by the SHA-256 of the token: the token itself is never kept."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ..identity.caller import Identity

if TYPE_CHECKING:
    from .issuers import Issuer
    from .jwks import KeySet


class Result(NamedTuple):
    """An identity, until when it holds (wall clock), and the issuer and its key set that it rests on, if on any."""

    identity: Identity
    until: float
    issuer: Issuer | None = None
    keys: KeySet | None = None

    def holds(self, now: float) -> bool:
        """Whether it may be used again."""
        return now < self.until and (self.issuer is None or self.issuer.keys.keys is self.keys)


class Cache:
    """At most ``size`` results by the token's digest, those used least recently dropped first, roughly.

    Two generations: the young one becomes the old one when it is full, what is found in the old one
    moves on. No lock: each step is one operation on a dict, and what threads can do to each other when
    a generation is full is to lose one, which costs a verification and nothing else.
    """

    def __init__(self, size: int) -> None:
        self._half = max(size // 2, 1)
        self._young: dict[bytes, Result] = {}
        self._old: dict[bytes, Result] = {}

    def get(self, digest: bytes) -> Result | None:
        """What is kept of a token; it may hold no longer."""
        found = self._young.get(digest)
        if found is None:
            found = self._old.get(digest)
            if found is not None:
                self.put(digest, found)
        return found

    def put(self, digest: bytes, result: Result) -> None:
        """Keep a result."""
        if len(self._young) >= self._half and digest not in self._young:
            self._old, self._young = self._young, {}
        self._young[digest] = result
