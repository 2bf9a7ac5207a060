"""`jwt-audit tail` as people run it: followed, in a pipe, on a terminal."""

from __future__ import annotations

import fcntl
import os
import pty
import signal
import struct
import subprocess
import termios
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest

from jwt_audit.spool import writer as segments
from support.receivers import COMMAND, running_shipper, running_sink
from support.spools import LiveStream, make_stream

SECONDS = 60


@contextmanager
def tailing(*arguments: object, **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    """A running `jwt-audit tail`; killed in the end where it still runs."""
    command = [*COMMAND, "tail", *map(str, arguments)]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
    process: subprocess.Popen[bytes]
    with subprocess.Popen(command, **pipes) as process:
        try:
            yield process
        finally:
            process.kill()


def next_row(process: subprocess.Popen[bytes]) -> dict[str, Any]:
    assert process.stdout is not None
    found: dict[str, Any] = orjson.loads(process.stdout.readline())
    return found


def test_a_spool_is_followed_from_before_its_first_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Through new segments, the end of a process and a new one; then SIGINT ends it."""
    monkeypatch.setattr(segments, "SEGMENT_BYTES", 3000)
    with tailing("-f", "--json", tmp_path / "spool") as tail:
        assert tail.stderr is not None
        assert b"there are no records yet" in tail.stderr.readline()
        for process in range(2):
            live = LiveStream(tmp_path / "spool")
            for number in range(6):
                live.request(f"/{process}/{number}")
                assert next_row(tail)["endpoint"] == f"/{process}/{number}"
            assert len(list(live.path.glob("*.seg"))) > 1
            live.end()
        tail.send_signal(signal.SIGINT)
        out, errors = tail.communicate(timeout=SECONDS)
    assert (tail.returncode, out, errors) == (130, b"", b"")


def test_a_file_of_the_sink_is_followed(tmp_path: Path) -> None:
    """While a shipper delivers to it, with a filter."""
    live = LiveStream(tmp_path / "spool")
    with (
        running_sink(tmp_path / "out") as sink,
        running_shipper(tmp_path / "spool", f"{sink.url}/v1/audit"),
        tailing("-f", "--json", "--user", "alice", tmp_path / "out" / "audit.jsonl") as tail,
    ):
        for number in range(3):
            live.request(f"/{number}")
            live.head()
            assert next_row(tail)["endpoint"] == f"/{number}"
    live.close()


def test_the_last_lines_and_then_what_comes(tmp_path: Path) -> None:
    """As `tail -n 2 -f`."""
    live = LiveStream(tmp_path)
    for number in range(5):
        live.request(f"/{number}")
    with tailing("-f", "-n", "2", "--json", tmp_path) as tail:
        assert [next_row(tail)["endpoint"] for _ in range(2)] == ["/3", "/4"]
        live.request("/5")
        assert next_row(tail)["endpoint"] == "/5"
    live.close()


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_a_reader_that_has_seen_enough_is_no_error(tmp_path: Path, options: list[str]) -> None:
    """More than a pipe holds is there; nothing is said and the exit code is 0."""
    make_stream(tmp_path, records=1500, head_every=1000)
    with tailing(tmp_path, *options) as tail:
        assert tail.stdout is not None
        assert tail.stdout.readline()
        tail.stdout.close()
        assert tail.stderr is not None
        said = tail.stderr.read()
        assert tail.wait(SECONDS) == 0
    assert b"Traceback" not in said
    assert b"Broken" not in said


def test_a_follower_whose_reader_has_gone_ends_though_nothing_comes(tmp_path: Path) -> None:
    """Else `tail -f | head -1` would wait for the next request."""
    live = LiveStream(tmp_path)
    live.request()
    with tailing("-f", "--json", tmp_path) as tail:
        assert next_row(tail)["user_id"] == "alice"
        assert tail.stdout is not None
        tail.stdout.close()
        assert tail.wait(SECONDS) == 0
    live.close()


def test_on_a_terminal_it_has_its_width(tmp_path: Path) -> None:
    """Lines as long as the terminal is wide, whatever a request carried; nothing that a terminal obeys but ours."""
    live = LiveStream(tmp_path)
    live.request("/orders/7", annotations={"enduser.id": "\x1b]0;owned\x07" + "é日本" * 20})
    main, side = pty.openpty()
    fcntl.ioctl(side, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 130, 0, 0))
    environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "NO_COLOR")}
    with tailing(tmp_path, stdout=side, env=environment | {"TERM": "xterm-256color"}) as tail:
        os.close(side)
        shown = b""
        try:
            while more := os.read(main, 4096):
                shown += more
        except OSError:
            pass  # the terminal was closed by its last process
        assert tail.wait(SECONDS) == 0
    os.close(main)
    live.close()
    header, line = shown.decode().splitlines()
    assert header.startswith("TIME")
    assert len(line) <= 130
    assert "…" in line
    assert "\x1b" not in line
    assert "\x07" not in line


def test_output_that_cannot_be_encoded_here_is_none(tmp_path: Path) -> None:
    """In a C locale too: what is written is UTF-8."""
    live = LiveStream(tmp_path)
    live.request("/größe")
    environment = os.environ | {"PYTHONIOENCODING": "ascii", "LC_ALL": "C"}
    with tailing(tmp_path, "--json", env=environment) as tail:
        assert next_row(tail)["endpoint"] == "/größe"
        assert tail.wait(SECONDS) == 0
    live.close()
