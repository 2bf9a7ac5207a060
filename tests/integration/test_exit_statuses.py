"""What a script learns of a command: status 1 of `verify` is a verdict, and nothing else has it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from jwt_audit.cli.main import BROKEN_PIPE, COMMANDS, FAULT, INTERRUPTED, NO_OUTPUT, SAID_BY_ONE
from support.receivers import COMMAND
from support.spools import make_stream
from support.streams import START

SECONDS = 60
SECRET = "secret-of-a-request"

AT_WORK = """
import sys, time
from importlib import import_module
from jwt_audit.cli.main import main
module, name, what = sys.argv.pop(1), sys.argv.pop(1), sys.argv.pop(1)
def work(*_, **__):
    if what == "sleep":
        print("at work", file=sys.stderr, flush=True)
        time.sleep(60)
    raise eval(what)
setattr(import_module(module), name, work)
main()
"""
"""The command, of which one part, named by the first two arguments, takes a minute or raises."""

PARTS = {
    "sink": ("jwt_audit.sink.server", "serve"),
    "ship": ("jwt_audit.cli.ship", "Spool"),
    "status": ("jwt_audit.cli.status", "streams"),
    "tail": ("jwt_audit.cli.tail", "Several"),
    "token": ("jwt_audit.cli.token", "load"),
    "verify": ("jwt_audit.cli.verify", "judge"),
}
"""A part of each command that it comes to in the middle of its work."""


def arguments(command: str, spool: Path) -> list[str]:
    """Of each command, with which it has something to do and to say."""
    given = {
        "sink": ["--port", "0", str(spool.parent / "sink")],
        "ship": ["--once", "--endpoint", "http://127.0.0.1:9/", str(spool)],
        "token": ["inspect"],
    }
    return [command, *given.get(command, [str(spool)])]


SAYING = [
    *([command] for command in sorted(COMMANDS) if command != "sink"),
    *([command, "--json"] for command in ("status", "tail", "verify")),
    ["tail", "-f"],
    ["--help"],
    ["--version"],
    *([command, "--help"] for command in sorted(COMMANDS)),
]
"""Commands that end by themselves, or would if they could say what they have to."""


def whole(words: list[str], spool: Path) -> list[str]:
    if words[0] not in COMMANDS or words[-1] == "--help":
        return [*COMMAND, *words]
    return [*COMMAND, *arguments(words[0], spool), *words[1:]]


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    """A spool that verify finds invalid: its own status would be 1."""
    path, _ = make_stream(tmp_path / "spool", now=START)
    segment = path / "00000001.seg"
    segment.write_bytes(segment.read_bytes().replace(b"alice", b"blice", 1))
    return tmp_path / "spool"


def test_every_command_has_its_part() -> None:
    """Else a new one would not be looked at here."""
    assert set(PARTS) == set(COMMANDS)


def test_invalid_is_one(spool: Path) -> None:
    """With its output and without; and an answer that was given whole is what it is."""
    for options in ([], ["--json"], ["--quiet"]):
        assert subprocess.run([*COMMAND, "verify", *options, spool], capture_output=True, check=False).returncode == 1


@pytest.mark.parametrize("words", SAYING, ids=" ".join)
def test_output_that_cannot_be_written_is_no_answer(spool: Path, words: list[str]) -> None:
    """On a full device and a closed descriptor; in a pipe that nobody reads it is a death by SIGPIPE."""
    command = whole(words, spool)
    gone, pipe = os.pipe()
    os.close(gone)

    def run(**options: object) -> tuple[int, str]:
        found = subprocess.run(  # type: ignore[call-overload]
            command, input=b"token", stderr=subprocess.PIPE, timeout=SECONDS, check=False, **options
        )
        return found.returncode, found.stderr.decode()

    with Path("/dev/full").open("wb") as full:
        status, said = run(stdout=full)
    assert status == NO_OUTPUT, said
    assert "the output could not be written (No space left on device)" in said
    assert "Traceback" not in said
    status, said = run(preexec_fn=lambda: os.close(1))
    assert status == NO_OUTPUT, said
    assert "the output could not be written" in said
    assert "Traceback" not in said
    status, said = run(stdout=pipe)
    os.close(pipe)
    assert status == (0 if words[0] == "tail" and words[-1] != "--help" else BROKEN_PIPE), said
    assert "Traceback" not in said
    assert "written" not in said


@pytest.mark.parametrize("stdout", ["/dev/full", None])
def test_a_sink_serves_though_nobody_can_be_told(tmp_path: Path, stdout: str | None) -> None:
    """It works, and its status tells in the end; so does `ship`."""
    out = None if stdout is None else Path(stdout).open("wb")  # noqa: SIM115  # closed below
    command = [*COMMAND, *arguments("sink", tmp_path / "spool")]
    closing = (lambda: os.close(1)) if out is None else None
    with subprocess.Popen(command, stdout=out, stderr=subprocess.PIPE, preexec_fn=closing) as sink:
        deadline = time.monotonic() + SECONDS
        while not (tmp_path / "sink").is_dir():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        time.sleep(0.5)
        assert sink.poll() is None
        sink.terminate()
        _, said = sink.communicate(timeout=SECONDS)
    if out is not None:
        out.close()
    assert sink.returncode == NO_OUTPUT, said


def test_messages_that_cannot_be_written_change_nothing(spool: Path) -> None:
    """Standard error is for people; the answer is given all the same."""
    with Path("/dev/full").open("wb") as full:
        for command, status in (("verify", 1), ("status", 1)):
            found = subprocess.run(
                [*COMMAND, command, spool], stdout=subprocess.PIPE, stderr=full, timeout=SECONDS, check=False
            )
            assert found.returncode == status
            assert found.stdout


def test_a_closed_descriptor_is_no_file_of_the_spool(tmp_path: Path) -> None:
    """With all three closed, what is opened next does not become standard output: nothing is written into evidence."""
    path, _ = make_stream(tmp_path)
    before = {one: one.read_bytes() for one in path.iterdir()}
    for command in ("verify", "status", "tail"):
        subprocess.run(
            [*COMMAND, command, tmp_path], preexec_fn=lambda: os.closerange(0, 3), timeout=SECONDS, check=False
        )
    assert {one: one.read_bytes() for one in path.iterdir()} == before


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, INTERRUPTED), (signal.SIGTERM, -signal.SIGTERM)])
@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_a_signal_is_no_answer(spool: Path, command: str, number: signal.Signals, status: int) -> None:
    """In the middle of the work: the status that a shell knows it by, and nothing on the screen."""
    given = [sys.executable, "-c", AT_WORK, *PARTS[command], "sleep", *arguments(command, spool)]
    with subprocess.Popen(given, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        assert process.stderr.readline() == b"at work\n"
        process.send_signal(number)
        _, said = process.communicate(timeout=SECONDS)
    assert (process.returncode, said) == (status, b"")


FAULTS = {
    "RuntimeError": FAULT,
    "KeyError": FAULT,
    "MemoryError": FAULT,
    "RecursionError": FAULT,
    "EOFError": FAULT,
    "SystemExit": FAULT,
    "OSError": 2,
    "import_module('jwt_audit.errors').SpoolError": 2,
}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: str(fault.rpartition(".")[2]))
@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_a_failure_is_no_answer(spool: Path, command: str, fault: str) -> None:
    """One of ours is told as that, without what it was about; an error of what is read is 2 where 1 is an answer."""
    raised = f"{fault}({SECRET!r})"
    found = subprocess.run(
        [sys.executable, "-c", AT_WORK, *PARTS[command], raised, *arguments(command, spool)],
        input=b"token",
        capture_output=True,
        timeout=SECONDS,
        check=False,
    )
    said = found.stderr.decode()
    assert found.returncode == (FAULTS[fault] if FAULTS[fault] == FAULT or command in SAID_BY_ONE else 1), said
    assert "Traceback" not in said
    if FAULTS[fault] == FAULT and fault != "SystemExit":
        assert "a fault of jwt-audit itself" in said
        assert fault in said
        assert SECRET not in said
