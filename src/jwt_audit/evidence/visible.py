"""What a store shows beside the carried bytes: does it contradict them?

Stores turn values into strings, dots into underscores, and add fields; none of that is a
contradiction. A field that names an attribute of the signed record and shows another value is one;
so is a field of identity or audit that the signed record does not have at all.
"""

from __future__ import annotations

import re
from datetime import datetime
from functools import lru_cache
from typing import Any

import orjson

from .. import attributes as attr

Fields = list[tuple[str, Any]]
"""What is shown of a record, by name; a name may stand there twice."""

_BODY = frozenset({"body", "_msg", "line", "body_text", "body_stringValue", "message", "Body"})
_MESSAGES = frozenset({"_msg", "line", "message"})
"""Lines that a store shows of each record; of one without a body it may say so there."""
_EVENT = frozenset({"event_name", "eventName", "EventName"})
_IDS = {"trace_id": "trace_id", "traceId": "trace_id", "TraceId": "trace_id", "traceid": "trace_id",
        "span_id": "span_id", "spanId": "span_id", "SpanId": "span_id", "spanid": "span_id"}  # fmt: skip
_EXACT_TIMES = {"timeUnixNano": "timestamp", "observedTimeUnixNano": "observed_timestamp"}
_OBSERVED = frozenset({"observed_timestamp", "ObservedTimestamp", "observedTimestamp"})
_TIMES = frozenset({"_time", "time", "timestamp", "_timestamp", "Timestamp"})
_RFC_3339 = re.compile(r"(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d:\d\d)(?:\.(\d{1,12}))?(Z|z| ?UTC|[+-]\d\d:?\d\d)?", re.ASCII)
_EPOCH = re.compile(r"\d{1,20}(?:\.\d{1,12})?", re.ASCII)
_SECONDS_DIGITS = 10
_UNITS = {13: 10**6, 16: 10**3, 19: 1}
"""What the last digit of a whole number of so many digits stands for, in nanoseconds: seconds have ten at most."""


def normal(name: str) -> str:
    """A field's name as every store may write it: what is neither letter nor digit becomes an underscore."""
    return _remembered(name) if len(name) <= _LONG else _NO_NAME.sub("_", name)


_NO_NAME = re.compile(r"[^A-Za-z0-9]")
_LONG = 200
"""Characters; a longer name is none that comes again and again, and is not remembered."""


@lru_cache(maxsize=4096)
def _remembered(name: str) -> str:
    return _NO_NAME.sub("_", name)


OURS = frozenset(
    normal(name)
    for name in attr.NAMES
    if name.startswith(("jwt.", "audit.")) or name in (attr.ENDUSER_ID, attr.SESSION_ID, attr.USER_ROLES)
    if not name.startswith(attr.INTEGRITY)
)
"""Names that nobody but us writes into an audit record."""


def contradictions(form: dict[str, Any], digest: str, fields: Fields) -> tuple[list[str], int]:
    """The names of shown fields that contradict a record's canonical form ``form`` or its hash.

    And how many fields stand for a member of the record in a form that cannot be compared.
    """
    if not fields:
        return [], 0
    signed: dict[str, list[Any]] = {}
    for name, wrapped in form["attributes"].items():
        signed.setdefault(normal(name), []).append(plain(wrapped))
    found = []
    uncompared = 0
    for name, shown in fields:
        key = normal(name)
        right: bool | None
        if key in signed:
            right = any(same(value, shown) for value in signed[key])
        elif key == "audit_integrity_hash":
            right = shown == digest
        elif key in OURS:
            right = shown is None
        elif key == "audit_integrity_canonical":
            right = False  # those that count are not among the fields: these are others
        else:
            right = _same_member(form, key, shown)
        if right is None:
            uncompared += 1
        elif not right:
            found.append(name)
    return found, uncompared


def _same_member(form: dict[str, Any], key: str, shown: Any) -> bool | None:
    """Whether a shown field agrees with the member of the record that it stands for, if it stands for one.

    None where the two cannot be compared.
    """
    if shown is None or shown == "":
        return True  # how some stores write what is absent
    if key in _EVENT:
        return same(form["event_name"], shown)
    if key in _BODY:
        if "body" not in form:
            return None if key in _MESSAGES else False
        return same(plain(form["body"]), shown)
    if key in _IDS:
        if not isinstance(shown, str):
            return False
        return not shown.strip("0") or shown.lower() == form.get(_IDS[key])
    if key in _EXACT_TIMES:
        return same(int(form[_EXACT_TIMES[key]]), shown)
    if key in _OBSERVED:
        return _same_time(int(form["observed_timestamp"]), shown)
    if key in _TIMES:
        return _same_time(int(form["timestamp"]), shown)
    return True


def _same_time(expected: int, shown: Any) -> bool | None:
    """Whether a shown time is ``expected`` (ns), as far as its digits go; None for a form that is not known."""
    if isinstance(shown, bool) or not isinstance(shown, (str, int, float)):
        return None
    text = repr(shown) if isinstance(shown, float) else str(shown)
    if _EPOCH.fullmatch(text):
        seconds_text, _, digits = text.partition(".")
        if digits or len(seconds_text) <= _SECONDS_DIGITS:
            return _to_the_digits(expected, int(seconds_text), digits)
        unit = _UNITS.get(len(seconds_text))
        return None if unit is None else expected // unit == int(seconds_text)
    match = _RFC_3339.fullmatch(text)
    if match is None:
        return None
    try:
        seconds = int(datetime.fromisoformat(f"{match[1]}T{match[2]}{_offset(match[4])}").timestamp())
    except (ValueError, OverflowError):
        return False
    return _to_the_digits(expected, seconds, match[3] or "")


def _offset(text: str | None) -> str:
    if text is None or text in ("Z", "z", "UTC", " UTC"):
        return "+00:00"
    return text if ":" in text else f"{text[:3]}:{text[3:]}"


def _to_the_digits(expected: int, seconds: int, digits: str) -> bool:
    """Whether so many seconds and that decimal fraction are ``expected``, cut to as many digits."""
    digits = digits[:9]
    unit = int(10 ** (9 - len(digits)))
    return expected // unit == seconds * int(10 ** len(digits)) + int(digits or 0)


def same(signed: Any, shown: Any) -> bool:
    """Whether ``shown`` is the value ``signed``, or the string that a store makes of it."""
    if shown is None:
        return True
    if isinstance(signed, bool) or isinstance(shown, bool):
        return str(signed).lower() == str(shown).lower()
    if isinstance(signed, list):
        if isinstance(shown, str) and shown[:1] == "[":
            try:
                shown = orjson.loads(shown)
            except orjson.JSONDecodeError:
                return False
        if not isinstance(shown, list):
            return len(signed) == 1 and same(signed[0], shown)
        return len(signed) == len(shown) and all(map(same, signed, shown))
    if isinstance(signed, dict):
        if isinstance(shown, str):
            try:
                shown = orjson.loads(shown)
            except orjson.JSONDecodeError:
                return False
        return (
            isinstance(shown, dict) and signed.keys() == shown.keys() and all(same(signed[k], shown[k]) for k in signed)
        )
    if isinstance(signed, float) and isinstance(shown, (str, int)):
        try:
            return signed == float(shown)
        except (ValueError, OverflowError):
            return False
    return bool(signed == shown) or (not isinstance(shown, (list, dict)) and str(signed) == str(shown))


class _Unreadable:
    """Something that is shown and is no value: never the same as one that was signed, and never absent."""

    def __repr__(self) -> str:
        return "UNREADABLE"


UNREADABLE = _Unreadable()
_MAX_DEPTH = 32
_INTEGER = re.compile(r"0|-?[1-9][0-9]{0,19}")


def plain(wrapped: Any, depth: int = 0) -> Any:
    """An AnyValue of OTLP JSON as a plain value; `UNREADABLE` for what is not exactly one value.

    Never raises on what JSON can hold.
    """
    if not isinstance(wrapped, dict) or len(wrapped) != 1 or depth > _MAX_DEPTH:
        return UNREADABLE
    ((kind, value),) = wrapped.items()
    if kind == "stringValue":
        return value if isinstance(value, str) else UNREADABLE
    if kind == "boolValue":
        return value if isinstance(value, bool) else UNREADABLE
    if kind == "intValue":
        return _integer(value)
    if kind == "doubleValue":
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        return float(value) if number else value if value in _NOT_FINITE else UNREADABLE
    if kind == "bytesValue":
        return value if isinstance(value, str) else UNREADABLE
    if kind in ("arrayValue", "kvlistValue"):
        if (
            not isinstance(value, dict)
            or not value.keys() <= {"values"}
            or not isinstance(value.get("values", []), list)
        ):
            return UNREADABLE
        items = value.get("values", [])
        if kind == "arrayValue":
            return [plain(item, depth + 1) for item in items]
        return _plain_map(items, depth)
    return UNREADABLE


_NOT_FINITE = ("NaN", "Infinity", "-Infinity")


def _integer(value: Any) -> Any:
    if isinstance(value, str) and _INTEGER.fullmatch(value):
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else UNREADABLE


def _plain_map(items: list[Any], depth: int) -> Any:
    found: dict[str, Any] = {}
    for item in items:
        if not isinstance(item, dict) or not item.keys() <= {"key", "value"}:
            return UNREADABLE
        key = item.get("key", "")
        if not isinstance(key, str) or key in found:
            return UNREADABLE
        found[key] = plain(item.get("value"), depth + 1)
    return found
