"""The rules: every reason, every attack, the cache, and rotation under load."""

from __future__ import annotations

import base64
import contextlib
import gc
import hashlib
import hmac
import json
import logging
import os
import sys
import threading
import time
import tracemalloc
import types
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jwt_audit.identity.caller import ActorType, Identity, Reason, Status
from jwt_audit.tokens.algorithms import ASYMMETRIC, SYMMETRIC
from jwt_audit.tokens.issuers import Issuer, Issuers
from jwt_audit.tokens.jwks import KeySet, parse_jwks, parse_secret
from jwt_audit.tokens.jws import MAX_TOKEN
from jwt_audit.tokens.keys import KeySource, UrlKeys
from jwt_audit.tokens.verify import BAD_SECONDS, GOOD_SECONDS, TokenVerifier
from support.issuer import (
    AUDIENCE,
    ISSUER,
    NOW,
    SECRET,
    JwksServer,
    SigningKey,
    b64,
    claims,
    eventually,
    jwks,
    jwks_server,
    signing_issuer,
    signing_key,
)

RSA = signing_key()
BOUND = signing_key("RS256", 1)
OTHER = signing_key("RS256", 3)
EVIL = "https://evil.example.com/"
EC = signing_key("ES256")
ED = signing_key("EdDSA")
KEYS = parse_jwks(
    jwks(
        RSA.jwk("rsa"),
        EC.jwk("ec"),
        ED.jwk("ed"),
        BOUND.jwk("bound", alg="RS256"),
        {**signing_key("RS256", 2).jwk("encryption"), "use": "enc"},
    )
)


class Given(KeySource):
    """Keys that a test sets; nothing is read."""

    def __init__(self, keys: KeySet | None) -> None:
        super().__init__("given", lambda message, **_: None)
        self.given = keys
        self.wants = 0

    def _read(self) -> tuple[KeySet | None, float]:
        return self.given, 3600

    def want(self, key_id: str | None) -> None:
        self.wants += 1


class Clock:
    """Seconds since the epoch, as a test sets them."""

    def __init__(self) -> None:
        self.time = float(NOW + 1)

    def __call__(self) -> float:
        return self.time


def issuer_with(keys: KeySource, **rules: Any) -> Issuer:
    return signing_issuer(keys, **{"issuer": ISSUER, "audience": (AUDIENCE,), "algorithms": ASYMMETRIC, **rules})


@contextlib.contextmanager
def verifying(*issuers: Issuer, clock: Clock | None = None, cache_size: int = 64) -> Iterator[TokenVerifier]:
    verifier = TokenVerifier(Issuers(issuers), now=clock or Clock(), cache_size=cache_size)
    assert verifier.wait_ready(5)
    try:
        yield verifier
    finally:
        verifier.close()


@pytest.fixture(scope="module")
def verifier() -> Iterator[TokenVerifier]:
    with verifying(issuer_with(Given(KEYS))) as verifier:
        yield verifier


@pytest.fixture(scope="module")
def with_secret() -> Iterator[TokenVerifier]:
    source = Given(parse_secret(SECRET, frozenset(("HS256",))))
    with verifying(issuer_with(source, algorithms=frozenset(("HS256",)))) as verifier:
        yield verifier


GOOD = [
    RSA.sign(claims(), kid="rsa"),
    RSA.sign(claims(), kid="rsa", algorithm="PS384"),
    EC.sign(claims(), kid="ec"),
    ED.sign(claims(), kid="ed"),
    ED.sign_raw({"alg": "Ed25519", "kid": "ed"}, claims(), "EdDSA"),
    RSA.sign(claims(), typ=None),
    EC.sign(claims(), typ="at+jwt"),
    RSA.sign(claims(aud=["other", AUDIENCE]), kid="rsa"),
    RSA.sign(claims(exp=NOW + 600.5), kid="rsa"),
    RSA.sign(claims(exp=str(NOW + 600)), kid="rsa"),
    RSA.sign(claims(exp=None, iat=None), kid="rsa"),
    RSA.sign(claims(iat=NOW + 2, nbf=NOW + 2), kid="rsa"),
    RSA.sign(claims(exp=NOW - 5), kid="rsa"),
    RSA.sign(claims(), kid="rsa", jku=EVIL, x5u=EVIL),
    RSA.sign(claims(), kid="rsa", jwk=EC.jwk("ec"), x5c=["AAAA"], gty=["code"]),
]


@pytest.mark.parametrize("token", GOOD)
def test_a_good_token_is_verified(verifier: TokenVerifier, token: str) -> None:
    """Each algorithm, with and without a key id, the leeway in both directions, foreign headers ignored."""
    identity = verifier.verify(token)
    assert (identity.status, identity.reason) == (Status.VERIFIED, None)
    assert (identity.subject, identity.session, identity.issuer) == ("u1001", "s-1", ISSUER)
    assert not identity.extra
    assert verifier.verify(token) is identity


def test_the_identity_of_a_token(verifier: TokenVerifier) -> None:
    """What telemetry and the audit record carry of it."""
    identity = verifier.verify(GOOD[0])
    assert dict(identity.telemetry) == {
        "jwt.status": "verified",
        "enduser.id": "u1001",
        "session.id": "s-1",
        "jwt.issuer": ISSUER,
        "jwt.expires_at": NOW + 3600,
    }
    assert identity.audit["jwt.id"] == "j-1"
    assert identity.audit["jwt.session_claim"] == "sid"


def forged(token: str) -> str:
    head, _, signature = token.rpartition(".")
    return f"{head}.{'B' if signature[0] == 'A' else 'A'}{signature[1:]}"


def unsigned(algorithm: str, payload: Any = None) -> str:
    head = b64(json.dumps({"alg": algorithm, "typ": "JWT"}).encode())
    return f"{head}.{b64(json.dumps(payload or claims()).encode())}."


def hmac_with(secret: bytes, **header: Any) -> str:
    """An HS256 token under any bytes; PyJWT refuses to sign with a public key."""
    head = ".".join(b64(json.dumps(part).encode()) for part in ({"alg": "HS256", **header}, claims()))
    return f"{head}.{b64(hmac.new(secret, head.encode(), hashlib.sha256).digest())}"


def spliced(header: dict[str, Any], signed: str) -> str:
    return ".".join([b64(json.dumps(header).encode()), *signed.split(".")[1:]])


RFC_UNSECURED = (
    "eyJhbGciOiJub25lIn0.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVl"
    "fQ."
)
REFUSED: list[tuple[str, str, Reason]] = [
    ("no token at all", "", Reason.MALFORMED),
    ("not three parts", "eyJhbGciOiJub25lIn0.e30", Reason.MALFORMED),
    ("latin-1", GOOD[0] + "\xe9", Reason.MALFORMED),
    ("lone surrogate", GOOD[0] + "\ud800", Reason.MALFORMED),
    ("payload that is a list", RSA.sign([claims()], kid="rsa"), Reason.MALFORMED),
    ("invalid UTF-8", RSA.sign(b'{"sub":"\xff"}', kid="rsa"), Reason.MALFORMED),
    ("a claim twice", RSA.sign(b'{"sub":"a","sub":"b"}', kid="rsa"), Reason.MALFORMED),
    ("nested bomb", RSA.sign(b'{"a":' * 1500 + b"1" + b"}" * 1500, kid="rsa"), Reason.MALFORMED),
    ("endless number", RSA.sign(b'{"exp":' + b"9" * 9000 + b"}", kid="rsa"), Reason.MALFORMED),
    ("exp 1e999", RSA.sign(b'{"exp":1e999}', kid="rsa"), Reason.MALFORMED),
    ("padded", GOOD[0] + "=" * (-len(GOOD[0].rpartition(".")[2]) % 4), Reason.MALFORMED),
    ("kid a number", RSA.sign(claims(), kid=7), Reason.MALFORMED),
    ("kid null", RSA.sign_raw({"alg": "RS256", "kid": None}, claims()), Reason.MALFORMED),
    ("no algorithm", RSA.sign_raw({"typ": "JWT"}, claims()), Reason.MALFORMED),
    ("30 KB", RSA.sign(claims(x="x" * 23_000)), Reason.TOO_LARGE),
    ("10,000 claims", RSA.sign({str(number): number for number in range(10_000)}), Reason.TOO_LARGE),
    ("opaque", "ghs_invented000000000000", Reason.UNSUPPORTED_TOKEN),
    ("JWE", "eyJhbGciOiJSU0EtT0FFUCJ9.AAAA.BBBB.CCCC.DDDD", Reason.UNSUPPORTED_TOKEN),
    ("none", unsigned("none"), Reason.ALGORITHM_NOT_ALLOWED),
    ("nOnE", unsigned("nOnE"), Reason.ALGORITHM_NOT_ALLOWED),
    ("none from elsewhere", unsigned("none", {"sub": "ceo"}), Reason.ALGORITHM_NOT_ALLOWED),
    ("RFC 7519, 6.1", RFC_UNSECURED, Reason.ALGORITHM_NOT_ALLOWED),
    ("none on a good signature", spliced({"alg": "none", "kid": "rsa"}, GOOD[0]), Reason.ALGORITHM_NOT_ALLOWED),
    ("confusion, PEM", hmac_with(RSA.pem, kid="rsa"), Reason.ALGORITHM_NOT_ALLOWED),
    ("confusion, PEM stripped", hmac_with(RSA.pem.strip()), Reason.ALGORITHM_NOT_ALLOWED),
    ("confusion, DER", hmac_with(RSA.der, kid="rsa"), Reason.ALGORITHM_NOT_ALLOWED),
    ("confusion, JWK", hmac_with(json.dumps(RSA.jwk("rsa")).encode(), kid="rsa"), Reason.ALGORITHM_NOT_ALLOWED),
    ("empty secret", hmac_with(b""), Reason.ALGORITHM_NOT_ALLOWED),
    ("algorithm of another type", RSA.sign_raw({"alg": "ES256", "kid": "rsa"}, claims()), Reason.ALGORITHM_NOT_ALLOWED),
    ("key bound to another", BOUND.sign(claims(), algorithm="PS256", kid="bound"), Reason.ALGORITHM_NOT_ALLOWED),
    ("unknown kid", RSA.sign(claims(), kid="unknown"), Reason.UNKNOWN_KEY),
    ("encryption key", signing_key("RS256", 2).sign(claims(), kid="encryption"), Reason.UNKNOWN_KEY),
    ("no key of the type", signing_key("ES384").sign(claims()), Reason.UNKNOWN_KEY),
    ("kid traversal", RSA.sign(claims(), kid="../../../../dev/null"), Reason.UNKNOWN_KEY),
    ("kid injection", RSA.sign(claims(), kid="rsa' UNION SELECT 'x"), Reason.UNKNOWN_KEY),
    ("kid of the prototype", RSA.sign(claims(), kid="__class__"), Reason.UNKNOWN_KEY),
    ("kid empty", RSA.sign(claims(), kid=""), Reason.UNKNOWN_KEY),
    ("another key", OTHER.sign(claims(), kid="rsa"), Reason.SIGNATURE_MISMATCH),
    ("another key, unnamed", OTHER.sign(claims()), Reason.SIGNATURE_MISMATCH),
    ("embedded jwk", OTHER.sign(claims(), kid="rsa", jwk=OTHER.jwk("rsa")), Reason.SIGNATURE_MISMATCH),
    ("jku", OTHER.sign(claims(), kid="rsa", jku=EVIL), Reason.SIGNATURE_MISMATCH),
    ("turned bit", forged(GOOD[0]), Reason.SIGNATURE_MISMATCH),
    ("turned bit, EdDSA", forged(GOOD[3]), Reason.SIGNATURE_MISMATCH),
    ("psychic signature", f"{GOOD[2].rpartition('.')[0]}.{b64(bytes(64))}", Reason.SIGNATURE_MISMATCH),
    ("no signature", f"{GOOD[0].rpartition('.')[0]}.", Reason.SIGNATURE_MISMATCH),
    ("DER instead of raw ECDSA", f"{GOOD[2].rpartition('.')[0]}.{b64(b'0' * 70)}", Reason.SIGNATURE_MISMATCH),
    ("another header on it", spliced({"alg": "RS256", "kid": "rsa"}, GOOD[0]), Reason.SIGNATURE_MISMATCH),
    ("forged and expired", forged(RSA.sign(claims(exp=NOW - 60), kid="rsa")), Reason.SIGNATURE_MISMATCH),
    ("expired", RSA.sign(claims(exp=NOW - 60), kid="rsa"), Reason.EXPIRED),
    ("expired long ago", RSA.sign(claims(exp=0), kid="rsa"), Reason.EXPIRED),
    ("not before", RSA.sign(claims(nbf=NOW + 600), kid="rsa"), Reason.NOT_YET_VALID),
    ("issued in the future", RSA.sign(claims(iat=NOW + 600), kid="rsa"), Reason.NOT_YET_VALID),
    ("another issuer", RSA.sign(claims(iss=EVIL), kid="rsa"), Reason.ISSUER_MISMATCH),
    ("issuer without its slash", RSA.sign(claims(iss=ISSUER[:-1]), kid="rsa"), Reason.ISSUER_MISMATCH),
    ("issuer in a list", RSA.sign(claims(iss=[ISSUER]), kid="rsa"), Reason.ISSUER_MISMATCH),
    ("no issuer", RSA.sign(claims(iss=None), kid="rsa"), Reason.ISSUER_MISMATCH),
    ("another audience", RSA.sign(claims(aud="other"), kid="rsa"), Reason.AUDIENCE_MISMATCH),
    ("another audience and expired", RSA.sign(claims(aud="other", exp=1), kid="rsa"), Reason.AUDIENCE_MISMATCH),
    ("no audience", RSA.sign(claims(aud=None), kid="rsa"), Reason.AUDIENCE_MISMATCH),
    ("logout token", RSA.sign(claims(), kid="rsa", typ="logout+jwt"), Reason.TYPE_MISMATCH),
    ("DPoP proof", RSA.sign(claims(), kid="rsa", typ="application/dpop+JWT"), Reason.TYPE_MISMATCH),
    ("exp null", RSA.sign({**claims(), "exp": None}, kid="rsa"), Reason.CLAIM_MISSING),
    ("exp a word", RSA.sign(claims(exp="tomorrow"), kid="rsa"), Reason.CLAIM_MISSING),
    ("exp in milliseconds", RSA.sign(claims(exp=(NOW + 60) * 1000), kid="rsa"), Reason.CLAIM_MISSING),
    ("exp 10^50", RSA.sign(claims(exp=10**50), kid="rsa"), Reason.CLAIM_MISSING),
    ("exp 1e308", RSA.sign(claims(exp=1e308), kid="rsa"), Reason.CLAIM_MISSING),
    ("nbf null", RSA.sign({**claims(), "nbf": None}, kid="rsa"), Reason.CLAIM_MISSING),
    ("sub an object", RSA.sign(claims(sub={"id": "ceo"}), kid="rsa"), Reason.CLAIM_MISSING),
    ("sub a list", RSA.sign(claims(sub=["ceo"]), kid="rsa"), Reason.CLAIM_MISSING),
    ("sub true", RSA.sign(claims(sub=True), kid="rsa"), Reason.CLAIM_MISSING),
    ("sub null", RSA.sign({**claims(), "sub": None}, kid="rsa"), Reason.CLAIM_MISSING),
    ("critical extension", RSA.sign(claims(), kid="rsa", crit=["exp"], exp=NOW), Reason.CRITICAL_HEADER),
    ("b64 false", RSA.sign(claims(), kid="rsa", crit=["b64"], b64=False), Reason.CRITICAL_HEADER),
]  # fmt: skip

STATUS = {
    Reason.EXPIRED: Status.EXPIRED,
    Reason.NOT_YET_VALID: Status.NOT_YET_VALID,
    Reason.UNSUPPORTED_TOKEN: Status.UNVERIFIED,
    Reason.KEYS_UNAVAILABLE: Status.UNVERIFIED,
}


def assert_nobody(identity: Identity, reason: Reason) -> None:
    assert (identity.reason, identity.status) == (reason, STATUS.get(reason, Status.INVALID))
    assert (identity.subject, identity.session, identity.issuer, identity.client) == (None, None, None, None)
    assert dict(identity.telemetry) == {"jwt.status": identity.status.value, "jwt.error": reason.value}
    assert identity.actor_id == "anonymous"
    allowed = {"jwt.claimed.issuer", "jwt.claimed.key_id", "jwt.claimed.algorithm"}
    if reason is Reason.EXPIRED:
        allowed |= {"jwt.expired.subject", "jwt.expired.session"}
    assert set(identity.extra) <= allowed


@pytest.mark.parametrize(("token", "reason"), [pytest.param(*case[1:], id=case[0]) for case in REFUSED])
def test_a_token_that_proves_nothing_has_its_reason(verifier: TokenVerifier, token: str, reason: Reason) -> None:
    """No exception, no identity, the right reason; and the same again from the cache."""
    for _ in range(2):
        assert_nobody(verifier.verify(token), reason)


def test_every_reason_has_a_case() -> None:
    """All but those that others give: two credentials (extract), the app's refusal, keys that are not there."""
    elsewhere = {Reason.MULTIPLE_TOKENS, Reason.REJECTED_BY_APP, Reason.KEYS_UNAVAILABLE}
    assert {reason for _, _, reason in REFUSED} == set(Reason) - elsewhere


def test_an_expired_token_tells_whose_it_was(verifier: TokenVerifier) -> None:
    """Its signature holds, so the record alone says who used an obsolete session."""
    identity = verifier.verify(RSA.sign(claims(exp=NOW - 60, sub=1001), kid="rsa"))
    assert identity.extra["jwt.expired.subject"] == "1001"
    assert identity.extra["jwt.expired.session"] == "s-1"


def test_a_forged_token_tells_only_what_it_claims(verifier: TokenVerifier) -> None:
    """Not whose it would be."""
    identity = verifier.verify(forged(GOOD[0]))
    assert dict(identity.extra) == {
        "jwt.claimed.issuer": ISSUER,
        "jwt.claimed.key_id": "rsa",
        "jwt.claimed.algorithm": "RS256",
    }


@pytest.mark.parametrize("secret", [SECRET, SECRET + b"\n"])
def test_a_shared_secret(with_secret: TokenVerifier, secret: bytes) -> None:
    """HS256 under the secret verifies, under another it does not, and no other algorithm is tried."""
    token = hmac_with(secret)
    expected = None if secret == SECRET else Reason.SIGNATURE_MISMATCH
    assert with_secret.verify(token).reason is expected
    assert_nobody(with_secret.verify(signing_key("HS512").sign(claims())), Reason.ALGORITHM_NOT_ALLOWED)
    assert_nobody(with_secret.verify(RSA.sign(claims())), Reason.ALGORITHM_NOT_ALLOWED)
    assert_nobody(with_secret.verify(unsigned("none")), Reason.ALGORITHM_NOT_ALLOWED)


def test_confusion_fails_even_where_hs_is_allowed() -> None:
    """A public key never verifies HS256, whatever the allow-list says (RFC 8725, 3.1)."""
    with verifying(issuer_with(Given(KEYS), algorithms=ASYMMETRIC | SYMMETRIC)) as verifier:
        for secret in (RSA.pem, RSA.pem.strip(), RSA.der, json.dumps(RSA.jwk("rsa")).encode()):
            assert_nobody(verifier.verify(hmac_with(secret, kid="rsa")), Reason.ALGORITHM_NOT_ALLOWED)
            assert_nobody(verifier.verify(hmac_with(secret)), Reason.UNKNOWN_KEY)


@pytest.mark.parametrize(
    ("typ", "header", "matches"),
    [
        ("at+jwt", "at+jwt", True),
        ("at+jwt", "AT+JWT", True),
        ("at+jwt", "application/at+jwt", True),
        ("application/at+jwt", "at+jwt", True),
        ("at+jwt", "JWT", False),
        ("at+jwt", None, False),
        ("at+jwt", 7, False),
        ("jwt", "JWT", True),
        (None, "anything", True),
    ],
)
def test_a_pinned_type(typ: str | None, header: Any, matches: bool) -> None:
    """Only the configured media type, without case and with or without ``application/`` (RFC 7515, 4.1.9)."""
    with verifying(issuer_with(Given(KEYS), typ=typ)) as verifier:
        identity = verifier.verify(RSA.sign(claims(client_id="shop"), typ=header, kid="rsa"))
        assert identity.reason is (None if matches else Reason.TYPE_MISMATCH)


@pytest.mark.parametrize("missing", ["exp", "aud", "sub", "client_id", "iat", "jti"])
def test_a_pinned_access_token_is_complete(missing: str) -> None:
    """Who pins ``at+jwt`` asks for RFC 9068: each claim that it requires (2.2) is there, whatever else is pinned."""
    token = RSA.sign(claims(**{"client_id": "shop", missing: None}), typ="at+jwt", kid="rsa")
    with verifying(issuer_with(Given(KEYS), typ="at+jwt", audience=())) as verifier:
        assert_nobody(verifier.verify(token), Reason.CLAIM_MISSING)
    with verifying(issuer_with(Given(KEYS), audience=())) as verifier:
        assert verifier.verify(token).verified


def test_no_rules_but_the_signature() -> None:
    """Without issuer and audience any of them is taken, but an issuer that is no text is none."""
    with verifying(issuer_with(Given(KEYS), issuer=None, audience=())) as verifier:
        for changes in ({"iss": "x"}, {"iss": None}, {"aud": "other"}, {"aud": None}):
            assert verifier.verify(RSA.sign(claims(**changes))).verified
        assert_nobody(verifier.verify(RSA.sign(claims(iss=7))), Reason.CLAIM_MISSING)


def test_each_issuer_is_judged_by_its_own_keys() -> None:
    """A key of one issuer does not sign for the other, nor an algorithm."""
    a = signing_issuer(Given(parse_jwks(jwks(RSA.jwk("k")))), frozenset(("RS256",)), issuer="https://a/")
    b = signing_issuer(Given(parse_jwks(jwks(EC.jwk("k")))), frozenset(("ES256",)), issuer="https://b/")
    with verifying(a, b) as verifier:
        assert verifier.verify(RSA.sign(claims(iss="https://a/"), kid="k")).issuer == "https://a/"
        assert verifier.verify(EC.sign(claims(iss="https://b/"), kid="k")).issuer == "https://b/"
        assert_nobody(verifier.verify(RSA.sign(claims(iss="https://b/"), kid="k")), Reason.ALGORITHM_NOT_ALLOWED)
        other = signing_key("ES256", 1).sign(claims(iss="https://b/"), kid="k")
        assert_nobody(verifier.verify(other), Reason.SIGNATURE_MISMATCH)


def test_padding_is_for_issuers_that_write_it() -> None:
    """The same token under an ordinary issuer is malformed; the signature is over the bytes as they came."""
    token = EC.sign_padded({"alg": "ES256", "kid": "ec"}, claims())
    assert token.endswith("==")
    with verifying(issuer_with(Given(KEYS))) as verifier:
        assert_nobody(verifier.verify(token), Reason.MALFORMED)
    with verifying(issuer_with(Given(KEYS), padded=True)) as verifier:
        assert verifier.verify(token).verified
        assert_nobody(verifier.verify(forged(token)), Reason.SIGNATURE_MISMATCH)
        unpadded = ".".join(part.rstrip("=") for part in token.split("."))
        assert_nobody(verifier.verify(unpadded), Reason.SIGNATURE_MISMATCH)  # other bytes than those that were signed
        assert_nobody(verifier.verify(token + "="), Reason.MALFORMED)
        assert verifier.verify(EC.sign(claims(), kid="ec")).verified


def test_a_source_chooses_among_issuers() -> None:
    """One issuer string with two key sets, one for each source; kept results are told apart by source too."""
    gateway = issuer_with(Given(parse_jwks(jwks(EC.jwk("k")))), source="header:x-gateway")
    rest = issuer_with(Given(parse_jwks(jwks(RSA.jwk("k")))))
    by_gateway, by_rest = EC.sign(claims(), kid="k"), RSA.sign(claims(), kid="k")
    with verifying(rest, gateway) as verifier:
        for _ in range(2):
            assert verifier.verify(by_gateway, "header:x-gateway").verified
            assert verifier.verify(by_rest).verified
            assert verifier.verify(by_rest, "cookie:x").verified
            assert_nobody(verifier.verify(by_gateway), Reason.ALGORITHM_NOT_ALLOWED)
            assert_nobody(verifier.verify(by_rest, "header:x-gateway"), Reason.ALGORITHM_NOT_ALLOWED)
    with verifying(gateway) as verifier:
        assert_nobody(verifier.verify(by_gateway), Reason.ISSUER_MISMATCH)


@pytest.mark.parametrize(
    ("iss", "tid", "verified"),
    [
        ("https://login.example.com/tenant-a/v2.0", "tenant-a", True),
        ("https://login.example.com/tenant-b/v2.0", "tenant-b", True),
        ("https://login.example.com/tenant-a/v2.0", "tenant-b", False),
        ("https://login.example.com/tenant-a/v2.0", None, False),
        ("https://login.example.com/tenant-a/v2.0", ["tenant-a"], False),
        ("https://login.example.com/tenant-a/v1.0", "tenant-a", False),
        ("https://login.example.com/a/tenant-a/v2.0", "tenant-a", False),
        ("https://login.example.com//v2.0", "", False),
        ("https://login.example.com/{tenantid}/v2.0", "{tenantid}", False),
        ("https://login.example.com/x?/v2.0", "x?", False),
    ],
)
def test_an_issuer_for_all_tenants(iss: str, tid: Any, verified: bool) -> None:
    """The tenant in ``iss`` is the one of the claim ``tid``; another's name in a genuine token is a mismatch."""
    rules = issuer_with(Given(KEYS), issuer="https://login.example.com/{tenantid}/v2.0", tenant=True)
    with verifying(rules) as verifier:
        identity = verifier.verify(RSA.sign(claims(iss=iss, tid=tid), kid="rsa"))
        if not verified:
            assert_nobody(identity, Reason.ISSUER_MISMATCH)
        assert identity.verified == verified


def test_one_tenant_of_an_issuer_that_signs_for_all() -> None:
    """Only the tenant that is named, and only in its own tokens: all tenants' are signed by the same keys."""
    allowed = "https://login.example.com/tenant-a/v2.0"
    with verifying(issuer_with(Given(KEYS), issuer=allowed, tenant=True)) as verifier:
        assert verifier.verify(RSA.sign(claims(iss=allowed, tid="tenant-a"), kid="rsa")).verified
        other = RSA.sign(claims(iss=allowed.replace("-a", "-b"), tid="tenant-b"), kid="rsa")
        posing = RSA.sign(claims(iss=allowed, tid="tenant-b"), kid="rsa")
        assert_nobody(verifier.verify(other), Reason.ISSUER_MISMATCH)
        assert_nobody(verifier.verify(posing), Reason.ISSUER_MISMATCH)


@pytest.mark.parametrize(
    ("signer", "reason"),
    [
        ("arn:a", None),
        ("arn:b", Reason.AUDIENCE_MISMATCH),
        (None, Reason.AUDIENCE_MISMATCH),
        (7, Reason.AUDIENCE_MISMATCH),
    ],
)
def test_an_audience_in_the_header(signer: Any, reason: Reason | None) -> None:
    """Load balancers name themselves there, in what they sign; ``aud`` is then not looked at."""
    issuer = issuer_with(Given(KEYS), audience=("arn:a",), audience_header="signer")
    with verifying(issuer) as verifier:
        identity = verifier.verify(RSA.sign(claims(aud="arn:a"), kid="rsa", signer=signer))
        assert identity.reason is reason


@pytest.mark.parametrize(
    ("act", "subject", "issuer"),
    [
        ({"sub": "support"}, "support", None),
        ({"sub": "support", "iss": "https://desk.example.com"}, "support", "https://desk.example.com"),
        ({"sub": 7}, "7", None),
        ({"client_id": "desk"}, "desk", None),
        ({"sub": "now", "act": {"sub": "before"}}, "now", None),
        ({"act": {"sub": "before"}}, None, None),
        ({"sub": ["support"]}, None, None),
        ({"sub": "", "iss": "x"}, None, None),
        ({}, None, None),
        ("support", None, None),
        ([{"sub": "support"}], None, None),
        (None, None, None),
    ],
)
def test_who_acts_for_whom(act: Any, subject: str | None, issuer: str | None) -> None:
    """The outermost ``act`` is recorded beside the person; ``may_act`` and the subject of the token are not it."""
    payload = {**claims(may_act={"sub": "anybody"}), **({} if act is None else {"act": act})}
    with verifying(issuer_with(Given(KEYS))) as verifier:
        identity = verifier.verify(RSA.sign(payload, kid="rsa"))
    assert identity.subject == "u1001"
    assert (identity.audit.get("jwt.act.subject"), identity.audit.get("jwt.act.issuer")) == (subject, issuer)
    assert "anybody" not in str(identity)
    assert not [name for name in identity.telemetry if name.startswith("jwt.act")]


@pytest.mark.parametrize(
    ("confirmation", "bound"),
    [
        ({"jkt": "0ZcOCORZ"}, "dpop"),
        ({"x5t#S256": "bwcK0esc"}, "mtls"),
        ({"jwk": {}}, "key"),
        ({}, None),
        ("jkt", None),
        (None, None),
    ],
)
def test_bound_tokens_are_recorded_as_bound(confirmation: Any, bound: str | None) -> None:
    """By DPoP, by mutual TLS, by another key: the record says so, and what the key is stays out of it."""
    with verifying(issuer_with(Given(KEYS))) as verifier:
        identity = verifier.verify(RSA.sign(claims(cnf=confirmation), kid="rsa"))
    assert identity.verified
    assert identity.audit.get("jwt.bound") == bound
    assert "0ZcOCORZ" not in str(identity.audit)


def test_what_kind_of_actor_is_the_operators_word() -> None:
    """Pipelines are no people, whatever their tokens look like."""
    with verifying(issuer_with(Given(KEYS), actor_type=ActorType.SYSTEM)) as verifier:
        assert verifier.verify(GOOD[0]).actor is ActorType.SYSTEM


def test_a_token_without_a_subject(verifier: TokenVerifier) -> None:
    """Verified, with session and expiry but nobody's name; the actor is the client, else unknown, never anonymous."""
    by_client = verifier.verify(RSA.sign(claims(sub=None, azp="web-shop", act={"sub": "desk"}), kid="rsa"))
    assert by_client.verified
    assert "enduser.id" not in by_client.audit
    assert (by_client.session, by_client.actor_id, by_client.actor) == ("s-1", "web-shop", ActorType.SERVICE)
    assert by_client.audit["jwt.act.subject"] == "desk"
    by_nobody = verifier.verify(RSA.sign(claims(sub=None), kid="rsa"))
    assert (by_nobody.actor_id, by_nobody.actor) == ("unknown", ActorType.USER)


def test_the_explanation_is_the_verdict(verifier: TokenVerifier) -> None:
    """`explain` gives what `verify` gives, and by whose rules."""
    for token in (*GOOD, *(token for _, token, _ in REFUSED)):
        if len(token) < MAX_TOKEN and token.isascii():
            verdict = verifier.explain(token)
            assert verdict.identity == verifier.verify(token)
            assert (verdict.issuer is not None) or not verdict.identity.verified
    assert verifier.explain(RSA.sign(claims(iss=EVIL))).issuer is None


def test_claims_of_the_operators_choice() -> None:
    """Ordered lists for subject and session, and a mapping for the rest."""
    rules = issuer_with(
        Given(KEYS),
        subject=("uid", "sub"),
        session=("/ctx/session",),
        claims=(("/realm_access/roles", "user.roles"),),
    )
    with verifying(rules) as verifier:
        token = RSA.sign(claims(uid=7, ctx={"session": "x"}, realm_access={"roles": ["a"]}, azp="7"))
        identity = verifier.verify(token)
    assert (identity.subject, identity.session, identity.session_claim) == ("7", "x", "/ctx/session")
    assert identity.telemetry["user.roles"] == ["a"]
    assert identity.actor is ActorType.SERVICE  # sub is the client


@settings(max_examples=150, deadline=None)
@given(
    st.text(max_size=60)
    | st.builds(
        lambda header, payload: RSA.sign_raw({"alg": "RS256", **header}, payload, "RS256"),
        st.dictionaries(
            st.sampled_from(("kid", "typ", "jwk", "crit", "b64", "alg")), st.text() | st.none(), max_size=2
        ),
        st.dictionaries(
            st.sampled_from(("iss", "aud", "exp", "nbf", "iat", "sid", "jti", "azp", "scope")),
            st.none()
            | st.booleans()
            | st.integers()
            | st.floats(allow_nan=False, allow_infinity=False)
            | st.text(max_size=5)
            | st.lists(st.text(max_size=3), max_size=2),
            max_size=6,
        ),
    )
)
def test_any_token_gives_an_identity_without_a_person(verifier: TokenVerifier, token: str) -> None:
    """No claim of any type raises, and without a subject no person comes of it."""
    identity = verifier.verify(token)
    assert identity.subject is None
    assert identity.verified == (identity.reason is None)
    assert identity.audit["jwt.status"] == identity.status.value


def test_a_flaw_of_ours_lets_nothing_pass(verifier: TokenVerifier) -> None:
    """What no rule foresaw is refused, and raises nothing into the app."""

    class Broken(KeySet):
        def candidates(self, key_id: str | None, algorithm: str) -> Any:
            raise ZeroDivisionError

    with verifying(issuer_with(Given(Broken(KEYS.keys)))) as broken:
        assert_nobody(broken.verify(GOOD[0]), Reason.MALFORMED)


# The cache


def test_a_result_ends_with_the_token() -> None:
    """Expiry is looked at on every use, to the second and the leeway."""
    clock = Clock()
    with verifying(issuer_with(Given(KEYS), leeway=5), clock=clock) as verifier:
        token = RSA.sign(claims(exp=NOW + 20), kid="rsa")
        assert verifier.verify(token).verified
        clock.time = NOW + 24.9
        assert verifier.verify(token).verified
        clock.time = NOW + 25.0
        assert verifier.verify(token).reason is Reason.EXPIRED


def test_a_token_becomes_valid_in_time() -> None:
    """``not_yet_valid`` is not kept past the moment from which the token holds."""
    clock = Clock()
    with verifying(issuer_with(Given(KEYS), leeway=0), clock=clock) as verifier:
        token = RSA.sign(claims(nbf=NOW + 5), kid="rsa")
        assert verifier.verify(token).reason is Reason.NOT_YET_VALID
        clock.time = NOW + 5
        assert verifier.verify(token).verified


def test_results_are_kept_for_a_short_time_only() -> None:
    """The same object for a minute (a refusal: ten seconds), then it is judged again."""
    clock = Clock()
    with verifying(issuer_with(Given(KEYS)), clock=clock) as verifier:
        good, bad = verifier.verify(GOOD[0]), verifier.verify(forged(GOOD[0]))
        clock.time += BAD_SECONDS - 1
        assert verifier.verify(GOOD[0]) is good
        assert verifier.verify(forged(GOOD[0])) is bad
        clock.time += 1
        assert verifier.verify(forged(GOOD[0])) is not bad
        clock.time += GOOD_SECONDS - BAD_SECONDS
        assert verifier.verify(GOOD[0]) is not good
        assert verifier.verify(GOOD[0]) == good


def test_a_removed_key_ends_cached_results_too() -> None:
    """And a key that comes, or keys at all, end cached refusals."""
    source = Given(KEYS)
    with verifying(issuer_with(source)) as verifier:
        assert verifier.verify(GOOD[0]).verified
        source.keys = parse_jwks(jwks(EC.jwk("ec")))
        assert_nobody(verifier.verify(GOOD[0]), Reason.UNKNOWN_KEY)
        source.keys = None
        assert_nobody(verifier.verify(GOOD[0]), Reason.KEYS_UNAVAILABLE)
        source.keys = KEYS
        assert verifier.verify(GOOD[0]).verified


def test_bad_tokens_evict_no_good_one_and_cost_bounded_memory() -> None:
    """A flood of distinct bad tokens, and of good ones beyond the size, stays within the bound."""
    source = Given(KEYS)
    with verifying(issuer_with(source), cache_size=64) as verifier:
        good = verifier.verify(GOOD[0])
        head = GOOD[2].rpartition(".")[0]

        def flood(start: int) -> None:
            for number in range(start, start + 2000):
                verifier.verify(f"{head}.{b64(number.to_bytes(64, 'big'))}")

        flood(0)
        gc.collect()
        tracemalloc.start()
        try:
            before, _ = tracemalloc.get_traced_memory()
            flood(2000)
            gc.collect()
            after, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert after - before < 200_000
        assert verifier.verify(GOOD[0]) is good


def test_what_is_used_stays() -> None:
    """Of more good tokens than there is room for, the one that is used again and again is kept."""
    with verifying(issuer_with(Given(KEYS)), cache_size=16) as verifier:
        kept = verifier.verify(GOOD[3])
        for number in range(40):
            assert verifier.verify(ED.sign(claims(jti=str(number)), kid="ed")).verified
            assert verifier.verify(GOOD[3]) is kept


def test_the_token_itself_is_not_kept() -> None:
    """Of all that the verifier holds, nothing has the token's text or its signature: only its SHA-256."""
    with verifying(issuer_with(Given(KEYS))) as verifier:
        token = RSA.sign(claims(), kid="rsa")
        signature = token.rpartition(".")[2]
        secrets = (signature[:40], signature[-40:], base64.urlsafe_b64decode(signature + "==")[:30].decode("latin-1"))

        def held() -> list[object]:
            seen: dict[int, object] = {}
            rest: list[object] = [verifier]
            while rest:
                item = rest.pop()
                if id(item) not in seen and not isinstance(item, (type, types.ModuleType, types.FunctionType)):
                    seen[id(item)] = item
                    rest.extend(gc.get_referents(item))
            texts = [
                item if isinstance(item, str) else item.decode("latin-1")
                for item in seen.values()
                if isinstance(item, (str, bytes))
            ]
            return [text for text in texts if any(secret in text for secret in secrets)]

        verifier.verify(token)
        verifier.verify(forged(token))
        assert held() == []
        verifier._good._young[b"canary"] = token  # type: ignore[assignment]
        assert held() == [token]


def test_from_many_threads() -> None:
    """Each thread has its own token's identity, while the caches turn over."""
    tokens = {f"u{number}": ED.sign(claims(sub=f"u{number}"), kid="ed") for number in range(40)}
    wrong: list[str] = []
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with verifying(issuer_with(Given(KEYS)), cache_size=16) as verifier:

            def work(offset: int) -> None:
                names = list(tokens)
                for number in range(300):
                    name = names[(number * 7 + offset) % len(names)]
                    if verifier.verify(tokens[name]).subject != name:
                        wrong.append(name)
                    verifier.verify(f"eyJ9.{number}.{offset}")

            threads = [threading.Thread(target=work, args=(offset,)) for offset in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert wrong == []


# Keys that come and go


@pytest.fixture
def server() -> Iterator[JwksServer]:
    with jwks_server() as server:
        server.body = jwks(RSA.jwk("rsa"))
        yield server


def from_server(server: JwksServer, **life: Any) -> Issuer:
    quick: dict[str, Any] = {"interval": 0.2, "retry": (0.05, 0.1), "deadline": 1.0}
    return issuer_with(UrlKeys(server.url, contextlib.nullcontext, lambda *_, **__: None, **{**quick, **life}))


def patiently(verifier: TokenVerifier, token: str) -> Identity:
    """As a caller does that can wait a moment."""
    until = time.monotonic() + 60
    identity = verifier.verify(token)
    while verifier.undecided(identity) and time.monotonic() < until:
        time.sleep(0.002)
        identity = verifier.verify(token)
    return identity


def test_the_first_request_can_wait_for_the_keys(server: JwksServer) -> None:
    """Until the first answer there are no keys, and the verifier says that this may soon change."""
    release = threading.Event()

    def slow(handler: Any) -> None:
        release.wait(60)
        server.write(handler)

    server.answer = slow
    verifier = TokenVerifier(Issuers([from_server(server)]), now=Clock())
    try:
        identity = verifier.verify(GOOD[0])
        assert_nobody(identity, Reason.KEYS_UNAVAILABLE)
        assert (verifier.ready(), verifier.wait_ready(0.01), verifier.undecided(identity)) == (False, False, True)
        release.set()
        assert patiently(verifier, GOOD[0]).verified
        assert verifier.ready()
    finally:
        verifier.close()


def test_nobody_waits_for_an_issuer_that_is_down(server: JwksServer) -> None:
    """After the first failure the answer is ``keys_unavailable`` at once; good tokens work when it is back."""
    server.status = 500
    with verifying(from_server(server)) as verifier:
        identity = verifier.verify(GOOD[0])
        assert_nobody(identity, Reason.KEYS_UNAVAILABLE)
        assert not verifier.undecided(identity)
        server.status = 200
        assert eventually(lambda: verifier.verify(GOOD[0]).verified)


def test_a_rotation_loses_no_identity(server: JwksServer) -> None:
    """Requests with the new key wait for the one fetch that their key causes, others for nothing."""
    new = signing_key("RS256", 1)
    with verifying(from_server(server, interval=0.05)) as verifier:
        assert verifier.verify(GOOD[0]).verified
        server.body = jwks(RSA.jwk("rsa"), new.jwk("new"))
        count = len(server.requests)
        lost: list[Reason | None] = []

        def request(number: int) -> None:
            identity = patiently(verifier, new.sign(claims(jti=str(number)), kid="new"))
            if not identity.verified:
                lost.append(identity.reason)

        threads = [threading.Thread(target=request, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert lost == []
        assert len(server.requests) - count <= 2


def test_a_flood_of_unknown_keys(server: JwksServer) -> None:
    """Thousands of key ids cause one fetch an interval, evict no good key, and no good request waits."""
    with verifying(from_server(server, interval=0.3)) as verifier:
        assert verifier.verify(GOOD[0]).verified
        started = time.monotonic()
        tail = GOOD[0].split(".", 1)[1]
        for number in range(10_000):
            header = b64(b'{"alg":"RS256","kid":"%d"}' % number)
            assert verifier.verify(f"{header}.{tail}").reason is Reason.UNKNOWN_KEY
            if number % 500 == 0:
                assert verifier.verify(GOOD[0]).verified
        intervals = (time.monotonic() - started) / 0.3
        assert len(server.requests) <= intervals + 2


def test_a_key_set_without_names_is_rotated_too(server: JwksServer) -> None:
    """When no key has a name, a signature that fails may be a new key's."""
    server.body = jwks(RSA.jwk(None))
    with verifying(from_server(server, interval=0.05)) as verifier:
        assert verifier.verify(GOOD[0]).verified
        new = signing_key("RS256", 1)
        server.body = jwks(new.jwk(None))
        token = new.sign(claims(), kid="whatever")
        assert verifier.verify(token).reason is Reason.SIGNATURE_MISMATCH
        assert eventually(lambda: verifier.verify(token).verified)
        assert not verifier.verify(GOOD[0]).verified


def test_only_what_another_key_may_have_signed_asks_for_keys() -> None:
    """No token of another issuer, none that claims to need no key; and what is kept of a token asks for nothing."""
    source = Given(KEYS)
    with verifying(issuer_with(source)) as verifier:
        verifier.verify(GOOD[0])
        verifier.verify(unsigned("none"))
        verifier.verify(RSA.sign(claims(iss=EVIL), kid="unknown"))
        verifier.verify(RSA.sign(claims(exp=NOW - 600), kid="rsa"))
        assert source.wants == 0
        for wants, token in enumerate(
            (
                RSA.sign(claims(), kid="unknown"),
                forged(GOOD[0]),
                OTHER.sign(claims(), kid="rsa"),
                RSA.sign(claims(), kid="ec"),
                OTHER.sign(claims(), kid=None),
            ),
            1,
        ):
            for _ in range(3):
                verifier.verify(token)
            assert source.wants == wants


@pytest.mark.parametrize(("before", "after"), [(RSA, signing_key("RS256", 1)), (RSA, EC), (EC, RSA)])
@pytest.mark.parametrize("named", [True, False])
def test_a_key_replaced_under_its_name_loses_no_identity(
    server: JwksServer, before: SigningKey, after: SigningKey, named: bool
) -> None:
    """Also by one of another type: the first request with the new key waits for the one fetch that it causes, and the
    old key's results end with it, those that were kept included."""
    kid = "fixed" if named else None
    server.body = jwks(before.jwk("fixed"))
    with verifying(from_server(server)) as verifier:
        old = before.sign(claims(), kid=kid)
        assert verifier.verify(old).verified
        server.body = jwks(after.jwk("fixed"))
        count = len(server.requests)
        assert patiently(verifier, after.sign(claims(), kid=kid)).verified
        assert len(server.requests) == count + 1
        assert not verifier.verify(old).verified
        for number in range(20):
            assert verifier.verify(after.sign(claims(jti=str(number)), kid=kid)).verified
        assert len(server.requests) <= count + 2


def test_a_flood_of_forgeries(server: JwksServer) -> None:
    """Thousands of them under a known key cause one fetch an interval; no result is lost, no good request waits."""
    with verifying(from_server(server, interval=0.3)) as verifier:
        kept = verifier.verify(GOOD[0])
        started = time.monotonic()
        head = GOOD[0].rpartition(".")[0]
        for number in range(5_000):
            token = f"{head}.{b64(number.to_bytes(256, 'big'))}"
            assert verifier.verify(token).reason is Reason.SIGNATURE_MISMATCH
            if number % 250 == 0:
                again = verifier.verify(GOOD[0])
                assert again is kept
                assert not verifier.undecided(again)
        intervals = (time.monotonic() - started) / 0.3
        assert len(server.requests) <= intervals + 2
        server.body = jwks(signing_key("RS256", 1).jwk("rsa"))
        new = signing_key("RS256", 1).sign(claims(), kid="rsa")
        assert eventually(lambda: verifier.verify(new).verified, 5)
        assert not verifier.verify(GOOD[0]).verified


@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")  # servers that preload do just this
def test_after_a_fork_everything_goes_on(server: JwksServer) -> None:
    """The child verifies with the keys it has and reads on."""
    with verifying(from_server(server, age=0.05)) as verifier:
        assert verifier.verify(GOOD[0]).verified
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            code = 1
            try:
                verifier.after_fork()
                fresh = RSA.sign(claims(jti="child"), kid="rsa")
                if verifier.verify(GOOD[0]).verified and verifier.verify(fresh).verified:
                    os.write(writer, b"!")
                    code = 0 if eventually(lambda: not verifier.verify(fresh).verified) else 2
            finally:
                os._exit(code)
        os.close(writer)
        with os.fdopen(reader, "rb") as pipe:
            assert pipe.read(1) == b"!"
        server.body = jwks(EC.jwk("ec"))
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == 0


def test_nothing_of_a_token_is_told(server: JwksServer, caplog: pytest.LogCaptureFixture) -> None:
    """At the lowest level, over every refusal and a failing issuer: neither payload nor signature is logged."""
    caplog.set_level(logging.DEBUG)
    log = logging.getLogger("canary")
    server.status = 500
    told: list[str] = []
    source = UrlKeys(server.url, contextlib.nullcontext, lambda message, **_: told.append(message))
    with verifying(issuer_with(source)) as failing, verifying(issuer_with(Given(KEYS))) as verifier:
        for _, token, _ in REFUSED:
            failing.verify(token)
            verifier.verify(token)
    log.debug("the search finds: %s", GOOD[0])
    output = "\n".join([caplog.text, *told])
    parts = [part for _, token, _ in REFUSED for part in token.split(".")[1:] if len(part) > 12]
    assert GOOD[0].rpartition(".")[2] in output  # the canary: a search that could not find proves nothing
    output = output.replace(GOOD[0], "")
    assert not [part for part in parts if part in output]
