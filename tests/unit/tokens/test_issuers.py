"""From settings to an issuer, and from a token to the issuer that judges it."""

from __future__ import annotations

import base64
import contextlib
import re
from pathlib import Path
from typing import Any

import pytest

from jwt_audit.errors import KeySourceError
from jwt_audit.identity.caller import Reason
from jwt_audit.settings.issuer import IssuerSettings
from jwt_audit.tokens.issuers import Issuer, Issuers, KeyRing, make_issuer, make_issuers
from jwt_audit.tokens.keys import FileKeys, UrlKeys
from jwt_audit.tokens.verify import TokenVerifier
from support.issuer import NOW, SECRET, claims, jwks, signing_issuer, signing_key

told: list[str] = []


def composed(**settings: Any) -> Issuers | None:
    """The issuers of one table of these settings. Raises what `make_issuer` raises."""
    table = IssuerSettings("variables", **{"subject": ("sub",), "session": ("sid",), **settings})
    if not any((table.jwks, table.discovery, table.public_key, table.secret_file)):
        return make_issuers([], RING, warn_operator)
    return Issuers([make_issuer(table, RING)])


def warn_operator(message: str, **_: Any) -> None:
    told.append(message)


RING = KeyRing(suppress=contextlib.nullcontext, warn_operator=warn_operator)


def issuer_of(issuers: Issuers | None) -> Issuer:
    assert issuers is not None
    issuer = issuers.choose({})
    assert issuer is not None
    return issuer


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    made = {"pem": signing_key().pem, "secret": SECRET[:40] + b"\n", "jwks": jwks(signing_key().jwk("k")), "bad": b"{"}
    for name, data in made.items():
        (tmp_path / name).write_bytes(data)
    return {name: tmp_path / name for name in [*made, "missing"]}


def test_no_key_is_no_issuer() -> None:
    """Without a source of keys nothing is verified here; the app's own verification may be observed."""
    assert composed(issuer="https://as.example.com/", audience=("api",)) is None


def test_each_source(files: dict[str, Path]) -> None:
    """A URL, a JWKS file, a PEM file, a secret: each with the algorithms that its keys can have."""
    assert isinstance(issuer_of(composed(jwks="https://as.example.com/jwks")).keys, UrlKeys)
    jwks_file = issuer_of(composed(jwks=str(files["jwks"])))
    assert isinstance(jwks_file.keys, FileKeys)
    assert jwks_file.keys.keys is None  # read in the background
    pem = issuer_of(composed(public_key=files["pem"]))
    assert pem.keys.keys is not None  # read at once: it must be usable
    for issuer in (jwks_file, pem):
        assert not any(name.startswith("HS") for name in issuer.algorithms)
        assert "none" not in issuer.algorithms
    secret = issuer_of(composed(secret_file=files["secret"]))
    assert secret.algorithms == {"HS256", "HS384", "HS512"}
    assert secret.keys.keys is not None
    assert secret.keys.keys.algorithms == {"HS256"}  # all that it is long enough for


def test_the_settings_arrive(files: dict[str, Path]) -> None:
    """Issuer, audience, leeway, and the claims, compiled."""
    issuers = composed(
        public_key=files["pem"],
        issuer="https://as.example.com/",
        audience=("a", "b"),
        algorithms=("RS256",),
        leeway=3,
        subject=("/a/b", "sub"),
        claims=(("/realm_access/roles", "user.roles"),),
    )
    assert issuers is not None
    issuer = issuers.choose({"iss": "https://as.example.com/"})
    assert issuer is not None
    assert issuer.settings.audience == ("a", "b")
    assert issuer.algorithms == {"RS256"}
    assert issuer.settings.leeway == 3
    assert issuer.settings.subject == ("/a/b", "sub")
    assert issuer.settings.claims == (("/realm_access/roles", "user.roles"),)


def test_eddsa_has_other_names(files: dict[str, Path]) -> None:
    """Who allows EdDSA allows Ed25519, its name since RFC 9864."""
    assert issuer_of(composed(jwks=str(files["jwks"]), algorithms=("EdDSA",))).algorithms == {
        "EdDSA",
        "Ed25519",
        "Ed448",
    }


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"public_key": "missing"}, "missing: cannot be read (No such file or directory)"),
        ({"public_key": "secret"}, "secret: holds no PEM public key"),
        ({"secret_file": "pem"}, "pem: holds an asymmetric key"),
        ({"secret_file": "bad"}, "bad: holds a secret of 1 bytes where at least 32 are needed"),
        (
            {"secret_file": "secret", "algorithms": ("HS512",)},
            "holds a secret of 40 bytes where at least 64 are needed",
        ),
        ({"secret_file": "secret", "algorithms": ("RS256",)}, "RS256 cannot be verified with a shared secret"),
        ({"public_key": "pem", "algorithms": ("HS256",)}, "HS256 cannot be verified with public keys"),
        ({"public_key": "pem", "algorithms": ("RS256", "HS256")}, "HS256 cannot be verified with public keys"),
        ({"public_key": "pem", "algorithms": ("ES256",)}, "pem: its key cannot verify ES256"),
        ({"public_key": "pem", "secret_file": "secret"}, "several sources of keys are configured"),
        ({"public_key": "pem", "jwks": "https://as.example.com/jwks"}, "several sources of keys are configured"),
        ({"jwks": "http://as.example.com/jwks"}, "https only"),
    ],
)
def test_what_can_never_work_is_an_error(files: dict[str, Path], settings: dict[str, Any], why: str) -> None:
    """It names the file and what is wrong, and never shows what is in it."""
    given = {name: files.get(value, value) if isinstance(value, str) else value for name, value in settings.items()}
    with pytest.raises(KeySourceError, match=re.escape(why)) as caught:
        composed(**given)
    assert SECRET[:8].decode() not in str(caught.value)


def test_a_key_set_of_rubbish_is_no_error_at_start(files: dict[str, Path]) -> None:
    """It may be there in a moment: the background tells and tries again."""
    assert issuer_of(composed(jwks=str(files["bad"]))).keys.keys is None
    assert issuer_of(composed(jwks=str(files["missing"]))).keys.keys is None


def test_the_issuer_is_chosen_by_its_exact_name(files: dict[str, Path]) -> None:
    """No prefix, no slash more or less; one without a name takes what no other is called."""
    keys = issuer_of(composed(public_key=files["pem"])).keys
    a, b, rest = (
        signing_issuer(keys, frozenset(("RS256",)), issuer=name) for name in ("https://a/", "https://b/", None)
    )
    named = Issuers([a, b])
    assert named.choose({"iss": "https://a/"}) is a
    assert named.choose({"iss": "https://b/"}) is b
    others: list[object] = ["https://a", "https://a/x", "HTTPS://A/", "", None, 7, ["https://a/"], {}]
    for other in others:
        assert named.choose({"iss": other}) is None
        assert Issuers([a, rest]).choose({"iss": other}) is rest
    assert Issuers([a, rest]).choose({"iss": "https://a/"}) is a
    assert named.sources == (keys,)


def test_an_issuer_that_is_bound_to_a_place_goes_first_there(files: dict[str, Path]) -> None:
    """A gateway signs what it puts into its header, under whatever name; elsewhere names decide.

    Among those that are bound to the place names decide as ever; and no other place is opened by it. In the
    Authorization header, where anybody's tokens come, an issuer without a name speaks for nobody that has one.
    """
    keys = issuer_of(composed(public_key=files["pem"])).keys

    def of(name: str | None, source: str | None) -> Issuer:
        return signing_issuer(keys, frozenset(("RS256",)), issuer=name, source=source)

    pool, header = {"iss": "https://pool/"}, "header:x-amzn-oidc-data"
    for source in (None, "bearer"):
        cognito, alb = of("https://pool/", source), of(None, header)
        for both in (Issuers([cognito, alb]), Issuers([alb, cognito])):
            assert both.choose(pool, header) is alb
            assert both.choose({"iss": "https://other/"}, header) is alb
            assert both.choose({}, header) is alb
            assert both.choose(pool, "bearer") is cognito
            assert both.choose(pool, "cookie:x") is (cognito if source is None else None)
            assert both.choose({"iss": "https://other/"}, "bearer") is None
    cognito, alb, named = of("https://pool/", None), of(None, header), of("https://pool/", header)
    assert Issuers([cognito, alb, named]).choose(pool, header) is named
    template = of("https://{tenantid}/", header)
    assert Issuers([cognito, alb, template]).choose({"iss": "https://pool/", "tid": "pool"}, header) is template
    assert Issuers([cognito, alb, template]).choose({"iss": "https://pool/", "tid": "x"}, header) is alb
    anybody = of(None, "bearer")
    assert Issuers([anybody, cognito]).choose(pool, "bearer") is cognito
    assert Issuers([anybody, of("https://pool/", header)]).choose(pool, "bearer") is None


def test_a_wrong_table_takes_nobodys_place_and_nobody_takes_its(files: dict[str, Path]) -> None:
    """Its tokens are unverified, and are not left to an issuer without a name; the others go on."""
    key = signing_key()
    tables = [
        IssuerSettings("variables", issuer="https://good/", public_key=files["pem"]),
        IssuerSettings("[[issuer]] 1", issuer="https://short/", secret_file=files["bad"]),
        IssuerSettings("[[issuer]] 2", issuer="https://broken/", broken=True),
        IssuerSettings("[[issuer]] 3", public_key=files["pem"]),
    ]
    heard: list[str] = []
    issuers = make_issuers(tables, RING, lambda message, **_: heard.append(message))
    assert issuers is not None
    assert len(heard) == 1
    assert heard[0].startswith("[[issuer]] 1")
    assert heard[0].endswith("; until then its tokens stay unverified")
    verifier = TokenVerifier(issuers, now=lambda: NOW + 1)
    try:
        assert verifier.wait_ready(60)
        for iss, reason in (
            ("https://good/", None),
            ("https://short/", Reason.KEYS_UNAVAILABLE),
            ("https://broken/", Reason.KEYS_UNAVAILABLE),
            ("https://other/", None),
        ):
            identity = verifier.verify(key.sign(claims(iss=iss)))
            assert identity.reason is reason
            assert not verifier.undecided(identity)
    finally:
        verifier.close()


def test_tables_that_name_the_same_keys_share_their_source(files: dict[str, Path]) -> None:
    """So one key set is fetched once, however many issuers sign by it; other algorithms of a secret are other keys."""
    ring = KeyRing(suppress=contextlib.nullcontext, warn_operator=warn_operator)
    url = "https://login.example.com/keys"
    one, two = (make_issuer(IssuerSettings("t", issuer=name, jwks=url), ring) for name in ("a", "b"))
    assert one.keys is two.keys
    assert Issuers([one, two]).sources == (one.keys,)
    (files["secret"]).write_bytes(SECRET)
    short, long = (
        make_issuer(IssuerSettings("t", issuer=name, secret_file=files["secret"], algorithms=(name,)), ring)
        for name in ("HS256", "HS512")
    )
    assert short.keys is not long.keys
    meta = f"{url}/.well-known/openid-configuration"
    first, second = (make_issuer(IssuerSettings("t", issuer=name, discovery=meta), ring) for name in ("a", "b"))
    assert first.keys is not second.keys  # each checks that the metadata names its own issuer


def test_what_a_key_file_holds_stops_no_start(tmp_path: Path) -> None:
    """Whatever foreign exception a parser raises, it is told as what is wrong with that file."""
    at = (certificate := signing_key().certificate).index(b"\xa0\x03\x02\x01\x02")
    odd = base64.encodebytes(certificate[: at + 4] + b"\x01" + certificate[at + 5 :])
    (tmp_path / "key.pem").write_bytes(b"-----BEGIN CERTIFICATE-----\n" + odd + b"-----END CERTIFICATE-----\n")
    with pytest.raises(KeySourceError, match=r"key\.pem: "):
        composed(public_key=tmp_path / "key.pem")
