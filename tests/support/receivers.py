"""Receivers for tests: the real sink as a process, and a local HTTP server that answers as it is told."""

from __future__ import annotations

import gzip
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import orjson
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest, ExportLogsServiceResponse

from jwt_audit.sink.otlp import from_protobuf

COMMAND = [sys.executable, "-c", "from jwt_audit.cli.main import main; main()"]
PROTOBUF = "application/x-protobuf"


@dataclass(frozen=True)
class Sent:
    """One log record as it was received: its attributes unwrapped to text, and the whole form."""

    event: str
    attributes: dict[str, str]
    form: dict[str, Any]
    resource: dict[str, str]

    @property
    def key(self) -> tuple[str, int]:
        """Stream and number."""
        return self.attributes["audit.sequence.stream_id"], int(self.attributes["audit.sequence.number"])


def flatten(form: dict[str, Any]) -> list[Sent]:
    """The log records of a logs request in OTLP/JSON."""
    return [
        Sent(record.get("eventName", ""), _text(record), record, _text(group.get("resource", {})))
        for group in form.get("resourceLogs", ())
        for scope in group.get("scopeLogs", ())
        for record in scope.get("logRecords", ())
    ]


def _text(holder: dict[str, Any]) -> dict[str, str]:
    return {item["key"]: str(next(iter(item["value"].values()))) for item in holder.get("attributes", ())}


def read_jsonl(path: Path) -> list[Sent]:
    """The log records in a file of the sink's."""
    return [sent for line in path.read_bytes().splitlines() for sent in flatten(orjson.loads(line))]


def records(sent: list[Sent]) -> list[Sent]:
    return [one for one in sent if one.event != "audit.head"]


@dataclass
class Sink:
    """A running ``jwt-audit sink``."""

    process: subprocess.Popen[str]
    url: str
    directory: Path

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def audit(self) -> list[Sent]:
        return read_jsonl(self.directory / "audit.jsonl")

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(60)

    def end(self) -> tuple[int, str]:
        """SIGTERM; the exit code and what it said."""
        self.process.terminate()
        _, errors = self.process.communicate(timeout=60)
        return self.process.returncode, errors


def start_sink(directory: Path, port: int = 0) -> Sink:
    process = subprocess.Popen(
        [*COMMAND, "sink", str(directory), "--port", str(port)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    first = process.stdout.readline()
    if "listening on" not in first:
        process.kill()
        raise AssertionError(first + process.communicate()[1])
    return Sink(process, first.split()[2].rstrip(","), directory)


@contextmanager
def running_sink(directory: Path, port: int = 0) -> Iterator[Sink]:
    sink = start_sink(directory, port)
    try:
        yield sink
    finally:
        if sink.process.poll() is None:
            sink.end()
        for pipe in (sink.process.stdout, sink.process.stderr):
            if pipe is not None:
                pipe.close()


@contextmanager
def running_shipper(spool: Path, url: str, **variables: str) -> Iterator[subprocess.Popen[str]]:
    """A running ``jwt-audit ship``; killed in the end where it still runs."""
    own = {f"OTEL_PYTHON_JWT_AUDIT_{name}": value for name, value in {"ENDPOINT": url, **variables}.items()}
    kept = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    process = subprocess.Popen(
        [*COMMAND, "ship", str(spool)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env={**kept, **own}
    )
    assert process.stdout is not None
    try:
        while "shipping" not in (line := process.stdout.readline()):
            assert line, "the shipper ended"
        yield process
    finally:
        process.kill()
        process.wait(60)
        process.stdout.close()


def until(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    """Wait until ``condition`` holds; fails the test where it does not in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


@dataclass
class Reply:
    """One scripted answer."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=lambda: {"Content-Type": PROTOBUF})
    act: str = ""
    """``hang``, ``reset`` (RST after the request's body), ``close``, ``garbage``, ``drip``, ``cut`` (RST in the
    middle of the answer); empty for the answer."""


def partial(rejected: int, message: str = "") -> Reply:
    response = ExportLogsServiceResponse()
    response.partial_success.rejected_log_records = rejected
    response.partial_success.error_message = message
    return Reply(body=response.SerializeToString())


class Receiver:
    """A receiver on a loopback port. ``script`` is used up first, then ``rule`` decides by the records."""

    def __init__(self) -> None:
        self.script: deque[Reply] = deque()
        self.rule: Callable[[list[Sent]], Reply] = lambda _: Reply()
        self.requests: list[list[Sent]] = []
        self.bodies: list[bytes] = []
        self.headers: list[dict[str, str]] = []
        self.acknowledged: list[Sent] = []
        self.released = threading.Event()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                receiver.answer(self)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            block_on_close = False

            def handle_error(self, request: object, client_address: object) -> None:
                pass  # a client that goes away is part of the tests

        self.server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1/logs"

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        body = handler.rfile.read(int(handler.headers["Content-Length"]))
        if handler.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        as_json = handler.headers["Content-Type"] == "application/json"
        sent = flatten(orjson.loads(body) if as_json else from_protobuf(ExportLogsServiceRequest, body))
        self.bodies.append(body)
        self.headers.append({name.lower(): value for name, value in handler.headers.items()})
        self.requests.append(sent)
        reply = self.script.popleft() if self.script else self.rule(sent)
        if reply.act == "hang":
            self.released.wait(60)
        if reply.act in ("hang", "close"):
            handler.close_connection = True
            return
        if reply.act == "garbage":
            handler.wfile.write(b"\x15\x03\x01\x00\x02\x02\x16 no http\r\n\r\n")
            handler.close_connection = True
            return
        if reply.act == "cut":
            handler.wfile.write(
                b"HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\nContent-Length: 99\r\n\r\n\n"
            )
            handler.wfile.flush()
        if reply.act in ("reset", "cut"):
            handler.close_connection = True
            handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            handler.rfile.close()
            handler.connection.close()
            return
        handler.send_response(reply.status)
        for name, value in reply.headers.items():
            handler.send_header(name, value)
        size = 10**9 if reply.act == "drip" else len(reply.body)
        if reply.status != 204:
            handler.send_header("Content-Length", str(size))
        handler.end_headers()
        handler.wfile.write(reply.body)
        while reply.act == "drip" and not self.released.wait(0.05):
            handler.wfile.write(b".")
            handler.wfile.flush()
        if reply == Reply():
            self.acknowledged += sent

    def delivered(self) -> set[tuple[str, int]]:
        """Stream and number of each record that was acknowledged without a word."""
        return {one.key for one in records(self.acknowledged)}


@contextmanager
def receiving() -> Iterator[Receiver]:
    receiver = Receiver()
    thread = threading.Thread(target=receiver.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield receiver
    finally:
        receiver.released.set()
        receiver.server.shutdown()
        receiver.server.server_close()
        thread.join(5)
