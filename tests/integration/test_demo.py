"""The main job, end to end, in real processes: what `make demo` shows is checked by itself."""

from __future__ import annotations

import sys
from pathlib import Path

from rich.cells import cell_len

from support.terminal import on_terminal, unstyled

DEMO = Path(__file__).parents[2] / "examples" / "demo" / "run.py"


def test_the_demonstration_succeeds() -> None:
    """Both apps, good, expired, forged and no tokens: one record each, proved, and two changed bytes found.

    On a terminal of 80 columns: all of it fits, and its verdicts have their colours.
    """
    with on_terminal([sys.executable, DEMO], 80) as terminal:
        status = terminal.end(100)
    shown = unstyled(terminal.text)
    assert status == 0, shown
    assert "The demonstration succeeded." in shown
    assert "ceo" not in shown
    assert terminal.text.count("\x1b[32m\x1b[1mvalid\x1b[0m: ") == 2
    assert terminal.text.count("\x1b[31m\x1b[1minvalid\x1b[0m: ") == 2
    table = shown.partition("$ jwt-audit tail sink")[2].partition("─")[0]
    assert table.count("alice") == 4
    assert [line for line in shown.splitlines() if cell_len(line) > 80] == []
    for changed in ("changed-spool", "changed-sink"):
        proof = shown.partition(f"$ jwt-audit verify --key public-key.pem {changed}")[2].partition("Trust:")[0]
        (wrong,) = [part for part in proof.partition("Streams:")[2].split("\n  ") if part.startswith("invalid")]
        assert "not proved; the first record that is wrong is 2" in proof
        assert "proved up to" not in wrong
