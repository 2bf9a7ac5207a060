"""Keys and tokens of a run, made anew each time."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

ISSUER = "https://issuer.example/"
AUDIENCE = "orders"
PEOPLE = 64
"""Tokens in use at once: each is verified once a minute, all other requests find the result."""


def private_key(algorithm: str) -> Any:
    """A fresh key to sign with."""
    if algorithm == "RS256":
        return rsa.generate_private_key(65537, 2048)
    if algorithm == "ES256":
        return ec.generate_private_key(ec.SECP256R1())
    if algorithm == "EdDSA":
        return ed25519.Ed25519PrivateKey.generate()
    return b"a secret of thirty-two bytes or more, for benchmarks"


def claims(number: int) -> dict[str, Any]:
    """What an ordinary access token says of the ``number``-th person."""
    now = int(time.time())
    return {
        "iss": ISSUER,
        "sub": f"user-{number:06d}",
        "aud": AUDIENCE,
        "exp": now + 3600,
        "iat": now,
        "jti": f"5d0ad0a4-{number:012d}",
        "sid": f"session-{number:06d}",
        "azp": "shop",
        "scope": "openid profile orders:read orders:write",
    }


def tokens(key: Any, algorithm: str, count: int, start: int = 0) -> list[str]:
    """Tokens of ``count`` people."""
    return [jwt.encode(claims(start + n), key, algorithm, headers={"kid": "k1"}) for n in range(count)]


def public_pem(key: Any) -> bytes:
    return bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))


def write(directory: Path) -> None:
    """``public.pem``, ``signing.pem`` and ``tokens`` for an app and its audit."""
    key = private_key("RS256")
    (directory / "public.pem").write_bytes(public_pem(key))
    (directory / "tokens").write_text("\n".join(tokens(key, "RS256", PEOPLE)))
    signing = private_key("EdDSA").private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (directory / "signing.pem").write_bytes(signing)
