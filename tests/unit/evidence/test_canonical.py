"""Canonical bytes: one form for a record, RFC 8785's, and nothing else is read as one."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from jwt_audit import attributes as attr
from jwt_audit.anyvalue import unwrap, wrap
from jwt_audit.attributes import Value
from jwt_audit.errors import RecordError
from jwt_audit.evidence.canonical import MAX_BYTES, canonical, is_integrity, load, parse
from jwt_audit.evidence.record import Record

TEXT = st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=40)
INTEGERS = st.integers(-(2**63), 2**63 - 1)
VALUES: st.SearchStrategy[Any] = st.one_of(TEXT, INTEGERS, st.booleans(), st.lists(TEXT, max_size=4))
NAMES = st.text(alphabet=st.characters(max_codepoint=0x7E, min_codepoint=0x20), min_size=1, max_size=20)
IDS = st.none() | st.text(alphabet="0123456789abcdef", min_size=16, max_size=16)
RECORDS = st.builds(
    Record,
    event_name=TEXT,
    timestamp=st.integers(0, 2**63 - 1),
    attributes=st.dictionaries(NAMES, VALUES, max_size=8),
    body=st.none() | TEXT,
    trace_id=IDS,
    span_id=IDS,
    observed_timestamp=st.integers(0, 2**63 - 1),
)

SMALL = Record("e", 1, {"b": "x", "a": 7}, "text", "0" * 31 + "1", "0" * 15 + "1", 2)
FORM = (
    b'{"attributes":{"a":{"intValue":"7"},"b":{"stringValue":"x"}},"body":{"stringValue":"text"},"event_name":"e",'
    b'"observed_timestamp":"2","span_id":"0000000000000001","timestamp":"1",'
    b'"trace_id":"00000000000000000000000000000001"}'
)


@given(RECORDS)
def test_the_bytes_are_those_of_rfc_8785(record: Record) -> None:
    """For every record that can be: the fast way gives what an independent implementation gives."""
    data = canonical(record)
    assert data == rfc8785.dumps(orjson.loads(data))


@given(RECORDS)
def test_a_record_is_read_back_as_it_was(record: Record) -> None:
    """Nothing is lost, nothing is two things at once."""
    assert parse(canonical(record)) == record


@given(RECORDS)
def test_neither_tab_nor_newline_is_in_the_bytes(record: Record) -> None:
    """A line of a segment ends its payload with a tab, and itself with a newline."""
    data = canonical(record)
    assert b"\t" not in data
    assert b"\n" not in data


def test_the_form_written_out() -> None:
    """As docs/format.md has it: sorted, without spaces, integers and times as strings."""
    assert canonical(SMALL) == FORM
    assert canonical(Record("e", 1, {}, observed_timestamp=1)) == (
        b'{"attributes":{},"event_name":"e","observed_timestamp":"1","timestamp":"1"}'
    )


@pytest.mark.parametrize("text", ["\u2028", "\u2029", "\x7f", "é", "\U0001f600", "\ufffe", '"\\/\b\f\n\r\t\x00'])
def test_every_character_has_one_form(text: str) -> None:
    """U+2028 and its like once looked like tampering where a writer and a reader spelt them otherwise."""
    record = Record("e", 1, {"a": text}, observed_timestamp=1)
    assert canonical(record) == rfc8785.dumps(orjson.loads(canonical(record)))
    assert parse(canonical(record)).attributes["a"] == text


@pytest.mark.parametrize(
    "attributes",
    [
        pytest.param({"a": "\ud800"}, id="a lone surrogate"),
        pytest.param({"a\ud800": "x"}, id="a lone surrogate in a name"),
        pytest.param({"a": 1.5}, id="a fraction"),
        pytest.param({"a": None}, id="null"),
        pytest.param({"a": ["x", 1]}, id="a mixed list"),
        pytest.param({"a": {"b": "c"}}, id="an object"),
        pytest.param({"a": b"x"}, id="bytes"),
        pytest.param({7: "x"}, id="a name that is no text"),
        pytest.param({"a": "x" * MAX_BYTES}, id="too large"),
    ],
)
def test_what_has_no_form_is_refused(attributes: Any) -> None:
    """A RecordError, which costs this record alone."""
    with pytest.raises(RecordError):
        canonical(Record("e", 1, attributes, observed_timestamp=1))


def test_a_record_of_the_largest_size_is_taken() -> None:
    """The limit itself is allowed."""
    empty = len(canonical(Record("e", 1, {"a": ""}, observed_timestamp=1)))
    assert len(canonical(Record("e", 1, {"a": "x" * (MAX_BYTES - empty)}, observed_timestamp=1))) == MAX_BYTES


@pytest.mark.parametrize("number", [2**63, -(2**63) - 1])
def test_an_integer_beyond_64_bits_is_refused_on_its_own(number: int) -> None:
    """Stores cannot hold it."""
    with pytest.raises(RecordError):
        wrap(number)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"{", id="torn"),
        pytest.param(b"[]", id="a list"),
        pytest.param(b'"x"', id="a text"),
        pytest.param(FORM + b" ", id="a trailing space"),
        pytest.param(FORM + b"\n", id="a trailing newline"),
        pytest.param(FORM + b"{}", id="trailing bytes"),
        pytest.param(b" " + FORM, id="a leading space"),
        pytest.param(FORM.replace(b'"a":', b'"a" :'), id="a space inside"),
        pytest.param(FORM.replace(b'"timestamp":"1"', b'"timestamp":"1","timestamp":"1"'), id="a name twice"),
        pytest.param(
            FORM.replace(b'"b":{"stringValue":"x"}', b'"b":{"stringValue":"x"},"b":{"stringValue":"x"}'),
            id="an attribute twice",
        ),
        pytest.param(
            FORM.replace(
                b'"a":{"intValue":"7"},"b":{"stringValue":"x"}', b'"b":{"stringValue":"x"},"a":{"intValue":"7"}'
            ),
            id="another order",
        ),
        pytest.param(FORM.replace(b'"x"', b'"\\u0078"'), id="another spelling of a letter"),
        pytest.param(FORM.replace(b'"x"', b'"\\/"'), id="a needless escape"),
        pytest.param(FORM.replace(b'"x"', b'"\xff"'), id="no UTF-8"),
        pytest.param(FORM.replace(b'"x"', b'"\\ud800"'), id="an escaped lone surrogate"),
    ],
)
def test_nothing_but_the_canonical_form_is_loaded(data: bytes) -> None:
    """What was hashed is what is read: a second spelling of the same record does not exist."""
    with pytest.raises(RecordError):
        load(data)
    with pytest.raises(RecordError):
        parse(data)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(FORM.replace(b'"7"', b'"07"'), id="an integer with a leading zero"),
        pytest.param(FORM.replace(b'"7"', b'"+7"'), id="with a sign"),
        pytest.param(FORM.replace(b'"7"', b'"seven"'), id="in words"),
        pytest.param(FORM.replace(b'"7"', b"7"), id="as a number"),
        pytest.param(FORM.replace(b'"7"', b'"9223372036854775808"'), id="beyond 64 bits"),
        pytest.param(FORM.replace(b"7", "\u0667".encode()), id="in Arabic digits"),
        pytest.param(FORM.replace(b'"intValue"', b'"doubleValue"'), id="a fraction"),
        pytest.param(FORM.replace(b'{"intValue":"7"}', b"{}"), id="no value"),
        pytest.param(FORM.replace(b'{"intValue":"7"}', b'{"boolValue":true,"intValue":"7"}'), id="two values"),
        pytest.param(FORM.replace(b'"timestamp":"1"', b'"timestamp":1'), id="a time as a number"),
        pytest.param(FORM.replace(b'"event_name":"e"', b'"event_name":7'), id="an event that is no text"),
        pytest.param(FORM.replace(b'"event_name":"e",', b""), id="no event"),
        pytest.param(FORM.replace(b'"trace_id"', b'"trace_ie"'), id="an unknown member"),
        pytest.param(FORM.replace(b'{"stringValue":"text"}', b'{"intValue":"7"}'), id="a body that is no text"),
    ],
)
def test_canonical_json_that_is_no_record_is_not_parsed(data: bytes) -> None:
    """It may be canonical JSON; it is not what `canonical` writes."""
    with pytest.raises(RecordError):
        parse(data)


@pytest.mark.parametrize(
    ("value", "form"),
    [
        ("x", {"stringValue": "x"}),
        (True, {"boolValue": True}),
        (0, {"intValue": "0"}),
        (-(2**63), {"intValue": "-9223372036854775808"}),
        (["a", "b"], {"arrayValue": {"values": [{"stringValue": "a"}, {"stringValue": "b"}]}}),
        ([], {"arrayValue": {"values": []}}),
    ],
)
def test_values_are_wrapped_as_otlp_json_wraps_them(value: Value, form: dict[str, Any]) -> None:
    """Integers always as strings."""
    assert wrap(value) == form
    assert unwrap(form) == value


@pytest.mark.parametrize(
    "form",
    [
        None,
        "x",
        {},
        {"stringValue": 1},
        {"boolValue": "true"},
        {"arrayValue": [1]},
        {"intValue": True},
        {"intValue": "1.0"},
        {"arrayValue": {"values": [{"intValue": "1"}]}},
    ],
)
def test_what_is_not_so_wrapped_is_refused(form: Any) -> None:
    """A RecordError, whatever stands there."""
    with pytest.raises(RecordError):
        unwrap(form)


def test_the_proof_is_not_part_of_what_it_proves() -> None:
    """All of ``audit.integrity.*``, and nothing else."""
    assert is_integrity(attr.INTEGRITY_CANONICAL)
    assert not is_integrity(attr.NUMBER)
