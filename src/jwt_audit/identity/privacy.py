"""What is shown of a person: as it is, by a pseudonym, or not at all; each signal has a policy of its own.

Invariants: pure. A pseudonym is HMAC-SHA-256 under the operator's key over what it stands for, so it
is the same for the same person of the same issuer and says nothing without the key: once that is
destroyed, nobody can tell whose it was. A key is told from another by its id, which is in each record
that a pseudonym is in, so that keys can change.
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
            raise KeySourceError(f"holds more than {MAX_KEY} bytes, which is no key")
        self._key = key
        self.key_id = self._hmac("key id")[:16]
        """What this key is called: nothing by which the key could be found."""

    def of(self, kind: Kind, issuer: str | None, value: str) -> str:
        """The pseudonym of what an issuer calls ``value``."""
        return self._hmac(f"{kind}\n{issuer or ''}\n{value}")

    def fingerprint(self, token: str) -> str:
        """What tells two uses of one token, and nothing of what is in it."""
        return self._hmac(f"fingerprint\n{token}")

    def _hmac(self, text: str) -> str:
        return hmac.new(self._key, text.encode("utf-8", "surrogatepass"), sha256).hexdigest()


def key_in(data: bytes) -> bytes:
    """The key in a file's bytes: one line break at the end does not belong to it."""
    return data.removesuffix(b"\n").removesuffix(b"\r")


@dataclass(frozen=True)
class Privacy:
    """The policy of each signal. ``pseudonyms`` is there wherever one of them, or ``fingerprint``, needs it; ``live``
    gives those of now, where their key may change.
    """

    spans: Policy = Policy.RAW
    logs: Policy = Policy.RAW
    audit: Policy = Policy.RAW
    pseudonyms: Pseudonyms | None = field(default=None, repr=False)
    fingerprint: bool = False
    live: Callable[[], Pseudonyms] | None = field(default=None, repr=False, compare=False)

    def with_current_key(self) -> Privacy:
        """The same policies, with the key of now for good: all that is shown of one token is under one key."""
        return self if self.live is None else replace(self, pseudonyms=self.live(), live=None)

    def shown(self, policy: Policy, kind: Kind, issuer: str | None, value: str | None) -> str | None:
        """What a signal of this policy shows in place of ``value``; None: nothing."""
        if value is None or policy is Policy.RAW:
            return value
        if policy is Policy.OFF or self.pseudonyms is None:
            return None
        return self.pseudonyms.of(kind, issuer, value)

    def shown_claims(self, policy: Policy, issuer: str | None, claims: Mapping[str, Value]) -> Mapping[str, Value]:
        """The operator's choice of claims under a policy: what says who somebody is, is treated like the subject."""
        if policy is Policy.RAW:
            return claims
        found: dict[str, Value] = {}
        for name, value in claims.items():
            if not is_personal(name):
                found[name] = value
            elif policy is Policy.PSEUDONYM and self.pseudonyms is not None:
                hidden = self.pseudonyms
                found[name] = (
                    [hidden.of("claim", issuer, item) for item in value]
                    if isinstance(value, list)
                    else hidden.of("claim", issuer, str(value))
                )
        return found

    def shown_partial(self, policy: Policy, issuer: str | None, partial: Mapping[str, str]) -> list[str]:
        """The attributes that have not all of their claim, each with the digest of the whole: keyed, where it is of
        what says who somebody is, or it could be guessed."""
        found: list[str] = []
        for name, digest in partial.items():
            if policy is Policy.RAW or not is_personal(name):
                found.append(attr.cut(name, digest))
            elif policy is Policy.PSEUDONYM and self.pseudonyms is not None:
                found.append(f"{name}…hmac-sha256:{self.pseudonyms.of('claim', issuer, digest)[:32]}")
        return found


RAW_EVERYWHERE = Privacy()
"""Everything as it is, everywhere."""


def is_personal(attribute: str) -> bool:
    """Whether an attribute says who somebody is: those of ``user.`` and ``enduser.`` but roles and scopes."""
    return attribute.startswith(("user.", "enduser.")) and attribute not in _NOT_PERSONAL
