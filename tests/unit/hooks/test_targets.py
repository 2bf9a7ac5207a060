"""The places themselves, in real servers and frameworks: the app that they are given, the route that they match."""

from __future__ import annotations

import asyncio
import functools
import inspect
import threading
from collections.abc import Iterator
from contextlib import nullcontext
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any
from wsgiref.simple_server import WSGIServer

import bottle
import falcon
import falcon.asgi
import flask
import pytest
import quart
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Host, Mount, Route, Router, WebSocketRoute
from werkzeug.serving import make_server

from jwt_audit.request import Request, current_request, in_flight
from jwt_audit.settings.environment import load
from opentelemetry.instrumentation.jwt_audit.hooks import boundary, targets
from opentelemetry.instrumentation.jwt_audit.pipeline import Pipeline


@pytest.fixture(autouse=True)
def _pipeline(tmp_path: Path) -> Iterator[None]:
    config, problems = load({}, spool=tmp_path / "spool", excluded_paths=["/*"])
    assert problems == []
    pipeline = Pipeline(config, suppress=nullcontext)
    targets.install()
    boundary.install(pipeline)
    yield
    boundary.install(None)
    pipeline.stop()
    assert in_flight == set()


seen: list[Request | None] = []
"""The request in which each handler was called."""


def handled() -> str:
    seen.append(current_request())
    return "ok"


def wsgi(environ: Any, start_response: Any) -> list[bytes]:
    start_response("200 OK", [])
    return [handled().encode()]


async def asgi(scope: Any, receive: Any, send: Any) -> None:
    handled()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body"})


class Wsgi:
    """An app that is an object, false, and has more to it."""

    more = "more"

    def __bool__(self) -> bool:
        return False

    def __call__(self, environ: Any, start_response: Any) -> list[bytes]:
        return wsgi(environ, start_response)


class Asgi:
    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await asgi(scope, receive, send)


def ask_wsgi(app: Any, path: str = "/", script: str = "") -> Request:
    """The request that its handler was called in."""
    seen.clear()
    environ: dict[str, Any] = {"REQUEST_METHOD": "GET", "SCRIPT_NAME": script, "PATH_INFO": path, "QUERY_STRING": ""}
    environ |= {"SERVER_NAME": "shop", "SERVER_PORT": "80", "SERVER_PROTOCOL": "HTTP/1.1", "REMOTE_ADDR": "192.0.2.7"}
    body = app(
        environ | {"wsgi.url_scheme": "http", "wsgi.errors": StringIO(), "wsgi.input": BytesIO()}, lambda *_: None
    )
    try:
        b"".join(body)
    finally:
        getattr(body, "close", lambda: None)()
    (found,) = seen
    assert found is not None
    return found


def ask_asgi(app: Any, path: str = "/", kind: str = "http", **more: Any) -> Request:
    """The request that its handler was called in."""
    seen.clear()
    scope: dict[str, Any] = {"type": kind, "asgi": {"version": "3.0"}, "http_version": "1.1", "scheme": "http"}
    scope |= {"path": path, "raw_path": path.encode(), "query_string": b"", "headers": [(b"host", b"shop")]}
    scope |= {"client": ("192.0.2.7", 4711), "server": ("shop", 80), "root_path": "", **more}
    scope["method" if kind == "http" else "subprotocols"] = "GET" if kind == "http" else []
    first: dict[str, Any] = {"type": "http.request", "body": b""} if kind == "http" else {"type": "websocket.connect"}
    messages = [first]
    complete = asyncio.Event()

    async def receive() -> dict[str, Any]:
        if messages:
            return messages.pop(0)
        await complete.wait()
        return {"type": "http.disconnect" if kind == "http" else "websocket.disconnect"}

    async def send(message: Any) -> None:
        if message["type"] == "websocket.close" or not message.get(
            "more_body", message["type"] != "http.response.body"
        ):
            complete.set()

    asyncio.run(app(scope, receive, send))
    (found,) = seen
    assert found is not None
    return found


# The app in its wrap


@pytest.mark.parametrize("app", [wsgi, Wsgi()])
def test_a_wsgi_app_is_called_through_the_boundary(app: Any) -> None:
    """And looks to its server as it did: class, attributes, truth, and no coroutine function."""
    wrapped = targets.audited(app)
    assert ask_wsgi(wrapped).peer == "192.0.2.7"
    assert isinstance(wrapped, type(app))
    assert bool(wrapped) is bool(app)
    assert getattr(wrapped, "more", None) == getattr(app, "more", None)
    assert not inspect.iscoroutinefunction(wrapped)
    assert not inspect.iscoroutinefunction(wrapped.__call__)


@pytest.mark.parametrize("app", [asgi, Asgi(), functools.partial(asgi), Starlette(routes=[Mount("/", asgi)])])
def test_an_asgi_app_is_called_through_the_boundary(app: Any) -> None:
    """And a server that asks whether it is a coroutine function, or its call is, hears what it would have heard."""
    wrapped = targets.audited(app)
    assert ask_asgi(wrapped).peer == "192.0.2.7"
    assert isinstance(wrapped, type(app))
    assert inspect.iscoroutinefunction(wrapped) == inspect.iscoroutinefunction(app)
    assert inspect.iscoroutinefunction(wrapped.__call__)
    with pytest.raises(TypeError):
        wrapped()  # by which uvicorn tells an app from a factory of one


def test_an_asgi_app_that_is_no_coroutine_function_is_one_all_the_same() -> None:
    """It returns an awaitable; only its call tells what it is."""
    assert ask_asgi(targets.audited(lambda scope, receive, send: asgi(scope, receive, send))).kind == "http"


def test_other_calls_are_passed_on() -> None:
    """A factory, ASGI 2, Tornado's app: not ours to judge."""
    assert targets.audited(lambda *args, **more: (args, more))(1, a=2) == ((1,), {"a": 2})


@pytest.mark.parametrize("app", [None, "module:app", 7])
def test_what_is_no_app_is_left_alone(app: object) -> None:
    """Nor is an app wrapped twice."""
    assert targets.audited(app) is app
    once = targets.audited(wsgi)
    assert targets.audited(once) is once


# Servers


def test_wsgiref_and_werkzeug_call_through_the_boundary() -> None:
    """Whether the app is given by position or by name."""
    with WSGIServer(("127.0.0.1", 0), None) as server:  # type: ignore[arg-type]  # it handles nothing
        server.set_app(wsgi)
        assert ask_wsgi(server.get_app())
        server.set_app(application=wsgi)
        assert ask_wsgi(server.get_app())
    developing = make_server("127.0.0.1", 0, wsgi)
    assert ask_wsgi(developing.app)
    developing.server_close()


def test_uvicorn_calls_through_the_boundary_before_it_believes_in_forwarded_addresses() -> None:
    """So the peer is the one that has connected."""
    from uvicorn import Config

    config = Config(asgi, forwarded_allow_ips="*")
    config.load()
    assert ask_asgi(config.loaded_app, headers=[(b"x-forwarded-for", b"203.0.113.9")]).peer == "192.0.2.7"


# Routes


def bottle_app() -> Any:
    app = bottle.Bottle()
    app.route("/orders/<order_id:int>", callback=lambda order_id: handled())
    return app


bottled, outer_bottle = bottle_app(), bottle.Bottle()
outer_bottle.mount("/shop/", bottle_app())


class BoomError(Exception):
    pass


class Resource:
    def on_get(self, request: Any, response: Any, order_id: int) -> None:
        handled()


class AsyncResource:
    async def on_get(self, request: Any, response: Any, order_id: int) -> None:
        handled()


class Broken:
    def on_get(self, request: Any, response: Any) -> None:
        handled()
        raise BoomError


class AsyncBroken:
    async def on_get(self, request: Any, response: Any) -> None:
        handled()
        raise BoomError


falconed = falcon.App()
falconed.add_route("/boom", Broken())
falconed.add_route("/orders/{order_id:int}", Resource())
async_falconed = falcon.asgi.App()
async_falconed.add_route("/boom", AsyncBroken())
async_falconed.add_route("/orders/{order_id:int}", AsyncResource())

quarted = quart.Quart(__name__)


flasked = flask.Flask(__name__)


@flasked.get("/boom")
def flask_boom() -> str:
    handled()
    raise BoomError


@flasked.get("/gone")
def flask_gone() -> str:
    handled()
    flask.abort(404)


@quarted.get("/boom")
async def quart_boom() -> str:
    handled()
    raise BoomError


@quarted.get("/orders/<int:order_id>")
async def order(order_id: int) -> str:
    return handled()


def answer(_: Any) -> PlainTextResponse:
    return PlainTextResponse(handled())


async def listen(socket: Any) -> None:
    handled()
    await socket.close()


orders = [Route("/orders/{order_id:int}", answer), WebSocketRoute("/orders/{order_id}/events", listen)]
starlette = Starlette(
    routes=[
        *orders,
        Mount("/shops/{shop}", routes=[Mount("/old", routes=orders)]),
        Mount("/app", Starlette(routes=orders)),
        Mount("/raw", asgi),
        Host("shop", Router([Route("/of/{host}", answer)])),
    ]
)


@pytest.mark.parametrize(
    ("app", "route"),
    [
        (bottled, "/orders/<order_id:int>"),
        (falconed, "/orders/{order_id:int}"),
    ],
)
def test_the_route_of_a_wsgi_framework(app: Any, route: str) -> None:
    """The template as the app's author wrote it."""
    assert ask_wsgi(app, "/orders/17").route == route


def test_the_route_of_a_mounted_app() -> None:
    """Below the prefix at which it is mounted."""
    assert ask_wsgi(outer_bottle, "/shop/orders/17").route == "/shop/orders/<order_id:int>"


@pytest.mark.parametrize(
    ("app", "path", "route"),
    [
        (async_falconed, "/orders/17", "/orders/{order_id:int}"),
        (quarted, "/orders/17", "/orders/<int:order_id>"),
        (starlette, "/orders/17", "/orders/{order_id}"),
        (starlette, "/shops/north/old/orders/17", "/shops/{shop}/old/orders/{order_id}"),
        (starlette, "/app/orders/17", "/app/orders/{order_id}"),
        (starlette, "/of/17", "/of/{host}"),
        (starlette, "/raw/anything", "/raw/{path}"),
    ],
)
def test_the_route_of_an_asgi_framework(app: Any, path: str, route: str) -> None:
    """The whole template, also through mounts; a path parameter of a mount stays one."""
    assert ask_asgi(app, path).route == route


def test_the_route_below_a_prefix_of_the_server() -> None:
    """What is served below a root path has its route there, as it has its path."""
    assert ask_asgi(starlette, "/api/orders/17", root_path="/api").route == "/api/orders/{order_id}"
    found = ask_asgi(starlette, "/api/shops/north/old/orders/17", root_path="/api")
    assert found.route == "/api/shops/{shop}/old/orders/{order_id}"


def test_the_route_of_a_websocket() -> None:
    """As that of a request."""
    assert ask_asgi(starlette, "/orders/17/events", "websocket").route == "/orders/{order_id}/events"


def test_a_route_is_nobody_elses() -> None:
    """What a framework matches where no request is under way goes nowhere, and the next request has none of it."""
    thread = threading.Thread(target=lambda: bottled.router.match({"REQUEST_METHOD": "GET", "PATH_INFO": "/orders/1"}))
    thread.start()
    thread.join()
    assert ask_wsgi(targets.audited(wsgi)).route is None


# Failures


@pytest.mark.parametrize("app", [flasked, falconed])
def test_the_exception_that_a_wsgi_framework_answers_for(app: Any, caplog: pytest.LogCaptureFixture) -> None:
    """No boundary sees it, and there is no span; its name is known all the same."""
    request = ask_wsgi(app, "/boom")
    assert (request.status, request.handled) == (500, f"{__name__}.BoomError")


@pytest.mark.parametrize("app", [quarted, async_falconed])
def test_the_exception_that_an_asgi_framework_answers_for(app: Any, caplog: pytest.LogCaptureFixture) -> None:
    """The same."""
    request = ask_asgi(app, "/boom")
    assert (request.status, request.handled) == (500, f"{__name__}.BoomError")


def test_an_answer_that_is_no_failure_of_the_server_has_none() -> None:
    """A 404 is raised too, and is no error of the app's."""
    request = ask_wsgi(flasked, "/gone")
    assert (request.status, request.error_type) == (404, None)
