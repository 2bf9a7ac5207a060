"""A second real OpenID provider, found by its metadata: access tokens after RFC 9068 with three algorithms."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import jwt
import pytest

from support.keycloak import MissingError
from support.openid import Provider, running
from support.served import Served, serving

EXAMPLE = Path(__file__).parents[2] / "examples" / "fastapi"
ALGORITHMS = ("RS256", "ES256", "EdDSA")

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def provider() -> Iterator[Provider]:
    with ExitStack() as stack:
        try:
            yield stack.enter_context(running())
        except MissingError as missing:
            pytest.skip(f"{missing}: not shown: identity from a real oidc-provider")


@pytest.fixture(scope="module")
def shop(provider: Provider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    settings = {
        "OTEL_PYTHON_JWT_AUDIT_ISSUER": provider.issuer,
        "OTEL_PYTHON_JWT_AUDIT_DISCOVERY": "true",
        "OTEL_PYTHON_JWT_AUDIT_AUDIENCE": ",".join(f"urn:orders:{algorithm}" for algorithm in ALGORITHMS),
        "OTEL_PYTHON_JWT_AUDIT_TYP": "at+jwt",
        "SHOP_SECRET": "0123456789abcdef0123456789abcdef",
    }
    with serving(tmp_path_factory.mktemp("shop"), EXAMPLE, **settings) as served:
        yield served


def record_of(shop: Served, token: str) -> dict[str, Any]:
    return shop.told(shop.ask("/orders/1", token)).record


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_person_who_signs_in_is_named(algorithm: str, provider: Provider, shop: Served) -> None:
    """By the authorization code flow; the keys are found by discovery."""
    token = provider.person_token("alice", f"urn:orders:{algorithm}")
    assert jwt.get_unverified_header(token)["alg"] == algorithm
    told = shop.told(shop.ask("/orders/1", token))
    for found in (told.server, told.record):
        assert (found["jwt.status"], found["enduser.id"]) == ("verified", "alice")
        assert found["jwt.issuer"] == provider.issuer
    assert (told.record["audit.actor.id"], told.record["audit.actor.type"]) == ("alice", "user")


def test_a_client_is_a_service(provider: Provider, shop: Served) -> None:
    """A client-credentials token's subject is the client itself."""
    record = record_of(shop, provider.client_token("urn:orders:ES256"))
    assert (record["jwt.status"], record["audit.actor.id"]) == ("verified", "orders-job")
    assert record["audit.actor.type"] == "service"


def test_a_token_for_another_audience_names_nobody(provider: Provider, shop: Served) -> None:
    """The same person and key, another resource."""
    record = record_of(shop, provider.person_token("alice", "urn:billing:RS256"))
    assert (record["jwt.status"], record["jwt.error"]) == ("invalid", "audience_mismatch")
    assert "enduser.id" not in record
