"""An app in a process of its own under ``opentelemetry-instrument``, and the real sink for all that it sends."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

BIN = Path(sys.executable).parent
SECONDS = 60.0
"""How long anything is waited for: the machine may be busy."""
UVICORN = ("uvicorn", "{app}", "--port", "{port}")
GUNICORN = ("gunicorn", "{app}", "--threads", "4", "--no-control-socket", "-b", "127.0.0.1:{port}")


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@dataclass(frozen=True)
class Item:
    """A span or log record as it was received: its attributes, and the whole form."""

    attributes: dict[str, Any]
    form: dict[str, Any]

    @property
    def trace(self) -> str:
        return str(self.form.get("traceId", ""))


@dataclass(frozen=True)
class Answer:
    """What a client got, and under which request id."""

    id: str
    status: int
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Told:
    """All that was told of one request: its audit record, its server span, its other spans, its log records."""

    record: dict[str, Any]
    server: dict[str, Any]
    spans: dict[str, dict[str, Any]]
    logs: dict[str, dict[str, Any]]


class Served:
    """An app and a sink that write below ``root``."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.port = free_port()
        self.processes: list[subprocess.Popen[bytes]] = []

    def start(
        self,
        directory: Path,
        app: str,
        command: Sequence[str],
        environment: dict[str, str],
        listens: Path | None = None,
    ) -> None:
        """Start the sink and the app, and wait for each to listen: on its port, or on the socket ``listens``."""
        sink = free_port()
        self._start("sink", ["jwt-audit", "sink", str(self.root / "sink"), "--port", str(sink)], self.root, {})
        common = {
            "OTEL_PYTHON_JWT_AUDIT_SPOOL": str(self.root / "spool"),
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{sink}",
            "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
            "OTEL_METRICS_EXPORTER": "none",
            "OTEL_BSP_SCHEDULE_DELAY": "100",
            "OTEL_BLRP_SCHEDULE_DELAY": "100",
            "PYTHONDONTWRITEBYTECODE": "1",
            "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
        }
        line = [part.format(app=app, port=self.port) for part in ("opentelemetry-instrument", *command)]
        self._start("app", line, directory, common | environment)
        for where in (sink, self.port if listens is None else listens):
            self._up(where)

    def _start(self, name: str, line: list[str], cwd: Path, environment: dict[str, str]) -> None:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
        line = [str(BIN / line[0]), *line[1:]]
        with (self.root / f"{name}.log").open("wb") as log:
            self.processes.append(
                subprocess.Popen(
                    line, cwd=cwd, env=kept | environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
                )
            )

    def _up(self, where: int | Path) -> None:
        def answers() -> bool:
            assert all(process.poll() is None for process in self.processes), self.output()
            with socket.socket(socket.AF_INET if isinstance(where, int) else socket.AF_UNIX) as probe:
                return probe.connect_ex(("127.0.0.1", where) if isinstance(where, int) else str(where)) == 0

        self.wait(answers)

    def output(self) -> str:
        """What the processes have written so far."""
        return "\n".join(log.read_text("utf-8", "replace") for log in sorted(self.root.glob("*.log")))

    def wait(self, happens: Callable[[], bool]) -> None:
        """Wait until ``happens``; fails the test where it does not in time."""
        until = time.monotonic() + SECONDS
        while not happens():
            assert time.monotonic() < until, f"it did not happen in time\n{self.output()[-3000:]}"
            time.sleep(0.05)

    def ask(self, path: str, token: str | None = None, method: str = "GET", body: Any = None, **headers: str) -> Answer:
        """One request; ``token`` goes into a bearer header, a ``body`` that is no text is sent as JSON."""
        name = str(uuid.uuid4())
        sent = {key.replace("_", "-"): value for key, value in headers.items()} | {"X-Request-ID": name}
        if token is not None:
            sent["Authorization"] = f"Bearer {token}"
        if body is not None and not isinstance(body, str):
            body, sent["Content-Type"] = json.dumps(body), "application/json"
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=SECONDS)
        try:
            connection.request(method, path, body, sent)
            answer = connection.getresponse()
            return Answer(name, answer.status, answer.read())
        finally:
            connection.close()

    def items(self, file: str) -> list[Item]:
        """The spans (``traces``), log records (``logs``) or audit records (``audit``) that were received."""
        names = (
            ("resourceSpans", "scopeSpans", "spans")
            if file == "traces"
            else ("resourceLogs", "scopeLogs", "logRecords")
        )
        path = self.root / "sink" / f"{file}.jsonl"
        whole = path.read_text("utf-8").splitlines(keepends=True) if path.exists() else []
        return [
            Item({one["key"]: next(iter(one["value"].values())) for one in item.get("attributes", [])}, item)
            for line in whole
            if line.endswith("\n")
            for group in json.loads(line).get(names[0], [])
            for scope in group[names[1]]
            for item in scope.get(names[2], [])
        ]

    def told(self, answer: Answer, *, spans: int = 1, logs: int = 0) -> Told:
        """All that was told of the request, once so many of its spans, the server's among them, and logs are there."""

        def record() -> list[Item]:
            return [
                item
                for item in self.items("audit")
                if item.form.get("eventName") == "http.request" and item.attributes.get("request.id") == answer.id
            ]

        self.wait(lambda: bool(record()))
        (found,) = record()

        def of_it(file: str) -> list[Item]:
            return [
                item
                for item in self.items(file)
                if item.trace == found.trace and not item.form.get("name", "").endswith((" http send", " http receive"))
            ]

        def servers() -> list[Item]:
            return [item for item in of_it("traces") if item.form["kind"] in (2, "SPAN_KIND_SERVER")]

        self.wait(lambda: bool(servers()) and len(of_it("traces")) >= spans and len(of_it("logs")) >= logs)
        (server,) = servers()
        others = {item.form["name"]: item.attributes for item in of_it("traces") if item != server}
        written = {str(next(iter(item.form.get("body", {"": ""}).values()))): item.attributes for item in of_it("logs")}
        return Told(found.attributes, server.attributes, others, written)

    def everything(self) -> bytes:
        """All bytes that left the app: what was sent, what it wrote on its terminal, and its spool."""
        return b"\n".join(path.read_bytes() for path in sorted(self.root.rglob("*")) if path.is_file())

    def stop(self) -> None:
        for process in reversed(self.processes):
            process.terminate()
            process.wait(SECONDS)

    def kill(self) -> None:
        """End whatever still runs, and the workers of each: they would outlive it."""
        for process in self.processes:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


@contextmanager
def serving(
    root: Path, directory: Path, app: str = "app:app", command: Sequence[str] = UVICORN, **environment: str
) -> Iterator[Served]:
    """A running `Served`, killed in the end; ``command`` runs in ``directory``, ``{app}`` and ``{port}`` filled in."""
    served = Served(root)
    try:
        served.start(directory, app, command, environment)
        yield served
    finally:
        served.kill()
