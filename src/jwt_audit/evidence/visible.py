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
from .streams import Chain
from .verdict import Place

_BODY = frozenset({"body", "_msg", "line", "body_text", "body_stringValue", "message", "Body"})
_EVENT = frozenset({"event_name", "eventName", "EventName"})
_IDS = {"trace_id": "trace_id", "traceId": "trace_id", "TraceId": "trace_id", "traceid": "trace_id",
        "span_id": "span_id", "spanId": "span_id", "SpanId": "span_id", "spanid": "span_id"}  # fmt: skip
_EXACT_TIMES = {"timeUnixNano": "timestamp", "observedTimeUnixNano": "observed_timestamp"}
_TIMES = frozenset({"_time", "time", "timestamp", "_timestamp", "Timestamp", "observed_timestamp", "ObservedTimestamp"})
_RFC_3339 = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)")


@lru_cache(maxsize=4096)
def normal(name: str) -> str:
    """A field's name as every store may write it: what is neither letter nor digit becomes an underscore."""
    return re.sub(r"[^A-Za-z0-9]", "_", name)


_OURS = frozenset(
    normal(name)
    for name in attr.NAMES
    if name.startswith(("jwt.", "audit.")) or name in (attr.ENDUSER_ID, attr.SESSION_ID, attr.USER_ROLES)
    if not name.startswith(attr.INTEGRITY)
)
"""Names that nobody but us writes into an audit record."""


def contradictions(form: dict[str, Any], digest: str, fields: list[tuple[str, Any]]) -> list[str]:
    """The names of shown fields that contradict a record's canonical form ``form`` or its hash."""
    signed: dict[str, list[Any]] = {}
    for name, wrapped in form["attributes"].items():
        signed.setdefault(normal(name), []).append(plain(wrapped))
    found = []
    for name, shown in fields:
        key = normal(name)
        if key in signed:
            right = any(same(value, shown) for value in signed[key])
        elif key == "audit_integrity_hash":
            right = shown == digest
        else:
            right = key not in _OURS and _same_member(form, key, shown)
        if not right:
            found.append(name)
    return found


def _same_member(form: dict[str, Any], key: str, shown: Any) -> bool:
    """Whether a shown field agrees with the member of the record that it stands for, if it stands for one."""
    if shown is None or shown == "":
        return True  # how some stores write what is absent
    if key in _EVENT:
        return same(form["event_name"], shown)
    if key in _BODY:
        return "body" not in form or same(plain(form["body"]), shown)
    if key in _IDS:
        member = form.get(_IDS[key])
        return member is None or not isinstance(shown, str) or not shown.strip("0") or shown.lower() == member
    if key in _EXACT_TIMES:
        return same(int(form[_EXACT_TIMES[key]]), shown)
    if key in _TIMES:
        return any(_same_time(int(form[member]), shown) for member in ("timestamp", "observed_timestamp"))
    return True


def _same_time(expected: int, shown: Any) -> bool:
    """Whether a shown time is ``expected`` (ns), as far as its digits go; a form we do not know is no contradiction."""
    text = str(shown)
    if text.isascii() and text.isdigit():
        return expected == int(text) or len(text) != len(str(expected))
    match = _RFC_3339.fullmatch(text)
    if match is None:
        return True
    try:
        seconds = int(datetime.fromisoformat(match[1] + match[3].replace("Z", "+00:00")).timestamp())
    except (ValueError, OverflowError):
        return False
    digits = match[2] or ""
    unit = 10 ** (9 - len(digits))
    return bool(expected // unit == seconds * 10 ** len(digits) + int(digits or 0))


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


def plain(wrapped: Any) -> Any:
    """An AnyValue of OTLP JSON as a plain value; None for an empty one. Never raises on what JSON can hold."""
    if not isinstance(wrapped, dict) or len(wrapped) != 1:
        return None
    ((kind, value),) = wrapped.items()
    if kind == "intValue":
        try:
            return int(value)
        except (ValueError, TypeError, OverflowError):
            return value  # no integer, and so no value that was signed
    if kind in ("arrayValue", "kvlistValue"):
        values = value.get("values") if isinstance(value, dict) else None
        items = values if isinstance(values, list) else []
        if kind == "arrayValue":
            return [plain(item) for item in items]
        return {str(item.get("key")): plain(item.get("value")) for item in items if isinstance(item, dict)}
    return float(value) if kind == "doubleValue" and isinstance(value, int) else value


class Shown:
    """What an export shows of one stream's resource: all of it (OTLP), or fields among others."""

    _DISTINCT = 2
    """Values kept of one field: a resource does not change, so of two different ones one is wrong."""

    def __init__(self) -> None:
        self._whole: dict[bytes, Place] = {}
        self._last: list[Any] | None = None
        self._fields: dict[str, dict[str, tuple[Any, Place]]] = {}

    def resource(self, attributes: list[Any], place: Place) -> None:
        """An OTLP resource: its list of key and value."""
        if attributes is not self._last:  # that of the record before, in the same request
            self._last = attributes
            self._whole.setdefault(orjson.dumps(attributes), place)

    def fields(self, fields: list[tuple[str, Any]], place: Place) -> None:
        """All fields of a record in a store that does not keep the resource apart."""
        for name, value in fields:
            known = self._fields.setdefault(normal(name), {})
            if len(known) < self._DISTINCT:
                known.setdefault(repr(value), (value, place))

    def judge(self, chain: Chain) -> None:
        """Compare with what the stream's first record signed: it must be contained; more may be there."""
        if chain.binding is None:
            return
        signed = {name: plain(wrapped) for name, wrapped in chain.binding.resource.items()}
        told: set[str] = set()
        for text, place in self._whole.items():
            shown = {
                item["key"]: item.get("value")
                for item in orjson.loads(text)
                if isinstance(item, dict) and "key" in item
            }
            for name, value in signed.items():
                if name not in shown or not same(value, plain(shown[name])):
                    self._tell(chain, name, place, told)
            if not same(chain.binding.key.algorithm, plain(shown.get(attr.INTEGRITY_ALGORITHM))):
                self._tell(chain, attr.INTEGRITY_ALGORITHM, place, told)
        for name, value in signed.items():
            for other, place in self._fields.get(normal(name), {}).values():
                if not same(value, other):
                    self._tell(chain, name, place, told)

    def _tell(self, chain: Chain, name: str, place: Place, told: set[str]) -> None:
        if name not in told:
            told.add(name)
            detail = f"the resource attribute {attr.text(name, 80)} is not what the stream's first record signed"
            chain.bad("resource", detail, place)
