"""A request's headers, and a request that has them, without a server."""

from __future__ import annotations

from jwt_audit.request import Request


class GivenHeaders:
    """Headers that a test gives, as (name, value) pairs."""

    def __init__(self, *pairs: tuple[str, str]) -> None:
        self._pairs = pairs

    def every(self) -> tuple[str, ...]:
        return tuple(value for _, value in self._pairs)

    def named(self, name: str) -> tuple[str, ...]:
        return tuple(value for key, value in self._pairs if key.lower() == name)


def request_with(*pairs: tuple[str, str], kind: str = "http") -> Request:
    """A request as a boundary makes it of these headers."""
    made = Request(kind=kind, method="GET", path="/", started=0, clock=0, request_id="r")
    made.headers = GivenHeaders(*pairs)
    made.authorization = made.headers.named("authorization")
    return made
