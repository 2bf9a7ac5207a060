"""From the spool's bytes to OTLP, and from a receiver's response to what it rejected.

Invariant: what is sent is a pure function of the spool's bytes, so a record that is sent again is
equal byte for byte. Protobuf is joined by hand from fragments, since building messages in Python
costs three times as much; the tests hold it equal to what `opentelemetry.proto` parses and writes.
Field numbers: opentelemetry/proto/{logs,common,collector/logs}/v1.
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Sequence
from typing import Any, Protocol

import orjson

from .. import attributes as attr
from ..errors import RecordError
from ..evidence.heads import SignedHead

_MAX_REMEMBERED = 8192

# LogRecord: time_unix_nano = 1 and observed_time_unix_nano = 11 (fixed64), flags = 8 (fixed32)
_times = struct.Struct("<BQBQ").pack
_flags = struct.Struct("<BI").pack


class Encoder(Protocol):
    """One wire form of OTLP logs. Encoded records are fragments that `request` joins."""

    content_type: str

    empty: bytes
    """A request without records, which a receiver accepts (OTLP): it tells a wrong endpoint from bad data."""

    def record(self, form: dict[str, Any]) -> bytes:
        """One log record, ``form`` being a record's canonical form. Raises RecordError where it is none."""

    def resource(self, attributes: dict[str, Any]) -> bytes:
        """A resource of AnyValue-wrapped attributes. Raises RecordError."""

    def request(self, resource: bytes, records: Sequence[bytes]) -> bytes:
        """The ExportLogsServiceRequest of one stream's records, under an empty scope (the draft demands it)."""


def head_form(signed: SignedHead) -> dict[str, Any]:
    """A signed head in the form of a record; it always carries its canonical bytes."""
    head = signed.head
    return {
        "event_name": attr.EVENT_HEAD,
        "timestamp": str(head.time),
        "observed_timestamp": str(head.time),
        "body": {"stringValue": signed.body},
        "attributes": {
            attr.RECORD_ID: {"stringValue": signed.record_id},
            attr.STREAM_ID: {"stringValue": head.stream_id},
            attr.NUMBER: {"intValue": str(head.number)},
            attr.INTEGRITY_CANONICAL: {"stringValue": signed.data.decode("utf-8")},
            attr.INTEGRITY_HASH: {"stringValue": head.hash},
            attr.INTEGRITY_VALUE: {"stringValue": signed.signature_text},
        },
    }


def record_form(payload: bytes, digest: str, *, carry: bool) -> dict[str, Any]:
    """A record's form as it is sent: with its hash and, with ``carry``, its canonical bytes. Raises RecordError."""
    try:
        form: dict[str, Any] = orjson.loads(payload)
        attributes = form["attributes"]
        if carry:
            attributes[attr.INTEGRITY_CANONICAL] = {"stringValue": payload.decode("utf-8")}
        attributes[attr.INTEGRITY_HASH] = {"stringValue": digest}
    except (ValueError, TypeError, KeyError) as error:
        raise RecordError("a line of the spool is no record") from error
    return form


def stream_resource(form: dict[str, Any]) -> dict[str, Any]:
    """The resource of a stream from its first record's form, wrapped; with the heads' algorithm. Raises RecordError."""
    try:
        found = form["attributes"]
        resource: dict[str, Any] = orjson.loads(found[attr.STREAM_RESOURCE]["stringValue"])
        resource[attr.INTEGRITY_ALGORITHM] = found[attr.STREAM_ALGORITHM]
    except (ValueError, TypeError, KeyError) as error:
        raise RecordError("the first record of a stream names no resource") from error
    return resource


class JsonEncoder:
    """OTLP/JSON: ids in lowercase hex, 64-bit integers as strings."""

    content_type = "application/json"
    empty = b"{}"

    def record(self, form: dict[str, Any]) -> bytes:
        try:
            attributes = form["attributes"]
            record = {
                "timeUnixNano": form["timestamp"],
                "observedTimeUnixNano": form["observed_timestamp"],
                "eventName": form["event_name"],
                "attributes": [{"key": key, "value": value} for key, value in attributes.items()],
            }
            if "body" in form:
                record["body"] = form["body"]
            if "trace_id" in form:
                record["traceId"] = form["trace_id"]
            if "span_id" in form:
                record["spanId"] = form["span_id"]
            if attr.TRACE_FLAGS in attributes:
                record["flags"] = int(attributes[attr.TRACE_FLAGS]["intValue"])
            return orjson.dumps(record)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise RecordError("a line of the spool is no record") from error

    def resource(self, attributes: dict[str, Any]) -> bytes:
        return orjson.dumps({"attributes": [{"key": key, "value": value} for key, value in attributes.items()]})

    def request(self, resource: bytes, records: Sequence[bytes]) -> bytes:
        return b'{"resourceLogs":[{"resource":%b,"scopeLogs":[{"scope":{},"logRecords":[%b]}]}]}' % (
            resource,
            b",".join(records),
        )


class ProtobufEncoder:
    """OTLP/protobuf. A fragment of `record` holds its own tag and length in ScopeLogs (field 2)."""

    content_type = "application/x-protobuf"
    empty = b""

    def __init__(self) -> None:
        self._before: dict[tuple[int, str, int | str], bytes] = {}

    def record(self, form: dict[str, Any]) -> bytes:
        try:
            attributes = form["attributes"]
            parts = [_times(0x09, int(form["timestamp"]), 0x59, int(form["observed_timestamp"]))]
            if "body" in form:
                parts.append(_field(0x2A, _field(0x0A, form["body"]["stringValue"].encode("utf-8"))))
            self._key_values(parts, attributes, 0x32)
            if attr.TRACE_FLAGS in attributes:
                parts.append(_flags(0x45, int(attributes[attr.TRACE_FLAGS]["intValue"])))
            if "trace_id" in form:
                parts.append(_field(0x4A, bytes.fromhex(form["trace_id"])))
            if "span_id" in form:
                parts.append(_field(0x52, bytes.fromhex(form["span_id"])))
            parts.append(_field(0x62, form["event_name"].encode("utf-8")))
        except (ValueError, TypeError, KeyError, AttributeError, struct.error) as error:
            raise RecordError("a line of the spool is no record") from error
        return _field(0x12, b"".join(parts))

    def _key_values(self, parts: list[bytes], attributes: dict[str, Any], tag: int) -> None:
        """Append a KeyValue under ``tag`` for each attribute.

        What stands before a string depends on its key and its length alone, of which there are few
        pairs: so a string costs one look-up. An integer likewise, and small ones are kept whole.
        """
        add = parts.append
        before = self._before
        for name, wrapped in attributes.items():
            text = wrapped.get("stringValue")
            if text is not None:
                value = text.encode("utf-8")
                size = len(value)
                known = before.get((tag, name, size))
                if known is None:
                    known = self._remember((tag, name, size), _prefixed(name, b"\x0a" + _varint(size), size))
                add(known)
                add(value)
                continue
            number = wrapped.get("intValue")
            known = before.get((tag, name, number)) if type(number) is str else None
            if known is None:
                whole = _prefixed(name, _any_value(wrapped), 0)
                if type(number) is not str or len(number) > 4:
                    add(b"%c%b" % (tag, whole))
                    continue
                known = self._remember((tag, name, number), whole)
            add(known)

    def _remember(self, place: tuple[int, str, int | str], content: bytes) -> bytes:
        if len(self._before) >= _MAX_REMEMBERED:
            self._before.clear()
        known = self._before[place] = b"%c%b" % (place[0], content)
        return known

    def resource(self, attributes: dict[str, Any]) -> bytes:
        parts: list[bytes] = []
        try:
            self._key_values(parts, attributes, 0x0A)
        except (ValueError, TypeError, KeyError, AttributeError, struct.error) as error:
            raise RecordError("a resource is not in the form of attributes") from error
        return _field(0x0A, b"".join(parts))

    def request(self, resource: bytes, records: Sequence[bytes]) -> bytes:
        size = sum(map(len, records)) + 2
        scope = b"\x12%b\x0a\x00" % _varint(size)
        size += len(scope) - 2 + len(resource)
        return b"".join((b"\x0a", _varint(size), resource, scope, *records))  # once: it may have megabytes


def _varint(number: int) -> bytes:
    if number < 0x80:
        return _BYTES[number]
    out = bytearray()
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


_BYTES = [bytes((number,)) for number in range(0x80)]


def _field(tag: int, content: bytes) -> bytes:
    return b"%c%b%b" % (tag, _varint(len(content)), content)


def _prefixed(name: str, value: bytes, more: int) -> bytes:
    """The length and start of a KeyValue of ``name``: up to ``value``, which ``more`` bytes of its AnyValue follow."""
    key = name.encode("utf-8")
    rest = b"\x0a%b%b\x12%b%b" % (_varint(len(key)), key, _varint(len(value) + more), value)
    return b"%b%b" % (_varint(len(rest) + more), rest)


def _any_value(wrapped: dict[str, Any]) -> bytes:
    """An AnyValue in OTLP JSON's form as protobuf: of a record bool, int64 and lists, of a resource any kind."""
    ((kind, value),) = wrapped.items()
    if kind == "intValue":
        return b"\x18" + _varint(int(value) & 0xFFFF_FFFF_FFFF_FFFF)
    if kind == "stringValue":
        return _field(0x0A, value.encode("utf-8"))
    if kind == "boolValue":
        return b"\x10\x01" if value else b"\x10\x00"
    if kind == "doubleValue":
        return struct.pack("<Bd", 0x21, float(value))
    if kind == "arrayValue":
        return _field(0x2A, b"".join(_field(0x0A, _any_value(item)) for item in value.get("values", ())))
    if kind == "kvlistValue":
        pairs = (
            _field(0x0A, _field(0x0A, item["key"].encode("utf-8")) + _field(0x12, _any_value(item["value"])))
            for item in value.get("values", ())
        )
        return _field(0x32, b"".join(pairs))
    if kind == "bytesValue":
        return _field(0x3A, base64.b64decode(value, validate=True))
    raise ValueError("an unknown kind of value")


def rejected(body: bytes, content_type: str, sent_as: str) -> tuple[int | None, str]:
    """How many records an ExportLogsServiceResponse rejects, and its word why; None where ``body`` is none.

    ``content_type`` is the response's and may be empty: then it is read as the request was sent. An
    empty body is a valid empty message in protobuf, and nothing at all in JSON.
    """
    kind = content_type.partition(";")[0].strip().lower() or sent_as
    from google.protobuf.message import DecodeError
    from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse

    try:
        if kind == ProtobufEncoder.content_type:
            partial = ExportLogsServiceResponse.FromString(body).partial_success
            return partial.rejected_log_records, partial.error_message
        if kind == JsonEncoder.content_type:
            form = orjson.loads(body)
            found = form.get("partialSuccess") or form.get("partial_success") or {}  # some write the proto's names
            count = found.get("rejectedLogRecords") or found.get("rejected_log_records") or 0
            return int(count), str(found.get("errorMessage") or found.get("error_message") or "")
    except (ValueError, TypeError, AttributeError, DecodeError):
        pass  # it is no such response
    return None, ""
