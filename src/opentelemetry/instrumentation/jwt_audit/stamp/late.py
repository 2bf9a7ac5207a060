"""Brings the server span up to date when the identity becomes known, or another one, after it has begun."""

from __future__ import annotations

from typing import Any

from jwt_audit.diagnostics import tell
from jwt_audit.identity.caller import Identity
from jwt_audit.request import Request


def restamp(request: Request, before: Identity) -> None:
    """Put the present identity on the request's server span, as long as that records."""
    span = request.span
    if span is None or not span.is_recording():
        return
    now = request.identity.telemetry
    for name in before.telemetry.keys() - now.keys():
        _take_off(span, name)
    span.set_attributes(dict(now))


def _take_off(span: Any, name: str) -> None:
    """Remove an attribute that no longer holds: a reason of refusal, or whom a refused token named.

    There is no public way (OpenTelemetry SDK 1.39 to 1.45), so it is guarded.
    """
    try:
        with span._lock:
            span._attributes.pop(name, None)
    except Exception:
        tell("a server span keeps an outdated attribute with this SDK version", once="restamp")
