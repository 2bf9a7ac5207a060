"""An orders shop on FastAPI. It knows nothing of audit: it logs, traces and answers as any app does."""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import os
import secrets
import time
from collections.abc import AsyncIterator
from typing import Annotated, Any

import jwt
from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.responses import JSONResponse, StreamingResponse
from fastapi.security import OAuth2PasswordBearer, OAuth2PasswordRequestForm
from pwdlib import PasswordHash
from pydantic import BaseModel, Field

from opentelemetry import trace


class JSONFormatter(logging.Formatter):
    """One JSON object a line: the message, and whatever else is attached to the record."""

    _standard = frozenset(vars(logging.makeLogRecord({})))

    def format(self, record: logging.LogRecord) -> str:
        extra = {key: value for key, value in vars(record).items() if key not in self._standard}
        return json.dumps(
            {"level": record.levelname, "logger": record.name, "message": record.getMessage(), **extra}, default=str
        )


console = logging.StreamHandler()
console.setFormatter(JSONFormatter())
log = logging.getLogger("shop")
log.addHandler(console)
log.setLevel(logging.INFO)

tracer = trace.get_tracer(__name__)
app = FastAPI(title="Orders")

passwords = PasswordHash.recommended()
people = {name: passwords.hash("secret") for name in ("alice", "bob", "carol")}
secret = os.environ.get("SHOP_SECRET") or secrets.token_hex(32)
issuer = jwt.PyJWKClient(os.environ["SHOP_JWKS"]) if os.environ.get("SHOP_JWKS") else None

orders: dict[int, dict[str, Any]] = {
    1: {"id": 1, "item": "lamp", "amount": 2},
    2: {"id": 2, "item": "chair", "amount": 4},
}
next_id = itertools.count(3)


class NewOrder(BaseModel):
    item: str = Field(min_length=1, max_length=100)
    amount: int = Field(default=1, ge=1, le=1000)


class Token(BaseModel):
    access_token: str
    token_type: str


def signed_in(token: Annotated[str, Depends(OAuth2PasswordBearer(tokenUrl="token"))]) -> str:
    """The person: by a token of the shop's own, or of the issuer whose key set SHOP_JWKS names."""
    try:
        if issuer is None:
            return str(jwt.decode(token, secret, algorithms=["HS256"])["sub"])
        key = issuer.get_signing_key_from_jwt(token)
        return str(jwt.decode(token, key, algorithms=["RS256"])["sub"])
    except jwt.PyJWTError as error:
        raise HTTPException(401, "could not validate credentials", {"WWW-Authenticate": "Bearer"}) from error


Person = Annotated[str, Depends(signed_in)]


@app.exception_handler(Exception)
async def unexpected(request: Request, error: Exception) -> JSONResponse:
    log.error("unexpected %s in %s", type(error).__name__, request.scope["route"].path)
    return JSONResponse({"detail": "something went wrong"}, status_code=500)


@app.get("/healthz")
async def healthz() -> dict[str, str]:
    return {"status": "ok"}


@app.post("/token")
def sign_in(form: Annotated[OAuth2PasswordRequestForm, Depends()]) -> Token:
    if issuer is not None:
        raise HTTPException(404, "sign in at the issuer")
    if form.username not in people or not passwords.verify(form.password, people[form.username]):
        raise HTTPException(401, "incorrect username or password", {"WWW-Authenticate": "Bearer"})
    claims = {"sub": form.username, "sid": secrets.token_hex(8), "exp": int(time.time()) + 1800}
    return Token(access_token=jwt.encode(claims, secret, "HS256"), token_type="bearer")  # noqa: S106


@app.get("/orders")
def list_orders(person: Person) -> list[dict[str, Any]]:
    with tracer.start_as_current_span("list orders"):
        log.info("listing %d orders for %s", len(orders), person)
        return list(orders.values())


@app.get("/orders/{order_id}")
def read_order(order_id: int) -> dict[str, Any]:
    """Runs in FastAPI's thread pool."""
    with tracer.start_as_current_span("load order"):
        order = orders.get(order_id)
        log.info("loaded order %d", order_id)
    if order is None:
        raise HTTPException(404, "no such order")
    return order


async def reserve_stock(order: dict[str, Any]) -> None:
    await asyncio.sleep(0)
    log.info("reserved %d of %s", order["amount"], order["item"])


@app.post("/orders", status_code=201)
async def create_order(new: NewOrder, person: Person) -> dict[str, Any]:
    """Runs on the event loop, with a task of its own beside it."""
    order = {"id": next(next_id), "for": person, **new.model_dump()}
    with tracer.start_as_current_span("store order"):
        orders[order["id"]] = order
        await asyncio.create_task(reserve_stock(order))
    log.info("created order %d", order["id"])
    return order


@app.delete("/orders/{order_id}")
async def delete_order(order_id: int, _: Person) -> None:
    log.warning("refused to delete order %d", order_id)
    raise HTTPException(403, "orders are kept; only the back office may delete one")


@app.get("/boom")
async def boom() -> None:
    raise RuntimeError("the shop is on fire")


@app.get("/slow")
async def slow() -> dict[str, str]:
    await asyncio.sleep(0.05)
    log.info("slept well")
    return {"status": "ok"}


@app.get("/stream")
async def stream() -> StreamingResponse:
    async def rows() -> AsyncIterator[str]:
        for order in list(orders.values()):
            log.info("streaming order %d", order["id"])
            yield json.dumps(order) + "\n"
            await asyncio.sleep(0)

    return StreamingResponse(rows(), media_type="application/x-ndjson")
