"""A pytest plugin of the runs with us: what is ours is on the spans of every provider, and taken off where they end.

The suites make a provider for each test, later than `opentelemetry-instrument` has set ours up, and compare a span's
attributes with exactly those they know.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from opentelemetry.instrumentation.jwt_audit.hooks import boundary
from opentelemetry.instrumentation.jwt_audit.stamp.spans import IdentitySpanProcessor

assert boundary.installed() is not None, "opentelemetry-instrument has not loaded us"

OURS = "jwt."
"""How the names of our attributes begin where nobody has presented a token of ours."""

_make = TracerProvider.__init__
_export = InMemorySpanExporter.export


@functools.wraps(_make)
def _made(self: TracerProvider, *args: Any, **kwargs: Any) -> None:
    _make(self, *args, **kwargs)
    self.add_span_processor(IdentitySpanProcessor())


@functools.wraps(_export)
def _exported(self: InMemorySpanExporter, spans: Sequence[ReadableSpan]) -> Any:
    for span in spans:
        kept: Any = span._attributes
        for name in [name for name in kept if name.startswith(OURS)]:
            del kept._dict[name]
    return _export(self, spans)


TracerProvider.__init__ = _made  # type: ignore[method-assign]
InMemorySpanExporter.export = _exported  # type: ignore[method-assign]
