"""The canonical bytes of a record: RFC 8785 (JCS) over the draft audit signal's JSON form.

Invariants: one record has one form; `parse` accepts that form alone, so that what was hashed is
what is read. Values are str, int64, bool or list of str and keys ASCII, which is why orjson with
sorted keys gives RFC 8785's bytes (it would differ on floats and on keys beyond the BMP).
"""

from __future__ import annotations

from typing import Any, cast

import orjson

from ..attributes import INTEGRITY, Value
from ..errors import RecordError
from .record import Record

_INT64 = 2**63

MAX_BYTES = 64 * 1024
"""A larger record is refused: stores cut or drop it (Loki at 64 KB of metadata)."""


def canonical(record: Record) -> bytes:
    """The bytes that are hashed, written to the spool and carried to the backend.

    Raises RecordError for a value with no canonical form: a lone surrogate, a foreign type, a
    non-ASCII key, over `MAX_BYTES`.
    """
    attributes = {}
    for key, value in record.attributes.items():
        if type(value) is str:
            attributes[key] = {"stringValue": value}
        elif type(value) is int and -_INT64 <= value < _INT64:
            attributes[key] = {"intValue": str(value)}
        else:
            attributes[key] = wrap(value)
    form: dict[str, Any] = {
        "attributes": attributes,
        "event_name": record.event_name,
        "observed_timestamp": str(record.observed_timestamp),
        "timestamp": str(record.timestamp),
    }
    if record.body is not None:
        form["body"] = {"stringValue": record.body}
    if record.trace_id is not None:
        form["trace_id"] = record.trace_id
    if record.span_id is not None:
        form["span_id"] = record.span_id
    try:
        data = orjson.dumps(form, option=orjson.OPT_SORT_KEYS)
    except (TypeError, ValueError) as error:  # orjson refuses lone surrogates and non-string keys
        raise RecordError(f"a record of {record.event_name!r} has no canonical form") from error
    if len(data) > MAX_BYTES:
        raise RecordError(f"a record of {record.event_name!r} has {len(data)} bytes, {MAX_BYTES} is the limit")
    return data


def wrap(value: Value) -> dict[str, Any]:
    """An attribute value in OTLP JSON's AnyValue form, integers as decimal strings."""
    if isinstance(value, str):
        return {"stringValue": value}
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        if not -_INT64 <= value < _INT64:
            raise RecordError("an integer does not fit into 64 bits")
        return {"intValue": str(value)}
    if isinstance(value, (list, tuple)) and all(isinstance(item, str) for item in value):
        return {"arrayValue": {"values": [{"stringValue": item} for item in value]}}
    raise RecordError(f"a value of type {type(value).__name__} has no place in a record")


def unwrap(form: Any) -> Value:
    """The inverse of `wrap`; also takes an integer written as a JSON number. Raises RecordError."""
    if isinstance(form, dict) and len(form) == 1:
        ((kind, value),) = form.items()
        if kind == "stringValue" and isinstance(value, str):
            return value
        if kind == "boolValue" and isinstance(value, bool):
            return value
        if kind == "intValue" and not isinstance(value, bool):
            return _integer(value)
        if kind == "arrayValue" and isinstance(value, dict):
            items = value.get("values", [])
            if isinstance(items, list):
                return [_string(unwrap(item)) for item in items]
    raise RecordError("a value is not in the form of an attribute")


def parse(data: bytes) -> Record:
    """The record whose canonical bytes these are, exactly.

    Raises RecordError for anything else: duplicate keys, other order, spaces, invalid UTF-8,
    unknown members, numbers written otherwise.
    """
    form = load(data)
    try:
        attributes = {key: unwrap(value) for key, value in form["attributes"].items()}
        body = unwrap(form["body"]) if "body" in form else None
        record = Record(
            event_name=_string(form["event_name"]),
            timestamp=_integer(form["timestamp"]),
            observed_timestamp=_integer(form["observed_timestamp"]),
            attributes=attributes,
            body=None if body is None else _string(body),
            trace_id=form.get("trace_id"),
            span_id=form.get("span_id"),
        )
    except (KeyError, AttributeError, TypeError) as error:
        raise RecordError("the bytes are no record") from error
    if canonical(record) != data:
        raise RecordError("the bytes are not in canonical form")
    return record


def load(data: bytes) -> dict[str, Any]:
    """The JSON object in ``data``, which must be its canonical form. Raises RecordError.

    The cheap half of `parse`, for whoever needs few of the fields: duplicate keys, another order or
    another spelling do not survive being written again.
    """
    try:
        form = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise RecordError("the bytes are not JSON") from error
    if not isinstance(form, dict) or orjson.dumps(form, option=orjson.OPT_SORT_KEYS) != data:
        raise RecordError("the bytes are not in canonical form")
    return cast("dict[str, Any]", form)


def is_integrity(key: str) -> bool:
    """Whether an attribute is left out of the canonical form: it holds or carries the proof."""
    return key.startswith(INTEGRITY)


def _integer(value: Any) -> int:
    if isinstance(value, str) and value.isascii() and value.removeprefix("-").isdigit() and len(value) <= 20:
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool) and -_INT64 <= value < 2 * _INT64:
        return value
    raise RecordError("a number is no 64-bit integer")


def _string(value: Any) -> str:
    if not isinstance(value, str):
        raise RecordError("a value is no string")
    return value
