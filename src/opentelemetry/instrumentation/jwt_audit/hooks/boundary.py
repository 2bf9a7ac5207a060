"""What both boundaries share: how a request begins, where its ids and its route's owner are found.

Invariants: at most one request is active in a context; what an earlier request left in the context
(pipelining: the next request's task is a copy of it) is never seen by the next one.
"""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable
from contextvars import Token
from typing import Any
from uuid import uuid4

from opentelemetry.context import Context

from jwt_audit.attributes import text
from jwt_audit.context import Phase, Request, current_request, in_flight, set_current
from jwt_audit.diagnostics import tell
from opentelemetry import context as otel_context
from opentelemetry import trace

from ..pipeline import Pipeline
from ..stamp.late import restamp
from ..stamp.propagator import REQUEST_KEY

_SANE_ID = re.compile(r"[A-Za-z0-9._:\-]{1,128}")
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")

_pipeline: Pipeline | None = None


def install(pipeline: Pipeline | None) -> None:
    """Say whom the boundaries ask; None turns them off without a trace."""
    global _pipeline
    _pipeline = pipeline


def installed() -> Pipeline | None:
    """The pipeline that `install` was given."""
    return _pipeline


def active() -> Pipeline | None:
    """The pipeline to ask, or None: not instrumented, or inside of a request that is audited already."""
    if _pipeline is None:
        return None
    request = current_request()
    return _pipeline if request is None or request.phase is not Phase.OPEN else None


def new_request(kind: str, method: str, path: str, request_id: str | None) -> Request:
    """A request that begins now; an incoming X-Request-ID counts if it is short and harmless."""
    if request_id is None or not _SANE_ID.fullmatch(request_id):
        request_id = str(uuid4())
    return Request(
        kind=kind,
        method=text(method, 32),
        path=text(path),
        started=time.time_ns(),
        clock=time.perf_counter_ns(),
        request_id=request_id,
    )


def enter(request: Request) -> Token[Context]:
    """Make ``request`` the one that this context serves; the caller gives the token to `leave`."""
    inherited = current_request()
    base = otel_context.get_current() if inherited is None else Context()
    set_current(request)
    request.on_identity = restamp
    in_flight.add(request)
    span = trace.get_current_span(base)
    if span.is_recording() and getattr(span, "kind", None) is trace.SpanKind.SERVER:
        adopt(request, span)
        span.set_attributes(dict(request.identity.telemetry))
    return otel_context.attach(otel_context.set_value(REQUEST_KEY, request, base))


def leave(request: Request, token: Token[Context], *, forget: bool) -> None:
    """The request is over. ``forget`` where the thread serves others next; a task just ends."""
    request.forget()
    in_flight.discard(request)
    otel_context.detach(token)
    if forget:
        set_current(None)


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
    """With a 5xx, the exception behind it: the one being handled, else what the server span recorded."""
    if request.status < 500 or request.error_type is not None:
        return
    error = sys.exc_info()[1]
    if error is not None:
        request.error_type = error_name(error)
        return
    for event in reversed(getattr(request.span, "events", ()) or ()):
        kind = (event.attributes or {}).get("exception.type")
        if kind is not None:
            request.error_type = text(str(kind), 256)
            return


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
