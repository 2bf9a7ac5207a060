"""Evidence that stays where it is: nothing is sent, and only what the operator has set removes a record."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path

import orjson
import pytest
from click.testing import CliRunner

from jwt_audit import assembly, room
from jwt_audit import attributes as attr
from jwt_audit.attributes import Value
from jwt_audit.cli.main import main
from jwt_audit.errors import SpoolError
from jwt_audit.evidence.record import request_record
from jwt_audit.request import Request
from jwt_audit.settings.environment import load
from jwt_audit.ship import keeper as module
from jwt_audit.ship import prune
from jwt_audit.ship.keeper import Keeper
from jwt_audit.ship.turn import Turn
from jwt_audit.spool import writer as segments
from jwt_audit.spool.spool import Spool
from jwt_audit.spool.stream import Cursor, Stream
from opentelemetry.instrumentation.jwt_audit.hooks.boundary import new_request
from support.audited import auditing
from support.receivers import receiving, until
from support.shipping import shipping
from support.spools import LiveStream, make_stream

DAY = 86400.0


def request_of() -> Request:
    made = new_request("http", "GET", "/orders", None)
    made.status = 200
    return made


class Keeping:
    """A keeper whose clock and stream are the test's."""

    def __init__(self, root: Path, *, retention: float = DAY, limit: int = 2**30) -> None:
        self.said: list[tuple[str, int, str]] = []
        self.ends: list[tuple[str, int, str, int]] = []
        self.settles = True
        self.told: list[str] = []
        self.ahead = 0.0
        self.keeper = Keeper(
            Spool(root),
            emit=self.emit,
            settle=lambda: self.settles,
            warn_operator=lambda message, **_: self.told.append(message),
            retention=retention,
            limit=limit,
            now=lambda: time.time() + self.ahead,
        )

    def emit(self, event: str, attributes: Mapping[str, Value], body: str) -> None:
        if event == attr.EVENT_STREAM_RECOVERED:
            names = (attr.RECOVERED_STREAM, attr.RECOVERED_NUMBER, attr.RECOVERED_HASH, attr.RECOVERED_HEAD)
            stream_id, number, digest, head = (attributes[name] for name in names)
            assert isinstance(number, int)
            assert isinstance(head, int)
            self.ends.append((str(stream_id), number, str(digest), head))
            return
        assert event == attr.EVENT_STREAM_PRUNED
        number = attributes[attr.PRUNED_NUMBER]
        assert isinstance(number, int)
        self.said.append((str(attributes[attr.PRUNED_STREAM]), number, body))

    def run(self, ahead: float = 0.0) -> None:
        self.ahead = ahead
        self.keeper.once()


def test_a_living_stream_keeps_its_last_segment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Older segments go after their time, each with a statement that says that it was not for delivery."""
    monkeypatch.setattr(segments, "SEGMENT_BYTES", 4000)
    live = LiveStream(tmp_path)
    for _ in range(20):
        live.request()
    live.head()
    before = Stream(live.path).segments()
    keeping = Keeping(tmp_path)
    keeping.run(ahead=DAY / 2)
    assert Stream(live.path).segments() == before
    keeping.run(ahead=2 * DAY)
    assert Stream(live.path).segments() == before[-1:]
    assert len(keeping.said) == len(before) - 1
    assert {body.partition(" up to ")[0] for *_, body in keeping.said} == {"retention removed a local segment"}
    assert Stream(live.path).cursor() == Cursor()
    live.close()
    keeping.keeper.abandon()


def test_a_stream_that_is_over_goes_by_segments_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under pressure no more than is needed; the whole with its last segment, and its last head is kept."""
    monkeypatch.setattr(segments, "SEGMENT_BYTES", 4000)
    path, _ = make_stream(tmp_path, records=40)
    for age, segment in enumerate(reversed(Stream(path).segments())):
        os.utime(segment, (time.time() - age,) * 2)
    size, count = Spool(tmp_path).usage(), len(Stream(path).segments())
    keeping = Keeping(tmp_path, limit=size)
    keeping.run()
    assert 1 < len(Stream(path).segments()) < count
    assert size / 2 < Spool(tmp_path).usage() < size * prune.PRESSURE
    keeping.run(ahead=2 * DAY)
    assert len(Stream(path).segments()) == 1
    keeping.run(ahead=2 * DAY)
    assert not path.exists()
    assert (tmp_path / "pruned").read_bytes().count(b"\n") == 1
    assert keeping.said[-1] == (path.name, 42, "retention removed a local stream up to record 42")
    keeping.keeper.abandon()


def test_what_is_left_is_delivered_once_there_is_an_endpoint(tmp_path: Path) -> None:
    """No cursor was moved."""
    path, _ = make_stream(tmp_path, records=3)
    keeping = Keeping(tmp_path)
    keeping.run()
    keeping.keeper.abandon()
    with receiving() as receiver, shipping(tmp_path, receiver.url):
        until(lambda: Stream(path).cursor().done)
        assert {(path.name, number) for number in range(1, 6)} <= receiver.delivered()


def dead(root: Path) -> LiveStream:
    """A stream as ``kill -9`` leaves it: its last head covers two records of four, and a line is torn."""
    stream = LiveStream(root)
    stream.request()
    stream.head()
    stream.requests(2)
    stream.close()
    with Stream(stream.path).segments()[-1].open("ab") as file:
        file.write(b'{"torn')
    return stream


def test_where_a_dead_stream_broke_off_is_stated_once(tmp_path: Path) -> None:
    """Not of one that lives or has ended, nor of one that a shipper has finished; and not again after a restart."""
    stream = dead(tmp_path)
    make_stream(tmp_path, records=3)
    delivered, _ = make_stream(tmp_path, records=3, end=False)
    Stream(delivered).move_cursor(Cursor(done=True))
    live = LiveStream(tmp_path)
    live.request()
    for expected in ([(stream.id, 4, stream.lines[-1][1], 2)], []):
        keeping = Keeping(tmp_path)
        keeping.run()
        keeping.run()
        keeping.keeper.abandon()
        assert keeping.ends == expected
    assert Stream(stream.path).cursor() == Cursor()
    live.close()


def test_what_is_not_signed_is_not_noted(tmp_path: Path) -> None:
    """It is stated once, however long no signature is to be had; one that dies meanwhile leaves it to the next."""
    stream = dead(tmp_path)
    keeping = Keeping(tmp_path)
    keeping.settles = False
    for _ in range(3):
        with pytest.raises(SpoolError, match="could not be stated under a signature"):
            keeping.run()
    assert len(keeping.ends) == 1
    assert not Stream(stream.path).recovered()
    keeping.keeper.abandon()
    after = Keeping(tmp_path)
    after.run()
    assert after.ends == keeping.ends
    assert Stream(stream.path).recovered()
    after.keeper.abandon()


def test_of_a_stream_whose_lock_cannot_be_told_nothing_is_stated(tmp_path: Path) -> None:
    """It is not known to be dead: it is kept, and nothing is said of it."""
    stream = dead(tmp_path)
    lock = stream.path / "lock"
    content = lock.read_bytes()
    lock.unlink()
    keeping = Keeping(tmp_path)
    keeping.run(ahead=2 * DAY)
    assert (keeping.ends, stream.path.exists()) == ([], True)
    lock.write_bytes(content)
    keeping.run()
    assert [one[:2] for one in keeping.ends] == [(stream.id, 4)]
    keeping.keeper.abandon()


def test_a_sidecar_goes_first(tmp_path: Path) -> None:
    """`jwt-audit ship --endpoint URL` gets the spool, and nothing is removed beside it."""
    path, _ = make_stream(tmp_path, records=3)
    keeping = Keeping(tmp_path)
    keeping.run()
    sidecar = Turn(Spool(tmp_path), sidecar=True, limit=1)
    assert not sidecar.take()
    keeping.run(ahead=2 * DAY)
    assert sidecar.take()
    keeping.run(ahead=2 * DAY)
    assert path.exists()
    sidecar.close()
    keeping.run(ahead=2 * DAY)
    assert not path.exists()
    keeping.keeper.abandon()


def test_what_goes_wrong_is_told_once_and_it_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In its thread, which nothing ends."""
    monkeypatch.setattr(module, "_LOOK_SECONDS", 0.01)
    keeping = Keeping(tmp_path)
    calls: list[int] = []

    def failing() -> None:
        calls.append(1)
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(keeping.keeper, "once", failing)
    keeping.keeper.start()
    until(lambda: len(calls) > 2)
    assert keeping.keeper.stop(10)
    assert all("met [Errno 5] Input/output error; it goes on" in message for message in keeping.told)


def test_a_local_spool_stays_within_its_limit_and_is_proved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """More than twice the limit is written, with a restart in between: nothing is lost, what went is stated."""
    monkeypatch.setattr(segments, "SEGMENT_BYTES", 16 * 1024)
    monkeypatch.setattr(room, "_SURVEY_TICKS", 1)
    limit = 2**20
    config, problems = load({}, spool=tmp_path / "spool", endpoint="none", spool_limit=limit)
    assert problems == []
    spool = Spool(config.spool)
    for _ in range(2):
        recorder = assembly.recorder(config, spool, resource=lambda: "{}", on_tick=lambda: None)
        keeper = assembly.delivery(config, spool, emit=recorder.state, settle=recorder.settle, suppress=nullcontext)
        assert isinstance(keeper, Keeper)
        for _ in range(30):
            for _ in range(50):
                request = request_of()
                recorder.append(request_record(request, attr.EVENT_REQUEST, ended=request.clock))
            recorder.settle()
            keeper.once()
            assert spool.usage() < limit
        assert recorder.lost == 0
        keeper.abandon()
        recorder.close()
    result = CliRunner().invoke(main, ["verify", "--json", str(spool.root)])
    found = orjson.loads(result.output)
    assert found["verdict"] == "valid"
    assert "pruned" in {one["kind"] for stream in found["streams"] for one in stream["warnings"]}


def test_a_local_stream_says_so(tmp_path: Path) -> None:
    """In its first record, with what retention is set to; and `status` says it without being told."""
    with auditing(tmp_path, endpoint="none", retention="30d", spool_limit="2GiB") as audited:
        audited.pipeline.finish(request_of())
        first = audited.records()[0].attributes
        assert (first[attr.STREAM_LOCAL], first[attr.STREAM_RETENTION], first[attr.STREAM_LIMIT]) == (
            True,
            30 * 86400,
            2 * 2**30,
        )
        spool = audited.spool
    result = CliRunner().invoke(main, ["status", "--max-age", "0s", str(spool)])
    assert result.exit_code == 0, result.output
    assert "they stay here: nothing is delivered (ENDPOINT=none)" in result.output
    assert "no process is looking after it" in result.output


def test_a_stream_that_is_to_be_delivered_says_nothing_of_it(tmp_path: Path) -> None:
    """So that the absence of the attribute means delivery."""
    with auditing(tmp_path) as audited:
        audited.pipeline.finish(request_of())
        assert attr.STREAM_LOCAL not in audited.records()[0].attributes


def test_the_command_that_delivers_says_that_nothing_is_to_be(tmp_path: Path) -> None:
    """With an option for once."""
    make_stream(tmp_path, records=1)
    variables = {"OTEL_PYTHON_JWT_AUDIT_ENDPOINT": "none"}
    result = CliRunner().invoke(main, ["ship", "--once", str(tmp_path)], env=variables)
    assert result.exit_code == 2
    assert "OTEL_PYTHON_JWT_AUDIT_ENDPOINT is none: nothing is to be delivered" in result.output


@pytest.mark.parametrize("value", ["none", "None", " NONE "])
def test_none_is_an_endpoint(value: str) -> None:
    """In any case; as a variable and as an argument."""
    by_variable, problems = load({"OTEL_PYTHON_JWT_AUDIT_ENDPOINT": value})
    assert (by_variable.local, problems) == (True, [])
    by_argument, problems = load({}, endpoint=value)
    assert (by_argument.local, problems) == (True, [])
    assert not load({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://h:4318"})[0].local
