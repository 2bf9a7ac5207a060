"""What both boundaries share: how a request begins, where its ids and its route's owner are found.

Invariants: at most one request is active in a context; what an earlier request left in the context
(pipelining: the next request's task is a copy of it) is never seen by the next one.
"""

from __future__ import annotations

import re
import sys
import time
from asyncio import CancelledError
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any, NamedTuple

from opentelemetry.context import Context

from jwt_audit.attributes import text, without_tokens
from jwt_audit.context import Phase, Request, current_request, in_flight, set_current
from jwt_audit.diagnostics import tell
from jwt_audit.ids import new_id
from opentelemetry import context as otel_context
from opentelemetry import trace

from ..pipeline import Pipeline
from ..stamp.late import restamp
from ..stamp.propagator import REQUEST_KEY

_SANE_ID = re.compile(r"[A-Za-z0-9._:\-]{1,128}")
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")

_CLIENT_GONE = ("ClientDisconnect", "ClientDisconnected")  # Starlette's, uvicorn's

UNRECORDED = "the audit record of this response cannot be written"
REFUSAL = b"The audit record of this request cannot be written; try again later.\n"
"""The body of a 503 with FAIL_MODE=closed."""
BODILESS = frozenset((101, 204, 304))
"""Statuses whose responses end with their headers, as does every response to HEAD (RFC 9110, 6.4.1)."""

_MARK = "jwt_audit.request"

_pipeline: Pipeline | None = None


class Before(NamedTuple):
    """What a context held before a request began in it."""

    request: Request | None
    context: Context


def install(pipeline: Pipeline | None) -> None:
    """Say whom the boundaries ask; None turns them off without a trace."""
    global _pipeline
    _pipeline = pipeline


def installed() -> Pipeline | None:
    """The pipeline that `install` was given."""
    return _pipeline


_waiting: list[Callable[[], None]] = []


def at_first_request(call: Callable[[], None]) -> None:
    """Have ``call()`` made when the first request begins: by then the app has set itself up."""
    _waiting.append(call)


def _set_up() -> None:
    while True:
        try:
            call = _waiting.pop()
        except IndexError:
            return  # all are made, some perhaps by another first request
        guarded("setting up", call)


def active(carrier: MutableMapping[str, Any]) -> tuple[Pipeline | None, Request | None]:
    """The pipeline to ask about the request of ``carrier`` (an environ or a scope), or None: nothing is
    instrumented, or the request is audited further out.

    Where its context was lost on the way in (an app that is run in a thread of its own), the carrier
    still names that request: it comes second then, to be `resumed`.
    """
    request = current_request()
    if _pipeline is None or (request is not None and request.phase is Phase.OPEN):
        return None, None
    marked = carrier.get(_MARK)
    if isinstance(marked, Request) and marked.phase is Phase.OPEN:
        return None, marked
    return _pipeline, None


@contextmanager
def resumed(request: Request) -> Iterator[None]:
    """The context of ``request``, whose own was lost, for as long as this block runs."""
    before = Before(current_request(), otel_context.get_current())
    set_current(request)
    base = before.context if request.span is None else trace.set_span_in_context(request.span, before.context)
    otel_context.attach(otel_context.set_value(REQUEST_KEY, request, base))
    try:
        yield
    finally:
        set_current(before.request)
        otel_context.attach(before.context)


def new_request(kind: str, method: str, path: str, request_id: str | None) -> Request:
    """A request that begins now; an incoming X-Request-ID counts if it is short and harmless."""
    if request_id is None or not _SANE_ID.fullmatch(request_id):
        request_id = new_id()
    return Request(
        kind=kind,
        method=text(method, 32),
        path=text(without_tokens(path)),
        started=time.time_ns(),
        clock=time.perf_counter_ns(),
        request_id=request_id,
    )


def enter(request: Request, carrier: MutableMapping[str, Any]) -> Before:
    """Make ``request`` the one that this context and ``carrier`` serve; the caller gives the result to `leave`.

    A span that was started in the name of an earlier request is not a parent here, one that something
    outside of us has started for this request is.
    """
    if _waiting:
        _set_up()
    before = Before(current_request(), otel_context.get_current())
    inherited = before.request is not None and before.context.get(REQUEST_KEY) is before.request
    base = Context() if inherited else before.context
    set_current(request)
    request.on_identity = restamp
    in_flight.add(request)
    carrier[_MARK] = request
    span = trace.get_current_span(base)
    if span.is_recording() and getattr(span, "kind", None) is trace.SpanKind.SERVER:
        adopt(request, span)
        span.set_attributes(dict(request.identity.telemetry))
    otel_context.attach(otel_context.set_value(REQUEST_KEY, request, base))
    return before


def leave(request: Request, before: Before) -> None:
    """The request is over: what the context held before is put back, unless that is over too.

    Put back by name, not by token: a body may be closed in another context than it was begun in, where
    a token is refused. There nothing is changed, unless that context serves this very request too.
    """
    request.forget()
    in_flight.discard(request)
    if current_request() is request:
        over = before.request is not None and before.request.phase is Phase.DONE
        set_current(None if over else before.request)
        otel_context.attach(Context() if over else before.context)


def adopt(request: Request, span: Any) -> None:
    """Take ``span`` for the request's server span."""
    request.span = span
    locate(request, span)


def locate(request: Request, span: Any = None, traceparent: str | None = None) -> None:
    """Set the trace ids: of the server span, else of the current one (unsampled too), else as the caller says."""
    if request.trace_id is not None:
        return
    found = (span or trace.get_current_span()).get_span_context()
    if found.is_valid:
        request.trace_id, request.span_id = f"{found.trace_id:032x}", f"{found.span_id:016x}"
        request.trace_flags = int(found.trace_flags)
        return
    match = _TRACEPARENT.fullmatch(traceparent or "")
    if match and match[1].strip("0") and match[2].strip("0"):
        request.trace_id, request.span_id, request.trace_flags = match[1], match[2], int(match[3], 16)


def error_name(error: BaseException) -> str:
    """``error.type`` as the semantic conventions want it: the qualified class name."""
    kind = type(error)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    return text(name, 256)


def note_error(request: Request) -> None:
    """With a 5xx, the exception behind it: the one being handled, else the last that the framework has
    answered for, else what the server span recorded."""
    if request.status < 500 or request.error_type is not None:
        return
    error = sys.exc_info()[1]
    if error is not None:
        request.error_type = error_name(error)
        return
    if request.handled is not None:
        request.error_type = request.handled
        return
    for event in reversed(getattr(request.span, "events", ()) or ()):
        kind = (event.attributes or {}).get("exception.type")
        if kind is not None:
            request.error_type = text(str(kind), 256)
            return


def ended_early(error: BaseException) -> bool:
    """Whether ``error`` says no more than that the client has gone, or that the server gives the request up."""
    return isinstance(error, (CancelledError, GeneratorExit)) or type(error).__name__ in _CLIENT_GONE


def guarded(where: str, call: Callable[..., Any], *args: Any) -> Any:
    """``call(*args)``; an exception of ours is told once and never reaches the app. None then."""
    try:
        return call(*args)
    except Exception as error:
        failed(where, error)
        return None


def failed(where: str, error: Exception) -> None:
    """Tell once of a failure of ours, by its type alone: its text may hold what must not be shown."""
    tell(f"{where} failed ({error_name(error)}); the app goes on", once=f"{where} {error_name(error)}")
