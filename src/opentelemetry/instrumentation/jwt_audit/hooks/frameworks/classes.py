"""Where the boundaries go in: the ``__call__`` of the frameworks' application classes.

On the class that the framework itself defines, by a post-import hook: contrib replaces the name in
the module by a subclass of its own, and a patch of that would miss apps built from the real one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import wrapt

from ..asgi import run_asgi
from ..wsgi import run_wsgi

_WSGI = (("flask.app", "Flask"),)
_ASGI = (("fastapi.applications", "FastAPI"), ("starlette.applications", "Starlette"))


def _wsgi(wrapped: Callable[..., Any], _: Any, args: Any, kwargs: Any) -> Any:
    if kwargs or len(args) != 2:
        return wrapped(*args, **kwargs)
    return run_wsgi(wrapped, *args)


async def _asgi(wrapped: Callable[..., Any], _: Any, args: Any, kwargs: Any) -> None:
    if kwargs or len(args) != 3:
        await wrapped(*args, **kwargs)
    else:
        await run_asgi(wrapped, *args)


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
                wrapt.wrap_function_wrapper(owner, "__call__", wrapper)
                return

    return patch
