"""Lines from the end of a file are those from its start, turned round."""

from __future__ import annotations

import io
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jwt_audit.sources import backwards
from jwt_audit.sources.backwards import end_of_lines, lines_backwards

LONGEST = 10_000


@given(
    st.lists(st.binary(max_size=60).map(lambda line: line.replace(b"\n", b""))),
    st.binary(max_size=60),
    st.integers(1, 70),
)
def test_any_lines_of_any_file(lines: list[bytes], rest: bytes, block: int) -> None:
    """Whatever a block holds, and what follows the last newline is left out."""
    data = b"".join(line + b"\n" for line in lines) + rest.replace(b"\n", b"")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(backwards, "_FIRST_BLOCK", block)
        patch.setattr(backwards, "_BLOCK", 2 * block)
        file = io.BytesIO(data)
        end = end_of_lines(file)
        assert data[:end] + rest.replace(b"\n", b"") == data
        assert list(lines_backwards(file, end, LONGEST)) == lines[::-1]


def test_a_line_that_is_too_long_is_none() -> None:
    """It is replaced by what is no record, and what stands before it is read."""
    file = io.BytesIO(b"first\n" + b"x" * (LONGEST + 1) + b"\nlast\n")
    assert list(lines_backwards(file, end_of_lines(file), LONGEST)) == [b"last", b"...", b"first"]


def test_a_file_that_is_cut_meanwhile_ends() -> None:
    """Nothing is made up of what was there before."""
    file = io.BytesIO(b"".join(b"%07d\n" % number for number in range(100_000)))
    found = lines_backwards(file, end_of_lines(file), LONGEST)
    assert list(itertools.islice(found, 3)) == [b"0099999", b"0099998", b"0099997"]
    file.truncate(100)
    assert len(list(found)) < 3000
