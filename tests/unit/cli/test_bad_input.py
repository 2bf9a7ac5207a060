"""Whatever a command is given: a line that says what is wrong, an exit code, and never a traceback."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from jwt_audit.cli.main import BROKEN_PIPE, main
from support.receivers import COMMAND
from support.spools import make_stream


def rubbish(path: Path) -> None:
    path.write_bytes(os.urandom(5000))


def empty(path: Path) -> None:
    path.touch()


def text(path: Path) -> None:
    path.write_text("ein Brief\n" * 100)


def nested(path: Path) -> None:
    path.write_bytes(b'{"resourceLogs":' + b"[" * 100_000)


def letters(path: Path) -> None:
    path.mkdir()
    (path / "a letter").write_text("dear")


def hollow(path: Path) -> None:
    """A spool whose parts are of the wrong kind."""
    stream = path / "streams" / "20261125T120000Z-1"
    stream.mkdir(parents=True)
    (stream / "00000001.seg").mkdir()
    (stream / "heads").mkdir()
    (stream / "cursor").write_bytes(os.urandom(50))
    (path / "dead-letter").mkdir()
    (path / "ship.lock").write_bytes(b"\0\xff{")


def garbled(path: Path) -> None:
    """A spool whose files hold anything."""
    stream, _ = make_stream(path)
    for name in ("00000001.seg", "heads", "cursor"):
        (stream / name).write_bytes(os.urandom(3000) + b"\n" + os.urandom(3000))
    (path / "pruned").write_bytes(os.urandom(100))


def looped(path: Path) -> None:
    path.symlink_to(path)


def missing(path: Path) -> None:
    pass


INPUTS: list[Callable[[Path], None]] = [rubbish, empty, text, nested, letters, hollow, garbled, looped, missing]
COMMANDS: list[list[str]] = [
    ["status"],
    ["status", "--json"],
    ["tail"],
    ["tail", "--json", "--all"],
    ["verify"],
    ["verify", "--json"],
    ["verify", "--key"],
    ["ship", "--once", "--endpoint", "http://127.0.0.1:9/", "--protocol", "nonsense"],
]


@pytest.mark.parametrize("make", INPUTS, ids=lambda make: str(make.__name__))
@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_no_input_ends_in_a_traceback(tmp_path: Path, command: list[str], make: Callable[[Path], None]) -> None:
    """Files and directories of every kind, where a spool or an export was meant."""
    path = tmp_path / "given"
    make(path)
    more = [str(tmp_path)] if command[-1] == "--key" else []
    result = CliRunner().invoke(main, [*command, str(path), *more])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert result.exit_code in (0, 1, 2)
    assert result.output != "" or make is empty


@pytest.mark.parametrize("command", ["status", "verify"])
def test_output_that_nobody_reads_is_no_finding(tmp_path: Path, command: str) -> None:
    """Exit code 141, as of a death by SIGPIPE; 1 would say that something is wrong with the records."""
    make_stream(tmp_path)
    read, write = os.pipe()
    os.close(read)
    found = subprocess.run(
        [*COMMAND, command, str(tmp_path)], stdout=write, stderr=subprocess.PIPE, timeout=60, check=False
    )
    os.close(write)
    assert (found.returncode, found.stderr) == (BROKEN_PIPE, b"")
