"""OTLP/protobuf logs, read into OTLP/JSON's form: the few messages that logs are made of.

Of its own, since the verifier imports no OpenTelemetry. Field numbers from
opentelemetry/proto/{collector/logs,logs,resource,common}/v1. Unknown fields are passed over.
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Iterator
from typing import Any

_Fields = Iterator[tuple[int, Any]]
_MAX_DEPTH = 32


def request(data: bytes) -> dict[str, Any]:
    """An ExportLogsServiceRequest. Raises ValueError for bytes that are none."""
    groups = []
    try:
        for number, value in _fields(data):
            if number != 1:
                raise ValueError("no OTLP logs")
            groups.append(_resource_logs(value))
    except (IndexError, struct.error, TypeError, UnicodeDecodeError) as error:
        raise ValueError("no OTLP logs") from error
    return {"resourceLogs": groups}


def _resource_logs(data: bytes) -> dict[str, Any]:
    group: dict[str, Any] = {"resource": {}, "scopeLogs": []}
    for number, value in _fields(data):
        if number == 1:
            group["resource"] = {"attributes": [_key_value(item, 0) for one, item in _fields(value) if one == 1]}
        elif number == 2:
            group["scopeLogs"].append({"logRecords": [_record(item) for one, item in _fields(value) if one == 2]})
    return group


def _record(data: bytes) -> dict[str, Any]:
    record: dict[str, Any] = {"attributes": []}
    for number, value in _fields(data):
        if number == 1:
            record["timeUnixNano"] = str(_integer(value))
        elif number == 5:
            record["body"] = _any_value(value, 0)
        elif number == 6:
            record["attributes"].append(_key_value(value, 0))
        elif number == 9:
            record["traceId"] = _bytes(value).hex()
        elif number == 10:
            record["spanId"] = _bytes(value).hex()
        elif number == 11:
            record["observedTimeUnixNano"] = str(_integer(value))
        elif number == 12:
            record["eventName"] = _bytes(value).decode("utf-8")
    return record


def _integer(value: Any) -> int:
    if not isinstance(value, int):
        raise TypeError("no integer")
    return value


def _bytes(value: Any) -> bytes:
    if not isinstance(value, bytes):
        raise TypeError("no bytes")  # never bytes(): of an integer that would be as many zeros
    return value


def _key_value(data: bytes, depth: int) -> dict[str, Any]:
    item: dict[str, Any] = {"key": "", "value": {}}
    for number, value in _fields(data):
        if number == 1:
            item["key"] = _bytes(value).decode("utf-8")
        elif number == 2:
            item["value"] = _any_value(value, depth)
    return item


def _any_value(data: bytes, depth: int) -> dict[str, Any]:
    if depth > _MAX_DEPTH:
        raise ValueError("no OTLP logs: nested too deep")
    wrapped: dict[str, Any] = {}
    for number, value in _fields(data):
        if number == 1:
            wrapped = {"stringValue": _bytes(value).decode("utf-8")}
        elif number == 2:
            wrapped = {"boolValue": bool(value)}
        elif number == 3:
            signed = _integer(value)
            wrapped = {"intValue": str(signed - 2**64 if signed >= 2**63 else signed)}
        elif number == 4:
            wrapped = {"doubleValue": struct.unpack("<d", struct.pack("<Q", _integer(value)))[0]}
        elif number == 5:
            wrapped = {"arrayValue": {"values": [_any_value(item, depth + 1) for _, item in _fields(value)]}}
        elif number == 6:
            wrapped = {"kvlistValue": {"values": [_key_value(item, depth + 1) for _, item in _fields(value)]}}
        elif number == 7:
            wrapped = {"bytesValue": base64.b64encode(value).decode("ascii")}
    return wrapped


def _fields(data: bytes) -> _Fields:
    """Field numbers and values of a message: bytes of a length-delimited field, else an integer."""
    position, end = 0, len(data)
    while position < end:
        tag, position = _varint(data, position)
        kind = tag & 7
        value: Any
        if kind == 0:
            value, position = _varint(data, position)
        elif kind == 2:
            size, position = _varint(data, position)
            value, position = data[position : position + size], position + size
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
            value, position = int.from_bytes(data[position : position + size], "little"), position + size
        else:
            raise ValueError("no protobuf message")
        if position > end or not tag >> 3:
            raise ValueError("no protobuf message")
        yield tag >> 3, value


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
