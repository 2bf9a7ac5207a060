"""The request survives an extraction, and never leaves the process."""

from __future__ import annotations

from opentelemetry.propagate import extract, get_global_textmap, inject, set_global_textmap
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from jwt_audit.request import Phase, Request, set_current
from opentelemetry import baggage, trace
from opentelemetry.instrumentation.jwt_audit.request_context import request_of
from opentelemetry.instrumentation.jwt_audit.stamp import propagator
from opentelemetry.instrumentation.jwt_audit.stamp.propagator import RequestPropagator
from support.audited import Audited

CALLER = {"traceparent": f"00-{'a' * 32}-{'b' * 16}-01", "baggage": "enduser.id=ceo,plan=gold"}


def test_an_extracted_context_still_holds_the_request(request_: Request) -> None:
    """Extraction starts from an empty context; what the caller sent is in it as without us."""
    found = extract(CALLER)
    set_current(None)
    assert request_of(found) is request_
    set_current(request_)
    assert trace.get_current_span(found).get_span_context().trace_id == int("a" * 32, 16)
    assert baggage.get_all(found) == {"enduser.id": "ceo", "plan": "gold"}


def test_what_is_extracted_after_a_request_is_over_is_not_that_requests(request_: Request) -> None:
    """This context may be a copy of one that is over (pipelining)."""
    request_.phase = Phase.CLOSING
    found = extract(CALLER)
    set_current(None)
    assert request_of(found) is None
    set_current(request_)


def test_outside_of_a_request_nothing_is_added(audited: Audited) -> None:
    """A consumer of messages."""
    assert request_of(extract(CALLER)) is None


def test_identity_is_neither_injected_nor_in_baggage(audited: Audited, request_: Request) -> None:
    """It would leak to whomever the app calls, and could not be trusted by whom it reaches."""
    with audited.tracer.start_as_current_span("server"):
        sent: dict[str, str] = {}
        inject(sent)
    assert set(sent) == {"traceparent"}
    assert "alice" not in str(sent)
    assert baggage.get_all() == {}
    assert RequestPropagator().fields == set()


def test_installing_again_appends_again_only_where_it_was_lost(audited: Audited) -> None:
    """An app may set a propagator of its own after us."""
    present = get_global_textmap()
    propagator.install()
    assert get_global_textmap() is present
    set_global_textmap(TraceContextTextMapPropagator())
    propagator.install()
    assert get_global_textmap().fields == {"traceparent", "tracestate"}
    assert get_global_textmap() is not present
