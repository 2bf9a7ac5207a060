"""What is shown of a person: as it is, by a pseudonym, or not at all; each signal has a policy of its own.

Invariants: pure. A pseudonym is the HMAC-SHA-256, under the operator's key, of the value in whose place it stands. So
it is the same for the same person of the same issuer, and reveals nothing without the key: once the key is destroyed,
nobody can say whose pseudonym it was. Each record with a pseudonym also has the id of its key, so that keys can
change.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from hashlib import sha256
from typing import Literal

from .. import attributes as attr
from ..attributes import Value
from ..errors import KeySourceError

MIN_KEY = 32
"""Bytes of the shortest key."""
MAX_KEY = 4096
"""Bytes of the longest key: a file that is longer is something else."""

_NOT_PERSONAL = frozenset((attr.USER_ROLES, "enduser.role", "enduser.scope"))

Kind = Literal["subject", "session", "token", "claim"]


class Policy(str, Enum):
    """What a signal shows of a person."""

    RAW = "raw"
    PSEUDONYM = "pseudonym"
    OFF = "off"


class Pseudonyms:
    """Pseudonyms under one key. Raises KeySourceError for a key that can be guessed."""

    def __init__(self, key: bytes) -> None:
        if len(key) < MIN_KEY:
            raise KeySourceError(f"holds {len(key)} bytes where at least {MIN_KEY} are needed")
        if len(key) > MAX_KEY:
            raise KeySourceError(f"holds more than {MAX_KEY} bytes, too many for a key")
        self._key = key
        self.key_id = self._hmac("key id")[:16]
        """The key's id, from which the key cannot be derived."""

    def pseudonym(self, kind: Kind, issuer: str | None, value: str) -> str:
        """The pseudonym of a ``value`` of this kind from this issuer."""
        return self._hmac(f"{kind}\n{issuer or ''}\n{value}")

    def fingerprint(self, token: str) -> str:
        """The same for each use of one token; it reveals nothing of the token's content."""
        return self._hmac(f"fingerprint\n{token}")

    def _hmac(self, text: str) -> str:
        return hmac.new(self._key, text.encode("utf-8", "surrogatepass"), sha256).hexdigest()


def without_line_break(data: bytes) -> bytes:
    """A file's bytes without one line break at their end, which is not a part of a key."""
    return data.removesuffix(b"\n").removesuffix(b"\r")


@dataclass(frozen=True)
class Privacy:
    """The policy of each signal. ``pseudonyms`` is set wherever a policy, or ``fingerprint``, needs it.

    Where their key may change, ``current`` returns the pseudonyms under the present key.
    """

    spans: Policy = Policy.RAW
    logs: Policy = Policy.RAW
    audit: Policy = Policy.RAW
    pseudonyms: Pseudonyms | None = field(default=None, repr=False)
    fingerprint: bool = False
    current: Callable[[], Pseudonyms] | None = field(default=None, repr=False, compare=False)

    def with_current_key(self) -> Privacy:
        """The same policies with the present key, which no longer changes: one token is shown under one key."""
        return self if self.current is None else replace(self, pseudonyms=self.current(), current=None)

    def shown(self, policy: Policy, kind: Kind, issuer: str | None, value: str | None) -> str | None:
        """What a signal with this policy shows in the place of ``value``; None for nothing."""
        if value is None or policy is Policy.RAW:
            return value
        if policy is Policy.OFF or self.pseudonyms is None:
            return None
        return self.pseudonyms.pseudonym(kind, issuer, value)

    def shown_claims(self, policy: Policy, issuer: str | None, claims: Mapping[str, Value]) -> Mapping[str, Value]:
        """The operator's choice of claims under a policy: personal ones are treated like the subject."""
        if policy is Policy.RAW:
            return claims
        shown: dict[str, Value] = {}
        for name, value in claims.items():
            if not is_personal(name):
                shown[name] = value
            elif policy is Policy.PSEUDONYM and self.pseudonyms is not None:
                pseudonyms = self.pseudonyms
                shown[name] = (
                    [pseudonyms.pseudonym("claim", issuer, item) for item in value]
                    if isinstance(value, list)
                    else pseudonyms.pseudonym("claim", issuer, str(value))
                )
        return shown

    def shown_partial(self, policy: Policy, issuer: str | None, partial: Mapping[str, str]) -> list[str]:
        """The attributes that hold only a part of their claim, each with the digest of the whole claim.

        For a personal attribute the digest is keyed, since its claim could be guessed from a plain one.
        """
        shown: list[str] = []
        for name, digest in partial.items():
            if policy is Policy.RAW or not is_personal(name):
                shown.append(attr.cut(name, digest))
            elif policy is Policy.PSEUDONYM and self.pseudonyms is not None:
                shown.append(f"{name}…hmac-sha256:{self.pseudonyms.pseudonym('claim', issuer, digest)[:32]}")
        return shown


RAW_EVERYWHERE = Privacy()
"""Every signal shows everything as it is."""


def is_personal(attribute: str) -> bool:
    """Whether an attribute says who somebody is: those of ``user.`` and ``enduser.`` but roles and scopes."""
    return attribute.startswith(("user.", "enduser.")) and attribute not in _NOT_PERSONAL
