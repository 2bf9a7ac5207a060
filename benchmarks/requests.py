"""What a request costs: the time that the app's thread takes, and the CPU of the whole process.

Three variants of one app: bare, with OpenTelemetry's instrumentation exporting spans, and with ours
besides. The app does next to nothing, so that what is added shows; it makes no spans and no log
records of its own, which would raise what OpenTelemetry costs. All requests carry a token.

- Time: the median over the requests of a round, in the thread that serves them.
- CPU: of the process, all threads, from the first request of a round until all of its spans, records
  and heads are acknowledged; so encoding, compression, sending, signing and syncing are in it.
"""

from __future__ import annotations

import asyncio
import io
import itertools
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from . import delivered, issuer
from .figures import Figure, quantile
from .workers import Sink, Worker, running, running_sink

VARIANTS = ("bare", "opentelemetry", "audit")
SPANS = {"flask": 1, "fastapi": 3}
"""How many spans OpenTelemetry's instrumentation makes of one request."""


class Served:
    """An app in this process, called as a server calls it."""

    def __init__(self, call: Callable[[int], list[int]], flush: Callable[[], None]) -> None:
        self._call = call
        self._flush = flush

    def run(self, count: int) -> dict[str, Any]:
        taken = self._call(count)
        return {"p50": quantile(taken, 0.5) / 1e3, "p99": quantile(taken, 0.99) / 1e3}

    def flush(self) -> None:
        self._flush()


def subject(*, variant: str, framework: str, directory: str, url: str) -> Served:
    """The app of ``framework`` with what ``variant`` puts around it; ``url`` is its sink's."""
    flush = _opentelemetry(url, framework) if variant != "bare" else lambda: None
    place = Path(directory)
    if variant == "audit":
        _audit(place, url)
    app = _flask() if framework == "flask" else _fastapi()
    tokens = itertools.cycle(f"Bearer {token}" for token in (place / "tokens").read_text().split())
    caller = _wsgi(app, tokens) if framework == "flask" else _asgi(app, tokens)
    return Served(caller, flush)


def _opentelemetry(url: str, framework: str) -> Callable[[], None]:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    from opentelemetry import trace

    provider = TracerProvider(resource=Resource.create({"service.name": "orders"}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(f"{url}/v1/traces")))
    trace.set_tracer_provider(provider)
    if framework == "flask":
        from opentelemetry.instrumentation.flask import FlaskInstrumentor

        FlaskInstrumentor().instrument()
    else:
        from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor

        FastAPIInstrumentor().instrument()

    def flush() -> None:
        provider.force_flush()

    return flush


def _audit(directory: Path, url: str) -> None:
    from opentelemetry.instrumentation.jwt_audit import JWTAuditInstrumentor

    JWTAuditInstrumentor().instrument(
        public_key=str(directory / "public.pem"),
        issuer=issuer.ISSUER,
        audience=issuer.AUDIENCE,
        signing_key=str(directory / "signing.pem"),
        spool=str(directory / "spool"),
        endpoint=f"{url}/v1/logs",
    )


def _flask() -> Any:
    import flask

    app = flask.Flask("orders")

    @app.get("/orders/<int:order_id>")
    def read_order(order_id: int) -> dict[str, int]:
        return {"id": order_id}

    return app


def _fastapi() -> Any:
    import fastapi

    app = fastapi.FastAPI()

    @app.get("/orders/{order_id}")
    async def read_order(order_id: int) -> dict[str, int]:
        return {"id": order_id}

    return app


def _wsgi(app: Any, tokens: Iterator[str]) -> Callable[[int], list[int]]:
    def start_response(status: str, headers: Any, exc_info: Any = None) -> None:  # noqa: ARG001 - WSGI's signature
        assert status == "200 OK"

    def call(count: int) -> list[int]:
        taken = []
        for _ in range(count):
            environ = {
                "REQUEST_METHOD": "GET",
                "SCRIPT_NAME": "",
                "PATH_INFO": "/orders/7",
                "QUERY_STRING": "",
                "SERVER_NAME": "127.0.0.1",
                "SERVER_PORT": "8000",
                "SERVER_PROTOCOL": "HTTP/1.1",
                "REMOTE_ADDR": "203.0.113.9",
                "HTTP_HOST": "orders.example",
                "HTTP_ACCEPT": "*/*",
                "HTTP_USER_AGENT": "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
                "HTTP_AUTHORIZATION": next(tokens),
                "wsgi.version": (1, 0),
                "wsgi.url_scheme": "http",
                "wsgi.input": io.BytesIO(),
                "wsgi.errors": sys.stderr,
                "wsgi.multithread": True,
                "wsgi.multiprocess": False,
                "wsgi.run_once": False,
            }
            begun = time.perf_counter_ns()
            body = app(environ, start_response)
            for _chunk in body:
                pass
            body.close()
            taken.append(time.perf_counter_ns() - begun)
        return taken

    return call


def _asgi(app: Any, tokens: Iterator[str]) -> Callable[[int], list[int]]:
    loop = asyncio.new_event_loop()

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        assert message.get("status", 200) == 200

    async def requests(count: int) -> list[int]:
        taken = []
        for _ in range(count):
            scope = {
                "type": "http",
                "asgi": {"version": "3.0", "spec_version": "2.3"},
                "http_version": "1.1",
                "method": "GET",
                "scheme": "http",
                "path": "/orders/7",
                "raw_path": b"/orders/7",
                "query_string": b"",
                "root_path": "",
                "headers": [
                    (b"host", b"orders.example"),
                    (b"accept", b"*/*"),
                    (b"user-agent", b"Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"),
                    (b"authorization", next(tokens).encode()),
                ],
                "client": ("203.0.113.9", 50000),
                "server": ("127.0.0.1", 8000),
                "state": {},
            }
            begun = time.perf_counter_ns()
            await app(scope, receive, send)
            taken.append(time.perf_counter_ns() - begun)
        return taken

    return lambda count: loop.run_until_complete(requests(count))


class Variant:
    """One variant as the run sees it: its worker, and what it has to have delivered."""

    def __init__(self, name: str, spans: int, worker: Worker, sink: Sink, sender: str, spool: Path) -> None:
        self._sender = sender
        self._worker = worker
        self._sink = sink
        self._traced = name != "bare"
        self._spool = spool if name == "audit" else None
        self._spans = spans
        self.sent = 0

    def round(self, count: int) -> tuple[float, float, float]:
        """Median and 99th percentile of a request's microseconds, and its CPU microseconds until delivery."""
        found = self._worker.run(count)
        self._worker.flush()
        self.sent += count
        if self._spool is not None:
            delivered.wait(self._spool)
        cpu = self._worker.cpu() - found["cpu_before"]
        if self._traced:
            self._sink.wait(self._sender, "spans", self.sent * self._spans)
        if self._spool is not None:
            self._sink.wait(self._sender, "http.request", self.sent)
        return found["p50"], found["p99"], cpu / count * 1e6

    def memory(self) -> float:
        return self._worker.memory()


def start(stack: ExitStack, sink: Sink, framework: str, names: tuple[str, ...], serial: int = 0) -> dict[str, Variant]:
    """The variants of one framework, running and warm; a ``serial`` for each time that a sink sees them."""
    found = {}
    for name in names:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        issuer.write(directory)
        sender = f"{framework}-{name}-{serial}"
        options = {"variant": name, "framework": framework, "directory": str(directory)}
        options["url"] = f"{sink.url}/{sender}"
        worker = stack.enter_context(running("requests", **options))
        found[name] = Variant(name, SPANS[framework], worker, sink, sender, directory / "spool")
        found[name].round(4 * issuer.PEOPLE)
    return found


def run(quick: bool) -> Iterator[Figure]:
    """Both figures for both frameworks."""
    rounds, count = (2, 64) if quick else (15, 500)
    with running_sink() as sink:
        for framework, title in (("flask", "Flask"), ("fastapi", "FastAPI")):
            with ExitStack() as stack:
                variants = start(stack, sink, framework, VARIANTS)
                found = [[variants[name].round(count) for name in VARIANTS] for _ in range(rounds)]
                sent = variants["audit"].sent
            yield from _figures(title, found, f"{sent:,} requests, none of their spans and records lost")


def _figures(title: str, rounds: list[list[tuple[float, float, float]]], counted: str) -> Iterator[Figure]:
    def medians(measure: int) -> str:
        bare, traced, audited = (quantile([one[n][measure] for one in rounds], 0.5) for n in range(3))
        return f"bare {bare:.0f} us, OpenTelemetry +{traced - bare:.0f} us, audit +{audited - traced:.0f} us"

    for measure, name, limit in ((0, "time added per request", 0.45), (2, "CPU added until all is delivered", 0.6)):
        values = []
        for one in rounds:
            bare, traced, audited = (variant[measure] for variant in one)
            values.append((audited - traced) / (traced - bare))
        note = f"; p99: {medians(1)}" if measure == 0 else f"; {counted}"
        yield Figure("requests", f"{name}, {title}", "x OpenTelemetry's", limit, values, medians(measure) + note)
