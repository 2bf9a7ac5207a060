"""The report of a verification on a terminal: what is too long goes on below itself."""

from __future__ import annotations

from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from jwt_audit.cli.main import main
from jwt_audit.cli.report import fitted


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("Streams:", ["Streams:"]),
        ("  left out   17 log records of other kinds", ["  left out   17 log records", "             of other kinds"]),
        ("    in a/b.jsonl, line 12, byte 345678", ["    in a/b.jsonl, line 12,", "      byte 345678"]),
        ("    " + "x" * 40, ["    " + "x" * 40]),
    ],
)
def test_a_line_goes_on_below_what_it_says(line: str, expected: list[str]) -> None:
    """Indented as its text is; a word that is longer than the terminal stays whole, as a path to be copied."""
    assert fitted(line, 28) == expected


def test_colours_take_no_room() -> None:
    """A line whose letters fit is one line, whatever its colours add."""
    line = f"{click.style('valid', fg='green', bold=True)}: all of it"
    assert fitted(line, 20) == [line]


@given(st.lists(st.text("abc,;-", min_size=1, max_size=12), min_size=1), st.integers(20, 80))
def test_no_word_is_lost(words: list[str], width: int) -> None:
    """The words are the same in the same order, and no line is too long."""
    lines = fitted("    " + " ".join(words), width)
    assert " ".join(lines).split() == words
    assert all(len(line) <= width for line in lines)


@pytest.mark.parametrize("hostile", ["\x1b[2J\x1b[Hvalid: 9 records", "\rvalid: all", "\x9b2J", "\u202eevil", "\udcff"])
def test_no_name_writes_a_verdict_of_its_own(hostile: str, tmp_path: Path) -> None:
    """A file's name comes with the evidence: what a terminal would obey in it is shown escaped, also in colours."""
    (tmp_path / f"{hostile}.jsonl").write_text('{"resourceLogs": [{}, 1]}\n')
    done = CliRunner().invoke(main, ["verify", str(tmp_path)], color=True)
    shown = click.unstyle(done.output).replace("\n", "")
    assert done.exit_code == 2
    assert shown.isprintable(), shown
    assert str(tmp_path) in shown
