"""The ASGI boundary: what is recorded when, whatever app, server and client do."""

from __future__ import annotations

import asyncio
import contextvars
import errno
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import Request as StarletteRequest
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route
from starlette.websockets import WebSocketDisconnect

from jwt_audit.request import current_request
from jwt_audit.spool.writer import StreamWriter
from opentelemetry.instrumentation.jwt_audit.hooks.asgi import App, Message, Receive, Scope, Send, run_asgi
from opentelemetry.instrumentation.jwt_audit.hooks.boundary import new_request
from support.audited import Audited, auditing, last_head, token
from support.spools import clear_away

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def scope_of(path: str = "/", *headers: tuple[bytes, bytes], **changed: Any) -> Scope:
    plain = {"type": "http", "method": "GET", "path": path, "query_string": b"", "client": ("192.0.2.7", 5), **changed}
    return {**plain, "headers": list(headers)}


def bearer(person: str) -> tuple[bytes, bytes]:
    return b"authorization", f"Bearer {token(person)}".encode()


class Server:
    """Keeps each message with the number of request records that were on disk when it arrived."""

    def __init__(self, audited: Audited, *incoming: Message) -> None:
        self._audited = audited
        self._incoming = list(incoming)
        self.sent: list[tuple[str, int]] = []
        self.body = b""

    async def receive(self) -> Message:
        return self._incoming.pop(0) if self._incoming else {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        self.sent.append((message["type"].rpartition(".")[2], len(self._audited.requests())))
        self.body += message.get("body", b"")

    async def serve(self, app: App, scope: Scope | None = None) -> None:
        await run_asgi(app, scope_of() if scope is None else scope, self.receive, self.send)


def sends(*messages: Message) -> App:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        for message in messages:
            await send(message)

    return app


def started(*headers: tuple[bytes, bytes], status: int = 200) -> Message:
    return {"type": "http.response.start", "status": status, "headers": list(headers)}


def body(data: bytes, *, more: bool = False) -> Message:
    return {"type": "http.response.body", "body": data, "more_body": more}


async def test_the_record_is_there_before_the_last_chunk_and_not_earlier(audited: Audited) -> None:
    """A streamed response of no declared length: each chunk but the last leaves without it."""
    server = Server(audited)
    await server.serve(sends(started(), body(b"a", more=True), body(b"b", more=True), body(b"c")))
    assert server.sent == [("start", 0), ("body", 0), ("body", 0), ("body", 1)]
    (record,) = audited.requests()
    assert record["http.response.status_code"] == 200
    assert record["audit.outcome"] == "success"
    assert record["client.address"] == record["network.peer.address"] == "192.0.2.7"


@pytest.mark.parametrize(
    ("messages", "method", "seen"),
    [
        ([started((b"Content-Length", b"2")), *(body(b"x", more=True),) * 2, body(b"")], "GET", [0, 0, 1, 1]),
        ([started((b"content-length", b"0")), body(b"")], "GET", [1, 1]),
        ([started((b"content-length", b"9")), body(b"ignored!!")], "HEAD", [1, 1]),
        ([started(status=204), body(b"")], "GET", [1, 1]),
        ([started(status=304), body(b"")], "GET", [1, 1]),
        ([started(), {"type": "http.response.pathsend", "path": "/x"}], "GET", [0, 1]),
        ([started((b"content-length", b"junk")), body(b"c")], "GET", [0, 1]),
    ],
    ids=["length", "empty", "head", "204", "304", "pathsend", "no-length"],
)  # fmt: skip
async def test_the_record_is_there_before_the_client_has_all_it_was_promised(
    audited: Audited, messages: list[Message], method: str, seen: list[int]
) -> None:
    """By Content-Length, by the kind of response, or by a file that the server sends: not only by the last message."""
    server = Server(audited)
    await server.serve(sends(*messages), scope_of(method=method))
    assert [count for _, count in server.sent] == seen
    assert len(audited.requests()) == 1


async def test_a_middleware_that_sends_an_empty_last_message_delays_nothing(audited: Audited) -> None:
    """Starlette's BaseHTTPMiddleware: the chunk that completes the declared length is not the last message."""

    async def dispatch(request: StarletteRequest, go_on: Callable[[Any], Awaitable[Any]]) -> Any:
        return await go_on(request)

    async def home(request: StarletteRequest) -> PlainTextResponse:
        return PlainTextResponse("whole")

    app = Starlette(routes=[Route("/", home)], middleware=[Middleware(BaseHTTPMiddleware, dispatch=dispatch)])
    server = Server(audited, {"type": "http.request", "body": b"", "more_body": False})
    await server.serve(app)
    assert server.sent[:2] == [("start", 0), ("body", 1)]
    assert server.body == b"whole"


async def test_a_client_that_goes_leaves_an_unknown_outcome(audited: Audited) -> None:
    """Cancelled, told by an error in sending, or seen by the app, which stops: 200 was begun and not finished."""

    async def cancelled(scope: Scope, receive: Receive, send: Send) -> None:
        await send(started())
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await Server(audited).serve(cancelled)

    async def gone(message: Message) -> None:
        if message["type"] == "http.response.body":
            raise OSError("the client has gone")

    with pytest.raises(OSError, match="gone"):
        await run_asgi(sends(started(), body(b"a", more=True)), scope_of(), Server(audited).receive, gone)

    async def endless() -> Any:
        while True:
            yield b"event"
            await asyncio.sleep(0)

    async def events(request: StarletteRequest) -> StreamingResponse:
        return StreamingResponse(endless())

    await Server(audited).serve(Starlette(routes=[Route("/", events)]))
    found = [
        (one["http.response.status_code"], one["audit.outcome"], one.get("error.type")) for one in audited.requests()
    ]
    assert found == [(200, "unknown", None)] * 3


async def test_an_app_that_raises_is_a_failure_and_the_error_goes_on(audited: Audited) -> None:
    """Before the response a 500; after its start the status that was sent."""
    for messages, status in (((), 500), ((started(status=202),), 202)):

        async def app(scope: Scope, receive: Receive, send: Send, messages: Any = messages) -> None:
            for message in messages:
                await send(message)
            raise LookupError("with a secret in it")

        with pytest.raises(LookupError):
            await Server(audited).serve(app)
        record = audited.requests()[-1]
        assert record["http.response.status_code"] == status
        assert record["audit.outcome"] == "failure"
        assert record["error.type"] == "LookupError"
        assert "secret" not in str(record)


async def test_an_app_that_answers_nothing_is_a_failure(audited: Audited) -> None:
    """Servers answer 500 for it."""
    await Server(audited).serve(sends())
    (record,) = audited.requests()
    assert (record["http.response.status_code"], record["audit.outcome"]) == (500, "failure")


async def test_an_error_that_the_framework_answers_is_named(audited: Audited) -> None:
    """Starlette sends its 500 before it raises again: one record, with the exception's class, and no late one."""

    async def broken(request: StarletteRequest) -> PlainTextResponse:
        raise ZeroDivisionError

    async def handler(request: StarletteRequest, error: Exception) -> PlainTextResponse:
        return PlainTextResponse("sorry", 500)

    with pytest.raises(ZeroDivisionError):
        await Server(audited).serve(Starlette(routes=[Route("/", broken)], exception_handlers={Exception: handler}))
    (record,) = audited.requests()
    assert record["error.type"] == "ZeroDivisionError"
    assert audited.requests("http.request.late") == []


async def test_denied_is_said(audited: Audited) -> None:
    """403 is a failure that was a decision."""
    await Server(audited).serve(sends(started(status=403), body(b"no")), scope_of("/", bearer("alice")))
    (record,) = audited.requests()
    assert (record["audit.outcome"], record["audit.decision"]) == ("failure", "denied")
    assert record["audit.actor.id"] == record["enduser.id"] == "alice"


async def test_a_background_task_that_fails_is_a_late_record(audited: Audited) -> None:
    """The response was whole and recorded; what followed has the same request id."""

    async def fails() -> None:
        raise TimeoutError

    async def home(request: StarletteRequest) -> PlainTextResponse:
        return PlainTextResponse("done", background=BackgroundTask(fails))

    with pytest.raises(TimeoutError):
        await Server(audited).serve(Starlette(routes=[Route("/", home)]), scope_of("/", bearer("alice")))
    (record,) = audited.requests()
    (late,) = audited.requests("http.request.late")
    assert record["audit.outcome"] == "success"
    assert (late["audit.outcome"], late["error.type"]) == ("failure", "TimeoutError")
    assert late["request.id"] == record["request.id"]
    assert late["audit.actor.id"] == "alice"


WEBSOCKET = {"type": "websocket", "method": None}


async def websocket(
    audited: Audited, *messages: Message, error: BaseException | None = None
) -> list[tuple[str, Any, Any]]:
    """(event, status, outcome) of the records of one connection."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        for message in messages:
            await send(message)
        if error is not None:
            raise error

    scope = scope_of("/ws", bearer("alice"), type="websocket")
    del scope["method"]
    try:
        await Server(audited).serve(app, scope)
    except BaseException as raised:
        assert raised is error  # noqa: PT017 - nothing of ours
    shown = [(one.event_name, one.attributes) for one in audited.records() if one.event_name[:5] != "audit"]
    assert all(found["enduser.id"] == "alice" and found["audit.action"] == "CONNECT" for _, found in shown)
    return [(name, found["http.response.status_code"], found["audit.outcome"]) for name, found in shown]


ACCEPT: Message = {"type": "websocket.accept"}
OPENED = ("websocket.open", 101, "success")


async def test_a_websocket_has_a_record_at_both_ends(audited: Audited) -> None:
    """Accepted and returned from."""
    assert await websocket(audited, ACCEPT, {"type": "websocket.close"}) == [
        OPENED,
        ("websocket.close", 101, "success"),
    ]


@pytest.mark.parametrize(
    ("error", "outcome"),
    [(WebSocketDisconnect(), "success"), (RuntimeError(), "failure"), (asyncio.CancelledError(), "unknown")],
)
async def test_how_a_websocket_ended_is_told(audited: Audited, error: BaseException, outcome: str) -> None:
    """A client that leaves is the normal end; an app that fails is a failure; a server that stops is neither."""
    assert await websocket(audited, ACCEPT, error=error) == [OPENED, ("websocket.close", 101, outcome)]


@pytest.mark.parametrize(
    ("messages", "status"),
    [
        ([{"type": "websocket.close"}], 403),
        ([{"type": "websocket.http.response.start", "status": 401}, {"type": "websocket.http.response.body"}], 401),
        ([], 500),
    ],
)
async def test_a_rejected_websocket_is_one_failed_request(
    audited: Audited, messages: list[Message], status: int
) -> None:
    """Closed before it was accepted, answered by a plain response, or not at all."""
    assert await websocket(audited, *messages) == [("http.request", status, "failure")]


async def test_a_pipelined_request_inherits_nothing(audited: Audited) -> None:
    """The next request's task is made while the last chunk of the one before is sent, so it copies its context."""
    seen: list[str | None] = []
    following: list[asyncio.Task[None]] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        request = current_request()
        seen.append(None if request is None else request.identity.subject)
        with audited.tracer.start_as_current_span(scope["path"]):
            await send(started())
            await send(body(b"x"))

    server = Server(audited)

    async def send(message: Message) -> None:
        if message["type"] == "http.response.body":
            following.append(asyncio.create_task(run_asgi(app, scope_of("/bob"), server.receive, server.send)))

    await run_asgi(app, scope_of("/alice", bearer("alice")), server.receive, send)
    await following[0]
    assert seen == ["alice", None]
    assert [one["audit.actor.id"] for one in audited.requests()] == ["alice", "anonymous"]
    first, second = audited.spans()["/alice"], audited.spans()["/bob"]
    assert second.parent is None
    assert first.context.trace_id != second.context.trace_id
    assert "enduser.id" not in (second.attributes or {})


async def test_a_request_inside_of_a_request_is_the_same_one(audited: Audited) -> None:
    """Whatever stack of layers: one record. Also where the inner app is run in a context of its own."""

    async def inner(scope: Scope, receive: Receive, send: Send) -> None:
        request = current_request()
        assert request is not None
        assert request.identity.subject == "alice"
        await sends(started(), body(b"x"))(scope, receive, send)

    async def nested(scope: Scope, receive: Receive, send: Send) -> None:
        await run_asgi(inner, scope, receive, send)

    async def lost(scope: Scope, receive: Receive, send: Send) -> None:
        task = contextvars.Context().run(asyncio.create_task, run_asgi(inner, {**scope}, receive, send))
        await task

    for app in (nested, lost):
        await Server(audited).serve(app, scope_of("/", bearer("alice")))
    assert [one["audit.actor.id"] for one in audited.requests()] == ["alice", "alice"]


async def test_what_a_context_held_before_is_put_back(audited: Audited) -> None:
    """An app called in a task that goes on: what that logs and traces later is not the request's."""
    with audited.tracer.start_as_current_span("worker"):
        await Server(audited).serve(sends(started(), body(b"x")), scope_of("/", bearer("alice")))
        assert current_request() is None
        with audited.tracer.start_as_current_span("later"):
            pass
    later = audited.spans()["later"]
    assert later.parent is not None
    assert "jwt.status" not in (later.attributes or {})


async def test_latin_1_in_every_header_disturbs_nothing(audited: Audited) -> None:
    """Header values are bytes; none has to be UTF-8, and each is bounded and printable when it is recorded."""
    names = (b"authorization", b"x-request-id", b"user-agent", b"traceparent", b"x-forwarded-for", b"cookie", b"host")
    raw = bytes(range(0x80, 0x100)) + b"\x00\x1b[31m"
    await Server(audited).serve(sends(started(), body(b"x")), scope_of("/", *((name, raw) for name in names)))
    (record,) = audited.requests()
    assert record["user_agent.original"].isprintable()
    assert record["audit.actor.id"] == "anonymous"
    assert record["jwt.status"] in ("absent", "invalid")


async def test_two_authorization_headers_name_nobody(audited: Audited) -> None:
    """The app may use the other one."""
    await Server(audited).serve(sends(started(), body(b"x")), scope_of("/", bearer("alice"), bearer("bob")))
    (record,) = audited.requests()
    assert (record["audit.actor.id"], record["jwt.error"]) == ("anonymous", "multiple_tokens")


@pytest.mark.parametrize(
    "changed",
    [
        {"client": None},
        {"client": ""},
        {"client": "odd"},
        {"client": (None, 0)},
        {"path": ""},
        {"method": None},
        {"extra": object()},
    ],
)
async def test_odd_scopes_are_served_and_recorded(audited: Audited, changed: dict[str, Any]) -> None:
    """A unix socket has no client address; servers differ in what else they leave out."""
    server = Server(audited)
    await server.serve(sends(started(), body(b"x")), scope_of(**changed))
    assert server.body == b"x"
    (record,) = audited.requests()
    assert "client.address" not in record or "client" not in changed


async def test_a_scope_that_is_no_request_is_passed_on(audited: Audited) -> None:
    """Types that nobody knows yet, and one that cannot be read at all."""
    for scope in ({"type": "smtp"}, {"type": "http", "headers": [(b"authorization", 7)]}, {}):
        server = Server(audited)
        await server.serve(sends(started(), body(b"x")), scope)
        assert server.body == b"x"
    assert audited.requests() == []


async def test_excluded_paths_leave_no_record_and_have_their_identity(tmp_path: Path) -> None:
    """Exact ones and those below a prefix; never a part of a name."""
    with auditing(tmp_path, excluded_paths=["/health", "/static/*"]) as audited:
        for path in ("/health", "/static/app.js", "/healthcare", "/static"):
            await Server(audited).serve(sends(started(), body(b"x")), scope_of(path))
        assert [one["url.path"] for one in audited.requests()] == ["/healthcare", "/static"]


async def test_excluded_methods_leave_no_record(tmp_path: Path) -> None:
    """Of requests; a WebSocket has no method."""
    with auditing(tmp_path, excluded_methods=["OPTIONS", "GET"]) as audited:
        for method in ("OPTIONS", "POST"):
            await Server(audited).serve(sends(started(), body(b"x")), scope_of("/orders", method=method))
        assert [one["http.request.method"] for one in audited.requests()] == ["POST"]
        assert not audited.pipeline.excludes(new_request("websocket", "GET", "/", None))


async def test_the_lifespan_opens_the_spool_and_settles_it(audited: Audited) -> None:
    """What an earlier process left is shipped from the start; at the end, head and delivery come before the answer."""
    server = Server(audited)
    scope: Scope = {"type": "lifespan"}
    await server.serve(sends({"type": "lifespan.startup.complete"}), scope)
    assert audited.spool.is_dir()
    await server.serve(sends(started(), body(b"x")))
    await server.serve(sends({"type": "lifespan.shutdown.complete"}), scope)
    assert audited.records()[-1].event_name == "audit.stream.end"
    assert last_head(audited.spool) == len(audited.records())


def test_an_event_loop_that_is_not_asyncios_serves_too(tmp_path: Path) -> None:
    """Trio, or a coroutine driven by hand: what waits in threads elsewhere is done in place."""

    def drive(coroutine: Any) -> None:
        with pytest.raises(StopIteration):
            coroutine.send(None)

    with auditing(tmp_path, durability="disk", fail_mode="closed") as audited:
        server = Server(audited)
        for kind in ("startup", "shutdown"):
            drive(server.serve(sends({"type": f"lifespan.{kind}.complete"}), {"type": "lifespan"}))
        drive(server.serve(sends(started(), body(b"x")), scope_of("/", bearer("alice"))))
        assert [one["enduser.id"] for one in audited.requests()] == ["alice"]


async def test_nothing_is_audited_while_nothing_is_installed() -> None:
    """Off is off: the app gets the very callables of the server."""
    given: list[object] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        given.extend((receive, send))

    async def receive() -> Message:
        return {}

    async def send(message: Message) -> None:
        return

    await run_asgi(app, scope_of(), receive, send)
    assert given == [receive, send]


async def test_closed_calls_no_app_that_it_cannot_record(tmp_path: Path) -> None:
    """A first record before the app; 503 where that cannot be written, and a WebSocket is closed (1013, try again)."""
    with auditing(tmp_path, fail_mode="closed") as audited:
        calls: list[int] = []

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            calls.append(len(audited.requests("http.request.received")))
            await sends(started(), body(b"x"))(scope, receive, send)

        await Server(audited).serve(app, scope_of("/", bearer("alice")))
        (first,), (last,) = audited.requests("http.request.received"), audited.requests()
        assert (first["request.id"], first["enduser.id"]) == (last["request.id"], "alice")
        clear_away(audited.spool)
        sent: list[Message] = []

        async def send(message: Message) -> None:
            sent.append(message)

        for kind in ("http", "websocket"):
            await run_asgi(app, scope_of(type=kind), Server(audited).receive, send)
        assert [(one["type"], one.get("status", one.get("code"))) for one in sent] == [
            ("http.response.start", 503),
            ("http.response.body", None),
            ("websocket.close", 1013),
        ]
        assert calls == [1]


@pytest.mark.parametrize(
    ("messages", "passed"),
    [((started(), body(b"a", more=True), body(b"b")), 2), ((started(status=204), body(b"")), 0)],
    ids=["body", "bodiless"],
)
async def test_closed_lets_nothing_pass_that_completes_an_unrecorded_response(
    tmp_path: Path, messages: tuple[Message, ...], passed: int
) -> None:
    """Neither the last chunk, nor the headers of a response that has no body, nor what an app sends instead."""
    spool, refused = tmp_path / "spool", list[str]()
    sent: list[Message] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        clear_away(spool)
        for message in (*messages, started(status=500), body(b"sorry")):
            try:
                await send(message)
            except ConnectionAbortedError:
                refused.append(message["type"])
        raise LookupError

    async def send(message: Message) -> None:
        sent.append(message)

    with auditing(tmp_path, fail_mode="closed") as audited:
        with pytest.raises(LookupError):
            await run_asgi(app, scope_of(), Server(audited).receive, send)
        assert sent == list(messages[:passed])
        assert len(refused) == len(messages) + 2 - passed


async def test_what_is_broken_off_is_counted_and_has_no_second_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The app's error that follows is ours; when the disk takes records again, the loss is told."""

    def fails(self: StreamWriter, payload: bytes, digest: str) -> int:
        raise OSError(errno.EIO, "Input/output error")

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(started())
        monkeypatch.setattr(StreamWriter, "append", fails)
        try:
            await send(body(b"x"))
        finally:
            monkeypatch.undo()

    with auditing(tmp_path, fail_mode="closed") as made:
        with pytest.raises(ConnectionAbortedError):
            await Server(made).serve(app)
        await Server(made).serve(sends(started(), body(b"x")))
        assert [one.event_name for one in made.records() if one.event_name != "audit.stream.start"] == [
            "http.request.received",
            "audit.records.lost",
            "http.request.received",
            "http.request",
        ]


async def test_closed_opens_no_websocket_that_it_cannot_record(tmp_path: Path) -> None:
    """Its acceptance does not leave, and what follows is no connection's end."""
    with auditing(tmp_path, fail_mode="closed") as audited:

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            clear_away(audited.spool)
            await send(ACCEPT)

        server = Server(audited)
        with pytest.raises(ConnectionAbortedError):
            await server.serve(app, scope_of("/ws", type="websocket"))
        assert server.sent == []
