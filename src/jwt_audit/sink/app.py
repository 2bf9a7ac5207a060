"""The embedded receiver's HTTP side: OTLP in, 200 once it is durable, a clear word for everything else.

Invariant: a 200 is sent only for what is on the disk. Bodies are never logged and never shown.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import orjson
from google.protobuf.message import Message
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from .otlp import (
    BadRequestError,
    TooManyValuesError,
    from_json,
    from_protobuf,
    split_audit,
    values_in_json,
    values_in_protobuf,
)
from .store import Store
from .work import MAX_BODY, BusyError, TooLargeError, Work

TRACES, METRICS, LOGS, AUDIT = "traces.jsonl", "metrics.jsonl", "logs.jsonl", "audit.jsonl"
FILES = (TRACES, METRICS, LOGS, AUDIT)

PROTOBUF, JSON = "application/x-protobuf", "application/json"
_INVALID_ARGUMENT, _UNAVAILABLE = 3, 14
_RETRY_SECONDS = "5"
_PLACES = "this is jwt-audit sink: POST OTLP/HTTP to /v1/traces, /v1/metrics, /v1/logs or /v1/audit; GET /healthz\n"


_Sort = Callable[[dict[str, Any]], dict[str, dict[str, Any]]]
"""Which part of a request goes into which file."""


def make_app(store: Store) -> Starlette:
    """The ASGI app that writes to ``store``."""
    work = Work()

    async def traces(request: Request) -> Response:
        return await _receive(request, ExportTraceServiceRequest, lambda form: {TRACES: form})

    async def metrics(request: Request) -> Response:
        return await _receive(request, ExportMetricsServiceRequest, lambda form: {METRICS: form})

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
        encoding = request.headers.get("content-encoding", "").strip().lower() or "identity"
        if encoding not in ("identity", "gzip"):
            return PlainTextResponse("send gzip or no Content-Encoding\n", 415)
        is_json = content_type == JSON
        read, count = (from_json, values_in_json) if is_json else (from_protobuf, values_in_protobuf)
        try:
            body, values = await work.unpacked(await _read(request), encoding, count)
            async with work.turn(len(body), values) as in_thread:
                lines = await in_thread(lambda: _lines(sort(read(kind, body))))
                failure = await _durably(store, lines) if lines else None
        except ClientDisconnect:
            return Response(status_code=400)  # nobody is there to read it
        except (TooLargeError, TooManyValuesError) as error:
            return PlainTextResponse(f"{error}\n", 413)
        except BadRequestError as error:
            return _error(content_type, 400, _INVALID_ARGUMENT, str(error))
        except BusyError:
            message = "too much is waiting to be stored; send it again"
            return _error(content_type, 503, _UNAVAILABLE, message, {"Retry-After": _RETRY_SECONDS})
        if failure is not None:
            message = f"what was sent could not be stored ({failure.strerror}); send it again"
            return _error(content_type, 503, _UNAVAILABLE, message, {"Retry-After": _RETRY_SECONDS})
        return Response(b"{}" if is_json else b"", media_type=content_type)

    routes = [
        Route("/v1/traces", traces, methods=["POST"]),
        Route("/v1/metrics", metrics, methods=["POST"]),
        Route("/v1/logs", logs, methods=["POST"]),
        Route("/v1/audit", audit, methods=["POST"]),
        Route("/healthz", health),
    ]
    return Starlette(routes=routes, exception_handlers={404: _lost, 405: _lost})


async def _lost(_: Request, error: Exception) -> Response:
    """What a wrong path or method is answered: what would be right, and never the path, which may hold a secret."""
    assert isinstance(error, HTTPException)  # noqa: S101 - Starlette calls this for nothing else
    return PlainTextResponse(_PLACES, error.status_code, error.headers)


def _lines(parts: dict[str, dict[str, Any]]) -> dict[str, bytes]:
    return {name: orjson.dumps(part, option=orjson.OPT_APPEND_NEWLINE) for name, part in parts.items() if part}


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
            raise TooLargeError(f"a request may have {MAX_BODY} bytes")
    return bytes(body)


def _error(content_type: str, status: int, code: int, message: str, headers: dict[str, str] | None = None) -> Response:
    """A google.rpc.Status in the form of the request, as OTLP asks."""
    if content_type == JSON:
        content = orjson.dumps({"code": code, "message": message})
    else:
        text = message.encode("utf-8")[:16383]
        size = bytes((len(text),)) if len(text) < 128 else bytes((len(text) & 0x7F | 0x80, len(text) >> 7))
        content = b"\x08%c\x12%b%b" % (code, size, text)
    return Response(content, status, headers, media_type=content_type)
