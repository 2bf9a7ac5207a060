"""The same small app as ASGI and as WSGI: answers what it was asked, logs at DEBUG, knows nothing of audit."""

import json
import logging
import os

from fastapi import FastAPI, Request
from flask import Flask, request

logging.basicConfig(level=os.environ.get("APP_LOG_LEVEL", "WARNING"))
log = logging.getLogger("plain")

asgi = FastAPI()
wsgi = Flask("plain")


def answer(path: str, headers: int) -> str:
    log.debug("answering %s with %s", path, os.environ.get("CANARY", ""))
    return json.dumps({"path": path, "authorization": headers})


@asgi.get("/{path:path}")
async def asgi_answer(path: str, request: Request) -> str:
    return answer(path, len(request.headers.getlist("authorization")))


@wsgi.get("/<path:path>")
def wsgi_answer(path: str) -> str:
    return json.dumps(answer(path, int("Authorization" in request.headers)))
