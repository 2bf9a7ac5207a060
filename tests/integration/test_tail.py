"""`jwt-audit tail` as people run it: followed, in a pipe, on a terminal."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest
from rich.cells import cell_len

from jwt_audit.ship.encode import JsonEncoder, record_form
from jwt_audit.sources.growing_spool import GrowingSpool
from jwt_audit.spool import writer as segments
from support.receivers import COMMAND, running_shipper, running_sink
from support.spools import LiveStream, make_stream
from support.streams import START
from support.terminal import on_terminal

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


@pytest.mark.parametrize("columns", [52, 60, 80])
def test_on_a_terminal_it_has_its_width(tmp_path: Path, columns: int) -> None:
    """No line is longer than the terminal is wide, whatever a request carried, and a terminal obeys none of it."""
    live = LiveStream(tmp_path, now=START)
    live.request("/orders/7", annotations={"enduser.id": "\x1b]0;owned\x07" + "é日本" * 20})
    live.request("/orders/8")
    live.close()
    with on_terminal([*COMMAND, "tail", tmp_path], columns) as terminal:
        assert terminal.end() == 0
    note, header, date, *rows = terminal.text.splitlines()
    assert "not verified" in note
    assert header.startswith("TIME      WHO")
    assert date == "2026-11-25 (UTC)"
    assert len(rows) == 2
    assert max(map(cell_len, terminal.text.splitlines())) <= columns
    assert "…" in rows[0]
    assert "alice" in rows[1]
    assert "verified" in rows[1]
    assert terminal.text.replace("\n", "").isprintable()


@pytest.mark.parametrize(
    ("environment", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)]
)
def test_refused_tokens_are_red_where_colours_are_wanted(
    tmp_path: Path, environment: dict[str, str], coloured: bool
) -> None:
    """On a terminal, unless it or the user has said no."""
    live = LiveStream(tmp_path)
    live.request(annotations={"jwt.status": "invalid"})
    live.close()
    with on_terminal([*COMMAND, "tail", tmp_path], 100, **environment) as terminal:
        assert terminal.end() == 0
    assert ("\x1b[31m" in terminal.text) == coloured
    assert ("\x1b" in terminal.text) == coloured


def test_a_followed_table_follows_its_terminal(tmp_path: Path) -> None:
    """What comes after a change of the window has the new width, below a header of its own; then Ctrl-C ends it."""
    live = LiveStream(tmp_path)
    live.request("/before")
    with on_terminal([*COMMAND, "tail", "-f", tmp_path], 120) as terminal:
        terminal.until(lambda text: text.count("alice") == 1)
        assert "SESSION" in terminal.text
        terminal.resize(60)
        live.request("/after")
        terminal.until(lambda text: text.count("alice") == 2)
        terminal.process.send_signal(signal.SIGINT)
        assert terminal.end() == 130
    live.close()
    _, header = (line for line in terminal.text.splitlines() if line.startswith("TIME"))
    assert "SESSION" not in header
    assert max(map(cell_len, terminal.text.splitlines()[-2:])) <= 60


def test_following_begins_at_the_end(tmp_path: Path) -> None:
    """With the last ten, as tail does; with all since a time where that is said; and with none by -n 0."""
    live = LiveStream(tmp_path / "spool")
    for number in range(30):
        live.request(f"/{number}")
    for options, first in (((), 20), (("--since", "2026-01-01"), 0), (("-n", "2"), 28)):
        with tailing("-f", "--json", *options, tmp_path / "spool") as tail:
            assert [next_row(tail)["endpoint"] for _ in range(30 - first)] == [f"/{one}" for one in range(first, 30)]
    with tailing("-f", "--json", "-n", "0", tmp_path / "spool") as tail:
        time.sleep(2)
        live.request("/new")
        assert next_row(tail)["endpoint"] == "/new"
    live.close()


def test_what_is_removed_and_rotated_while_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Segments that retention takes from under it, and streams: what is left is shown, and nothing is wrong."""
    monkeypatch.setattr(segments, "SEGMENT_BYTES", 3000)
    ended, live = LiveStream(tmp_path), LiveStream(tmp_path)
    for number in range(20):
        ended.request(f"/ended/{number}")
        live.request(f"/live/{number}")
    ended.end()
    source = GrowingSpool(tmp_path)
    latest = source.latest(whole=False)
    assert next(latest).attributes["url.path"] == "/live/19"
    shutil.rmtree(ended.path)
    for path in sorted(live.path.glob("*.seg"))[:-2]:
        path.unlink()
    live.request("/live/20")
    rest = [seen.attributes.get("url.path") for seen in latest]
    assert rest[0] == "/live/18"
    assert len(rest) < 20
    assert [seen.attributes["url.path"] for seen in source.poll()] == ["/live/20"]
    assert (source.failures, source.unread) == ([], 0)
    live.close()


def test_several_spools_are_followed(tmp_path: Path) -> None:
    """As one: what any of them gets comes at once, also of one that is not there yet."""
    first = LiveStream(tmp_path / "a")
    with tailing("-f", "--json", tmp_path / "a", tmp_path / "b") as tail:
        first.request("/a")
        assert next_row(tail)["endpoint"] == "/a"
        second = LiveStream(tmp_path / "b")
        second.request("/b")
        assert next_row(tail)["endpoint"] == "/b"
        first.request("/a/2")
        assert next_row(tail)["endpoint"] == "/a/2"
    first.close()
    second.close()


def test_output_that_cannot_be_encoded_here_is_none(tmp_path: Path) -> None:
    """In a C locale too: what is written is UTF-8."""
    live = LiveStream(tmp_path)
    live.request("/größe")
    environment = os.environ | {"PYTHONIOENCODING": "ascii", "LC_ALL": "C"}
    with tailing(tmp_path, "--json", env=environment) as tail:
        assert next_row(tail)["endpoint"] == "/größe"
        assert tail.wait(SECONDS) == 0
    live.close()


def test_a_named_pipe_is_read_to_its_end(tmp_path: Path) -> None:
    """As what a shell makes of ``<(zcat audit.jsonl.gz)``."""
    live = LiveStream(tmp_path / "spool")
    live.request("/piped")
    live.close()
    encoder = JsonEncoder()
    part = encoder.record(record_form(*live.lines[-1], carry=True))
    os.mkfifo(tmp_path / "pipe")
    with tailing("--json", "-n", "5", tmp_path / "pipe", tmp_path / "spool") as tail:
        (tmp_path / "pipe").write_bytes(encoder.request(encoder.resource({}), [part]) + b"\n")
        assert next_row(tail)["endpoint"] == "/piped"
        assert tail.communicate(timeout=SECONDS)[0] == b"", "what both have is shown once"
        assert tail.returncode == 0


def test_a_file_that_is_not_there_yet_is_waited_for(tmp_path: Path) -> None:
    """The sink makes it with its first record."""
    live = LiveStream(tmp_path / "spool")
    with tailing("-f", "--json", tmp_path / "out" / "audit.jsonl") as tail:
        time.sleep(1)
        with (
            running_sink(tmp_path / "out") as sink,
            running_shipper(tmp_path / "spool", f"{sink.url}/v1/audit"),
        ):
            live.request("/first")
            live.head()
            assert next_row(tail)["endpoint"] == "/first"
    live.close()
