"""A server span is brought up to date when the identity becomes known after it has begun."""

from __future__ import annotations

from opentelemetry.sdk.trace import Span, TracerProvider
from opentelemetry.trace import SpanKind

from jwt_audit.identity.caller import UNDECIDED, Identity, Reason, refused
from jwt_audit.request import Request
from opentelemetry.instrumentation.jwt_audit.stamp.late import restamp
from support.audited import ALICE


def request_with(span: Span | None, identity: Identity) -> Request:
    made = Request(kind="http", method="GET", path="/", started=0, clock=0, request_id="r")
    made.on_identity = restamp
    made.identify(identity)
    made.span = span
    if span is not None:
        span.set_attributes(dict(identity.telemetry))
    return made


def server_span() -> Span:
    span = TracerProvider().get_tracer("test").start_span("GET /", kind=SpanKind.SERVER, attributes={"app": "shop"})
    assert isinstance(span, Span)
    return span


def test_who_it_is_reaches_the_span_that_has_begun() -> None:
    """What the app set stays."""
    span = server_span()
    request_with(span, UNDECIDED).identify(ALICE)
    assert dict(span.attributes or {}) == {"app": "shop", **ALICE.telemetry}


def test_a_reason_that_no_longer_holds_is_taken_off() -> None:
    """The first key failed, the second did not: the span of a verified request shows no error."""
    span = server_span()
    request_with(span, refused(Reason.SIGNATURE_MISMATCH)).identify(ALICE)
    assert dict(span.attributes or {}) == {"app": "shop", **ALICE.telemetry}


def test_whom_a_refused_token_named_is_taken_off() -> None:
    """Decoded, and then its audience was not the app's: nobody is on the span."""
    span = server_span()
    request_with(span, ALICE).identify(refused(Reason.AUDIENCE_MISMATCH))
    assert dict(span.attributes or {}) == {"app": "shop", "jwt.status": "invalid", "jwt.error": "audience_mismatch"}


def test_an_ended_span_and_none_are_left_alone() -> None:
    """Attributes of an ended span are frozen; a request may have no span."""
    span = server_span()
    here = request_with(span, UNDECIDED)
    span.end()
    here.identify(ALICE)
    assert dict(span.attributes or {}) == {"app": "shop", "jwt.status": "unverified"}
    request_with(None, UNDECIDED).identify(ALICE)
