"""The ASGI boundary: around an app, at whatever layer it is called first.

The record is appended before the message that completes the response is passed on: the last one, or
the one after which the client has all it was promised, by Content-Length or by the kind of response
(middlewares send an empty last message long after). What becomes known only later (a background task
that fails) is a second record with the same request id.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, MutableMapping, Sequence
from typing import Any

from jwt_audit import attributes as attr
from jwt_audit.request import Phase, Request
from opentelemetry import trace

from ..pipeline import Pipeline
from ..request_context import set_trace_ids
from ..waiting import run_in_thread
from .boundary import (
    BODILESS,
    REFUSAL,
    UNRECORDED,
    active,
    end,
    ended_early,
    enter,
    error_name,
    failed,
    guarded,
    leave,
    new_request,
    note_error,
    resumed,
)
from .contexts import enter_server, leave_server
from .headers import repeatable

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


async def run_asgi(app: App, scope: Scope, receive: Receive, send: Send) -> None:
    """Call ``app``, and audit it unless this is not a request or is part of a request that is audited already."""
    pipeline, lost = active(scope)
    kind = scope.get("type")
    if lost is not None:
        with resumed(lost):
            await app(scope, receive, send)
    elif pipeline is None:
        await app(scope, receive, send)
    elif kind == "lifespan":
        await app(scope, receive, _lifespan(pipeline, send))
    elif kind in ("http", "websocket"):
        await _run(pipeline, app, scope, receive, send)
    else:
        await app(scope, receive, send)


def _lifespan(pipeline: Pipeline, send: Send) -> Send:
    async def forward(message: Message) -> None:
        if message["type"] == "lifespan.startup.complete":
            await run_in_thread(pipeline.start)
        elif message["type"] == "lifespan.shutdown.complete":
            # uvicorn kills itself with the caught signal after this: no atexit will run.
            await run_in_thread(pipeline.settle)
        await send(message)

    return forward


async def _run(pipeline: Pipeline, app: App, scope: Scope, receive: Receive, send: Send) -> None:
    request = guarded("reading a request", _read, scope)
    if request is None:
        await app(scope, receive, send)
        return
    try:
        undecided = pipeline.identifier.begin(request)
        if undecided is not None:
            await pipeline.identifier.decide_async(request, undecided)
    except Exception as error:
        failed("verifying a token", error)
    before = enter(request, scope)
    try:
        boundary = _Boundary(pipeline, request, scope, receive, send)
        try:
            if boundary.audited and not await boundary.admit():
                return
            await app(scope, boundary.receive, boundary.send)
        except BaseException as error:
            await boundary.raised(error)
            raise
        else:
            await boundary.returned()
    finally:
        leave(request, scope, before)
        end(request)


def _read(scope: Scope) -> Request:
    wanted: dict[bytes, str] = {}
    authorization = []
    headers = scope.get("headers")
    pairs, unread = repeatable(headers)
    if unread is not headers:
        scope["headers"] = unread
    for name, value in pairs:
        if name == b"authorization":
            authorization.append(value.decode("latin-1"))
        elif name in (b"x-request-id", b"user-agent", b"traceparent"):
            wanted.setdefault(name, value.decode("latin-1"))
    kind = scope["type"]
    method = scope.get("method") or "GET"
    request = new_request(kind, method, scope.get("path") or "/", wanted.get(b"x-request-id"))
    request.authorization = tuple(authorization)
    request.headers = _Headers(pairs)
    agent = wanted.get(b"user-agent")
    request.user_agent = None if agent is None else attr.text(agent)
    request.traceparent = wanted.get(b"traceparent")
    request.peer = _address(scope)
    return request


class _Headers:
    """A request's headers, as its scope had them at the start."""

    __slots__ = ("_pairs",)

    def __init__(self, pairs: Sequence[Any]) -> None:
        self._pairs = pairs

    def every(self) -> Iterator[str]:
        return (value.decode("latin-1") for _, value in self._pairs)

    def named(self, name: str) -> list[str]:
        wanted = name.encode("latin-1")
        return [value.decode("latin-1") for key, value in self._pairs if key == wanted]


def _address(scope: Scope) -> str | None:
    client = scope.get("client")
    return attr.text(str(client[0]), 256) if isinstance(client, (tuple, list)) and client and client[0] else None


class _Boundary:
    """One request's way through the app."""

    def __init__(self, pipeline: Pipeline, request: Request, scope: Scope, receive: Receive, send: Send) -> None:
        self._pipeline = pipeline
        self._request = request
        self._scope = scope
        self._receive = receive
        self._send = send
        self._around = trace.get_current_span()
        self.audited = not pipeline.excludes(request)
        self._websocket = request.kind == "websocket"
        self._complete = False
        self._accepted = False
        self._broken = False
        """Whether FAIL_MODE=closed has broken the response off: nothing more of it may leave."""
        self._client_gone = False
        self._remaining: int | None = None
        """Bytes that the declared Content-Length still lacks; None where none was declared."""

    async def admit(self) -> bool:
        """FAIL_MODE=closed: without a first record the app is not called."""
        if await self._pipeline.admit_async(self._request):
            return True
        if self._websocket:
            await self._send({"type": "websocket.close", "code": 1013})
            return False
        headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"retry-after", b"5")]
        await self._send({"type": "http.response.start", "status": 503, "headers": headers})
        await self._send({"type": "http.response.body", "body": REFUSAL})
        return False

    async def send(self, message: Message) -> None:
        """Pass a message on; before the one that completes the response, the record."""
        if self._broken:
            raise ConnectionAbortedError(UNRECORDED)
        if self._websocket:
            await self._note_websocket(message)
        elif not self._complete:
            if message["type"] == "http.response.start":
                message = guarded("reading a response", self._begin, message) or message
            if guarded("reading a response", self._completes, message):
                self._complete = True
                await self._finish()
        left = enter_server(self._around)
        try:
            await self._send(message)
        except OSError:
            self._client_gone = True
            raise
        finally:
            leave_server(left)

    async def receive(self) -> Message:
        """Pass on what the client sends, unread."""
        left = enter_server(self._around)
        try:
            return await self._receive()
        finally:
            leave_server(left)

    def _completes(self, message: Message) -> bool:
        kind = message["type"]
        if kind == "http.response.body":
            if not message.get("more_body", False):
                return True
            if self._remaining is not None:
                self._remaining -= len(message.get("body", b""))
        elif kind == "http.response.pathsend":
            return True
        return self._remaining is not None and self._remaining <= 0

    def _begin(self, message: Message) -> Message:
        """Returns the message to pass on: a copy if its headers can be read only once."""
        request = self._request
        headers = message.get("headers")
        pairs, unread = repeatable(headers)
        if unread is not headers:
            message = {**message, "headers": unread}
        request.status = message.get("status", 0)
        if request.method == "HEAD" or request.status in BODILESS:
            self._remaining = 0
        else:
            guarded("reading a response", self._promised, pairs)
        set_trace_ids(request)
        return message

    def _promised(self, headers: Sequence[Any]) -> None:
        for name, value in headers:
            if name.lower() == b"content-length":
                self._remaining = int(value)

    async def _note_websocket(self, message: Message) -> None:
        kind, request = message["type"], self._request
        if kind == "websocket.accept":
            request.status = 101
            await self._finish(attr.EVENT_WEBSOCKET_OPEN)
            self._accepted = True
        elif not self._accepted and kind in ("websocket.close", "websocket.http.response.start"):
            request.status = message.get("status", 403)
            await self._finish()

    async def _finish(self, event: str = attr.EVENT_REQUEST, outcome: str | None = None) -> None:
        if event == attr.EVENT_REQUEST:
            # From here on a pipelined request may inherit this context.
            self._request.phase = Phase.CLOSING
        if not self.audited:
            return
        guarded("describing a request", self._describe)
        try:
            kept = await self._pipeline.finish_async(self._request, event, outcome)
        except Exception as error:
            failed("recording a request", error)
            kept = not self._pipeline.closed
        if not kept:
            self._broken = True
            raise ConnectionAbortedError(UNRECORDED)

    def _describe(self) -> None:
        request = self._request
        request.client = _address(self._scope)
        set_trace_ids(request, request.span, request.traceparent)
        note_error(request)

    async def raised(self, error: BaseException) -> None:
        """The app raised: a 500, unless the response had begun; a late record, unless it is known already."""
        request = self._request
        if self._broken:
            return
        aborted = self._client_gone or ended_early(error)
        if self._websocket and self._accepted:
            normal = type(error).__name__ == "WebSocketDisconnect"
            request.error_type = None if normal else error_name(error)
            outcome = "success" if normal else "unknown" if aborted else "failure"
            await self._try_finish(attr.EVENT_WEBSOCKET_CLOSE, outcome)
        elif attr.EVENT_REQUEST not in request.recorded:
            if not aborted:
                request.error_type = error_name(error)
                request.status = request.status or 500
            await self._try_finish(attr.EVENT_REQUEST, "unknown" if aborted else "failure")
        elif self.audited and not aborted and request.error_type is None:
            guarded("recording a failure", self._late, error)

    def _late(self, error: BaseException) -> None:
        self._pipeline.late(self._request, error_type=error_name(error), outcome="failure")

    async def returned(self) -> None:
        """The app returned: without a whole response, that was given up."""
        request = self._request
        if self._broken:
            return
        if self._websocket and self._accepted:
            await self._try_finish(attr.EVENT_WEBSOCKET_CLOSE, "success")
        elif attr.EVENT_REQUEST not in request.recorded:
            if not request.status:
                request.status = 500  # what the server answers to an app that answers nothing
            await self._try_finish(attr.EVENT_REQUEST, "failure" if request.status >= 400 else "unknown")

    async def _try_finish(self, event: str, outcome: str) -> None:
        try:
            await self._finish(event, outcome)
        except ConnectionAbortedError:
            pass  # nothing is left to be broken off: the app has ended
