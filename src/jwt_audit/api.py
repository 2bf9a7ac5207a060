"""What an app may say itself: enrich its request's record, or leave a record of its own.

An app that never imports this loses nothing; one that does needs no OpenTelemetry for it. Where no
audit runs (a test, a shell), `annotate` has nobody to tell and `emit` raises: it never drops in silence.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from . import attributes as attr
from .attributes import Value, bounded
from .errors import JWTAuditError, RecordError
from .evidence.record import SCHEMA_VERSION, Receipt, Record
from .identity.caller import ABSENT, Identity
from .request import Request, current_request

_emitter: Callable[[Record], Receipt] | None = None
_find: Callable[[], Request | None] = current_request


def install(emitter: Callable[[Record], Receipt] | None, find: Callable[[], Request | None] = current_request) -> None:
    """Say where `emit` writes, None when auditing has stopped; ``find`` gives the request that code runs for."""
    global _emitter, _find
    _emitter, _find = emitter, find


def current_identity() -> Identity | None:
    """Who makes the request this code serves, as far as proved; None outside of a request.

    Look at ``verified`` first: ``subject`` and ``session`` are set only then. Works wherever the request's context
    is: in its handlers, tasks and thread pools of asyncio, and in threads that OpenTelemetry's threading
    instrumentation starts. What the app verifies itself is known from then on.
    """
    request = _find()
    return None if request is None else request.identity


def annotate(
    *,
    action: str | None = None,
    target_id: str | None = None,
    target_type: str | None = None,
    **attributes: Value,
) -> bool:
    """Add to the current request's audit record; False outside of a request.

    ``action`` is the draft's verb (``APPROVE``), ``target_*`` what it was done to. Other attributes
    are written under their own names (pass ``**{"order.id": "17"}`` for a dotted one). Raises
    RecordError for a name with a fixed meaning or a value that no record can hold.
    """
    request = _find()
    if request is None:
        return False
    request.annotations.update(_checked(action, target_id, target_type, attributes))
    return True


def emit(
    event_name: str,
    *,
    action: str,
    outcome: str = "success",
    target_id: str | None = None,
    target_type: str | None = None,
    **attributes: Value,
) -> Receipt:
    """Write an audit record of the app's own, with the current identity, and return its receipt.

    It is as durable as DURABILITY says when this returns. Raises RecordError for what no record can
    hold, SpoolError where it could not be written, JWTAuditError where no audit runs.
    """
    if _emitter is None:
        raise JWTAuditError("no audit runs in this process: start it with opentelemetry-instrument")
    if outcome not in ("success", "failure", "unknown"):
        raise RecordError(f"outcome {outcome[:20]!r} is none of success, failure, unknown")
    if not event_name or event_name in attr.EVENTS or event_name.startswith("audit."):
        raise RecordError(f"the event name {event_name[:40]!r} is empty or has a fixed meaning")
    request = _find()
    identity = ABSENT if request is None else request.identity
    found: dict[str, Value] = dict(identity.audit)
    found.update(_checked(action, target_id, target_type, attributes))
    found[attr.ACTOR_ID] = identity.actor_id
    found[attr.ACTOR_TYPE] = identity.actor.value
    found[attr.OUTCOME] = outcome
    found[attr.SCHEMA_VERSION] = SCHEMA_VERSION
    record = Record(attr.text(event_name, 128), time.time_ns(), found, f"{action} {outcome}")
    if request is not None:
        _locate(record, request)
    return _emitter(record)


def _locate(record: Record, request: Request) -> None:
    record.update({attr.REQUEST_ID: request.id})
    record.trace_id, record.span_id = request.trace_id, request.span_id
    if request.route is not None:
        record.update({attr.HTTP_ROUTE: request.route})


def _checked(
    action: str | None, target_id: str | None, target_type: str | None, attributes: dict[str, Value]
) -> dict[str, Value]:
    found: dict[str, Value] = {}
    for name, value in attributes.items():
        if not name.isascii() or attr.is_fixed(name):
            raise RecordError(f"the attribute {name[:40]!r} has a fixed meaning or is not ASCII")
        kept = bounded(value)
        if kept is None:
            raise RecordError(f"the attribute {name[:40]!r} is of a type that no record holds")
        found[name] = kept
    named = {attr.ACTION: action, attr.TARGET_ID: target_id, attr.TARGET_TYPE: target_type}
    found.update({name: attr.text(value) for name, value in named.items() if value is not None})
    return found
