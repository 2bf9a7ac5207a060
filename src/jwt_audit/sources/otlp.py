"""OTLP logs (ExportLogsServiceRequest in OTLP/JSON's form): the audit records and heads in them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any

from .. import attributes as attr
from ..evidence.audit import is_audit, is_audit_name
from ..evidence.canonical import is_integrity
from ..evidence.exported import Exported, Signed
from ..evidence.resource import Fault
from ..evidence.visible import Fields, plain
from . import cut, shape
from .cut import Cut
from .protobuf import Request

_OTHER_SIGNALS = ("resourceSpans", "resourceMetrics", "resourceProfiles")


def is_otlp(value: Any) -> bool:
    """Whether a value is an OTLP request of any signal."""
    return isinstance(value, (Cut, Request)) or (
        isinstance(value, dict) and ("resourceLogs" in value or any(name in value for name in _OTHER_SIGNALS))
    )


def records(value: dict[str, Any] | Cut | Request) -> Iterator[Exported | Fault | None]:
    """What a request holds: audit records and heads, None for each other log record, and what is wrong around them.

    Raises ValueError for a request that is not in OTLP's form.
    """
    try:
        if isinstance(value, dict):
            if not ("resourceLogs" in value or any(map(mentions_audit, value.values()))):
                return  # of another signal
            groups = value.get("resourceLogs", ())
            one = groups[0] if len(groups) == 1 else {}
            if len(value) > 1 or one.keys() != _USUAL_GROUP or type(one["resource"]) is not dict:
                yield from shape.request(value)
                for group in groups:
                    yield from shape.group(group)
        told: Any = None
        for record, group, logs in value.records() if isinstance(value, (Cut, Request)) else cut.records(value):
            found = _record(record, group)
            if found is not None and logs is not told:
                told = logs
                if not _is_usual(group, logs):
                    yield from shape.envelope(group, logs)
            yield found
    except (AttributeError, TypeError, KeyError) as error:
        raise ValueError("no OTLP logs") from error


_USUAL_GROUP = frozenset({"resource", "scopeLogs"})
_USUAL_LOGS = frozenset({"scope", "logRecords"})


def _is_usual(group: dict[str, Any], logs: dict[str, Any]) -> bool:
    """Whether records stand below a resource and an empty scope, and nothing else: as they are sent."""
    return (
        group.keys() == _USUAL_GROUP
        and logs.keys() == _USUAL_LOGS
        and not logs["scope"]
        and type(logs["scope"]) is type(group["resource"]) is dict
    )


def mentions_audit(value: Any) -> bool:
    """Whether a name or text that marks an audit record stands anywhere in a value."""
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            waiting.extend(one)
            waiting.extend(one.values())
        elif isinstance(one, (list, tuple)):
            waiting.extend(one)
        elif isinstance(one, str) and (is_audit_name(one) or one in attr.EVENTS):
            return True
    return False


def _record(record: dict[str, Any], group: dict[str, Any]) -> Exported | Fault | None:
    attributes = record.get("attributes", ())
    try:
        values = {item["key"]: item["value"] for item in attributes}
    except KeyError:  # an attribute without a value
        values = {item["key"]: item.get("value") for item in attributes}
    if attr.STREAM_ID not in values and not is_audit(values, record.get("eventName")):
        if not record.keys() <= shape.RECORD_MEMBERS and mentions_audit(record):
            return "unknown_member", "a log record speaks of audit records in members that are unknown"
        return None
    simple = (
        record.keys() <= _SIMPLE
        and len(values) == len(attributes)
        and set(map(len, attributes)) <= _PAIR
        and type(record.get("flags", 0)) is int
    )
    pop = values.pop
    carried = _text(pop(attr.INTEGRITY_CANONICAL, None))
    digest = _text(pop(attr.INTEGRITY_HASH, None))
    signature = _text(pop(attr.INTEGRITY_VALUE, None))
    form = None
    if not simple:
        carried, digest, signature = _once(attributes)
    elif carried is None:
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
    resource = group.get("resource", _NO_RESOURCE)
    return Exported(
        carried,
        signature,
        digest,
        partial(_fields, record),
        resource,
        form,
        partial(shape.record, record),
        partial(shape.resource, resource),
    )


_SIMPLE = frozenset(
    {"timeUnixNano", "observedTimeUnixNano", "eventName", "body", "attributes", "traceId", "spanId", "flags"}
)
"""What is compared with the signed bytes, and the flags: a record without more has nothing that is looked at apart."""
_PAIR = frozenset({2})
_NO_RESOURCE: dict[str, Any] = {}
_OPTIONAL = (("body", "body"), ("trace_id", "traceId"), ("span_id", "spanId"))
_CARRIED = (attr.INTEGRITY_CANONICAL, attr.INTEGRITY_VALUE)


def _once(attributes: Iterable[dict[str, Any]]) -> tuple[str | None, str | None, str | None]:
    """What carries the proof: where a name stands twice and the two differ, it proves nothing."""
    texts: dict[str, str | None] = {}
    for item in attributes:
        name = item["key"]
        if isinstance(name, str) and is_integrity(name):
            shown = _text(item.get("value"))
            texts[name] = shown if texts.get(name, shown) == shown else None
    return texts.get(_CARRIED[0]), texts.get(attr.INTEGRITY_HASH), texts.get(_CARRIED[1])


def _text(wrapped: Any) -> str | None:
    if type(wrapped) is not dict or len(wrapped) != 1:
        return None
    text = wrapped.get("stringValue")
    return text if isinstance(text, str) else None


def _fields(record: dict[str, Any], signed: Signed) -> Fields:
    """All that a record shows, by name, but what is exactly as it was signed."""
    fields: Fields = []
    for item in record.get("attributes", ()):
        name, shown = item["key"], item.get("value")
        if name not in _CARRIED and (name not in signed or signed[name] != shown):
            fields.append((str(name), plain(shown)))
    fields += [(name, record[name]) for name in _MEMBERS if name in record]
    if "body" in record:
        fields.append(("body", plain(record["body"])))
    return fields


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
    if not isinstance(value, dict) or len(value) != 1:
        return value
    if "intValue" in value:
        return {"intValue": str(value["intValue"])}
    if "arrayValue" in value and isinstance(value["arrayValue"], dict) and value["arrayValue"].keys() <= {"values"}:
        return {"arrayValue": {"values": value["arrayValue"].get("values", [])}}
    return value
