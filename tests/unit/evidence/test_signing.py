"""Keys: three algorithms, one for each key, and no other."""

from __future__ import annotations

import hashlib

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, rsa, x25519
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from jwt_audit.errors import KeySourceError
from jwt_audit.evidence.signing import PublicKey, Signer

RSA = rsa.generate_private_key(65537, 2048)
SIGNERS = {
    "EdDSA": Signer(Ed25519PrivateKey.generate()),
    "ES256": Signer(ec.generate_private_key(ec.SECP256R1())),
    "RS256": Signer(RSA),
}


@pytest.mark.parametrize("algorithm", SIGNERS)
def test_a_signature_is_its_keys_and_of_these_bytes(algorithm: str) -> None:
    """It holds for nothing else, and signing twice gives the same bytes: a delivery that is repeated is equal."""
    signer = SIGNERS[algorithm]
    signature = signer.sign(b"data")
    assert signer.algorithm == signer.public_key.algorithm == algorithm
    assert signer.sign(b"data") == signature
    assert signer.public_key.verifies(signature, b"data")
    assert not signer.public_key.verifies(signature, b"date")
    assert not signer.public_key.verifies(signature[:-1] + bytes([signature[-1] ^ 1]), b"data")
    for other in SIGNERS:
        if other != algorithm:
            assert not SIGNERS[other].public_key.verifies(signature, b"data")


@pytest.mark.parametrize("signature", [b"", b"\0" * 64, b"\x30\x06\x02\x01\x00\x02\x01\x00", b"x" * 1000])
@pytest.mark.parametrize("algorithm", SIGNERS)
def test_no_signature_is_nobodys(algorithm: str, signature: bytes) -> None:
    """Empty, zeros, ECDSA's zero pair, any length: False, never an exception."""
    assert not SIGNERS[algorithm].public_key.verifies(signature, b"data")


@pytest.mark.parametrize("algorithm", SIGNERS)
def test_a_key_has_one_id_however_it_is_given(algorithm: str) -> None:
    """As PEM, as the text that a stream carries, as the private key's other half."""
    signer = SIGNERS[algorithm]
    key = signer.public_key
    for same in (PublicKey.from_pem(key.pem), PublicKey.from_text(key.text), PublicKey.from_pem(signer.pem)):
        assert (same.key_id, same.algorithm) == (key.key_id, algorithm)
    assert Signer.from_pem(signer.pem).public_key.key_id == key.key_id
    info = serialization.load_pem_public_key(key.pem).public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    assert key.key_id == hashlib.sha256(info).hexdigest()


def test_generated_keys_are_ed25519_and_differ() -> None:
    """The default."""
    first, second = Signer.generate(), Signer.generate()
    assert first.algorithm == "EdDSA"
    assert first.public_key.key_id != second.public_key.key_id


@pytest.mark.parametrize(
    "key",
    [
        pytest.param(ec.generate_private_key(ec.SECP384R1()), id="P-384"),
        pytest.param(ec.generate_private_key(ec.SECP256K1()), id="secp256k1"),
        pytest.param(rsa.generate_private_key(65537, 1024), id="RSA of 1024 bits"),
        pytest.param(x25519.X25519PrivateKey.generate(), id="X25519"),
        pytest.param(dsa.generate_private_key(2048), id="DSA"),
    ],
)
def test_other_keys_are_refused(key: dsa.DSAPrivateKey) -> None:
    """With a word on which are taken, as private and as public keys."""
    with pytest.raises(KeySourceError, match="neither Ed25519 nor P-256 nor RSA"):
        Signer(key)
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    with pytest.raises(KeySourceError, match="neither Ed25519 nor P-256 nor RSA"):
        PublicKey.from_pem(public)


@pytest.mark.parametrize(
    "pem",
    [
        b"",
        b"rubbish",
        b"\xff\xfe",
        b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n",
        b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
    ],
)
def test_what_is_no_key_is_told_in_a_word(pem: bytes) -> None:
    """Without a foreign traceback, and without the content."""
    with pytest.raises(KeySourceError, match="not a PEM"):
        PublicKey.from_pem(pem)
    with pytest.raises(KeySourceError, match="not a PEM private key"):
        Signer.from_pem(pem)


def test_a_private_key_under_a_password_is_refused() -> None:
    """Nobody is there to type it."""
    encrypted = RSA.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"secret"),
    )
    with pytest.raises(KeySourceError, match="without a password"):
        Signer.from_pem(encrypted)


@pytest.mark.parametrize("text", ["", "!", "AAAA", "é"])
def test_a_text_that_is_no_key_is_refused(text: str) -> None:
    """A stream's first record may carry anything."""
    with pytest.raises(KeySourceError):
        PublicKey.from_text(text)
