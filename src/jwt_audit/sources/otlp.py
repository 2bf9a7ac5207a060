"""OTLP logs (ExportLogsServiceRequest in OTLP/JSON's form): the audit records and heads in them."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from .. import attributes as attr
from ..evidence.canonical import is_integrity
from ..evidence.exported import Exported, Fields
from ..evidence.visible import plain
from . import cut
from .cut import Cut

_OTHER_SIGNALS = ("resourceSpans", "resourceMetrics", "resourceProfiles")


def is_otlp(value: Any) -> bool:
    """Whether a JSON value is an OTLP request of any signal."""
    return isinstance(value, Cut) or (
        isinstance(value, dict) and ("resourceLogs" in value or any(name in value for name in _OTHER_SIGNALS))
    )


def records(value: dict[str, Any] | Cut) -> Iterator[Exported | None]:
    """What a request holds: audit records and heads, None for each other log record.

    Raises ValueError for a request that is not in OTLP's form.
    """
    try:
        for record, resource in value.records() if isinstance(value, Cut) else cut.records(value):
            yield _record(record, resource)
    except (AttributeError, TypeError, KeyError) as error:
        raise ValueError("no OTLP logs") from error


def _record(record: dict[str, Any], resource: list[Any]) -> Exported | None:
    attributes = record.get("attributes", ())
    try:
        values = {item["key"]: item["value"] for item in attributes}
    except KeyError:  # an attribute without a value
        values = {item["key"]: item.get("value") for item in attributes}
    if not (
        attr.STREAM_ID in values or attr.INTEGRITY_CANONICAL in values or record.get("eventName") == attr.EVENT_HEAD
    ):
        return None
    if len(values) != len(attributes):
        return _ambiguous(record, attributes, resource)
    pop = values.pop
    carried = _text(pop(attr.INTEGRITY_CANONICAL, None))
    digest = _text(pop(attr.INTEGRITY_HASH, None))
    signature = _text(pop(attr.INTEGRITY_VALUE, None))
    if carried is None:
        form = _normal_form(record, values)
    else:
        form = {
            "attributes": values,
            "event_name": record.get("eventName"),
            "observed_timestamp": record.get("observedTimeUnixNano"),
            "timestamp": record.get("timeUnixNano"),
        }
        for member, name in _OPTIONAL:
            if name in record:
                form[member] = record[name]
    return Exported(carried, signature, digest, partial(_fields, record), resource, form)


_OPTIONAL = (("body", "body"), ("trace_id", "traceId"), ("span_id", "spanId"))


def _ambiguous(record: dict[str, Any], attributes: list[dict[str, Any]], resource: list[Any]) -> Exported:
    """A record in which an attribute stands twice: where the two differ, what carries the proof proves nothing."""
    texts: dict[str, str | None] = {}
    for item in attributes:
        name, shown = item["key"], _text(item.get("value"))
        if is_integrity(name):
            texts[name] = shown if texts.get(name, shown) == shown else None
    carried, signature, digest = (texts.get(name) for name in (*_CARRIED, attr.INTEGRITY_HASH))
    return Exported(carried, signature, digest, partial(_fields, record), resource)


def _text(wrapped: Any) -> str | None:
    text = None if wrapped is None else wrapped.get("stringValue")
    return text if isinstance(text, str) else None


def _fields(record: dict[str, Any]) -> Fields:
    """All that a record shows, by name."""
    fields: Fields = [
        (item["key"], plain(item.get("value"))) for item in record.get("attributes", ()) if item["key"] not in _CARRIED
    ]
    fields += [(name, record[name]) for name in _MEMBERS if name in record]
    if "body" in record:
        fields.append(("body", plain(record["body"])))
    return fields


_CARRIED = (attr.INTEGRITY_CANONICAL, attr.INTEGRITY_VALUE)
_MEMBERS = ("eventName", "timeUnixNano", "observedTimeUnixNano", "traceId", "spanId")


def _normal_form(record: dict[str, Any], attributes: dict[str, Any]) -> dict[str, Any]:
    """The canonical form of a record that carries none, made from its typed values, however they are spelt."""
    form = {
        "attributes": {name: _wrapped(value) for name, value in attributes.items() if not is_integrity(name)},
        "event_name": record.get("eventName"),
        "observed_timestamp": str(record.get("observedTimeUnixNano")),
        "timestamp": str(record.get("timeUnixNano")),
    }
    if record.get("body"):
        form["body"] = record["body"]
    for member, name in (("trace_id", "traceId"), ("span_id", "spanId")):
        if str(record.get(name) or "").strip("0"):
            form[member] = str(record[name]).lower()
    return form


def _wrapped(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    if "intValue" in value:
        return {"intValue": str(value["intValue"])}
    if "arrayValue" in value:
        return {"arrayValue": {"values": value["arrayValue"].get("values", [])}}
    return value
