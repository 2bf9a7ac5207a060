"""The embedded receiver's HTTP side: OTLP in, 200 once it is durable, a clear word for everything else.

Invariant: a 200 is sent only for what is on the disk. Bodies are never logged and never shown.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Callable
from typing import Any

import orjson
from google.protobuf.message import Message
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from .otlp import BadRequestError, from_json, from_protobuf, split_audit
from .store import Store

MAX_BODY = 16 * 2**20
"""Bytes of a request, as sent and after decompression."""
TRACES, LOGS, AUDIT = "traces.jsonl", "logs.jsonl", "audit.jsonl"
FILES = (TRACES, LOGS, AUDIT)

PROTOBUF, JSON = "application/x-protobuf", "application/json"
_INVALID_ARGUMENT, _UNAVAILABLE = 3, 14
_RETRY_SECONDS = "5"
_PLACES = "this is jwt-audit sink: POST OTLP/HTTP to /v1/traces, /v1/logs or /v1/audit; GET /healthz\n"


_Sort = Callable[[dict[str, Any]], dict[str, dict[str, Any]]]
"""Which part of a request goes into which file."""


class _RefusedError(Exception):
    """A request that is answered with ``status`` and a word."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def make_app(store: Store) -> Starlette:
    """The ASGI app that writes to ``store``."""

    async def traces(request: Request) -> Response:
        return await _receive(request, ExportTraceServiceRequest, lambda form: {TRACES: form})

    async def logs(request: Request) -> Response:
        return await _receive(request, ExportLogsServiceRequest, _by_signal)

    async def audit(request: Request) -> Response:
        return await _receive(request, ExportLogsServiceRequest, lambda form: {AUDIT: form})

    async def health(_: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def _receive(request: Request, kind: type[Message], sort: _Sort) -> Response:
        content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if content_type not in (PROTOBUF, JSON):
            return PlainTextResponse(f"send {PROTOBUF} or {JSON}\n", 415)
        try:
            body = _decompress(await _read(request), request.headers.get("content-encoding", "identity"))
            form = (from_json if content_type == JSON else from_protobuf)(kind, body)
        except ClientDisconnect:
            return Response(status_code=400)  # nobody is there to read it
        except BadRequestError as error:
            return _error(content_type, 400, _INVALID_ARGUMENT, str(error))
        except _RefusedError as refused:
            return PlainTextResponse(f"{refused}\n", refused.status)
        parts = sort(form).items()
        lines = {name: orjson.dumps(part, option=orjson.OPT_APPEND_NEWLINE) for name, part in parts if part}
        failure = await _durably(store, lines) if lines else None
        if failure is not None:
            message = f"what was sent could not be stored ({failure.strerror}); send it again"
            return _error(content_type, 503, _UNAVAILABLE, message, {"Retry-After": _RETRY_SECONDS})
        return Response(b"{}" if content_type == JSON else b"", media_type=content_type)

    routes = [
        Route("/v1/traces", traces, methods=["POST"]),
        Route("/v1/logs", logs, methods=["POST"]),
        Route("/v1/audit", audit, methods=["POST"]),
        Route("/healthz", health),
    ]
    return Starlette(routes=routes, exception_handlers={404: _lost, 405: _lost})


async def _lost(_: Request, error: Exception) -> Response:
    """What a wrong path or method is answered: what would be right, and never the path, which may hold a secret."""
    assert isinstance(error, HTTPException)  # noqa: S101 - Starlette calls this for nothing else
    return PlainTextResponse(_PLACES, error.status_code, error.headers)


def _by_signal(form: dict[str, Any]) -> dict[str, dict[str, Any]]:
    audit, rest = split_audit(form)
    return {AUDIT: audit, LOGS: rest}


async def _durably(store: Store, lines: dict[str, bytes]) -> OSError | None:
    loop = asyncio.get_running_loop()
    stored: asyncio.Future[OSError | None] = loop.create_future()

    def settle(failure: OSError | None) -> None:
        if not stored.done():  # the client may have gone
            stored.set_result(failure)

    def done(failure: OSError | None) -> None:
        loop.call_soon_threadsafe(settle, failure)

    store.write(lines, done)
    return await stored


async def _read(request: Request) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY:
            raise _RefusedError(413, f"a request may have {MAX_BODY} bytes")
    return bytes(body)


def _decompress(body: bytes, encoding: str) -> bytes:
    encoding = encoding.strip().lower()
    if encoding in ("", "identity"):
        return body
    if encoding != "gzip":
        raise _RefusedError(415, "send gzip or no Content-Encoding")
    whole = bytearray()
    while body:  # a gzip file may have several members
        member = zlib.decompressobj(wbits=31)
        try:
            whole += member.decompress(body, MAX_BODY + 1 - len(whole))
        except zlib.error as error:
            raise BadRequestError("the body is no gzip") from error
        if len(whole) > MAX_BODY:
            raise _RefusedError(413, f"a request may have {MAX_BODY} bytes after decompression")
        if not member.eof:
            raise BadRequestError("the gzip body is cut off")
        body = member.unused_data
    return bytes(whole)


def _error(content_type: str, status: int, code: int, message: str, headers: dict[str, str] | None = None) -> Response:
    """A google.rpc.Status in the form of the request, as OTLP asks."""
    if content_type == JSON:
        content = orjson.dumps({"code": code, "message": message})
    else:
        text = message.encode("utf-8")[:16383]
        size = bytes((len(text),)) if len(text) < 128 else bytes((len(text) & 0x7F | 0x80, len(text) >> 7))
        content = b"\x08%c\x12%b%b" % (code, size, text)
    return Response(content, status, headers, media_type=content_type)
