"""From a token to an identity: the rules, and the cache of what they gave.

Invariants:
- Pure: the clock is given, keys are read from a source's attribute, nothing is waited for.
- Only a signature by a key of the chosen issuer, by an algorithm that issuer and key both allow,
  leads to a subject; the token's own words choose at most among those keys.
- The signature is judged before every claim but ``iss``, and expiry last: ``expired`` says that all
  else holds.
- A result holds only while its key set is the source's present one, and never past the token's end.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from hashlib import sha256
from math import inf
from typing import TYPE_CHECKING, Any, NamedTuple

from ..identity.caller import Identity, Reason, refused
from ..identity.privacy import RAW_EVERYWHERE, Privacy
from ..settings.issuer import BEARER, IssuerSettings
from . import claims
from .algorithms import KNOWN
from .cache import Cache, Result
from .jws import MAX_TOKEN, Jws, TokenRefusedError, parse

if TYPE_CHECKING:
    from .issuers import Issuer, Issuers
    from .jwks import KeySet

GOOD_SECONDS = 60.0
"""How long a verified result is used again."""
BAD_SECONDS = 10.0
"""How long a refusal is used again, so that a flood of one bad token costs little."""

NO_CREDENTIALS = frozenset(
    (
        "logout+jwt",
        "oauth-authz-req+jwt",
        "secevent+jwt",
        "statuslist+jwt",
        "token-introspection+jwt",
        # and proofs that whoever sends them has signed: they say what he likes of who he is
        "dpop+jwt",
        "kb+jwt",
        "oauth-client-attestation-pop+jwt",
        "openid4vci-proof+jwt",
        "pop",
        "wpt+jwt",
    )
)
"""Types of JWT that issuers sign with the same keys and that speak for no caller (RFC 8725, 3.12)."""

_MALFORMED = refused(Reason.MALFORMED)
_TOO_LARGE = refused(Reason.TOO_LARGE)


_BY_KEYS = frozenset((Reason.UNKNOWN_KEY, Reason.SIGNATURE_MISMATCH, Reason.ALGORITHM_NOT_ALLOWED))
"""Reasons that other keys may take away."""


class Verdict(NamedTuple):
    """What was made of a token: by which issuer and keys, as of when (seconds since the epoch), from which source.

    ``about`` names the claim that is the cause, where one is.
    """

    identity: Identity
    issuer: Issuer | None
    keys: KeySet | None
    about: str | None
    source: str
    as_of: float


class TokenVerifier:
    """Verifies tokens under the keys and rules of ``issuers``. Safe from many threads.

    ``now`` gives seconds since the epoch. ``cache_size`` bounds the results kept, and the refusals,
    which are kept apart so that bad tokens push out no good one. ``privacy`` says how what was found is shown.
    """

    def __init__(
        self,
        issuers: Issuers,
        *,
        now: Callable[[], float],
        cache_size: int = 4096,
        privacy: Privacy = RAW_EVERYWHERE,
    ) -> None:
        self._issuers = issuers
        self._now = now
        self._privacy = privacy
        self._by_source = issuers.by_source
        self._good = Cache(cache_size)
        self._bad = Cache(cache_size // 4)
        for source in issuers.sources:
            source.start()

    def verify(self, token: str, source: str = BEARER) -> Identity:
        """Who ``token`` proves the caller to be, or why it proves nothing. Raises nothing, waits for nothing.

        ``source`` is where in the request it stood: some issuers count from one place alone.
        """
        if len(token) > MAX_TOKEN:
            return _TOO_LARGE
        try:
            digest = sha256(token.encode("ascii")).digest()
        except UnicodeEncodeError:
            return _MALFORMED
        if self._by_source:
            digest = sha256(digest + source.encode()).digest()
        now = self._now()
        for cache in (self._good, self._bad):
            found = cache.get(digest)
            if found is not None and found.holds(now):
                return found.identity
        result, _ = self._judge(token, source, now)
        (self._good if result.identity.verified else self._bad).put(digest, result)
        return result.identity

    def explain(self, token: str, source: str = BEARER) -> Verdict:
        """What `verify` would say now, and by what; nothing is kept."""
        now = self._now()
        result, refusal = self._judge(token, source, now)
        about = None if refusal is None else refusal.about
        return Verdict(result.identity, result.issuer, result.keys, about, source, now)

    def ready(self) -> bool:
        """Whether every source of keys has answered once, be it with a failure."""
        return self._issuers.wait_answered(0)

    def wait_ready(self, timeout: float) -> bool:
        """Wait up to ``timeout`` seconds to be `ready`. Not on an event loop: poll `undecided` there."""
        return self._issuers.wait_answered(timeout)

    def undecided(self, identity: Identity) -> bool:
        """Whether keys that are being read right now may change this answer soon.

        So a caller that can wait a moment asks this after `verify`, and verifies again once it is
        False: then neither the first requests nor those after a rotation of keys lose their identity,
        and no other request waits.
        """
        if identity.reason is Reason.KEYS_UNAVAILABLE:
            return any(
                source.keys is None and source.promising and not source.answered() for source in self._issuers.sources
            )
        return identity.reason in _BY_KEYS and any(source.promising for source in self._issuers.sources)

    def close(self) -> None:
        """Stop reading keys in the background."""
        for source in self._issuers.sources:
            source.close()

    def after_fork(self) -> None:
        """In a forked child: read keys in the background again. Results and keys are kept."""
        for source in self._issuers.sources:
            source.after_fork()

    def _judge(self, token: str, source: str, now: float) -> tuple[Result, TokenRefusedError | None]:
        issuer = keys = refusal = None
        try:
            jws = parse(token)
            issuer = self._choose(jws, source)
            keys = issuer.keys.keys
            identity, until = _examined(jws, issuer, keys, now)
        except TokenRefusedError as error:
            identity, until, refusal = refused(error.reason, extra=error.claimed), inf, error
        except Exception:  # a flaw of ours must neither break the app nor let a token pass
            identity, until = _MALFORMED, inf
        kept = GOOD_SECONDS if identity.verified else BAD_SECONDS
        return Result(identity.with_privacy(self._privacy, token), min(until, now + kept), issuer, keys), refusal

    def _choose(self, jws: Jws, source: str) -> Issuer:
        if jws.algorithm not in KNOWN:  # "none" above all, whoever is said to have issued it
            raise TokenRefusedError(Reason.ALGORITHM_NOT_ALLOWED, jws.claimed)
        issuer = self._issuers.choose(jws.payload, source)
        if issuer is None:
            raise TokenRefusedError(Reason.ISSUER_MISMATCH, jws.claimed)
        return issuer


def _examined(jws: Jws, issuer: Issuer, keys: KeySet | None, now: float) -> tuple[Identity, float]:
    """The identity that ``jws`` proves under ``issuer``, and until when. Raises TokenRefusedError."""
    reason = _form(jws, issuer) or _signature(jws, issuer, keys)
    if reason is not None:
        raise TokenRefusedError(reason, jws.claimed)
    try:
        _check_purpose(jws, issuer)
        start, end, expires_at = claims.times(_timed(jws), issuer.settings.leeway)
        if start is not None and now < start:
            return refused(Reason.NOT_YET_VALID, extra=jws.claimed), start
        if end is not None and now >= end:
            return claims.expired(jws.payload, issuer.settings, jws.claimed), inf
        identity = claims.verified(jws.payload, issuer.settings, expires_at)
    except TokenRefusedError as error:
        raise TokenRefusedError(error.reason, jws.claimed, about=error.about) from error
    return identity, inf if end is None else end


def _timed(jws: Jws) -> Mapping[str, Any]:
    """The claims, with the expiry that stands in the header alone, as AWS' load balancers write it (RFC 7519, 5.3)."""
    if "exp" in jws.payload or "exp" not in jws.header:
        return jws.payload
    return {**jws.payload, "exp": jws.header["exp"]}


def _form(jws: Jws, issuer: Issuer) -> Reason | None:
    if jws.padded and not issuer.settings.padded:
        return Reason.MALFORMED
    return None if jws.algorithm in issuer.algorithms else Reason.ALGORITHM_NOT_ALLOWED


def _signature(jws: Jws, issuer: Issuer, keys: KeySet | None) -> Reason | None:
    if keys is None:
        return Reason.KEYS_UNAVAILABLE
    candidates = keys.candidates(jws.key_id, jws.algorithm)
    if issuer.settings.tenant and candidates:
        candidates = [key for key in candidates if key.signs_for(jws.payload.get("tid"))]
        if not candidates:
            return Reason.ISSUER_MISMATCH
    if any(key.verifies(jws.algorithm, jws.signing_input, jws.signature) for key in candidates):
        return None
    issuer.keys.want(jws.key_id)  # the key may be a new one, also under a name that is known
    if keys.names(jws.key_id):
        return Reason.SIGNATURE_MISMATCH if candidates else Reason.ALGORITHM_NOT_ALLOWED
    return Reason.SIGNATURE_MISMATCH if candidates else Reason.UNKNOWN_KEY


def media_type(typ: object) -> str | None:
    """A header's ``typ`` as it is compared: without case and ``application/`` (RFC 7515, 4.1.9)."""
    return typ.lower().removeprefix("application/") if isinstance(typ, str) else None


def _check_purpose(jws: Jws, issuer: Issuer) -> None:
    """Raises TokenRefusedError for what was signed, but not to tell us who calls."""
    settings = issuer.settings
    kind, pinned = media_type(jws.header.get("typ")), media_type(settings.typ)
    if kind in NO_CREDENTIALS if pinned is None else kind != pinned:
        raise TokenRefusedError(Reason.TYPE_MISMATCH)
    if "iss" in jws.payload and not isinstance(jws.payload["iss"], str):
        raise TokenRefusedError(Reason.CLAIM_MISSING, about="iss")
    required = (*(claims.ACCESS_TOKEN if pinned == "at+jwt" else ()), *settings.required)
    if (name := claims.missing(jws.payload, required)) is not None:
        raise TokenRefusedError(Reason.CLAIM_MISSING, about=name)
    if settings.audience and not claims.names_one_of(audience_of(jws, settings)[1], settings.audience):
        raise TokenRefusedError(Reason.AUDIENCE_MISMATCH)


def audience_of(jws: Jws, settings: IssuerSettings) -> tuple[str, Any]:
    """The claim, or the member of the header, that names the audience of a token, and its value."""
    if settings.audience_header is not None:
        return settings.audience_header, jws.header.get(settings.audience_header)
    return claims.audience_in(jws.payload)
