"""Puts the identity on the server span and on every later span of its request."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from opentelemetry.context import Context
from opentelemetry.sdk.trace import Span, SpanProcessor
from opentelemetry.trace import SpanKind

from jwt_audit.context import Phase

from ..hooks.boundary import adopt
from .propagator import request_of
from .providers import put_into


class IdentitySpanProcessor(SpanProcessor):
    """Stamps at start: at the end attributes are frozen. Unsampled spans never come here."""

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        request = request_of(parent_context)
        if request is None or _is_message(span):
            return
        if span.kind is SpanKind.SERVER:
            if request.phase is not Phase.OPEN:
                return  # of the next request, which has not begun for us yet: nobody else's identity on it
            if request.span is None:
                adopt(request, span)
        span.set_attributes(request.identity.telemetry)


def _is_message(span: Span) -> bool:
    """Whether this is one of contrib's spans for a single ASGI message: they say nothing of the app."""
    return span.kind is SpanKind.INTERNAL and span.name.endswith((" http send", " http receive"))


def install(find: Callable[[], Any]) -> None:
    """Add the processor to the tracer provider that ``find`` gives: now, or at the first request.

    One that takes no processors has no spans to stamp.
    """
    put_into(find, _add, without="the tracer provider takes no span processors: spans carry no identity", once="spans")


def _add(provider: Any) -> bool:
    add = getattr(provider, "add_span_processor", None)
    if add is None:
        return False
    add(IdentitySpanProcessor())
    return True
