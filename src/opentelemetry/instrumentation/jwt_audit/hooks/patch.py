"""Puts hooks into other people's modules, without importing any and without ever failing their import.

A hook goes on the class or module that defines the place itself, when that module is imported: names
bound elsewhere lead there too, and contrib's way of replacing a class by a subclass of its own, in the
module, hides nothing.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import wrapt

from jwt_audit.diagnostics import tell

from .boundary import guarded

Wrap = Callable[[Callable[..., Any]], Callable[..., Any]]
"""Gives what takes the place of a function; it calls the function, whatever it is asked and whatever fails of ours."""


class Place(NamedTuple):
    """A function or method: ``path`` is its dotted path in ``module``, ``lost`` what is missing without it."""

    module: str
    path: str
    wrap: Wrap
    lost: str


_done: set[tuple[str, str]] = set()
_hooked: set[str] = set()


def put(places: Iterable[Place]) -> None:
    """Patch each place, now or when its module is imported; once a process, whatever is asked.

    Off and on again is the switch of the boundaries, so nothing has to be taken out.
    """
    for place in places:
        wrapt.register_post_import_hook(
            functools.partial(guarded, f"hooking {place.module}", _patch, place), place.module
        )


def hooked() -> list[str]:
    """The packages that are hooked so far, by name; OpenTelemetry's own left out."""
    return sorted(_hooked - {"opentelemetry"})


def _patch(place: Place, module: Any) -> None:
    if (place.module, place.path) in _done:
        return
    _done.add((place.module, place.path))
    *path, name = place.path.split(".")
    owner = module
    for part in path:
        owner = getattr(owner, part, None)
    original = getattr(owner, name, None)
    if not callable(original):
        tell(f"{place.module} has no {place.path} in this version: {place.lost}", once=f"{place.module} {place.path}")
        return
    holders = [holder for holder in getattr(owner, "__mro__", (owner,)) if name in vars(holder)]
    own = [holder for holder in holders if place.module in (getattr(holder, "__module__", None), holder.__name__)]
    # Where it is inherited, its parent's other children count too.
    holder = (own or holders)[0]
    setattr(holder, name, place.wrap(vars(holder)[name]))
    _hooked.add(place.module.partition(".")[0])
