"""Whose request a verified token belongs to, and which of several tokens tells who makes it.

The app's own verification is seen wherever it happens: in another thread, in a task, or in a context
that belongs to no request. So the request is found by the token itself, and the request object is
changed; nothing is put into a context.

Invariants: only a token whose whole text stands in a value of a request's headers belongs to it, so
tokens from bodies and queries never count. A success beats a failure, whichever came first; of
several the one counts whose token stands in the first of the configured sources, and else first in the
headers: their order is the caller's choice. The last word on a token is that of a later validation of
its claims, where a library has one.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from ..identity.caller import Identity, Reason
from ..request import Phase, Request, in_flight
from .extract import Sources
from .observed import Verification

MAX_SEEN = 16
"""Tokens that are told apart in one request."""

_TOKEN = re.compile(r"e[yw3][A-Za-z0-9_\-]*\.[A-Za-z0-9_\-]*\.[A-Za-z0-9_\-]*")

Position = tuple[int, int]
"""Which header value, and where in it."""


@dataclass(slots=True)
class _Seen:
    identity: Identity
    verification: Verification
    claims: object = field(repr=False)
    """What the library returned: how a later validation of the claims is recognised."""
    rank: int
    """Which of the sources it stands in, in their order."""


class Observation:
    """Turns what was seen of the app's verifications into the identity of requests. Safe from many threads."""

    def __init__(self, judge: Callable[[Verification], Identity | None], sources: Sources | None = None) -> None:
        """``judge`` says what a verification proves; None where it proves nothing either way."""
        self._judge = judge
        self._sources = sources or Sources(())
        self._lock = threading.Lock()

    def saw(self, near: Request | None, verification: Verification, claims: object = None) -> None:
        """A library has verified a token, or refused it, in the context of the request ``near`` or of none."""
        if near is not None and near.judged and near.phase is Phase.OPEN:
            return  # the usual case with keys of ours: nothing is looked for
        holders = _holders(near, verification.token)
        if not holders:
            return
        for request, position in holders:
            source = self._sources.holding(request, verification.token)
            placed = replace(verification, source=source)
            identity = self._judge(placed)
            if identity is not None:
                names = (*self._sources.names, source)
                self._note(request, position, _Seen(identity, placed, claims, names.index(source)))

    def validated(self, near: Request | None, claims: object, reason: Reason | None) -> None:
        """A library has judged the claims that it had returned before; ``reason`` where it refused them."""
        for request in (near,) if near is not None and near.observed else in_flight.copy():
            for position, seen in list((request.observed or {}).items()):
                if seen.claims is not None and (seen.claims is claims or seen.claims == claims):
                    verification = replace(seen.verification, reason=reason)
                    identity = self._judge(verification)
                    if identity is not None:
                        self._note(request, position, replace(seen, identity=identity), last_word=True)

    def after_fork(self) -> None:
        """In a forked child: nobody holds the lock."""
        self._lock = threading.Lock()

    def _note(self, request: Request, position: Position, seen: _Seen, *, last_word: bool = False) -> None:
        with self._lock:
            if request.phase is not Phase.OPEN or request.judged:
                return  # its record is written, or our own verdict stands
            found: dict[Position, _Seen] = request.observed or {}
            before = found.get(position)
            if before is None and len(found) >= MAX_SEEN:
                return
            if before is None or last_word or _weight(seen.identity) > _weight(before.identity):
                found[position] = seen
            elif before.identity.verified and seen.identity.verified:
                before.claims = seen.claims
            request.observed = found
            _, first = min(found.items(), key=lambda item: (not item[1].identity.verified, item[1].rank, item[0]))
            best = first.identity
            if best is not request.identity:
                request.identify(best)


_AFTER_SIGNATURE = frozenset(
    (
        Reason.EXPIRED,
        Reason.NOT_YET_VALID,
        Reason.ISSUER_MISMATCH,
        Reason.AUDIENCE_MISMATCH,
        Reason.TYPE_MISMATCH,
        Reason.CLAIM_MISSING,
    )
)


def _weight(identity: Identity) -> int:
    """Which of two verdicts on one token says more: apps try several keys, and all but one must fail."""
    if identity.verified:
        return 2
    return 1 if identity.reason in _AFTER_SIGNATURE else 0


def _holders(near: Request | None, token: str) -> list[tuple[Request, Position]]:
    """The requests that a token belongs to, and where in their headers it stands.

    Out of context it may be that of any request in flight. Where several show it, those count that
    show no other: of these it cannot have been meant otherwise.
    """
    if near is not None and (position := _position(near, token)) is not None:
        return [(near, position)]
    found = [(request, position) for request in in_flight.copy() if (position := _position(request, token)) is not None]
    if len(found) > 1:
        found = [(request, position) for request, position in found if _only(request, token)]
    return found


def _position(request: Request, token: str) -> Position | None:
    headers = request.headers
    if headers is None or not token:
        return None
    for index, value in enumerate(headers.every()):
        at = value.find(token)
        while at >= 0:
            if not _inside(value, at + len(token)) and (not _inside(value, at - 1) or value[at - 3 : at - 2] == "%"):
                return index, at  # before it, a percent-encoded blank at most
            at = value.find(token, at + 1)
    return None


def _inside(value: str, at: int) -> bool:
    """Whether a token goes on at ``at``: then what was found is a part of another one."""
    return 0 <= at < len(value) and (value[at].isalnum() or value[at] in "-_.")


def _only(request: Request, token: str) -> bool:
    headers = request.headers
    return headers is not None and {found for value in headers.every() for found in _TOKEN.findall(value)} == {token}


def token_text(value: Any) -> str | None:
    """A token as a library was given it, as text; None where that can be no token."""
    if isinstance(value, bytes):
        try:
            return value.decode("ascii")
        except UnicodeDecodeError:
            return None
    return value if isinstance(value, str) else None
