"""Where a request shows its token: so far the Authorization header (RFC 6750, 2.1).

Invariants: pure, nothing is decoded, and a request that shows two different credentials of which one
may be a token has no token at all: the app may use the other one (Starlette takes the first of two
headers, WSGI joins them by a comma).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..identity import ABSENT, Identity, Reason, refused
from .jws import unfit


@dataclass(frozen=True, slots=True)
class Presented:
    """What a request shows: the one token to verify, or the finished answer when there is none."""

    token: str | None
    identity: Identity | None


_ABSENT = Presented(None, ABSENT)
_REFUSED = {reason: Presented(None, refused(reason)) for reason in Reason}


def bearer(values: Sequence[str]) -> Presented:
    """What the Authorization header ``values`` (latin-1 text, one a header line) show.

    The scheme is compared without case; blanks and tabs around the token are tolerated. Basic, Digest
    and API keys are no tokens (``absent``); an opaque or encrypted bearer token, one bound by DPoP
    (RFC 9449), and a JWT without a scheme or under a foreign one are ``unsupported_token``.
    """
    if not values:
        return _ABSENT
    if len(values) == 1 and "," not in values[0]:
        return _one(*_credential(values[0]))
    found = {_credential(part) for value in values for part in value.split(",")}
    if len(found) == 1:
        return _one(*found.pop())
    if not any(_may_be_token(scheme, token) for scheme, token in found):
        return _ABSENT
    return _REFUSED[Reason.MALFORMED if ("", "") in found else Reason.MULTIPLE_TOKENS]


def _credential(text: str) -> tuple[str, str]:
    """Scheme in lower case and what follows it; a lone word is taken for a token without a scheme."""
    text = text.strip(" \t")
    scheme, blank, token = text.partition(" ")
    if "\t" in scheme:
        scheme, blank, token = text.partition("\t")
    if blank:
        return scheme.lower(), token.lstrip(" \t")
    return (text.lower(), "") if text.lower() == "bearer" else ("", text)


def _may_be_token(scheme: str, token: str) -> bool:
    return scheme in ("bearer", "dpop") or (bool(token) and unfit(token) is None)


def _one(scheme: str, token: str) -> Presented:
    if scheme == "bearer":
        reason = unfit(token)
        return Presented(token, None) if reason is None else _REFUSED[reason]
    return _REFUSED[Reason.UNSUPPORTED_TOKEN] if _may_be_token(scheme, token) else _ABSENT
