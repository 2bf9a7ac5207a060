"""The shipper delivers every stream, moves a cursor only after an acknowledgement, and gives up nothing."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import orjson
import pytest

from jwt_audit import attributes as attr
from jwt_audit.settings.variables import PREFIX
from jwt_audit.ship import batch as batches
from jwt_audit.ship import deliver, pause
from jwt_audit.ship import shipper as shippers
from jwt_audit.ship.answers import Action
from jwt_audit.ship.http import Endpoint
from jwt_audit.spool.durable import Lock, LockState
from jwt_audit.spool.segment import segment_name
from jwt_audit.spool.spool import Spool
from jwt_audit.spool.stream import Cursor, Stream
from support.receivers import Receiver, Reply, Sent, partial, receiving, records, until
from support.shipping import Shipping, shipping
from support.spools import LiveStream, make_stream


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as found:
        yield found


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses of hundredths of seconds."""
    monkeypatch.setattr(pause, "RETRY_SECONDS", (0.01, 0.05))
    monkeypatch.setattr(pause, "HOLD_SECONDS", (0.02, 0.05))
    monkeypatch.setattr(shippers, "_LOCK_SECONDS", 0.05)


def done(path: Path) -> bool:
    return Stream(path).cursor().done


def dead_letters(root: Path) -> list[dict[str, object]]:
    return [orjson.loads(line) for line in (root / "dead-letter").read_bytes().splitlines()]


def all_of(path: Path, count: int) -> set[tuple[str, int]]:
    return {(path.name, number) for number in range(1, count + 1)}


@pytest.mark.parametrize("protocol", ["http/protobuf", "http/json"])
def test_streams_are_delivered_live_and_dead(tmp_path: Path, receiver: Receiver, protocol: str) -> None:
    """With their resource, their canonical bytes, their heads after their records, and an end to it."""
    if protocol == "http/json":
        receiver.rule = lambda _: Reply(body=b"{}", headers={"Content-Type": "application/json"})
    dead, _ = make_stream(tmp_path, records=10)
    live = LiveStream(tmp_path)
    with shipping(tmp_path, receiver.url, protocol=protocol):
        until(lambda: done(dead))
        live.request("/later")
        head = live.head()
        until(lambda: Stream(live.path).cursor().heads == len(head.line))
    live.close()
    sent = [one for request in receiver.requests for one in request]
    assert {one.key for one in records(sent)} == all_of(dead, 12) | all_of(live.path, 2)
    assert len(records(sent)) == 14
    assert all(one.resource["service.name"] == "shop" for one in sent)
    assert all(one.resource[attr.INTEGRITY_ALGORITHM] == "EdDSA" for one in sent)
    assert {one.attributes[attr.INTEGRITY_CANONICAL].encode() for one in records(sent)} >= {
        data for data, _ in live.lines
    }
    (delivered,) = [one for one in sent if one.event == attr.EVENT_HEAD and one.key == (live.id, 2)]
    assert delivered.attributes[attr.INTEGRITY_VALUE] == head.signature_text
    assert not Stream(live.path).cursor().done


def test_the_cursor_is_never_ahead_of_an_acknowledgement(
    tmp_path: Path, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seen by the receiver itself, at the moment when it has a batch and has not answered."""
    monkeypatch.setattr(batches, "MAX_RECORDS", 3)
    path, _ = make_stream(tmp_path, records=20)
    seen: list[tuple[int, int]] = []

    def look(sent: list[Sent]) -> Reply:
        first = min((one.key[1] for one in records(sent)), default=0)
        seen.append((Stream(path).cursor().number, first))
        return Reply() if len(seen) % 2 else Reply(503)

    receiver.rule = look
    with shipping(tmp_path, receiver.url):
        until(lambda: done(path))
    assert all(cursor < first for cursor, first in seen if first)
    assert len(seen) > 10
    assert receiver.delivered() == all_of(path, 22)


PASSING = {
    "503": Reply(503),
    "429": Reply(429, headers={"Retry-After": "0"}),
    "502": Reply(502),
    "504": Reply(504),
    "408": Reply(408),
    "500": Reply(500),
    "302": Reply(302, headers={"Location": "http://127.0.0.1:9/"}),
    "html": Reply(200, b"<html>", {"Content-Type": "text/html"}),
    "202": Reply(202),
    "reset": Reply(act="reset"),
    "close": Reply(act="close"),
    "garbage": Reply(act="garbage"),
    "hang": Reply(act="hang"),
    "401": Reply(401),
    "403": Reply(403),
    "404": Reply(404),
    "415": Reply(415),
}


@pytest.mark.parametrize("name", PASSING)
def test_nothing_is_lost_while_a_receiver_does_this(tmp_path: Path, receiver: Receiver, name: str) -> None:
    """Twice, then it is well again: all arrives, nothing is in the dead letter, nothing counted as delivered before."""
    reply = PASSING[name]
    path, _ = make_stream(tmp_path, records=3)
    receiver.script += [reply, reply]
    with shipping(tmp_path, receiver.url, timeout=0.3) as found:
        until(lambda: len(receiver.requests) == 3)
        until(lambda: done(path))
    assert receiver.delivered() == all_of(path, 5)
    assert not (tmp_path / "dead-letter").exists()
    assert [attempt.action for attempt in found.attempts][-1] is Action.ACK
    assert Action.ACK not in [attempt.action for attempt in found.attempts][:2]


def test_a_wrong_configuration_is_told_once_and_so_is_its_end(tmp_path: Path, receiver: Receiver) -> None:
    """Though it is tried many times; without any header's value."""
    path, _ = make_stream(tmp_path, records=3)
    receiver.script += [Reply(401)] * 6
    with shipping(tmp_path, receiver.url, headers=(("Authorization", "Bearer s3cr3t"),)) as found:
        until(lambda: done(path))
    assert len(found.told) == 2
    assert found.told[0].startswith(f"{PREFIX}ENDPOINT: {receiver.url} answered 401: check the HEADERS")
    assert found.told[1] == f"{PREFIX}ENDPOINT: {receiver.url} takes audit records again"
    assert "s3cr3t" not in str(found.told)


@pytest.mark.parametrize("status", [400, 413, 422, 409])
@pytest.mark.parametrize("poison", [{4}, {1}, {12}, {2, 3, 9}])
def test_a_record_that_is_refused_is_set_aside_and_told(
    tmp_path: Path, receiver: Receiver, status: int, poison: set[int]
) -> None:
    """It alone: the rest is delivered, and the statement names what the verifier needs to explain the hole."""
    path, _ = make_stream(tmp_path, records=10, head_every=100)

    def rule(sent: list[Sent]) -> Reply:
        bad = any(one.key == (path.name, number) for one in records(sent) for number in poison)
        return Reply(status, b"\x12\x03bad") if bad else Reply()

    receiver.rule = rule
    with shipping(tmp_path, receiver.url) as found:
        until(lambda: done(path))
    assert receiver.delivered() == all_of(path, 12) - {(path.name, number) for number in poison}
    letters = dead_letters(tmp_path)
    assert [letter["number"] for letter in letters] == sorted(poison)
    lines = (path / segment_name(1)).read_bytes().splitlines()
    for letter, statement in zip(letters, found.events(attr.EVENT_UNDELIVERED), strict=True):
        number = letter["number"]
        assert isinstance(number, int)
        payload, _, digest = lines[number - 1].rpartition(b"\t")
        assert letter["canonical"] == payload.decode()
        attributes = orjson.loads(payload)["attributes"]
        previous = {attr.UNDELIVERED_PREVIOUS: attributes[attr.PREVIOUS_HASH]["stringValue"]} if number > 1 else {}
        assert statement == {
            **previous,
            attr.OUTCOME: "failure",
            attr.UNDELIVERED_STREAM: path.name,
            attr.UNDELIVERED_NUMBER: number,
            attr.UNDELIVERED_HASH: digest.decode(),
            attr.UNDELIVERED_ID: attributes[attr.RECORD_ID]["stringValue"],
            attr.UNDELIVERED_REASON: f"{receiver.url} answered {status} (bad)",
        }
    assert len(found.told) == 1


@pytest.mark.parametrize("count", [1, 2, 99])
def test_a_partial_success_is_no_acknowledgement(tmp_path: Path, receiver: Receiver, count: int) -> None:
    """What stays rejected alone is set aside, whatever count the receiver names for the batch."""
    path, _ = make_stream(tmp_path, records=10, head_every=100)
    rejected = {(path.name, 3)} if count == 1 else {(path.name, 3), (path.name, 8)}

    def rule(sent: list[Sent]) -> Reply:
        bad = sum(one.key in rejected for one in records(sent))
        return partial(bad, "too old") if bad else Reply()

    receiver.rule = rule
    if count == 99:
        receiver.rule = lambda sent: partial(len(sent), "all")
    with shipping(tmp_path, receiver.url) as found:
        until(lambda: done(path))
    if count == 99:
        assert len(dead_letters(tmp_path)) == 13
        assert len(receiver.requests) == 1
        return
    assert receiver.delivered() == all_of(path, 12) - rejected
    assert {(path.name, letter["number"]) for letter in dead_letters(tmp_path)} == rejected
    assert "rejected records (too old)" in str(found.events(attr.EVENT_UNDELIVERED)[0][attr.UNDELIVERED_REASON])


def test_a_head_that_is_refused_is_kept_whole(tmp_path: Path, receiver: Receiver) -> None:
    """With its signature: it can be given to the verifier from the dead letter."""
    path, _ = make_stream(tmp_path, records=3, head_every=100)
    receiver.rule = lambda sent: Reply(400) if any(one.event == attr.EVENT_HEAD for one in sent) else Reply()
    with shipping(tmp_path, receiver.url):
        until(lambda: done(path))
    (letter,) = dead_letters(tmp_path)
    assert f"{letter['canonical']}\t{letter['value']}\n".encode() == (path / "heads").read_bytes()


@pytest.mark.parametrize("well_after", range(1, 16))
def test_a_receiver_that_becomes_well_while_its_refusals_are_sorted_loses_nothing(
    tmp_path: Path, receiver: Receiver, well_after: int
) -> None:
    """A record that was refused alone while all was refused is asked again before it is taken for bad."""
    path, _ = make_stream(tmp_path, records=6, head_every=100)
    receiver.rule = lambda _: Reply(400) if len(receiver.requests) <= well_after else Reply()
    with shipping(tmp_path, receiver.url):
        until(lambda: done(path))
    assert receiver.delivered() == all_of(path, 8)
    assert not (tmp_path / "dead-letter").exists()


def test_a_receiver_that_refuses_everything_is_not_believed(tmp_path: Path, receiver: Receiver) -> None:
    """A plain request to a TLS port is answered 400: that is a wrong endpoint, not a spool full of bad records."""
    path, _ = make_stream(tmp_path, records=300, head_every=1000)
    well = threading.Event()
    receiver.rule = lambda _: Reply() if well.is_set() else Reply(400)
    with shipping(tmp_path, receiver.url) as found:
        until(lambda: len(receiver.requests) > 60)
        assert Stream(path).cursor() == Cursor()
        assert not (tmp_path / "dead-letter").exists()
        well.set()
        until(lambda: done(path))
    assert receiver.delivered() == all_of(path, 302)
    assert "answered 400, whatever is sent" in found.told[0]
    assert len(found.told) == 2
    assert len([request for request in receiver.requests if not request]) > 1  # it was asked without records too


def test_a_receiver_that_refuses_empty_requests_is_believed_for_what_else_it_took(
    tmp_path: Path, receiver: Receiver
) -> None:
    """Loki does so. A bad record alone waits until another came: then one is taken and one is not."""
    live = LiveStream(tmp_path)

    def rule(sent: list[Sent]) -> Reply:
        return Reply(400) if not sent or any(one.key == (live.id, 1) for one in sent) else Reply()

    receiver.rule = rule
    with shipping(tmp_path, receiver.url):
        until(lambda: len(receiver.requests) > 6)
        assert not (tmp_path / "dead-letter").exists()
        live.request()
        until(lambda: receiver.delivered() == {(live.id, 2)})
        until(lambda: Stream(live.path).cursor().number == 2)
    live.close()
    assert [letter["number"] for letter in dead_letters(tmp_path)] == [1]


def test_statements_of_undelivered_records_do_not_beget_statements(tmp_path: Path, receiver: Receiver) -> None:
    """A receiver that rejects everything would else fill the spool with them."""
    live = LiveStream(tmp_path)
    live.system(attr.EVENT_UNDELIVERED, {attr.UNDELIVERED_NUMBER: 1}, "one")
    receiver.rule = lambda sent: partial(len(sent))
    with shipping(tmp_path, receiver.url) as found:
        until(lambda: Stream(live.path).cursor().number == 2)
    live.close()
    assert len(dead_letters(tmp_path)) == 2
    assert [one[attr.UNDELIVERED_NUMBER] for one in found.events(attr.EVENT_UNDELIVERED)] == [1]


def test_what_was_acknowledged_is_not_sent_again_while_the_statement_cannot_be_written(
    tmp_path: Path, receiver: Receiver
) -> None:
    """The own stream is full: the cursor waits, the dead letter has one line, the receiver hears nothing more."""
    path, _ = make_stream(tmp_path, records=6, head_every=100)
    receiver.rule = lambda sent: Reply(400) if any(one.key[1] == 4 for one in records(sent)) else Reply()
    with shipping(tmp_path, receiver.url) as found:
        found.refuse = True
        until(lambda: (tmp_path / "dead-letter").exists())
        asked = len(receiver.requests)
        time.sleep(0.2)
        assert len(receiver.requests) == asked
        assert Stream(path).cursor().number == 0
        found.refuse = False
        until(lambda: done(path))
        assert len(receiver.requests) == asked
    assert len(dead_letters(tmp_path)) == 1
    assert len(found.events(attr.EVENT_UNDELIVERED)) == 1


def test_a_line_that_is_no_record_is_set_aside(tmp_path: Path, receiver: Receiver) -> None:
    """With its bytes; what follows it is delivered."""
    path, _ = make_stream(tmp_path, records=4, head_every=100)
    data = bytearray((path / segment_name(1)).read_bytes())
    data[len(data) // 2] ^= 1
    (path / segment_name(1)).write_bytes(data)
    with shipping(tmp_path, receiver.url) as found:
        until(lambda: done(path))
    (letter,) = dead_letters(tmp_path)
    assert str(letter["raw"]).encode("latin-1") in data
    (statement,) = found.events(attr.EVENT_UNDELIVERED)
    assert receiver.delivered() == all_of(path, 6) - {(path.name, statement[attr.UNDELIVERED_NUMBER])}


def test_a_stream_without_an_end_is_told_of_once(tmp_path: Path, receiver: Receiver) -> None:
    """How far it came, which head it has, how much was torn; not again by the next shipper; never of an ended one."""
    path, _ = make_stream(tmp_path, records=11, end=False, head_every=5)
    ended, _ = make_stream(tmp_path, records=1)
    with (path / segment_name(1)).open("ab") as file:
        file.write(b'{"torn')
    with shipping(tmp_path, receiver.url) as found:
        until(lambda: done(path) and done(ended))
    (statement,) = found.events(attr.EVENT_STREAM_RECOVERED)
    last = (path / segment_name(1)).read_bytes().splitlines()[-2][-64:].decode()
    assert statement == {
        attr.RECOVERED_STREAM: path.name,
        attr.RECOVERED_NUMBER: 12,
        attr.RECOVERED_HASH: last,
        attr.RECOVERED_HEAD: 10,
    }
    assert "6 torn bytes" in found.emitted[0][2]
    with shipping(tmp_path, receiver.url) as again:
        time.sleep(0.2)
    assert again.emitted == []


def test_the_statement_of_a_recovery_waits_for_a_stream_that_takes_it(tmp_path: Path, receiver: Receiver) -> None:
    """And the stream is not finished before."""
    path, _ = make_stream(tmp_path, records=1, end=False)
    with shipping(tmp_path, receiver.url) as found:
        found.refuse = True
        until(lambda: Stream(path).cursor().number == 2)
        time.sleep(0.1)
        assert not done(path)
        found.refuse = False
        until(lambda: done(path))
    assert len(found.events(attr.EVENT_STREAM_RECOVERED)) == 1


def test_a_stream_that_never_held_a_record_is_passed_over(tmp_path: Path, receiver: Receiver) -> None:
    """Nothing is said of it."""
    stream = LiveStream(tmp_path)
    stream.close()
    (stream.path / segment_name(1)).unlink()
    with shipping(tmp_path, receiver.url) as found:
        until(lambda: done(stream.path))
    assert found.emitted == []
    assert receiver.requests == []


def test_one_stream_that_cannot_be_read_holds_up_no_other(tmp_path: Path, receiver: Receiver) -> None:
    """It is told of once, and goes on when it can be read again."""
    broken, _ = make_stream(tmp_path, records=1)
    good, _ = make_stream(tmp_path, records=1)
    (broken / segment_name(1)).rename(tmp_path / "away")
    (broken / segment_name(1)).mkdir()
    with shipping(tmp_path, receiver.url) as found:
        until(lambda: done(good))
        until(lambda: len(found.told) > 0)
        assert not done(broken)
        (broken / segment_name(1)).rmdir()
        (tmp_path / "away").rename(broken / segment_name(1))
        until(lambda: done(broken))
    assert len(found.told) == 1
    assert "Is a directory" in found.told[0]


def test_a_cursor_that_cannot_be_written_holds_nothing_up(
    tmp_path: Path, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each record is sent once by this shipper, and it is said what a restart would do."""

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("jwt_audit.spool.durable.replace", fail)
    monkeypatch.setattr(batches, "MAX_RECORDS", 3)
    path, _ = make_stream(tmp_path, records=8)
    with shipping(tmp_path, receiver.url) as found:
        until(lambda: len(receiver.delivered()) == 10)
        until(lambda: found.shipper.cursor(Stream(path)).done)
        assert not done(path)
        time.sleep(0.1)
    assert len(records(receiver.acknowledged)) == 10
    assert len(found.told) == 1
    assert "No space left" in found.told[0]


def test_a_mistake_of_ours_does_not_end_delivery(
    tmp_path: Path, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The thread goes on, and what failed is named by its type alone."""
    calls = iter([RuntimeError("secret"), RuntimeError("secret")])
    real = deliver.Courier.deliver

    def failing(*args: object) -> object:
        for error in calls:
            raise error
        return real(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(deliver.Courier, "deliver", failing)
    path, _ = make_stream(tmp_path, records=1)
    with shipping(tmp_path, receiver.url) as found:
        until(lambda: done(path))
    assert len(found.told) == 1
    assert "a failure (RuntimeError)" in found.told[0]
    assert "secret" not in found.told[0]


def test_stop_delivers_what_is_there(tmp_path: Path, receiver: Receiver) -> None:
    """And says that nothing is left; a second stop is harmless."""
    live = LiveStream(tmp_path)
    with shipping(tmp_path, receiver.url) as found:
        until(lambda: len(receiver.requests) == 1)
        for _ in range(100):
            live.request()
        live.end()
        assert found.shipper.stop(10)
        assert found.shipper.stop(10)
        assert Lock.state(tmp_path / "ship.lock") is LockState.FREE
    assert receiver.delivered() == all_of(live.path, 102)


@pytest.mark.parametrize("reply", [Reply(503), Reply(401), Reply(400), Reply(act="hang")])
def test_stop_does_not_wait_for_a_receiver_that_is_not_well(tmp_path: Path, receiver: Receiver, reply: Reply) -> None:
    """It ends in its time and says that something is left, which stays in the spool."""
    path, _ = make_stream(tmp_path, records=3)
    receiver.rule = lambda _: reply
    with shipping(tmp_path, receiver.url, timeout=30) as found:
        until(lambda: len(receiver.requests) > 0)
        started = time.monotonic()
        assert not found.shipper.stop(0.5)
        assert time.monotonic() - started < 15
        receiver.released.set()
    assert Stream(path).cursor() == Cursor()
    assert found.told == [] or reply.status in (400, 401)


def test_stop_without_start_looks_at_the_spool(tmp_path: Path, receiver: Receiver) -> None:
    """A process that never shipped can tell as well."""
    said = Shipping()
    path, _ = make_stream(tmp_path, records=3)
    shipper = shippers.Shipper(
        Spool(tmp_path),
        Endpoint(receiver.url),
        emit=said.emit,
        settle=said.settle,
        suppress=nullcontext,
        warn_operator=said.warn_operator,
        retention=1,
    )
    assert not shipper.stop(0)
    Stream(path).move_cursor(Cursor(done=True))
    assert shipper.stop(0)


def test_one_ships_and_the_other_takes_over(tmp_path: Path, receiver: Receiver) -> None:
    """While the first lives the second sends nothing."""
    live = LiveStream(tmp_path)
    with shipping(tmp_path, receiver.url) as first:
        until(lambda: len(receiver.requests) == 1)
        with shipping(tmp_path, receiver.url) as second:
            live.request()
            until(lambda: Stream(live.path).cursor().number == 2)
            assert second.attempts == []
            assert first.shipper.stop(10)
            live.request()
            until(lambda: Stream(live.path).cursor().number == 3)
            assert len(second.attempts) == 1
    live.close()
    assert len(records(receiver.acknowledged)) == 3


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # from 3.12 on fork beside threads warns
def test_a_forked_child_lets_go_without_unlocking(tmp_path: Path, receiver: Receiver) -> None:
    """The parent still holds the lock after the child has abandoned and died, and still delivers."""
    live = LiveStream(tmp_path)
    with shipping(tmp_path, receiver.url) as found:
        until(lambda: len(receiver.requests) == 1)
        child = os.fork()
        if child == 0:
            found.shipper.abandon()
            os._exit(0 if Lock.state(tmp_path / "ship.lock") is LockState.HELD else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert Lock.state(tmp_path / "ship.lock") is LockState.HELD
        live.request()
        until(lambda: Stream(live.path).cursor().number == 2)
    live.close()


def test_streams_that_come_later_are_found(tmp_path: Path, receiver: Receiver) -> None:
    """Also many within one tick of the file system's clock."""
    with shipping(tmp_path, receiver.url):
        for _ in range(3):
            paths = [make_stream(tmp_path, records=1)[0] for _ in range(5)]
            until(lambda paths=paths: all(done(path) for path in paths))  # type: ignore[misc]


def test_a_stream_that_somebody_removes_is_forgotten(tmp_path: Path, receiver: Receiver) -> None:
    """And nothing is said of it."""
    live = LiveStream(tmp_path)
    with shipping(tmp_path, receiver.url) as found:
        until(lambda: Stream(live.path).cursor().number == 1)
        live.close()
        live.path.rename(tmp_path / "removed")  # at once: half a stream would be told of
        other, _ = make_stream(tmp_path, records=1)
        until(lambda: done(other))
    assert found.told == []


def test_wake_shortens_the_wait(tmp_path: Path, receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """Though the poll would come much later."""
    live = LiveStream(tmp_path)
    with shipping(tmp_path, receiver.url) as found:
        until(lambda: Stream(live.path).cursor().number == 1)
        found.shipper._poll = 60.0
        time.sleep(0.1)
        live.request()
        found.shipper.wake()
        until(lambda: Stream(live.path).cursor().number == 2, seconds=50)
    live.close()


def test_what_is_written_while_a_batch_is_sent_waits_for_the_next(
    tmp_path: Path, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a busy app would have a request made of each few records. What one batch does not hold waits for nothing."""
    monkeypatch.setattr(batches, "MAX_RECORDS", 10)
    live = LiveStream(tmp_path)
    with shipping(tmp_path, receiver.url) as found:
        until(lambda: Stream(live.path).cursor().number == 1)
        found.shipper._poll = 60.0
        time.sleep(0.1)
        before = len(receiver.requests)

        def write(_: list[Sent]) -> Reply:
            live.request()
            return Reply()

        receiver.rule = write
        for _ in range(25):
            live.request()
        found.shipper.wake()
        until(lambda: Stream(live.path).cursor().number >= 26)
        time.sleep(0.2)
        sizes = [len(request) for request in receiver.requests[before:]]
        assert sizes == [10, 10, 7]
        found.shipper.wake()
        until(lambda: Stream(live.path).cursor().number == 29)
    live.close()
