"""An orders shop on Django REST framework. It knows nothing of audit: it logs, traces and answers as any app does."""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import os
from collections.abc import Iterator
from typing import Any

from django.contrib.auth.hashers import check_password, make_password
from django.http import HttpRequest, JsonResponse, StreamingHttpResponse
from django.urls import include, path
from rest_framework import serializers
from rest_framework.exceptions import AuthenticationFailed, NotFound, PermissionDenied
from rest_framework.permissions import AllowAny, IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView
from rest_framework_simplejwt.tokens import AccessToken

from opentelemetry import trace

log = logging.getLogger("shop")
tracer = trace.get_tracer(__name__)
people = {name: make_password("secret") for name in ("alice", "bob", "carol")}

orders: dict[int, dict[str, Any]] = {
    1: {"id": 1, "item": "lamp", "amount": 2},
    2: {"id": 2, "item": "chair", "amount": 4},
}
next_id = itertools.count(3)


class NewOrder(serializers.Serializer):  # type: ignore[misc]  # the framework has no types
    item = serializers.CharField(max_length=100)
    amount = serializers.IntegerField(default=1, min_value=1, max_value=1000)


class SignIn(APIView):  # type: ignore[misc]
    permission_classes = (AllowAny,)
    authentication_classes = ()

    def post(self, request: Request) -> Response:
        if os.environ.get("SHOP_JWKS"):
            raise NotFound("sign in at the issuer")
        name, password = request.data.get("username", ""), request.data.get("password", "")
        if name not in people or not check_password(password, people[name]):
            raise AuthenticationFailed("incorrect username or password")
        token = AccessToken()
        token["sub"] = name
        return Response({"access_token": str(token), "token_type": "bearer"})


class Orders(APIView):  # type: ignore[misc]
    permission_classes = (IsAuthenticated,)

    def get(self, request: Request) -> Response:
        with tracer.start_as_current_span("list orders"):
            log.info("listing %d orders for %s", len(orders), request.user.id)
            return Response(list(orders.values()))

    def post(self, request: Request) -> Response:
        new = NewOrder(data=request.data)
        new.is_valid(raise_exception=True)
        order = {"id": next(next_id), "for": request.user.id, **new.validated_data}
        with tracer.start_as_current_span("store order"):
            orders[order["id"]] = order
        log.info("created order %d", order["id"])
        return Response(order, status=201)


class Order(APIView):  # type: ignore[misc]
    def get_authenticators(self) -> list[Any]:
        return [] if self.request.method in ("GET", "HEAD") else list(super().get_authenticators())

    def get_permissions(self) -> list[Any]:
        return [AllowAny() if self.request.method in ("GET", "HEAD") else IsAuthenticated()]

    def get(self, _: Request, order_id: int) -> Response:
        with tracer.start_as_current_span("load order"):
            order = orders.get(order_id)
            log.info("loaded order %d", order_id)
        if order is None:
            raise NotFound("no such order")
        return Response(order)

    def delete(self, _: Request, order_id: int) -> Response:
        log.warning("refused to delete order %d", order_id)
        raise PermissionDenied("orders are kept; only the back office may delete one")


def healthz(_: HttpRequest) -> JsonResponse:
    return JsonResponse({"status": "ok"})


def boom(_: HttpRequest) -> JsonResponse:
    raise RuntimeError("the shop is on fire")


async def slow(_: HttpRequest) -> JsonResponse:
    """Runs on the event loop, where the server has one."""
    await asyncio.sleep(0.05)
    log.info("slept well")
    return JsonResponse({"status": "ok"})


def stream(_: HttpRequest) -> StreamingHttpResponse:
    def rows() -> Iterator[str]:
        for order in list(orders.values()):
            log.info("streaming order %d", order["id"])
            yield json.dumps(order) + "\n"

    return StreamingHttpResponse(rows(), content_type="application/x-ndjson")


urlpatterns = [
    path("healthz", healthz),
    path("token", SignIn.as_view()),
    path("orders", Orders.as_view()),
    path("orders/", include([path("<int:order_id>", Order.as_view())])),
    path("boom", boom),
    path("slow", slow),
    path("stream", stream),
]
