"""What hooks and stamps share: the ids of a request, where they come from."""

from __future__ import annotations

import pytest
from opentelemetry.context import Context
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

from jwt_audit.request import Request
from opentelemetry.instrumentation.jwt_audit.hooks.boundary import new_request
from opentelemetry.instrumentation.jwt_audit.request_context import set_trace_ids


def a_request() -> Request:
    return new_request("http", "GET", "/", None)


VALID = f"00-{'a' * 32}-{'b' * 16}-01"


def test_ids_come_from_the_span_then_from_the_current_one_then_from_the_caller() -> None:
    """An unsampled span has ids too; without any, the caller's trace is all there is."""
    sampled, unsampled = TracerProvider().get_tracer("t"), TracerProvider(sampler=ALWAYS_OFF).get_tracer("t")
    request = a_request()
    set_trace_ids(request, None, VALID)
    assert (request.trace_id, request.span_id, request.trace_flags) == ("a" * 32, "b" * 16, 1)
    request = a_request()
    with unsampled.start_as_current_span("u") as span:
        set_trace_ids(request, None, VALID)
    assert (request.trace_id, request.trace_flags & 1) == (f"{span.get_span_context().trace_id:032x}", 0)
    request = a_request()
    with unsampled.start_as_current_span("u"):
        set_trace_ids(request, sampled.start_span("s", context=Context()), VALID)
    assert request.trace_flags & 1
    kept = request.trace_id
    set_trace_ids(request, None, VALID)
    assert request.trace_id == kept


@pytest.mark.parametrize(
    "given",
    [None, "", "junk", VALID.upper(), f"00-{'0' * 32}-{'b' * 16}-01", f"00-{'a' * 32}-{'0' * 16}-01", VALID + "x"],
)
def test_a_traceparent_that_is_none_gives_no_ids(given: str | None) -> None:
    """W3C Trace Context: all zeros are invalid."""
    request = a_request()
    set_trace_ids(request, None, given)
    assert request.trace_id is None
