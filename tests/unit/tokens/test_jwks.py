"""Keys out of JWKS, PEM and secrets, and which of them a token is tried with."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import dsa, ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from jwt_audit.errors import KeySourceError
from jwt_audit.tokens.algorithms import ASYMMETRIC
from jwt_audit.tokens.jwks import MAX_TRIED, KeySet, parse_jwks, parse_pem, parse_secret
from support.issuer import SECRET, SigningKey, b64, jwks, signing_key

RSA_ALL = {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}


def only(data: bytes) -> Any:
    (key,) = parse_jwks(data).keys
    return key


@pytest.mark.parametrize(
    ("algorithm", "number", "expected"),
    [
        ("RS256", 0, RSA_ALL),
        ("ES256", 0, {"ES256"}),
        ("ES384", 0, {"ES384"}),
        ("ES512", 0, {"ES512"}),
        ("ES256K", 0, {"ES256K"}),
        ("EdDSA", 0, {"EdDSA", "Ed25519"}),
        ("EdDSA", 448, {"EdDSA", "Ed448"}),
    ],
)
def test_a_key_without_alg_verifies_what_its_type_allows(algorithm: str, number: int, expected: set[str]) -> None:
    """Type and curve fix the algorithms, in a JWK and in PEM alike; never a symmetric one."""
    key = signing_key(algorithm, number)
    assert only(jwks(key.jwk("k"))).algorithms == expected
    assert parse_pem(key.pem).algorithms == expected
    assert expected < ASYMMETRIC


@pytest.mark.parametrize(
    ("algorithm", "alg", "expected"),
    [
        ("RS256", "RS256", {"RS256"}),
        ("RS256", "PS512", {"PS512"}),
        ("EdDSA", "EdDSA", {"EdDSA", "Ed25519"}),
        ("EdDSA", "Ed25519", {"EdDSA", "Ed25519"}),
    ],
)
def test_its_own_alg_binds_a_key(algorithm: str, alg: str, expected: set[str]) -> None:
    """A key that names its algorithm verifies no other (RFC 7517, 4.4)."""
    assert only(jwks(signing_key(algorithm).jwk("k", alg=alg))).algorithms == expected


def of_version_two(certificate: bytes) -> bytes:
    """A certificate of a version that is none, by a byte of its own: one that cryptography refuses in its own way."""
    at = certificate.index(b"\xa0\x03\x02\x01\x02")
    return certificate[: at + 4] + b"\x01" + certificate[at + 5 :]


def entries() -> dict[str, Any]:
    """Entries that must be left out, by why."""
    good = signing_key().jwk("k")
    weak = SigningKey(rsa.generate_private_key(public_exponent=65537, key_size=1024), "RS256")
    return {
        "no object": 7,
        "null": None,
        "list": ["kty"],
        "empty": {},
        "unknown type": {"kty": "AKP", "kid": "k", "alg": "ML-DSA-65", "pub": "AA"},
        "type of a wrong type": {**good, "kty": ["RSA"]},
        "symmetric": {"kty": "oct", "k": b64(SECRET), "kid": "k"},
        "for encryption": {**good, "use": "enc"},
        "another use": {**good, "use": ["sig"]},
        "not for verifying": {**good, "key_ops": ["encrypt"]},
        "operations that are no list": {**good, "key_ops": "verify"},
        "encryption algorithm": {**good, "alg": "RSA-OAEP"},
        "symmetric algorithm": {**good, "alg": "HS256"},
        "none": {**good, "alg": "none"},
        "algorithm that is no text": {**good, "alg": ["RS256"]},
        "other type's algorithm": {**good, "alg": "ES256"},
        "modulus that is a number": {**good, "n": 5},
        "modulus that is rubbish": {**good, "n": "!!!"},
        "no modulus": {"kty": "RSA", "kid": "k", "e": "AQAB"},
        "even exponent": {**good, "e": "Ag"},
        "weak": weak.jwk("k"),
        "point that is not on the curve": {**signing_key("ES256").jwk("k"), "y": b64(b"\1" * 32)},
        "unknown curve": {"kty": "EC", "crv": "P-192", "x": "AA", "y": "AA"},
        "key agreement": {"kty": "OKP", "crv": "X25519", "x": b64(b"\1" * 32)},
        "broken certificate": {"kty": "RSA", "kid": "k", "x5c": ["AAAA"]},
        "certificate of no version": {
            "kty": "RSA",
            "kid": "k",
            "x5c": [base64.b64encode(of_version_two(signing_key().certificate)).decode()],
        },
        "certificates that are none": {"kty": "RSA", "kid": "k", "x5c": {}},
    }


@pytest.mark.parametrize("why", list(entries()))
def test_a_foreign_entry_is_left_out_and_takes_no_other_with_it(why: str) -> None:
    """Entries for other purposes, of unknown types or broken stand beside good ones in real sets."""
    entry = entries()[why]
    good = signing_key("ES256").jwk("good")
    assert [key.id for key in parse_jwks(jwks(entry, good)).keys] == ["good"]
    with pytest.raises(KeySourceError):
        parse_jwks(jwks(entry))


@pytest.mark.parametrize("use", ["sig", "jwt-svid", None])
def test_uses_that_sign(use: str | None) -> None:
    """Signing keys say ``sig``, SPIFFE's ``jwt-svid``, some nothing."""
    assert only(jwks({**signing_key().jwk("k"), "use": use, "key_ops": ["verify"]})).id == "k"


@pytest.mark.parametrize(
    "data",
    [b"", b"<html>", b"[]", b"{}", b'{"keys":[]}', b'{"keys":{}}', b'{"keys":7}', b"null", b"\xff", b'{"error":"x"}'],
)
def test_rubbish_is_no_key_set(data: bytes) -> None:
    """An answer without a usable key is an error, so that it replaces no keys."""
    with pytest.raises(KeySourceError):
        parse_jwks(data)


@given(
    st.binary(max_size=60) | st.builds(lambda entry: jwks(entry), st.dictionaries(st.text(max_size=4), st.integers()))
)
def test_any_bytes_are_keys_or_an_error(data: bytes) -> None:
    """No input raises anything else."""
    for parse in (parse_jwks, parse_pem, lambda secret: parse_secret(secret, frozenset())):
        try:
            parse(data)
        except KeySourceError:
            pass


def test_private_parts_are_not_loaded() -> None:
    """Of a set that gives away private keys, only the public part is used."""
    from jwt.algorithms import RSAAlgorithm

    private = dict(RSAAlgorithm.to_jwk(signing_key().private, as_dict=True), kid="k")
    private.pop("key_ops")
    key = only(jwks(private))
    assert isinstance(key._material, rsa.RSAPublicKey)
    assert "_material" not in repr(key)


def test_certificates_give_keys() -> None:
    """By ``x5c`` alone, as a map of key id to PEM as Google serves it, and in a PEM file."""
    key = signing_key()
    by_x5c = {"kty": "RSA", "kid": "k", "x5c": [base64.b64encode(key.certificate).decode()]}
    mapped = f'{{"a": "{key.pem_certificate.decode()}", "b": "{key.pem.decode()}", "c": "no", "d": 7}}'
    for found in (
        parse_jwks(jwks(by_x5c)),
        parse_jwks(mapped.replace("\n", "\\n").encode()),
        parse_pem(key.pem_certificate),
    ):
        head, _, signature = key.sign({}).rpartition(".")
        assert found.keys[0].verifies("RS256", head.encode(), base64.urlsafe_b64decode(signature + "=="))
    assert [item.id for item in parse_jwks(mapped.replace("\n", "\\n").encode()).keys] == ["a", "b"]


def test_a_pem_file_may_hold_several_keys() -> None:
    """The old and the new key of a rotation, of different types, with text between them."""
    found = parse_pem(b"old:\n" + signing_key().pem + b"new:\n" + signing_key("ES256").pem)
    assert found.algorithms == RSA_ALL | {"ES256"}


def test_pem_that_cannot_be_used_is_told() -> None:
    """A private key, rubbish, nothing, or a key of a kind or size that no token is signed with."""
    private = signing_key().private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    weak = SigningKey(rsa.generate_private_key(public_exponent=65537, key_size=1024), "RS256")
    other_curve = SigningKey(ec.generate_private_key(ec.SECP224R1()), "ES256")
    other_kind = dsa.generate_private_key(1024).public_key()
    rubbish = b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"
    pem = other_kind.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    for data, told in (
        (private, "private key"),
        (signing_key().pem + private, "private key"),
        (b"", "no PEM"),
        (SECRET, "no PEM"),
        (rubbish, "no public key"),
        (weak.pem, "2048"),
        (other_curve.pem, "neither RSA"),
        (pem, "neither RSA"),
    ):
        with pytest.raises(KeySourceError, match=told):
            parse_pem(data)


@pytest.mark.parametrize(
    ("length", "wanted", "expected"),
    [
        (32, set(), {"HS256"}),
        (48, set(), {"HS256", "HS384"}),
        (64, set(), {"HS256", "HS384", "HS512"}),
        (64, {"HS256"}, {"HS256"}),
    ],
)
def test_a_secret_verifies_what_it_is_long_enough_for(length: int, wanted: set[str], expected: set[str]) -> None:
    """Its length allows an algorithm (RFC 7518, 3.2), and one line break at the end does not count."""
    for end in (b"", b"\n", b"\r\n"):
        assert parse_secret(SECRET[:length] + end, frozenset(wanted)).algorithms == expected


@pytest.mark.parametrize(
    ("data", "wanted", "told"),
    [
        (SECRET[:31], set(), "31 bytes where at least 32"),
        (SECRET[:31] + b"\n", {"HS256"}, "31 bytes where at least 32"),
        (SECRET[:63], {"HS256", "HS512"}, "63 bytes where at least 64"),
        (b"", set(), "no shared secret"),
        (b" " * 64, set(), "no shared secret"),
        (b'{"kty": "oct", "k": "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}', set(), "JWK"),
    ],
)
def test_a_secret_that_is_too_short_or_no_secret_is_refused(data: bytes, wanted: set[str], told: str) -> None:
    """The error says how long it is, never what it is."""
    with pytest.raises(KeySourceError, match=told) as caught:
        parse_secret(data, frozenset(wanted))
    assert len(data) < 10 or data.decode().strip()[:10] not in str(caught.value) or not data.strip()


def test_a_public_key_is_no_secret() -> None:
    """The file that would make algorithm confusion real is refused at start, as PEM and as DER."""
    key = signing_key()
    ssh = key.public.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    for data in (key.pem, key.der, key.certificate, ssh):
        with pytest.raises(KeySourceError, match="asymmetric"):
            parse_secret(data, frozenset())


def test_choice_by_name_and_type() -> None:
    """Keys of one name may be of different types; one without a name serves any; else all that fit."""
    rsa_key, ec_key = signing_key().jwk("a"), signing_key("ES256").jwk("a")
    unnamed = signing_key("RS256", 1).jwk(None)
    other = signing_key("ES256", 1).jwk("b", alg="ES256")
    keys = parse_jwks(jwks(rsa_key, ec_key, unnamed, other))
    one, two, three, four = keys.keys
    assert keys.candidates("a", "RS256") == [one]
    assert keys.candidates("a", "ES256") == [two]
    assert keys.candidates("b", "ES256") == [four]
    assert keys.candidates("b", "RS256") == []
    assert keys.candidates("c", "PS256") == [three]
    assert keys.candidates("c", "ES256") == []
    assert keys.candidates(None, "RS256") == [one, three]
    assert keys.candidates(None, "ES256") == [two, four]
    assert (keys.names("a"), keys.names("c"), keys.names(None)) == (True, False, False)


@pytest.mark.parametrize("kid", [None, 7, ["k"]])
def test_a_name_that_is_no_text_is_no_name(kid: Any) -> None:
    """Such a key is used like one without a name."""
    assert only(jwks({**signing_key().jwk(), "kid": kid})).id is None


def test_tries_are_bounded() -> None:
    """A set of many keys does not make a token without a key id dear."""
    (key,) = parse_jwks(jwks(signing_key().jwk("k"))).keys
    assert len(KeySet([key] * 100).candidates(None, "RS256")) == MAX_TRIED


@pytest.mark.parametrize("algorithm", ["RS256", "PS256", "ES256", "ES512", "EdDSA"])
def test_signatures_that_are_none(algorithm: str) -> None:
    """Empty, short, long, zero (r = s = 0) and one of rubbish: false, never an exception."""
    key = only(jwks(signing_key(algorithm).jwk("k")))
    for signature in (b"", b"\0", b"\0" * 64, b"\0" * 132, b"\0" * 256, b"\xff" * 64, b"\xff" * 256, b"x" * 5000):
        assert not key.verifies(algorithm, b"data", signature)
    assert not key.verifies("HS256", b"data", b"")


PAYLOAD = "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ"
RFC_SECRET = "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow"


@pytest.mark.parametrize(
    ("jwk", "algorithm", "token"),
    [
        pytest.param(
            None,
            "HS256",
            f"eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.{PAYLOAD}.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk",
            id="RFC 7515 A.1, RFC 7519 3.1",
        ),
        pytest.param(
            {
                "kty": "RSA",
                "e": "AQAB",
                "n": "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4Q"
                "lL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXB"
                "dQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGN"
                "j8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ",
            },
            "RS256",
            f"eyJhbGciOiJSUzI1NiJ9.{PAYLOAD}."
            "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9"
            "CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOL"
            "n6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtV"
            "rBp0igcN_IoypGlUPQGe77Rw",
            id="RFC 7515 A.2",
        ),
        pytest.param(
            {
                "kty": "EC",
                "crv": "P-256",
                "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
                "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
            },
            "ES256",
            f"eyJhbGciOiJFUzI1NiJ9.{PAYLOAD}."
            "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q",
            id="RFC 7515 A.3",
        ),
        pytest.param(
            {
                "kty": "EC",
                "crv": "P-521",
                "x": "AekpBQ8ST8a8VcfVOTNl353vSrDCLLJXmPk06wTjxrrjcBpXp5EOnYG_NjFZ6OvLFV1jSfS9tsz4qUxcWceqwQGk",
                "y": "ADSmRA43Z1DSNx_RvcLI87cdL07l6jQyyBXMoxVg_l2Th-x3S1WDhjDly79ajL4Kkd0AZMaZmh9ubmf63e3kyMj2",
            },
            "ES512",
            "eyJhbGciOiJFUzUxMiJ9.UGF5bG9hZA.AdwMgeerwtHoh-l192l60hp9wAHZFVJbLfD_UxMi70cwnZOYaRI1bKPWROc-mZZqwqT2SI-KGD"
            "KB34XO0aw_7XdtAG8GaSwFKdCAPZgoXD2YBJZCPEX3xKpRwcdOO8KpEHwJjyqOgzDO7iKvU8vcnwNrmxYbSW9ERBXukOXolLzeO_Jn",
            id="RFC 7515 A.4",
        ),
        pytest.param(
            {"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"},
            "EdDSA",
            "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc."
            "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg",
            id="RFC 8037 A.4",
        ),
    ],
)
def test_vectors(jwk: dict[str, Any] | None, algorithm: str, token: str) -> None:
    """The examples of the standards verify, and do not with one bit turned."""
    secret = base64.urlsafe_b64decode(RFC_SECRET + "==")
    (key,) = (parse_jwks(jwks(jwk)) if jwk else parse_secret(secret, frozenset())).keys
    head, _, last = token.rpartition(".")
    signature = base64.urlsafe_b64decode(last + "==")
    assert key.verifies(algorithm, head.encode(), signature)
    assert not key.verifies(algorithm, head.encode(), signature[:-1] + bytes([signature[-1] ^ 1]))
    assert not key.verifies(algorithm, head.encode() + b"A", signature)


def test_the_example_key_sets() -> None:
    """RFC 7517, A.1: the key for signing is taken, the one for encryption is not. A.3: published secrets are none."""
    modulus = (
        "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknj"
        "hMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQ"
        "vRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzK"
        "nqDKgw"
    )
    keys = parse_jwks(
        jwks(
            {
                "kty": "EC",
                "crv": "P-256",
                "x": "MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4",
                "y": "4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM",
                "use": "enc",
                "kid": "1",
            },
            {"kty": "RSA", "n": modulus, "e": "AQAB", "alg": "RS256", "kid": "2011-04-29"},
        )
    )
    assert [(key.id, set(key.algorithms)) for key in keys.keys] == [("2011-04-29", {"RS256"})]
    with pytest.raises(KeySourceError):
        parse_jwks(
            jwks(
                {"kty": "oct", "alg": "A128KW", "k": "GawgguFyGrWKav7AX4VKUg"},
                {"kty": "oct", "k": RFC_SECRET, "kid": "HMAC key used in JWS spec Appendix A.1 example"},
            )
        )
