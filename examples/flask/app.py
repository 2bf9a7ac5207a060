"""An orders shop on Flask. It knows nothing of audit: it logs, traces and answers as any app does."""

from __future__ import annotations

import itertools
import json
import logging
import os
import secrets
import time
from collections.abc import Iterator
from typing import Any

import jwt
from flask import Flask, Response, abort, request
from flask.typing import ResponseReturnValue
from flask_jwt_extended import JWTManager, create_access_token, get_jwt_identity, jwt_required
from werkzeug.security import check_password_hash, generate_password_hash

from opentelemetry import trace

console = logging.StreamHandler()
console.setFormatter(logging.Formatter("%(levelname)s %(name)s %(message)s"))
log = logging.getLogger("shop")
log.addHandler(console)
log.setLevel(logging.INFO)

tracer = trace.get_tracer(__name__)
app = Flask(__name__)
app.config["JWT_SECRET_KEY"] = os.environ.get("SHOP_SECRET") or secrets.token_hex(32)
tokens = JWTManager(app)
people = {name: generate_password_hash("secret") for name in ("alice", "bob", "carol")}

if os.environ.get("SHOP_JWKS"):  # tokens come from an issuer, whose key set this names
    issuer = jwt.PyJWKClient(os.environ["SHOP_JWKS"])
    app.config["JWT_ALGORITHM"] = "RS256"

    @tokens.decode_key_loader
    def key_of(header: dict[str, Any], _: dict[str, Any]) -> Any:
        try:
            return issuer.get_signing_key(header.get("kid", "")).key
        except jwt.PyJWKClientError as error:
            raise jwt.InvalidTokenError("its key is not known") from error


orders: dict[int, dict[str, Any]] = {
    1: {"id": 1, "item": "lamp", "amount": 2},
    2: {"id": 2, "item": "chair", "amount": 4},
}
next_id = itertools.count(3)


@app.get("/healthz")
def healthz() -> ResponseReturnValue:
    return {"status": "ok"}


@app.post("/token")
def sign_in() -> ResponseReturnValue:
    if "SHOP_JWKS" in os.environ:
        abort(404, "sign in at the issuer")
    name, password = request.form.get("username", ""), request.form.get("password", "")
    if name not in people or not check_password_hash(people[name], password):
        abort(401)
    return {"access_token": create_access_token(identity=name), "token_type": "bearer"}


@app.get("/orders")
@jwt_required()  # type: ignore[untyped-decorator]  # the library has no types for it
def list_orders() -> ResponseReturnValue:
    with tracer.start_as_current_span("list orders"):
        log.info("listing %d orders for %s", len(orders), get_jwt_identity())
        return list(orders.values())


@app.get("/orders/<int:order_id>")
def read_order(order_id: int) -> ResponseReturnValue:
    with tracer.start_as_current_span("load order"):
        order = orders.get(order_id)
        log.info("loaded order %d", order_id)
    if order is None:
        abort(404)
    return order


@app.post("/orders")
@jwt_required()  # type: ignore[untyped-decorator]  # the library has no types for it
def create_order() -> ResponseReturnValue:
    body = request.get_json(silent=True)
    if not isinstance(body, dict) or not isinstance(body.get("item"), str):
        abort(400)
    order = {"id": next(next_id), "for": get_jwt_identity(), "item": body["item"], "amount": body.get("amount", 1)}
    with tracer.start_as_current_span("store order"):
        orders[order["id"]] = order
    log.info("created order %d", order["id"])
    return order, 201


@app.delete("/orders/<int:order_id>")
@jwt_required()  # type: ignore[untyped-decorator]  # the library has no types for it
def delete_order(order_id: int) -> ResponseReturnValue:
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
