"""What log stores answer to a query: VictoriaLogs, Loki (logcli and HTTP), Elasticsearch, and their like.

One rule for all: a record is the smallest JSON object in which a field named like the carried
canonical bytes stands, however deep and whatever the store made of its dots. What stands beside it
under the same prefix are its attributes; what stands outside is what the store says of it. Names that
meet (flat and nested, a label and metadata) all count: each is compared. A row of an audit record in
which the bytes are not found once is a finding.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .. import attributes as attr
from ..evidence.audit import ends_like_one, is_audit
from ..evidence.exported import Exported
from ..evidence.resource import Fault
from ..evidence.visible import Fields, normal
from .otlp import mentions_audit

_CANONICAL = normal(attr.INTEGRITY_CANONICAL)
_STREAM = normal(attr.STREAM_ID)
_INTEGRITY = {normal(attr.INTEGRITY_VALUE): "signature", normal(attr.INTEGRITY_HASH): "hash"}
_RESOURCE = ("resource.attributes.", "resource.", "ResourceAttributes.", "resource_attributes.")
_EVENT = ("event_name", "eventName", "EventName")
_MAX_DEPTH = 16

Found = Exported | Fault | None


def records(value: Any) -> Iterator[Found]:
    """The audit records and heads in one JSON value, what is wrong with one, and None for a value that holds none."""
    found = False
    for one in _walk(value, 0):
        found = True
        yield one
    if not found:
        yield (
            ("unprovable", "a row names an audit record, and holds none that can be read")
            if mentions_audit(value)
            else None
        )


def _walk(value: Any, depth: int) -> Iterator[Exported | Fault]:
    if depth > _MAX_DEPTH:
        if mentions_audit(value):
            yield "unreadable", "an audit record is nested too deep to be read"
    elif isinstance(value, list):
        for item in value:
            yield from _walk(item, depth + 1)
    elif isinstance(value, dict):
        if isinstance(value.get("stream"), dict) and isinstance(value.get("values"), list):
            for item in value["values"]:
                yield from _loki_entry(value["stream"], item, depth)
            for name, item in value.items():
                if name not in ("stream", "values") and mentions_audit({name: item}):
                    yield "ambiguous", "an audit record stands beside the entries of a stream"
            return
        fields: Fields = []
        _flatten(value, "", fields, depth)
        marks = [name for name, _ in fields if normal(name).endswith(_CANONICAL)]
        direct = [name for name, item in value.items() if not isinstance(item, dict) and ends_like_one(name)]
        if len(marks) == 1 or (direct and not marks):
            yield from _row(fields, marks)
        elif direct:
            yield "ambiguous", "the canonical bytes stand under two names in one row"
        else:
            yield from _below(value, len(marks), depth)


def _below(value: dict[str, Any], marks: int, depth: int) -> Iterator[Exported | Fault]:
    """The records in the members of an object that is none itself."""
    found = 0
    for item in value.values():
        if isinstance(item, (dict, list)):
            for one in _walk(item, depth + 1):
                found += isinstance(one, Exported)
                yield one
    if found < marks:
        yield "ambiguous", "the canonical bytes stand under two names in one row"
    elif not found:
        fields: Fields = []
        _flatten(value, "", fields, depth)
        if is_audit((name for name, _ in fields), _event(fields)) or any(ends_like_one(name) for name, _ in fields):
            yield from _row(fields, [])


def _event(fields: Fields) -> Any:
    return next((shown for name, shown in fields if name in _EVENT), None)


def _loki_entry(labels: dict[str, Any], entry: Any, depth: int) -> Iterator[Exported | Fault]:
    """One entry of a stream in Loki's HTTP answer: ``[time, line]``, with structured metadata as a third."""
    fields: Fields = []
    _flatten(labels, "", fields, depth)
    if isinstance(entry, list) and len(entry) >= 2:
        fields += [("timestamp", entry[0]), ("line", entry[1])]
        metadata = entry[2] if len(entry) > 2 and isinstance(entry[2], dict) else {}
        for name, item in metadata.items():
            apart = name in ("structuredMetadata", "parsed") and isinstance(item, dict)
            _flatten(item if apart else {name: item}, "", fields, depth)
    marks = [name for name, _ in fields if normal(name).endswith(_CANONICAL)]
    if len(marks) > 1:
        yield "ambiguous", "the canonical bytes stand under two names in one row"
    elif marks or any(ends_like_one(name) for name, _ in fields) or is_audit((), _event(fields)):
        yield from _row(fields, marks)


def _flatten(value: dict[str, Any], prefix: str, fields: Fields, depth: int) -> None:
    for name, item in value.items():
        if isinstance(item, dict) and depth < _MAX_DEPTH:
            _flatten(item, f"{prefix}{name}.", fields, depth + 1)
        else:
            fields.append((prefix + name, item))


def _row(flat: Fields, marks: list[str]) -> Iterator[Exported | Fault]:
    """The record of a row; ``marks`` is the name of the field with its bytes, empty where it has none."""
    for name, item in flat if marks else ():
        if isinstance(item, (dict, list)) and not all(isinstance(one, str) for one in item) and mentions_audit(item):
            yield "ambiguous", f"another audit record stands within a row, in {attr.text(name, 80)}"
    mark = marks[0] if marks else next((name for name, _ in flat if normal(name).endswith(_STREAM)), "")
    tail = _CANONICAL if marks else _STREAM
    prefix = mark[: -len(tail)] if mark else ""
    texts: dict[str, str] = {}
    fields: Fields = []
    for name, shown in flat:
        own = name.removeprefix(prefix)
        key = normal(own)
        if not isinstance(shown, str) or (prefix and own == name):
            pass
        elif key == _CANONICAL:
            texts["canonical"] = shown
            continue
        elif key in _INTEGRITY and texts.setdefault(_INTEGRITY[key], shown) != shown:
            yield "ambiguous", f"{attr.text(name, 80)} stands twice in one row, with different values"
        if own == name:
            start = next((start for start in _RESOURCE if name.startswith(start)), "")
            own = name.removeprefix(start)
        fields.append((own, shown))
    yield Exported(texts.get("canonical"), texts.get("signature"), texts.get("hash"), lambda _: list(fields))
