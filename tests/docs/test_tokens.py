"""The recipes of docs/tokens.md do what they say: each is loaded as it stands, and verifies that vendor's token."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from jwt_audit.identity.caller import ActorType, Reason
from jwt_audit.settings.config import Config
from jwt_audit.settings.environment import load
from jwt_audit.settings.issuer_file import presets
from jwt_audit.settings.variables import PREFIX
from jwt_audit.tokens.extract import Sources
from jwt_audit.tokens.issuers import KeyRing, make_issuers
from jwt_audit.tokens.verify import TokenVerifier
from support.headers import request_with
from support.issuer import SECRET, SigningKey, jwks, signing_key
from support.shapes import IAT, SHAPES

PAGE = Path(__file__).parents[2] / "docs" / "tokens.md"
RECIPES = dict(
    re.findall(r"^### ([a-z0-9-]+)\n\n```toml\n(.*?)^```$", PAGE.read_text("utf-8"), re.DOTALL | re.MULTILINE)
)

TIMES = {"iat": IAT, "exp": IAT + 600}
GITHUB = {
    "jti": "example-id",
    "sub": "repo:octo-org/octo-repo:environment:prod",
    "environment": "prod",
    "aud": "https://deploy.example.com",
    "ref": "refs/heads/main",
    "repository": "octo-org/octo-repo",
    "actor": "octocat",
    "run_id": "1296269",
    "run_attempt": "2",
    "iss": "https://token.actions.githubusercontent.com",
    "nbf": IAT - 600,
    **TIMES,
}
"""As the vendor's documentation shows one."""
POD = {
    "aud": ["orders"],
    "iss": "https://oidc.eks.eu-west-1.amazonaws.com/id/EXAMPLE",
    "kubernetes.io": {
        "namespace": "shop",
        "pod": {"name": "web-1", "uid": "5e0bd49b"},
        "serviceaccount": {"name": "web", "uid": "14ee3fa4"},
    },
    "nbf": IAT,
    "sub": "system:serviceaccount:shop:web",
    "jti": "f0b1",
    **TIMES,
}
SVID = {"aud": "spiffe://example.org/orders", "sub": "spiffe://example.org/web", **TIMES}
ALB = {"sub": "1234567890", "name": "u1001", "iss": "https://idp.example.com", "exp": IAT + 600}
ALB_ARN = "arn:aws:elasticloadbalancing:eu-west-1:123456789012:loadbalancer/app/orders/0123456789abcdef"


def shape(name: str, **changes: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    return SHAPES[name]["header"], {**SHAPES[name]["payload"], **changes}


Token = tuple[dict[str, Any], dict[str, Any]]
TOKENS: dict[str, list[Token]] = {
    "keycloak": [shape("keycloak-access-user"), shape("keycloak-token-exchange-act")],
    "auth0": [
        shape("auth0-access-user", iss="https://acme.eu.auth0.com/"),
        shape("auth0-client-credentials", iss="https://acme.eu.auth0.com/"),
    ],
    "okta": [shape("okta-access-user", iss="https://acme.okta.com/oauth2/default")],
    "entra": [shape("entra-v2-access-user"), shape("entra-v1-access-user"), shape("entra-app-only")],
    "cognito": [shape("cognito-access"), shape("cognito-id")],
    "firebase": [shape("firebase-id")],
    "supabase": [shape("supabase-user-hs256", iss="https://projectref.supabase.co/auth/v1")],
    "clerk": [
        shape("clerk-v1-impersonated"),
        shape("clerk-v1-impersonated", org_role=None, v=2, o={"rol": "org:admin"}),
    ],
    "google-iap": [shape("google-iap")],
    "cloudflare-access": [
        shape("cloudflare-access-user", iss="https://acme.cloudflareaccess.com"),
        shape(
            "cloudflare-access-user",
            iss="https://acme.cloudflareaccess.com",
            sub="",
            common_name="e367826f.access",
        ),
    ],
    "aws-alb": [({"typ": "JWT", "kid": "1a2b-3c", "alg": "ES256", "signer": ALB_ARN, "exp": IAT + 600}, ALB)],
    "github-actions": [({"typ": "JWT", "alg": "RS256", "kid": "g1"}, GITHUB)],
    "kubernetes": [({"alg": "RS256", "kid": "c1"}, POD)],
    "spiffe": [({"alg": "ES256", "kid": "s1", "typ": "JWT"}, SVID)],
}
EXPECTED: dict[str, dict[str, Any]] = {
    "keycloak": {
        "session": "b1c2d3e4-5555-4666-8777-000000000002",
        "roles": ["offline_access", "default-roles-acme", "auditor"],
    },
    "auth0": {"session": "s-0001", "roles": ["admin", "billing"]},
    "okta": {"session": None, "roles": ["Everyone", "Auditors"]},
    "entra": {"session": "55555555-aaaa-4bbb-8ccc-000000000005", "roles": ["Orders.Admin"]},
    "cognito": {"session": "b0000000-0000-4000-8000-000000000001", "roles": ["admins"]},
    "firebase": {"session": None, "roles": None},
    "supabase": {"session": "5e5e5e5e-0000-4000-8000-000000000001", "roles": ["authenticated"]},
    "clerk": {"session": "sess_0002", "roles": ["org:admin"]},
    "google-iap": {"session": None, "roles": None},
    "cloudflare-access": {"session": "6ei6INVENTED", "roles": None},
    "aws-alb": {"session": None, "roles": None},
    "github-actions": {"session": "1296269", "roles": None},
    "kubernetes": {"session": None, "roles": None},
    "spiffe": {"session": None, "roles": None},
}
SERVICES = {"github-actions", "kubernetes", "spiffe"}
HEADERS = {
    "google-iap": "X-Goog-IAP-JWT-Assertion",
    "cloudflare-access": "Cf-Access-Jwt-Assertion",
    "aws-alb": "X-Amzn-Oidc-Data",
}


def loaded(recipe: str, folder: Path) -> Config:
    """The recipe as an operator would have it, the key files that it names beside it."""
    (folder / "bundle.json").write_bytes(jwks(signing_key("ES256").jwk("s1", use="jwt-svid")))
    path = folder / "issuers.toml"
    path.write_text(recipe)
    config, problems = load({f"{PREFIX}ISSUERS_FILE": str(path)})
    assert problems == []
    return config


def key_of(header: dict[str, Any]) -> SigningKey:
    return signing_key("RS256" if header["alg"] == "HS256" else header["alg"])


def signed(name: str, header: dict[str, Any], payload: dict[str, Any]) -> str:
    key = key_of(header)
    if name != "aws-alb":
        return key.sign_raw({**header, "alg": key.algorithm}, payload)
    return key.sign_padded(header, payload)


def verifier_of(config: Config, folder: Path, tokens: list[Token]) -> tuple[TokenVerifier, Sources]:
    """The recipe's own tables, their keys out of a file in place of the network."""
    entries = [key_of(header).jwk(header["kid"]) for header, _ in tokens]
    (folder / "keys.json").write_bytes(jwks(*entries))
    tables = [replace(table, jwks=str(folder / "keys.json"), discovery=None) for table in config.issuers]
    told: list[str] = []
    issuers = make_issuers(
        tables, KeyRing(warn_operator=lambda message, **_: told.append(message)), lambda *_, **__: None
    )
    assert issuers is not None
    verifier = TokenVerifier(issuers, now=lambda: IAT + 1)
    assert verifier.wait_ready(60)
    assert told == []
    return verifier, Sources([*config.sources, *issuers.token_sources])


def test_each_preset_has_a_recipe() -> None:
    """And a token that it is tried with."""
    assert set(RECIPES) == set(presets()) == set(TOKENS) == set(EXPECTED)


@pytest.mark.parametrize("name", sorted(TOKENS))
def test_recipe(name: str, tmp_path: Path) -> None:
    """The token of the vendor's shape is verified under the recipe, with person, session, roles and kind of actor."""
    config = loaded(RECIPES[name], tmp_path)
    assert {table.preset for table in config.issuers} == {name}
    verifier, sources = verifier_of(config, tmp_path, TOKENS[name])
    try:
        identities = []
        for header, payload in TOKENS[name]:
            token = signed(name, header, payload)
            pair = (HEADERS[name], token) if name in HEADERS else ("Authorization", f"Bearer {token}")
            shown = sources.present(request_with(pair))
            assert shown.token == token
            identity = verifier.verify(token, shown.source)
            assert (identity.verified, identity.reason) == (True, None)
            assert (identity.subject, identity.issuer) == (payload["sub"] or None, payload.get("iss"))
            identities.append(identity)
            other = signed(name, header, {**payload, "aud": "other", "client_id": "other"})
            if any(table.audience for table in config.issuers) and name != "aws-alb":
                assert verifier.verify(other, shown.source).reason is Reason.AUDIENCE_MISMATCH
            if name in HEADERS:
                assert verifier.verify(token, "bearer").reason is Reason.ISSUER_MISMATCH
        first = identities[0]
        assert {"session": first.session, "roles": first.claims.get("user.roles")} == EXPECTED[name]
        assert first.actor is (ActorType.SERVICE if name in SERVICES else ActorType.USER)
        if name == "aws-alb":
            header, payload = TOKENS[name][0]
            foreign = signed(name, {**header, "signer": ALB_ARN.replace("orders", "evil")}, payload)
            assert verifier.verify(foreign, "header:x-amzn-oidc-data").reason is Reason.AUDIENCE_MISMATCH
            bare = {claim: value for claim, value in payload.items() if claim != "exp"}
            for ends, reason in ((IAT + 600, None), (IAT - 600, Reason.EXPIRED), ("soon", Reason.CLAIM_MISSING)):
                told = verifier.verify(signed(name, {**header, "exp": ends}, bare), "header:x-amzn-oidc-data")
                assert told.reason is reason  # the header says when it ends, where the claims do not
        if name == "entra":
            header, payload = TOKENS[name][0]
            foreign = signed(name, header, {**payload, "tid": "22222222-aaaa-4bbb-8ccc-000000000009"})
            assert verifier.verify(foreign).reason is Reason.ISSUER_MISMATCH
        if name == "cloudflare-access":
            assert (identities[1].actor_id, identities[1].actor) == ("e367826f.access", ActorType.SERVICE)
        if name in ("spiffe", "google-iap"):
            header, payload = TOKENS[name][0]
            endless = signed(name, header, {claim: value for claim, value in payload.items() if claim != "exp"})
            assert verifier.verify(endless, shown.source).reason is Reason.CLAIM_MISSING
        if name == "clerk":
            assert [identity.acting for identity in identities] == ["user_0456"] * 2
            assert identities[1].claims["user.roles"] == ["org:admin"]
    finally:
        verifier.close()


def test_a_load_balancer_beside_its_user_pool(tmp_path: Path) -> None:
    """Both recipes in one file, as they stand: the same issuer's name in both tokens, the header tells them apart."""
    config = loaded(RECIPES["cognito"] + "\n" + RECIPES["aws-alb"], tmp_path)
    header, payload = TOKENS["aws-alb"][0]
    of_pool, of_balancer = TOKENS["cognito"][0], (header, {**payload, "iss": config.issuers[0].issuer})
    of_pool = (of_pool[0], {**of_pool[1], "iss": config.issuers[0].issuer})
    verifier, sources = verifier_of(config, tmp_path, [of_pool, of_balancer])
    try:
        for name, (head, body) in (("aws-alb", of_balancer), ("cognito", of_pool)):
            token = signed(name, head, body)
            pair = (HEADERS[name], token) if name in HEADERS else ("Authorization", f"Bearer {token}")
            shown = sources.present(request_with(pair))
            identity = verifier.verify(token, shown.source)
            assert (identity.reason, identity.subject) == (None, body["sub"])
    finally:
        verifier.close()


def test_a_clients_origin_and_a_backends_key(tmp_path: Path) -> None:
    """Clerk's `azp` is no client, and who shows Supabase's `service_role` key is a service, as the page says."""
    config = loaded(RECIPES["clerk"], tmp_path)
    verifier, _ = verifier_of(config, tmp_path, TOKENS["clerk"])
    header, payload = TOKENS["clerk"][0]
    identity = verifier.verify(signed("clerk", header, payload))
    verifier.close()
    assert payload["azp"] == "https://app.example.com"
    assert (identity.verified, identity.client, identity.actor) == (True, None, ActorType.USER)
    (tmp_path / "supabase.secret").write_bytes(SECRET)
    table = '[[issuer]]\npreset = "supabase"\nissuer = "supabase"\naudience = []\nsecret_file = "supabase.secret"\n'
    assert 'issuer = "supabase"' in PAGE.read_text("utf-8")
    config = loaded(table, tmp_path)
    issuers = make_issuers(config.issuers, KeyRing(warn_operator=lambda *_, **__: None), lambda *_, **__: None)
    assert issuers is not None
    verifier = TokenVerifier(issuers, now=lambda: IAT + 1)
    legacy = {"iss": "supabase", "ref": "projectref", "iat": IAT, "exp": IAT + 600}
    for role, actor in (("service_role", ActorType.SERVICE), ("anon", ActorType.USER)):
        identity = verifier.verify(signing_key("HS256").sign({**legacy, "role": role}))
        assert (identity.verified, identity.actor_id, identity.actor) == (True, "unknown", actor)
        assert identity.telemetry["user.roles"] == [role]
    verifier.close()


def test_every_block_of_toml_can_be_loaded(tmp_path: Path) -> None:
    """What is shown beside the recipes too."""
    blocks = re.findall(r"```toml\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    assert len(blocks) == len(RECIPES) + 1
    for block in blocks:
        assert not any(table.broken for table in loaded(block, tmp_path).issuers)


def test_the_keys_of_a_table_are_documented(tmp_path: Path) -> None:
    """The page's table is the list of keys that the loader takes."""
    documented = re.findall(r"^\| `([a-z_]+)` \|", PAGE.read_text("utf-8"), re.MULTILINE)
    path = tmp_path / "issuers.toml"
    path.write_text("[[issuer]]\nissuer = 'x'\nwrong = 1\n")
    _, problems = load({f"{PREFIX}ISSUERS_FILE": str(path)})
    told = re.search(r"the keys are ([a-z_, ]+);", str(problems[0]))
    assert told is not None
    assert documented == told[1].split(", ")


def test_a_secret_in_place_of_a_presets_keys(tmp_path: Path) -> None:
    """As the recipe for Supabase says of projects that sign by a shared secret."""
    (tmp_path / "supabase.secret").write_bytes(SECRET)
    config = loaded(RECIPES["supabase"] + 'secret_file = "supabase.secret"\n', tmp_path)
    issuers = make_issuers(config.issuers, KeyRing(warn_operator=lambda *_, **__: None), lambda *_, **__: None)
    assert issuers is not None
    verifier = TokenVerifier(issuers, now=lambda: IAT + 1)
    header, payload = TOKENS["supabase"][0]
    assert verifier.verify(signing_key("HS256").sign_raw(header, payload)).verified
    verifier.close()
