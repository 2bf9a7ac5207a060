"""Apps of no framework, as they are and inside of OpenTelemetry's middleware."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable
from typing import Any

from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware as ASGIMiddleware
from opentelemetry.instrumentation.wsgi import OpenTelemetryMiddleware as WSGIMiddleware

from opentelemetry import trace

log = logging.getLogger("raw")
log.setLevel(logging.INFO)
tracer = trace.get_tracer(__name__)


def load(name: str) -> Any:
    """A span that says whose it is, so that what is on it can be checked where no server span binds it."""
    return tracer.start_as_current_span("load order", attributes={"asked.by": name})


def wsgi(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    name = environ["HTTP_X_REQUEST_ID"]
    if environ["PATH_INFO"] == "/boom":
        raise RuntimeError("the shop is on fire")
    with load(name):
        time.sleep(0.005)
        log.info("loaded order", extra={"asked.by": name})
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "5")])
    return [b"order"]


async def asgi(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] != "http":
        raise NotImplementedError(scope["type"])  # as an app does that has no lifespan
    name = dict(scope["headers"])[b"x-request-id"].decode()
    if scope["path"] == "/boom":
        raise RuntimeError("the shop is on fire")
    with load(name):
        await asyncio.sleep(0.005)
        log.info("loaded order", extra={"asked.by": name})
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"5")]})
    await send({"type": "http.response.body", "body": b"or", "more_body": True})
    await send({"type": "http.response.body", "body": b"der"})


class Orders:
    """The ASGI app as an object, without `__call__` in its attributes' types: some servers look."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await asgi(scope, receive, send)


orders = Orders()
wrapped_wsgi = WSGIMiddleware(wsgi)
wrapped_asgi = ASGIMiddleware(asgi)
