"""The command starts at once and finds its subcommands only when they are asked for."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from jwt_audit.cli.main import COMMANDS, main
from jwt_audit.errors import SpoolError
from support.spools import make_stream

HEAVY = ("opentelemetry", "google.protobuf", "starlette", "uvicorn", "urllib3", "rich", "jwt")


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_each_command_of_the_table_is_there(name: str) -> None:
    """With a help text; under the name by which it is called."""
    found = main.get_command(click.Context(main), name)
    assert found is not None
    assert found.name == name
    result = CliRunner().invoke(main, [name, "--help"])
    assert result.exit_code == 0
    assert result.output.startswith(f"Usage: main {name}")


def test_the_list_is_the_table() -> None:
    """Sorted, each with one line of help."""
    result = CliRunner().invoke(main, ["-h"])
    assert result.exit_code == 0
    assert main.list_commands(click.Context(main)) == sorted(COMMANDS)
    for name in COMMANDS:
        assert f"\n  {name} " in result.output


def test_an_unknown_command_is_told() -> None:
    """As click does, with exit code 2, and with the name that may have been meant."""
    result = CliRunner().invoke(main, ["verfy"])
    assert result.exit_code == 2
    assert "No such command 'verfy'. Did you mean 'verify'?" in result.output


def test_a_command_can_be_added_and_taken_away() -> None:
    """As in any click group."""

    @click.command()
    def extra() -> None:
        raise SpoolError("the disk is gone")

    main.add_command(extra)
    try:
        result = CliRunner().invoke(main, ["extra"])
        assert (result.exit_code, result.output) == (1, "Error: the disk is gone\n")
    finally:
        del main.commands["extra"]
    assert len(main.commands) == len(COMMANDS)


def test_verify_loads_nothing_heavy() -> None:
    """Seen in a process of its own."""
    code = (
        "import sys\nfrom jwt_audit.cli.main import main\n"
        "try:\n main(['verify', '--help'])\nexcept SystemExit:\n pass\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert found.stderr == "[]\n"
    assert "Usage:" in found.stdout


@pytest.mark.parametrize("command", ["tail", "status", "verify"])
def test_a_spool_that_is_not_there_is_answered_with_those_that_are(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without an argument it is the one of this environment; an unknown one lists the others."""
    for name in (*(name for name in os.environ if name.startswith("OTEL_")), "XDG_STATE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setenv("OTEL_SERVICE_NAME", "order")
    path, _ = make_stream(tmp_path / "jwt-audit" / "orders", records=1)
    result = CliRunner().invoke(main, [command])
    assert result.exit_code == 2
    assert f"there is no {tmp_path / 'jwt-audit' / 'order'}; there are " in " ".join(result.output.split())
    assert str(tmp_path / "jwt-audit" / "orders") in result.output.replace("\n", "")
    monkeypatch.setenv("OTEL_SERVICE_NAME", "orders")
    result = CliRunner().invoke(main, [command])
    assert result.exit_code in (0, 1), result.output
    assert path.name in result.output or command == "tail"
