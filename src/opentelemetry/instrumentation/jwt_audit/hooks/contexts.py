"""Puts the request into the current context while the app runs, and takes it out again.

Invariants: the request is in a context only while the app runs: while it is called, and for each piece of its body.
It is taken out by our own key. An earlier context is never restored as a whole, since others may have changed the
current one meanwhile. So a response that is closed late, in another thread or never leaves nothing behind.

Another library's span is dropped as a parent in one case only: it is known to belong to an earlier request. A server
may begin the next request of a connection while it sends the earlier response (pipelining), or while it reads because
the app has asked for more. What it begins then runs in a copy of the earlier request's context.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

from opentelemetry.context import Context

from jwt_audit.request import Phase, Request, current_request, set_current
from opentelemetry import context as otel_context
from opentelemetry import trace

from ..request_context import REQUEST_KEY

Before = tuple["Request | None", Context, Context, Any]
"""The request and the context that were current before, the context that replaced it, and the value of `_outward`."""

_outward: ContextVar[tuple[Context, Any] | None] = ContextVar("jwt_audit_outward", default=None)
"""While the app calls its server: the context of that call, and the span that was current when the request began."""


def attach_request(request: Request, last: Before | None = None) -> Before:
    """Make ``request`` current until `detach_request`: its app runs now. ``last`` is the result of the call before."""
    earlier, context, left = current_request(), otel_context.get_current(), _outward.get()
    if last is not None and last[1] is context and left is None:
        ours = last[2]
    else:
        ours = otel_context.set_value(REQUEST_KEY, request, context)
        if left is not None:
            _outward.set(None)
            if _spans_own(context, left):
                ours = trace.set_span_in_context(trace.INVALID_SPAN, ours)
    set_current(request)
    otel_context.attach(ours)
    return earlier, context, ours, left


def detach_request(request: Request, before: Before) -> None:
    """The app has returned: take the request out, unless another library has done so."""
    earlier, context, ours, left = before
    if earlier is not None and earlier.phase is Phase.DONE:
        earlier = None  # a thread may serve for hours after it
    if current_request() is request:
        set_current(earlier)
    present = otel_context.get_current()
    if present is ours and context.get(REQUEST_KEY) is earlier:
        otel_context.attach(context)
    elif present.get(REQUEST_KEY) is request:
        otel_context.attach(_without(present, before, earlier))
    if left is not None:
        _outward.set(left)


def _without(present: Context, before: Before, earlier: Request | None) -> Context:
    values = {key: value for key, value in present.items() if key != REQUEST_KEY}
    if earlier is not None:
        values[REQUEST_KEY] = earlier
    kept = Context(values)
    _, context, _, left = before
    if left is not None and trace.get_current_span(kept) is trace.INVALID_SPAN and _spans_own(context, left):
        kept = trace.set_span_in_context(trace.get_current_span(context), kept)
    return kept


def _spans_own(context: Context, left: tuple[Context, Any]) -> bool:
    """Whether the span of ``context`` is known to belong to the earlier request: it was current when that called its
    server, and not yet when that began."""
    span = trace.get_current_span(context)
    return span is not left[1] and span is trace.get_current_span(left[0])


def enter_server(around: Any) -> Any:
    """The app calls its server, which may begin another request. ``around`` is the span that was current when the
    request began.

    Returns what `leave_server` takes.
    """
    left = _outward.get()
    _outward.set((otel_context.get_current(), around))
    return left


leave_server: Callable[[Any], object] = _outward.set
"""The server has returned to the app."""


def inside() -> bool:
    """Whether this code runs for a request that is open: below its app, and not in what its server has begun."""
    request = current_request()
    return request is not None and request.phase is Phase.OPEN and _outward.get() is None
