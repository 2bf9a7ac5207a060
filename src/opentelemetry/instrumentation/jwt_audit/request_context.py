"""What hooks and stamps both need: the request in OpenTelemetry's context, its server span, the calls for its set-up.

It imports neither hooks nor stamps, so that neither has to import the other for this.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from opentelemetry.context import Context

from jwt_audit.request import Request, current_request
from opentelemetry import context as otel_context
from opentelemetry import trace

REQUEST_KEY = otel_context.create_key("jwt-audit-request")
"""Where the request is in a context of OpenTelemetry."""

_TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_ADOPTED = "_jwt_audit_adopted"

first_request_calls: list[Callable[[], None]] = []
"""What `at_first_request` was given; the boundary that begins the first request takes each out and calls it."""


def at_first_request(call: Callable[[], None]) -> None:
    """Have ``call()`` made when the first request begins: by then the app has set itself up."""
    first_request_calls.append(call)


def request_of(context: Context | None = None) -> Request | None:
    """The request that ``context`` carries (None: the current one), else the one that this code runs for."""
    request = otel_context.get_value(REQUEST_KEY, context)
    return request if isinstance(request, Request) else current_request()


def is_adopted(span: Any) -> bool:
    """Whether ``span`` is the server span of a request already."""
    return hasattr(span, _ADOPTED)


def adopt_server_span(request: Request, span: Any) -> None:
    """Take ``span`` for the request's server span."""
    request.span = span
    try:
        setattr(span, _ADOPTED, True)
    except AttributeError:
        pass  # of another SDK: such a span may be taken for a second request's too, if its owner leaves it current
    set_trace_ids(request, span)


def set_trace_ids(request: Request, span: Any = None, traceparent: str | None = None) -> None:
    """Set the trace ids once: of the server span, else of the current span (unsampled too), else of ``traceparent``."""
    if request.trace_id is not None:
        return
    ids = (span or trace.get_current_span()).get_span_context()
    if ids.is_valid:
        request.trace_id, request.span_id = f"{ids.trace_id:032x}", f"{ids.span_id:016x}"
        request.trace_flags = int(ids.trace_flags)
        return
    match = _TRACEPARENT.fullmatch(traceparent or "")
    if match and match[1].strip("0") and match[2].strip("0"):
        request.trace_id, request.span_id, request.trace_flags = match[1], match[2], int(match[3], 16)
