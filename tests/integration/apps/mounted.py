"""A Flask app mounted in a FastAPI app: layers of both kinds around one request."""

from __future__ import annotations

import logging
from typing import Any

from a2wsgi import WSGIMiddleware
from fastapi import APIRouter, FastAPI
from flask import Flask

from opentelemetry import trace

log = logging.getLogger("mounted")
log.setLevel(logging.INFO)
tracer = trace.get_tracer(__name__)
legacy = Flask(__name__)
router = APIRouter()
app = FastAPI()


@legacy.get("/orders/<int:order_id>")
def read_old_order(order_id: int) -> dict[str, Any]:
    with tracer.start_as_current_span("load order"):
        log.info("loaded order %d", order_id)
    return {"id": order_id}


@router.get("/orders/{order_id}")
def read_order(order_id: int) -> dict[str, Any]:
    with tracer.start_as_current_span("load order"):
        log.info("loaded order %d", order_id)
    return {"id": order_id}


@legacy.get("/boom")
@router.get("/boom")
def boom() -> dict[str, Any]:
    raise RuntimeError("the shop is on fire")


app.include_router(router, prefix="/v2")
app.mount("/legacy", WSGIMiddleware(legacy))  # type: ignore[arg-type]  # each has its own type of a scope
