"""What the fuzzer found worth keeping, the seeds it began with, and random neighbours of both."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.fuzzing import KINDS, check, seeds

CORPUS = [
    base64.b64decode(line) for line in (Path(__file__).parents[2] / "vectors" / "fuzz.txt").read_bytes().splitlines()
]


@pytest.mark.parametrize("kind", range(len(KINDS)), ids=lambda kind: KINDS[kind].__name__)
def test_what_was_found_still_holds(kind: int) -> None:
    """Each input of the corpus, of each kind."""
    inputs = [data for data in CORPUS if data and data[0] % len(KINDS) == kind]
    assert len(inputs) > 10
    for data in inputs:
        check(data)


def test_the_seeds_hold() -> None:
    """The tokens of real issuers, headers, key sets and files of issuers."""
    for data in seeds():
        check(data)


@settings(max_examples=300, deadline=None)
@given(st.integers(0, len(KINDS) - 1), st.sampled_from(CORPUS), st.data())
def test_neighbours_hold(kind: int, near: bytes, data: st.DataObject) -> None:
    """With a piece cut out, doubled or replaced."""
    start = data.draw(st.integers(0, len(near)))
    end = data.draw(st.integers(start, len(near)))
    middle = data.draw(st.binary(max_size=20) | st.just(near[start:end] * 2))
    check(bytes([kind]) + near[1:start] + middle + near[end:])
