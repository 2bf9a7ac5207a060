"""Puts the identity on the server span and on every later span of its request, and takes tokens out of their URLs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor
from opentelemetry.trace import SpanKind

from jwt_audit.attributes import without_tokens
from jwt_audit.diagnostics import warn_operator
from jwt_audit.request import Phase

from ..request_context import adopt_server_span, request_of
from .providers import add_to_provider

_URLS = frozenset(("url.query", "url.full", "url.path", "http.target", "http.url"))
"""The attributes with a request's URL, incoming or outgoing."""
_HEADERS = "http.request.header."


class IdentitySpanProcessor(SpanProcessor):
    """Stamps at start: at the end attributes are frozen. Unsampled spans never come here."""

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        request = request_of(parent_context)
        if request is None or _is_message(span):
            return
        if span.kind is SpanKind.SERVER:
            if request.phase is not Phase.OPEN:
                return  # it is the next request's, which has not begun for us: it must not get this identity
            if request.span is None:
                adopt_server_span(request, span)
        span.set_attributes(request.identity.telemetry)

    def _on_ending(self, span: Span) -> None:
        _hide_tokens(span)

    if not hasattr(SpanProcessor, "_on_ending"):  # SDK 1.39 has no such call

        def on_end(self, span: ReadableSpan) -> None:
            """The span can still be changed until an exporter has it."""
            _hide_tokens(span)


def _hide_tokens(span: Any) -> None:
    """Replace tokens by ``…`` in what OpenTelemetry's instrumentations write of a request: its URL, the headers that
    they are configured to capture, and its path, which names a span without a route.

    They may write until the span ends, and then no public API can change it (OpenTelemetry SDK 1.39 to 1.45). So
    this uses private attributes, and failures are caught.
    """
    try:
        if (name := without_tokens(span.name)) != span.name:
            span._name = name
        # a dict: to iterate over the SDK's own view takes ten times as long
        attributes = (span.attributes or {}).copy()
        names = attributes.keys() & _URLS
        if _HEADERS in "".join(attributes):
            names.update(key for key in attributes if key.startswith(_HEADERS))
        for key in names:
            value = attributes[key]
            shown = tuple(map(without_tokens, value)) if isinstance(value, tuple) else without_tokens(str(value))
            if shown != value:
                with span._attributes._lock:
                    span._attributes._dict[key] = shown
    except Exception:
        warn_operator("tokens in URLs stay on spans with this SDK version: keep them out of URLs", once="hide")


def _is_message(span: Span) -> bool:
    """Whether OpenTelemetry's ASGI instrumentation made this span for a single message: it is not work of the app."""
    return span.kind is SpanKind.INTERNAL and span.name.endswith((" http send", " http receive"))


def install(find: Callable[[], Any]) -> None:
    """Add the processor to the tracer provider that ``find`` gives: now, or at the first request.

    One that takes no processors has no spans to stamp.
    """
    without = "the tracer provider takes no span processors: spans carry no identity"
    add_to_provider(find, _add, without=without, once="spans")


def _add(provider: Any) -> bool:
    add = getattr(provider, "add_span_processor", None)
    if add is None:
        return False
    add(IdentitySpanProcessor())
    return True
