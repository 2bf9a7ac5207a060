"""Why a token was refused, for whoever has to set the app up: what it has, what was wanted, and what to do.

Pure. Shows of a token what it says for whom, by whom and when it was made, never itself, its signature or whom
it names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from .. import attributes as attr
from ..identity.caller import Reason
from .algorithms import KNOWN
from .issuers import Issuer, Issuers
from .jws import Jws
from .mapping import MISSING, Claim
from .verify import NO_CREDENTIALS, Verdict, audience_of

MAX_SHOWN = 16
"""Values that are shown of a list."""


class Mismatch(NamedTuple):
    """``what`` of the token (a claim or a member of its header), the values it has there, and those that would do.

    Nothing ``found``: it is not there. ``wanted`` are values, or words for them.
    """

    what: str
    found: tuple[str, ...]
    wanted: tuple[str, ...]


def mismatches(jws: Jws, verdict: Verdict, issuers: Issuers) -> list[Mismatch]:
    """Both sides of what does not fit. Empty where it all fits, or where there are no two sides."""
    explain = _BY_REASON.get(verdict.identity.reason or Reason.MALFORMED)
    return [] if explain is None else explain(jws, verdict, issuers)


def hints(jws: Jws, verdict: Verdict, found: Iterable[Mismatch]) -> list[str]:
    """What is known of tokens such as this one."""
    reason, payload = verdict.identity.reason, jws.payload
    given: list[str] = []
    if reason is Reason.SIGNATURE_MISMATCH and "nonce" in jws.header:
        given.append(
            "its header has a nonce: Microsoft signs tokens for its own Graph so that nobody else can verify them, nor "
            "tell one from a forgery. Such a token is not for this app: let the client ask for one for this app's own "
            "scope"
        )
    if reason is Reason.UNKNOWN_KEY and {"cid", "uid"} <= payload.keys() and _has_no_path(payload.get("iss")):
        given.append(
            "it looks like a token of an Okta org's own authorization server, whose keys nobody else has: let the "
            "client ask a custom authorization server (…/oauth2/default)"
        )
    if reason is Reason.AUDIENCE_MISMATCH and "account" in _shown(payload.get("aud")) and "azp" in payload:
        given.append(
            "Keycloak writes the audience 'account' by itself: add an audience mapper for this app to a client scope"
        )
    for one in found:
        near = [wanted for wanted in one.wanted if any(_nearly(value, wanted) for value in one.found)]
        if near:
            given.append(f"{one.what} and {near[0]} differ in case, scheme or the slash at the end alone")
    return given


def instead_of(claim: Claim, claims: Any) -> str | None:
    """The pointer that was meant by a name that is not there, if it leads somewhere."""
    if not claim.alone or claim.of(claims) is not MISSING:
        return None
    for separator in "/.":
        parts = claim.name.strip(separator).split(separator)
        if len(parts) > 1 and Claim("", tuple(parts)).of(claims) is not MISSING:
            return "/" + "/".join(part.replace("~", "~0").replace("/", "~1") for part in parts)
    return None


def _shown(value: Any) -> tuple[str, ...]:
    """A value of a token, printable and bounded; of an object its kind alone."""
    if value is None or value is MISSING:
        return ()
    if isinstance(value, list):
        return tuple(part for item in value[:MAX_SHOWN] for part in (_shown(item) or ("null",)))
    if isinstance(value, dict):
        return ("an object",)
    return (attr.text(value, 256) if isinstance(value, str) else attr.text(repr(value), 64),)


def _many(values: Iterable[str | None]) -> tuple[str, ...]:
    found = list(dict.fromkeys(attr.text(value, 256) for value in values if value is not None))
    more = len(found) - MAX_SHOWN
    return (*found[:MAX_SHOWN], *((f"and {more} more",) if more > 0 else ()))


def _audience(jws: Jws, verdict: Verdict, _: Issuers) -> list[Mismatch]:
    if verdict.issuer is None:
        return []
    where, value = audience_of(jws, verdict.issuer.settings)
    return [Mismatch(where, _shown(value), _many(sorted(verdict.issuer.settings.audience)))]


def _issuer(jws: Jws, verdict: Verdict, issuers: Issuers) -> list[Mismatch]:
    tenant = _shown(jws.payload.get("tid"))
    if verdict.issuer is not None:  # by name it is this one, but the key is another tenant's
        keys = () if verdict.keys is None else verdict.keys.candidates(jws.key_id, jws.algorithm)
        return [Mismatch("tid", tenant, _many(key.issuer for key in keys))]
    found = [Mismatch("iss", _shown(jws.payload.get("iss")), _many(map(_name, issuers.every)))]
    if any(issuer.settings.tenant for issuer in issuers.every):
        found.append(Mismatch("tid", tenant, ("the tenant that iss names",)))
    if any(issuer.settings.source not in (None, verdict.source) for issuer in issuers.every):
        sources = _many(issuer.settings.source or "any source" for issuer in issuers.every)
        found.append(Mismatch("source", (verdict.source,), sources))
    return found


def _name(issuer: Issuer) -> str:
    settings = issuer.settings
    name = settings.issuer or f"any ({settings.label})"
    return name if settings.source is None else f"{name} (from {settings.source})"


def _type(jws: Jws, verdict: Verdict, _: Issuers) -> list[Mismatch]:
    pinned = None if verdict.issuer is None else verdict.issuer.settings.typ
    wanted = (pinned,) if pinned is not None else (f"any but {', '.join(sorted(NO_CREDENTIALS))}",)
    return [Mismatch("typ", _shown(jws.header.get("typ")), wanted)]


def _claim(jws: Jws, verdict: Verdict, _: Issuers) -> list[Mismatch]:
    if verdict.about is None:
        return []
    name = verdict.about
    value = Claim.named(name).of(jws.payload)
    if value is MISSING and name == "exp":
        value = jws.header.get("exp", MISSING)
    if value is MISSING:
        return [Mismatch(name, (), ("it has to be there",))]
    wanted = "seconds since the epoch" if name in ("exp", "nbf", "iat") else "a text, or an integer"
    # Of whom it names, the type alone; a time may be shown
    shown = _shown(value) if name in ("exp", "nbf", "iat") else ()
    return [Mismatch(name, shown or (_kind(value),), ("a text" if name == "iss" else wanted,))]


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    kinds = {dict: "an object", list: "a list", bool: "true or false", int: "an integer", float: "a number"}
    return kinds.get(type(value), "a text")


def _algorithm(jws: Jws, verdict: Verdict, _: Issuers) -> list[Mismatch]:
    allowed = KNOWN if verdict.issuer is None else verdict.issuer.algorithms
    if jws.algorithm in allowed and verdict.keys is not None:  # then it is the key of that name that does not fit
        allowed = frozenset().union(*(key.algorithms for key in verdict.keys.keys if key.id == jws.key_id))
    return [Mismatch("alg", _shown(jws.algorithm), _many(sorted(allowed)))]


def _key(jws: Jws, verdict: Verdict, _: Issuers) -> list[Mismatch]:
    keys = () if verdict.keys is None else verdict.keys.keys
    return [Mismatch("kid", _shown(jws.key_id), _many(key.id or "a key without a name" for key in keys))]


def _signature(jws: Jws, verdict: Verdict, _: Issuers) -> list[Mismatch]:
    if verdict.issuer is None:
        return []
    return [Mismatch("key", _shown(jws.key_id), (f"one of {attr.text(verdict.issuer.keys.name)} that fits",))]


def _time(jws: Jws, verdict: Verdict, _: Issuers) -> list[Mismatch]:
    leeway = 0 if verdict.issuer is None else verdict.issuer.settings.leeway
    now = attr.iso_8601(int(verdict.as_of))
    early = verdict.identity.reason is Reason.NOT_YET_VALID
    wanted = f"{'not after' if early else 'after'} {now}, give or take {leeway:g} s"
    found = []
    for name in ("nbf", "iat") if early else ("exp",):
        value = jws.payload.get(name, jws.header.get(name) if name == "exp" else None)
        try:
            shown = attr.iso_8601(int(float(str(value))))
        except (ValueError, OverflowError):
            continue
        found.append(Mismatch(name, (shown,), (wanted,)))
    return found


_BY_REASON: dict[Reason, Callable[[Jws, Verdict, Issuers], list[Mismatch]]] = {
    Reason.AUDIENCE_MISMATCH: _audience,
    Reason.ISSUER_MISMATCH: _issuer,
    Reason.TYPE_MISMATCH: _type,
    Reason.CLAIM_MISSING: _claim,
    Reason.ALGORITHM_NOT_ALLOWED: _algorithm,
    Reason.UNKNOWN_KEY: _key,
    Reason.SIGNATURE_MISMATCH: _signature,
    Reason.EXPIRED: _time,
    Reason.NOT_YET_VALID: _time,
}


def _nearly(found: str, wanted: str) -> bool:
    """Whether two names differ in what people mistype."""
    return found != wanted and _plain(found) == _plain(wanted)


def _plain(name: str) -> str:
    return name.lower().removeprefix("https://").removeprefix("http://").rstrip("/")


def _has_no_path(issuer: Any) -> bool:
    try:
        return isinstance(issuer, str) and urlsplit(issuer).path in ("", "/")
    except ValueError:
        return False
