"""Faults of delivery, with real processes: what was written arrives, under one id, or is told of."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import orjson
import pytest

from jwt_audit import attributes as attr
from jwt_audit.evidence import heads as signed_heads
from jwt_audit.spool.stream import Stream
from support.receivers import (
    COMMAND,
    PROTOBUF,
    Reply,
    Sent,
    partial,
    receiving,
    records,
    running_shipper,
    running_sink,
    until,
)
from support.spools import LiveStream, make_stream

SECONDS = 60.0


def verdict(*paths: Path) -> tuple[str, str]:
    """What `jwt-audit verify` says, and all of it for a failing test."""
    command = [*COMMAND, "verify", "--json", *map(str, paths)]
    found = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    return str(orjson.loads(found.stdout)["verdict"]), found.stdout


def one_id_each(sent: list[Sent]) -> set[tuple[str, int]]:
    """The places of what was received; a record that came twice came with the same id and the same bytes."""
    known: dict[tuple[str, int], tuple[str, str]] = {}
    ids: dict[str, tuple[str, int]] = {}
    for one in records(sent):
        what = (one.attributes[attr.RECORD_ID], one.attributes[attr.INTEGRITY_CANONICAL])
        assert known.setdefault(one.key, what) == what
        assert ids.setdefault(what[0], one.key) == one.key
    return set(known)


def places(stream: Path, count: int) -> set[tuple[str, int]]:
    return {(stream.name, number) for number in range(1, count + 1)}


FAULTS = {
    "busy": Reply(429, headers={"Retry-After": "1"}),
    "away": Reply(503),
    "broken off in the answer": Reply(act="cut"),
    "reset": Reply(act="reset"),
    "closed": Reply(act="close"),
    "no http": Reply(act="garbage"),
    "redirect": Reply(307, headers={"Location": "http://127.0.0.1:9/"}),
    "page": Reply(200, b"<html>sign in</html>", {"Content-Type": "text/html"}),
    "other form": Reply(200, b"ok", {"Content-Type": "text/plain"}),
    "rubbish": Reply(200, b"\xff\xff\xff", {"Content-Type": PROTOBUF}),
    "slow": Reply(act="drip"),
    "hanging": Reply(act="hang"),
}


def test_the_shipper_outlives_whatever_a_receiver_does(tmp_path: Path) -> None:
    """Each fault meets a batch of its own; nothing is given up, nothing is taken for delivered that was not."""
    streams = {name: make_stream(tmp_path, records=3)[0] for name in FAULTS}
    faults = {path.name: FAULTS[name] for name, path in streams.items()}
    with receiving() as receiver:

        def rule(sent: list[Sent]) -> Reply:
            return faults.pop(sent[0].key[0], Reply())

        receiver.rule = rule
        with running_shipper(tmp_path, receiver.url, TIMEOUT="0.5"):
            until(lambda: all(Stream(path).cursor().done for path in streams.values()))
        assert faults == {}
        expected = set().union(*(places(path, 5) for path in streams.values()))
        assert receiver.delivered() == one_id_each(receiver.acknowledged) == expected
        assert len(receiver.requests) >= 2 * len(FAULTS)
    assert not (tmp_path / "dead-letter").exists()


def test_a_receiver_is_not_asked_before_it_said(tmp_path: Path) -> None:
    """Retry-After is the least that is waited."""
    make_stream(tmp_path, records=1)
    asked: list[float] = []
    with receiving() as receiver:

        def rule(_: list[Sent]) -> Reply:
            asked.append(time.monotonic())
            return Reply(429, headers={"Retry-After": "2"}) if len(asked) == 1 else Reply()

        receiver.rule = rule
        with running_shipper(tmp_path, receiver.url):
            until(lambda: len(asked) > 1)
    assert asked[1] - asked[0] >= 2


def test_a_receiver_without_gzip_is_told_of_and_served_without(tmp_path: Path) -> None:
    """It is held, with the variable's name; nothing is set aside."""
    path, _ = make_stream(tmp_path, records=3)
    with receiving() as receiver:
        receiver.rule = lambda _: Reply(415) if "content-encoding" in receiver.headers[-1] else Reply()
        with running_shipper(tmp_path, receiver.url, COMPRESSION="gzip") as shipper:
            assert shipper.stdout is not None
            assert "answered 415: check PROTOCOL and COMPRESSION" in shipper.stdout.readline()
        assert Stream(path).cursor().number == 0
        with running_shipper(tmp_path, receiver.url, COMPRESSION="none"):
            until(lambda: Stream(path).cursor().done)
    assert not (tmp_path / "dead-letter").exists()


def test_what_is_refused_is_stated_and_explains_the_hole(tmp_path: Path) -> None:
    """By 400, 413 or a partial success: kept in the dead letter, stated in a stream, and `verify` knows of it."""
    stream, _ = make_stream(tmp_path / "spool", records=20)
    bad = {5: Reply(400), 9: Reply(413), 13: partial(1, "no")}
    taken: list[bytes] = []
    with receiving() as receiver:

        def rule(sent: list[Sent]) -> Reply:
            for one in records(sent):
                if one.key[0] == stream.name and one.key[1] in bad:
                    return bad[one.key[1]]
            taken.append(receiver.bodies[-1])
            return Reply(body=b"{}", headers={"Content-Type": "application/json"})

        receiver.rule = rule
        with running_shipper(tmp_path / "spool", receiver.url, PROTOCOL="http/json") as shipper:
            until(lambda: Stream(stream).cursor().done)
            shipper.send_signal(signal.SIGTERM)
            assert shipper.wait(SECONDS) == 0
    (tmp_path / "audit.jsonl").write_bytes(b"\n".join(taken) + b"\n")
    kept = [orjson.loads(line) for line in (tmp_path / "spool" / "dead-letter").read_bytes().splitlines()]
    assert {one["number"] for one in kept if one["event_name"] != attr.EVENT_HEAD} == set(bad)
    found, said = verdict(tmp_path / "audit.jsonl")
    assert found == "valid", said
    assert orjson.loads(said)["totals"]["explained"] == 3, said
    assert verdict(tmp_path / "spool")[0] == "valid"


def test_a_receiver_that_stands_still_holds_nothing_but_time(tmp_path: Path) -> None:
    """SIGSTOP of the sink: requests time out; after SIGCONT all is there, under one id, and is proved."""
    spool = tmp_path / "spool"
    live = LiveStream(spool)
    with running_sink(tmp_path / "out") as sink, running_shipper(spool, f"{sink.url}/v1/audit", TIMEOUT="1"):
        until(lambda: Stream(live.path).cursor().number == 1)
        sink.process.send_signal(signal.SIGSTOP)
        for _ in range(20):
            live.request()
        with pytest.raises(AssertionError):
            until(lambda: Stream(live.path).cursor().number > 1, seconds=3)
        sink.process.send_signal(signal.SIGCONT)
        live.end()
        until(lambda: Stream(live.path).cursor().done)
        assert one_id_each(sink.audit()) == places(live.path, 22)
    assert verdict(tmp_path / "out" / "audit.jsonl")[0] == "valid"


def test_ten_kills_of_the_shipper_lose_nothing(tmp_path: Path) -> None:
    """At random moments under load, each time the next one goes on; at the end all is there, under one id."""
    spool = tmp_path / "spool"
    live = LiveStream(spool)
    stop = threading.Event()
    chance = random.Random(1311)

    def write() -> None:
        while not stop.wait(0.002):
            live.request()
            if live.position.number % 50 == 0:
                live.head()

    writer = threading.Thread(target=write)
    writer.start()
    died = []
    try:
        with running_sink(tmp_path / "out") as sink:
            for _ in range(10):
                died.append(make_stream(spool, records=chance.randrange(1, 900), end=False)[0])
                with running_shipper(spool, f"{sink.url}/v1/audit") as shipper:
                    time.sleep(chance.random() * 0.4)
                    shipper.send_signal(signal.SIGKILL)
            stop.set()
            writer.join()
            live.end()
            with running_shipper(spool, f"{sink.url}/v1/audit") as shipper:
                until(lambda: all(Stream(path).cursor().done for path in (live.path, *died)))
                shipper.send_signal(signal.SIGTERM)
                assert shipper.wait(SECONDS) == 0
            received = one_id_each(sink.audit())
    finally:
        stop.set()
        writer.join()
    written = {(path.parent.name, number) for path in spool.rglob("*.seg") for number in _numbers(path)}
    assert received == written
    assert verdict(tmp_path / "out" / "audit.jsonl")[0] == "valid"
    assert verdict(spool)[0] == "valid"


def _numbers(segment: Path) -> list[int]:
    forms = [orjson.loads(line.rpartition(b"\t")[0]) for line in segment.read_bytes().splitlines()]
    return [int(form["attributes"][attr.NUMBER]["intValue"]) for form in forms]


def test_kills_of_the_sink_lose_nothing_that_it_confirmed(tmp_path: Path) -> None:
    """It leaves at most a torn last line, which the next start cuts off and tells of; the shipper sends on."""
    spool, out = tmp_path / "spool", tmp_path / "out"
    live = LiveStream(spool)
    port = 0

    def delivered(number: int) -> None:
        until(lambda: Stream(live.path).cursor().number > number)

    for number in range(3):
        with running_sink(out, port) as sink:
            port = sink.port
            with running_shipper(spool, f"{sink.url}/v1/audit", TIMEOUT="2") as shipper:
                for _ in range(200):
                    live.request()
                delivered(200 * number)
                sink.kill()
                shipper.kill()
            confirmed = Stream(live.path).cursor().number
            with (out / "audit.jsonl").open("ab") as file:
                file.write(b'{"resourceLogs":[{"resource')  # what a write leaves that the kill interrupted
    live.end()
    with running_sink(out, port) as sink:
        assert places(live.path, confirmed) <= one_id_each(sink.audit())
        with running_shipper(spool, f"{sink.url}/v1/audit"):
            until(lambda: Stream(live.path).cursor().done)
        code, said = sink.end()
        assert code == 0
        assert "the last 27 bytes are of a write that was interrupted before it was confirmed" in said
        assert (out / "audit.jsonl.unconfirmed-1").read_bytes() == b'{"resourceLogs":[{"resource'
        assert one_id_each(sink.audit()) == places(live.path, 602)
    assert verdict(out / "audit.jsonl")[0] == "valid"


def test_retention_removes_only_what_was_delivered(tmp_path: Path) -> None:
    """With no time to keep anything: undelivered streams stay, delivered ones go and are stated."""
    spool = tmp_path / "spool"
    died, _ = make_stream(spool, records=8, end=False)
    taken, _ = make_stream(spool, records=3)
    with receiving() as receiver:
        receiver.rule = lambda sent: Reply(503) if sent[0].key[0] == taken.name else Reply()
        with running_shipper(spool, receiver.url, RETENTION="0s") as shipper:
            until(lambda: len(receiver.requests) >= 3)
            shipper.kill()
        assert taken.is_dir()
        receiver.rule = lambda _: Reply()
        with running_shipper(spool, receiver.url, RETENTION="0s"):
            until(lambda: not taken.exists() and not died.exists())
            pruned = {taken.name, died.name}
            until(lambda: {one.attributes.get(attr.PRUNED_STREAM) for one in receiver.acknowledged} >= pruned)
        assert receiver.delivered() >= places(taken, 5) | places(died, 9)
    heads = [signed_heads.parse_line(line).head for line in (spool / "pruned").read_bytes().splitlines()]
    assert {head.stream_id for head in heads} >= pruned  # that of the first shipper may be gone too


@contextmanager
def small_disk(path: Path) -> Iterator[Path]:
    """A file system of 2 MiB."""
    path.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(path)], capture_output=True)
    if mounted.returncode:
        pytest.skip("a file system of its own needs the right to mount")
    try:
        yield path
    finally:
        subprocess.run(["umount", "-l", str(path)], check=True)


def fill(path: Path) -> None:
    with path.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"x" * 4096)
        except OSError:
            pass  # full


@pytest.mark.skipif(shutil.which("mount") is None or os.geteuid() != 0, reason="mounts a small file system")
def test_a_full_disk_holds_no_delivery_up_and_drops_no_dead_letter(tmp_path: Path) -> None:
    """What can be sent is sent; what is refused waits until it can be kept and stated; no cursor passes it."""
    with small_disk(tmp_path / "disk") as disk, receiving() as receiver:
        spool = disk / "spool"
        bad, _ = make_stream(spool, records=5)
        good, _ = make_stream(spool, records=5)
        fill(disk / "filler")
        receiver.rule = lambda sent: Reply(400) if (bad.name, 3) in {one.key for one in sent} else Reply()
        with running_shipper(spool, receiver.url) as shipper:
            until(lambda: receiver.delivered() >= places(good, 7))
            until(lambda: receiver.delivered() >= places(bad, 7) - {(bad.name, 3)})
            assert shipper.stdout is not None
            told = [shipper.stdout.readline() for _ in range(3)]
            assert any("No space left on device" in line for line in told), told
            assert Stream(bad).cursor().number == 0
            before = len(records(receiver.acknowledged))
            (disk / "filler").unlink()
            until(lambda: Stream(bad).cursor().done)
            (line,) = (spool / "dead-letter").read_bytes().splitlines()
            assert orjson.loads(line)["number"] == 3
            until(lambda: any(one.event == attr.EVENT_UNDELIVERED for one in receiver.acknowledged))
        new = {one.key for one in records(receiver.acknowledged)[before:]}
        assert new & (places(good, 7) | places(bad, 7)) == set()


@pytest.mark.skipif(shutil.which("strace") is None, reason="faults are injected with strace")
@pytest.mark.parametrize("call", ["fsync", "rename"])
def test_a_cursor_that_cannot_be_written_costs_only_repetition(tmp_path: Path, call: str) -> None:
    """EIO at each sync or rename: all arrives; the next shipper sends the same again, byte for byte."""
    spool = tmp_path / "spool"
    path, _ = make_stream(spool, records=40)
    calls = "fsync" if call == "fsync" else "?rename,?renameat,?renameat2"
    with receiving() as receiver:
        ship = [*COMMAND, "ship", str(spool), "--once", "--endpoint", receiver.url]
        inject = ["strace", "-f", "-qq", "-o", str(tmp_path / "trace"), "-e", f"inject={calls}:error=EIO"]
        found = subprocess.run([*inject, *ship], capture_output=True, text=True, timeout=100, check=False)
        if "ptrace" in found.stderr:
            pytest.skip("tracing is not permitted here")
        assert found.returncode == 0, found.stderr
        assert "cursor cannot be written" in found.stderr
        assert receiver.delivered() == places(path, 42)
        assert not Stream(path).cursor().done
        found = subprocess.run(ship, capture_output=True, text=True, timeout=100, check=False)
        assert found.returncode == 0, found.stderr
        assert len(records(receiver.acknowledged)) == 84
        assert one_id_each(receiver.acknowledged) == places(path, 42)
    assert Stream(path).cursor().done
