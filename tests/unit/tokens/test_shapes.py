"""The tokens that real issuers mint, with the identity that is right for each (values invented)."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from jwt_audit.attributes import text
from jwt_audit.identity import Identity, Reason, Status
from jwt_audit.issuer_table import IssuerTable
from jwt_audit.tokens.extract import bearer
from jwt_audit.tokens.issuers import Issuers, KeyRing, make_issuer
from jwt_audit.tokens.verify import TokenVerifier
from support.issuer import NOW, SECRET, SigningKey, b64, jwks, signing_key

SHAPES: dict[str, dict[str, Any]] = {
    shape["name"]: shape
    for shape in json.loads(Path(__file__).parents[2].joinpath("vectors", "token_shapes.json").read_text())
}

LEFT_OUT = {
    "google-iap": "another header as source",
    "google-iap-gcip": "another header as source",
    "cloudflare-access-user": "another header as source",
    "clerk-v1-impersonated": "cookie as source",
    "espv2-userinfo": "unsigned payload of a gateway named by the operator",
    "dpop-bound": "tokens under the DPoP scheme",
}
"""Shapes that one issuer and the bearer header cannot express, by what they need."""
PARTS_LEFT_OUT = {
    ("gitlab-ci-oidc", "actor_type"): "the actor type as a setting",
    ("descope-session", "roles"): "a path that another claim completes",
}
REASONS = {
    "okta-org-server-token": Reason.UNKNOWN_KEY,
    "jwe-nested": Reason.UNSUPPORTED_TOKEN,
    "opaque-github": Reason.UNSUPPORTED_TOKEN,
    "opaque-google": Reason.UNSUPPORTED_TOKEN,
    "opaque-uuid": Reason.UNSUPPORTED_TOKEN,
    "basic-auth": None,
    "stress-exp-10pow50": Reason.CLAIM_MISSING,
    "stress-exp-null": Reason.CLAIM_MISSING,
    "stress-kid-int": Reason.MALFORMED,
    "stress-kid-null": Reason.MALFORMED,
    "stress-b64-false": Reason.CRITICAL_HEADER,
    "stress-alg-none": Reason.ALGORITHM_NOT_ALLOWED,
    "stress-alg-confusion-hs256-with-public-key": Reason.ALGORITHM_NOT_ALLOWED,
}
DECIDED: dict[str, Reason | None] = {
    "stress-exp-milliseconds": Reason.CLAIM_MISSING,  # it would hold for 56,000 years
    "stress-exp-missing": None,  # Kubernetes' service accounts have none; a rule may demand it
    "stress-sub-nul-newline": None,  # with escapes in place of the control characters
    "stress-jwks-x5c-only": None,  # the certificate gives the key
}


def pointer(path: list[str]) -> str:
    if len(path) == 1 and not path[0].startswith("/"):
        return path[0]
    return "".join("/" + part.replace("~", "~0").replace("/", "~1") for part in path)


def source_of(shape: dict[str, Any], part: str) -> str | None:
    """The claim that holds a part of the identity, where a setting can say so."""
    found = shape["from"].get(part)
    if isinstance(found, dict):
        found = found.get("path") if found["op"] in ("path", "one", "split", "str") else None
    return pointer(found) if found else None


def key_of(shape: dict[str, Any]) -> SigningKey:
    algorithm = str((shape["header"] or {}).get("alg", "RS256"))
    if algorithm == "HS256" and "shared secret" not in shape["keys"]["kind"]:
        algorithm = "RS256"  # the attack: the key is public
    return signing_key(algorithm if algorithm[:2] in ("RS", "PS", "ES", "Ed", "HS") else "RS256")


def key_file(shape: dict[str, Any], key: SigningKey) -> bytes:
    """What the key source of the shape answers, quirks and all."""
    name, kind, kid = shape["name"], shape["keys"]["kind"], (shape["header"] or {}).get("kid")
    if kind.startswith("shared secret"):
        return SECRET
    if "PEM map" in kind:
        return json.dumps(
            {"older": signing_key("RS256", 5).pem_certificate.decode(), kid: key.pem_certificate.decode()}
        ).encode()
    named = kid if isinstance(kid, str) and kid != "unpublished" else "published"
    entries = {
        "stress-jwks-x5c-only": [{"kty": "RSA", "kid": named, "x5c": [base64.b64encode(key.certificate).decode()]}],
        "stress-jwks-unknown-kty": [{"kty": "AKP", "alg": "ML-DSA-65", "kid": named, "pub": "AA"}, key.jwk(named)],
        "stress-kid-duplicate-rsa-ec": [signing_key("RS256").jwk(named), key.jwk(named)],
        "stress-pingfederate-no-iss": [signing_key("ES256").jwk("p0"), key.jwk(named)],
    }.get(name)
    if entries is None:
        encryption = {**signing_key("RS256", 4).jwk("enc"), "use": "enc", "alg": "RSA-OAEP"}
        extra = {"x5t": named, "x5c": ["AAAA"], "issuer": "https://login.example.com/{tenantid}/v2.0"}
        entries = [encryption, signing_key("RS256", 5).jwk("older"), key.jwk(named, use="sig", **extra)]
    return jwks(*entries)


def token_of(shape: dict[str, Any], key: SigningKey) -> str:
    if "raw" in shape:
        return str(shape["raw"])
    header, payload = shape["header"], shape["payload"]
    if header["alg"] == "none":
        return f"{b64(json.dumps(header).encode())}.{b64(json.dumps(payload).encode())}."
    if header["alg"] == "HS256" and key.algorithm != "HS256":
        return SigningKey(key.der, "HS256").sign_raw(header, payload)
    return key.sign_raw(header, payload, header["alg"])


def identity_of(shape: dict[str, Any], path: Path) -> Identity:
    """The shape's token in a request, judged as the settings for its issuer say."""
    key, payload = key_of(shape), shape["payload"] or {}
    path.write_bytes(key_file(shape, key))
    secret = shape["keys"]["kind"].startswith("shared secret")
    audience = payload.get("aud", payload.get("client_id") if shape["name"] == "cognito-access" else None)
    mapping = {
        "roles": "user.roles",
        "scopes": "x.scopes",
        "tenant": "x.tenant",
        "acting": "x.acting",
        "client": "x.client",
    }
    table = IssuerTable(
        "shape",
        jwks=None if secret else str(path),
        secret_file=path if secret else None,
        issuer=payload.get("iss"),
        audience=(audience,) if isinstance(audience, str) else tuple(audience or ())[:1],
        subject=(source_of(shape, "user") or "sub",),
        session=(claim,) if (claim := source_of(shape, "session")) else (),
        claims=tuple((claim, name) for part, name in mapping.items() if (claim := source_of(shape, part))),
    )
    issuers = Issuers([make_issuer(table, KeyRing(tell=lambda *_, **__: None))])
    verifier = TokenVerifier(issuers, now=lambda: NOW + 1)
    try:
        assert verifier.wait_ready(5)
        token = token_of(shape, key)
        presented = bearer([token if token.startswith("Basic ") else f"Bearer {token}"])
        if presented.token is None:
            assert presented.identity is not None
            return presented.identity
        return verifier.verify(presented.token)
    finally:
        verifier.close()


def capped(value: Any) -> Any:
    return text(value) if isinstance(value, str) else value


@pytest.mark.parametrize("name", [name for name in SHAPES if name not in LEFT_OUT])
def test_shape(name: str, tmp_path: Path) -> None:
    """With the right key the identity is exactly the expected one, else there is none and a reason."""
    shape = SHAPES[name]
    identity = identity_of(shape, tmp_path / "keys")
    if name in REASONS or DECIDED.get(name) is not None:
        assert shape["outcome"] in ("rejected", "not_a_jws", "unverifiable", "decide")
        assert identity.reason is (REASONS[name] if name in REASONS else DECIDED[name])
        assert identity.status is not Status.VERIFIED
        assert (identity.subject, identity.session, identity.issuer, identity.client) == (None, None, None, None)
        return
    assert shape["outcome"] == "verified" or name in DECIDED
    assert (identity.status, identity.reason) == (Status.VERIFIED, None)
    expect = shape["expect"]
    found = {
        "user": identity.subject,
        "session": identity.session,
        "issuer": identity.issuer,
        "expires": identity.expires_at,
        "actor_type": identity.actor_type.value,
        "roles": identity.claims.get("user.roles"),
        "scopes": identity.claims.get("x.scopes"),
        "tenant": identity.claims.get("x.tenant"),
        "acting": identity.claims.get("x.acting"),
        "client": identity.claims.get("x.client"),
    }
    for part, value in found.items():
        derived = isinstance(shape["from"].get(part), dict) and shape["from"][part]["op"] in ("urlseg", "const")
        if (name, part) in PARTS_LEFT_OUT or (derived and part == "tenant"):
            continue  # a tenant out of the issuer's URL is not a claim
        wanted = capped(expect.get(part))
        assert value == (None if wanted == [] else wanted), part
    if source_of(shape, "client") in ("azp", "client_id", "cid", "appid"):
        assert identity.client == expect["client"]


def test_nothing_is_left_out_in_silence() -> None:
    """What is left out is there, and what is to be decided is decided."""
    assert set(LEFT_OUT) | set(REASONS) | set(DECIDED) | {name for name, _ in PARTS_LEFT_OUT} <= set(SHAPES)
    undecided = {name for name, shape in SHAPES.items() if shape["outcome"] in ("decide", "policy")}
    assert set(DECIDED) == undecided
