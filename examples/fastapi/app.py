"""An orders shop on FastAPI. It knows nothing of audit: it logs, traces and answers as any app does."""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
from collections.abc import AsyncIterator
from typing import Any

from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.responses import JSONResponse, StreamingResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
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
signed_in = Depends(HTTPBearer())

orders: dict[int, dict[str, Any]] = {
    1: {"id": 1, "item": "lamp", "amount": 2},
    2: {"id": 2, "item": "chair", "amount": 4},
}
next_id = itertools.count(3)


class NewOrder(BaseModel):
    item: str = Field(min_length=1, max_length=100)
    amount: int = Field(default=1, ge=1, le=1000)


@app.exception_handler(Exception)
async def unexpected(request: Request, error: Exception) -> JSONResponse:
    log.error("unexpected %s in %s", type(error).__name__, request.scope["route"].path)
    return JSONResponse({"detail": "something went wrong"}, status_code=500)


@app.get("/healthz")
async def healthz() -> dict[str, str]:
    return {"status": "ok"}


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
async def create_order(new: NewOrder, _: HTTPAuthorizationCredentials = signed_in) -> dict[str, Any]:
    """Runs on the event loop, with a task of its own beside it."""
    order = {"id": next(next_id), **new.model_dump()}
    with tracer.start_as_current_span("store order"):
        orders[order["id"]] = order
        await asyncio.create_task(reserve_stock(order))
    log.info("created order %d", order["id"])
    return order


@app.delete("/orders/{order_id}")
async def delete_order(order_id: int, _: HTTPAuthorizationCredentials = signed_in) -> None:
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
