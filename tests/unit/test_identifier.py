"""How a request gets its identity: at once, or after a bounded wait for keys that are being read."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from jwt_audit.identity.caller import Reason, Status
from jwt_audit.request import Request
from jwt_audit.tokens.extract import Sources
from jwt_audit.tokens.issuers import Issuers
from jwt_audit.tokens.keys import UrlKeys
from jwt_audit.tokens.observation import Observation
from jwt_audit.tokens.verify import TokenVerifier
from opentelemetry.instrumentation.jwt_audit.identifier import Identifier
from support.headers import request_with
from support.issuer import NOW, JwksServer, claims, jwks, jwks_server, signing_issuer, signing_key

KEY, NEW = signing_key("ES256"), signing_key("ES256", 1)
GOOD = KEY.sign(claims(), kid="k")
ROTATED = NEW.sign(claims(sub="after"), kid="new")


@pytest.fixture
def server() -> Iterator[JwksServer]:
    with jwks_server() as server:
        server.body = jwks(KEY.jwk("k"))
        yield server


@contextlib.contextmanager
def identifying(server: JwksServer, **life: Any) -> Iterator[Identifier]:
    quick: dict[str, Any] = {"interval": 0.05, "retry": (0.05, 0.1), "deadline": 60.0}
    keys = UrlKeys(server.url, contextlib.nullcontext, lambda *_, **__: None, **{**quick, **life})
    verifier = TokenVerifier(Issuers([signing_issuer(keys, frozenset(("ES256",)))]), now=lambda: NOW + 1)
    identifier = Identifier(Sources(["bearer"]), verifier, None)
    try:
        yield identifier
    finally:
        identifier.close()


def bearing(token: str) -> Request:
    return request_with(("Authorization", f"Bearer {token}"))


def identified(identifier: Identifier, request: Request, *, loop: bool) -> Request:
    undecided = identifier.begin(request)
    if undecided is not None:
        assert not request.judged
        if loop:
            asyncio.run(identifier.decide_async(request, undecided))
        else:
            identifier.decide(request, undecided)
    return request


@pytest.mark.parametrize("loop", [False, True])
def test_the_first_request_waits_for_the_first_keys(server: JwksServer, loop: bool) -> None:
    """And is verified; one without a token waits for nothing."""
    release = threading.Event()

    def slow(handler: Any) -> None:
        release.wait(60)
        server.write(handler)

    server.answer = slow
    with identifying(server) as identifier:
        absent = request_with()
        assert identifier.begin(absent) is None
        assert absent.identity.status is Status.ABSENT
        request = bearing(GOOD)
        assert identifier.begin(request) is not None
        threading.Timer(0.05, release.set).start()
        assert identified(identifier, request, loop=loop).identity.subject == "u1001"
        assert request.judged


@pytest.mark.parametrize("loop", [False, True])
def test_an_issuer_that_hangs_is_waited_for_once(server: JwksServer, loop: bool) -> None:
    """A bounded time in all, not for each request; then tokens are unverified at once."""
    release = threading.Event()

    def hang(_: Any) -> None:
        release.wait(60)

    server.answer = hang
    try:
        with identifying(server) as identifier:
            assert identified(identifier, bearing(GOOD), loop=loop).identity.reason is Reason.KEYS_UNAVAILABLE
            for _ in range(100):
                request = bearing(GOOD)
                assert identifier.begin(request) is None
                assert (request.identity.reason, request.judged) == (Reason.KEYS_UNAVAILABLE, True)
    finally:
        release.set()


def test_after_a_rotation_only_its_tokens_wait(server: JwksServer) -> None:
    """A token of a new key waits for the fetch that it causes; those of known keys are decided at once."""
    with identifying(server, interval=3600) as identifier:
        assert identified(identifier, bearing(GOOD), loop=False).identity.verified
        server.body = jwks(KEY.jwk("k"), NEW.jwk("new"))
        request = bearing(ROTATED)
        undecided = identifier.begin(request)
        assert identifier.begin(bearing(GOOD)) is None
        if undecided is not None:
            identifier.decide(request, undecided)
        assert request.identity.subject == "after"


def test_an_event_loop_is_never_held(server: JwksServer) -> None:
    """While fifty requests wait for keys, a task of the same loop goes on."""
    release = threading.Event()

    def slow(handler: Any) -> None:
        release.wait(60)
        server.write(handler)

    server.answer = slow

    async def scene(identifier: Identifier) -> None:
        async def one() -> None:
            request = bearing(GOOD)
            undecided = identifier.begin(request)
            assert undecided is not None
            await identifier.decide_async(request, undecided)
            assert request.identity.verified

        waiting = [asyncio.create_task(one()) for _ in range(50)]
        for _ in range(20):
            await asyncio.sleep(0)
        assert not any(task.done() for task in waiting)
        release.set()
        await asyncio.gather(*waiting)

    with identifying(server) as identifier:
        asyncio.run(scene(identifier))


def test_without_keys_the_app_decides() -> None:
    """The token is unverified until it does; where its word shall not count, with a reason at once."""
    request = bearing(GOOD)
    assert Identifier(Sources(["bearer"]), None, Observation(lambda _: None)).begin(request) is None
    assert (request.identity.status, request.identity.reason, request.judged) == (Status.UNVERIFIED, None, False)
    assert Identifier(Sources(["bearer"]), None, None).begin(request) is None
    assert request.identity.reason is Reason.KEYS_UNAVAILABLE
