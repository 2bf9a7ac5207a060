"""The benchmarks run, and lose nothing; how fast is for the machine that they are asked on."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import orjson
import pytest

ROOT = Path(__file__).resolve().parents[2]
FIGURES = {"requests": 4, "append": 1, "delivery": 2, "verify": 1, "startup": 3, "tokens": 6}


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=110, check=False)


@pytest.mark.parametrize("name", FIGURES)
def test_each_benchmark_runs_in_its_smallest_size(name: str) -> None:
    """One that loses a span or a record on the way raises, and that is exit code 1."""
    done = run(name, "--quick", "--json")
    assert done.returncode == 0, done.stderr
    figures = orjson.loads(done.stdout)["figures"]
    assert len(figures) == FIGURES[name]
    for figure in figures:
        assert figure["benchmark"] == name
        assert figure["p10"] <= figure["measured"] <= figure["p90"]


def test_a_benchmark_that_is_not_there_is_named() -> None:
    """A misspelt name runs nothing."""
    done = run("appends")
    assert done.returncode == 2
    assert "no such benchmark: appends" in done.stderr
