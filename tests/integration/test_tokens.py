"""Tokens of real issuers in a running app: several issuers from a file, other headers, cookies, and privacy."""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from jwt_audit.attributes import digest_of
from jwt_audit.settings.variables import PREFIX
from support.issuer import SigningKey, Site, claims, jwks, jwks_server, signing_key
from support.served import GUNICORN, UVICORN, Served, Told, serving
from support.shapes import IAT, REASONS, SHAPES, expected, header_of, issuer_of, token_of, toml

EXAMPLES = Path(__file__).parents[2] / "examples"
NAMES = [
    "keycloak-token-exchange-act",
    "auth0-client-credentials",
    "okta-org-server-token",
    "entra-v2-access-user",
    "cognito-access",
    "google-iap",
    "firebase-id",
    "clerk-v1-impersonated",
    "cloudflare-access-user",
    "dpop-bound",
    "stress-pingfederate-no-iss",
    "opaque-github",
    "basic-auth",
]
KEY = bytes(range(32))
CANARY = "canary-that-the-search-must-find"


def plain(attributes: dict[str, Any]) -> dict[str, Any]:
    """Attributes as OTLP JSON has them, integers as numbers and lists as lists."""
    found: dict[str, Any] = {}
    for name, value in attributes.items():
        if isinstance(value, dict):
            value = [next(iter(item.values())) for item in value["values"]]
        found[name] = int(value) if name == "jwt.expires_at" else value
    return found


def of_token(attributes: dict[str, Any]) -> dict[str, Any]:
    names = ("enduser.", "session.", "jwt.", "user.roles", "x.")
    return {name: value for name, value in plain(attributes).items() if name.startswith(names)}


@pytest.fixture(scope="module", params=["fastapi", "flask"])
def shop(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """FastAPI shows everything; Flask pseudonyms on spans, nothing on logs, and everything in the record."""
    root = tmp_path_factory.mktemp(request.param)
    tables = [issuer_of(SHAPES[name], root) for name in NAMES if SHAPES[name]["payload"]]
    (root / "issuers.toml").write_text("\n".join(tables))
    (root / "pseudonyms").write_bytes(KEY)
    environment = {f"{PREFIX}ISSUERS_FILE": str(root / "issuers.toml"), "SHOP_SECRET": "s" * 32}
    environment |= {"OTEL_LOG_LEVEL": "debug", "OTEL_RESOURCE_ATTRIBUTES": f"planted={CANARY}"}
    if request.param == "flask":
        environment[f"{PREFIX}PII"] = "spans=pseudonym,logs=off,audit=raw"
        environment[f"{PREFIX}PSEUDONYM_KEY_FILE"] = str(root / "pseudonyms")
        environment[f"{PREFIX}TOKEN_FINGERPRINT"] = "true"
    command = UVICORN if request.param == "fastapi" else GUNICORN
    with serving(root, EXAMPLES / request.param, command=command, **environment) as served:
        yield served


def pseudonym(kind: str, issuer: str, value: str) -> str:
    return hmac.new(KEY, f"{kind}\n{issuer}\n{value}".encode(), hashlib.sha256).hexdigest()


def check(told: Told, shape: dict[str, Any], token: str, shift: int, *, private: bool) -> None:
    record = of_token(told.record)
    if private and shape["name"] not in ("opaque-github", "basic-auth"):  # these never reach the rules
        assert (
            record.pop("jwt.fingerprint") == hmac.new(KEY, f"fingerprint\n{token}".encode(), hashlib.sha256).hexdigest()
        )
    if shape["name"] in REASONS:
        reason = REASONS[shape["name"]]
        for found in (record, of_token(told.server), *map(of_token, told.logs.values())):
            assert found.get("jwt.error") == (None if reason is None else reason.value)
            assert {name for name in found if not name.startswith("jwt.")} == set()
        assert told.record["audit.actor.id"] == "anonymous"
        return
    wanted = expected(shape, shift)
    assert record == wanted
    assert told.record["audit.actor.id"] == wanted.get("enduser.id", wanted.get("jwt.client_id"))
    both = {name: value for name, value in wanted.items() if not name.startswith("jwt.")}
    both |= {name: wanted[name] for name in ("jwt.status", "jwt.issuer", "jwt.expires_at") if name in wanted}
    logs = [of_token(found) for found in told.logs.values()]
    assert logs
    if not private:
        assert [found for found in (of_token(told.server), *logs) if found != both] == []
        return
    hidden = {name: value for name, value in both.items() if name not in ("enduser.id", "session.id")}
    assert [found for found in logs if found != hidden] == []
    if "enduser.id" in wanted:
        hidden["enduser.pseudo.id"] = pseudonym("subject", wanted["jwt.issuer"], wanted["enduser.id"])
    if "session.id" in wanted:
        hidden["session.id"] = pseudonym("session", wanted["jwt.issuer"], wanted["session.id"])
    server = of_token(told.server)
    assert len(server.pop("jwt.pseudonym.key_id")) == 16
    assert server == hidden


def test_the_tokens_of_many_issuers(shop: Served) -> None:
    """Each gives what is expected of it on record, server span and logs; and no token leaves the app.

    All issuers together in one file, each token in the header or cookie in which it travels.
    """
    shift = int(time.time()) - IAT
    asked = []
    for name in NAMES:
        token = token_of(SHAPES[name], shift)
        header, value = header_of(SHAPES[name], token)
        asked.append((SHAPES[name], token, shop.ask("/orders/1", **{header: value})))
    private = shop.root.name.startswith("flask")
    for shape, token, answer in asked:
        assert answer.status == 200
        check(shop.told(answer, logs=1), shape, token, shift, private=private)
    shop.stop()
    written = shop.everything()
    assert CANARY.encode() in written
    for _, token, _ in asked:
        for part in token.split(".")[1:]:
            assert len(part) < 12 or part.encode() not in written


def test_an_issuer_that_is_found_by_its_metadata_and_changes_its_keys(tmp_path: Path) -> None:
    """While requests run: the new key's tokens are verified from the first on, the removed key's no more."""
    old, new = signing_key("ES256"), signing_key("ES256", 1)
    with jwks_server() as server:
        site = Site(server)
        issuer = f"{site.base}/realms/acme"
        metadata = json.dumps({"issuer": issuer, "jwks_uri": f"{site.base}/keys"}).encode()
        site.pages["/realms/acme/.well-known/openid-configuration"] = metadata
        site.pages["/keys"] = jwks(old.jwk("old"))
        environment = {f"{PREFIX}ISSUER": issuer, f"{PREFIX}DISCOVERY": "true", "SHOP_SECRET": "s" * 32}

        def signed(key: SigningKey, kid: str, number: int) -> str:
            now = int(time.time())
            return key.sign(claims(iss=issuer, iat=now, exp=now + 600, jti=f"{kid}-{number}"), kid=kid)

        with serving(tmp_path, EXAMPLES / "fastapi", command=UVICORN, **environment) as shop:
            kept = signed(old, "old", 0)
            before = [shop.ask("/orders/1", kept)] + [shop.ask("/orders/1", signed(old, "old", n)) for n in range(1, 4)]
            site.pages["/keys"] = jwks(new.jwk("new"))
            after = [shop.ask("/orders/1", signed(new, "new", number)) for number in range(4)]
            gone = [shop.ask("/orders/1", kept), shop.ask("/orders/1", signed(old, "old", 9))]
            for answer in (*before, *after):
                assert shop.told(answer).record["jwt.status"] == "verified"
            for answer in gone:
                record = shop.told(answer).record
                assert (record["jwt.status"], record["jwt.error"]) == ("invalid", "unknown_key")
        assert site.asked.count("/keys") <= 3
        # No span of ours: the fetches are made where nothing traces.
        assert not [item for item in shop.items("traces") if "/keys" in json.dumps(item.form)]


@pytest.mark.parametrize(("example", "command"), [("fastapi", UVICORN), ("flask", GUNICORN)])
def test_a_key_that_is_replaced_and_keeps_its_name(tmp_path: Path, example: str, command: tuple[str, ...]) -> None:
    """The new key's tokens are verified from the first on, the old one's no more; forgeries cause no more fetches."""
    old, new, foreign = signing_key("ES256"), signing_key("ES256", 1), signing_key("ES256", 2)

    def signed(key: SigningKey, number: int) -> str:
        now = int(time.time())
        return key.sign(claims(iat=now, exp=now + 600, jti=f"j-{number}"), kid="fixed")

    with jwks_server() as server:
        server.body = jwks(old.jwk("fixed"))
        server.headers = {"Cache-Control": "max-age=3600"}
        environment = {f"{PREFIX}JWKS": server.url, "SHOP_SECRET": "s" * 32}
        with serving(tmp_path, EXAMPLES / example, command=command, **environment) as shop:
            kept = signed(old, 0)
            before = [shop.ask("/orders/1", kept), shop.ask("/orders/1", signed(old, 1))]
            fetched = len(server.requests)  # also by the process that has forked the one that serves
            server.body = jwks(new.jwk("fixed"))
            after = [shop.ask("/orders/1", signed(new, number)) for number in range(2, 6)]
            gone = shop.ask("/orders/1", kept)
            assert len(server.requests) == fetched + 1
            fetched, started = len(server.requests), time.monotonic()
            forged = [shop.ask("/orders/1", signed(foreign, number)) for number in range(100)]
            again = shop.ask("/orders/1", signed(new, 6))
            intervals = (time.monotonic() - started) / 10
            assert len(server.requests) - fetched <= intervals + 1
            for answer in (*before, *after, again):
                assert shop.told(answer).record["jwt.status"] == "verified"
            for answer in (gone, forged[0], forged[-1]):
                record = shop.told(answer).record
                assert (record["jwt.status"], record["jwt.error"]) == ("invalid", "signature_mismatch")


@pytest.mark.parametrize(("example", "command"), [("fastapi", UVICORN), ("flask", GUNICORN)])
def test_a_load_balancer_in_front_of_an_issuer(tmp_path: Path, example: str, command: tuple[str, ...]) -> None:
    """The tables of the page for Cognito and for AWS' load balancers in one file, one issuer's name in both tokens."""
    pool, balancer = signing_key("RS256"), signing_key("ES256")
    issuer, arn = "https://cognito-idp.eu-west-1.amazonaws.com/eu-west-1_Example01", "arn:aws:elb:orders"
    with jwks_server() as server:
        site = Site(server)
        site.pages["/pool"] = jwks(pool.jwk("p1"))
        site.pages["/1a2b-3c"] = balancer.pem
        tables = [
            {"preset": "cognito", "issuer": issuer, "jwks": f"{site.base}/pool", "audience": ["web"]},
            {"preset": "aws-alb", "jwks": f"{site.base}/{{kid}}", "audience": [arn]},
        ]
        (tmp_path / "issuers.toml").write_text("\n".join(map(toml, tables)))
        environment = {f"{PREFIX}ISSUERS_FILE": str(tmp_path / "issuers.toml"), "SHOP_SECRET": "s" * 32}
        now = int(time.time())
        payload = {"iss": issuer, "exp": now + 600}
        header = {"typ": "JWT", "alg": "ES256", "kid": "1a2b-3c", "signer": arn, "iss": issuer, "client": "web"}
        by_balancer = balancer.sign_padded(header, {**payload, "sub": "from-the-balancer"})
        by_pool = pool.sign({**payload, "sub": "from-the-pool", "client_id": "web", "token_use": "access"}, kid="p1")
        with serving(tmp_path, EXAMPLES / example, command=command, **environment) as shop:
            for token, named, person in (
                (by_pool, "Authorization", "from-the-pool"),
                (by_balancer, "X-Amzn-Oidc-Data", "from-the-balancer"),
                (by_pool, "Authorization", "from-the-pool"),
            ):
                sent = f"Bearer {token}" if named == "Authorization" else token
                told = shop.told(shop.ask("/orders/1", **{named: sent}))
                assert (told.record["jwt.status"], told.record.get("enduser.id")) == ("verified", person)
                assert told.server["enduser.id"] == person
            crossed = [
                shop.ask("/orders/1", **{"X-Amzn-Oidc-Data": by_pool}),
                shop.ask("/orders/1", Authorization=f"Bearer {by_balancer}"),
            ]
            assert [shop.told(answer).record["jwt.status"] for answer in crossed] == ["invalid", "invalid"]


WHO = """
import logging

from flask import Flask
from jwt_audit import current_identity

app = Flask(__name__)


@app.get("/")
def who():
    logging.getLogger("shop").warning("asked")
    identity = current_identity()
    return {"subject": identity.subject, "claims": dict(identity.claims), "partial": list(identity.partial)}
"""


@pytest.mark.parametrize(
    ("roles", "kept"),
    [
        ({"admin": {"1780": "acme.example.com"}, "viewer": {"1780": "acme.example.com"}}, ["admin", "viewer"]),
        (["admin", None, {"name": "viewer"}], ["admin"]),
        ([f"group-{number}" for number in range(70)], [f"group-{number}" for number in range(64)]),
        ({"roles": ["admin"]}, None),
    ],
)
def test_what_the_app_gets_and_what_is_told_of_it(tmp_path: Path, roles: Any, kept: list[str] | None) -> None:
    """The app has texts as the token says them and lists uncut; span, log line and record have one form and a mark."""
    work = tmp_path / "work"
    work.mkdir()
    (work / "app.py").write_text(WHO)
    key, now, person = signing_key("ES256"), int(time.time()), "DOMAIN\\x64\\new\nline"
    (work / "keys.json").write_bytes(jwks(key.jwk("k")))
    claim = "urn:zitadel:iam:org:project:roles"
    environment = {f"{PREFIX}JWKS": str(work / "keys.json"), f"{PREFIX}CLAIMS": f"{claim}=user.roles"}
    with serving(tmp_path, work, command=GUNICORN, **environment) as served:
        token = key.sign({**claims(sub=person, iat=now, exp=now + 600), claim: roles}, kid="k")
        answer = served.ask("/", token)
        told = served.told(answer, logs=1)
        given = roles if len(roles) == 70 else kept
        claims_given = {} if given is None else {"user.roles": given}
        assert answer.json == {"subject": person, "claims": claims_given, "partial": ["user.roles"]}
        for found in map(plain, (told.record, told.server, told.logs["asked"])):
            assert found["enduser.id"] == "DOMAIN\\\\x64\\\\new\\x0aline"
            assert found.get("user.roles") == kept
            assert found["jwt.claims_partial"] == [f"user.roles…sha256:{digest_of(roles)}"]
