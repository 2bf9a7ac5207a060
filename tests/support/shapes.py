"""The tokens that real issuers mint (values invented): keys, configuration and request for each of them."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

from jwt_audit.attributes import iso_8601, text
from jwt_audit.identity.caller import Reason
from support.issuer import SECRET, SigningKey, b64, jwks, signing_key

IAT = 1_795_500_000
"""When all shapes were issued."""
SHAPES: dict[str, dict[str, Any]] = {
    shape["name"]: shape
    for shape in json.loads(Path(__file__).parents[1].joinpath("vectors", "token_shapes.json").read_text("utf-8"))
}
REASONS: dict[str, Reason | None] = {
    "okta-org-server-token": Reason.UNKNOWN_KEY,
    "jwe-nested": Reason.UNSUPPORTED_TOKEN,
    "opaque-github": Reason.UNSUPPORTED_TOKEN,
    "opaque-google": Reason.UNSUPPORTED_TOKEN,
    "opaque-uuid": Reason.UNSUPPORTED_TOKEN,
    "basic-auth": None,
    "espv2-userinfo": Reason.UNSUPPORTED_TOKEN,  # a payload that nobody has signed is never an identity
    "stress-exp-milliseconds": Reason.CLAIM_MISSING,  # decided: it would hold for 56,000 years
    "stress-exp-10pow50": Reason.CLAIM_MISSING,
    "stress-exp-null": Reason.CLAIM_MISSING,
    "stress-kid-int": Reason.MALFORMED,
    "stress-kid-null": Reason.MALFORMED,
    "stress-b64-false": Reason.CRITICAL_HEADER,
    "stress-alg-none": Reason.ALGORITHM_NOT_ALLOWED,
    "stress-alg-confusion-hs256-with-public-key": Reason.ALGORITHM_NOT_ALLOWED,
}
"""Why a shape is no identity; None where it is no token at all."""
DECIDED = {"stress-exp-milliseconds", "stress-exp-missing", "stress-sub-nul-newline", "stress-jwks-x5c-only"}
"""Shapes whose outcome was ours to decide; docs/decisions says how."""
_SOURCES = {
    "X-Goog-Iap": "header:x-goog-iap-jwt-assertion",
    "Cf-Access": "header:cf-access-jwt-assertion",
    "X-Endpoint": "header:x-endpoint-api-userinfo",
    "Cookie: __session": "cookie:__session",
}
_CLAIMS = {
    "roles": "user.roles",
    "scopes": "x.scopes",
    "tenant": "x.tenant",
    "acting": "x.acting",
    "client": "x.client",
}


def pointer(path: list[str]) -> str:
    if len(path) == 1 and not path[0].startswith("/"):
        return path[0]
    return "".join("/" + part.replace("~", "~0").replace("/", "~1") for part in path)


def claim_of(shape: dict[str, Any], part: str) -> str | None:
    """The claim that holds a part of the identity, where a setting can say so."""
    if (shape["name"], part) == ("descope-session", "roles"):
        return "/tenants/t-77/roles"
    found = shape["from"].get(part)
    if isinstance(found, dict):
        found = found.get("path") if found["op"] in ("path", "one", "split", "str") else None
    return pointer(found) if found else None


def source_of(shape: dict[str, Any]) -> str:
    """Where the shape's token travels."""
    return next((source for start, source in _SOURCES.items() if shape["carrier"].startswith(start)), "bearer")


def header_of(shape: dict[str, Any], token: str) -> tuple[str, str]:
    """The request header in which the shape's token comes."""
    kind, _, name = source_of(shape).partition(":")
    if kind == "cookie":
        return "Cookie", f"a=b; {name}={token}"
    if kind == "header":
        return name, token
    if token.startswith("Basic "):
        return "Authorization", token
    return "Authorization", f"{'DPoP' if 'DPoP' in shape['carrier'] else 'Bearer'} {token}"


def key_of(shape: dict[str, Any]) -> SigningKey:
    algorithm = str((shape["header"] or {}).get("alg", "RS256"))
    if algorithm == "HS256" and "shared secret" not in shape["keys"]["kind"]:
        algorithm = "RS256"  # the attack: the key is public
    return signing_key(algorithm if algorithm[:2] in ("RS", "PS", "ES", "Ed", "HS") else "RS256")


def key_file(shape: dict[str, Any]) -> bytes:
    """What the key source of the shape answers, quirks and all."""
    key, name, kind, kid = key_of(shape), shape["name"], shape["keys"]["kind"], (shape["header"] or {}).get("kid")
    if kind.startswith("shared secret"):
        return SECRET
    if "PEM map" in kind:
        older = signing_key("RS256", 5).pem_certificate.decode()
        return json.dumps({"older": older, kid: key.pem_certificate.decode()}).encode()
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


def token_of(shape: dict[str, Any], shift: int = 0) -> str:
    """The shape's token, its times moved by ``shift`` seconds."""
    if "raw" in shape:
        return str(shape["raw"])
    header, payload, key = shape["header"], dict(shape["payload"]), key_of(shape)
    for name in ("iat", "exp", "nbf", "auth_time"):
        value = payload.get(name)
        if isinstance(value, str):
            payload[name] = str(int(value) + shift)
        elif isinstance(value, int) and value < 10**12:
            payload[name] = value + shift
    if header is None:
        return b64(json.dumps(payload).encode())
    if header["alg"] == "none":
        return f"{b64(json.dumps(header).encode())}.{b64(json.dumps(payload).encode())}."
    if header["alg"] == "HS256" and key.algorithm != "HS256":
        return SigningKey(key.der, "HS256").sign_raw(header, payload)
    return key.sign_raw(header, payload, header["alg"])


def toml(table: dict[str, Any]) -> str:
    """An ``[[issuer]]`` table of these keys."""
    lines = [f"{key} = {json.dumps(value)}" for key, value in table.items() if not isinstance(value, dict)]
    claims = [f"{json.dumps(key)} = {json.dumps(value)}" for key, value in table.get("claims", {}).items()]
    return "\n".join(["[[issuer]]", *lines, *(["[issuer.claims]", *claims] if claims else []), ""])


def issuer_of(shape: dict[str, Any], folder: Path) -> str:
    """The table that describes the shape's issuer, its keys written below ``folder``."""
    payload = shape["payload"] or {}
    path = folder / f"{shape['name']}.keys"
    path.write_bytes(key_file(shape))
    table: dict[str, Any] = {}
    if isinstance(payload.get("iss"), str):
        table["issuer"] = payload["iss"]
    table["secret_file" if shape["keys"]["kind"].startswith("shared secret") else "jwks"] = path.name
    audience = payload.get("aud", payload.get("client_id") if shape["name"] == "cognito-access" else None)
    if audience:
        table["audience"] = audience if isinstance(audience, str) else audience[:1]
    if source_of(shape) != "bearer":
        table["source"] = source_of(shape)
    if shape["name"] == "gitlab-ci-oidc":
        table["actor_type"] = "system"
    table["subject"] = claim_of(shape, "user") or "sub"
    session = claim_of(shape, "session")
    table["session"] = [] if session is None else [session]
    table["claims"] = {name: claim for part, name in _CLAIMS.items() if (claim := claim_of(shape, part))}
    return toml(table)


def expected(shape: dict[str, Any], shift: int = 0) -> dict[str, Any]:
    """What the audit record must carry of the shape's token: all of it and nothing else."""
    expect, payload = shape["expect"], shape["payload"]
    expires = expect["expires"] + shift if expect["expires"] else None
    act = payload.get("act") or {}
    clients = [str(payload[name]) for name in ("azp", "client_id", "cid", "appid") if name in payload]
    if shape["name"].startswith("clerk-"):
        clients = []  # its azp is the origin of a page
    found = {
        "jwt.status": "verified",
        "enduser.id": expect["user"],
        "session.id": expect["session"],
        "jwt.session_claim": claim_of(shape, "session") if expect["session"] else None,
        "jwt.issuer": expect["issuer"],
        "jwt.expires_at": expires,
        "jwt.expires_at.iso": iso_8601(expires) if expires else None,
        "jwt.id": payload.get("jti"),
        "jwt.client_id": clients[0] if clients else None,
        "jwt.act.subject": act.get("sub"),
        "jwt.act.issuer": act.get("iss"),
        "jwt.bound": {"dpop-bound": "dpop", "mtls-bound": "mtls"}.get(shape["name"]),
        "user.roles": expect["roles"] or None,
        "x.scopes": expect["scopes"],
        "x.tenant": expect["tenant"] if claim_of(shape, "tenant") else None,  # a part of the issuer's URL is no claim
        "x.acting": expect["acting"],
        "x.client": expect["client"],
    }
    present = {name: value for name, value in found.items() if value is not None}
    return {name: text(value) if isinstance(value, str) else value for name, value in present.items()}
