"""Attribute values: bounded, printable, of the few types that every exporter takes."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jwt_audit.attributes import MAX_ITEMS, MAX_TEXT, bounded, iso_8601, text


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
        ("a\nb\x00\ud800", "a\\nb\\x00\\ud800"),
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


@given(st.text())
def test_a_text_is_always_printable_and_encodable(value: str) -> None:
    """No control character and no lone surrogate gets through."""
    kept = text(value)
    assert kept.isprintable()
    kept.encode("utf-8")


@pytest.mark.parametrize(("seconds", "shown"), [(0, "1970-01-01T00:00:00Z"), (10**30, str(10**30))])
def test_a_time_beyond_the_calendar_is_a_number(seconds: int, shown: str) -> None:
    """An absurd exp does not raise."""
    assert iso_8601(seconds) == shown
