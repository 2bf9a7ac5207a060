"""A stream of JSON values as exporters and kills leave it: every byte is read, or said to be unread."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jwt_audit.sources.values import Unread, values

A, B, C = ({"resourceLogs": [letter * 30]} for letter in "abc")


def text(value: Any) -> bytes:
    return orjson.dumps(value)


def pretty(value: Any) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_INDENT_2)


def read(data: bytes) -> tuple[list[Any], list[tuple[int, bool]]]:
    """The values, and of what is none the offset and whether it is torn."""
    found: list[Any] = []
    unread: list[tuple[int, bool]] = []
    for one in values(data.splitlines(keepends=True), "file"):
        if isinstance(one, Unread):
            unread.append((one.place.offset, one.torn))
        else:
            value, place, _ = one
            found.append(value)
            assert place.source == "file"
            assert data[place.offset : place.offset + 1] in (b"{", b"[")
            assert data[: place.offset].count(b"\n") == place.line - 1
    return found, unread


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(text(A) + b"\n" + text(B) + b"\n" + text(C) + b"\n", id="one a line"),
        pytest.param(text(A) + b"\n" + text(B) + b"\n" + text(C), id="no newline at the end"),
        pytest.param(text(A) + text(B) + b"\n" + text(C), id="two on one line"),
        pytest.param(text(A) + b", " + text(B) + b" \t" + text(C) + b"\n", id="commas and spaces between"),
        pytest.param(pretty(A) + b"\n" + pretty(B) + pretty(C), id="over many lines"),
        pytest.param(text(A) + b"\n" + pretty(B) + b"\n" + text(C) + b"\n", id="one over many lines among others"),
        pytest.param(b"\n\n" + text(A) + b"\n\n \n" + text(B) + b"\r\n" + text(C) + b"\n\n", id="empty lines"),
    ],
)
def test_whole_values_are_read_however_they_stand(data: bytes) -> None:
    """Nothing is unread."""
    assert read(data) == ([A, B, C], [])


@pytest.mark.parametrize("cut", [1, 5, 17, 30, 40])
def test_a_torn_tail_is_set_aside(cut: int) -> None:
    """What a kill in the middle of a write leaves."""
    data = text(A) + b"\n" + text(B)[:cut]
    assert read(data) == ([A], [(len(text(A)) + 1, True)])


@pytest.mark.parametrize("cut", [13, 20, 40])
def test_a_torn_value_with_a_whole_one_glued_to_it(cut: int) -> None:
    """The restarted exporter went on in the middle of the line: the whole one is not lost."""
    data = text(A)[:cut] + text(B) + b"\n" + text(C) + b"\n"
    assert read(data) == ([B, C], [(0, True)])


def test_a_value_that_never_ends_is_given_up_where_the_next_begins() -> None:
    """Over many lines, and then the same writer starts anew."""
    torn = text(A)[:20] + b"\n"
    found, unread = read(torn + text(B) + b"\n" + text(C) + b"\n")
    assert found == [B, C]
    assert unread == [(0, False)]


@pytest.mark.parametrize("rubbish", [b"rubbish", b"}", b'"text"', b"123", b"\xff\xfe", b"null", b"]]]"])
def test_what_is_no_value_is_said_to_be_unread(rubbish: bytes) -> None:
    """Not torn: a record may have been there."""
    data = text(A) + b"\n" + rubbish + b"\n" + text(B) + b"\n"
    assert read(data) == ([A, B], [(len(text(A)) + 1, False)])


def test_a_value_after_rubbish_on_its_line_is_read() -> None:
    """As a log's prefix is."""
    assert read(b"2026-11-25 INFO " + text(A) + b"\n") == ([A], [(0, False)])


def test_a_broken_value_is_unread() -> None:
    """Its braces are right, its content is not."""
    assert read(b'{"a": nonsense}\n' + text(A) + b"\n")[0] == [A]
    assert read(b'{"a": nonsense}\n' + text(A) + b"\n")[1] == [(0, False)]


def test_braces_in_texts_are_no_braces() -> None:
    """Escaped quotation marks neither."""
    value = {"a": '}{][\\"', "b": ["\\", '"']}
    assert read(pretty(value) + text(value)) == ([value, value], [])


PLAIN = st.dictionaries(st.text(max_size=5), st.text(max_size=9) | st.lists(st.integers(-9, 9), max_size=2), max_size=3)


@given(st.lists(st.tuples(PLAIN, st.booleans(), st.sampled_from([b"", b"\n", b" ", b",\n"])), max_size=6))
def test_any_values_in_any_layout_are_read(parts: list[tuple[dict[str, Any], bool, bytes]]) -> None:
    """Compact or spread out, with whatever between them."""
    data = b"".join((pretty if spread else text)(value) + between for value, spread, between in parts)
    assert read(data) == ([value for value, _, _ in parts], [])


@given(st.binary(max_size=80) | st.text(alphabet='{}[]",:\\a1 \n', max_size=80).map(str.encode))
def test_no_bytes_end_in_an_exception(data: bytes) -> None:
    """And what is left unread lies in them."""
    for one in values(data.splitlines(keepends=True), "file"):
        if isinstance(one, Unread):
            assert 0 <= one.place.offset <= len(data)
            assert 0 < one.size <= len(data)
