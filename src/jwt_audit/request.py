"""The request under way, and the ContextVar that carries it.

A `Request` is made by a boundary and known to no server, framework or OpenTelemetry: what those
know of it they write into its fields. The object, never a copy of it, travels; so what is learned
late (a verification that the app does in another thread) is seen by all who hold it. Nothing of it
ever enters baggage.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextvars import ContextVar
from enum import IntEnum
from typing import Any, Protocol

from .attributes import Value
from .identity.caller import ABSENT, Identity


class Phase(IntEnum):
    """Where a request stands. A later request may inherit this one's context from CLOSING on."""

    OPEN = 0
    CLOSING = 1
    DONE = 2


class Headers(Protocol):
    """The headers of a request, read where the server keeps them, only when they are asked for."""

    def every(self) -> Iterable[str]:
        """The values of all headers, as they came (latin-1 text)."""

    def named(self, name: str) -> Sequence[str]:
        """The values of the headers of this name, which is in lower case; one for each line that came."""


class Request:
    """What is known so far of one request: who, what, from where, and how it ended.

    ``started`` is wall-clock nanoseconds since the epoch, ``clock`` monotonic nanoseconds. ``span``
    is the server span once one is known (opaque here); ``trace_id`` and ``span_id`` are lowercase
    hex. ``on_identity`` is called with the identity of before when another takes its place.
    """

    __slots__ = (
        "annotations",
        "authorization",
        "client",
        "clock",
        "error_type",
        "handled",
        "headers",
        "id",
        "identity",
        "judged",
        "kind",
        "method",
        "observed",
        "on_identity",
        "path",
        "peer",
        "phase",
        "recorded",
        "route",
        "span",
        "span_id",
        "started",
        "status",
        "trace_flags",
        "trace_id",
        "traceparent",
        "user_agent",
    )

    def __init__(self, *, kind: str, method: str, path: str, started: int, clock: int, request_id: str) -> None:
        self.kind = kind
        """``http`` or ``websocket``."""
        self.method = method
        self.path = path
        self.started = started
        self.clock = clock
        self.id = request_id
        self.peer: str | None = None
        self.client: str | None = None
        self.user_agent: str | None = None
        self.authorization: tuple[str, ...] = ()
        """The values of the Authorization header; in memory only, emptied when the request is done."""
        self.headers: Headers | None = None
        """Whatever may hold a token; in memory only, None when the request is done."""
        self.identity: Identity = ABSENT
        self.judged = False
        """Whether the identity is the verdict on a token under configured keys: then nothing else changes it."""
        self.observed: Any = None
        """What `tokens.observation` keeps of the tokens that the app verified; None when the request is done."""
        self.on_identity: Callable[[Request, Identity], None] | None = None
        self.route: str | None = None
        self.status = 0
        """The response's status code; 0 while none was started."""
        self.error_type: str | None = None
        self.handled: str | None = None
        """The last exception that a framework has answered for; the ``error_type`` if the answer is a 5xx."""
        self.annotations: dict[str, Value] = {}
        self.phase = Phase.OPEN
        self.recorded: tuple[str, ...] = ()
        """The events of which this request has had its one record, or its refusal."""
        self.span: Any = None
        self.trace_id: str | None = None
        self.span_id: str | None = None
        self.trace_flags = 0
        self.traceparent: str | None = None
        """The caller's header, for the ids where no span exists; nothing else is taken from it."""

    def identify(self, identity: Identity) -> None:
        """Set who makes the request, and tell the stampers."""
        before, self.identity = self.identity, identity
        if self.on_identity is not None:
            self.on_identity(self, before)

    def forget(self) -> None:
        """The request is done: let go of all that held a token."""
        self.phase = Phase.DONE
        self.authorization = ()
        self.headers = None
        self.observed = None


_current: ContextVar[Request | None] = ContextVar("jwt_audit_request", default=None)


current_request: Callable[[], Request | None] = _current.get
"""The request whose context this code runs in, also after its response (background work)."""

set_current: Callable[[Request | None], object] = _current.set
"""Make a request current. Not a token to reset: a generator may end in another context."""

in_flight: set[Request] = set()
"""The requests that have begun and not ended, whatever context they run in."""
