"""Whatever form a request arrives in, one canonical form is stored, and nonsense is named."""

from __future__ import annotations

import json
import math
from typing import Any

import orjson
import pytest
from google.protobuf import json_format
from google.protobuf.message import Message
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from jwt_audit.attributes import RECORD_ID
from jwt_audit.sink.otlp import MAX_DEPTH, BadRequestError, from_json, from_protobuf, split_audit


def trace() -> ExportTraceServiceRequest:
    request = ExportTraceServiceRequest()
    group = request.resource_spans.add(schema_url="https://opentelemetry.io/schemas/1.37.0")
    group.resource.attributes.add(key="service.name").value.string_value = "shop"
    scope = group.scope_spans.add()
    scope.scope.name = "lib"
    span = scope.spans.add(
        trace_id=bytes(range(16)),
        span_id=bytes(range(8)),
        parent_span_id=bytes(range(8, 16)),
        name="GET",
        kind=Span.SPAN_KIND_SERVER,
        start_time_unix_nano=2**63 + 5,
        end_time_unix_nano=1,
        flags=257,
    )
    span.status.code = Status.STATUS_CODE_ERROR
    for key, value in {"t": True, "f": False, "i": -(2**63), "d": 0.5, "s": "", "b": b"\x00\xff"}.items():
        field = {bool: "bool_value", int: "int_value", float: "double_value", str: "string_value", bytes: "bytes_value"}
        setattr(span.attributes.add(key=key).value, field[type(value)], value)
    span.attributes.add(key="nan").value.double_value = math.nan
    span.attributes.add(key="inf").value.double_value = -math.inf
    span.attributes.add(key="none")
    items = span.attributes.add(key="list").value.array_value.values
    items.add().int_value = 0
    items.add().kvlist_value.values.add(key="k").value.string_value = "v"
    span.events.add(time_unix_nano=7, name="e")
    span.links.add(trace_id=bytes(16), span_id=bytes(8))
    return request


def test_protobuf_becomes_canonical_otlp_json() -> None:
    """Ids in hex, 64-bit integers as text, enumerations as integers, defaults left out where they say nothing."""
    form = from_protobuf(ExportTraceServiceRequest, trace().SerializeToString())
    (group,) = form["resourceSpans"]
    (span,) = group["scopeSpans"][0]["spans"]
    assert span["traceId"] == bytes(range(16)).hex()
    assert span["parentSpanId"] == bytes(range(8, 16)).hex()
    assert span["kind"] == 2
    assert span["startTimeUnixNano"] == str(2**63 + 5)
    assert span["flags"] == 257
    assert span["status"] == {"code": 2}
    assert {item["key"]: item.get("value") for item in span["attributes"]} == {
        "t": {"boolValue": True},
        "f": {"boolValue": False},
        "i": {"intValue": str(-(2**63))},
        "d": {"doubleValue": 0.5},
        "s": {"stringValue": ""},
        "b": {"bytesValue": "AP8="},
        "nan": {"doubleValue": "NaN"},
        "inf": {"doubleValue": "-Infinity"},
        "none": None,
        "list": {
            "arrayValue": {
                "values": [
                    {"intValue": "0"},
                    {"kvlistValue": {"values": [{"key": "k", "value": {"stringValue": "v"}}]}},
                ]
            }
        },
    }
    assert span["links"] == [{"traceId": "0" * 32, "spanId": "0" * 16}]
    assert group["schemaUrl"].endswith("1.37.0")


def test_it_is_protobufs_own_mapping_but_for_ids_and_enumerations() -> None:
    """The converter of Google's library agrees on everything that OTLP does not change."""
    request = trace()
    for span in request.resource_spans[0].scope_spans[0].spans:
        span.ClearField("kind")
        span.ClearField("status")
        for name in ("trace_id", "span_id", "parent_span_id", "links"):
            span.ClearField(name)
    assert from_protobuf(type(request), request.SerializeToString()) == json_format.MessageToDict(request)


def test_json_is_stored_as_the_same_protobuf_is() -> None:
    """What was stored reads back as itself, also when numbers and enumerations come in their other spelling."""
    form = from_protobuf(ExportTraceServiceRequest, trace().SerializeToString())
    assert from_json(ExportTraceServiceRequest, json.dumps(form).encode()) == form
    loose = json.loads(json.dumps(form))
    span = loose["resourceSpans"][0]["scopeSpans"][0]["spans"][0]
    span["startTimeUnixNano"] = 2**63 + 5
    span["flags"] = "257"
    span["traceId"] = span["traceId"].upper()
    span["droppedEventsCount"] = 0
    span["traceState"] = ""
    span["name"] = span["name"]
    span["unknown"] = {"a": [1]}
    span["links"][0]["attributes"] = None
    span["events"][0]["attributes"] = []
    assert from_json(ExportTraceServiceRequest, json.dumps(loose).encode()) == form


texts = st.characters(codec="utf-8")
names = st.sampled_from(["0", "", "k", "audit.x"])


@st.composite
def any_values(draw: st.DrawFn, depth: int = 0) -> dict[str, Any]:
    kinds: list[st.SearchStrategy[dict[str, Any]]] = [
        st.builds(lambda v: {"stringValue": v}, st.text(texts, max_size=5) | names),
        st.builds(lambda v: {"intValue": str(v)}, st.integers(-(2**63), 2**63 - 1)),
        st.builds(lambda v: {"boolValue": v}, st.booleans()),
        st.builds(lambda v: {"doubleValue": v}, st.floats(allow_nan=False, allow_infinity=False)),
        st.just({}),
    ]
    if depth < 3:
        inner = any_values(depth + 1)
        kinds.append(st.builds(lambda v: {"arrayValue": {"values": v} if v else {}}, st.lists(inner, max_size=3)))
    return draw(st.one_of(kinds))


@settings(max_examples=60)
@given(st.lists(any_values(), max_size=4))
def test_both_forms_of_any_value_are_stored_alike(values: list[dict[str, Any]]) -> None:
    """The protobuf that Google's own reader makes of the JSON is stored as the JSON itself is."""
    attributes = [{"key": "k", "value": value} if value else {"key": "k"} for value in values]
    form = {"resourceLogs": [{"scopeLogs": [{"logRecords": [{"attributes": attributes} if attributes else {}]}]}]}
    message = json_format.ParseDict(form, ExportLogsServiceRequest())
    stored = from_protobuf(ExportLogsServiceRequest, message.SerializeToString())
    assert from_json(ExportLogsServiceRequest, orjson.dumps(form)) == stored == form


def nested(depth: int) -> dict[str, Any]:
    value: dict[str, Any] = {"stringValue": "x"}
    for _ in range(depth):
        value = {"arrayValue": {"values": [value]}}
    return {"resourceLogs": [{"resource": {"attributes": [{"key": "k", "value": value}]}}]}


RECORD = "ExportLogsServiceRequest.resourceLogs[0].scopeLogs[0].logRecords[0]"


def logs(record: Any) -> dict[str, Any]:
    return {"resourceLogs": [{"scopeLogs": [{"logRecords": [record]}]}]}


@pytest.mark.parametrize(
    ("form", "message"),
    [
        ([], "ExportLogsServiceRequest is no object"),
        (None, "ExportLogsServiceRequest is no object"),
        ({"resourceLogs": {}}, "ExportLogsServiceRequest.resourceLogs is no list"),
        ({"resourceLogs": [7]}, "ExportLogsServiceRequest.resourceLogs[0] is no object"),
        (logs({"timeUnixNano": "x"}), f"{RECORD}.timeUnixNano is no integer of 64 bits"),
        (logs({"timeUnixNano": -1}), f"{RECORD}.timeUnixNano is no integer of 64 bits"),
        (logs({"timeUnixNano": 2**64}), f"{RECORD}.timeUnixNano is no integer of 64 bits"),
        (logs({"timeUnixNano": str(2**64)}), f"{RECORD}.timeUnixNano is no integer of 64 bits"),
        (logs({"timeUnixNano": True}), f"{RECORD}.timeUnixNano is no integer of 64 bits"),
        (logs({"timeUnixNano": 1.5}), f"{RECORD}.timeUnixNano is no integer of 64 bits"),
        (logs({"severityNumber": "INFO"}), f"{RECORD}.severityNumber is no integer of 32 bits"),
        (logs({"flags": 2**32}), f"{RECORD}.flags is no integer of 32 bits"),
        (logs({"traceId": "xyz"}), f"{RECORD}.traceId is not hex"),
        (logs({"traceId": 7}), f"{RECORD}.traceId is no text"),
        (logs({"eventName": 7}), f"{RECORD}.eventName is no text"),
        (logs({"body": {"boolValue": 1}}), f"{RECORD}.body.boolValue is no boolean"),
        (logs({"body": {"doubleValue": "much"}}), f"{RECORD}.body.doubleValue is no number"),
        (logs({"body": {"doubleValue": []}}), f"{RECORD}.body.doubleValue is no number"),
        (logs({"body": {"bytesValue": "?"}}), f"{RECORD}.body.bytesValue is not base64"),
        (logs({"body": {"stringValue": "a", "intValue": "1"}}), f"{RECORD}.body has more than one value"),
        (nested(MAX_DEPTH), "values are nested too deeply"),
    ],
)
def test_json_that_is_no_request_is_named(form: Any, message: str) -> None:
    """By its place, without its value."""
    with pytest.raises(BadRequestError) as raised:
        from_json(ExportLogsServiceRequest, json.dumps(form).encode())
    assert str(raised.value) == message


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b'{"a":"\\ud800"}', b"{}{}", b"[" * 2000])
def test_what_is_no_json_is_said_to_be_none(body: bytes) -> None:
    """Also what would exhaust a parser's stack."""
    with pytest.raises(BadRequestError, match="no JSON"):
        from_json(ExportLogsServiceRequest, body)


@pytest.mark.parametrize("kind", [ExportLogsServiceRequest, ExportTraceServiceRequest])
def test_what_is_no_protobuf_is_said_to_be_none(kind: type[Message]) -> None:
    """A truncated message, and JSON sent as protobuf."""
    for body in (trace().SerializeToString()[:-1], b"{}", b"\xff" * 10):
        with pytest.raises(BadRequestError, match="in protobuf"):
            from_protobuf(kind, body)


def test_what_is_nested_enough_is_taken() -> None:
    """The bound is far above what anybody sends."""
    assert from_json(ExportLogsServiceRequest, json.dumps(nested(16)).encode()) == nested(16)


def test_audit_records_are_parted_from_the_rest() -> None:
    """By their id, under the same resource and scope; a group of which nothing is left is left out."""

    def record(name: str, *, audit: bool) -> dict[str, Any]:
        key = RECORD_ID if audit else "k"
        return {"eventName": name, "attributes": [{"key": key, "value": {"stringValue": "1"}}]}

    first = {"resource": {"attributes": [{"key": "a"}]}, "schemaUrl": "u"}
    form = {
        "resourceLogs": [
            {
                **first,
                "scopeLogs": [
                    {"scope": {"name": "x"}, "logRecords": [record("1", audit=True), record("2", audit=False)]},
                    {"scope": {"name": "y"}, "logRecords": [record("3", audit=False)]},
                    {"scope": {"name": "z"}},
                ],
            },
            {"scopeLogs": [{"logRecords": [record("4", audit=True), {}]}]},
            {},
        ]
    }
    audit, rest = split_audit(form)
    assert audit == {
        "resourceLogs": [
            {**first, "scopeLogs": [{"scope": {"name": "x"}, "logRecords": [record("1", audit=True)]}]},
            {"scopeLogs": [{"logRecords": [record("4", audit=True)]}]},
        ]
    }
    assert rest == {
        "resourceLogs": [
            {
                **first,
                "scopeLogs": [
                    {"scope": {"name": "x"}, "logRecords": [record("2", audit=False)]},
                    {"scope": {"name": "y"}, "logRecords": [record("3", audit=False)]},
                ],
            },
            {"scopeLogs": [{"logRecords": [{}]}]},
        ]
    }
    assert split_audit({}) == ({}, {})
