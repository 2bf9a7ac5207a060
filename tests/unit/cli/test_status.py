"""`jwt-audit status` tells what is where, and changes nothing."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import orjson
import pytest
from click.testing import CliRunner

from jwt_audit.cli.main import main
from jwt_audit.errors import SpoolError
from jwt_audit.ship import pause
from jwt_audit.ship.backlog import undelivered
from jwt_audit.ship.turn import Turn
from jwt_audit.spool.spool import Spool
from jwt_audit.spool.stream import Cursor, Stream
from support.receivers import Receiver, Reply, receiving, records, until
from support.shipping import shipping
from support.spools import LiveStream, make_stream
from support.streams import START


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as found:
        yield found


def status(root: Path, *options: str, code: int = 0) -> dict[str, Any]:
    result = CliRunner().invoke(main, ["status", str(root), "--json", *options])
    assert result.exit_code == code, result.output
    found: dict[str, Any] = orjson.loads(result.output)
    return found


def table(root: Path, *options: str) -> str:
    return CliRunner().invoke(main, ["status", str(root), *options]).output


def kinds(found: dict[str, Any]) -> set[str]:
    return {problem["kind"] for problem in found["problems"]}


def test_a_spool_that_nobody_ships(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Written, signed, waiting since; the table says the same, and the exit code that somebody should look."""
    monkeypatch.setattr("jwt_audit.cli.status.time", SimpleNamespace(time=lambda: START / 1e9 + 1e7))
    live = LiveStream(tmp_path)
    live.request()
    live.head()
    live.request()
    dead, _ = make_stream(tmp_path, records=3, end=False, head_every=2)
    ended, _ = make_stream(tmp_path, records=1)
    before = sorted(path for path in tmp_path.rglob("*"))
    found = status(tmp_path, code=1)
    assert sorted(path for path in tmp_path.rglob("*")) == before
    streams = {one["stream_id"]: one for one in found["streams"]}
    said = {
        name: (one["writer"], one["records"], one["signed_up_to"], one["delivered_up_to"], one["backlog_records"])
        for name, one in streams.items()
    }
    assert said == {
        live.id: ("alive", 3, 2, 0, 3),
        dead.name: ("died", 4, 4, 0, 4),
        ended.name: ("ended", 3, 3, 0, 3),
    }
    assert sum(one["bytes"] for one in streams.values()) == found["bytes"] == Spool(tmp_path).usage()
    assert found["backlog_bytes"] == found["bytes"]
    assert not any(one["complete"] for one in streams.values())
    assert found["backlog_age"] == streams[live.id]["backlog_age"] > streams[ended.name]["backlog_age"] > 300
    assert (found["records"], found["backlog_records"], found["shipper"]) == (10, 10, None)
    assert (found["dead_letters"], found["pruned_streams"], found["limit"]) == (0, 0, 2**30)
    assert kinds(found) == {"backlog", "unsigned"}
    assert kinds(status(tmp_path, "--max-age", "9999d", code=1)) == {"unsigned"}
    shown = table(tmp_path)
    rows = {line.split()[0]: line.split()[1:] for line in shown.splitlines() if line.startswith("2026")}
    assert rows[live.id][:4] == ["alive", "3", "2", "0"]
    assert rows[dead.name][:4] == ["died", "4", "4", "0"]
    assert rows[ended.name][:4] == ["ended", "3", "3", "0"]
    assert "3 streams, 10 records;" in shown
    assert "no process is shipping" in shown
    assert "backlog: records have waited for" in shown
    live.close()


def test_a_spool_that_is_shipped(tmp_path: Path, receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who ships, what is delivered, dead letters; the asking disturbs no delivery."""
    monkeypatch.setattr(pause, "RETRY_SECONDS", (0.01, 0.01))
    live = LiveStream(tmp_path)
    dead, _ = make_stream(tmp_path, records=3, head_every=100)
    bad = (dead.name, 2)
    receiver.rule = lambda sent: Reply(400) if bad in {one.key for one in records(sent)} else Reply()
    with shipping(tmp_path, receiver.url):
        until(lambda: Stream(dead).cursor().done and Stream(live.path).cursor().number == 1)
        for _ in range(20):
            live.request()
            found = status(tmp_path, code=1)
            assert (found["shipper"]["role"], found["shipper"]["pid"]) == ("app", os.getpid())
        live.head()
        until(lambda: not undelivered(Stream(live.path)))
        found = status(tmp_path, code=1)
        assert f"shipped by a process of the app (pid {os.getpid()} on " in table(tmp_path)
    assert (found["backlog_records"], found["backlog_bytes"], found["backlog_age"]) == (0, 0, 0)
    assert all(one["complete"] for one in found["streams"])
    assert [one["delivered_up_to"] for one in found["streams"]] == [21, 5]
    assert (found["dead_letters"], kinds(found)) == (1, {"dead_letters"})
    (tmp_path / "dead-letter").rename(tmp_path / "dead-letter.seen")
    assert status(tmp_path)["problems"] == []
    shown = table(tmp_path)
    assert live.id in shown
    assert dead.name not in shown
    assert "1 more stream ended and delivered whole" in shown
    assert dead.name in table(tmp_path, "--all")
    live.close()


def test_a_spool_near_its_limit_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit is the shipper's own where one ships, else that of the environment."""
    path, _ = make_stream(tmp_path, records=1000)
    Stream(path).move_cursor(Cursor(done=True))
    monkeypatch.setenv("OTEL_PYTHON_JWT_AUDIT_SPOOL_LIMIT", "1MiB")
    assert kinds(status(tmp_path, code=1)) == {"near_limit"}
    turn = Turn(Spool(tmp_path), sidecar=True, limit=2**24)
    assert turn.take()
    assert status(tmp_path)["limit"] == 2**24
    turn.close()


def test_a_stream_that_cannot_be_read_hides_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is a problem of its own; one that was removed meanwhile is none."""
    bad, _ = make_stream(tmp_path)
    gone, _ = make_stream(tmp_path)
    good, _ = make_stream(tmp_path)
    real = Stream.segments

    def failing(stream: Stream) -> list[Path]:
        if stream.id == gone.name and gone.exists():
            shutil.rmtree(gone)
        if stream.id == bad.name:
            raise SpoolError(f"cannot read {stream.path} (Input/output error)")
        return real(stream)

    monkeypatch.setattr(Stream, "segments", failing)
    found = status(tmp_path, "--max-age", "9999d", code=1)
    assert [one["stream_id"] for one in found["streams"]] == [good.name]
    assert [problem["kind"] for problem in found["problems"]] == ["unreadable"]
    assert "Input/output error" in found["problems"][0]["detail"]


def test_an_empty_spool_is_in_order(tmp_path: Path) -> None:
    """Before the first record: an empty directory, one as a new file system has it, a spool without streams."""
    for name in ("", "lost+found", "streams"):
        (tmp_path / name).mkdir(exist_ok=True)
        assert status(tmp_path)["streams"] == []
        assert "0 streams, 0 records; nothing waits" in table(tmp_path)


def test_what_is_no_spool_is_told(tmp_path: Path) -> None:
    """Other things in the directory, no directory, a file: exit code 2, and nothing is made."""
    (tmp_path / "letters").touch()
    for path, said in (
        (tmp_path, "is no spool"),
        (tmp_path / "gone", "there is no"),
        (tmp_path / "letters", "is a file"),
    ):
        result = CliRunner().invoke(main, ["status", str(path)])
        assert result.exit_code == 2
        assert said in result.output
    assert [path.name for path in tmp_path.iterdir()] == ["letters"]


def test_without_an_argument_it_is_the_spool_of_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the variable, and by default where the service's name leads."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setenv("OTEL_SERVICE_NAME", "shop")
    path, _ = make_stream(tmp_path / "jwt-audit" / "shop")
    assert path.name in CliRunner().invoke(main, ["status"]).output
    other, _ = make_stream(tmp_path / "other")
    monkeypatch.setenv("OTEL_PYTHON_JWT_AUDIT_SPOOL", str(tmp_path / "other"))
    assert other.name in CliRunner().invoke(main, ["status"]).output


@pytest.mark.parametrize("given", ["x", "-1", "1w", "m", "٣", "1e3"])
def test_a_wrong_duration_is_told(tmp_path: Path, given: str) -> None:
    """With what would be right."""
    result = CliRunner().invoke(main, ["status", str(tmp_path), f"--max-age={given}"])
    assert result.exit_code == 2
    assert "write one such as 90s, 15m, 12h or 7d" in result.output
