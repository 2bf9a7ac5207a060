"""``kill -9`` under load: what a client was answered is delivered, once by id, and the streams verify."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from jwt_audit.evidence.proof import Trust
from jwt_audit.evidence.verdict import Verdict
from jwt_audit.evidence.verify import judge
from jwt_audit.sources.exports import read_exports
from jwt_audit.sources.spool import read_spool
from jwt_audit.spool.durable import LockState
from jwt_audit.spool.stream import streams
from support.receivers import until
from support.served import free_port

BIN = Path(sys.executable).parent
EXAMPLE = Path(__file__).parents[2] / "examples" / "fastapi"


def start_app(port: int, sink: int, root: Path) -> subprocess.Popen[bytes]:
    environment = {
        "OTEL_PYTHON_JWT_AUDIT_SPOOL": str(root / "spool"),
        "OTEL_PYTHON_JWT_AUDIT_ENDPOINT": f"http://127.0.0.1:{sink}/v1/audit",
        "OTEL_TRACES_EXPORTER": "none",
        "OTEL_LOGS_EXPORTER": "none",
        "OTEL_METRICS_EXPORTER": "none",
        "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
    }
    line = ["opentelemetry-instrument", "uvicorn", "app:app", "--port", str(port), "--log-level", "error"]
    with (root / "app.log").open("ab") as log:
        process = subprocess.Popen(line, cwd=EXAMPLE, env=os.environ | environment, stdout=log, stderr=log)
    until(lambda: listens(port))
    return process


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def load(port: int, answered: list[str], stop: threading.Event, name: str) -> None:
    """Ask for one id after another; an id is noted once the whole answer was read."""
    connection, number = http.client.HTTPConnection("127.0.0.1", port, timeout=60), 0
    while not stop.is_set():
        number += 1
        try:
            connection.request("GET", "/orders/1", headers={"X-Request-ID": f"{name}-{number}"})
            connection.getresponse().read()
            answered.append(f"{name}-{number}")
        except (OSError, http.client.HTTPException):
            break
    connection.close()


def received(root: Path) -> list[tuple[str, str]]:
    """(request id, record id) of each request record that the receiver holds."""
    found = []
    for line in (root / "sink/audit.jsonl").read_text().splitlines():
        for group in json.loads(line)["resourceLogs"]:
            for scope in group["scopeLogs"]:
                for record in scope["logRecords"]:
                    shown: dict[str, Any] = {
                        item["key"]: next(iter(item["value"].values())) for item in record["attributes"]
                    }
                    if record.get("eventName") == "http.request":
                        found.append((shown["request.id"], shown["audit.record.id"]))
    return found


def test_what_was_answered_is_delivered_after_three_kills_with_the_receiver_away(tmp_path: Path) -> None:
    """Each request in the client's own log has exactly one record id in what the receiver got."""
    port, sink_port = free_port(), free_port()
    answered: list[str] = []
    for round_number in range(3):
        app = start_app(port, sink_port, tmp_path)
        before = len(answered)
        stop = threading.Event()
        clients = [
            threading.Thread(target=load, args=(port, answered, stop, f"r{round_number}c{client}"))
            for client in range(4)
        ]
        for client in clients:
            client.start()
        until(lambda: len(answered) >= before + 100)  # noqa: B023 - called in this round
        app.send_signal(signal.SIGKILL)
        app.wait()
        stop.set()
        for client in clients:
            client.join()
    command = [str(BIN / "jwt-audit"), "sink", str(tmp_path / "sink"), "--port", str(sink_port)]
    sink = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    last: subprocess.Popen[bytes] | None = None
    try:
        until(lambda: listens(sink_port))
        last = start_app(port, sink_port, tmp_path)
        until(lambda: set(answered) <= {request for request, _ in received(tmp_path)})
        until(
            lambda: all(
                stream.cursor().done for stream in streams(tmp_path / "spool") if stream.writer() is LockState.FREE
            )
        )
        last.terminate()
        last.wait()
    finally:
        if last is not None and last.poll() is None:
            last.kill()
        sink.terminate()
        sink.wait()
    found = received(tmp_path)
    assert set(answered) <= {request for request, _ in found}
    records: dict[str, set[str]] = {}
    for request, record in found:
        records.setdefault(request, set()).add(record)
    assert all(len(ids) == 1 for ids in records.values())
    spool = judge([read_spool(tmp_path / "spool", lambda _: None)], Trust())
    export = judge([read_exports([tmp_path / "sink/audit.jsonl"], lambda _: None)], Trust())
    assert spool.verdict is Verdict.VALID, spool.form()["problems"]
    assert export.verdict is Verdict.VALID, export.form()["problems"]
    print(f"{len(answered)} answered, {len(found)} delivered, {len(spool.streams)} streams")
