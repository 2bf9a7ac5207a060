"""Every function that is wrapped: in servers, in frameworks, and in the middleware of OpenTelemetry.

A request passes several of them, and the first begins it: the server where it is known here (so the peer is
the one that has connected, before a middleware replaces it by a forwarded address), else the framework or the
middleware. The others pass it on. So each of them may be missing.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from inspect import iscoroutinefunction
from typing import TYPE_CHECKING, Any

import wrapt

from ..waiting import run_in_thread
from . import notes
from .asgi import run_asgi
from .boundary import failed, guarded, installed
from .patch import Target, Wrap, patch_all
from .wsgi import run_wsgi

if TYPE_CHECKING:
    _Proxy = wrapt.ObjectProxy[Any]
else:
    _Proxy = wrapt.ObjectProxy  # generic only from wrapt 2 on


def install() -> None:
    """Wrap them all, now or when a module is imported; a module that the app never imports costs nothing."""
    patch_all((*_SERVERS, *_APPS, *_ROUTES, *_FAILURES))


class _Audited(_Proxy):
    """An app that is called through the boundary. All else is the app's own, since servers inspect it."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        app = self.__wrapped__
        if len(args) == 2 and not kwargs:
            return run_wsgi(app, *args)
        if len(args) == 3 and not kwargs:
            return run_asgi(app, *args)
        return app(*args, **kwargs)


class _AuditedCoroutine(_Audited):
    """An app that is a coroutine function: by this, servers distinguish ASGI 3 from ASGI 2 and WSGI."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await run_asgi(self.__wrapped__, scope, receive, send)


def audited(app: Any) -> Any:
    """``app`` with the boundary around it; unchanged if it is not callable or audited already. Never raises."""
    try:
        if not callable(app) or isinstance(app, _Audited):
            return app
        pipeline = installed()
        if pipeline is not None:
            guarded("announcing", pipeline.announce)
        asynchronous = iscoroutinefunction(app) or iscoroutinefunction(getattr(app, "__call__", None))  # noqa: B004
        return (_AuditedCoroutine if asynchronous else _Audited)(app)
    except Exception as error:
        failed("wrapping an app", error)
        return app


# Servers: the app is an argument, a result, or kept in an attribute.


def _argument(at: int, name: str) -> Wrap:
    def wrap(original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def call(*args: Any, **kwargs: Any) -> Any:
            if at < len(args):
                args = (*args[:at], audited(args[at]), *args[at + 1 :])
            elif name in kwargs:
                kwargs[name] = audited(kwargs[name])
            return original(*args, **kwargs)

        return call

    return wrap


def _result(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def call(*args: Any, **kwargs: Any) -> Any:
        return audited(original(*args, **kwargs))

    return call


def _loaded(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def load(self: Any, *args: Any, **kwargs: Any) -> Any:
        result = original(self, *args, **kwargs)
        guarded("wrapping an app", _load, self)
        return result

    return load


def _load(config: Any) -> None:
    from uvicorn.middleware.wsgi import WSGIMiddleware  # type: ignore[attr-defined]  # it re-exports a2wsgi's

    # Its own adapter runs a WSGI app in threads that know nothing of the request: the framework serves there.
    if config.interface != "wsgi" or WSGIMiddleware.__module__.startswith("a2wsgi"):
        config.loaded_app = audited(config.loaded_app)


def _shut_down(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    async def shutdown(*args: Any, **kwargs: Any) -> Any:
        try:
            return await original(*args, **kwargs)
        finally:
            # uvicorn kills itself with the caught signal after this: no atexit will run. The lifespan
            # does the same, but not every app has one (Django has none).
            pipeline = installed()
            if pipeline is not None:
                await run_in_thread(pipeline.settle)

    return shutdown


_PEER = "forwarded addresses may hide the peer's, and apps without a known framework are not audited"
_END = "what is not delivered when it ends waits for the next start"
_SERVERS = (
    Target("uvicorn.config", "Config.load", _loaded, _PEER),
    Target("uvicorn.server", "Server.shutdown", _shut_down, _END),
    Target("gunicorn.app.base", "BaseApplication.wsgi", _result, _PEER),
    Target("granian.asgi", "_callback_wrapper", _argument(0, "callback"), _PEER),
    Target("granian.asgi", "LifespanProtocol.__init__", _argument(1, "callable"), _END),
    Target("granian.wsgi", "_callback_wrapper", _argument(0, "callback"), _PEER),
    Target("hypercorn.app_wrappers", "ASGIWrapper.__init__", _argument(1, "app"), _PEER),
    Target("hypercorn.app_wrappers", "WSGIWrapper.__init__", _argument(1, "app"), _PEER),
    Target("waitress.server", "BaseWSGIServer.__init__", _argument(1, "application"), _PEER),
    Target("werkzeug.serving", "BaseWSGIServer.__init__", _argument(3, "app"), _PEER),
    Target("wsgiref.simple_server", "WSGIServer.set_app", _argument(1, "application"), _PEER),
)


# Frameworks and OpenTelemetry's middleware: the app is the object itself.


def _wsgi(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def call(self: Any, environ: Any, start_response: Any) -> Any:
        return run_wsgi(functools.partial(original, self), environ, start_response)

    return call


def _asgi(original: Callable[..., Any]) -> Callable[..., Any]:
    # A plain coroutine function, for the servers that ask.
    @functools.wraps(original)
    async def call(self: Any, scope: Any, receive: Any, send: Any) -> None:
        await run_asgi(functools.partial(original, self), scope, receive, send)

    return call


_APP = "its apps are audited only on a server that is known"
_APPS = (
    Target("flask.app", "Flask.__call__", _wsgi, _APP),
    Target("django.core.handlers.wsgi", "WSGIHandler.__call__", _wsgi, _APP),
    Target("django.core.handlers.asgi", "ASGIHandler.__call__", _asgi, _APP),
    Target("fastapi.applications", "FastAPI.__call__", _asgi, _APP),
    Target("starlette.applications", "Starlette.__call__", _asgi, _APP),
    Target("falcon.app", "App.__call__", _wsgi, _APP),
    Target("falcon.asgi.app", "App.__call__", _asgi, _APP),
    Target("bottle", "Bottle.__call__", _wsgi, _APP),
    Target("quart.app", "Quart.__call__", _asgi, _APP),
    Target("opentelemetry.instrumentation.asgi", "OpenTelemetryMiddleware.__call__", _asgi, _APP),
    Target("opentelemetry.instrumentation.wsgi", "OpenTelemetryMiddleware.__call__", _wsgi, _APP),
)


# The route: known where the framework has matched it.

_ROUTE = "records of its requests have no route"
_ROUTES = (
    Target("flask.app", "Flask.full_dispatch_request", notes.before(notes.flask), _ROUTE),
    Target("quart.app", "Quart.full_dispatch_request", notes.before(notes.quart), _ROUTE),
    Target("django.core.handlers.base", "BaseHandler.resolve_request", notes.after(notes.django), _ROUTE),
    Target("starlette.routing", "Route.handle", notes.before(notes.starlette), _ROUTE),
    Target("starlette.routing", "WebSocketRoute.handle", notes.before(notes.starlette), _ROUTE),
    Target("starlette.routing", "Mount.handle", notes.before(notes.mount), _ROUTE),
    Target("fastapi.routing", "APIRoute.handle", notes.before(notes.fastapi), _ROUTE),
    Target("falcon.app", "App._get_responder", notes.after(notes.falcon), _ROUTE),
    Target("bottle", "Router.match", notes.after(notes.bottle), _ROUTE),
)


# The exception behind an answer that says 5xx: most frameworks handle it themselves.

_FAILURE = "records of its failed requests may not say by which exception"
_FAILURES = (
    Target("flask.app", "Flask.handle_user_exception", notes.failure, _FAILURE),
    Target("quart.app", "Quart.handle_user_exception", notes.failure, _FAILURE),
    Target("django.core.handlers.exception", "response_for_exception", notes.failure, _FAILURE),
    Target("rest_framework.views", "APIView.handle_exception", notes.failure, _FAILURE),
    Target("falcon.app", "App._handle_exception", notes.failure, _FAILURE),
    Target("falcon.asgi.app", "App._handle_exception", notes.failure, _FAILURE),
)
