"""The pinned format: what was written once is read for ever, and is still written so."""

from __future__ import annotations

import os
from pathlib import Path

import click.testing
import orjson
import pytest

from jwt_audit.cli.main import main
from vectors.make import COMMAND, DATA, VECTORS, make, report


def files(root: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file() and path.name != "expected.json"
    }


def test_the_format_has_not_changed(tmp_path: Path) -> None:
    """The writers of today write every byte as it was pinned. A change here is a change of the format."""
    make(tmp_path / "data")
    assert files(tmp_path / "data") == files(DATA)


@pytest.mark.parametrize("name", VECTORS)
def test_a_vector_comes_out_as_written(name: str) -> None:
    """Exit code, kinds of problems and first bad record as the script says by hand; the whole report as it is kept."""
    vector = VECTORS[name]
    expected = orjson.loads((DATA / name / "expected.json").read_bytes())
    found = orjson.loads(report(DATA / name, vector))
    assert found == expected
    problems = [*found["problems"], *(one for stream in found["streams"] for one in stream["problems"])]
    assert {one["kind"] for one in problems} == vector.problems
    assert next((one["number"] for one in problems if one["number"]), None) == vector.first
    assert found["verdict"] == {0: "valid", 1: "invalid", 2: "incomplete"}[vector.exit]


@pytest.mark.parametrize("name", VECTORS)
def test_what_people_read_agrees(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same verdict in words, the first bad record among them, and no value of any record."""
    vector = VECTORS[name]
    monkeypatch.chdir(DATA / name)
    said = click.testing.CliRunner().invoke(main, ["verify", *vector.arguments])
    assert said.exit_code == vector.exit
    verdict = {0: "valid", 1: "invalid", 2: "incomplete"}[vector.exit]
    assert said.output.startswith(f"{verdict}: ")
    assert vector.first is None or f"record {vector.first}" in said.output
    assert "alice" not in said.output
    assert "mallo" not in said.output


def test_each_vector_is_kept() -> None:
    """Nothing lies about that no test reads."""
    assert {path.name for path in DATA.iterdir() if path.is_dir()} == set(VECTORS)
    assert os.access(COMMAND, os.X_OK)
