"""What is sent is what `opentelemetry.proto` would send, and a pure function of the spool's bytes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest, ExportLogsServiceResponse
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord

from jwt_audit import attributes as attr
from jwt_audit.anyvalue import wrap
from jwt_audit.errors import RecordError
from jwt_audit.evidence import heads
from jwt_audit.evidence.canonical import canonical
from jwt_audit.evidence.chain import record_hash
from jwt_audit.evidence.record import Record
from jwt_audit.ship.encode import (
    Encoder,
    JsonEncoder,
    ProtobufEncoder,
    head_form,
    record_form,
    rejected,
    stream_resource,
)
from jwt_audit.sink.otlp import from_json, from_protobuf
from support.receivers import flatten, partial
from support.spools import LiveStream

PROTOBUF, JSON = ProtobufEncoder.content_type, JsonEncoder.content_type

texts = st.text(st.characters(codec="utf-8"), max_size=300)
keys = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=200)
values = st.one_of(texts, st.booleans(), st.integers(-(2**63), 2**63 - 1), st.lists(texts, max_size=5))
records = st.builds(
    Record,
    event_name=texts.filter(bool),
    timestamp=st.integers(1, 2**64 - 1),
    attributes=st.dictionaries(keys, values, max_size=12).map(lambda found: {**found, attr.TRACE_FLAGS: 1}),
    body=st.none() | texts,
    trace_id=st.none() | st.binary(min_size=16, max_size=16).map(bytes.hex),
    span_id=st.none() | st.binary(min_size=8, max_size=8).map(bytes.hex),
    observed_timestamp=st.integers(1, 2**64 - 1),
).filter(lambda record: bool(record.event_name and record.timestamp and record.observed_timestamp))


def any_value(value: attr.Value) -> AnyValue:
    if isinstance(value, bool):
        return AnyValue(bool_value=value)
    if isinstance(value, int):
        return AnyValue(int_value=value)
    if isinstance(value, str):
        return AnyValue(string_value=value)
    found = AnyValue()
    found.array_value.values.extend(AnyValue(string_value=item) for item in value)
    return found


def message_of(record: Record, data: bytes) -> LogRecord:
    """The record built by the real messages, field by field."""
    shown = {**dict(sorted(record.attributes.items())), attr.INTEGRITY_CANONICAL: data.decode()}
    shown[attr.INTEGRITY_HASH] = record_hash(data)
    built = LogRecord(
        time_unix_nano=record.timestamp,
        observed_time_unix_nano=record.observed_timestamp,
        event_name=record.event_name,
        attributes=[KeyValue(key=name, value=any_value(value)) for name, value in shown.items()],
        trace_id=bytes.fromhex(record.trace_id or ""),
        span_id=bytes.fromhex(record.span_id or ""),
        flags=1,
    )
    if record.body is not None:
        built.body.string_value = record.body
    return built


@given(st.lists(records, max_size=4), st.dictionaries(keys, values, max_size=4))
def test_protobuf_is_what_the_real_messages_are(found: list[Record], resource: dict[str, attr.Value]) -> None:
    """Parsed by upb, a joined request equals the message that was built of the same records, unknown fields none."""
    encoder = ProtobufEncoder()
    expected = ExportLogsServiceRequest()
    group = expected.resource_logs.add()
    group.resource.attributes.extend(KeyValue(key=name, value=any_value(value)) for name, value in resource.items())
    scope = group.scope_logs.add()
    scope.scope.SetInParent()
    fragments = []
    for record in found:
        data = canonical(record)
        scope.log_records.append(message_of(record, data))
        fragments.append(encoder.record(record_form(data, record_hash(data), carry=True)))
    wrapped = {name: wrap(value) for name, value in resource.items()}
    body = encoder.request(encoder.resource(wrapped), fragments)
    parsed = ExportLogsServiceRequest.FromString(body)
    assert parsed == expected
    assert len(parsed.SerializeToString()) == len(body)  # nothing that the messages do not know


@given(st.lists(records, max_size=4), st.dictionaries(keys, values, max_size=4))
def test_both_forms_say_the_same(found: list[Record], resource: dict[str, attr.Value]) -> None:
    """What a receiver stores of JSON and of protobuf is one and the same."""
    stored = []
    encoders: tuple[Encoder, Encoder] = (JsonEncoder(), ProtobufEncoder())
    for encoder, read in zip(encoders, (from_json, from_protobuf), strict=True):
        fragments = [encoder.record(record_form(data, record_hash(data), carry=True)) for data in map(canonical, found)]
        wrapped = {name: wrap(value) for name, value in resource.items()}
        stored.append(read(ExportLogsServiceRequest, encoder.request(encoder.resource(wrapped), fragments)))
    assert stored[0] == stored[1]


@pytest.mark.parametrize("encoder", [JsonEncoder(), ProtobufEncoder()], ids=["json", "protobuf"])
def test_what_is_sent_again_is_equal_byte_for_byte(encoder: Encoder, tmp_path: Path) -> None:
    """Records and heads alike, also by an encoder that has sent other things before."""
    stream = LiveStream(tmp_path)
    stream.request("/a")
    head = stream.head()
    stream.close()
    data, digest = stream.lines[1]

    def sent(one: Encoder) -> tuple[bytes, bytes]:
        return one.record(record_form(data, digest, carry=True)), one.record(head_form(heads.parse_line(head.line)))

    first = sent(encoder)
    other = LiveStream(tmp_path)
    for number in range(50):
        form = record_form(*other.lines[0], carry=bool(number % 2))
        encoder.record(form)
    other.close()
    assert sent(encoder) == first
    assert sent(type(encoder)()) == first


def test_the_memory_of_the_encoder_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hostile keys and lengths do not fill it for ever, and what is sent stays right when it is emptied."""
    monkeypatch.setattr("jwt_audit.ship.encode._MAX_REMEMBERED", 8)
    encoder = ProtobufEncoder()
    for number in range(100):
        data = canonical(Record("e", 1, {f"k{number}": "x" * number, "n": number}))
        encoder.record(record_form(data, record_hash(data), carry=True))
        assert len(encoder._before) <= 8
    record = Record("e", 1, {attr.TRACE_FLAGS: 1, "k1": "y"})
    data = canonical(record)
    fragment = encoder.record(record_form(data, record_hash(data), carry=True))
    parsed = ExportLogsServiceRequest.FromString(encoder.request(encoder.resource({}), [fragment]))
    assert parsed.resource_logs[0].scope_logs[0].log_records[0] == message_of(record, data)


@pytest.mark.parametrize("encoder", [JsonEncoder(), ProtobufEncoder()], ids=["json", "protobuf"])
def test_the_canonical_bytes_travel_only_where_they_are_to(encoder: Encoder) -> None:
    """Without them the record still has its hash."""
    data = canonical(Record("e", 1, {"k": "v"}))
    for carry in (True, False):
        body = encoder.request(
            encoder.resource({}), [encoder.record(record_form(data, record_hash(data), carry=carry))]
        )
        assert (attr.INTEGRITY_CANONICAL.encode() in body) is carry
        assert record_hash(data).encode() in body


@pytest.mark.parametrize("encoder", [JsonEncoder(), ProtobufEncoder()], ids=["json", "protobuf"])
def test_a_head_is_a_record_that_proves_itself(encoder: Encoder, tmp_path: Path) -> None:
    """Its canonical bytes and signature arrive whole: a receiver can check it without the spool."""
    stream = LiveStream(tmp_path)
    signed = stream.head()
    stream.close()
    body = encoder.request(encoder.resource({}), [encoder.record(head_form(signed))])
    read = from_json if encoder.content_type == JSON else from_protobuf
    (sent,) = flatten(read(ExportLogsServiceRequest, body))
    assert sent.event == attr.EVENT_HEAD
    found = sent.attributes
    again = heads.parse(found[attr.INTEGRITY_CANONICAL].encode(), found[attr.INTEGRITY_VALUE].encode())
    assert again.verified_by(stream.signer.public_key)
    assert (again.head.stream_id, again.head.number) == (found[attr.STREAM_ID], int(found[attr.NUMBER]))
    assert found[attr.INTEGRITY_HASH] == stream.position.hash
    assert sent.form["timeUnixNano"] == str(again.head.time)


def test_two_heads_have_two_ids(tmp_path: Path) -> None:
    """The id follows from the head's bytes, so one head has one, and another has another."""
    stream = LiveStream(tmp_path)
    first = stream.head()
    stream.request()
    second = stream.head()
    stream.close()
    ids = [head_form(one)["attributes"][attr.RECORD_ID]["stringValue"] for one in (first, second, first)]
    assert ids[0] == ids[2] != ids[1]


@pytest.mark.parametrize("encoder", [JsonEncoder(), ProtobufEncoder()], ids=["json", "protobuf"])
def test_the_resource_is_what_the_first_record_says(encoder: Encoder) -> None:
    """All kinds of values that a resource may hold, and the heads' algorithm beside them."""
    attributes: dict[str, Any] = {
        "service.name": {"stringValue": "shop"},
        "process.pid": {"intValue": "4711"},
        "on": {"boolValue": False},
        "ratio": {"doubleValue": 0.25},
        "args": {"arrayValue": {"values": [{"stringValue": "a"}, {"intValue": "-1"}]}},
        "tags": {"kvlistValue": {"values": [{"key": "k", "value": {"stringValue": "v"}}]}},
        "raw": {"bytesValue": "AP8="},
    }
    text = orjson.dumps(attributes).decode()
    record = Record("e", 1, {attr.STREAM_RESOURCE: text, attr.STREAM_ALGORITHM: "EdDSA"})
    resource = encoder.resource(stream_resource(record_form(canonical(record), "", carry=False)))
    read = from_json if encoder.content_type == JSON else from_protobuf
    form = read(ExportLogsServiceRequest, encoder.request(resource, []))
    found = {item["key"]: item["value"] for item in form["resourceLogs"][0]["resource"]["attributes"]}
    assert found == {**attributes, attr.INTEGRITY_ALGORITHM: {"stringValue": "EdDSA"}}


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b'{"attributes":null}',
        b'{"attributes":[]}',
        b'{"attributes":{}}',
        b'{"attributes":{"k":1},"event_name":"e","observed_timestamp":"1","timestamp":"1"}',
        b'{"attributes":{"audit.trace_flags":{"intValue":"x"}},"event_name":"e","observed_timestamp":"1","timestamp":"1"}',
        b'{"attributes":{"k":{"strangeValue":"v"}},"event_name":"e","observed_timestamp":"1","timestamp":"1"}',
        b'{"attributes":{},"event_name":"e","observed_timestamp":"1","timestamp":"x"}',
        b'{"attributes":{},"event_name":"e","observed_timestamp":"1","timestamp":"-1"}',
        b'{"attributes":{},"event_name":7,"observed_timestamp":"1","timestamp":"1"}',
        b'{"attributes":{},"event_name":"e","observed_timestamp":"1","timestamp":"1","trace_id":"xyz"}',
        b'{"attributes":{},"event_name":"e","observed_timestamp":"1","timestamp":"1","body":"text"}',
        b"\xff",
    ],
)
def test_a_payload_that_is_no_record_is_told(payload: bytes) -> None:
    """Never another exception: a bit that flipped on the disk must not end the shipper."""
    with pytest.raises(RecordError):
        ProtobufEncoder().record(record_form(payload, "0" * 64, carry=True))


@pytest.mark.parametrize("form", [{}, {"attributes": {}}, {"attributes": {attr.STREAM_RESOURCE: {"stringValue": "x"}}}])
def test_a_first_record_without_a_resource_is_told(form: dict[str, Any]) -> None:
    """The caller then sends an empty one."""
    with pytest.raises(RecordError):
        stream_resource(form)


@pytest.mark.parametrize(
    ("body", "content_type", "sent_as", "count"),
    [
        (b"", PROTOBUF, PROTOBUF, 0),
        (b"", "", PROTOBUF, 0),
        (b"", "", JSON, None),
        (b"", JSON, JSON, None),
        (b"", "text/html", PROTOBUF, None),
        (b"{}", JSON, JSON, 0),
        (b"{}", "application/json; charset=utf-8", PROTOBUF, 0),
        (b"{}", "", JSON, 0),
        (b'{"partialSuccess":{}}', JSON, JSON, 0),
        (b'{"partialSuccess":{"rejectedLogRecords":"3"}}', JSON, JSON, 3),
        (b'{"partialSuccess":{"rejectedLogRecords":3}}', JSON, JSON, 3),
        (b'{"partial_success":{"rejected_log_records":3}}', JSON, JSON, 3),
        (b'{"partialSuccess":{"rejectedLogRecords":"x"}}', JSON, JSON, None),
        (b'{"partialSuccess":7}', JSON, JSON, None),
        (b"[]", JSON, JSON, None),
        (b"null", JSON, JSON, None),
        (b"<html>", JSON, JSON, None),
        (b"<html>", "text/html; charset=utf-8", JSON, None),
        (b"ok", "text/plain", PROTOBUF, None),
        (b"\xff\xff", PROTOBUF, PROTOBUF, None),
        (partial(5).body, PROTOBUF, PROTOBUF, 5),
        (partial(5).body, "", PROTOBUF, 5),
        (partial(0, "a warning").body, PROTOBUF, PROTOBUF, 0),
    ],
)
def test_what_a_response_rejects(body: bytes, content_type: str, sent_as: str, count: int | None) -> None:
    """Empty is a valid message in protobuf and nothing in JSON; what cannot be read is None, never 0."""
    assert rejected(body, content_type, sent_as)[0] == count


def test_the_reason_of_a_rejection_is_handed_on() -> None:
    """In both forms."""
    assert rejected(partial(1, "too old").body, PROTOBUF, PROTOBUF)[1] == "too old"
    form = b'{"partialSuccess":{"rejectedLogRecords":"1","errorMessage":"too old"}}'
    assert rejected(form, JSON, JSON)[1] == "too old"


@pytest.mark.parametrize("encoder", [JsonEncoder(), ProtobufEncoder()], ids=["json", "protobuf"])
def test_the_empty_request_holds_no_record(encoder: Encoder) -> None:
    """It is a valid request all the same."""
    read = from_json if encoder.content_type == JSON else from_protobuf
    assert read(ExportLogsServiceRequest, encoder.empty) == {}


def test_a_rejection_is_what_the_real_message_says() -> None:
    """The tests' own answers are made by the real message too."""
    assert ExportLogsServiceResponse.FromString(partial(2, "x").body).partial_success.rejected_log_records == 2
