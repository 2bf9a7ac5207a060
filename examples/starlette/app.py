"""Orders of several shops on Starlette. It knows nothing of audit: it logs, traces and answers as any app does."""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import os
import secrets
import time
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import parse_qs

import jwt
from pwdlib import PasswordHash
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Mount, Route

from opentelemetry import trace

console = logging.StreamHandler()
console.setFormatter(logging.Formatter("%(levelname)s %(name)s %(message)s"))
log = logging.getLogger("shop")
log.addHandler(console)
log.setLevel(logging.INFO)

tracer = trace.get_tracer(__name__)
passwords = PasswordHash.recommended()
people = {name: passwords.hash("secret") for name in ("alice", "bob", "carol")}
secret = os.environ.get("SHOP_SECRET") or secrets.token_hex(32)
issuer = jwt.PyJWKClient(os.environ["SHOP_JWKS"]) if os.environ.get("SHOP_JWKS") else None

shops: dict[str, dict[int, dict[str, Any]]] = {
    "north": {1: {"id": 1, "item": "lamp", "amount": 2}},
    "south": {1: {"id": 1, "item": "chair", "amount": 4}},
}
next_id = itertools.count(2)


def signed_in(request: Request) -> str:
    """The person: by a token of the shops' own, or of the issuer whose key set SHOP_JWKS names."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    try:
        if scheme.lower() != "bearer":
            raise jwt.InvalidTokenError("there is none")
        if issuer is None:
            return str(jwt.decode(token, secret, algorithms=["HS256"])["sub"])
        key = issuer.get_signing_key_from_jwt(token)
        return str(jwt.decode(token, key, algorithms=["RS256"])["sub"])
    except jwt.PyJWTError as error:
        raise HTTPException(401, "could not validate credentials", {"WWW-Authenticate": "Bearer"}) from error


def orders_of(request: Request) -> dict[int, dict[str, Any]]:
    name = request.path_params["shop"]
    if name not in shops:
        raise HTTPException(404, "no such shop")
    return shops[name]


async def healthz(_: Request) -> Response:
    return JSONResponse({"status": "ok"})


async def sign_in(request: Request) -> Response:
    if issuer is not None:
        raise HTTPException(404, "sign in at the issuer")
    form = {name: values[0] for name, values in parse_qs((await request.body()).decode()).items()}
    name = form.get("username", "")
    if name not in people or not passwords.verify(form.get("password", ""), people[name]):
        raise HTTPException(401, "incorrect username or password", {"WWW-Authenticate": "Bearer"})
    claims = {"sub": name, "sid": secrets.token_hex(8), "exp": int(time.time()) + 1800}
    return JSONResponse({"access_token": jwt.encode(claims, secret, "HS256"), "token_type": "bearer"})


def list_orders(request: Request) -> Response:
    """Runs in Starlette's thread pool."""
    person, orders = signed_in(request), orders_of(request)
    with tracer.start_as_current_span("list orders"):
        log.info("listing %d orders for %s", len(orders), person)
        return JSONResponse(list(orders.values()))


def read_order(request: Request) -> Response:
    number = request.path_params["order_id"]
    with tracer.start_as_current_span("load order"):
        order = orders_of(request).get(number)
        log.info("loaded order %d", number)
    if order is None:
        raise HTTPException(404, "no such order")
    return JSONResponse(order)


async def tell_the_stock(order: dict[str, Any]) -> None:
    log.info("told the stock of %s", order["item"])


async def create_order(request: Request) -> Response:
    person, orders = signed_in(request), orders_of(request)
    new = await request.json()
    if not isinstance(new, dict) or not isinstance(new.get("item"), str):
        raise HTTPException(400, "an order names an item")
    order = {"id": next(next_id), "for": person, "item": new["item"], "amount": new.get("amount", 1)}
    with tracer.start_as_current_span("store order"):
        orders[order["id"]] = order
    log.info("created order %d", order["id"])
    return JSONResponse(order, 201, background=BackgroundTask(tell_the_stock, order))


async def delete_order(request: Request) -> Response:
    signed_in(request)
    log.warning("refused to delete order %d", request.path_params["order_id"])
    raise HTTPException(403, "orders are kept; only the back office may delete one")


async def boom(_: Request) -> Response:
    raise RuntimeError("the shop is on fire")


async def slow(_: Request) -> Response:
    await asyncio.sleep(0.05)
    log.info("slept well")
    return JSONResponse({"status": "ok"})


async def stream(request: Request) -> Response:
    async def rows() -> AsyncIterator[str]:
        for order in list(orders_of(request).values()):
            log.info("streaming order %d", order["id"])
            yield json.dumps(order) + "\n"
            await asyncio.sleep(0)

    return StreamingResponse(rows(), media_type="application/x-ndjson")


shop = Mount(
    "/shops/{shop}",
    routes=[
        Route("/orders", list_orders),
        Route("/orders", create_order, methods=["POST"]),
        Route("/orders/{order_id:int}", read_order),
        Route("/orders/{order_id:int}", delete_order, methods=["DELETE"]),
        Route("/stream", stream),
    ],
)
app = Starlette(
    routes=[
        Route("/healthz", healthz),
        Route("/token", sign_in, methods=["POST"]),
        Route("/boom", boom),
        Route("/slow", slow),
        shop,
    ]
)
