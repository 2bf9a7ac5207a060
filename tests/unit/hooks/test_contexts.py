"""Nobody else's context is touched: whatever is nested how, and closed when, spans are as without us."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import io
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import falcon
import flask
import pytest
from a2wsgi import WSGIMiddleware
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.context import Context
from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware as AsgiMiddleware
from opentelemetry.instrumentation.falcon import FalconInstrumentor
from opentelemetry.instrumentation.flask import FlaskInstrumentor
from opentelemetry.instrumentation.wsgi import OpenTelemetryMiddleware as WsgiMiddleware
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Mount, Route

from jwt_audit.request import current_request, in_flight
from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.instrumentation.jwt_audit.hooks import targets
from opentelemetry.instrumentation.jwt_audit.hooks.asgi import run_asgi
from opentelemetry.instrumentation.jwt_audit.hooks.wsgi import run_wsgi
from opentelemetry.instrumentation.jwt_audit.request_context import REQUEST_KEY
from opentelemetry.instrumentation.jwt_audit.stamp.spans import IdentitySpanProcessor
from support.audited import auditing

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

Shown = tuple[str, ...]
"""A span: its kind, its route, its name, and the names of those above it, as far as the program made them."""


@contextmanager
def traced() -> Iterator[tuple[TracerProvider, InMemorySpanExporter]]:
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    yield provider, exporter
    provider.shutdown()


def shown(spans: Sequence[ReadableSpan]) -> list[list[Shown]]:
    """The traces and what spans are in them, apart from our attributes, from ids and from the order of their ends."""
    made = {span.context.span_id: span for span in spans}
    traces: dict[int, list[Shown]] = {}
    for span in spans:
        above, chain = span.parent, [span.name]
        while above is not None:
            parent = made.get(above.span_id)
            chain.append("of another process" if parent is None else parent.name)
            above = None if parent is None else parent.parent
        route = str((span.attributes or {}).get("http.route", ""))
        traces.setdefault(span.context.trace_id, []).append((span.kind.name, route, *chain))
    return sorted(sorted(found) for found in traces.values())


class Body:
    """A body whose code runs in each of its calls."""

    def __init__(self, tracer: trace.Tracer) -> None:
        self._tracer = tracer
        self._left = 2

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        with self._tracer.start_as_current_span("chunk"):
            if not self._left:
                raise StopIteration
            self._left -= 1
            return b"x"

    def close(self) -> None:
        self._tracer.start_span("closing").end()


def wsgi_app(kind: str, layers: Sequence[str], provider: TracerProvider) -> Any:
    """An app of ``kind``, and around it, from the inside out, our boundary and OpenTelemetry's middleware."""
    tracer = provider.get_tracer("app")

    def answer(streamed: bool) -> Any:
        tracer.start_span("handler").end()
        return Body(tracer) if streamed else [b"whole"]

    def plain(environ: Any, start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", [])
        return answer("stream" in environ["PATH_INFO"])  # type: ignore[no-any-return]

    def lazy(environ: Any, start_response: Any) -> Iterable[bytes]:
        yield from plain(environ, start_response)

    app: Any = {"plain": plain, "lazy": lazy}.get(kind)
    if kind == "flask":
        app = flask.Flask("shop")
        app.add_url_rule("/<kind>", "home", lambda kind: flask.Response(answer(kind == "stream")))
        FlaskInstrumentor().instrument_app(app, tracer_provider=provider)  # type: ignore[no-untyped-call]  # upstream
    if kind == "falcon":
        app = falcon.App()

        class Home:
            def on_get(self, request: Any, response: Any, kind: str) -> None:
                response.stream = answer(kind == "stream")

        app.add_route("/{kind}", Home())
    for layer in layers:
        app = _ours(app) if layer == "ours" else WsgiMiddleware(app, tracer_provider=provider)
    return app


def _ours(app: Any) -> Any:
    return lambda environ, start_response: run_wsgi(app, environ, start_response)


def environ_of(path: str, parent: str | None) -> dict[str, Any]:
    environ = {"REQUEST_METHOD": "GET", "SCRIPT_NAME": "", "PATH_INFO": path, "QUERY_STRING": "", "SERVER_NAME": "shop"}
    environ |= {"SERVER_PORT": "80", "SERVER_PROTOCOL": "HTTP/1.1", "REMOTE_ADDR": "192.0.2.7"}
    environ |= {} if parent is None else {"HTTP_TRACEPARENT": parent}
    return environ | {"wsgi.url_scheme": "http", "wsgi.errors": io.StringIO(), "wsgi.input": io.BytesIO()}


requests = st.fixed_dictionaries(
    {
        "path": st.sampled_from(("/list", "/stream")),
        "parent": st.sampled_from((None, PARENT)),
        "around": st.booleans(),
        "taken": st.integers(0, 4),
        "end": st.sampled_from(("closed", "elsewhere", "late", "never")),
    }
)


def run_program(app: Any, program: Sequence[dict[str, Any]], provider: TracerProvider) -> None:
    """Make the program's requests one after another in one context, as a thread of a server or a test does."""
    tracer = provider.get_tracer("client")
    late: list[Any] = []
    kept: list[Any] = []
    for one in program:
        with ExitStack() as stack:
            if one["around"]:
                stack.enter_context(tracer.start_as_current_span("around"))
            environ = environ_of(one["path"], one["parent"])
            body = app(environ, lambda *_: None)
            assert not [name for name in environ if name.startswith("jwt_audit")]
            chunks = iter(body)
            for _ in range(one["taken"]):
                next(chunks, None)
            close = getattr(body, "close", lambda: None)
            if one["end"] == "closed":
                close()
            elif one["end"] == "elsewhere":
                contextvars.copy_context().run(close)
            elif one["end"] == "late":
                late.append(close)
            else:
                kept.append((body, chunks))
        tracer.start_span("after").end()
    for close in late:
        close()
    tracer.start_span("last").end()
    assert current_request() is None


LAYERS = st.lists(st.sampled_from(("ours", "otel")), max_size=4).map(tuple)


def both(run: Any, *, instrumentor: Any = None) -> tuple[list[list[Shown]], list[list[Shown]]]:
    """What ``run(provider)`` makes of spans without us, and with us; each in a context of its own."""
    found = []
    for with_us in (False, True):
        with TemporaryDirectory() as root, traced() as (provider, exporter), ExitStack() as stack:
            if with_us:
                stack.enter_context(auditing(Path(root), excluded_paths=["/*"]))
                provider.add_span_processor(IdentitySpanProcessor())
            if instrumentor is not None:
                instrumentor.instrument(tracer_provider=provider)
                stack.callback(instrumentor.uninstrument)
            contextvars.Context().run(run, provider)
            in_flight.clear()  # of bodies that are never closed, and still held by this frame
        found.append(shown(exporter.get_finished_spans()))
    return found[0], found[1]


@pytest.fixture(autouse=True, scope="module")
def _places() -> None:
    targets.install()


@pytest.mark.parametrize("kind", ["plain", "lazy", "flask", "falcon"])
@settings(max_examples=60)
@given(layers=LAYERS, program=st.lists(requests, min_size=1, max_size=4))
def test_wsgi_spans_are_as_without_us(kind: str, layers: tuple[str, ...], program: list[dict[str, Any]]) -> None:
    """Any nesting, any order of closing, never closing, several requests in one context, spans around them."""
    without, with_us = both(
        lambda provider: run_program(wsgi_app(kind, layers, provider), program, provider),
        instrumentor=FalconInstrumentor() if kind == "falcon" else None,
    )
    assert with_us == without


@settings(max_examples=40)
@given(ours=st.sampled_from(((), (0,), (1,), (0, 1))), program=st.lists(requests, min_size=1, max_size=3))
def test_asgi_spans_are_as_without_us(ours: tuple[int, ...], program: list[dict[str, Any]]) -> None:
    """Starlette with a streamed response, background spans and a WSGI app mounted in it; one task or several."""

    def run(provider: TracerProvider) -> None:
        tracer = provider.get_tracer("app")

        async def home(request: Any) -> Any:
            tracer.start_span("handler").end()
            return PlainTextResponse("whole")

        async def stream(request: Any) -> Any:
            async def chunks() -> Any:
                with tracer.start_as_current_span("chunk"):
                    yield b"x"
                yield b"y"

            return StreamingResponse(chunks())

        mounted: Any = WSGIMiddleware(wsgi_app("flask", ("ours",), provider))
        routes = [Route("/list", home), Route("/stream", stream), Mount("/wsgi", mounted)]
        app: Any = Starlette(routes=routes)
        for layer in range(2):
            app = AsgiMiddleware(app, tracer_provider=provider) if layer == 0 else app
            app = functools.partial(run_asgi, app) if layer in ours else app

        async def main() -> None:
            client = provider.get_tracer("client")
            for one in program:
                with ExitStack() as stack:
                    if one["around"]:
                        stack.enter_context(client.start_as_current_span("around"))
                    path = one["path"] if one["taken"] < 3 else f"/wsgi{one['path']}"
                    await ask(app, path, one["parent"])
                client.start_span("after").end()
                assert current_request() is None
                assert otel_context.get_value(REQUEST_KEY) is None

        asyncio.run(main())

    without, with_us = both(run)
    assert with_us == without


async def ask(app: Any, path: str, parent: str | None) -> None:
    headers = [(b"host", b"shop")] + ([] if parent is None else [(b"traceparent", parent.encode())])
    scope: dict[str, Any] = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
    }
    scope |= {"path": path, "raw_path": path.encode(), "query_string": b"", "headers": headers, "root_path": ""}
    scope |= {"client": ("192.0.2.7", 4711), "server": ("shop", 80)}
    messages = [{"type": "http.request", "body": b"", "more_body": False}]
    over = asyncio.Event()

    async def receive() -> Any:
        if messages:
            return messages.pop()
        await over.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        if message["type"] == "http.response.body" and not message.get("more_body", False):
            over.set()

    await app(scope, receive, send)
    assert not [name for name in scope if name == "jwt_audit.request"]


def test_the_next_request_of_a_connection_is_no_child_of_the_one_before(tmp_path: Path) -> None:
    """A server begins it in a task that it makes while it sends the last of the earlier one, or reads for it."""
    with auditing(tmp_path, excluded_paths=["/*"]), traced() as (provider, exporter):
        provider.add_span_processor(IdentitySpanProcessor())
        tracer = provider.get_tracer("app")

        async def app(scope: Any, receive: Any, send: Any) -> None:
            with tracer.start_as_current_span("handler"):
                await receive()
                await send({"type": "http.response.start", "status": 200, "headers": []})
                await send({"type": "http.response.body"})

        whole: Any = AsgiMiddleware(app, tracer_provider=provider)

        async def connection(when: str, left: int) -> None:
            later: list[asyncio.Task[None]] = []

            async def next_one(kind: str) -> None:
                if kind == when and left and not later:
                    later.append(asyncio.create_task(connection(when, left - 1)))

            async def receive() -> Any:
                await next_one("receive")
                return {"type": "http.request"}

            async def send(message: Any) -> None:
                await next_one(message["type"])

            scope = {"type": "http", "method": "GET", "path": "/", "headers": [], "query_string": b""}
            await run_asgi(whole, scope, receive, send)
            for task in later:
                await task

        for when in ("receive", "http.response.start", "http.response.body"):
            exporter.clear()
            asyncio.run(connection(when, 2))
            servers = [span for span in exporter.get_finished_spans() if span.kind is trace.SpanKind.SERVER]
            assert len({span.context.trace_id for span in servers}) == len(servers) == 3
            assert all(span.parent is None for span in servers)


def test_an_app_that_a_thread_runs_without_its_context_has_the_parents_that_it_would_have(tmp_path: Path) -> None:
    """We bring the identity along, and no span."""
    with auditing(tmp_path) as audited:

        def inner(environ: Any, start_response: Any) -> list[bytes]:
            audited.tracer.start_span("inner").end()
            start_response("200 OK", [])
            return [b"x"]

        def outer(environ: Any, start_response: Any) -> Any:
            found: list[Any] = []
            thread = threading.Thread(target=lambda: found.extend(run_wsgi(inner, environ, start_response)))
            with audited.tracer.start_as_current_span("server", Context(), kind=trace.SpanKind.SERVER):
                thread.start()
                thread.join()
            return found

        list(run_wsgi(outer, environ_of("/", None), lambda *_: None))
        span = audited.spans()["inner"]
        assert span.parent is None
        assert (span.attributes or {})["jwt.status"] == "absent"
        assert len(audited.requests()) == 1
        in_flight.clear()


def test_a_response_that_is_never_closed_is_let_go_of(tmp_path: Path) -> None:
    """With its request, and whatever that holds."""
    with auditing(tmp_path):
        for _ in range(3):
            next(iter(run_wsgi(lambda *_: iter([b"a", b"b"]), environ_of("/", None), lambda *_: None)))
        assert in_flight == set()
