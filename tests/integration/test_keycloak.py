"""A real OpenID provider: Keycloak's tokens, the rotation and removal of its keys, and all ways of its being away."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import jwt
import pytest

from support.issuer import signing_key
from support.keycloak import ADMIN, PASSWORD, Keycloak, MissingError, running
from support.relay import Mode, Relay, relaying
from support.served import Served, serving

EXAMPLE = Path(__file__).parents[2] / "examples" / "fastapi"
REALM = "shop"
JOB = {
    "clientId": "orders-job",
    "secret": "orders-secret",
    "serviceAccountsEnabled": True,
    "standardFlowEnabled": False,
}
WEB = {"clientId": "web", "publicClient": True, "directAccessGrantsEnabled": True}
# A new key may be found by a token that names it (at most every 10 s), a removed one by age (60 s).
BOUND_SECONDS = 60.0 + 30.0

pytestmark = pytest.mark.timeout(400)


@pytest.fixture(scope="module")
def keycloak() -> Iterator[Keycloak]:
    with ExitStack() as stack:
        try:
            server = stack.enter_context(running())
        except MissingError as missing:
            pytest.skip(f"{missing}: not shown: identity and key life against a real Keycloak")
        server.realm(REALM, clients=[JOB, WEB], people={"alice": "wonder"})
        yield server


def alice(keycloak: Keycloak) -> str:
    return keycloak.token(REALM, grant_type="password", client_id="web", username="alice", password="wonder")


def said(token: str) -> dict[str, Any]:
    return dict(jwt.decode(token, options={"verify_signature": False}))


def relayed(keycloak: Keycloak, relay: Relay, realm: str = REALM) -> str:
    """The URL of a realm's keys, through the relay: issuer and key URL are settings apart."""
    return f"http://127.0.0.1:{relay.port}{urlsplit(keycloak.jwks(realm)).path}"


@pytest.fixture(scope="module")
def relay(keycloak: Keycloak) -> Iterator[Relay]:
    with relaying(int(keycloak.url.rpartition(":")[2])) as found:
        yield found


@pytest.fixture(scope="module")
def shop(keycloak: Keycloak, relay: Relay, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    settings = {
        "OTEL_PYTHON_JWT_AUDIT_JWKS": relayed(keycloak, relay),
        "OTEL_PYTHON_JWT_AUDIT_ISSUER": keycloak.issuer(REALM),
        "SHOP_SECRET": "0123456789abcdef0123456789abcdef",
    }
    with serving(tmp_path_factory.mktemp("shop"), EXAMPLE, **settings) as served:
        yield served


def status(served: Served, token: str) -> tuple[str, str | None]:
    """Status and reason that one request with this token gets in its audit record."""
    record = served.told(served.ask("/orders/1", token)).record
    return record["jwt.status"], record.get("jwt.error")


def until(served: Served, token: str, wanted: tuple[str, str | None], seconds: float) -> float:
    """Ask until the token gets this status; the seconds it took."""
    begun = time.monotonic()
    while (found := status(served, token)) != wanted:
        assert time.monotonic() - begun < seconds, f"still {found}, not {wanted}"
        time.sleep(0.5)
    return time.monotonic() - begun


def test_a_persons_token_names_the_person_and_the_session(keycloak: Keycloak, shop: Served) -> None:
    """Keycloak's subject is an id, its session is ``sid``."""
    token = alice(keycloak)
    claims = said(token)
    told = shop.told(shop.ask("/orders/1", token))
    for found in (told.server, told.record):
        assert (found["jwt.status"], found["enduser.id"]) == ("verified", claims["sub"])
        assert found["session.id"] == claims["sid"]
        assert found["jwt.issuer"] == keycloak.issuer(REALM)
        assert int(found["jwt.expires_at"]) == claims["exp"]
    assert (told.record["audit.actor.id"], told.record["audit.actor.type"]) == (claims["sub"], "user")


def test_a_client_with_its_own_credentials_is_a_service(keycloak: Keycloak, shop: Served) -> None:
    """The subject of a client-credentials token is the client's service account."""
    form = {"client_id": "orders-job", "client_secret": "orders-secret"}
    token = keycloak.token(REALM, grant_type="client_credentials", **form)
    record = shop.told(shop.ask("/orders/1", token)).record
    assert (record["jwt.status"], record["audit.actor.type"]) == ("verified", "service")
    assert record["audit.actor.id"] == said(token)["sub"]


def test_a_lightweight_token_without_a_subject_is_verified(keycloak: Keycloak, relay: Relay, tmp_path: Path) -> None:
    """``admin-cli`` gets tokens with no ``sub``: verified, nobody is named, and the actor is the client."""
    settings = {
        "OTEL_PYTHON_JWT_AUDIT_JWKS": relayed(keycloak, relay, "master"),
        "OTEL_PYTHON_JWT_AUDIT_ISSUER": keycloak.issuer("master"),
        "SHOP_SECRET": "0123456789abcdef0123456789abcdef",
    }
    token = keycloak.token("master", grant_type="password", client_id="admin-cli", username=ADMIN, password=PASSWORD)
    assert "sub" not in said(token)
    with serving(tmp_path, EXAMPLE, **settings) as served:
        record = served.told(served.ask("/orders/1", token)).record
    assert record["jwt.status"] == "verified"
    assert "enduser.id" not in record
    assert (record["audit.actor.id"], record["audit.actor.type"]) == ("admin-cli", "service")


def test_rotation_under_load_loses_nobody_and_a_removed_key_stops_counting(keycloak: Keycloak, shop: Served) -> None:
    """A new key while requests run: each token is verified; the old key removed: its tokens end within the bound."""
    (old_kid,) = keycloak.signing_keys(REALM)
    tokens = [alice(keycloak)]
    asked: list[str] = []
    stop = threading.Event()

    def load() -> None:
        while not stop.is_set():
            asked.append(shop.ask("/orders/1", tokens[-1]).id)

    clients = [threading.Thread(target=load) for _ in range(4)]
    for client in clients:
        client.start()
    try:
        for priority in (200, 300):
            keycloak.rotate(REALM, priority)
            fresh = alice(keycloak)
            assert jwt.get_unverified_header(fresh)["kid"] != old_kid
            until(shop, fresh, ("verified", None), 60)  # what comes before is told as what it is
            tokens.append(fresh)
            time.sleep(1)
    finally:
        stop.set()
        for client in clients:
            client.join()
    wanted = set(asked)

    def records() -> list[dict[str, Any]]:
        found = [item.attributes for item in shop.items("audit") if item.form.get("eventName") == "http.request"]
        once = {record["audit.record.id"]: record for record in found}  # a delivery may be made again
        return [record for record in once.values() if record["request.id"] in wanted]

    shop.wait(lambda: len(records()) == len(asked))
    people = {record.get("enduser.id") for record in records()}
    assert people == {said(tokens[0])["sub"]}

    keycloak.remove_key(REALM, old_kid)
    took = until(shop, tokens[0], ("invalid", "unknown_key"), BOUND_SECONDS)
    assert status(shop, tokens[-1]) == ("verified", None)
    print(f"{len(asked)} requests through two rotations, all verified; a removed key counted {took:.0f} s longer")


@pytest.mark.parametrize("mode", [Mode.DOWN, Mode.HANG, Mode.RUBBISH])
def test_without_the_provider_requests_go_on(mode: Mode, keycloak: Keycloak, relay: Relay, tmp_path: Path) -> None:
    """Away from the start: told so, and verified once it is back. Away later: what was known still counts."""
    settings = {
        "OTEL_PYTHON_JWT_AUDIT_JWKS": relayed(keycloak, relay),
        "OTEL_PYTHON_JWT_AUDIT_ISSUER": keycloak.issuer(REALM),
        "SHOP_SECRET": "0123456789abcdef0123456789abcdef",
    }
    token = alice(keycloak)
    relay.mode = mode
    try:
        with serving(tmp_path, EXAMPLE, **settings) as served:
            assert status(served, token) == ("unverified", "keys_unavailable")
            relay.mode = Mode.PASS
            until(served, token, ("verified", None), 60)
            relay.mode = mode
            seen = relay.connections
            unknown = signing_key("RS256").sign({"iss": keycloak.issuer(REALM), "sub": "x"}, kid="no-such-key")
            served.wait(lambda: (served.ask("/orders/1", unknown), relay.connections > seen)[1])
            times = []
            for _ in range(20):
                begun = time.perf_counter()
                assert served.ask("/orders/1", token).status == 200
                times.append(time.perf_counter() - begun)
            assert statistics.median(times) < 1.0  # no request waits for the provider, whose deadline is longer
            assert status(served, token) == ("verified", None)
            assert token.rpartition(".")[2] not in served.output()
    finally:
        relay.mode = Mode.PASS
