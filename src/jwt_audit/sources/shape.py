"""The form of OTLP/JSON, checked where readers could part: members that are unknown, of another type, or given twice.

Readers differ in what they make of these: one takes the first value, another the last, a third both,
a fourth the member's other name (protobuf's JSON takes ``event_name`` for ``eventName``). Kinds:
``ambiguous`` for what nobody writes who writes OTLP, ``unknown_member`` for what a later version may.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from .. import attributes as attr
from ..evidence.resource import Fault
from ..evidence.visible import OURS, UNREADABLE, normal, plain

_Types = tuple[type, ...]
_TEXT: _Types = (str,)
_NUMBER: _Types = (int, str)
_LIST: _Types = (list,)
_MAP: _Types = (dict,)
_RECORD = {
    "timeUnixNano": _NUMBER,
    "observedTimeUnixNano": _NUMBER,
    "severityNumber": _NUMBER,
    "severityText": _TEXT,
    "body": _MAP,
    "attributes": _LIST,
    "droppedAttributesCount": _NUMBER,
    "flags": _NUMBER,
    "traceId": _TEXT,
    "spanId": _TEXT,
    "eventName": _TEXT,
}
_RESOURCE = {"attributes": _LIST, "droppedAttributesCount": _NUMBER, "entityRefs": _LIST}
_SCOPE = {"name": _TEXT, "version": _TEXT, "attributes": _LIST, "droppedAttributesCount": _NUMBER}
_RESOURCE_LOGS = {"resource": _MAP, "scopeLogs": _LIST, "schemaUrl": _TEXT}
_SCOPE_LOGS = {"scope": _MAP, "logRecords": _LIST, "schemaUrl": _TEXT}
_REQUEST = {"resourceLogs": _LIST}
_KINDS = frozenset({"stringValue", "boolValue", "intValue", "doubleValue", "arrayValue", "kvlistValue", "bytesValue"})
_PAIR = ("key", "value")
_NOTHING: Mapping[str, Any] = {}
_MAX_EXACT = 2**53
"""Beyond it a JSON number is not the same for every reader: some read a double."""


def record(form: dict[str, Any], signed: Mapping[str, Any]) -> Iterator[Fault]:
    """What is wrong with a LogRecord; ``signed``: its attributes as they were signed, wrapped."""
    yield from _members(form, _RECORD, "the record")
    if isinstance(form.get("body"), dict):
        yield from _value(form["body"], "its body")
    yield from attributes(form.get("attributes", []), "its attributes", signed)


def resource(form: Any) -> Iterator[Fault]:
    """What is wrong with a Resource."""
    if not isinstance(form, dict):
        yield "ambiguous", "it is given twice, or is none"
        return
    yield from _members(form, _RESOURCE, "it")
    yield from attributes(form.get("attributes", []), "its attributes")


def request(form: dict[str, Any]) -> Iterator[Fault]:
    """What is wrong with the members of a request itself."""
    yield from _members(form, _REQUEST, "the request")


def group(form: dict[str, Any]) -> Iterator[Fault]:
    """What is wrong with ResourceLogs in which there is no audit record: what keeps one from being seen."""
    for kind, detail in _members(form, _RESOURCE_LOGS, "resourceLogs"):
        if kind == "ambiguous":
            yield kind, detail


def envelope(group: dict[str, Any], logs: dict[str, Any]) -> Iterator[Fault]:
    """What is wrong with what stands around a record: ResourceLogs, ScopeLogs and the scope."""
    yield from _members(group, _RESOURCE_LOGS, "resourceLogs")
    yield from _members(logs, _SCOPE_LOGS, "scopeLogs")
    scope = logs.get("scope", {})
    if not isinstance(scope, dict):
        return  # told by its type
    yield from _members(scope, _SCOPE, "the scope")
    found = scope.get("attributes", [])
    yield from attributes(found, "the scope's attributes")
    for item in found if isinstance(found, list) else ():
        name = item.get("key") if isinstance(item, dict) else None
        if isinstance(name, str) and normal(name) in OURS:
            yield "ambiguous", f"the scope has the attribute {attr.text(name, 80)}, which only a record has"


def attributes(items: Any, where: str, signed: Mapping[str, Any] = _NOTHING) -> Iterator[Fault]:
    """What is wrong with a list of attributes, beside those that stand there exactly as they were signed."""
    if not isinstance(items, list):
        return  # told by its type
    seen: set[str] = set()
    for item in items:
        name = item.get("key") if isinstance(item, dict) else None
        if not isinstance(name, str):
            yield "ambiguous", f"{where}: one of them has no name"
            continue
        if name in seen:
            yield "ambiguous", f"{where}: {attr.text(name, 80)} stands twice"
        seen.add(name)
        shown = item.get("value")
        if len(item) == len(_PAIR) and ((name in signed and signed[name] == shown) or _is_text(shown)):
            continue
        if not item.keys() <= {"key", "value"}:
            yield "unknown_member", f"{where}: {attr.text(name, 80)} has a member that is unknown"
        if shown is not None and shown != {}:
            yield from _value(shown, f"{where}: {attr.text(name, 80)}")


def _is_text(value: Any) -> bool:
    return isinstance(value, dict) and len(value) == 1 and isinstance(value.get("stringValue"), str)


def _value(value: Any, where: str) -> Iterator[Fault]:
    if isinstance(value, dict) and not value.keys() <= _KINDS:
        yield "unknown_member", f"{where} has a value of an unknown kind"
    elif _unread(plain(value)):
        yield "ambiguous", f"{where} has two values, or one that is none"


def _unread(value: Any) -> bool:
    if isinstance(value, list):
        return any(map(_unread, value))
    if isinstance(value, dict):
        return any(map(_unread, value.values()))
    return value is UNREADABLE


def _members(form: dict[str, Any], known: Mapping[str, _Types], where: str) -> Iterator[Fault]:
    for name, value in form.items():
        types = known.get(name)
        if types is None:
            yield "unknown_member", f"{where} has the member {attr.text(str(name), 80)}, which is unknown"
        elif not isinstance(value, types) or isinstance(value, bool):
            yield "ambiguous", f"{where}: {name} is given twice, or of another type than it has"
        elif types is _NUMBER and not _is_number(value):
            yield "ambiguous", f"{where}: {name} is no number that every reader reads alike"


def _is_number(value: Any) -> bool:
    if isinstance(value, str):
        return value.isascii() and value.isdigit() and str(int(value[:20])) == value
    return isinstance(value, int) and 0 <= value <= _MAX_EXACT


RECORD_MEMBERS = frozenset(_RECORD)
"""The members that a LogRecord has."""
