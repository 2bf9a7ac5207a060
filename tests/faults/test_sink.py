"""The sink as a process of its own: slow senders, bombs, other people's files, and kills at each write."""

from __future__ import annotations

import gzip
import http.client
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

from support.receivers import COMMAND, PROTOBUF, Sink, running_sink

APPS = Path(__file__).parent / "apps"
MIB = 2**20


BEGUN = b"POST /v1/logs HTTP/1.1\r\nHost: x\r\nContent-Type: %b\r\nContent-Length: 4000000\r\n\r\n" % PROTOBUF.encode()


def post(sink: Sink, body: bytes, **headers: str) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", sink.port, timeout=20)
    try:
        connection.request("POST", "/v1/logs", body, {"Content-Type": PROTOBUF, **headers})
        return connection.getresponse().status
    finally:
        connection.close()


def logs(records: int) -> bytes:
    request = ExportLogsServiceRequest()
    scope = request.resource_logs.add().scope_logs.add()
    for number in range(records):
        record = scope.log_records.add()
        record.body.string_value = f"line {number}"
        for index in range(10):
            record.attributes.add(key=f"some.attribute.{index}").value.string_value = f"value {number}"
    return request.SerializeToString()


def memory(sink: Sink) -> float:
    """The most that the process has held so far, in MiB."""
    status = Path(f"/proc/{sink.process.pid}/status").read_text("ascii")
    match = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert match is not None
    return int(match[1]) / 1024


@contextmanager
def stalled(sink: Sink, start: bytes, count: int) -> Iterator[None]:
    """Clients that send ``start`` and then nothing more."""
    with ExitStack() as stack:
        for _ in range(count):
            connection = stack.enter_context(socket.create_connection(("127.0.0.1", sink.port), timeout=10))
            connection.sendall(start)
        yield


def nested(number: int, inside: bytes) -> bytes:
    size, length = len(inside), bytearray()
    while size > 127:
        length.append(size & 127 | 128)
        size >>= 7
    length.append(size)
    return bytes([number << 3 | 2]) + bytes(length) + inside


def in_records(inside: bytes) -> bytes:
    """A logs request with one record."""
    return nested(1, nested(2, nested(2, inside)))


BOMBS = {
    "45 MiB of nothing in 45 KiB": (gzip.compress(bytes(45 * MIB)), True),
    "members of gzip": (b"".join(gzip.compress(bytes(MIB), 1) for _ in range(40)), True),
    "no gzip": (bytes(4 * MIB), True),
    "empty groups": (b"\x0a\x00" * (2 * MIB), False),
    "as many messages as the parser is given": (b"\x0a\x00" * 790_000, False),
    "as many attributes": (in_records(b"\x32\x00" * 790_000), False),
    "as many as are read": (in_records(b"\x32\x05\x0a\x01a\x12\x00" * 99_000), False),
    "bytes that take six times as much in JSON": (in_records(nested(5, nested(1, bytes(4 * MIB - 100)))), False),
}
"""Bodies, and whether they are said to be gzip."""


def test_nobody_keeps_the_sink_from_a_good_sender(tmp_path: Path) -> None:
    """50 stalled clients and eight bombs at once: each good request within a second, the memory under 200 MiB."""
    taken: list[float] = []
    answers: dict[str, int] = {}
    good = logs(512)
    with running_sink(tmp_path / "out") as sink:
        started = memory(sink)

        def throw(name: str) -> None:
            body, packed = BOMBS[name]
            answers[name] = post(sink, body, **({"Content-Encoding": "gzip"} if packed else {}))

        with (
            stalled(sink, b"", 10),
            stalled(sink, b"POST /v1/logs HTTP/1.1\r\nHost: x\r\nX-", 15),
            stalled(sink, BEGUN, 10),
            stalled(sink, BEGUN + bytes(3_900_000), 15),
        ):
            throwers = [threading.Thread(target=throw, args=[name]) for name in BOMBS]
            for thrower in throwers:
                thrower.start()
            while any(thrower.is_alive() for thrower in throwers) or len(taken) < 20:
                began = time.monotonic()
                assert post(sink, good) == 200
                taken.append(time.monotonic() - began)
            for thrower in throwers:
                thrower.join()
        most = memory(sink)
        _, said = sink.end()
    print(f"good: {len(taken)} requests, slowest {max(taken):.2f} s; memory {started:.0f} to {most:.0f} MiB; {answers}")
    assert max(taken) < 1
    assert most < 200
    assert set(answers.values()) <= {200, 400, 413}
    assert said.count("too slow") == 1
    assert (tmp_path / "out" / "logs.jsonl").read_bytes().count(b'"line 511"') == len(taken)


def test_a_slow_request_ends(tmp_path: Path) -> None:
    """A head or a body that drips has its time as a whole; then the connection is closed, and others may have it."""
    code = "import jwt_audit.sink.guard as guard; guard.SECONDS = 1.0; from jwt_audit.cli.main import main; main()"
    command = [sys.executable, "-c", code, "sink", str(tmp_path / "out"), "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    sink = Sink(process, process.stdout.readline().split()[2].rstrip(","), tmp_path / "out")
    try:
        for start in (b"POST /v1/logs HTTP/1.1\r\nX: ", BEGUN):
            with socket.create_connection(("127.0.0.1", sink.port), timeout=10) as connection:
                connection.sendall(start)
                began = time.monotonic()
                try:
                    while time.monotonic() < began + 10:
                        connection.sendall(b"x")
                        time.sleep(0.05)
                except OSError:
                    pass
                assert 0.5 < time.monotonic() - began < 5
        # A request after another has a time of its own, and a pause between them is none of it
        kept = http.client.HTTPConnection("127.0.0.1", sink.port, timeout=10)
        for _ in range(4):
            kept.request("POST", "/v1/logs", logs(1), {"Content-Type": PROTOBUF})
            assert kept.getresponse().read() == b""
            time.sleep(0.5)
        kept.close()
    finally:
        sink.end()
        for pipe in (process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()


def test_more_connections_than_there_is_room_for(tmp_path: Path) -> None:
    """The sender goes that has kept the sink waiting longest, so a new one is served at once."""
    with running_sink(tmp_path / "out") as sink, stalled(sink, b"POST /v1/logs HTTP/1.1\r\n", 200):
        for _ in range(5):
            began = time.monotonic()
            assert post(sink, logs(1)) == 200
            assert time.monotonic() - began < 1


def test_files_of_others_are_not_touched(tmp_path: Path) -> None:
    """A foreign file, and the sink's own with a byte changed in its last line: the one is refused, both stay."""
    foreign = b"2026-01-01 12:00:00 GET /orders 200\n" * 50
    (tmp_path / "logs.jsonl").write_bytes(foreign)
    done = subprocess.run(
        [*COMMAND, "sink", str(tmp_path), "--port", "0"], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 1
    assert done.stderr.startswith(f"Error: {tmp_path / 'logs.jsonl'} was not written by this sink: move it away")
    assert (tmp_path / "logs.jsonl").read_bytes() == foreign
    own = tmp_path / "own"
    with running_sink(own) as sink:
        for _ in range(3):
            assert post(sink, logs(20)) == 200
    forged = (own / "logs.jsonl").read_bytes()[:-3] + b"\x00}\n"
    (own / "logs.jsonl").write_bytes(forged)
    with running_sink(own) as sink:
        assert (own / "logs.jsonl").read_bytes() == forged
        assert post(sink, logs(1)) == 200
    assert (own / "logs.jsonl").read_bytes().startswith(forged)


def test_a_kill_at_each_write_loses_nothing(tmp_path: Path) -> None:
    """Before, in the middle of and after each call that changes the disk, with a rotation between."""
    script = APPS / "killed_store.py"
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path)], capture_output=True, text=True, timeout=110, check=False
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 100
