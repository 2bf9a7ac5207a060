"""OTLP/protobuf logs, read into OTLP/JSON's form: the few messages that logs are made of.

Of its own, since the verifier imports no OpenTelemetry, and since it has to see what a parser resolves
in silence: a field that is there twice (the last counts, or the two are merged) becomes a tuple of its
values, a field that is unknown, or in another wire type than it has, the member ``#number``. Neither is
OTLP/JSON's form, so whoever checks that (`shape`) finds both. Field numbers from
opentelemetry/proto/{collector/logs,logs,resource,common}/v1.
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_MAX_DEPTH = 32
_MAX_FIELDS = 200_000
"""Fields of one record or resource: each costs many times its bytes in memory."""


class _Field(NamedTuple):
    name: str
    wire: int
    read: Callable[[Any, _Budget, int], Any]
    repeated: bool = False


_Fields = dict[int, _Field]


class _Budget:
    """Bounds what one record or resource may cost."""

    def __init__(self) -> None:
        self._left = _MAX_FIELDS

    def spend(self) -> None:
        self._left -= 1
        if self._left < 0:
            raise ValueError("no OTLP logs: more fields than any record has")


class Request:
    """A request: `records` reads one at a time, since they cost many times their bytes in memory."""

    def __init__(self, data: bytes) -> None:
        """Raises ValueError for bytes that are no ExportLogsServiceRequest."""
        budget = _Budget()
        self.form: dict[str, Any] = {"resourceLogs": []}
        self._scopes: list[tuple[dict[str, Any], dict[str, Any], list[bytes]]] = []
        try:
            for number, wire, value in _fields(data):
                if number != 1 or wire != _BYTES:
                    raise ValueError("no OTLP logs")
                self._group(value, budget)
        except (IndexError, struct.error, UnicodeDecodeError) as error:
            raise ValueError("no OTLP logs") from error

    def _group(self, data: bytes, budget: _Budget) -> None:
        group: dict[str, Any] = {}
        scopes: list[bytes] = []
        _read_into(group, data, _RESOURCE_LOGS, budget, 0, {2: scopes})
        for scope in scopes:
            logs: dict[str, Any] = {}
            found: list[bytes] = []
            _read_into(logs, scope, _SCOPE_LOGS, budget, 0, {2: found})
            self._scopes.append((group, logs, found))

    def records(self) -> Iterator[tuple[dict[str, Any], dict[str, Any], dict[str, Any]]]:
        """Each record with its ResourceLogs and ScopeLogs, these without what they hold many of.

        Raises ValueError at the first that is none, after those before.
        """
        for group, logs, found in self._scopes:
            for data in found:
                record: dict[str, Any] = {"attributes": []}
                try:
                    _read_into(record, data, _RECORD, _Budget(), 0)
                except (IndexError, struct.error, UnicodeDecodeError) as error:
                    raise ValueError("no OTLP logs") from error
                yield record, group, logs


def request(data: bytes) -> dict[str, Any]:
    """An ExportLogsServiceRequest as a whole. Raises ValueError for bytes that are none."""
    groups: list[dict[str, Any]] = []
    last: tuple[Any, Any] = (None, None)
    for record, group, logs in Request(data).records():
        if group is not last[0]:
            groups.append({"resource": {}, **group, "scopeLogs": []})
        if logs is not last[1]:
            groups[-1]["scopeLogs"].append({**logs, "logRecords": []})
        groups[-1]["scopeLogs"][-1]["logRecords"].append(record)
        last = group, logs
    return {"resourceLogs": groups}


def _read_into(
    form: dict[str, Any],
    data: bytes,
    fields: dict[int, _Field],
    budget: _Budget,
    depth: int,
    aside: dict[int, list[bytes]] | None = None,
) -> None:
    """Read a message into ``form``; the fields ``aside`` are only collected, as bytes."""
    if depth > _MAX_DEPTH:
        raise ValueError("no OTLP logs: nested too deep")
    for number, wire, value in _fields(data):
        if aside is not None and number in aside and wire == _BYTES:
            aside[number].append(value)
            continue
        budget.spend()
        field = fields.get(number)
        if field is None or field.wire != wire:
            form[f"#{number}"] = True
            continue
        read = field.read(value, budget, depth)
        if field.repeated:
            form.setdefault(field.name, []).append(read)
        elif field.name in form:
            before = form[field.name]
            form[field.name] = (*before, read) if isinstance(before, tuple) else (before, read)
        else:
            form[field.name] = read


def _message(
    fields: Callable[[], dict[int, _Field]], **absent: Callable[[], Any]
) -> Callable[[Any, _Budget, int], dict[str, Any]]:
    """What reads a message whose fields these are; ``absent`` makes the value of a field that is not there."""

    def read(data: bytes, budget: _Budget, depth: int) -> dict[str, Any]:
        form: dict[str, Any] = {}
        _read_into(form, data, fields(), budget, depth + 1)
        for name, make in absent.items():
            if name not in form:
                form[name] = make()
        return form

    return read


def _text(value: bytes, _: _Budget, __: int) -> str:
    return value.decode("utf-8")


def _hex(value: bytes, _: _Budget, __: int) -> str:
    return value.hex()


def _base64(value: bytes, _: _Budget, __: int) -> str:
    return base64.b64encode(value).decode("ascii")


def _decimal(value: int, _: _Budget, __: int) -> str:
    return str(value)


def _signed(value: int, _: _Budget, __: int) -> str:
    return str(value - 2**64 if value >= 2**63 else value)


def _number(value: int, _: _Budget, __: int) -> int:
    return value & 0xFFFF_FFFF


def _boolean(value: int, _: _Budget, __: int) -> bool:
    return bool(value)


def _double(value: int, _: _Budget, __: int) -> float:
    return float(struct.unpack("<d", struct.pack("<Q", value))[0])


def _opaque(_: bytes, __: _Budget, ___: int) -> dict[str, Any]:
    return {}


_key_value = _message(lambda: _KEY_VALUE, key=str, value=dict)
_any_value = _message(lambda: _ANY_VALUE)
_KEY_VALUE: _Fields = {1: _Field("key", _BYTES, _text), 2: _Field("value", _BYTES, _any_value)}
_ARRAY = {1: _Field("values", _BYTES, _any_value, repeated=True)}
_MAP = {1: _Field("values", _BYTES, _key_value, repeated=True)}
_ANY_VALUE: _Fields = {
    1: _Field("stringValue", _BYTES, _text),
    2: _Field("boolValue", _VARINT, _boolean),
    3: _Field("intValue", _VARINT, _signed),
    4: _Field("doubleValue", _FIXED64, _double),
    5: _Field("arrayValue", _BYTES, _message(lambda: _ARRAY, values=list)),
    6: _Field("kvlistValue", _BYTES, _message(lambda: _MAP, values=list)),
    7: _Field("bytesValue", _BYTES, _base64),
}
_RESOURCE = {
    1: _Field("attributes", _BYTES, _key_value, repeated=True),
    2: _Field("droppedAttributesCount", _VARINT, _number),
    3: _Field("entityRefs", _BYTES, _opaque, repeated=True),
}
_SCOPE = {
    1: _Field("name", _BYTES, _text),
    2: _Field("version", _BYTES, _text),
    3: _Field("attributes", _BYTES, _key_value, repeated=True),
    4: _Field("droppedAttributesCount", _VARINT, _number),
}
_RESOURCE_LOGS = {1: _Field("resource", _BYTES, _message(lambda: _RESOURCE)), 3: _Field("schemaUrl", _BYTES, _text)}
_SCOPE_LOGS = {1: _Field("scope", _BYTES, _message(lambda: _SCOPE)), 3: _Field("schemaUrl", _BYTES, _text)}
_RECORD = {
    1: _Field("timeUnixNano", _FIXED64, _decimal),
    2: _Field("severityNumber", _VARINT, _number),
    3: _Field("severityText", _BYTES, _text),
    5: _Field("body", _BYTES, _any_value),
    6: _Field("attributes", _BYTES, _key_value, repeated=True),
    7: _Field("droppedAttributesCount", _VARINT, _number),
    8: _Field("flags", _FIXED32, _number),
    9: _Field("traceId", _BYTES, _hex),
    10: _Field("spanId", _BYTES, _hex),
    11: _Field("observedTimeUnixNano", _FIXED64, _decimal),
    12: _Field("eventName", _BYTES, _text),
}


def _fields(data: bytes) -> Iterator[tuple[int, int, Any]]:
    """Numbers, wire types and values of a message's fields: bytes of a length-delimited field, else an integer."""
    position, end = 0, len(data)
    while position < end:
        tag = data[position]
        position += 1
        if tag >= 0x80:
            tag, position = _varint(data, position - 1)
        kind = tag & 7
        value: Any
        if kind == _BYTES:
            size = data[position]
            position += 1
            if size >= 0x80:
                size, position = _varint(data, position - 1)
            value, position = data[position : position + size], position + size
        elif kind == _VARINT:
            value, position = _varint(data, position)
        elif kind in (_FIXED64, _FIXED32):
            size = 8 if kind == _FIXED64 else 4
            value, position = int.from_bytes(data[position : position + size], "little"), position + size
        else:
            raise ValueError("no protobuf message")
        if position > end or not tag >> 3:
            raise ValueError("no protobuf message")
        yield tag >> 3, kind, value


def _varint(data: bytes, position: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        byte = data[position]
        position += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number & 0xFFFF_FFFF_FFFF_FFFF, position
        shift += 7
        if shift > 63:
            raise ValueError("no protobuf message")
