"""Audit records and heads among the logs of an OTLP request."""

from __future__ import annotations

import base64
import copy
from typing import Any

import pytest
from google.protobuf.json_format import ParseDict
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

from jwt_audit import attributes as attr
from jwt_audit.evidence.verdict import Verdict
from jwt_audit.sources import otlp, protobuf
from support.evidence import export_copy, kinds, sent, verdict
from support.streams import MadeStream

STREAM = MadeStream().requests(2)
STREAM.end()
SENT = sent(STREAM)
HEAD = len(STREAM.lines)


def changed(at: int, *more: dict[str, Any]) -> Any:
    """The export with attributes added to one record."""
    records = copy.deepcopy(SENT)
    records[at][0]["attributes"] += more
    return verdict(export_copy(records))


def item(name: str, value: str) -> dict[str, Any]:
    return {"key": name, "value": {"stringValue": value}}


def test_attributes_that_were_added_change_nothing() -> None:
    """A collector's; also one without a value, and one of the proof's own prefix."""
    report = changed(
        1, item("k8s.pod", "p"), {"key": "empty"}, {"key": "none", "value": {}}, item("audit.integrity.x", "y")
    )
    assert report.verdict is Verdict.VALID


@pytest.mark.parametrize("name", [attr.ENDUSER_ID, attr.INTEGRITY_HASH, attr.SESSION_ID])
def test_an_attribute_that_stands_twice_and_otherwise_contradicts(name: str) -> None:
    """One of the two is not what was signed, and who reads it sees either."""
    assert kinds(changed(1, item(name, "other"))) == {"contradiction", "ambiguous"}


def test_an_attribute_that_stands_twice_alike_is_ambiguous_too() -> None:
    """Nobody who writes OTLP writes that, and readers join such values or choose."""
    assert kinds(changed(1, item(attr.ENDUSER_ID, "alice"))) == {"ambiguous"}


@pytest.mark.parametrize("name", [attr.INTEGRITY_CANONICAL, attr.INTEGRITY_VALUE])
@pytest.mark.parametrize("at", [1, HEAD])
def test_a_proof_that_stands_twice_and_otherwise_proves_nothing(name: str, at: int) -> None:
    """It is not chosen between the two."""
    assert changed(at, item(name, "x")).verdict is not Verdict.VALID


@pytest.mark.parametrize(
    ("at", "member", "value"),
    [
        (1, "timeUnixNano", "7"),
        (1, "observedTimeUnixNano", "7"),
        (1, "eventName", "other"),
        (1, "traceId", "f" * 32),
        (1, "spanId", "f" * 16),
        (1, "body", {"stringValue": "other"}),
        (HEAD, "timeUnixNano", "7"),
        (HEAD, "body", {"stringValue": "head of another"}),
    ],
)
def test_a_member_changed_contradicts(at: int, member: str, value: Any) -> None:
    """Of a record and of a head."""
    records = copy.deepcopy(SENT)
    records[at][0][member] = value
    assert kinds(verdict(export_copy(records))) == {"contradiction"}


@pytest.mark.parametrize("member", ["timeUnixNano", "observedTimeUnixNano", "eventName", "traceId", "spanId", "body"])
def test_a_member_left_out_does_not(member: str) -> None:
    """Stores do."""
    records = copy.deepcopy(SENT)
    del records[1][0][member]
    assert verdict(export_copy(records)).verdict is Verdict.VALID


def test_a_member_in_another_spelling_does_not() -> None:
    """Numbers for integers, capitals in ids, attributes in another order."""
    records = copy.deepcopy(SENT)
    record = records[1][0]
    for one in record["attributes"]:
        if "intValue" in one["value"]:
            one["value"] = {"intValue": int(one["value"]["intValue"])}
    record["traceId"] = record["traceId"].upper()
    record["attributes"].reverse()
    assert verdict(export_copy(records)).verdict is Verdict.VALID


def test_without_carried_bytes_the_spelling_is_made_right() -> None:
    """Integers as numbers, ids in capitals: the values are those that were hashed."""
    records = sent(STREAM, carry=False)
    for record, _ in records:
        for one in record["attributes"]:
            if "intValue" in one["value"]:
                one["value"] = {"intValue": int(one["value"]["intValue"])}
    records[1][0]["traceId"] = records[1][0]["traceId"].upper()
    assert verdict(export_copy(records)).verdict is Verdict.VALID


def test_other_log_records_are_none_of_ours() -> None:
    """With attributes or without."""
    request = {"resourceLogs": [{"scopeLogs": [{"logRecords": [{}, {"attributes": [item("a", "b")]}]}]}]}
    assert list(otlp.records(request)) == [None, None]


@pytest.mark.parametrize("value", [{"resourceLogs": []}, {"resourceSpans": []}, {"resourceMetrics": [{}]}])
def test_any_signal_of_otlp_is_known(value: Any) -> None:
    """Spans hold no audit records; they are no rubbish either."""
    assert otlp.is_otlp(value)
    assert list(otlp.records(value)) == []


# Protobuf, against the official classes

TEXT = st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=9)
VALUE: st.SearchStrategy[dict[str, Any]] = st.recursive(
    st.builds(lambda value: {"stringValue": value}, TEXT)
    | st.builds(lambda value: {"intValue": str(value)}, st.integers(-(2**63), 2**63 - 1))
    | st.builds(lambda value: {"boolValue": value}, st.booleans())
    | st.builds(lambda value: {"doubleValue": value}, st.floats(allow_nan=False, allow_infinity=False, width=32))
    | st.just({"bytesValue": "AAEC"})
    | st.just({}),
    lambda inner: (
        st.builds(lambda values: {"arrayValue": {"values": values}}, st.lists(inner, max_size=3))
        | st.builds(
            lambda values: {"kvlistValue": {"values": [{"key": key, "value": value} for key, value in values]}},
            st.lists(st.tuples(TEXT, inner), max_size=3),
        )
    ),
    max_leaves=6,
)
ATTRIBUTES = st.lists(st.builds(lambda key, value: {"key": key, "value": value}, TEXT, VALUE), max_size=4)
RECORD = st.fixed_dictionaries(
    {"attributes": ATTRIBUTES},
    optional={
        "timeUnixNano": st.integers(1, 2**64 - 1).map(str),
        "observedTimeUnixNano": st.integers(1, 2**64 - 1).map(str),
        "eventName": TEXT.filter(bool),
        "body": VALUE,
        "traceId": st.just("0af7651916cd43dd8448eb211c80319c"),
        "spanId": st.just("b7ad6b7169203331"),
        "flags": st.integers(1, 2**32 - 1),
        "severityText": TEXT.filter(bool),
    },
)


def message(record: dict[str, Any], resource: list[dict[str, Any]]) -> bytes:
    """As the official classes write it; their JSON form has ids and bytes in base64."""
    form = copy.deepcopy(record)
    for name in ("traceId", "spanId"):
        if name in form:
            form[name] = base64.b64encode(bytes.fromhex(form[name])).decode()
    request = {"resourceLogs": [{"resource": {"attributes": resource}, "scopeLogs": [{"logRecords": [form]}]}]}
    return bytes(ParseDict(request, ExportLogsServiceRequest()).SerializeToString())


@given(RECORD, ATTRIBUTES)
def test_protobuf_is_read_as_the_official_classes_write_it(record: dict[str, Any], resource: list[Any]) -> None:
    """Every kind of value and member."""
    (group,) = protobuf.request(message(record, resource))["resourceLogs"]
    assert group["resource"].get("attributes", []) == resource
    (found,) = group["scopeLogs"][0]["logRecords"]
    assert found == record


@given(st.binary(max_size=60))
def test_no_bytes_end_in_another_exception(data: bytes) -> None:
    """ValueError says that they are no request."""
    try:
        protobuf.request(data)
    except ValueError:
        pass  # as documented


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"\x0a", id="a length missing"),
        pytest.param(b"\x0a\x05ab", id="shorter than its length"),
        pytest.param(b"\x0b\x0c", id="a group"),
        pytest.param(b"\x02\x00", id="field 0"),
        pytest.param(b"\x0a" + b"\xff" * 11, id="a number without end"),
        pytest.param(b"\x12\x00", id="another message"),
        pytest.param(b"\x09" + b"\0" * 8, id="a number where a message belongs"),
        pytest.param(message({"attributes": []}, [{"key": "a", "value": {}}])[:-3], id="cut off"),
    ],
)
def test_what_is_no_request_is_refused(data: bytes) -> None:
    """A ValueError, which the reader tells."""
    with pytest.raises(ValueError, match=r"no (OTLP logs|protobuf message)|unpack|decode"):
        protobuf.request(data)


def test_nesting_has_an_end() -> None:
    """A bomb of lists in lists."""
    value: dict[str, Any] = {"stringValue": "x"}
    for _ in range(40):
        value = {"arrayValue": {"values": [value]}}
    with pytest.raises(ValueError, match="nested too deep"):
        protobuf.request(message({"attributes": [{"key": "a", "value": value}]}, []))
