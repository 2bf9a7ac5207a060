"""From the claims of a token to who it names and how long it holds.

Pure. Texts stay as the token has them: `identity` gives them the form in which they are recorded.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from .. import attributes as attr
from ..attributes import Value
from ..identity.caller import ActorType, Identity, Reason, Status, refused
from ..settings.issuer import IssuerSettings
from .jws import TokenRefusedError
from .mapping import MISSING, Claim, Mapped, mapped

MAX_TIME = 253_402_300_799
"""The last second of the year 9999. What lies beyond is no time: milliseconds, or a slip of the pen."""

ACCESS_TOKEN = ("iss", "exp", "aud", "sub", "client_id", "iat", "jti")
"""What each access token of RFC 9068 must have (2.2)."""
_ORIGIN = re.compile(r"[a-z][a-z0-9+.\-]*://[^/?#]+")
_TENANT = re.compile(r"[A-Za-z0-9.\-]{1,128}")


def tenant_in(template: str, issuer: str) -> str | None:
    """What ``issuer`` has in the place of ``{tenantid}`` in ``template``; None where it does not fit."""
    before, placeholder, after = template.partition("{tenantid}")
    if not placeholder or not (issuer.startswith(before) and issuer.endswith(after)):
        return None
    tenant = issuer[len(before) : len(issuer) - len(after)]
    return tenant if _TENANT.fullmatch(tenant) else None


def times(claims: Mapping[str, Any], leeway: float) -> tuple[float | None, float | None, int | None]:
    """From when and until when (exclusive) the claims hold, ``leeway`` included, and ``exp``, in whole seconds.

    A NumericDate may have a fraction (RFC 7519, 2). One written as a string of digits is taken as the
    number, as PyJWT does, so that ours and the app's answer agree. Anything else is no time: raises
    TokenRefusedError with ``claim_missing``.
    """
    starts = [_seconds(claims, name) for name in ("nbf", "iat") if name in claims]
    start = max(starts) - leeway if starts else None
    if "exp" not in claims:
        return start, None, None
    exp = _seconds(claims, "exp")
    return start, exp + leeway, int(exp // 1)


def _seconds(claims: Mapping[str, Any], name: str) -> float:
    value = claims[name]
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 12:
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not -MAX_TIME <= value <= MAX_TIME:
        raise TokenRefusedError(Reason.CLAIM_MISSING, about=name)
    return value


def audience_matches(claims: Mapping[str, Any], wanted: Collection[str]) -> bool:
    """Whether the token is meant for one of ``wanted`` (RFC 7519, 4.1.3).

    A token without any ``aud`` is judged by its ``client_id``: Amazon Cognito's access tokens have
    nothing else, and the issuer has signed it.
    """
    return names_one_of(audience_in(claims)[1], wanted)


def audience_in(claims: Mapping[str, Any]) -> tuple[str, Any]:
    """The claim by which `audience_matches` judges, and its value; None where it is not there."""
    name = "aud" if "aud" in claims or "client_id" not in claims else "client_id"
    return name, claims.get(name)


def names_one_of(audience: Any, wanted: Collection[str]) -> bool:
    """Whether a text, or a list of them, names one of ``wanted``."""
    if isinstance(audience, str):
        return audience in wanted
    return isinstance(audience, list) and any(isinstance(item, str) and item in wanted for item in audience)


def _subject(claims: Mapping[str, Any], candidates: Iterable[str]) -> str | None:
    """The first of ``candidates`` that is there: text, or an integer as its decimal string.

    An empty text names nobody (Cloudflare's service tokens). Any other value is never an identity,
    and no later candidate replaces it: raises TokenRefusedError with ``claim_missing``.
    """
    for candidate in candidates:
        value = Claim.named(candidate).of(claims)
        if value is MISSING or value == "":
            continue
        if (name := _name(value)) is None:
            raise TokenRefusedError(Reason.CLAIM_MISSING, about=candidate)
        return name
    return None


def _name(value: Any) -> str | None:
    if isinstance(value, str):
        return value
    if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() <= 512:
        return str(value)
    return None


def _first(claims: Mapping[str, Any], candidates: Iterable[str]) -> tuple[str, str] | None:
    """The first usable value of ``candidates`` and the name of the claim it came from."""
    for candidate in candidates:
        value = Claim.named(candidate).of(claims)
        if value != "" and (name := _name(value)) is not None:
            return name, candidate
    return None


def missing(claims: Mapping[str, Any], required: Iterable[str]) -> str | None:
    """The first of the ``required`` claims that is not there."""
    return next((name for name in required if name not in claims), None)


def _acting(claims: Mapping[str, Any]) -> tuple[str | None, str | None]:
    """Who acts for the subject, and who named them so (RFC 8693, 4.1).

    Only the outermost ``act`` acts now; those within have acted before. ``may_act`` says who might, and is
    never looked at.
    """
    act = claims.get("act")
    if not isinstance(act, dict):
        return None, None
    who = next((name for key in ("sub", *IssuerSettings.client) if (name := _name(act.get(key)))), None)
    issuer = act.get("iss")
    return who, issuer if who is not None and isinstance(issuer, str) and issuer else None


def _bound(claims: Mapping[str, Any]) -> str | None:
    """By what the token is bound to whoever holds a key (RFC 7800, 3.1; RFC 9449, 6.1; RFC 8705, 3.1)."""
    confirmation = claims.get("cnf")
    if not isinstance(confirmation, dict) or not confirmation:
        return None
    return "dpop" if "jkt" in confirmation else "mtls" if "x5t#S256" in confirmation else "key"


def _others(claims: Mapping[str, Any], mapping: Iterable[tuple[str, str]]) -> list[Mapped]:
    try:
        return list(mapped(claims, mapping))
    except RecursionError as error:
        raise TokenRefusedError(Reason.MALFORMED) from error


def _partial(others: Iterable[Mapped]) -> Mapping[str, str]:
    """The digest of each attribute's claim of which something is left out; of several claims the one that counts."""
    found: dict[str, str] = {}
    for one in others:
        if one.value is not None:
            found.pop(one.attribute, None)
        if one.digest is not None:
            found.setdefault(one.attribute, one.digest)
    return found


def _client(claims: Mapping[str, Any], names: Iterable[str]) -> str | None:
    """The program that the token was made for. Clerk writes the origin of a page into ``azp``: that is none."""
    for name in names:
        value = claims.get(name)
        if isinstance(value, str) and value and not (name == "azp" and _is_clerks_origin(claims, value)):
            return value
    return None


def _is_clerks_origin(claims: Mapping[str, Any], azp: str) -> bool:
    session = claims.get("sid")
    return isinstance(session, str) and session.startswith("sess_") and _ORIGIN.fullmatch(azp) is not None


def _is_service(claims: Mapping[str, Any], subject: str | None, client: str | None) -> bool:
    """Whether the token was made for a program that acts for itself (client credentials, workload)."""
    if claims.get("gty") == "client-credentials" or claims.get("idtyp") == "app":  # Auth0; Entra
        return True
    if claims.get("role") == "service_role":  # Supabase: the key of a backend, which names nobody
        return True
    if subject is None:
        return False
    if subject == client:  # RFC 9068, 2.2: then sub is the client
        return True
    if claims.get("oid") == subject and "scp" not in claims and client is not None:  # Entra without idtyp
        return True
    if client is not None and claims.get("preferred_username") == f"service-account-{client}".lower():  # Keycloak
        return True
    return subject.startswith(("system:serviceaccount:", "spiffe://"))  # Kubernetes; SPIFFE


def verified(claims: Mapping[str, Any], settings: IssuerSettings, expires_at: int | None) -> Identity:
    """The identity that proved ``claims`` give by their issuer's settings.

    Raises TokenRefusedError when the subject is neither a text nor an integer.
    """
    subject = _subject(claims, settings.subject)
    session, session_claim = _first(claims, settings.session) or (None, None)
    client = _client(claims, settings.client)
    issuer = claims.get("iss")
    acting, acting_issuer = _acting(claims)
    others = _others(claims, settings.claims)
    actor_type = settings.actor_type
    if actor_type is None:
        actor_type = ActorType.SERVICE if _is_service(claims, subject, client) else ActorType.USER
    return Identity(
        Status.VERIFIED,
        subject=subject,
        session=session,
        session_claim=session_claim,
        issuer=issuer if isinstance(issuer, str) else None,
        expires_at=expires_at,
        token_id=_name(claims.get("jti")),
        client=client,
        actor_type=actor_type,
        acting=acting,
        acting_issuer=acting_issuer,
        bound=_bound(claims),
        claims={other.attribute: other.value for other in others if other.value is not None},
        partial=_partial(others),
    )


def expired(claims: Mapping[str, Any], settings: IssuerSettings, claimed: Mapping[str, Value]) -> Identity:
    """The identity of an expired token whose signature holds: nobody, but the record says whose it was."""
    extra = dict(claimed)
    if (subject := _subject(claims, settings.subject)) is not None:
        extra[attr.JWT_EXPIRED_SUBJECT] = attr.text(subject)
    if (session := _first(claims, settings.session)) is not None:
        extra[attr.JWT_EXPIRED_SESSION] = attr.text(session[0])
    return refused(Reason.EXPIRED, extra=extra)
