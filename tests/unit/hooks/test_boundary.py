"""What both boundaries share: how a request begins, where its ids come from, and failures of our own."""

from __future__ import annotations

import contextvars
import copy
import json
import logging
import pickle
from typing import Any

import pytest
from opentelemetry.context import Context
from opentelemetry.propagate import extract
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import SpanKind

from jwt_audit import diagnostics
from jwt_audit.errors import JWTAuditError
from jwt_audit.identity.caller import Identity, Status
from jwt_audit.request import Phase, Request, current_request, set_current
from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.instrumentation.jwt_audit.hooks import boundary, contexts
from opentelemetry.instrumentation.jwt_audit.request_context import REQUEST_KEY
from support.audited import Audited, under_way

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


def test_a_server_span_that_runs_already_is_adopted_by_one_request(audited: Audited) -> None:
    """OpenTelemetry's middleware further out has started it: its ids are the record's, and it is stamped. A second
    request that finds it leaves it alone: it says who made the first."""
    with audited.tracer.start_as_current_span("GET /", kind=SpanKind.SERVER) as span:
        with under_way(request_of(ALICE)) as request:
            pass
        with under_way(request_of()) as second:
            pass
    assert request.span is span
    assert request.trace_id == f"{span.get_span_context().trace_id:032x}"
    assert second.span is None
    assert (audited.spans()["GET /"].attributes or {})["enduser.id"] == "alice"


def test_a_span_of_an_earlier_request_is_no_parent_and_one_from_outside_is(audited: Audited) -> None:
    """Pipelining: the server begins the next request in what it is called for by the earlier one."""
    with audited.tracer.start_as_current_span("around") as around, under_way(request_of(ALICE)) as first:
        left = contexts.enter_server(around)
        with under_way(request_of()):
            assert trace.get_current_span() is around
        contexts.leave_server(left)
        with audited.tracer.start_as_current_span("first", kind=SpanKind.SERVER) as span:
            for phase in Phase:
                first.phase = phase
                left = contexts.enter_server(around)
                assert boundary.active({}) == (audited.pipeline, None)
                with under_way(request_of()) as second:
                    assert not trace.get_current_span().get_span_context().is_valid
                    assert second.span is None
                    otel_context.attach(otel_context.set_value("kept", phase))
                assert trace.get_current_span() is span
                assert otel_context.get_value("kept") is phase
                # A server span that was started for the request itself, further out than we are.
                with (
                    audited.tracer.start_as_current_span("third", extract({}), kind=SpanKind.SERVER) as own,
                    under_way(request_of()) as third,
                ):
                    assert third.span is own
                contexts.leave_server(left)
            # In background work after the response, what was started there is the parent of what it calls.
            with under_way(request_of()):
                assert trace.get_current_span() is span
    assert "enduser.id" not in (audited.spans()["third"].attributes or {})
    assert (audited.spans()["first"].attributes or {})["enduser.id"] == "alice"


def test_what_others_put_into_a_context_meanwhile_stays(audited: Audited) -> None:
    """And what they took out stays out: only our own key goes."""
    outer = otel_context.attach(otel_context.set_value("outer", 1))
    before = boundary.enter(request := request_of(ALICE), {})
    otel_context.attach(otel_context.set_value("inner", 2))
    boundary.leave(request, {}, before)
    assert (otel_context.get_value("outer"), otel_context.get_value("inner")) == (1, 2)
    before = boundary.enter(request, {})
    otel_context.detach(outer)
    boundary.leave(request, {}, before)
    assert otel_context.get_value("outer") is None
    assert otel_context.get_value(REQUEST_KEY) is None
    assert current_request() is None
    boundary.end(request)


def test_the_request_of_before_comes_back_unless_it_is_over(audited: Audited) -> None:
    """A request that is done is not current any more: a thread may serve for hours after it."""
    earlier = request_of()
    for phase, found in ((Phase.CLOSING, earlier), (Phase.DONE, None)):
        set_current(earlier)
        token = otel_context.attach(otel_context.set_value(REQUEST_KEY, earlier, Context()))
        earlier.phase = phase
        with under_way(request_of()) as request:
            assert current_request() is request
        assert current_request() is found
        assert otel_context.get_value(REQUEST_KEY) is found
        set_current(None)
        otel_context.detach(token)


def test_the_carrier_finds_a_request_whose_context_was_lost(audited: Audited) -> None:
    """As long as its app runs; and nothing stays in the carrier, which may be kept."""
    request, carrier = request_of(ALICE), dict[str, Any]()
    with under_way(request, carrier):
        assert boundary.active(carrier) == (None, None)

        def elsewhere() -> None:
            assert boundary.active(carrier) == boundary.active(dict(carrier)) == (None, request)
            assert boundary.active({}) == (audited.pipeline, None)
            with boundary.resumed(request):
                assert current_request() is otel_context.get_value(REQUEST_KEY) is request
            assert current_request() is otel_context.get_value(REQUEST_KEY) is None

        contextvars.Context().run(elsewhere)
    assert carrier == {}


def test_what_stands_in_a_carrier_is_text(audited: Audited) -> None:
    """Apps copy, compare and write what they are given; none of it leads to a request or its token."""
    request, carrier = request_of(ALICE), dict[str, Any]()
    with under_way(request, carrier):
        ((name, mark),) = carrier.items()
        assert mark == request.id
        assert json.loads(json.dumps(carrier)) == carrier
        for one in (copy.deepcopy(mark), pickle.loads(pickle.dumps(mark)), copy.copy(mark)):
            assert (type(one), one) == (str, request.id)
            assert boundary.active({name: one}) == (None, None)
    assert boundary.active({name: str(mark)}) == (audited.pipeline, None)


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
    diagnostics._warned.clear()

    def fails() -> None:
        raise ValueError("eyJhbGciOiJIUzI1NiJ9.secret")

    with caplog.at_level(logging.DEBUG):
        assert boundary.guarded("reading a request", fails) is None
        assert boundary.guarded("reading a request", fails) is None
    (record,) = caplog.records
    assert record.getMessage() == "reading a request failed (ValueError); the app goes on"
    assert record.exc_info is None
