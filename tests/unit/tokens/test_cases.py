"""Public bug reports about tokens, each as a test of ours: tests/vectors/cases.json says where and what."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import re
import threading
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from jwt_audit.identity.caller import ActorType, Identity, Reason
from jwt_audit.settings.environment import load
from jwt_audit.settings.variables import PREFIX
from jwt_audit.tokens.algorithms import ASYMMETRIC, SYMMETRIC
from jwt_audit.tokens.extract import Sources
from jwt_audit.tokens.issuers import Issuers, KeyRing, make_issuers
from jwt_audit.tokens.jwks import KeySet, parse_jwks, parse_secret
from jwt_audit.tokens.keys import UrlKeys
from jwt_audit.tokens.verify import TokenVerifier
from support.headers import request_with
from support.issuer import (
    ISSUER,
    NOW,
    SECRET,
    FixedKeys,
    b64,
    claims,
    eventually,
    jwks,
    jwks_server,
    signing_issuer,
    signing_key,
)
from support.shapes import IAT, SHAPES, issuer_of, token_of

CASES = {
    case["id"]: case for case in json.loads((Path(__file__).parents[2] / "vectors" / "cases.json").read_text("utf-8"))
}
ELSEWHERE = {
    "C27": "servers, and what reaches us of long headers: tests/integration/test_long_tokens.py",
    "C28": "privacy at DEBUG, over all outputs: test_nothing_of_a_token_is_told, tests/integration",
}
"""Cases of these areas that other tests show."""
RSA, EC = signing_key("RS256"), signing_key("ES256")


def judged(token: str, keys: KeySet, **rules: Any) -> Identity:
    rules = {"algorithms": ASYMMETRIC, "leeway": 10, **rules}
    verifier = TokenVerifier(Issuers([signing_issuer(FixedKeys(keys), **rules)]), now=lambda: NOW + 1)
    return verifier.verify(token)


def by_secret(payload: Any) -> Identity:
    return judged(signing_key("HS256").sign(payload), parse_secret(SECRET, frozenset()), algorithms=SYMMETRIC)


def test_each_case_about_tokens_has_a_test() -> None:
    """None of them is passed over."""
    areas = ("token/", "keys", "issuer", "audience", "security", "header")
    wanted = {name for name, case in CASES.items() if case["area"].startswith(areas)}
    there = {found[1].upper() for name in globals() if (found := re.match(r"test_(c\d\d)_", name))}
    assert wanted - set(ELSEWHERE) <= there


def test_c01_numeric_subject() -> None:
    """A numeric subject is a person, by the decimal text of the number."""
    identity = by_secret({"sub": 1001, "type": "access", "exp": NOW + 900})
    assert (identity.verified, identity.telemetry["enduser.id"]) == (True, "1001")


def test_c03_access_token_without_a_subject() -> None:
    """Keycloak's lightweight tokens: session, client and expiry, nobody's name, and never "anonymous"."""
    payload = claims(sub=None, azp="web-shop", typ="Bearer", jti="onrtac:1")
    identity = judged(RSA.sign(payload, kid="k"), parse_jwks(jwks(RSA.jwk("k"))))
    assert identity.verified
    assert "enduser.id" not in identity.audit
    assert (identity.audit["session.id"], identity.audit["jwt.client_id"]) == ("s-1", "web-shop")
    assert (identity.actor_id, identity.actor) == ("web-shop", ActorType.SERVICE)


def test_c04_exchanged_token_without_a_subject() -> None:
    """The acting party is the only one known, and is recorded as acting."""
    payload = claims(sub=None, azp="support-desk", act={"sub": "desk-7"})
    identity = judged(RSA.sign(payload, kid="k"), parse_jwks(jwks(RSA.jwk("k"))))
    assert (identity.subject, identity.audit["jwt.act.subject"]) == (None, "desk-7")


def test_c05_padded_tokens() -> None:
    """Verified over their own bytes, for the issuer that writes so; elsewhere malformed."""
    token, keys = EC.sign_padded({"alg": "ES256", "kid": "k"}, claims()), parse_jwks(jwks(EC.jwk("k")))
    assert "=" in token
    assert judged(token, keys, padded=True).verified
    assert judged(token, keys).reason is Reason.MALFORMED


def test_c07_fractional_expiry() -> None:
    """Verified; the attribute is whole seconds."""
    identity = by_secret({"sub": "a", "exp": NOW + 600.5})
    assert identity.telemetry["jwt.expires_at"] == NOW + 600


def test_c08_expiry_as_text() -> None:
    """Digits are the number, whatever library is installed; it expires all the same."""
    assert by_secret({"sub": "a", "exp": str(NOW + 600)}).telemetry["jwt.expires_at"] == NOW + 600
    assert by_secret({"sub": "a", "exp": str(NOW - 600)}).reason is Reason.EXPIRED


@pytest.mark.parametrize(("ahead", "reason"), [(2, None), (600, Reason.NOT_YET_VALID)])
def test_c11_a_clock_that_is_ahead(ahead: int, reason: Reason | None) -> None:
    """Two seconds are leeway, ten minutes are not."""
    assert by_secret({"sub": "a", "iat": NOW + ahead, "nbf": NOW + ahead, "exp": NOW + 3600}).reason is reason


@pytest.mark.parametrize(
    ("kid", "keys"),
    [
        (None, [RSA.jwk("k")]),
        ("k", [RSA.jwk()]),
        ("k", [{**RSA.jwk(), "kid": None}]),
        (None, [signing_key("RS256", 1).jwk("a"), RSA.jwk("b")]),
    ],
)
def test_c12_without_a_key_id(kid: str | None, keys: list[Any]) -> None:
    """On either side, or with several keys that fit: all of those are tried."""
    assert judged(RSA.sign(claims(), kid=kid), parse_jwks(jwks(*keys))).verified


def test_c13_an_encryption_key_beside() -> None:
    """The signing key is used; one for encryption never, though the name were its own."""
    encryption = {**signing_key("RS256", 1).jwk("enc"), "use": "enc", "alg": "RSA-OAEP"}
    keys = parse_jwks(jwks(encryption, RSA.jwk("sig", use="sig", alg="RS256")))
    assert judged(RSA.sign(claims(), kid="sig"), keys).verified
    assert judged(signing_key("RS256", 1).sign(claims(), kid="enc"), keys).reason is Reason.UNKNOWN_KEY


def test_c15_one_name_for_keys_of_two_types() -> None:
    """Chosen by name, type and algorithm together."""
    keys = parse_jwks(jwks(EC.jwk("same"), RSA.jwk("same")))
    for key in (RSA, EC):
        assert judged(key.sign(claims(), kid="same"), keys).verified


def test_c16_a_failed_refresh_keeps_the_keys() -> None:
    """An error, a page of HTML, an empty set: good tokens go on, and it is told once."""
    told: list[str] = []
    with jwks_server() as server:
        server.body = jwks(RSA.jwk("k"))
        life: dict[str, Any] = {"age": 0.02, "retry": (0.02, 0.02), "interval": 0.01}
        source = UrlKeys(server.url, contextlib.nullcontext, lambda message, **_: told.append(message), **life)
        verifier = TokenVerifier(Issuers([signing_issuer(source, ASYMMETRIC)]), now=lambda: NOW + 1)
        try:
            assert eventually(lambda: source.keys is not None)
            for status, body in ((500, b""), (200, b"<html>"), (200, b'{"keys":[]}')):
                server.status, server.body = status, body
                count = len(server.requests)
                assert eventually(lambda count=count: len(server.requests) >= count + 3)  # type: ignore[misc]
                assert verifier.verify(RSA.sign(claims(jti=str(status) + str(len(body))), kid="k")).verified
        finally:
            verifier.close()
    assert len(told) == 1


def test_c17_random_key_ids() -> None:
    """A thousand concurrent tokens with names of their own cause one fetch an interval; good ones go on."""
    with jwks_server() as server:
        server.body = jwks(RSA.jwk("k"))
        source = UrlKeys(server.url, contextlib.nullcontext, lambda *_, **__: None, interval=3600)
        verifier = TokenVerifier(Issuers([signing_issuer(source, ASYMMETRIC)]), now=lambda: NOW + 1)
        tail = RSA.sign(claims(), kid="k").split(".", 1)[1]
        good = RSA.sign(claims(jti="good"), kid="k")
        barrier, wrong = threading.Barrier(20), []

        def work(part: int) -> None:
            barrier.wait()
            for number in range(50):
                token = f"{b64(json.dumps({'alg': 'RS256', 'kid': f'{part}-{number}'}).encode())}.{tail}"
                if verifier.verify(token).reason is not Reason.UNKNOWN_KEY or not verifier.verify(good).verified:
                    wrong.append(number)

        try:
            assert verifier.wait_ready(60)
            threads = [threading.Thread(target=work, args=(part,)) for part in range(20)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert eventually(lambda: len(server.requests) == 2 and not source.refreshing)
        finally:
            verifier.close()
        assert wrong == []
        assert len(server.requests) == 2  # at the start, and for all of them together


def test_c18_a_slow_issuer_stops_nobody() -> None:
    """Verifying waits for nothing, though the first fetch hangs: the answer is that keys are not there yet."""
    release = threading.Event()
    with jwks_server() as server:

        def hang(_: Any) -> None:
            release.wait(60)

        server.answer = hang
        source = UrlKeys(server.url, contextlib.nullcontext, lambda *_, **__: None)
        verifier = TokenVerifier(Issuers([signing_issuer(source, ASYMMETRIC)]), now=lambda: NOW + 1)
        try:
            assert eventually(lambda: len(server.requests) == 1)
            for _ in range(50):
                assert verifier.verify(RSA.sign(claims(), kid="k")).reason is Reason.KEYS_UNAVAILABLE
        finally:
            release.set()
            verifier.close()


def test_c20_two_issuers_of_one_vendor(tmp_path: Path) -> None:
    """Both versions' tokens are verified where both issuers are listed; else the record names the issuer seen."""
    shapes = [SHAPES["entra-v1-access-user"], SHAPES["entra-v2-access-user"]]
    tables = [issuer_of(shape, tmp_path) for shape in shapes]
    for listed, expected in ((tables, (True, True)), (tables[1:], (False, True))):
        (tmp_path / "issuers.toml").write_text("\n".join(listed))
        config, problems = load({f"{PREFIX}ISSUERS_FILE": str(tmp_path / "issuers.toml")})
        assert problems == []
        issuers = make_issuers(config.issuers, KeyRing(warn_operator=lambda *_, **__: None), lambda *_, **__: None)
        assert issuers is not None
        verifier = TokenVerifier(issuers, now=lambda: IAT + 1)
        assert verifier.wait_ready(60)
        found = [verifier.verify(token_of(shape)) for shape in shapes]
        verifier.close()
        assert tuple(identity.verified for identity in found) == expected
    assert found[0].reason is Reason.ISSUER_MISMATCH
    assert found[0].audit["jwt.claimed.issuer"] == shapes[0]["payload"]["iss"]


def test_c21_a_placeholder_for_the_tenant() -> None:
    """The tenant that is allowed, another one, and one that poses as the first."""
    keys, allowed = parse_jwks(jwks(RSA.jwk("k"))), "https://login.example.com/a/v2.0"
    rules: dict[str, Any] = {"issuer": allowed, "tenant": True}
    assert judged(RSA.sign(claims(iss=allowed, tid="a"), kid="k"), keys, **rules).verified
    for iss, tid in (("https://login.example.com/b/v2.0", "b"), (allowed, "b")):
        assert judged(RSA.sign(claims(iss=iss, tid=tid), kid="k"), keys, **rules).reason is Reason.ISSUER_MISMATCH


@pytest.mark.parametrize(
    ("of", "tid", "reason"),
    [
        ("https://login.example.com/{tenantid}/v2.0", "a", None),
        ("https://login.example.com/a/v2.0", "a", None),
        ("https://login.example.com/consumers/v2.0", "consumers", None),
        ("https://login.example.com/consumers/v2.0", "a", Reason.ISSUER_MISMATCH),
        (None, "a", None),
        (17, "a", None),
    ],
)
def test_c21_the_key_of_one_tenant_is_no_others(of: Any, tid: str, reason: Reason | None) -> None:
    """A set for all tenants says of each key whose it is: a stolen key of one signs for nobody else."""
    issuer = f"https://login.example.com/{tid}/v2.0"
    keys = parse_jwks(jwks(RSA.jwk("k", issuer=of), EC.jwk("other", issuer="https://login.example.com/x/v2.0")))
    for name in (issuer, "https://login.example.com/{tenantid}/v2.0"):
        token = RSA.sign(claims(iss=issuer, tid=tid), kid="k")
        assert judged(token, keys, issuer=name, tenant=True).reason is reason


@pytest.mark.parametrize(("client", "reason"), [("ours", None), ("theirs", Reason.AUDIENCE_MISMATCH)])
def test_c22_access_token_without_an_audience(client: str, reason: Reason | None) -> None:
    """The check is done with the client; it is never skipped."""
    token = RSA.sign(claims(aud=None, client_id=client), kid="k")
    assert judged(token, parse_jwks(jwks(RSA.jwk("k"))), audience=frozenset(("ours",))).reason is reason


def test_c23_a_public_key_as_the_secret() -> None:
    """In whatever form it is written, even if the list of algorithms were wrong."""
    keys = parse_jwks(jwks(RSA.jwk("k")))
    forms = [
        RSA.pem,
        RSA.der,
        RSA.public.public_bytes(Encoding.PEM, PublicFormat.PKCS1),
        json.dumps(RSA.jwk("k")).encode(),
    ]
    for form in forms:
        head = ".".join(b64(json.dumps(part).encode()) for part in ({"alg": "HS256", "kid": "k"}, claims()))
        token = f"{head}.{b64(hmac.new(form, head.encode(), hashlib.sha256).digest())}"
        assert judged(token, keys, algorithms=ASYMMETRIC | SYMMETRIC).reason is Reason.ALGORITHM_NOT_ALLOWED


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ("bearer {}", True),
        ("BEARER {}", True),
        ("Bearer   {}", True),
        ("Bearer\t{}", True),
        ("JWT {}", False),
        ("DPoP {}", True),
    ],
)
def test_c26_the_scheme_in_any_case(value: str, found: bool) -> None:
    """As RFC 9110 has it; a foreign scheme is recognised, and taken where the operator says so."""
    token = EC.sign(claims())
    request = request_with(("Authorization", value.format(token)))
    assert (Sources(["bearer"]).present(request).token == token) == found
    assert Sources(["header:authorization"]).present(request).token == token


def test_c67_a_foreign_issuer_with_numeric_subjects() -> None:
    """Leniency is no switch: a number is a name, for each issuer."""
    for key in (RSA, signing_key("EdDSA")):
        identity = judged(key.sign(claims(sub=12345), kid="k"), parse_jwks(jwks(key.jwk("k"))), issuer=ISSUER)
        assert identity.subject == "12345"
