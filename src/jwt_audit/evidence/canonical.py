"""The canonical bytes of a record: RFC 8785 (JCS) over the draft audit signal's JSON form.

Invariants: one record has one form; `parse` accepts that form alone, so that what was hashed is
what is read. Values are str, int64, bool or list of str and keys ASCII, which is why orjson with
sorted keys gives RFC 8785's bytes (it would differ on floats and on keys beyond the BMP).
"""

from __future__ import annotations

from typing import Any, cast

import orjson

from ..anyvalue import integer, string, unwrap
from ..attributes import INTEGRITY
from ..errors import RecordError
from .record import Record

MAX_BYTES = 64 * 1024
"""A larger record is refused: stores cut or drop it (Loki at 64 KB of metadata)."""


def canonical(record: Record) -> bytes:
    """The bytes that are hashed, written to the spool and carried to the backend.

    Raises RecordError for a value with no canonical form: a lone surrogate, a foreign type, a
    non-ASCII key, over `MAX_BYTES`.
    """
    form: dict[str, Any] = {
        "attributes": record.form,
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
            event_name=string(form["event_name"]),
            timestamp=integer(form["timestamp"]),
            observed_timestamp=integer(form["observed_timestamp"]),
            attributes=attributes,
            body=None if body is None else string(body),
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
    try:
        same = isinstance(form, dict) and orjson.dumps(form, option=orjson.OPT_SORT_KEYS) == data
    except TypeError as error:  # nested deeper than orjson writes
        raise RecordError("the bytes are nested deeper than any record") from error
    if not same:
        raise RecordError("the bytes are not in canonical form")
    return cast("dict[str, Any]", form)


def is_integrity(key: str) -> bool:
    """Whether an attribute is left out of the canonical form: it holds or carries the proof."""
    return key.startswith(INTEGRITY)
