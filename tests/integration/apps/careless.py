"""Ways of handling a token that look like a verification and prove nobody, behind FastAPI and behind Flask.

The token comes from the header or, where it has one, from the body.
"""

from __future__ import annotations

import contextvars
import logging
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jwt
from fastapi import FastAPI, HTTPException, Request
from flask import Flask, abort, request

from opentelemetry import trace

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from authlib.jose import JsonWebToken

log = logging.getLogger("careless")
log.setLevel(logging.INFO)
fastapi_app = FastAPI()
flask_app = Flask(__name__)

SECRET = "0123456789abcdef0123456789abcdef"
PUBLIC = Path("public.pem").read_text("ascii")


def checked(token: str) -> dict[str, Any]:
    return jwt.decode(token, SECRET, algorithms=["HS256"])


def by_public_key(token: str) -> dict[str, Any]:
    return jwt.decode(token, PUBLIC, algorithms=["RS256", "HS256"])


def expired_but_accepted(token: str) -> dict[str, Any]:
    return jwt.decode(token, SECRET, algorithms=["HS256"], options={"verify_exp": False})


def looked_into(token: str) -> dict[str, Any]:
    return jwt.decode(token, options={"verify_signature": False})


def without_algorithm(token: str) -> dict[str, Any]:
    return dict(JsonWebToken(["none", "HS256"]).decode(token, SECRET))


def in_another_thread(token: str) -> dict[str, Any]:
    found: list[dict[str, Any]] = []
    thread = threading.Thread(target=lambda: found.append(contextvars.Context().run(checked, token)))
    thread.start()
    thread.join()
    return found[0]


WAYS: dict[str, Callable[[str], dict[str, Any]]] = {
    way.__name__: way
    for way in (checked, by_public_key, expired_but_accepted, looked_into, without_algorithm, in_another_thread)
}


def served(way: str, body: str, authorization: str) -> dict[str, str]:
    person = str(WAYS[way](body or authorization.removeprefix("Bearer "))["sub"])
    with trace.get_tracer(__name__).start_as_current_span("work"):
        log.info("worked")
    return {"person": person}


@fastapi_app.post("/{way}")
async def by_fastapi(way: str, request: Request) -> dict[str, str]:
    try:
        return served(way, (await request.body()).decode(), request.headers.get("authorization", ""))
    except Exception as error:
        raise HTTPException(401) from error


@flask_app.post("/<way>")
def by_flask(way: str) -> dict[str, str]:
    try:
        return served(way, request.get_data(as_text=True), request.headers.get("Authorization", ""))
    except Exception:
        abort(401)
