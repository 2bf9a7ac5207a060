"""An attribute's value in the form that OTLP/JSON gives it: ``{"stringValue": "x"}``, integers as decimal strings.

That is how it stands in canonical bytes. What is the same in many records is kept in this form and
shared between them: nobody changes it.
"""

from __future__ import annotations

from typing import Any

from .attributes import Value
from .errors import RecordError

_INT64 = 2**63


def wrap(value: Value) -> dict[str, Any]:
    """``value`` in that form. Raises RecordError where it has none: another type, more than 64 bits."""
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
            return integer(value)
        if kind == "arrayValue" and isinstance(value, dict):
            items = value.get("values", [])
            if isinstance(items, list):
                return [string(unwrap(item)) for item in items]
    raise RecordError("a value is not in the form of an attribute")


def integer(value: Any) -> int:
    """A 64-bit integer, also written as a decimal string. Raises RecordError."""
    if isinstance(value, str) and value.isascii() and value.removeprefix("-").isdigit() and len(value) <= 20:
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool) and -_INT64 <= value < 2 * _INT64:
        return value
    raise RecordError("a number is no 64-bit integer")


def string(value: Any) -> str:
    """A string. Raises RecordError."""
    if not isinstance(value, str):
        raise RecordError("a value is no string")
    return value
