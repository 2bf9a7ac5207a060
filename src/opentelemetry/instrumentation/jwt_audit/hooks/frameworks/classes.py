"""Where the boundaries go in: the ``__call__`` of the frameworks' application classes.

On the class that the framework itself defines, by a post-import hook: contrib replaces the name in
the module by a subclass of its own, and a patch of that would miss apps built from the real one.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import wrapt

from ..asgi import run_asgi
from ..wsgi import run_wsgi

_WSGI = (("flask.app", "Flask"), ("django.core.handlers.wsgi", "WSGIHandler"))
_ASGI = (("fastapi.applications", "FastAPI"), ("starlette.applications", "Starlette"))


def _wsgi(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def call(self: Any, environ: Any, start_response: Any) -> Any:
        return run_wsgi(functools.partial(original, self), environ, start_response)

    return call


def _asgi(original: Callable[..., Any]) -> Callable[..., Any]:
    # A plain coroutine function: servers tell ASGI 3 from ASGI 2 by asking whether it is one.
    @functools.wraps(original)
    async def call(self: Any, scope: Any, receive: Any, send: Any) -> None:
        await run_asgi(functools.partial(original, self), scope, receive, send)

    return call


_done: set[str] = set()


def install() -> None:
    """Patch the classes, now or when their module is imported; once a process, whatever is asked.

    Off and on again is the boundaries' own switch, so nothing has to be taken out.
    """
    for wrapper, classes in ((_wsgi, _WSGI), (_asgi, _ASGI)):
        for module, name in classes:
            wrapt.register_post_import_hook(_patcher(name, wrapper), module)


def _patcher(name: str, wrapper: Callable[..., Any]) -> Callable[[Any], None]:
    def patch(module: Any) -> None:
        place = f"{module.__name__}.{name}"
        if place in _done:
            return
        _done.add(place)
        for owner in getattr(module, name).__mro__:
            if owner.__module__ == module.__name__ and "__call__" in vars(owner):
                owner.__call__ = wrapper(vars(owner)["__call__"])
                return

    return patch
