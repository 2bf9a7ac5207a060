"""`jwt-audit status` tells what is where, and changes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from click.testing import CliRunner

from jwt_audit.cli.main import main
from jwt_audit.ship import pause
from jwt_audit.spool.spool import Spool, Stream
from support.receivers import Receiver, Reply, receiving, records, until
from support.shipping import shipping
from support.spools import LiveStream, make_stream


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as found:
        yield found


def status(root: Path) -> dict[str, Any]:
    result = CliRunner().invoke(main, ["status", str(root), "--json"])
    assert result.exit_code == 0
    found: dict[str, Any] = orjson.loads(result.output)
    return found


def test_a_spool_that_nobody_ships(tmp_path: Path) -> None:
    """Written, signed, waiting; the table says the same."""
    live = LiveStream(tmp_path)
    live.request()
    live.head()
    live.request()
    dead, _ = make_stream(tmp_path, records=3, end=False, head_every=2)
    ended, _ = make_stream(tmp_path, records=1)
    before = sorted(path for path in tmp_path.rglob("*"))
    found = status(tmp_path)
    assert sorted(path for path in tmp_path.rglob("*")) == before
    streams = {one.pop("stream_id"): one for one in found["streams"]}
    sizes = {name: one.pop("bytes") for name, one in streams.items()}
    nothing = {"delivered": 0, "complete": False}
    assert streams == {
        live.id: {"alive": True, "ended": False, "records": 3, "undelivered": 3, "open_tail": 1, **nothing},
        dead.name: {"alive": False, "ended": False, "records": 4, "undelivered": 4, "open_tail": 0, **nothing},
        ended.name: {"alive": False, "ended": True, "records": 3, "undelivered": 3, "open_tail": 0, **nothing},
    }
    assert sum(sizes.values()) == found["bytes"] == Spool(tmp_path).usage()
    assert (found["records"], found["undelivered"], found["shipped_now"]) == (10, 10, False)
    assert (found["dead_letters"], found["pruned_streams"]) == (0, 0)
    shown = CliRunner().invoke(main, ["status", str(tmp_path)]).output
    rows = {line.split()[0]: line.split()[1:] for line in shown.splitlines() if line.startswith("2026")}
    assert rows[live.id][:5] == ["alive", "3", "0", "3", "1"]
    assert rows[dead.name][:5] == ["died", "4", "0", "4", "0"]
    assert rows[ended.name][:5] == ["ended", "3", "0", "3", "0"]
    assert "3 streams, 10 records, 10 waiting" in shown
    assert "no process is shipping" in shown
    live.close()


def test_a_spool_that_is_shipped(tmp_path: Path, receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """Delivered counts, dead letters, and that somebody ships; the asking disturbs no delivery."""
    monkeypatch.setattr(pause, "RETRY_SECONDS", (0.01, 0.01))
    live = LiveStream(tmp_path)
    dead, _ = make_stream(tmp_path, records=3, head_every=100)
    bad = (dead.name, 2)
    receiver.rule = lambda sent: Reply(400) if bad in {one.key for one in records(sent)} else Reply()
    with shipping(tmp_path, receiver.url):
        until(lambda: Stream(dead).cursor().done and Stream(live.path).cursor().number == 1)
        for _ in range(20):
            live.request()
            found = status(tmp_path)
            assert found["shipped_now"]
        until(lambda: Stream(live.path).cursor().number == 21)
        found = status(tmp_path)
    live.close()
    assert found["undelivered"] == 0
    assert found["dead_letters"] == 1
    assert all(one["complete"] for one in found["streams"])
    assert [one["delivered"] for one in found["streams"]] == [21, 5]


def test_what_is_no_spool_is_told(tmp_path: Path) -> None:
    """A directory without streams, and none at all."""
    result = CliRunner().invoke(main, ["status", str(tmp_path)])
    assert result.exit_code == 1
    assert f"cannot read the spool {tmp_path}" in result.output
    assert CliRunner().invoke(main, ["status", str(tmp_path / "gone")]).exit_code == 2
