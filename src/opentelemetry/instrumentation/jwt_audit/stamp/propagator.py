"""Puts the request back into a context that was extracted from headers.

``extract`` starts from an empty context, which would wipe the request that a boundary put there.
Nothing is ever injected: identity does not leave the process (baggage is spoofable and leaks).
"""

from __future__ import annotations

from typing import Any

from opentelemetry.context import Context
from opentelemetry.propagate import get_global_textmap, set_global_textmap
from opentelemetry.propagators.composite import CompositePropagator
from opentelemetry.propagators.textmap import TextMapPropagator

from jwt_audit.request import Phase, current_request
from opentelemetry import context as otel_context

from ..request_context import REQUEST_KEY


class RequestPropagator(TextMapPropagator):
    """Adds the current request to an extracted context; extracts and injects nothing itself."""

    def extract(self, carrier: Any, context: Context | None = None, getter: Any = None) -> Context:  # noqa: ARG002
        context = Context() if context is None else context
        request = current_request()
        # This may be a copy of the context of a request that is over (pipelining): what is extracted is for the next.
        over = request is None or request.phase is not Phase.OPEN
        return context if over else otel_context.set_value(REQUEST_KEY, request, context)

    def inject(self, carrier: Any, context: Context | None = None, setter: Any = None) -> None:  # noqa: ARG002
        return

    @property
    def fields(self) -> set[str]:
        return set()


class _WithRequest(CompositePropagator):
    """The propagator that was set before, and ours."""


def install() -> None:
    """Append our propagator to the global one, unless it is there already."""
    present = get_global_textmap()
    if not isinstance(present, _WithRequest):
        set_global_textmap(_WithRequest([present, RequestPropagator()]))
