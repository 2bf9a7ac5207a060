"""An app that keeps a list of the requests that have reached it, and answers in two chunks of no declared length.

Below ``/gated`` the second chunk waits until the file ``GATE`` is there.
"""

import asyncio
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

LIST = os.open(os.environ["HANDLED"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
GATE = Path(os.environ["GATE"])


def wait(path: str) -> None:
    while path.startswith("/gated") and not GATE.exists():
        time.sleep(0.05)


async def asgi(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] != "http":
        return
    os.write(LIST, dict(scope["headers"])[b"x-request-id"] + b"\n")
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"first ", "more_body": True})
    await asyncio.to_thread(wait, scope["path"])
    await send({"type": "http.response.body", "body": b"last"})


def wsgi(environ: Any, start_response: Any) -> Iterator[bytes]:
    os.write(LIST, environ["HTTP_X_REQUEST_ID"].encode() + b"\n")
    start_response("200 OK", [])
    yield b"first "
    wait(environ["PATH_INFO"])
    yield b"last"
