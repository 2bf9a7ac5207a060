"""Puts processors into providers of OpenTelemetry: now, or at the first request: an app may set one up after us."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jwt_audit.diagnostics import tell

from ..hooks.boundary import at_first_request


def put_into(find: Callable[[], Any], put: Callable[[Any], bool], *, without: str, once: str) -> None:
    """``put`` into the provider that ``find`` gives; where it takes none then either, ``without`` is told."""

    def again() -> None:
        if not put(find()):
            tell(without, once=once)

    if not put(find()):
        at_first_request(again)
