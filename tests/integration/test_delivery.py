"""Spool to sink by real processes: what was written is what arrives, and it is proved there."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

import orjson
import pytest

from jwt_audit import attributes as attr
from jwt_audit.spool.durable import Lock
from jwt_audit.spool.spool import Stream
from support.receivers import COMMAND, Reply, receiving, records, running_shipper, running_sink, until
from support.spools import LiveStream, make_stream


def verdict(*paths: Path) -> str:
    command = [*COMMAND, "verify", "--json", *map(str, paths)]
    found = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert found.stderr == ""
    return str(orjson.loads(found.stdout)["verdict"])


def end(process: subprocess.Popen[str]) -> str:
    """SIGTERM; what it said last."""
    assert process.stdout is not None
    process.send_signal(signal.SIGTERM)
    said = process.stdout.read()
    assert process.wait(20) == 0
    return said


@pytest.mark.parametrize("protocol", ["http/protobuf", "http/json"])
@pytest.mark.parametrize("path", ["/v1/logs", "/v1/audit"])
def test_a_spool_arrives_whole_and_is_proved_at_its_end(tmp_path: Path, protocol: str, path: str) -> None:
    """Live, ended and dead streams; the shipper's own statement among them; `verify` says valid of both sides."""
    spool = tmp_path / "spool"
    live = LiveStream(spool)
    ended, _ = make_stream(spool, records=700, head_every=100)
    died, _ = make_stream(spool, records=10, end=False)
    with (
        running_sink(tmp_path / "out") as sink,
        running_shipper(spool, sink.url + path, PROTOCOL=protocol) as shipper,
    ):
        until(lambda: Stream(ended).cursor().done and Stream(died).cursor().done)
        for _ in range(5):
            live.request()
        live.end()
        until(lambda: Stream(live.path).cursor().done)
        # The statement about the stream that died is a record too, in a stream of the shipper's own
        until(lambda: any(one.event == attr.EVENT_STREAM_RECOVERED for one in sink.audit()))
        assert end(shipper).endswith("stopped; all is delivered\n")
        sent = sink.audit()
    keys = [one.key for one in records(sent)]
    assert len(keys) == len(set(keys))
    expected = {(ended.name, number) for number in range(1, 703)} | {(died.name, number) for number in range(1, 12)}
    expected |= {(live.id, number) for number in range(1, 8)}
    (own,) = {stream for stream, _ in keys} - {stream for stream, _ in expected}
    assert set(keys) - expected == {(own, number) for number in range(1, 4)}
    (recovered,) = [one for one in sent if one.event == attr.EVENT_STREAM_RECOVERED]
    assert recovered.attributes[attr.RECOVERED_STREAM] == died.name
    assert verdict(tmp_path / "out" / "audit.jsonl") == "valid"
    assert verdict(spool) == "valid"
    assert (tmp_path / "out" / "logs.jsonl").read_bytes() == b""


def test_a_second_shipper_waits_and_takes_over_after_a_kill(tmp_path: Path) -> None:
    """It says so; nothing is sent by two at once, and the kernel frees the lock of the killed one."""
    spool = tmp_path / "spool"
    live = LiveStream(spool)
    with receiving() as receiver, running_shipper(spool, receiver.url) as first:
        until(lambda: Stream(live.path).cursor().number == 1)
        with running_shipper(spool, receiver.url) as second:
            live.request()
            until(lambda: Stream(live.path).cursor().number == 2)
            assert len(receiver.requests) == 2
            first.send_signal(signal.SIGKILL)
            first.wait(10)
            live.request()
            until(lambda: Stream(live.path).cursor().number == 3)
            assert "all is delivered" in end(second)
    assert [one.key[1] for one in records(receiver.acknowledged)] == [1, 2, 3]
    live.close()


def test_a_shipper_that_is_stopped_keeps_the_spool(tmp_path: Path) -> None:
    """SIGSTOP is no death: the other does not send what the first may be sending; both go on after SIGCONT."""
    spool = tmp_path / "spool"
    live = LiveStream(spool)
    with receiving() as receiver, running_shipper(spool, receiver.url) as first:
        until(lambda: Stream(live.path).cursor().number == 1)
        first.send_signal(signal.SIGSTOP)
        with running_shipper(spool, receiver.url) as second:
            live.request()
            with pytest.raises(AssertionError):
                until(lambda: len(receiver.requests) > 1, seconds=2)
            first.send_signal(signal.SIGCONT)
            until(lambda: Stream(live.path).cursor().number == 2)
            end(second)
        end(first)
    assert [one.key[1] for one in records(receiver.acknowledged)] == [1, 2]
    live.close()


def test_the_sidecar_tells_what_is_wrong_and_what_is_left(tmp_path: Path) -> None:
    """Settings by their variables, a receiver that refuses; never a header's value; the spool keeps all."""
    spool = tmp_path / "spool"
    path, _ = make_stream(spool, records=3)
    with receiving() as receiver:
        receiver.rule = lambda _: Reply(403)
        headers = "authorization=Bearer%20s3cr3t-value"
        with running_shipper(spool, receiver.url, HEADERS=headers, RETENTION="long") as shipper:
            until(lambda: len(receiver.requests) > 0)
            said = end(shipper)
        assert receiver.headers[0]["authorization"] == "Bearer s3cr3t-value"
    assert "answered 403: check the HEADERS" in said
    assert said.endswith("stopped; undelivered records wait in the spool\n")
    assert "s3cr3t" not in said
    assert Stream(path).cursor().number == 0


def test_a_spool_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    """In one line, with exit code 1."""
    (tmp_path / "file").touch()
    command = [*COMMAND, "ship", str(tmp_path / "file" / "spool")]
    found = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert found.returncode == 1
    assert found.stderr == f"Error: cannot make the spool {tmp_path / 'file' / 'spool'} (Not a directory)\n"


def test_the_own_stream_of_the_sidecar_is_made_only_when_it_has_something_to_say(tmp_path: Path) -> None:
    """A spool in order gets no further stream, and the lock is free after the end."""
    spool = tmp_path / "spool"
    path, _ = make_stream(spool, records=3)
    with receiving() as receiver, running_shipper(spool, receiver.url) as shipper:
        until(lambda: Stream(path).cursor().done)
        end(shipper)
    assert [one.name for one in (spool / "streams").iterdir()] == [path.name]
    assert not Lock.held(spool / "ship.lock")
