"""OTLP logs (ExportLogsServiceRequest in OTLP/JSON's form): the audit records and heads in them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson

from .. import attributes as attr
from ..evidence.canonical import is_integrity
from ..evidence.exported import Exported
from ..evidence.visible import plain

_OTHER_SIGNALS = ("resourceSpans", "resourceMetrics", "resourceProfiles")


def is_otlp(value: Any) -> bool:
    """Whether a JSON value is an OTLP request of any signal."""
    return isinstance(value, dict) and ("resourceLogs" in value or any(name in value for name in _OTHER_SIGNALS))


def records(value: dict[str, Any]) -> Iterator[Exported | None]:
    """What a request holds: audit records and heads, None for each other log record.

    Raises ValueError for a request that is not in OTLP's form.
    """
    try:
        for group in value.get("resourceLogs", ()):
            resource = group.get("resource", {}).get("attributes", [])
            for scope in group.get("scopeLogs", ()):
                for record in scope.get("logRecords", ()):
                    yield _record(record, resource)
    except (AttributeError, TypeError, KeyError) as error:
        raise ValueError("no OTLP logs") from error


def _record(record: dict[str, Any], resource: list[Any]) -> Exported | None:
    attributes = record.get("attributes", [])
    integrity: dict[str, Any] = {}
    fields: list[tuple[str, Any]] = []
    audit = record.get("eventName") == attr.EVENT_HEAD
    for item in attributes:
        name, shown = item["key"], plain(item.get("value"))
        fields.append((name, shown))
        if name == attr.STREAM_ID:
            audit = True
        elif is_integrity(name):
            if integrity.setdefault(name, shown) != shown:
                integrity[name] = None  # named twice, and otherwise: it proves nothing
            audit = audit or name == attr.INTEGRITY_CANONICAL
    if not audit:
        return None
    for name in ("eventName", "timeUnixNano", "observedTimeUnixNano", "traceId", "spanId"):
        if name in record:
            fields.append((name, record[name]))
    if "body" in record:
        fields.append(("body", plain(record["body"])))
    canonical, signature, digest = (
        text if isinstance(text := integrity.get(name), str) else None
        for name in (attr.INTEGRITY_CANONICAL, attr.INTEGRITY_VALUE, attr.INTEGRITY_HASH)
    )
    rebuilt = _rebuild(record, attributes) if canonical is None else None
    return Exported(canonical, signature, digest, fields, resource, rebuilt)


def _rebuild(record: dict[str, Any], attributes: list[dict[str, Any]]) -> bytes | None:
    """The canonical bytes of a record that carries none, from its typed values; None where it has none."""
    form: dict[str, Any] = {
        "attributes": {item["key"]: _wrapped(item["value"]) for item in attributes if not is_integrity(item["key"])},
        "event_name": record.get("eventName"),
        "observed_timestamp": str(record.get("observedTimeUnixNano")),
        "timestamp": str(record.get("timeUnixNano")),
    }
    if record.get("body"):
        form["body"] = record["body"]
    for member, name in (("trace_id", "traceId"), ("span_id", "spanId")):
        if str(record.get(name) or "").strip("0"):
            form[member] = str(record[name]).lower()
    try:
        return orjson.dumps(form, option=orjson.OPT_SORT_KEYS)
    except TypeError:  # a lone surrogate, or a name that is no string
        return None


def _wrapped(value: dict[str, Any]) -> dict[str, Any]:
    if "intValue" in value:
        return {"intValue": str(value["intValue"])}
    if "arrayValue" in value:
        return {"arrayValue": {"values": value["arrayValue"].get("values", [])}}
    return value
