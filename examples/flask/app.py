"""An orders shop on Flask. It knows nothing of audit: it logs, traces and answers as any app does."""

from __future__ import annotations

import itertools
import json
import logging
import time
from collections.abc import Iterator
from typing import Any

from flask import Flask, Response, abort, request
from flask.typing import ResponseReturnValue

from opentelemetry import trace

console = logging.StreamHandler()
console.setFormatter(logging.Formatter("%(levelname)s %(name)s %(message)s"))
log = logging.getLogger("shop")
log.addHandler(console)
log.setLevel(logging.INFO)

tracer = trace.get_tracer(__name__)
app = Flask(__name__)

orders: dict[int, dict[str, Any]] = {
    1: {"id": 1, "item": "lamp", "amount": 2},
    2: {"id": 2, "item": "chair", "amount": 4},
}
next_id = itertools.count(3)


def require_sign_in() -> None:
    if "Authorization" not in request.headers:
        abort(401)


@app.get("/healthz")
def healthz() -> ResponseReturnValue:
    return {"status": "ok"}


@app.get("/orders/<int:order_id>")
def read_order(order_id: int) -> ResponseReturnValue:
    with tracer.start_as_current_span("load order"):
        order = orders.get(order_id)
        log.info("loaded order %d", order_id)
    if order is None:
        abort(404)
    return order


@app.post("/orders")
def create_order() -> ResponseReturnValue:
    require_sign_in()
    body = request.get_json(silent=True)
    if not isinstance(body, dict) or not isinstance(body.get("item"), str):
        abort(400)
    order = {"id": next(next_id), "item": body["item"], "amount": body.get("amount", 1)}
    with tracer.start_as_current_span("store order"):
        orders[order["id"]] = order
    log.info("created order %d", order["id"])
    return order, 201


@app.delete("/orders/<int:order_id>")
def delete_order(order_id: int) -> ResponseReturnValue:
    require_sign_in()
    log.warning("refused to delete order %d", order_id)
    abort(403)


@app.get("/boom")
def boom() -> ResponseReturnValue:
    raise RuntimeError("the shop is on fire")


@app.get("/slow")
def slow() -> ResponseReturnValue:
    time.sleep(0.05)
    log.info("slept well")
    return {"status": "ok"}


@app.get("/stream")
def stream() -> ResponseReturnValue:
    def rows() -> Iterator[str]:
        for order in list(orders.values()):
            log.info("streaming order %d", order["id"])
            yield json.dumps(order) + "\n"

    return Response(rows(), mimetype="application/x-ndjson")
