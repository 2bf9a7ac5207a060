"""Adds processors to providers of OpenTelemetry: now, or at the first request, since an app may set one up later."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jwt_audit.diagnostics import warn_operator

from ..request_context import at_first_request


def add_to_provider(
    find: Callable[[], Any],
    add: Callable[[Any], bool],
    *,
    without: str,
    once: str,
    absent: Callable[[Any], bool] = lambda _: False,
) -> None:
    """Call ``add`` with the provider that ``find`` gives; if it returns False, once more at the first request.

    If that returns False too, the operator is warned by the message ``without``, unless ``absent`` says that the
    provider is only the placeholder of an API that nobody has set up.
    """

    def retry() -> None:
        provider = find()
        if not absent(provider) and not add(provider):
            warn_operator(without, once=once)

    if not add(find()):
        at_first_request(retry)
