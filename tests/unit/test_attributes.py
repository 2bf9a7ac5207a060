"""Attribute values: bounded, printable, of the few types that every exporter takes."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jwt_audit.attributes import MAX_ITEMS, MAX_TEXT, bounded, iso_8601, text, without_tokens


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        ("alice", "alice"),
        (True, True),
        (7, 7),
        (2**63 - 1, 2**63 - 1),
        (2**63, str(2**63)),
        (2**9000, None),
        (5.0, 5),
        (1.5, "1.5"),
        (1e308, "1e+308"),
        (float("nan"), "nan"),
        (float("inf"), "inf"),
        (None, None),
        ({"a": 1}, None),
        (["a", 1, True], ["a", "1", "True"]),
        (["a", {"b": 1}], None),
        ([["a"]], None),
        ([], []),
        ("a\nb\x00\ud800", "a\\x0ab\\x00\\ud800"),
    ],
)
def test_a_value_becomes_what_telemetry_can_hold(value: Any, kept: Any) -> None:
    """str, int64, bool or list of str; nothing else gets through, and nothing raises."""
    assert bounded(value) == kept
    assert type(bounded(value)) is type(kept)


def test_lengths_are_capped() -> None:
    """A claim of a megabyte does not reach telemetry whole."""
    assert len(text("x" * 10**6)) == MAX_TEXT
    kept = bounded(["x"] * 10_000)
    assert isinstance(kept, list)
    assert len(kept) == MAX_ITEMS
    assert kept[:-1] == ["x"] * (MAX_ITEMS - 1)
    assert kept[-1].startswith("…sha256:")
    others = [["x"] * 9_999, ["x"] * 9_999 + ["y"], kept, [*kept, "x"]]
    assert all(bounded(other) != kept for other in others if other is not kept)
    assert bounded(kept) != kept  # nobody can spell out a list that was cut
    assert bounded([{}] * 100) is None


@given(st.text())
def test_a_text_is_always_printable_and_encodable(value: str) -> None:
    """No control character and no lone surrogate gets through."""
    kept = text(value)
    assert kept.isprintable()
    kept.encode("utf-8")


@given(st.lists(st.text(alphabet="\\xua0123\x00\x0aé…\u2028\ud800\U000e0001"), min_size=2, max_size=2, unique=True))
def test_two_texts_never_become_one(values: list[str]) -> None:
    """Otherwise two subjects would be one person in the record: a backslash that looks like an escape is escaped."""
    first, second = values
    assert text(first) != text(second)


CUT = text("x" * 2000)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        pytest.param("a\x00", r"a\x00", id="an escape, spelt out"),
        pytest.param(r"a\x00", r"a\\x00", id="an escape of an escape, spelt out"),
        pytest.param("x" * 2000, "x" * 2001, id="two that are cut"),
        pytest.param("x" * 1024 + "alice", "x" * 1024 + "mallo", id="two that differ where they are cut"),
        pytest.param("x" * 2000, CUT, id="a cut one, spelt out"),
        pytest.param(CUT, text(CUT), id="a cut one of a cut one, spelt out"),
        pytest.param("\x00" * 300, "\x00" * 301, id="two that are too long only when escaped"),
    ],
)
def test_a_value_cannot_be_made_to_look_like_another(first: str, second: str) -> None:
    """The pairs that an attacker would try, who may choose a subject."""
    assert text(first) != text(second)
    assert len(text(first)) <= MAX_TEXT
    assert len(text(second)) <= MAX_TEXT


@pytest.mark.parametrize(
    "value", ["DOMAIN\\alice", "DOMAIN\\user", "C:\\new\\x", "Jürgen … Ωλ", "日本", "x" * MAX_TEXT, ""]
)
def test_an_ordinary_value_stays_as_it_is(value: str) -> None:
    """A Windows account name has a backslash, and is to be found by what people type."""
    assert text(value) == value


def test_a_short_limit_cuts_plainly() -> None:
    """Where no digest fits, what is cut shows it: such values are told, they name nobody."""
    assert text("x" * 100, 32) == "x" * 31 + "…"


@pytest.mark.parametrize(("seconds", "shown"), [(0, "1970-01-01T00:00:00Z"), (10**30, str(10**30))])
def test_a_time_beyond_the_calendar_is_a_number(seconds: int, shown: str) -> None:
    """An absurd exp does not raise."""
    assert iso_8601(seconds) == shown


JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhIn0.c2lnbmF0dXJl"
JWE = "eyJhbGciOiJSU0EtT0FFUCJ9.a2V5.aXY.Y2lwaGVy.dGFn"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        (f"access_token={JWT}", "access_token=…"),
        ("/ws?access_token=opaque-42&b=c#d", "/ws?access_token=…&b=c#d"),
        (f"/ws?a=b&t={JWT}&c={JWE}", "/ws?a=b&t=…&c=…"),
        (f"/reset/{JWT}", "/reset/…"),
        (f"/reset/{JWT}/confirm", "/reset/…/confirm"),
        (f"/p?id_token={JWT[:-8]}", "/p?id_token=…"),
        (f"/p?t={JWT.rpartition('.')[0]}.", "/p?t=…"),
    ],
)
def test_a_url_without_its_tokens(url: str, shown: str) -> None:
    """In the query and in the path; what is no token stays."""
    assert without_tokens(url) == shown


@pytest.mark.parametrize(
    "url",
    ["", "/", "/eyewitness-report.v1.pdf", "/a?key=eye.catching.example", "/ewoks.example.com/", "/v1.2.3"],
)
def test_a_url_that_holds_no_token(url: str) -> None:
    """File names, hosts and versions have dots too."""
    assert without_tokens(url) == url
