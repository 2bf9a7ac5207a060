"""The identity on the server span and on those below it."""

from __future__ import annotations

import pytest
from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import NoOpTracerProvider, ProxyTracerProvider, SpanKind

from jwt_audit import diagnostics
from jwt_audit.identity.caller import Reason, refused
from jwt_audit.request import Phase, Request
from opentelemetry.instrumentation.jwt_audit.hooks import boundary
from opentelemetry.instrumentation.jwt_audit.stamp import spans
from support.audited import ALICE, Audited, token, under_way


def shown(audited: Audited, name: str) -> dict[str, object]:
    return dict(audited.spans()[name].attributes or {})


def test_the_first_server_span_is_adopted_and_all_spans_are_stamped(audited: Audited, request_: Request) -> None:
    """The server span, one below it, one of another kind, and one of an app mounted inside."""
    with audited.tracer.start_as_current_span("server", kind=SpanKind.SERVER) as server:
        for name, kind in (("inner", SpanKind.INTERNAL), ("client", SpanKind.CLIENT), ("mounted", SpanKind.SERVER)):
            with audited.tracer.start_as_current_span(name, kind=kind):
                pass
    assert request_.span is server
    for name in ("server", "inner", "client", "mounted"):
        assert shown(audited, name) == dict(ALICE.telemetry)


def test_a_span_with_an_explicit_parent_is_stamped_by_that(audited: Audited, request_: Request) -> None:
    """The parent's context holds the request; an empty one falls back on whose code this is."""
    audited.tracer.start_span("orphan", context=Context()).end()
    assert shown(audited, "orphan")["enduser.id"] == "alice"


def test_spans_of_single_messages_are_left_alone(audited: Audited, request_: Request) -> None:
    """OpenTelemetry's ASGI middleware makes one for each: they say nothing of the app."""
    for name in ("GET / http send", "GET / http receive"):
        audited.tracer.start_span(name).end()
        assert shown(audited, name) == {}


def test_a_server_span_of_the_next_request_has_nobody_elses_identity(audited: Audited, request_: Request) -> None:
    """Background work of the request that is over is still its own."""
    request_.phase = Phase.CLOSING
    audited.tracer.start_span("next", kind=SpanKind.SERVER).end()
    audited.tracer.start_span("background").end()
    assert shown(audited, "next") == {}
    assert shown(audited, "background")["enduser.id"] == "alice"
    assert request_.span is None


def test_a_refused_token_shows_why_and_nobody(audited: Audited, request_: Request) -> None:
    """Status and reason; no subject, no session, no issuer."""
    request_.identify(refused(Reason.SIGNATURE_MISMATCH, extra={"jwt.claimed.issuer": "https://evil"}))
    audited.tracer.start_span("work").end()
    assert shown(audited, "work") == {"jwt.status": "invalid", "jwt.error": "signature_mismatch"}


@pytest.mark.parametrize("name", ["url.query", "url.full", "url.path", "http.target", "http.url"])
@pytest.mark.parametrize("kind", [SpanKind.SERVER, SpanKind.CLIENT])
def test_a_token_in_a_url_is_on_no_span(audited: Audited, request_: Request, name: str, kind: SpanKind) -> None:
    """OpenTelemetry writes the whole URL; the rest of it stays."""
    told = f"https://a.example/ws?x=1&access_token={token('alice')}&y=2"
    with audited.tracer.start_as_current_span("early", kind=kind, attributes={name: told, "other": "kept"}):
        pass
    with audited.tracer.start_as_current_span("late", kind=kind) as span:
        span.set_attributes({name: told, "other": "kept"})
    for found in (shown(audited, "early"), shown(audited, "late")):
        assert (found[name], found["other"]) == ("https://a.example/ws?x=1&access_token=…&y=2", "kept")
        assert found["enduser.id"] == "alice"


def test_a_token_in_a_captured_header_or_in_the_name_is_on_no_span(audited: Audited) -> None:
    """OpenTelemetry can be told to write headers, and names a span without a route by its path."""
    captured = {
        "http.request.header.authorization": [f"Bearer {token('alice')}"],
        "http.request.header.cookie": [f"a=b; session={token('alice')}; c=d"],
        "http.request.header.accept": ["text/html"],
    }
    audited.tracer.start_span(f"GET /reset/{token('alice')}", kind=SpanKind.SERVER, attributes=captured).end()
    found = shown(audited, "GET /reset/…")
    assert found["http.request.header.authorization"] == ("Bearer …",)
    assert found["http.request.header.cookie"] == ("a=b; session=…; c=d",)
    assert found["http.request.header.accept"] == ("text/html",)


def test_a_span_that_cannot_be_written_is_told_of_once(caplog: pytest.LogCaptureFixture) -> None:
    """An SDK that keeps its attributes elsewhere: the span ends all the same."""
    diagnostics._warned.discard("hide")
    for _ in range(2):
        span = ReadableSpan("work", attributes={"url.query": f"t={token('alice')}"})
        spans._hide_tokens(span)
    assert caplog.messages == ["tokens in URLs stay on spans with this SDK version: keep them out of URLs"]


def test_outside_of_a_request_nothing_is_stamped(audited: Audited) -> None:
    """A worker, a start-up."""
    audited.tracer.start_span("work").end()
    assert shown(audited, "work") == {}


def test_a_provider_that_is_set_up_later_is_found_at_the_first_request(
    audited: Audited, caplog: pytest.LogCaptureFixture
) -> None:
    """An app that sets OpenTelemetry up in code may do so after us."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    found: list[object] = [ProxyTracerProvider()]
    spans.install(lambda: found[-1])
    found.append(provider)
    made = boundary.new_request("http", "GET", "/", None)
    with under_way(made):
        provider.get_tracer("t").start_span("work").end()
    assert dict(exporter.get_finished_spans()[0].attributes or {}) == {"jwt.status": "absent"}
    assert caplog.messages == []


def test_a_provider_without_processors_is_told_of_once(audited: Audited, caplog: pytest.LogCaptureFixture) -> None:
    """Nothing is recorded there anyway."""
    for _ in range(2):
        spans.install(NoOpTracerProvider)
        made = boundary.new_request("http", "GET", "/", None)
        with under_way(made):
            pass
    assert caplog.messages == ["the tracer provider takes no span processors: spans carry no identity"]
