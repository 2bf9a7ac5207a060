"""What log stores answer to a query: VictoriaLogs, Loki (logcli and HTTP), Elasticsearch, and their like.

One rule for all: a record is the smallest JSON object in which a field named like the carried
canonical bytes stands, however deep and whatever the store made of its dots. What stands beside it
under the same prefix are its attributes; what stands outside is what the store says of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .. import attributes as attr
from ..evidence.exported import Exported, Fields
from ..evidence.visible import normal

_CANONICAL = normal(attr.INTEGRITY_CANONICAL)
_STREAM = normal(attr.STREAM_ID)
_INTEGRITY = {normal(attr.INTEGRITY_VALUE): "signature", normal(attr.INTEGRITY_HASH): "hash"}
_RESOURCE = ("resource.attributes.", "resource.", "ResourceAttributes.", "resource_attributes.")
_MAX_DEPTH = 16


def records(value: Any, depth: int = 0) -> Iterator[Exported | None]:
    """The audit records and heads in one JSON value, and None for one that holds none."""
    found = False
    for one in _walk(value, depth):
        found = True
        yield one
    if not found:
        yield None


def _walk(value: Any, depth: int) -> Iterator[Exported]:
    if depth > _MAX_DEPTH:
        return
    if isinstance(value, list):
        for item in value:
            yield from _walk(item, depth + 1)
    elif isinstance(value, dict):
        if isinstance(value.get("stream"), dict) and isinstance(value.get("values"), list):
            for item in value["values"]:
                yield from _walk(_loki_entry(value["stream"], item), depth + 1)
            return
        flat: dict[str, Any] = {}
        _flatten(value, "", flat, depth)
        marks = [name for name in flat if normal(name).endswith(_CANONICAL)]
        marks = marks or [name for name in flat if normal(name).endswith(_STREAM)]
        if len(marks) == 1:
            yield _record(flat, marks[0])
        else:
            for item in value.values():
                if isinstance(item, (dict, list)):
                    yield from _walk(item, depth + 1)


def _loki_entry(labels: dict[str, Any], entry: Any) -> dict[str, Any]:
    """One entry of a stream in Loki's HTTP answer: ``[time, line]``, with structured metadata as a third."""
    joined = dict(labels)
    if isinstance(entry, list) and len(entry) >= 2:
        metadata = entry[2] if len(entry) > 2 and isinstance(entry[2], dict) else {}
        inner = metadata.get("structuredMetadata", metadata)
        joined.update(inner if isinstance(inner, dict) else {})
        joined["timestamp"], joined["line"] = entry[0], entry[1]
    return joined


def _flatten(value: dict[str, Any], prefix: str, flat: dict[str, Any], depth: int) -> None:
    for name, item in value.items():
        if isinstance(item, dict) and depth < _MAX_DEPTH:
            _flatten(item, f"{prefix}{name}.", flat, depth + 1)
        else:
            flat[prefix + name] = item


def _record(flat: dict[str, Any], mark: str) -> Exported:
    """The record whose ``mark`` field tells the prefix under which its attributes stand."""
    tail = _CANONICAL if normal(mark).endswith(_CANONICAL) else _STREAM
    prefix = mark[: -len(tail)]
    texts: dict[str, str] = {}
    fields: Fields = []
    for name, shown in flat.items():
        own = name.removeprefix(prefix)
        key = normal(own)
        if not isinstance(shown, str) or (prefix and own == name):
            pass
        elif key == _CANONICAL:
            texts["canonical"] = shown
            continue
        elif key in _INTEGRITY:
            texts[_INTEGRITY[key]] = shown
        if own == name:
            start = next((start for start in _RESOURCE if name.startswith(start)), "")
            own = name.removeprefix(start)
        fields.append((own, shown))
    return Exported(texts.get("canonical"), texts.get("signature"), texts.get("hash"), fields.copy)
