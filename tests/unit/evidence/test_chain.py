"""The chain: numbers, previous hashes and times of one stream."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jwt_audit import attributes as attr
from jwt_audit.errors import RecordError
from jwt_audit.evidence.canonical import parse
from jwt_audit.evidence.chain import Position, link, record_hash
from jwt_audit.evidence.record import Record


def test_the_first_record_names_nothing_before_it() -> None:
    """Number 1, no previous hash; its position is what its bytes hash to."""
    data, position = link(Record("e", 5, {}), Position("s"), now=7)
    record = parse(data)
    assert record.attributes == {attr.STREAM_ID: "s", attr.NUMBER: 1}
    assert position == Position("s", 1, hashlib.sha256(data).hexdigest(), 7)
    assert record_hash(data) == position.hash


def test_each_other_names_the_hash_before() -> None:
    """And the last one says that it is."""
    _, first = link(Record("e", 5, {}), Position("s"), now=7)
    data, second = link(Record("e", 5, {}), first, now=8, end=True)
    assert parse(data).attributes == {
        attr.STREAM_ID: "s",
        attr.NUMBER: 2,
        attr.PREVIOUS_HASH: first.hash,
        attr.END: True,
    }
    assert second.number == 2


@given(st.lists(st.tuples(st.integers(0, 2**62), st.integers(0, 2**62)), max_size=8))
def test_time_never_goes_back(times: list[tuple[int, int]]) -> None:
    """Whatever the clock does: observed times never fall, and no action is later than its observation."""
    position, last = Position("s"), 0
    for occurred, now in times:
        data, position = link(Record("e", occurred, {}), position, now=now)
        record = parse(data)
        assert record.observed_timestamp >= max(last, record.timestamp)
        last = record.observed_timestamp


def test_a_record_without_a_form_does_not_move_the_stream() -> None:
    """The next record takes its number."""
    _, first = link(Record("e", 5, {}), Position("s"), now=7)
    with pytest.raises(RecordError):
        link(Record("e", 5, {"a": "\ud800"}), first, now=8)
    data, second = link(Record("e", 5, {}), first, now=8)
    assert second.number == 2
    assert parse(data).attributes[attr.PREVIOUS_HASH] == first.hash
