"""Keys that must be found first: by metadata, or each behind a URL of its own."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from typing import Any

import pytest

from jwt_audit.identity.caller import Reason
from jwt_audit.tokens.issuers import Issuers
from jwt_audit.tokens.keys import KeySource
from jwt_audit.tokens.remote import MAX_NAMED, MAX_WANTED, DiscoveredKeys, PemPerKey
from jwt_audit.tokens.verify import TokenVerifier
from support.issuer import (
    ISSUER,
    NOW,
    Site,
    Start,
    Told,
    claims,
    eventually,
    jwks,
    jwks_server,
    signing_issuer,
    signing_key,
)

KEY = signing_key("ES256")
TENANT = "https://login.example.com/{tenantid}/v2.0"


@pytest.fixture
def site() -> Iterator[Site]:
    with jwks_server() as server:
        found = Site(server)
        found.metadata()
        found.pages["/keys"] = jwks(KEY.jwk("k"))
        yield found


QUICK: dict[str, Any] = {"interval": 0.05, "retry": (0.02, 0.05), "deadline": 5.0}


def discovered(site: Site, told: Told, issuer: str = ISSUER, **life: Any) -> DiscoveredKeys:
    return DiscoveredKeys(f"{site.base}/meta", issuer, contextlib.nullcontext, told, **{**QUICK, **life})


def test_metadata_leads_to_the_keys(site: Site, told: Told, start: Start) -> None:
    """Its ``jwks_uri`` is fetched, and fetched alone when keys are wanted again."""
    source = start(discovered(site, told))
    assert source.answered(60)
    assert source.keys is not None
    assert [key.id for key in source.keys.keys] == ["k"]
    site.pages["/keys"] = jwks(KEY.jwk("k"), signing_key("ES256", 1).jwk("new"))

    def both() -> bool:
        source.want("new")
        return source.keys is not None and len(source.keys.keys) == 2

    assert eventually(both, 60)
    assert site.asked[:2] == ["/meta", "/keys"]
    assert site.asked.count("/meta") == 1
    assert told == []


@pytest.mark.parametrize(
    ("stated", "configured", "accepted"),
    [
        (ISSUER, ISSUER, True),
        (ISSUER.rstrip("/"), ISSUER, False),
        ("https://evil.example.com/", ISSUER, False),
        (None, ISSUER, False),
        ([ISSUER], ISSUER, False),
        (TENANT, TENANT, True),
        (TENANT, "https://login.example.com/7f0e/v2.0", True),
        (TENANT, "https://login.example.com/7f0e/v1.0", False),
        (TENANT, "https://login.example.com/a/b/v2.0", False),
        ("https://login.example.com/7f0e/v2.0", TENANT, False),
    ],
)
def test_metadata_counts_if_it_names_the_issuer(
    site: Site, told: Told, start: Start, stated: Any, configured: str, accepted: bool
) -> None:
    """Exactly, or as the one template for all tenants; another's metadata gives no keys (OpenID Discovery, 4.3)."""
    site.metadata(stated)
    source = start(discovered(site, told, configured))
    assert source.answered(60)
    assert (source.keys is not None) == accepted
    assert accepted == (told == [])
    if not accepted:
        assert "is not of the issuer" in told[0]
        assert "/keys" not in site.asked


@pytest.mark.parametrize(
    ("page", "why"),
    [
        (b"<html>", "no JSON"),
        (b"[]", "is not of the issuer"),
        (json.dumps({"issuer": ISSUER}).encode(), "names no key set"),
        (json.dumps({"issuer": ISSUER, "jwks_uri": 7}).encode(), "names no key set"),
        (json.dumps({"issuer": ISSUER, "jwks_uri": "http://as.example.com/keys"}).encode(), "https only"),
        (json.dumps({"issuer": ISSUER, "jwks_uri": "file:///etc/passwd"}).encode(), "https only"),
    ],
)
def test_metadata_of_rubbish_gives_no_keys(site: Site, told: Told, start: Start, page: bytes, why: str) -> None:
    """It is told once, and mended metadata is seen."""
    site.pages["/meta"] = page
    source = start(discovered(site, told))
    assert source.answered(60)
    assert source.keys is None
    assert why in told[0]
    site.metadata()
    assert eventually(lambda: source.keys is not None, 60)
    assert len(told) == 1


def test_a_key_set_that_moves_is_followed(site: Site, told: Told, start: Start) -> None:
    """When its URL fails, the metadata is asked again; meanwhile the old keys are used."""
    source = start(discovered(site, told, age=0.05))
    assert eventually(lambda: source.keys is not None, 60)
    site.pages["/moved"] = jwks(signing_key("ES256", 1).jwk("moved"))
    del site.pages["/keys"]
    site.metadata(jwks_uri=f"{site.base}/moved")
    assert eventually(lambda: source.keys is not None and source.keys.names("moved"), 60)
    assert "its old keys are used" in told[0]


def pem_keys(site: Site, told: Told, **life: Any) -> PemPerKey:
    return PemPerKey(f"{site.base}/pem/{{kid}}", contextlib.nullcontext, told, **{**QUICK, **life})


def test_a_key_is_fetched_when_a_token_names_it(site: Site, told: Told, start: Start) -> None:
    """As AWS' load balancers publish them: one PEM behind each name. A key that goes is gone."""
    site.pages["/pem/a-1"] = KEY.pem
    source = pem_keys(site, told, age=0.1)
    verifier = TokenVerifier(Issuers([signing_issuer(source, frozenset(("ES256",)))]), now=lambda: NOW + 1)
    try:
        assert verifier.wait_ready(60)
        token = KEY.sign(claims(), kid="a-1")
        identity = verifier.verify(token)
        assert identity.reason is Reason.UNKNOWN_KEY
        assert eventually(lambda: verifier.verify(token).verified, 60)
        assert site.asked[0] == "/pem/a-1"
        del site.pages["/pem/a-1"]
        assert eventually(lambda: verifier.verify(token).reason is Reason.UNKNOWN_KEY, 60)
    finally:
        verifier.close()
    assert told == []


@pytest.mark.parametrize(
    "name", ["", "../keys", "a/b", "a?b", "a#b", "a%2fb", "a b", "a\n", "a.b", "\u00e4", "x" * 129, "{kid}", None]
)
def test_a_name_that_is_none_is_never_asked_for(site: Site, told: Told, start: Start, name: str | None) -> None:
    """What becomes part of a URL is made of letters, digits, ``-`` and ``_``: no traversal, no other host."""
    source = start(pem_keys(site, told))
    assert source.answered(60)
    source.want(name)
    source.want("last")
    assert eventually(lambda: "/pem/last" in site.asked, 60)
    assert site.asked == ["/pem/last"]


def test_a_flood_of_names_keeps_out_no_key_in_use(site: Site, told: Told, start: Start) -> None:
    """Of the names that wait, the one named most often is asked for, and only so many wait."""
    site.pages["/pem/good"] = KEY.pem
    source = pem_keys(site, told, interval=0.3)
    for number in range(10 * MAX_WANTED):
        source.want(f"invented-{number}")
        source.want("good")
    assert len(source._wants) <= MAX_WANTED
    start(source)
    assert eventually(lambda: source.keys is not None and source.keys.names("good"), 60)
    assert site.asked == ["/pem/good"]


def test_a_flood_of_forgeries_keeps_out_no_new_key(site: Site, told: Told, start: Start) -> None:
    """A name that is known waits behind one that is not, however often it is named; alone, it is fetched again."""
    site.pages["/pem/known"] = KEY.pem
    source = pem_keys(site, told, interval=0.2)
    start(source)
    source.want("known")
    assert eventually(lambda: source.keys is not None and source.keys.names("known"), 60)
    site.pages["/pem/new"] = KEY.pem
    with source._lock:  # so that all of these wait together
        source._wants.update({"known": 1000, "new": 1})
    KeySource.want(source, "known")
    assert eventually(lambda: source.keys is not None and source.keys.names("new"), 60)
    assert site.asked[:2] == ["/pem/known", "/pem/new"]
    site.pages["/pem/known"] = signing_key("ES256", 7).pem
    before = source.keys

    def replaced() -> bool:
        source.want("known")
        return source.keys is not before

    assert eventually(replaced, 60)
    assert source.keys is not None
    assert source.keys.names("new")


def test_only_so_many_named_keys_are_kept(site: Site, told: Told, start: Start) -> None:
    """The newest push out the oldest."""
    source = start(pem_keys(site, told, interval=0.001))
    for number in range(MAX_NAMED + 3):
        site.pages[f"/pem/k{number}"] = KEY.pem

        def there(name: str = f"k{number}") -> bool:
            source.want(name)
            return source.keys is not None and source.keys.names(name)

        assert eventually(there, 60)
    assert source.keys is not None
    assert len(source.keys.keys) == MAX_NAMED
    assert not source.keys.names("k0")
