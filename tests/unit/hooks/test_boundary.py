"""What both boundaries share: how a request begins, where its ids come from, and failures of our own."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from opentelemetry.context import Context
from opentelemetry.propagate import extract
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import SpanKind

from jwt_audit import diagnostics
from jwt_audit.context import Phase, Request, current_request, set_current
from jwt_audit.errors import JWTAuditError
from jwt_audit.identity import Identity, Status
from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.instrumentation.jwt_audit.hooks import boundary
from opentelemetry.instrumentation.jwt_audit.stamp.propagator import REQUEST_KEY
from support.audited import Audited

ALICE = Identity(Status.VERIFIED, subject="alice", session="s-1")


def request_of(identity: Identity | None = None) -> Request:
    made = boundary.new_request("http", "GET", "/", None)
    if identity is not None:
        made.identify(identity)
    return made


@pytest.mark.parametrize("given", ["a-1", "0af7651916cd43dd8448eb211c80319c", "A.b:c_d" + "x" * 121])
def test_a_sane_request_id_is_kept(given: str) -> None:
    """So that a proxy's log and the audit record meet."""
    assert boundary.new_request("http", "GET", "/", given).id == given


@pytest.mark.parametrize("given", [None, "", "x" * 129, "a b", "a\nb", "é", "<script>", "a\n"])
def test_any_other_request_id_is_replaced(given: str | None) -> None:
    """It is written into records and shown in tables: nothing long, blank or active."""
    made = boundary.new_request("http", "GET", "/", given).id
    assert made != given
    assert len(made) == 36


def test_a_server_span_that_runs_already_is_adopted(audited: Audited) -> None:
    """OpenTelemetry's middleware further out has started it: its ids are the record's, and it is stamped."""
    request = request_of(ALICE)
    with audited.tracer.start_as_current_span("GET /", kind=SpanKind.SERVER) as span:
        before = boundary.enter(request, {})
        boundary.leave(request, before)
    assert request.span is span
    assert request.trace_id == f"{span.get_span_context().trace_id:032x}"
    assert (audited.spans()["GET /"].attributes or {})["enduser.id"] == "alice"


def test_a_span_of_an_earlier_request_is_no_parent_and_one_from_outside_is(audited: Audited) -> None:
    """Pipelining: this context is a copy of that of a request that is over."""
    first, second, third = request_of(ALICE), request_of(), request_of()
    before = boundary.enter(first, {})
    with audited.tracer.start_as_current_span("first", kind=SpanKind.SERVER):
        first.phase = Phase.CLOSING
        inner = boundary.enter(second, {})
        assert not trace.get_current_span().get_span_context().is_valid
        assert second.span is None
        boundary.leave(second, inner)
        # OpenTelemetry's middleware stands outside of our boundary: it extracts, and starts the span itself.
        token = otel_context.attach(extract({}))
        with audited.tracer.start_as_current_span("third", kind=SpanKind.SERVER) as span:
            inner = boundary.enter(third, {})
            assert third.span is span
            boundary.leave(third, inner)
        otel_context.detach(token)
    boundary.leave(first, before)
    assert "enduser.id" not in (audited.spans()["third"].attributes or {})
    assert (audited.spans()["first"].attributes or {})["enduser.id"] == "alice"


def test_the_context_of_before_comes_back_unless_it_is_over_too(audited: Audited) -> None:
    """A request that is done is nobody's any more: a thread may serve for hours after it."""
    over, request = request_of(), request_of()
    set_current(over)
    otel_context.attach(otel_context.set_value(REQUEST_KEY, over, Context()))
    over.forget()
    before = boundary.enter(request, {})
    boundary.leave(request, before)
    assert current_request() is None
    assert otel_context.get_value(REQUEST_KEY) is None


def test_the_carrier_finds_a_request_whose_context_was_lost(audited: Audited) -> None:
    """And none that is over: a carrier may be kept."""
    request, carrier = request_of(), dict[str, Any]()
    before = boundary.enter(request, carrier)
    assert boundary.active(carrier) == (None, None)
    set_current(None)
    assert boundary.active(carrier) == (None, request)
    assert boundary.active({}) == (audited.pipeline, None)
    with boundary.resumed(request):
        assert current_request() is request
    set_current(request)
    boundary.leave(request, before)
    assert boundary.active(carrier) == (audited.pipeline, None)


VALID = f"00-{'a' * 32}-{'b' * 16}-01"


def test_ids_come_from_the_span_then_from_the_current_one_then_from_the_caller() -> None:
    """An unsampled span has ids too; without any, the caller's trace is all there is."""
    sampled, unsampled = TracerProvider().get_tracer("t"), TracerProvider(sampler=ALWAYS_OFF).get_tracer("t")
    request = request_of()
    boundary.locate(request, None, VALID)
    assert (request.trace_id, request.span_id, request.trace_flags) == ("a" * 32, "b" * 16, 1)
    request = request_of()
    with unsampled.start_as_current_span("u") as span:
        boundary.locate(request, None, VALID)
    assert (request.trace_id, request.trace_flags & 1) == (f"{span.get_span_context().trace_id:032x}", 0)
    request = request_of()
    with unsampled.start_as_current_span("u"):
        boundary.locate(request, sampled.start_span("s", context=Context()), VALID)
    assert request.trace_flags & 1
    kept = request.trace_id
    boundary.locate(request, None, VALID)
    assert request.trace_id == kept


@pytest.mark.parametrize(
    "given",
    [None, "", "junk", VALID.upper(), f"00-{'0' * 32}-{'b' * 16}-01", f"00-{'a' * 32}-{'0' * 16}-01", VALID + "x"],
)
def test_a_traceparent_that_is_none_gives_no_ids(given: str | None) -> None:
    """W3C Trace Context: all zeros are invalid."""
    request = request_of()
    boundary.locate(request, None, given)
    assert request.trace_id is None


def test_the_error_of_a_500_is_the_one_at_hand_else_the_one_that_its_span_recorded() -> None:
    """By its qualified class name; nothing for a response that is no server error."""
    span = TracerProvider().get_tracer("t").start_span("s")
    span.record_exception(KeyError("secret"))
    request = request_of()
    request.span, request.status = span, 404
    boundary.note_error(request)
    assert request.error_type is None
    request.status = 500
    boundary.note_error(request)
    assert request.error_type == "KeyError"
    request.error_type = None
    try:
        raise JWTAuditError
    except Exception:
        boundary.note_error(request)
    assert request.error_type == "jwt_audit.errors.JWTAuditError"


def test_a_failure_of_ours_is_told_once_and_by_its_type_alone(caplog: pytest.LogCaptureFixture) -> None:
    """Its text may hold what must not be shown, and the app goes on."""
    diagnostics._told.clear()

    def fails() -> None:
        raise ValueError("eyJhbGciOiJIUzI1NiJ9.secret")

    with caplog.at_level(logging.DEBUG):
        assert boundary.guarded("reading a request", fails) is None
        assert boundary.guarded("reading a request", fails) is None
    (record,) = caplog.records
    assert record.getMessage() == "reading a request failed (ValueError); the app goes on"
    assert record.exc_info is None
