"""The receiver of a run: a process of its own that counts what it gets, by path.

``POST /NAME/v1/traces`` and ``/NAME/v1/logs`` take OTLP/HTTP in protobuf and count for ``NAME``;
``GET /NAME`` tells the counts. What was sent is read only after the answer has left, so that no
sender waits for the counting.
"""

from __future__ import annotations

import gzip
import sys
import threading
import time
from collections import Counter, defaultdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import orjson
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

_lock = threading.Lock()
_counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
_last: dict[str, float] = {}


def _count(name: str, kind: str, body: bytes, arrived: float) -> None:
    found: Counter[str] = Counter()
    if kind == "traces":
        for spans in ExportTraceServiceRequest.FromString(body).resource_spans:
            found["spans"] += sum(len(scope.spans) for scope in spans.scope_spans)
    else:
        for logs in ExportLogsServiceRequest.FromString(body).resource_logs:
            for scope in logs.scope_logs:
                found.update(record.event_name for record in scope.log_records)
    with _lock:
        _counts[name] += found
        if found:
            _last[name] = arrived


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        arrived = time.monotonic()
        self._answer(b"", "application/x-protobuf")
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        _, name, _, kind = self.path.split("/")
        _count(name, kind, body, arrived)

    def do_GET(self) -> None:
        name = self.path[1:]
        with _lock:
            body = orjson.dumps({"counts": _counts[name], "last": _last.get(name)})
        self._answer(body, "application/json")

    def _answer(self, body: bytes, content_type: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the signature of http.server
        pass


def main() -> None:
    """Say the port, serve until standard input ends."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads = True
    print(server.server_address[1], flush=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sys.stdin.read()


if __name__ == "__main__":
    main()
