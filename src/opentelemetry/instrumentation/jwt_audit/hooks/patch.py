"""Puts hooks into other people's modules, without importing any and without ever failing their import.

A hook goes on the class or module that defines the target, when that module is imported. So names that were bound
before reach it too, and it is not hidden where OpenTelemetry's instrumentation replaces the class by a subclass.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import wrapt

from jwt_audit.diagnostics import warn_operator

from .boundary import guarded

Wrap = Callable[[Callable[..., Any]], Callable[..., Any]]
"""Returns a replacement of a function. It always calls the function, also where our own code fails."""


class Target(NamedTuple):
    """A function or method: ``path`` is its dotted path in ``module``, ``lost`` what is missing without it."""

    module: str
    path: str
    wrap: Wrap
    lost: str


_done: set[tuple[str, str]] = set()
_hooked: set[str] = set()


def patch_all(targets: Iterable[Target]) -> None:
    """Patch each target, now or when its module is imported; at most once in a process.

    No patch is ever removed: `boundary.install` switches all of them off and on.
    """
    for target in targets:
        wrapt.register_post_import_hook(
            functools.partial(guarded, f"hooking {target.module}", _patch, target), target.module
        )


def hooked() -> list[str]:
    """The packages that are hooked so far, by name; OpenTelemetry's own left out."""
    return sorted(_hooked - {"opentelemetry"})


def _patch(target: Target, module: Any) -> None:
    if (target.module, target.path) in _done:
        return
    _done.add((target.module, target.path))
    *path, name = target.path.split(".")
    owner = module
    for part in path:
        owner = getattr(owner, part, None)
    original = getattr(owner, name, None)
    if not callable(original):
        warn_operator(
            f"{target.module} has no {target.path} in this version: {target.lost}",
            once=f"{target.module} {target.path}",
        )
        return
    holders = [holder for holder in getattr(owner, "__mro__", (owner,)) if name in vars(holder)]
    own = [holder for holder in holders if target.module in (getattr(holder, "__module__", None), holder.__name__)]
    # Where it is inherited, the parent is patched, so that its other subclasses are hooked too.
    holder = (own or holders)[0]
    setattr(holder, name, target.wrap(vars(holder)[name]))
    _hooked.add(target.module.partition(".")[0])
