"""What both boundaries share: how a request begins and ends, its error, and failures of our own.

Invariants: at most one request is active in a context. What an earlier request left in the context (with pipelining
the next request's task has a copy of it) is never seen by the next request. How a context is entered and left is in
`contexts`.
"""

from __future__ import annotations

import re
import sys
import time
from asyncio import CancelledError
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any

from jwt_audit.attributes import text, without_tokens
from jwt_audit.diagnostics import warn_operator
from jwt_audit.ids import new_id
from jwt_audit.request import Phase, Request, in_flight
from opentelemetry import trace

from ..pipeline import Pipeline
from ..request_context import adopt_server_span, first_request_calls, is_adopted
from ..stamp.late import restamp
from .contexts import Before, attach_request, detach_request, inside

_SANE_ID = re.compile(r"[A-Za-z0-9._:\-]{1,128}")

_CLIENT_GONE = ("ClientDisconnect", "ClientDisconnected")  # Starlette's, uvicorn's

UNRECORDED = "the audit record of this response cannot be written"
REFUSAL = b"The audit record of this request cannot be written; try again later.\n"
"""The body of a 503 with FAIL_MODE=closed."""
BODILESS = frozenset((101, 204, 304))
"""Statuses whose responses end with their headers, as does every response to HEAD (RFC 9110, 6.4.1)."""

MARK = "jwt_audit.request"


class Mark(str):
    """The value in a carrier (an environ or a scope) that names the request while its app runs.

    A string, and a plain one once it is copied deeply or pickled: apps compare, copy and write what they are given.
    """

    __slots__ = ("request",)
    request: Request

    def __reduce__(self) -> tuple[type[str], tuple[str]]:
        return str, (str(self),)


_pipeline: Pipeline | None = None


def install(pipeline: Pipeline | None) -> None:
    """Set the pipeline that the boundaries use; with None they only call the app."""
    global _pipeline
    _pipeline = pipeline


def installed() -> Pipeline | None:
    """The pipeline that `install` was given."""
    return _pipeline


def _set_up() -> None:
    while True:
        try:
            call = first_request_calls.pop()
        except IndexError:
            return  # all were called, some perhaps by another thread
        guarded("setting up", call)


def active(carrier: MutableMapping[str, Any]) -> tuple[Pipeline | None, Request | None]:
    """The pipeline to ask about the request of ``carrier`` (an environ or a scope), or None: nothing is
    instrumented, or the request is audited further out.

    Where its context was lost (an app that runs in a thread of its own), the carrier still names the request: it is
    the second value then, to be `resumed`.
    """
    if _pipeline is None or inside():
        return None, None
    marked = carrier.get(MARK)
    if isinstance(marked, Mark) and marked.request.phase is Phase.OPEN:
        return None, marked.request
    return _pipeline, None


@contextmanager
def resumed(request: Request) -> Iterator[None]:
    """Make ``request``, whose context was lost, current within this block.

    This restores its identity, not its span: a span that was not passed on is not a parent here.
    """
    before = attach_request(request)
    try:
        yield
    finally:
        detach_request(request, before)


def new_request(kind: str, method: str, path: str, request_id: str | None) -> Request:
    """A request that begins now. An incoming X-Request-ID is used if it is short and harmless."""
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
    """The app is called for ``request``, which is in flight until `end`; `leave` is called when the app has returned.

    A current server span without a request was started further out for this request: it is adopted.
    """
    if first_request_calls:
        _set_up()
    request.on_identity = restamp
    in_flight.add(request)
    before = attach_request(request)
    carrier[MARK] = mark = Mark(request.id)
    mark.request = request
    span = trace.get_current_span()
    if span.is_recording() and getattr(span, "kind", None) is trace.SpanKind.SERVER and not is_adopted(span):
        adopt_server_span(request, span)
        span.set_attributes(dict(request.identity.telemetry))
    return before


def leave(request: Request, carrier: MutableMapping[str, Any], before: Before) -> None:
    """The app has returned; ``before`` is what `enter` returned."""
    carrier.pop(MARK, None)
    detach_request(request, before)


def end(request: Request) -> None:
    """The request is over, or has been given up."""
    request.forget()
    in_flight.discard(request)


def error_name(error: BaseException) -> str:
    """``error.type`` as the semantic conventions want it: the qualified class name."""
    kind = type(error)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    return text(name, 256)


def note_error(request: Request) -> None:
    """Set the error of a response with status 5xx: the exception being handled, else the last one that the framework
    has handled, else the one that the server span recorded."""
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
    """Whether ``error`` means only that the client has disconnected, or that the server has given the request up."""
    return isinstance(error, (CancelledError, GeneratorExit)) or type(error).__name__ in _CLIENT_GONE


def guarded(where: str, call: Callable[..., Any], *args: Any) -> Any:
    """The result of ``call(*args)``. An exception never reaches the app: it warns the operator and gives None."""
    try:
        return call(*args)
    except Exception as error:
        failed(where, error)
        return None


def failed(where: str, error: Exception) -> None:
    """Warn the operator once of a failure of our own, by its type only: its text may hold what must not be shown."""
    warn_operator(f"{where} failed ({error_name(error)}); the app goes on", once=f"{where} {error_name(error)}")
