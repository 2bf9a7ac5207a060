"""Where a request shows its token: the Authorization header (RFC 6750, 2.1), or where the operator says.

Invariants: pure, nothing is decoded. The first source that shows a credential decides. A source that
shows two different credentials of which one may be a token shows no token at all: the app may use
the other one (Starlette takes the first of two headers, WSGI joins them by a comma).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import pairwise
from typing import NamedTuple

from ..identity.caller import ABSENT, Identity, Reason, refused
from ..request import Request
from ..settings.issuer import BEARER
from .jws import unfit


class Presented(NamedTuple):
    """What a request shows: the one token to verify and its source, or the finished answer when there is none."""

    token: str | None
    identity: Identity | None
    source: str = BEARER

    def __repr__(self) -> str:
        """Without the token."""
        return f"Presented(identity={self.identity!r}, source={self.source!r})"


NOTHING = Presented(None, ABSENT)
"""No token, and nothing that may be one."""
_REFUSED = {reason: Presented(None, refused(reason)) for reason in Reason}
_SCHEMES = ("bearer", "dpop")  # RFC 6750; RFC 9449, 7.1: what the token is bound to is recorded, not checked


class Sources:
    """The places of a request that are looked at for a token, in their order, each once.

    ``names`` are ``bearer``, ``header:NAME`` (the name in lower case), ``cookie:NAME`` and ``websocket``.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self.names = tuple(dict.fromkeys(names))
        self._readers = tuple(map(_reader, self.names))

    def present(self, request: Request) -> Presented:
        """What the request shows, by the first source at which it shows anything."""
        for read in self._readers:
            presented = read(request)
            if presented is not NOTHING:
                return presented
        return NOTHING

    def holding(self, request: Request, token: str) -> str:
        """The first source that has ``token`` in it, be it beside others; empty where none has."""
        return next((name for name in self.names if any(token in value for value in _values(request, name))), "")


def _values(request: Request, source: str) -> Iterable[str]:
    """All that stands in a source."""
    if request.headers is None:
        return ()
    kind, _, name = source.partition(":")
    if kind == "cookie":
        pairs = (part.partition("=") for value in request.headers.named("cookie") for part in value.split(";"))
        return [value for key, _, value in pairs if key.strip() == name]
    return request.headers.named({"header": name, "websocket": "sec-websocket-protocol"}.get(kind, "authorization"))


def _reader(source: str) -> Callable[[Request], Presented]:
    kind, _, name = source.partition(":")
    if kind == "header":
        return partial(_by_name, name, partial(header, source=source))
    if kind == "cookie":
        return partial(_by_name, "cookie", partial(cookie, name=name, source=source))
    if kind == "websocket":
        return partial(_by_name, "sec-websocket-protocol", websocket)
    return _authorization


def _authorization(request: Request) -> Presented:
    return bearer(request.authorization)


def _by_name(name: str, read: Callable[[Sequence[str]], Presented], request: Request) -> Presented:
    values = () if request.headers is None else request.headers.named(name)
    return read(values) if values else NOTHING


def bearer(values: Sequence[str]) -> Presented:
    """What the Authorization header ``values`` (latin-1 text, one a header line) show.

    The scheme is compared without case; blanks and tabs around the token are tolerated. Basic, Digest
    and API keys are no tokens (``absent``); an opaque or encrypted bearer token, and a JWT without a
    scheme or under a foreign one, are ``unsupported_token``.
    """
    if not values:
        return NOTHING
    if len(values) == 1 and "," not in values[0]:
        if values[0].startswith("Bearer ") and unfit(token := values[0][7:]) is None:  # as nearly all do
            return Presented(token, None)
        return _one(*_credential(values[0]))
    found = {_credential(part) for value in values for part in value.split(",")}
    if len(found) == 1:
        return _one(*found.pop())
    if not any(_may_be_token(scheme, token) for scheme, token in found):
        return NOTHING
    return _REFUSED[Reason.MALFORMED if ("", "") in found else Reason.MULTIPLE_TOKENS]


def header(values: Sequence[str], *, source: str) -> Presented:
    """What a header of the operator's choice shows: a token alone, or after a word such as ``Bearer`` or ``JWT``."""
    found = {_credential(part)[1] for value in values for part in value.split(",")}
    return _only(found, source)


def cookie(values: Sequence[str], *, name: str, source: str) -> Presented:
    """What the cookie called ``name`` shows (RFC 6265, 5.4), quoted or not."""
    pairs = (part.partition("=") for value in values for part in value.split(";"))
    return _only({value.strip(' \t"') for key, _, value in pairs if key.strip() == name}, source)


def websocket(values: Sequence[str]) -> Presented:
    """What the subprotocols offered show: the one after ``bearer`` is a token; browsers can set no header."""
    offered = [item.strip(" \t") for value in values for item in value.split(",")]
    return _only({token for word, token in pairwise(offered) if word.lower() == "bearer"}, "websocket")


def _only(tokens: set[str], source: str) -> Presented:
    tokens.discard("")
    if not tokens:
        return NOTHING
    if len(tokens) > 1:
        return _REFUSED[Reason.MULTIPLE_TOKENS]
    (token,) = tokens
    reason = unfit(token)
    return Presented(token, None, source) if reason is None else _REFUSED[reason]


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
    return scheme in _SCHEMES or (bool(token) and unfit(token) is None)


def _one(scheme: str, token: str) -> Presented:
    if scheme in _SCHEMES:
        reason = unfit(token)
        return Presented(token, None) if reason is None else _REFUSED[reason]
    return _REFUSED[Reason.UNSUPPORTED_TOKEN] if _may_be_token(scheme, token) else NOTHING
