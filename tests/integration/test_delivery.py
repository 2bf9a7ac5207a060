"""Spool to sink by real processes: what was written is what arrives, and it is proved there."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import orjson
import pytest

from jwt_audit import attributes as attr
from jwt_audit.settings.variables import PREFIX
from jwt_audit.spool.durable import Lock, LockState
from jwt_audit.spool.stream import Stream
from support.receivers import COMMAND, Reply, Sent, partial, receiving, records, running_shipper, running_sink, until
from support.shipping import shipping
from support.spools import LiveStream, make_stream


def verdict(*paths: Path) -> str:
    command = [*COMMAND, "verify", "--json", *map(str, paths)]
    found = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert found.stderr == ""
    return str(orjson.loads(found.stdout)["verdict"])


def ship(spool: Path, *options: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """`jwt-audit ship` to its end."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    command = [*COMMAND, "ship", str(spool), *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=100, check=False, env=kept | variables)


def end(process: subprocess.Popen[str]) -> str:
    """SIGTERM; what it said last."""
    assert process.stdout is not None
    process.send_signal(signal.SIGTERM)
    said = process.stdout.read()
    assert process.wait(60) == 0
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
            first.wait(60)
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
    """A receiver that refuses, a setting that is the app's affair; never a header's value; the spool keeps all."""
    spool = tmp_path / "spool"
    path, _ = make_stream(spool, records=3)
    with receiving() as receiver:
        receiver.rule = lambda _: Reply(403)
        headers = "authorization=Bearer%20s3cr3t-value"
        with running_shipper(spool, receiver.url, HEADERS=headers, ALGORITHMS="none", SPOOOL="x") as shipper:
            until(lambda: len(receiver.requests) > 0)
            said = end(shipper)
        assert receiver.headers[0]["authorization"] == "Bearer s3cr3t-value"
    assert "answered 403: check the HEADERS" in said
    assert said.endswith("stopped; undelivered records wait in the spool\n")
    assert "s3cr3t" not in said
    assert Stream(path).cursor().number == 0


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("OTEL_PYTHON_JWT_AUDIT_RETENTION", "long", "'long' is not a valid duration"),
        ("OTEL_PYTHON_JWT_AUDIT_ENDPOINT", "nowhere", "'nowhere' is not a valid URL"),
        ("OTEL_EXPORTER_OTLP_CERTIFICATE", "/no/such.pem", "cannot read /no/such.pem"),
        ("OTEL_EXPORTER_OTLP_LOGS_HEADERS", "s3cr3t", "an entry is not a name=value pair"),
        ("OTEL_PYTHON_JWT_AUDIT_SIGNING_KEY", "s3cr3t", "cannot read the file"),
    ],
)
def test_a_setting_that_cannot_be_used_ends_the_sidecar_at_once(
    tmp_path: Path, variable: str, value: str, said: str
) -> None:
    """An app would go on by a default; one who starts a command sees it. With the variable's name, and no secret."""
    found = ship(tmp_path / "spool", "--once", **{variable: value})
    assert (found.returncode, found.stdout) == (2, "")
    assert f"{variable}: {said}" in found.stderr
    assert "s3cr3t" not in found.stderr
    assert not (tmp_path / "spool").exists()


def test_an_inherited_port_of_grpc_is_no_mistake(tmp_path: Path) -> None:
    """It is told which one is used."""
    make_stream(tmp_path, records=1)
    with running_sink(tmp_path / "out") as sink:
        found = ship(
            tmp_path, "--once", "--endpoint", f"{sink.url}/v1/audit", OTEL_EXPORTER_OTLP_ENDPOINT="http://h:4317"
        )
    assert found.returncode == 0, found.stderr


def test_a_spool_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    """In one line, with exit code 1."""
    (tmp_path / "file").touch()
    command = [*COMMAND, "ship", str(tmp_path / "file" / "spool")]
    found = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
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
    assert Lock.state(spool / "ship.lock") is LockState.FREE


def test_once_delivers_what_is_there_and_ends(tmp_path: Path) -> None:
    """Streams that live, ended and died, and what the run itself states; a second run finds nothing to do."""
    spool = tmp_path / "spool"
    live = LiveStream(spool)
    live.request()
    live.head()
    ended, _ = make_stream(spool, records=600)
    died, _ = make_stream(spool, records=3, end=False)
    with running_sink(tmp_path / "out") as sink:
        for number in range(2):
            found = ship(spool, "--once", "--endpoint", f"{sink.url}/v1/audit", "--protocol", "http/json")
            assert found.returncode == 0, found.stderr
            assert found.stdout.splitlines()[0] == f"shipping {spool} to {sink.url}/v1/audit"
            assert ("all is delivered: 0 log records" in found.stdout) == (number == 1)
        keys = [one.key for one in records(sink.audit())]
    assert len(keys) == len(set(keys))
    assert {(live.id, 1), (live.id, 2), (ended.name, 602), (died.name, 4)} <= set(keys)
    (own,) = {stream for stream, _ in keys} - {live.id, ended.name, died.name}
    assert {number for stream, number in keys if stream == own} == {1, 2, 3}
    assert verdict(tmp_path / "out" / "audit.jsonl") == "valid"
    live.close()


def test_once_beside_a_writer_that_never_rests_ends(tmp_path: Path) -> None:
    """What was there at its start is what it delivers."""
    live = LiveStream(tmp_path)
    for _ in range(50):
        live.request()
    stop = threading.Event()

    def write() -> None:
        while not stop.wait(0.001):
            live.request()

    def slow(_: object) -> Reply:
        time.sleep(0.05)
        return Reply()

    writer = threading.Thread(target=write)
    with receiving() as receiver:
        receiver.rule = slow
        writer.start()
        try:
            found = ship(tmp_path, "--once", "--endpoint", receiver.url)
        finally:
            stop.set()
            writer.join()
        assert found.returncode == 0, found.stderr
        assert receiver.delivered() >= {(live.id, number) for number in range(1, 52)}
    live.close()


def test_once_says_why_not_all_is_delivered(tmp_path: Path) -> None:
    """A receiver that refuses the sender, a record that is refused; exit code 1, and what is left."""
    spool = tmp_path / "spool"
    path, _ = make_stream(spool, records=3)
    with receiving() as receiver:
        receiver.rule = lambda _: Reply(401)
        found = ship(spool, "--once", "--endpoint", receiver.url)
        assert found.returncode == 1
        assert f"Error: not all is delivered: {PREFIX}ENDPOINT: {receiver.url} answered 401: check" in found.stderr
        assert "0 log records were delivered" in found.stderr
        assert "in 1 stream wait in the spool" in found.stderr
        assert not Stream(path).cursor().done
        receiver.rule = lambda sent: Reply(400) if (path.name, 2) in {one.key for one in sent} else Reply()
        found = ship(spool, "--once", "--endpoint", receiver.url)
        assert found.returncode == 1
        assert f"were refused for good and are in {spool / 'dead-letter'}" in found.stderr
        assert Stream(path).cursor().done
        assert ship(spool, "--once", "--endpoint", receiver.url).returncode == 0


REFUSALS: dict[str, Callable[[list[Sent]], Reply]] = {
    "records": lambda sent: Reply(400) if sent else Reply(),
    "conflicts": lambda sent: Reply(409) if sent else Reply(),
    "partial": lambda sent: partial(len(sent), "no") if sent else Reply(),
    "everything": lambda _: Reply(400),
    "the sender": lambda _: Reply(403),
}


@pytest.mark.parametrize("rule", REFUSALS.values(), ids=list(REFUSALS))
def test_once_waits_for_no_receiver_that_refuses(tmp_path: Path, rule: Callable[[list[Sent]], Reply]) -> None:
    """Whatever it refuses, what this command writes of it too; and it says so, not that nothing went on."""
    make_stream(tmp_path, records=3)
    with receiving() as receiver:
        receiver.rule = rule
        started = time.monotonic()
        found = ship(tmp_path, "--once", "--endpoint", receiver.url)
        assert time.monotonic() - started < 20  # a loaded machine; the minute without progress is what must not be
    assert found.returncode == 1
    assert "not all is delivered" in found.stderr
    assert "nothing went on" not in found.stderr
    assert "the stream has ended" not in found.stderr


def test_once_waits_for_no_receiver_that_asks_for_long(tmp_path: Path) -> None:
    """A Retry-After of more than the time that is waited for a receiver that is away: said at once."""
    make_stream(tmp_path, records=1)
    with receiving() as receiver:
        receiver.rule = lambda _: Reply(503, headers={"Retry-After": "600"})
        started = time.monotonic()
        found = ship(tmp_path, "--once", "--endpoint", receiver.url)
        assert time.monotonic() - started < 20
    assert found.returncode == 1
    assert "answered 503" in found.stderr


def test_once_says_that_nobody_listens(tmp_path: Path) -> None:
    """After a time in which a receiver could have come back."""
    make_stream(tmp_path, records=1)
    found = ship(tmp_path, "--once", "--endpoint", "http://127.0.0.1:9/v1/logs")
    assert found.returncode == 1
    assert "cannot be reached (Connection refused)" in found.stderr


def test_once_can_be_stopped(tmp_path: Path) -> None:
    """By SIGTERM, while the receiver hangs."""
    path, _ = make_stream(tmp_path, records=1)
    with receiving() as receiver:
        receiver.rule = lambda _: Reply(act="hang")
        command = [*COMMAND, "ship", str(tmp_path), "--once", "--endpoint", receiver.url]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        until(lambda: len(receiver.requests) > 0, seconds=60)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 1
        assert "not all is delivered: it was told to stop" in errors
    assert not Stream(path).cursor().done


def test_once_leaves_it_to_a_sidecar_that_is_there(tmp_path: Path) -> None:
    """And names it; of an app's thread it takes the turn."""
    live = LiveStream(tmp_path)
    with receiving() as receiver:
        with running_shipper(tmp_path, receiver.url) as sidecar:
            until(lambda: Stream(live.path).cursor().number == 1)
            found = ship(tmp_path, "--once", "--endpoint", receiver.url)
            assert found.returncode == 1
            assert f"not all is delivered: jwt-audit ship (pid {sidecar.pid} on " in found.stderr
            end(sidecar)
        with receiving() as other, shipping(tmp_path, other.url) as app:
            until(lambda: app.shipper.shipping)
            live.request()
            until(lambda: Stream(live.path).cursor().number == 2)
            live.request()
            found = ship(tmp_path, "--once", "--endpoint", receiver.url)
            assert found.returncode == 0, found.stderr
            until(lambda: app.shipper.shipping)
    live.close()


def test_what_is_no_spool_is_not_made_one(tmp_path: Path) -> None:
    """A mistyped path: nothing is made in it; ``--once`` does not make one at all."""
    (tmp_path / "letters").touch()
    found = ship(tmp_path)
    assert found.returncode == 2
    assert f"{tmp_path} is no spool" in found.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["letters"]
    found = ship(tmp_path / "none", "--once")
    assert found.returncode == 1
    assert f"there is no spool at {tmp_path / 'none'}" in found.stderr
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--endpoint", "nowhere"], "Invalid value for --endpoint: 'nowhere' is not a valid URL"),
        (["--protocol", "grpc"], "Invalid value for --protocol: 'grpc' is not a valid value"),
    ],
)
def test_a_wrong_option_is_told_by_its_name(tmp_path: Path, options: list[str], said: str) -> None:
    """As click tells of others."""
    found = ship(tmp_path, *options)
    assert found.returncode == 2
    assert said in found.stderr


@pytest.mark.parametrize("once", [True, False])
def test_progress_is_shown_on_a_terminal(tmp_path: Path, once: bool) -> None:
    """On standard error; what is not a terminal sees none of it."""
    make_stream(tmp_path, records=30)
    main, side = pty.openpty()
    with receiving() as receiver:
        command = [*COMMAND, "ship", str(tmp_path), "--endpoint", receiver.url, *(["--once"] if once else [])]
        environment = os.environ | {"TERM": "xterm", "COLUMNS": "100"}
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=side, text=True, env=environment)
        os.close(side)
        shown = b""
        while b"log records delivered" not in shown or (not once and b"nothing waits" not in shown):
            shown += os.read(main, 4096)
        if not once:
            process.send_signal(signal.SIGTERM)
        try:
            while more := os.read(main, 4096):
                shown += more
        except OSError:
            pass  # the terminal was closed by its last process
        out, _ = process.communicate(timeout=60)
    os.close(main)
    assert process.returncode == 0
    assert "\x1b" not in out
    assert b"Traceback" not in shown
