"""Notes what only the framework knows of a request: its route, and the exception behind a response.

A function that reads a route takes the arguments of the framework's own call (first its result, if it is used with
`after`). It returns the route's template, never the path that matched it, or None.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from jwt_audit.attributes import text
from jwt_audit.request import Phase, current_request

from .boundary import error_name, guarded
from .patch import Wrap

_MOUNTED = "jwt_audit.mounted"
"""In an ASGI scope: the template of where the present app is mounted. Starlette has only the path there."""


def before(read: Callable[..., str | None]) -> Wrap:
    """Read the route from a call's arguments."""

    def wrap(original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def call(*args: Any, **kwargs: Any) -> Any:
            guarded("reading a route", _route, read, *args)
            return original(*args, **kwargs)

        return call

    return wrap


def after(read: Callable[..., str | None]) -> Wrap:
    """Read the route from a call's result and its arguments, in this order."""

    def wrap(original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def call(*args: Any, **kwargs: Any) -> Any:
            result = original(*args, **kwargs)
            guarded("reading a route", _route, read, result, *args)
            return result

        return call

    return wrap


def failure(original: Callable[..., Any]) -> Callable[..., Any]:
    """Note the exception that a framework is about to handle; which argument that is depends on the version."""

    @functools.wraps(original)
    def call(*args: Any, **kwargs: Any) -> Any:
        guarded("reading a failure", _failure, *args, *kwargs.values())
        return original(*args, **kwargs)

    return call


def _failure(*arguments: Any) -> None:
    request = current_request()
    error = next((argument for argument in arguments if isinstance(argument, Exception)), None)
    if error is not None and request is not None and request.phase is Phase.OPEN:
        request.handled = error_name(error)


def _route(read: Callable[..., str | None], *args: Any) -> None:
    request = current_request()
    if request is not None and request.phase is Phase.OPEN:
        route = read(*args)
        if isinstance(route, str):
            request.route = text(route)


def flask(*_: Any) -> str | None:
    """The rule, below the prefix at which a server or a dispatcher serves the app."""
    request = _flask_request()()
    return _of_werkzeug(request.url_rule, request.environ.get("SCRIPT_NAME"))


@functools.cache
def _flask_request() -> Callable[[], Any]:
    """The function that returns the request itself: each access by Flask's proxy costs as much as all else here."""
    from flask import request

    return request._get_current_object  # type: ignore[attr-defined, no-any-return]


def quart(*_: Any) -> str | None:
    """The rule, below the app's root path."""
    from quart import request

    return _of_werkzeug(request.url_rule, request.scope.get("root_path"))


def _of_werkzeug(rule: Any, prefix: str | None) -> str | None:
    return None if rule is None else (prefix or "") + rule.rule


def django(match: Any, _: Any, request: Any) -> str | None:
    """The patterns that matched, as they were given to ``path()`` and ``re_path()``, below the script's prefix."""
    prefix = request.path[: len(request.path) - len(request.path_info)]
    return None if match.route is None else f"{prefix}/{match.route}"


def starlette(route: Any, scope: Any, *_: Any) -> str | None:
    """The route's template, below those of all apps in which it is mounted."""
    return _below(scope) + str(route.path_format)


def mount(mounted: Any, scope: Any, *_: Any) -> str | None:
    """The template under which an app is mounted; a route inside of it replaces this."""
    scope[_MOUNTED] = _below(scope) + str(mounted.path_format).removesuffix("/{path}")
    return f"{scope[_MOUNTED]}/{{path}}"


def _below(scope: Any) -> str:
    # Within a mount `root_path` is the path as it came; `app_root_path` is still what the server had set.
    prefix = scope.get(_MOUNTED)
    return str(scope.get("app_root_path", scope.get("root_path")) or "") if prefix is None else prefix


def fastapi(route: Any, scope: Any, *_: Any) -> str | None:
    """Of a router that is included by reference (FastAPI from 0.150 on), the route's path as it is there."""
    included = scope.get("fastapi")
    context = included.get("effective_route_context") if isinstance(included, dict) else None
    if context is not None and context.original_route is route:
        return _below(scope) + str(context.path_format)
    return starlette(route, scope)


def falcon(responder: Any, *_: Any) -> str | None:
    """The template of the matched resource, the fourth of what ``_get_responder`` returns."""
    template = responder[3]
    return None if template is None else str(template)


def bottle(matched: Any, _: Any, environ: Any) -> str | None:
    """The rule of the matched route."""
    return str(environ.get("SCRIPT_NAME") or "") + str(matched[0].rule)
