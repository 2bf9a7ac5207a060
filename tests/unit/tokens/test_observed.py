"""What an app's verification proves: each false friend, each reason."""

from __future__ import annotations

import base64
import json
from types import SimpleNamespace
from typing import Any

import pytest

from jwt_audit.identity.caller import Identity, Reason, Status
from jwt_audit.identity.privacy import Policy, Privacy, Pseudonyms
from jwt_audit.settings.issuer import IssuerSettings
from jwt_audit.tokens.observed import AppTokens, Verification
from support.issuer import ISSUER, NOW, SECRET, b64, claims, signing_key

RSA = signing_key()
HS = signing_key("HS256")
PEM = RSA.pem.decode()


def app_tokens(**settings: Any) -> AppTokens:
    given = {name: settings.pop(name) for name in ("now", "privacy", "cache_size") if name in settings}
    return AppTokens(IssuerSettings("test", session=("sid",), **settings), **{"now": lambda: NOW, **given})


def judged(
    token: str, *, signed: bool = True, keys: tuple[object, ...] = (PEM,), reason: Any = None, **settings: Any
) -> Any:
    return app_tokens(**settings).judge(Verification(token, signed, keys, reason))


def verdict(found: Identity | None) -> object:
    """The subject of a proved identity, the reason of another, None for no verdict."""
    return found if found is None else found.subject if found.verified else found.reason


GOOD = RSA.sign(claims())
EXPIRED = RSA.sign(claims(exp=NOW - 11))
NONE = ".".join([b64(b'{"alg":"none"}'), GOOD.split(".")[1], ""])
CONFUSED = HS.sign(claims())
R = Reason


def test_what_the_app_verified_is_an_identity() -> None:
    """Subject, session and expiry of the token's own bytes, and who verified it."""
    found = judged(GOOD)
    assert (found.status, found.subject, found.session, found.issuer) == (Status.VERIFIED, "u1001", "s-1", ISSUER)
    assert found.audit["jwt.verified_by"] == "app"
    assert found.expires_at == NOW + 3600


@pytest.mark.parametrize(
    ("token", "how", "expected"),
    [
        (GOOD, {}, "u1001"),
        (HS.sign(claims()), {"keys": (SECRET,)}, "u1001"),
        (RSA.sign(claims(sub=17)), {}, "17"),
        (RSA.sign(claims(sub=None, user_id=17)), {}, "17"),
        # looked into, not verified
        (GOOD, {"signed": False}, None),
        (EXPIRED, {"signed": False, "reason": R.EXPIRED}, None),
        (NONE, {"signed": False}, None),
        ("no-token-at-all", {"signed": False}, None),
        ("no-token-at-all", {"signed": False, "reason": R.MALFORMED}, R.UNSUPPORTED_TOKEN),
        ("eyJ.e", {"signed": False, "reason": R.MALFORMED}, R.MALFORMED),
        # accepted by the app, and yet not proved
        (EXPIRED, {}, R.EXPIRED),
        (RSA.sign(claims(nbf=NOW + 11)), {}, R.NOT_YET_VALID),
        (RSA.sign(claims(exp="soon")), {}, R.CLAIM_MISSING),
        (RSA.sign(claims(sub={"a": 1})), {}, R.CLAIM_MISSING),
        (RSA.sign(claims(iss=["a"])), {}, R.CLAIM_MISSING),
        (NONE, {}, R.ALGORITHM_NOT_ALLOWED),
        (RSA.sign(claims(), algorithm="RS256", alg="XY1"), {}, R.ALGORITHM_NOT_ALLOWED),
        (RSA.sign(claims(), crit=["exp"]), {}, R.CRITICAL_HEADER),
        (RSA.sign(b'{"sub":"a","sub":"b"}'), {}, R.MALFORMED),
        (f"{GOOD}=", {}, R.MALFORMED),
        (RSA.sign(claims(more="x" * 20_000)), {}, R.TOO_LARGE),
        ("a.b.c.d.e", {}, R.UNSUPPORTED_TOKEN),
        # a proof of possession speaks for no caller, whatever its signature is worth
        (RSA.sign(claims(), typ="dpop+jwt"), {}, None),
        (RSA.sign(claims(), typ="application/DPoP+jwt"), {"reason": R.SIGNATURE_MISMATCH}, None),
        # refused by the app
        (GOOD, {"reason": R.SIGNATURE_MISMATCH}, R.SIGNATURE_MISMATCH),
        (GOOD, {"reason": R.AUDIENCE_MISMATCH}, R.AUDIENCE_MISMATCH),
        (GOOD, {"reason": R.REJECTED_BY_APP}, R.REJECTED_BY_APP),
        (GOOD, {"reason": R.MALFORMED}, R.REJECTED_BY_APP),
        (GOOD, {"reason": R.EXPIRED}, R.EXPIRED),
        (GOOD, {"reason": R.NOT_YET_VALID}, R.NOT_YET_VALID),
        (RSA.sign(claims(exp="soon")), {"reason": R.MALFORMED}, R.CLAIM_MISSING),
        (RSA.sign(claims(exp="soon")), {"reason": R.EXPIRED}, R.CLAIM_MISSING),
        (NONE, {"reason": R.ALGORITHM_NOT_ALLOWED}, R.ALGORITHM_NOT_ALLOWED),
        # settings narrow what the app accepts
        (GOOD, {"issuer": ISSUER, "audience": ["api"], "algorithms": ["RS256"]}, "u1001"),
        (GOOD, {"issuer": "https://other.example.com/"}, R.ISSUER_MISMATCH),
        (GOOD, {"audience": ["other"]}, R.AUDIENCE_MISMATCH),
        (GOOD, {"typ": "application/JWT"}, "u1001"),
        (GOOD, {"typ": "at+jwt"}, R.TYPE_MISMATCH),
        (GOOD, {"algorithms": ["ES256"]}, R.ALGORITHM_NOT_ALLOWED),
        (GOOD, {"leeway": 0, "now": lambda: NOW + 3600}, R.EXPIRED),
        (RSA.sign(claims(aud=None)), {"audience": ["api"]}, R.AUDIENCE_MISMATCH),
    ],
)  # fmt: skip
def test_each_outcome(token: str, how: dict[str, Any], expected: object) -> None:
    """The subject where it is proved; else the reason; else nothing."""
    assert verdict(judged(token, **how)) == expected


def nested_keys(value: Any) -> list[object]:
    """A key in the shapes in which libraries take one."""
    return [
        value,
        [b"other", value],
        {"k1": value},
        {"keys": [value]},
        SimpleNamespace(key=value),
        SimpleNamespace(raw_value=value),
        SimpleNamespace(keys=[SimpleNamespace(raw_key=value)]),
    ]


@pytest.mark.parametrize(
    "public",
    [PEM, RSA.pem, RSA.pem_certificate, b"\n\n" + RSA.pem, RSA.der, RSA.certificate, json.dumps(RSA.jwk())],
    ids=["text", "bytes", "certificate", "after-blanks", "der", "der-certificate", "jwk"],
)
def test_a_public_key_is_no_shared_secret(public: Any) -> None:
    """HS256 under a key that everybody has proves nothing, however the key is wrapped; RS256 under it does."""
    for key in nested_keys(public):
        assert verdict(judged(CONFUSED, keys=(key,))) is Reason.ALGORITHM_NOT_ALLOWED
        assert verdict(judged(CONFUSED, keys=(None, key))) is Reason.ALGORITHM_NOT_ALLOWED
        assert verdict(judged(GOOD, keys=(key,))) == "u1001"
    for key in nested_keys(SECRET):
        assert verdict(judged(CONFUSED, keys=(key,))) == "u1001"
    assert verdict(judged(CONFUSED, keys=({"kty": "oct", "k": base64.b64encode(SECRET).decode()},))) == "u1001"


def test_an_empty_secret_is_everybodys() -> None:
    """However it is wrapped, beside others too: it cannot be told which of them it was."""
    for key in (*nested_keys(""), *nested_keys(b""), [SECRET, ""], {"kty": "oct", "k": ""}):
        assert verdict(judged(CONFUSED, keys=(key,))) is Reason.ALGORITHM_NOT_ALLOWED
        assert verdict(judged(GOOD, keys=(key,))) == "u1001"


def test_a_known_token_is_judged_by_each_key_and_each_time_anew() -> None:
    """What is kept of a token answers neither for a public key used as a secret nor past the token's end."""
    now = NOW
    tokens = app_tokens(now=lambda: now)
    token = HS.sign(claims(exp=NOW + 30))
    assert verdict(tokens.judge(Verification(token, True, (SECRET,)))) == "u1001"
    assert tokens.judge(Verification(token, True, (SECRET,))) is tokens.judge(Verification(token, True, (SECRET,)))
    assert verdict(tokens.judge(Verification(token, True, (PEM,)))) is Reason.ALGORITHM_NOT_ALLOWED
    assert tokens.judge(Verification(token, False, (SECRET,))) is None
    assert verdict(tokens.judge(Verification(token, True, (SECRET,), Reason.EXPIRED))) is Reason.EXPIRED
    now = NOW + 40
    assert verdict(tokens.judge(Verification(token, True, (SECRET,)))) is Reason.EXPIRED


def test_an_expired_token_names_its_subject_in_the_record_alone() -> None:
    """The signature held, so the record says whose token it was; the identity is nobody's."""
    for reason in (None, Reason.EXPIRED):
        found = judged(EXPIRED, reason=reason)
        assert (found.status, found.subject, found.session) == (Status.EXPIRED, None, None)
        assert found.audit["jwt.expired.subject"] == "u1001"
        assert "u1001" not in found.telemetry.values()


def test_of_a_refused_token_only_what_it_claims_is_kept() -> None:
    """Issuer, key id and algorithm, for the record."""
    found = judged(RSA.sign(claims(), kid="k1"), reason=Reason.SIGNATURE_MISMATCH)
    assert found.telemetry == {"jwt.status": "invalid", "jwt.error": "signature_mismatch"}
    assert found.audit["jwt.claimed.issuer"] == ISSUER
    assert "u1001" not in str(dict(found.audit))


def test_what_is_shown_of_an_observed_person_follows_the_policies() -> None:
    """Of a proved one, of an expired one, and again from what is kept."""
    hidden = Pseudonyms(b"k" * 32)
    privacy = Privacy(spans=Policy.OFF, logs=Policy.PSEUDONYM, audit=Policy.RAW, pseudonyms=hidden, fingerprint=True)
    tokens = app_tokens(privacy=privacy)
    for _ in range(2):
        found = tokens.judge(Verification(GOOD, True, (PEM,)))
        assert found is not None
        assert "enduser.id" not in {**found.telemetry, **found.logged}
        assert found.logged["enduser.pseudo.id"] == hidden.pseudonym("subject", ISSUER, "u1001")
        assert found.audit["enduser.id"] == "u1001"
        assert found.audit["jwt.fingerprint"] == hidden.fingerprint(GOOD)
    for token, reason in ((EXPIRED, None), (GOOD, Reason.SIGNATURE_MISMATCH), ("e.e", Reason.MALFORMED)):
        found = app_tokens(privacy=Privacy(audit=Policy.OFF)).judge(Verification(token, True, (PEM,), reason))
        assert found is not None
        assert "u1001" not in str(dict(found.audit))
