"""Updates the server span when the identity becomes known, or changes, after the span has begun."""

from __future__ import annotations

from typing import Any

from jwt_audit.diagnostics import warn_operator
from jwt_audit.identity.caller import Identity
from jwt_audit.request import Request


def restamp(request: Request, before: Identity) -> None:
    """Put the current identity on the request's server span, if it is still recording."""
    span = request.span
    if span is None or not span.is_recording():
        return
    current = request.identity.telemetry
    for name in before.telemetry.keys() - current.keys():
        _remove(span, name)
    span.set_attributes(dict(current))


def _remove(span: Any, name: str) -> None:
    """Remove an attribute that is outdated: the reason of a refusal, or the subject of a refused token.

    No public API can (OpenTelemetry SDK 1.39 to 1.45). So this uses private attributes, and failures are caught.
    """
    try:
        with span._lock:
            span._attributes.pop(name, None)
    except Exception:
        warn_operator("a server span keeps an outdated attribute with this SDK version", once="restamp")
