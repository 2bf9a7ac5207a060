"""What we read of headers is left as it was found, whatever kind of iterable they are."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from opentelemetry.instrumentation.jwt_audit.hooks.asgi import run_asgi
from opentelemetry.instrumentation.jwt_audit.hooks.headers import repeatable
from opentelemetry.instrumentation.jwt_audit.hooks.wsgi import run_wsgi
from support.audited import Audited, token

PAIRS = [("a", "1"), ("b", "2")]


class Once:
    """No iterator, and yet to be read only once."""

    more = "more"

    def __init__(self, pairs: Any) -> None:
        self._pairs: Iterator[Any] = iter(pairs)

    def __iter__(self) -> Iterator[Any]:
        return self._pairs


class Often(Once):
    def __init__(self, pairs: Any) -> None:
        self._all = list(pairs)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._all)


KINDS: dict[str, Callable[[Any], Any]] = {
    "list": list,
    "tuple": tuple,
    "iterator": iter,
    "generator": lambda pairs: (pair for pair in pairs),
    "items": lambda pairs: dict(pairs).items(),
    "once": Once,
    "often": Often,
    "pairs": lambda pairs: [iter(pair) for pair in pairs],
    "iterators": lambda pairs: iter([iter(pair) for pair in pairs]),
    "list of lists": lambda pairs: [list(pair) for pair in pairs],
}
kinds = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)


def readings(headers: Any) -> list[list[Any]]:
    """What two readers find, one after the other."""
    return [[tuple(pair) for pair in headers] for _ in range(2)]


@kinds
def test_whoever_reads_next_finds_what_was_there(kind: Callable[[Any], Any]) -> None:
    """And as often as it could be read without us, and no oftener."""
    pairs, unread = repeatable(kind(PAIRS))
    assert [tuple(pair) for pair in pairs] == PAIRS
    assert readings(unread) == readings(kind(PAIRS))
    assert [tuple(pair) for pair in pairs] == PAIRS


def test_what_can_be_read_again_stays_the_object_that_it_is() -> None:
    """So do its other parts, where it is an object of the server's own."""
    for headers in (PAIRS, tuple(PAIRS), [["a", "1"]], []):
        assert repeatable(headers)[1] is headers
    assert repeatable(Once(PAIRS))[1].more == "more"
    assert isinstance(repeatable(Often(PAIRS))[1], Often)


def test_an_error_in_them_comes_where_it_would_have_come() -> None:
    """And never out of our own reading."""

    def broken() -> Iterator[Any]:
        yield "a", "1"
        raise LookupError

    pairs, unread = repeatable(broken())
    assert pairs == [("a", "1")]
    assert next(unread) == ("a", "1")
    with pytest.raises(LookupError):
        next(unread)
    for none in (None, 7):
        assert repeatable(none) == ((), none)


@kinds
async def test_an_asgi_app_and_its_server_read_headers_of_every_kind(
    audited: Audited, kind: Callable[[Any], Any], anyio_backend: str
) -> None:
    """The token in them is found, and the length of the response too."""
    asked = {b"authorization": f"Bearer {token('alice')}".encode(), b"host": b"shop"}.items()
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append([tuple(pair) for pair in scope["headers"]])
        await send({"type": "http.response.start", "status": 200, "headers": kind([(b"content-length", b"1")])})
        await send({"type": "http.response.body", "body": b"x", "more_body": True})

    async def receive() -> Any:
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            seen.append([tuple(pair) for pair in message["headers"]])
        else:
            seen.append(len(audited.requests()))

    await run_asgi(app, {"type": "http", "method": "GET", "path": "/", "headers": kind(asked)}, receive, send)
    assert seen == [list(asked), [(b"content-length", b"1")], 1]
    assert [one["enduser.id"] for one in audited.requests()] == ["alice"]


@kinds
def test_a_wsgi_server_reads_headers_of_every_kind(audited: Audited, kind: Callable[[Any], Any]) -> None:
    """PEP 3333 wants a list; an app whose server takes more is served as without us, by keyword too."""
    seen: list[Any] = []

    def app(environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", headers=kind([("Content-Length", "1")]), exc_info=None)
        return [b"x"]

    def start_response(status: str, headers: Any, exc_info: Any = 1) -> None:
        seen.append(([tuple(pair) for pair in headers], exc_info))

    body: Any = run_wsgi(app, {"PATH_INFO": "/"}, start_response)
    assert list(body) == [b"x"]
    body.close()
    assert seen == [([("Content-Length", "1")], None)]
    assert len(audited.requests()) == 1


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


pytestmark = pytest.mark.anyio
