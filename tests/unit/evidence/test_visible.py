"""What a store shows beside the carried bytes: what it may do to a value, and what it may not."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jwt_audit import attributes as attr
from jwt_audit.evidence.resource import Shown
from jwt_audit.evidence.streams import Chain
from jwt_audit.evidence.verdict import Place
from jwt_audit.evidence.visible import UNREADABLE, contradictions, normal, plain, same
from support.evidence import as_spool
from support.streams import MadeStream

STREAM = MadeStream().requests(1)
FORM = orjson.loads(STREAM.lines[1][0])
HASH = STREAM.lines[1][1]


def contradicted_in(form: dict[str, Any], fields: list[tuple[str, Any]]) -> list[str]:
    return contradictions(form, HASH, fields)[0]


def contradicted(fields: list[tuple[str, Any]]) -> list[str]:
    return contradicted_in(FORM, fields)


HERE = Place("here", 1)


@pytest.mark.parametrize(
    ("signed", "shown"),
    [
        ("alice", "alice"),
        ("alice", None),
        (7, 7),
        (7, "7"),
        (True, True),
        (True, "true"),
        (False, "False"),
        (["a", "b"], ["a", "b"]),
        (["a", "b"], '["a","b"]'),
        (["a"], "a"),
        ([], "[]"),
        ({"a": "b"}, {"a": "b"}),
        ({"a": 1}, '{"a":"1"}'),
        (1.5, 1.5),
        (1.5, "1.5"),
        (5.0, "5"),
    ],
)
def test_what_stores_make_of_a_value_is_the_same(signed: Any, shown: Any) -> None:
    """Strings of everything, JSON of lists, nothing at all."""
    assert same(signed, shown)


@pytest.mark.parametrize(
    ("signed", "shown"),
    [
        ("alice", "mallory"),
        ("alice", "Alice"),
        ("alice", ""),
        ("7", "07"),
        (7, 8),
        (7, "7.0"),
        (True, "false"),
        (True, 1),
        (True, "1"),
        (["a", "b"], ["b", "a"]),
        (["a", "b"], ["a"]),
        (["a", "b"], "a"),
        (["a", "b"], "[not json"),
        (["a"], []),
        ({"a": "b"}, {"a": "c"}),
        ({"a": "b"}, {}),
        ({"a": "b"}, "not json"),
        ({"a": "b"}, "[]"),
        (1.5, "1.6"),
        (1.5, "much"),
        ("alice", ["alice"]),
        ("alice", {"a": "alice"}),
    ],
)
def test_another_value_is_another(signed: Any, shown: Any) -> None:
    """However it is dressed."""
    assert not same(signed, shown)


@pytest.mark.parametrize("name", ["enduser.id", "enduser_id", "enduser-id", "enduser/id"])
def test_a_changed_value_contradicts_under_any_spelling_of_its_name(name: str) -> None:
    """Dots become underscores, and more."""
    assert contradicted([(name, "alice")]) == []
    assert contradicted([(name, "mallory")]) == [name]


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("jwt.error", "expired"),
        ("audit.decision", "denied"),
        ("user.roles", "admin"),
        ("session_id", "s-2"),
        ("audit.integrity.hash", "0" * 64),
        ("audit_integrity_hash", "0" * 64),
        ("event_name", "x"),
        ("eventName", "audit.head"),
        ("body", "POST /admin"),
        ("_msg", "x"),
        ("line", "x"),
        ("trace_id", "f" * 32),
        ("spanId", "f" * 16),
        ("timeUnixNano", "7"),
        ("observedTimeUnixNano", 7),
        ("_time", "2020-01-01T00:00:00Z"),
        ("timestamp", "1795600000000000000"),
        ("Timestamp", "2026-13-01T00:00:00Z"),
    ],
)
def test_what_was_not_signed_so_contradicts(name: str, shown: Any) -> None:
    """A member shown otherwise; a name of ours that the record does not have at all."""
    assert contradicted([(name, shown)]) == [name]


def observed(form: dict[str, Any] = FORM) -> int:
    return int(form["observed_timestamp"])


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("k8s.pod.name", "shop-1"),
        ("severity", "INFO"),
        ("_stream", "{}"),
        ("detected_level", "info"),
        pytest.param("audit.integrity.hash", HASH, id="audit.integrity.hash-the hash"),
        ("audit.integrity.algorithm", "EdDSA"),
        ("event_name", "http.request"),
        ("event_name", ""),
        ("_msg", FORM["body"]["stringValue"]),
        ("_msg", None),
        ("TraceId", FORM["trace_id"].upper()),
        ("traceid", "0" * 32),
        ("span_id", ""),
        ("timeUnixNano", FORM["timestamp"]),
        ("timestamp", FORM["timestamp"]),
        ("_time", FORM["timestamp"]),
        ("observed_timestamp", FORM["observed_timestamp"]),
        ("timestamp", FORM["timestamp"][:-6]),
        ("timestamp", FORM["timestamp"][:-9]),
        ("timestamp", f"{FORM['timestamp'][:-9]}.{FORM['timestamp'][-9:]}"),
        ("time", "yesterday"),
    ],
)
def test_what_a_store_adds_is_no_contradiction(name: str, shown: Any) -> None:
    """Fields of its own, members that it leaves out, times in its own units."""
    assert contradicted([(name, shown)]) == []


@given(st.integers(0, 9))
def test_a_time_is_compared_as_far_as_its_digits_go(digits: int) -> None:
    """A store that keeps microseconds has lost three of them, not changed any."""
    form = {**FORM, "timestamp": "1795600000123456789", "observed_timestamp": "1795600000999999999"}
    fraction = ("." + "123456789"[:digits]) if digits else ""
    assert contradicted_in(form, [("_time", f"2026-11-25T09:46:40{fraction}Z")]) == []
    assert contradicted_in(form, [("_time", f"2026-11-25T10:46:40{fraction}+01:00")]) == []
    assert contradicted_in(form, [("_time", f"2026-11-25T09:46:41{fraction}Z")]) == ["_time"]


def test_names_that_fall_together_may_show_either() -> None:
    """``a.b`` and ``a_b`` are one field in some stores."""
    form = {**FORM, "attributes": {"a.b": {"stringValue": "1"}, "a_b": {"stringValue": "2"}}}
    assert contradicted_in(form, [("a_b", "1"), ("a_b", "2")]) == []
    assert contradicted_in(form, [("a_b", "3")]) == ["a_b"]
    assert normal("a.b") == normal("a_b") == "a_b"


@pytest.mark.parametrize(
    ("wrapped", "value"),
    [
        ({"stringValue": "x"}, "x"),
        ({"intValue": "7"}, 7),
        ({"intValue": 7}, 7),
        ({"intValue": "7x"}, UNREADABLE),
        ({"intValue": "07"}, UNREADABLE),
        ({"intValue": "1_0"}, UNREADABLE),
        ({"intValue": True}, UNREADABLE),
        ({"intValue": None}, UNREADABLE),
        ({"stringValue": 7}, UNREADABLE),
        ({"boolValue": "true"}, UNREADABLE),
        ({"boolValue": False}, False),
        ({"doubleValue": 5}, 5.0),
        ({"bytesValue": "AA=="}, "AA=="),
        ({"arrayValue": {"values": [{"intValue": "1"}, {}]}}, [1, UNREADABLE]),
        ({"arrayValue": {}}, []),
        ({"arrayValue": None}, UNREADABLE),
        ({"arrayValue": {"values": [], "x": 1}}, UNREADABLE),
        ({"kvlistValue": {"values": [{"key": "a", "value": {"boolValue": True}}]}}, {"a": True}),
        ({"kvlistValue": {"values": [{"key": "a", "value": {"boolValue": True}}, 7]}}, UNREADABLE),
        ({"kvlistValue": {"values": [{"key": "a", "value": {"intValue": "1"}}] * 2}}, UNREADABLE),
        ({}, UNREADABLE),
        (None, UNREADABLE),
        ("x", UNREADABLE),
        ({"string_value": "x"}, UNREADABLE),
        ({"stringValue": "x", "intValue": "7"}, UNREADABLE),
    ],
)
def test_an_any_value_of_otlp_as_a_plain_one(wrapped: Any, value: Any) -> None:
    """Never an exception, whatever a file holds."""
    assert plain(wrapped) == value


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=9),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["intValue", "arrayValue", "kvlistValue", "values", "key", "value"]), inner)
    ),
    max_leaves=12,
)


@given(JSON, JSON)
def test_no_value_ends_in_an_exception(one: Any, other: Any) -> None:
    """Anything JSON can hold, on either side."""
    same(plain(one), plain(other))
    contradictions(FORM, HASH, [("enduser.id", plain(one)), ("_time", one), ("trace_id", other), ("body", other)])


def judged(shown: Shown) -> list[str]:
    """What is found of the resource that is shown."""
    chain: Chain = as_spool(STREAM).chains[STREAM.id]
    shown.judge(chain)
    assert all(finding.kind == "resource" for finding in chain.findings.kept)
    return [finding.detail.split()[3] for finding in chain.findings.kept]


def resource(**changes: Any) -> list[dict[str, Any]]:
    signed = {"service.name": {"stringValue": "shop"}, "service.version": {"stringValue": "1.2.3"},
              "process.pid": {"intValue": "4711"}}  # fmt: skip
    signed |= {name.replace("_", "."): value for name, value in changes.items()}
    return [{"key": name, "value": value} for name, value in signed.items() if value is not None]


@pytest.mark.parametrize(
    ("attributes", "found"),
    [
        (resource(), []),
        (resource(k8s_pod={"stringValue": "p"}), []),
        (resource(process_pid={"stringValue": "4711"}), ["process.pid"]),
        ([*resource(), {"key": "service.name", "value": {"stringValue": "shop"}}], ["service.name"]),
        ([*resource(), {"key": "enduser.id", "value": {"stringValue": "mallory"}}], ["enduser.id"]),
        (resource(service_name={"stringValue": "bank"}), ["service.name"]),
        (resource(service_name=None), ["service.name"]),
        ([], ["process.pid", "service.name", "service.version"]),
        (["rubbish"], ["process.pid", "service.name", "service.version"]),
        ([*resource(), {"key": attr.INTEGRITY_ALGORITHM, "value": {"stringValue": "EdDSA"}}], []),
        (
            [*resource(), {"key": attr.INTEGRITY_ALGORITHM, "value": {"stringValue": "HS256"}}],
            [attr.INTEGRITY_ALGORITHM],
        ),
    ],
)
def test_the_resource_that_was_signed_must_be_contained(attributes: list[Any], found: list[str]) -> None:
    """A collector adds to it; it does not change it. Told once, however many records show it."""
    shown = Shown()
    shown.resource({"attributes": attributes}, tuple, HERE)
    shown.resource({"attributes": list(attributes)}, tuple, HERE)
    assert sorted(judged(shown)) == found


def test_a_resource_among_other_fields_is_compared_as_far_as_it_is_there() -> None:
    """A store that flattens may leave it out, but shows no other."""
    shown = Shown()
    shown.fields([("service_name", "shop"), ("x", "y")], HERE)
    assert judged(shown) == []
    shown.fields([("service_name", "bank")], HERE)
    assert judged(shown) == ["service.name"]


def test_a_stream_without_its_first_record_has_no_resource_to_compare() -> None:
    """Nothing was signed that is here."""
    chain = Chain("s", "here", set())
    shown = Shown()
    shown.resource({"attributes": []}, tuple, HERE)
    shown.judge(chain)
    assert chain.findings.kept == []
