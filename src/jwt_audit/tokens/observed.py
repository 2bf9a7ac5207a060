"""What the app's own verification of a token proves: the rules of observation.

Invariants:
- Pure: the clock is given.
- A library's word is taken for the signature alone, and only where it checked one by an algorithm
  that can prove something. Form, time and the meaning of claims are judged here, from the token's
  own bytes: joserfc and Authlib return the claims of an expired token, any library can be told to
  look away, and Authlib takes ``none`` for an algorithm.
- What an app merely decodes, with the signature unchecked, says nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from hashlib import sha256
from math import inf

from ..identity.caller import Identity, Reason, refused
from ..identity.privacy import RAW_EVERYWHERE, Privacy
from ..settings.issuer import IssuerSettings
from . import claims
from .algorithms import KNOWN, SYMMETRIC, with_new_names
from .cache import Cache, Result
from .jws import Jws, TokenRefusedError, parse
from .verify import NO_CREDENTIALS, media_type

BY_APP = "app"
"""The value of ``jwt.verified_by`` for what was observed."""
KEPT_SECONDS = 60.0
"""How long what a token's claims give is used again; the app verifies each time all the same."""

_KEY_PARTS = ("raw_value", "raw_key", "prepared_key", "key", "keys")
"""Where the key objects of joserfc, Authlib, python-jose and PyJWT hold their bytes, and sets their keys."""


@dataclass(frozen=True, slots=True)
class Verification:
    """What a library did with a token on the app's behalf.

    ``signed`` says whether it was to check the signature, ``keys`` what it was given for
    that, ``reason`` why it refused the token, None where it accepted it. ``source`` is where in the request
    it stands, empty where that is none of the configured ones.
    """

    token: str = field(repr=False)
    signed: bool
    keys: tuple[object, ...] = field(default=(), repr=False)
    reason: Reason | None = None
    source: str = ""


class AppTokens:
    """Judges what the app's libraries did. Safe from many threads.

    ``settings`` say what claims mean; ``issuer``, ``audience``, ``algorithms`` and ``typ``, where given, narrow what
    the app accepts; they never widen it. ``now`` gives seconds since the epoch. ``privacy`` says how the
    identity is shown.
    """

    def __init__(
        self,
        settings: IssuerSettings,
        *,
        now: Callable[[], float],
        cache_size: int = 4096,
        privacy: Privacy = RAW_EVERYWHERE,
    ) -> None:
        self._settings = settings
        self._now = now
        self._privacy = privacy
        self._typ = media_type(settings.typ)
        self._algorithms = with_new_names(frozenset(settings.algorithms) or KNOWN)
        self._kept = Cache(cache_size)

    def judge(self, seen: Verification) -> Identity | None:
        """Who the caller is after this, or why that is not proved; None where it says nothing. Raises nothing."""
        now = self._now()
        confused = any(not secret or _is_key(secret) for secret in _secrets(seen.keys))
        digest = sha256(seen.token.encode("utf-8", "replace") + (b"!" if confused else b"")).digest()
        if seen.signed and seen.reason is None:
            found = self._kept.get(digest)
            if found is not None and found.holds(now):
                return found.identity
        try:
            jws = parse(seen.token)
        except TokenRefusedError as error:
            # Also where no signature was to be checked: many look into a token first and give up there.
            if not (seen.signed or seen.reason):
                return None
            return refused(error.reason, extra=error.claimed).with_privacy(self._privacy, seen.token)
        if not seen.signed or media_type(jws.header.get("typ")) in NO_CREDENTIALS:
            return None
        try:
            identity, until = self._examined(jws, seen.reason, confused, now)
        except TokenRefusedError as error:
            identity, until = refused(error.reason, extra=jws.claimed), now
        identity = identity.with_privacy(self._privacy, seen.token)
        if identity.verified:
            self._kept.put(digest, Result(identity, min(until, now + KEPT_SECONDS)))
        return identity

    def _examined(self, jws: Jws, reason: Reason | None, confused: bool, now: float) -> tuple[Identity, float]:
        if jws.algorithm not in self._algorithms:  # "none" is in no list
            raise TokenRefusedError(Reason.ALGORITHM_NOT_ALLOWED)
        if confused and jws.algorithm in SYMMETRIC:  # anybody has the public key, or nothing, to sign with
            raise TokenRefusedError(Reason.ALGORITHM_NOT_ALLOWED)
        if reason not in (None, Reason.EXPIRED, Reason.NOT_YET_VALID, Reason.MALFORMED):
            raise TokenRefusedError(reason)
        start, end, expires_at = claims.times(jws.payload, self._settings.leeway)
        if reason is Reason.EXPIRED:
            return claims.expired(jws.payload, self._settings, jws.claimed), inf
        if reason is not None:  # no other form is malformed here, so that is not why the app refused it
            raise TokenRefusedError(reason if reason is Reason.NOT_YET_VALID else Reason.REJECTED_BY_APP)
        self._narrow(jws)
        if start is not None and now < start:
            raise TokenRefusedError(Reason.NOT_YET_VALID)
        if end is not None and now >= end:
            return claims.expired(jws.payload, self._settings, jws.claimed), inf
        identity = claims.verified(jws.payload, self._settings, expires_at)
        return replace(identity, verified_by=BY_APP), inf if end is None else end

    def _narrow(self, jws: Jws) -> None:
        payload = jws.payload
        if self._typ is not None and media_type(jws.header.get("typ")) != self._typ:
            raise TokenRefusedError(Reason.TYPE_MISMATCH)
        issuer = payload.get("iss")
        if issuer is not None and not isinstance(issuer, str):
            raise TokenRefusedError(Reason.CLAIM_MISSING)
        if self._settings.issuer is not None and issuer != self._settings.issuer:
            raise TokenRefusedError(Reason.ISSUER_MISMATCH)
        if self._settings.audience and not claims.audience_matches(payload, self._settings.audience):
            raise TokenRefusedError(Reason.AUDIENCE_MISMATCH)


def _is_key(secret: bytes) -> bool:
    from .jwks import is_key  # with `cryptography`, which an app without shared secrets may not need

    return is_key(secret)


def _secrets(keys: Iterable[object], depth: int = 4) -> Iterator[bytes]:
    """Every text or bytes within ``keys`` that a library may have used as a shared secret."""
    for key in keys:
        if isinstance(key, (str, bytes)):
            yield key.encode("utf-8", "replace") if isinstance(key, str) else key
        elif depth and isinstance(key, Mapping):
            # A JWK says itself what it is; other mappings lead from names to keys or are sets of them.
            if "kty" not in key:
                yield from _secrets(key.values(), depth - 1)
            elif key["kty"] == "oct":
                yield str(key.get("k", "")).encode("utf-8", "replace")
        elif depth and isinstance(key, (list, tuple, set, frozenset)):
            yield from _secrets(key, depth - 1)
        elif depth and key is not None:
            yield from _secrets((getattr(key, name, None) for name in _KEY_PARTS), depth - 1)
