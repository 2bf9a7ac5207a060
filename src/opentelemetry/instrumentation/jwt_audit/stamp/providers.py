"""Puts processors into providers of OpenTelemetry: now, or at the first request: an app may set one up after us."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jwt_audit.diagnostics import tell

from ..request_context import at_first_request


def put_into(
    find: Callable[[], Any],
    put: Callable[[Any], bool],
    *,
    without: str,
    once: str,
    absent: Callable[[Any], bool] = lambda _: False,
) -> None:
    """``put`` into the provider that ``find`` gives; where it takes none then either, ``without`` is told.

    ``absent`` says of a provider that it stands for none: nothing is told of what nobody has set up.
    """

    def again() -> None:
        provider = find()
        if not absent(provider) and not put(provider):
            tell(without, once=once)

    if not put(find()):
        at_first_request(again)
