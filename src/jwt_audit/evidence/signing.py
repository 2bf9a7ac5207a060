"""Keys that sign heads and keys that verify them: Ed25519 by default, ECDSA P-256, RSA.

The key decides the algorithm, never what is signed; a signature made by another algorithm than the
key's own does not verify (no downgrade). ``key_id`` is the SHA-256 of the SubjectPublicKeyInfo.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from functools import cached_property
from typing import cast

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey

from ..errors import KeySourceError

_Private = Ed25519PrivateKey | ec.EllipticCurvePrivateKey | RSAPrivateKey
_Public = Ed25519PublicKey | ec.EllipticCurvePublicKey | RSAPublicKey


def _algorithm(key: object) -> str:
    if isinstance(key, (Ed25519PrivateKey, Ed25519PublicKey)):
        return "EdDSA"
    if isinstance(key, (ec.EllipticCurvePrivateKey, ec.EllipticCurvePublicKey)) and key.curve.name == "secp256r1":
        return "ES256"
    if isinstance(key, (RSAPrivateKey, RSAPublicKey)) and key.key_size >= 2048:
        return "RS256"
    raise KeySourceError("the key is neither Ed25519 nor P-256 nor RSA of at least 2048 bits")


class PublicKey:
    """A key that verifies heads."""

    def __init__(self, key: object) -> None:
        self.algorithm = _algorithm(key)
        self._key = cast("_Public", key)

    @classmethod
    def from_pem(cls, pem: bytes) -> PublicKey:
        """From a PEM public key, or the public half of a PEM private key. Raises KeySourceError."""
        try:
            if b"PRIVATE KEY" in pem:
                return Signer.from_pem(pem).public_key
            return cls(serialization.load_pem_public_key(pem))
        except (ValueError, UnsupportedAlgorithm) as error:
            raise KeySourceError("not a PEM public key") from error

    @classmethod
    def from_text(cls, text: str) -> PublicKey:
        """From what `text` gives: the base64 of the SubjectPublicKeyInfo. Raises KeySourceError."""
        try:
            return cls(serialization.load_der_public_key(base64.b64decode(text, validate=True)))
        except (ValueError, binascii.Error, UnsupportedAlgorithm) as error:
            raise KeySourceError("not a public key") from error

    @cached_property
    def _der(self) -> bytes:
        info = serialization.PublicFormat.SubjectPublicKeyInfo
        return self._key.public_bytes(serialization.Encoding.DER, info)

    @cached_property
    def text(self) -> str:
        """Base64 of the SubjectPublicKeyInfo, as a stream's first record carries it."""
        return base64.b64encode(self._der).decode("ascii")

    @cached_property
    def key_id(self) -> str:
        """SHA-256 of the SubjectPublicKeyInfo, in hex."""
        return hashlib.sha256(self._der).hexdigest()

    @property
    def pem(self) -> bytes:
        """The key in PEM."""
        info = serialization.PublicFormat.SubjectPublicKeyInfo
        return self._key.public_bytes(serialization.Encoding.PEM, info)

    def verifies(self, signature: bytes, data: bytes) -> bool:
        """Whether ``signature`` over ``data`` is this key's."""
        try:
            if isinstance(self._key, Ed25519PublicKey):
                self._key.verify(signature, data)
            elif isinstance(self._key, RSAPublicKey):
                self._key.verify(signature, data, padding.PKCS1v15(), hashes.SHA256())
            else:
                self._key.verify(signature, data, ec.ECDSA(hashes.SHA256()))
        except InvalidSignature:
            return False
        return True


class Signer:
    """A key that signs heads. Signing is deterministic: the same head has the same signature."""

    def __init__(self, key: object) -> None:
        self.algorithm = _algorithm(key)
        self._key = cast("_Private", key)
        self.public_key = PublicKey(self._key.public_key())

    @classmethod
    def generate(cls) -> Signer:
        """A new Ed25519 key."""
        return cls(Ed25519PrivateKey.generate())

    @classmethod
    def from_pem(cls, pem: bytes) -> Signer:
        """From a PEM private key without a password. Raises KeySourceError; never shows the key."""
        try:
            return cls(serialization.load_pem_private_key(pem, password=None))
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise KeySourceError("not a PEM private key without a password") from error

    @property
    def pem(self) -> bytes:
        """The private key in PEM (PKCS #8), without a password."""
        return self._key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )

    def sign(self, data: bytes) -> bytes:
        """The signature over ``data``: 64 bytes (EdDSA), DER (ES256, RFC 6979), or RSASSA-PKCS1-v1_5."""
        if isinstance(self._key, Ed25519PrivateKey):
            return self._key.sign(data)
        if isinstance(self._key, RSAPrivateKey):
            return self._key.sign(data, padding.PKCS1v15(), hashes.SHA256())
        return self._key.sign(data, ec.ECDSA(hashes.SHA256(), deterministic_signing=True))
