"""Identity and records under concurrency and pipelining: nobody is ever taken for another."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

BIN = Path(sys.executable).parent
EXAMPLES = Path(__file__).parents[2] / "examples"
KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
CANARY = "canary-that-the-search-must-find"
SERVERS = {
    "fastapi-h11": ("fastapi", ["uvicorn", "app:app", "--http", "h11", "--port"]),
    "fastapi-httptools": ("fastapi", ["uvicorn", "app:app", "--http", "httptools", "--port"]),
    "flask-gthread": ("flask", ["gunicorn", "app:app", "--threads", "16", "--no-control-socket", "-b"]),
}


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def up(port: int) -> None:
    for _ in range(300):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise AssertionError(f"nothing came up on port {port}")


class Served:
    """One example app in a process of its own, and a receiver of all it sends."""

    def __init__(self, root: Path, name: str) -> None:
        self.root = root
        self.port, sink = free_port(), free_port()
        example, command = SERVERS[name]
        (root / "key.pem").write_bytes(
            KEY.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        )
        environment = {
            "OTEL_PYTHON_JWT_AUDIT_PUBLIC_KEY": str(root / "key.pem"),
            "OTEL_PYTHON_JWT_AUDIT_ISSUER": "https://issuer.example",
            "OTEL_PYTHON_JWT_AUDIT_SPOOL": str(root / "spool"),
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{sink}",
            "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
            "OTEL_METRICS_EXPORTER": "none",
            "OTEL_BSP_SCHEDULE_DELAY": "100",
            "OTEL_BLRP_SCHEDULE_DELAY": "100",
            "OTEL_LOG_LEVEL": "debug",
            "OTEL_RESOURCE_ATTRIBUTES": f"planted={CANARY}",
            "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
        }
        self.processes = [self._start("sink", ["jwt-audit", "sink", str(root / "sink"), "--port", str(sink)], root, {})]
        up(sink)
        where = str(self.port) if command[-1] == "--port" else f"127.0.0.1:{self.port}"
        line = ["opentelemetry-instrument", *command, where]
        self.processes.append(self._start("app", line, EXAMPLES / example, environment))
        up(self.port)

    def _start(self, name: str, line: list[str], cwd: Path, environment: dict[str, str]) -> subprocess.Popen[bytes]:
        with (self.root / f"{name}.log").open("wb") as log:
            return subprocess.Popen(
                [str(BIN / line[0]), *line[1:]], cwd=cwd, env=os.environ | environment, stdout=log, stderr=log
            )

    def stop(self) -> None:
        for process in reversed(self.processes):
            process.terminate()
            process.wait(20)

    def rows(self, file: str, groups: str, scopes: str, items: str) -> list[tuple[dict[str, Any], dict[str, Any]]]:
        """(attributes, item) of all that the receiver wrote into a file."""
        return [
            ({one["key"]: next(iter(one["value"].values())) for one in item.get("attributes", [])}, item)
            for line in (self.root / "sink" / file).read_text().splitlines()
            for group in json.loads(line)[groups]
            for scope in group[scopes]
            for item in scope.get(items, [])
        ]


@pytest.fixture(params=list(SERVERS))
def served(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Served]:
    found = Served(tmp_path, request.param)
    yield found
    for process in found.processes:
        if process.poll() is None:
            process.kill()
            process.wait()


def token(person: str, *, seconds: int = 600) -> str:
    claims = {"iss": "https://issuer.example", "sub": person, "sid": f"s-{person}", "exp": int(time.time()) + seconds}
    return jwt.encode(claims, KEY, "RS256")


def request(path: str, person: str | None, credential: str | None, *, close: bool) -> bytes:
    lines = [f"GET {path} HTTP/1.1", "Host: shop", f"X-Request-ID: {person or 'nobody'}"]
    lines += [f"Authorization: Bearer {credential}"] if credential else []
    lines += ["Connection: close"] if close else []
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def exchange(port: int, sent: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(sent)
        got = b""
        while chunk := connection.recv(65536):
            got += chunk
        return got


def test_each_request_is_its_own(served: Served) -> None:
    """400 concurrent requests of mixed identities, then four pipelined on one connection: no mismatch anywhere.

    Spans, child spans, log records and audit records; one record each; no token in any output, in
    which a planted word is found by the same search.
    """
    people: dict[str, str | None] = {}
    for number in range(400):
        kind = number % 4
        name = f"person-{number}"
        people[name] = None if kind == 3 else token(name, seconds=-600 if kind == 2 else 600)
    barrier = threading.Barrier(40)

    def work(names: list[str]) -> None:
        barrier.wait()
        for name in names:
            assert exchange(served.port, request("/orders/1", name, people[name], close=True)).startswith(
                b"HTTP/1.1 200"
            )

    names = list(people)
    threads = [threading.Thread(target=work, args=(names[at::40],)) for at in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    piped = {f"piped-{number}": token(f"piped-{number}") if number < 3 else None for number in range(4)}
    sent = [request("/orders/1", name, credential, close=name == "piped-3") for name, credential in piped.items()]
    assert exchange(served.port, b"".join(sent)).count(b"HTTP/1.1 200") == 4
    people |= piped
    time.sleep(2)
    served.stop()

    audit = [
        (shown, item)
        for shown, item in served.rows("audit.jsonl", "resourceLogs", "scopeLogs", "logRecords")
        if item.get("eventName") == "http.request"
    ]
    by_trace: dict[str, str | None] = {}
    for shown, item in audit:
        name = shown["request.id"]
        good = people[name] is not None and (name.startswith("piped") or int(name.rpartition("-")[2]) % 4 != 2)
        assert shown["audit.actor.id"] == (name if good else "anonymous")
        assert shown.get("enduser.id") == (name if good else None)
        assert shown.get("session.id") == (f"s-{name}" if good else None)
        assert item["traceId"] not in by_trace, "two requests in one trace"
        by_trace[item["traceId"]] = name if good else None
    assert sorted(shown["request.id"] for shown, _ in audit) == sorted(people)
    spans = served.rows("traces.jsonl", "resourceSpans", "scopeSpans", "spans")
    logs = served.rows("logs.jsonl", "resourceLogs", "scopeLogs", "logRecords")
    kinds = set()
    for shown, item in [*spans, *logs]:
        if item.get("traceId") in by_trace and not item.get("name", "").endswith((" http send", " http receive")):
            assert shown.get("enduser.id") == by_trace[item["traceId"]], item
            kinds.add(item.get("kind", "log"))
    assert {1, 2, "log"} <= kinds, "server spans, child spans and log records were seen"

    written = [path.read_bytes() for path in served.root.rglob("*") if path.is_file()]
    assert any(CANARY.encode() in data for data in written)
    for credential in people.values():
        if credential is not None:
            signature = credential.rpartition(".")[2].encode()
            assert not any(signature in data for data in written)
