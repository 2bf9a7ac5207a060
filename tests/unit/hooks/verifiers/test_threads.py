"""Many requests at once, verified in tasks, threads and pools that carry no context: nobody is taken for another."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jwt
import pytest

from jwt_audit.identity.caller import Status
from jwt_audit.request import Request, current_request
from opentelemetry.instrumentation.jwt_audit.hooks.asgi import run_asgi
from support.audited import observing
from support.issuer import SECRET, claims, signing_key

HS = signing_key("HS256")
BAD = signing_key("RS256")


@pytest.fixture(autouse=True)
def _pipeline(tmp_path: Path) -> Iterator[None]:
    with observing(tmp_path):
        yield


def token(person: str) -> str:
    return HS.sign(claims(sub=person, aud=None, iat=int(time.time()), exp=int(time.time()) + 600))


def verify(credential: str) -> None:
    try:
        jwt.decode(credential, SECRET, algorithms=["HS256"])
    except jwt.PyJWTError:
        pass


async def in_task(pool: ThreadPoolExecutor, credential: str) -> None:
    async def work() -> None:
        verify(credential)

    await asyncio.create_task(work())


async def in_thread(pool: ThreadPoolExecutor, credential: str) -> None:
    await asyncio.to_thread(verify, credential)


async def in_pool(pool: ThreadPoolExecutor, credential: str) -> None:
    """The pool's threads keep whatever context they began in."""
    await asyncio.get_running_loop().run_in_executor(pool, verify, credential)


async def in_no_context(pool: ThreadPoolExecutor, credential: str) -> None:
    await asyncio.get_running_loop().run_in_executor(pool, contextvars.Context().run, verify, credential)


class Meeting:
    """Waits until so many are there (asyncio has a barrier from Python 3.11 on)."""

    def __init__(self, parties: int) -> None:
        self._missing = parties
        self._complete = asyncio.Event()

    async def __call__(self) -> None:
        self._missing -= 1
        if not self._missing:
            self._complete.set()
        await self._complete.wait()


async def serve(
    work: Callable[[str], Awaitable[None]], header: tuple[bytes, bytes], *, kind: str = "http", meet: Any = None
) -> Request:
    """One request whose app does ``work`` with its token, when all have begun; no one ends before all have worked."""
    seen: list[Request] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        request = current_request()
        assert request is not None
        seen.append(request)
        if meet is not None:
            await meet[0]()
        await work(header[1].decode().replace("=", " ").split()[-1])
        if meet is not None:
            await meet[1]()
        if kind == "websocket":
            await send({"type": "websocket.accept"})
        else:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b""})

    async def nothing(*_: Any) -> Any:
        return {}

    await run_asgi(app, {"type": kind, "method": "GET", "path": "/", "headers": [header]}, nothing, nothing)
    return seen[0]


WAYS = (in_task, in_thread, in_pool, in_no_context)


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_nobody_is_taken_for_another(way: Any) -> None:
    """80 requests in flight together: 40 people, some with the same token twice, some refused, some in cookies."""
    people = [f"person-{number}" for number in range(40)] * 2
    tokens = {name: token(name) for name in people}
    tokens |= {name: BAD.sign(claims(sub=name, aud=None)) for name in people if name.endswith("7")}

    async def all_of_them() -> list[Request]:
        meet = Meeting(len(people)), Meeting(len(people))
        with ThreadPoolExecutor(8) as pool:
            work = functools.partial(way, pool)
            headers = [
                (b"cookie", f"session={tokens[name]}".encode())
                if number % 3
                else (b"authorization", f"Bearer {tokens[name]}".encode())
                for number, name in enumerate(people)
            ]
            return await asyncio.gather(*(serve(work, header, meet=meet) for header in headers))

    for name, request in zip(people, asyncio.run(all_of_them()), strict=True):
        assert request.identity.subject == (None if name.endswith("7") else name)
        assert request.identity.status is (Status.INVALID if name.endswith("7") else Status.VERIFIED)


@pytest.mark.parametrize("header", [b"sec-websocket-protocol", b"cookie", b"authorization"])
def test_a_websocket_is_a_request_too(header: bytes) -> None:
    """Its subprotocols may carry the token, since browsers let pages set nothing else."""
    value = {b"sec-websocket-protocol": "bearer, ", b"cookie": "session=", b"authorization": "Bearer "}[header]

    async def run() -> Request:
        with ThreadPoolExecutor(1) as pool:
            shown = (header, f"{value}{token('alice')}".encode())
            return await serve(functools.partial(in_no_context, pool), shown, kind="websocket")

    assert asyncio.run(run()).identity.subject == "alice"


def test_after_the_response_nothing_changes() -> None:
    """A background task that verifies the token again, or for the first time."""

    async def run() -> Request:
        credential = token("alice")

        async def nothing(_: str) -> None:
            return

        request = await serve(nothing, (b"authorization", f"Bearer {credential}".encode()))
        await asyncio.to_thread(verify, credential)
        return request

    assert asyncio.run(run()).identity.status is Status.UNVERIFIED
