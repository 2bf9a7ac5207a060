"""What the verifier reads of a record, and what it refuses to call one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson
import pytest

from jwt_audit import attributes as attr
from jwt_audit.evidence.canonical import MAX_BYTES
from jwt_audit.evidence.facts import BadRecordError, binding, read, statements
from jwt_audit.evidence.verdict import Place
from support.evidence import known, statement
from support.streams import MadeStream

STREAM = MadeStream().requests(2).end()
HERE = Place("here", 1)


def changed(at: int, change: Callable[[dict[str, Any]], object]) -> bytes:
    """A record of the stream with its form changed, canonical again."""
    form = orjson.loads(STREAM.lines[at][0])
    change(form)
    return orjson.dumps(form, option=orjson.OPT_SORT_KEYS)


def set_attribute(name: str, value: Any) -> Callable[[dict[str, Any]], object]:
    return lambda form: form["attributes"].__setitem__(name, value)


def test_the_facts_of_a_record() -> None:
    """Its place, its time, its id; the form only of those that say something of a stream."""
    first, second, _, last = (read(payload) for payload, _ in STREAM.lines)
    assert (first.stream, first.number, first.previous, first.end) == (STREAM.id, 1, "", False)
    assert (second.number, second.previous) == (2, STREAM.lines[0][1])
    assert second.record_id == STREAM.record_id(2)
    assert second.observed > first.observed
    assert last.end
    assert first.form is not None
    assert second.form is None


@pytest.mark.parametrize(
    "payload",
    [
        pytest.param(changed(1, lambda form: form.pop("timestamp")), id="no time"),
        pytest.param(changed(1, lambda form: form.pop("observed_timestamp")), id="no time of observation"),
        pytest.param(changed(1, lambda form: form.pop("event_name")), id="no event"),
        pytest.param(changed(1, lambda form: form.pop("attributes")), id="no attributes"),
        pytest.param(changed(1, lambda form: form.update(attributes=[])), id="attributes that are a list"),
        pytest.param(changed(1, lambda form: form.update(more="x")), id="a member more"),
        pytest.param(changed(1, lambda form: form.update(event_name=7)), id="an event that is no text"),
        pytest.param(changed(1, lambda form: form.update(timestamp="9" * 19)), id="observed before it occurred"),
        pytest.param(changed(1, lambda form: form.update(observed_timestamp="-1")), id="a time before all times"),
        pytest.param(changed(1, lambda form: form.update(observed_timestamp="9" * 20)), id="a time beyond 64 bits"),
        pytest.param(changed(1, lambda form: form.update(observed_timestamp=7)), id="a time that is no text"),
        pytest.param(changed(1, lambda form: form["attributes"].pop(attr.NUMBER)), id="no number"),
        pytest.param(changed(1, set_attribute(attr.NUMBER, {"intValue": "02"})), id="a number with a zero before"),
        pytest.param(changed(1, set_attribute(attr.NUMBER, {"intValue": "0"})), id="number 0"),
        pytest.param(changed(1, set_attribute(attr.NUMBER, {"intValue": str(2**63)})), id="a number beyond 64 bits"),
        pytest.param(changed(1, set_attribute(attr.NUMBER, {"stringValue": "2"})), id="a number that is a text"),
        pytest.param(changed(1, set_attribute(attr.NUMBER, {"intValue": "1"})), id="number 1 that starts no stream"),
        pytest.param(changed(0, set_attribute(attr.NUMBER, {"intValue": "2"})), id="a start that is not the first"),
        pytest.param(changed(1, lambda form: form["attributes"].pop(attr.PREVIOUS_HASH)), id="no previous hash"),
        pytest.param(changed(1, set_attribute(attr.PREVIOUS_HASH, {"stringValue": "ab"})), id="a short one"),
        pytest.param(
            changed(0, set_attribute(attr.PREVIOUS_HASH, {"stringValue": "a" * 64})), id="one on the first record"
        ),
        pytest.param(changed(1, lambda form: form["attributes"].pop(attr.STREAM_ID)), id="no stream"),
        pytest.param(changed(1, set_attribute(attr.STREAM_ID, {"stringValue": 7})), id="a stream that is no text"),
        pytest.param(changed(1, lambda form: form["attributes"].pop(attr.RECORD_ID)), id="no id"),
        pytest.param(changed(1, set_attribute(attr.END, {"stringValue": "true"})), id="an end that is no boolean"),
    ],
)
def test_what_lacks_a_field_is_malformed(payload: bytes) -> None:
    """Canonical, and still no record of a stream."""
    with pytest.raises(BadRecordError) as caught:
        read(payload)
    assert caught.value.kind == "malformed"


@pytest.mark.parametrize(
    "payload", [b"", b"x", b"[]", STREAM.lines[1][0] + b" ", STREAM.lines[1][0].replace(b'":', b'": ', 1)]
)
def test_what_is_not_canonical_is_said_so(payload: bytes) -> None:
    """Before anything of it is believed."""
    with pytest.raises(BadRecordError) as caught:
        read(payload)
    assert caught.value.kind == "not_canonical"


def test_what_is_larger_than_any_record_is_not_read() -> None:
    """The writer has a limit, so the reader has."""
    with pytest.raises(BadRecordError, match="larger"):
        read(b"x" * (MAX_BYTES + 1))


def told(event: str, attributes: dict[str, Any]) -> list[Any]:
    """What a record of this event with these attributes states."""
    made = MadeStream()
    made.system(event, attributes, "")
    return statements(read(made.lines[1][0]), HERE)


def test_a_start_names_the_streams_it_saw() -> None:
    """With their last head, or with none."""
    made = MadeStream(known=[known(STREAM), "other 0"])
    first, second = statements(read(made.lines[0][0]), HERE)
    assert (first.kind, first.stream, first.number) == ("known", STREAM.id, 4)
    assert (second.stream, second.number, second.hash) == ("other", 0, "")
    assert statements(read(STREAM.lines[1][0]), HERE) == []


@pytest.mark.parametrize("kind", ["recovered", "pruned", "undelivered"])
def test_what_a_shipper_states_of_a_stream(kind: str) -> None:
    """Which stream, which record, its hash; of a refused one the hash before it too."""
    event, attributes, _ = statement(kind, STREAM, 2)
    (one,) = told(event, attributes)
    assert (one.kind, one.stream, one.number, one.hash) == (kind, STREAM.id, 2, STREAM.lines[1][1])
    assert one.previous == (STREAM.lines[0][1] if kind == "undelivered" else "")
    assert (one.by_number, one.place) == (2, HERE)


@pytest.mark.parametrize(
    "change",
    [
        {attr.UNDELIVERED_HASH: None},
        {attr.UNDELIVERED_ID: None},
        {attr.UNDELIVERED_ID: "6f0f0d4e-5ac1-5f0b-9d0e-6a1f2a3c4b5d"},
    ],
)
def test_a_refused_head_or_a_broken_line_explains_no_missing_record(change: dict[str, str | None]) -> None:
    """A head's id is a UUID of version 5; a line that was no record has neither id nor hash."""
    event, attributes, _ = statement("undelivered", STREAM, 2)
    attributes |= change
    assert told(event, {name: value for name, value in attributes.items() if value is not None}) == []


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("recovered", {attr.RECOVERED_STREAM: None}),
        ("recovered", {attr.RECOVERED_NUMBER: "two"}),
        ("pruned", {attr.PRUNED_STREAM: 7}),
        ("undelivered", {attr.UNDELIVERED_NUMBER: None}),
    ],
)
def test_a_statement_that_states_nothing_is_malformed(kind: str, change: dict[str, Any]) -> None:
    """It would be passed over otherwise, and with it what it says."""
    event, attributes, _ = statement(kind, STREAM, 2)
    attributes |= change
    with pytest.raises(BadRecordError, match="does not say what it is written for"):
        told(event, {name: value for name, value in attributes.items() if value is not None})


@pytest.mark.parametrize("names", ["one", "a b c", ""])
def test_a_start_that_names_streams_otherwise_is_malformed(names: str) -> None:
    """``id number hash``, and nothing else."""
    made = MadeStream(known=[names])
    with pytest.raises(BadRecordError):
        statements(read(made.lines[0][0]), HERE)


def test_the_first_record_binds_key_and_resource() -> None:
    """The key itself, so that its id and algorithm follow from it."""
    bound = binding(read(STREAM.lines[0][0]))
    assert bound.key.key_id == STREAM.signer.public_key.key_id
    assert bound.resource["service.name"] == {"stringValue": "shop"}
    with pytest.raises(BadRecordError) as caught:
        binding(read(STREAM.lines[1][0]))
    assert caught.value.kind == "binding"
