"""Signatures: what each algorithm takes, and what it does not."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding
from jwt.algorithms import get_default_algorithms

from jwt_audit.tokens.algorithms import ASYMMETRIC, KNOWN, SYMMETRIC
from jwt_audit.tokens.signatures import verifies
from support.issuer import SECRET, signing_key

DATA = b"eyJhbGciOiJ4In0.e30"
OTHERS = get_default_algorithms()
RENAMED = {"Ed25519": "EdDSA", "Ed448": "EdDSA"}
"""RFC 9864: one algorithm, its newer names."""


def sign(algorithm: str, data: bytes = DATA) -> tuple[object, bytes]:
    """A key that others have, and a signature by PyJWT."""
    key = signing_key("EdDSA", 448) if algorithm == "Ed448" else signing_key(RENAMED.get(algorithm, algorithm))
    signature = OTHERS[RENAMED.get(algorithm, algorithm)].sign(data, key.private)
    return SECRET if algorithm in SYMMETRIC else key.public, signature


def test_each_algorithm_of_pyjwt_is_known_and_none_is_not() -> None:
    """But for ``none``, and ES521, which is no algorithm but a slip of the pen."""
    assert KNOWN - RENAMED.keys() == OTHERS.keys() - {"none", "ES521"}
    assert KNOWN == SYMMETRIC | ASYMMETRIC
    assert not SYMMETRIC & ASYMMETRIC


@pytest.mark.parametrize("algorithm", sorted(KNOWN))
def test_what_was_signed_verifies_and_nothing_else(algorithm: str) -> None:
    """Other data, any bit turned, a piece, nothing, zeros, another key: no."""
    key, signature = sign(algorithm)
    assert verifies(algorithm, key, DATA, signature)
    assert not verifies(algorithm, key, DATA + b"x", signature)
    for place in range(0, len(signature), 7):
        turned = bytearray(signature)
        turned[place] ^= 1
        assert not verifies(algorithm, key, DATA, bytes(turned))
    for wrong in (b"", signature[:-1], signature + b"\0", b"\0" * len(signature), b"\xff" * len(signature)):
        assert not verifies(algorithm, key, DATA, wrong)
    assert not verifies(algorithm, key, DATA, sign(algorithm, b"other")[1])


@pytest.mark.parametrize("algorithm", ["ES256", "ES384", "ES512", "ES256K"])
def test_an_ecdsa_signature_has_one_form(algorithm: str) -> None:
    """DER, as certificates have it, is not the form of RFC 7518, 3.4; numbers shorter or longer are not either."""
    key, signature = sign(algorithm)
    digest = {"384": hashes.SHA384(), "512": hashes.SHA512()}.get(algorithm[2:5], hashes.SHA256())
    assert not verifies(algorithm, key, DATA, signing_key(algorithm).private.sign(DATA, ec.ECDSA(digest)))
    size = len(signature) // 2
    longer = b"\0" + signature[:size] + b"\0" + signature[size:]
    assert not verifies(algorithm, key, DATA, longer)


@pytest.mark.parametrize("algorithm", ["PS256", "PS384", "PS512"])
def test_a_pss_salt_is_as_long_as_the_digest(algorithm: str) -> None:
    """RFC 7518, 3.5: one of another length is another signature scheme."""
    digest = {"PS256": hashes.SHA256(), "PS384": hashes.SHA384(), "PS512": hashes.SHA512()}[algorithm]
    key = signing_key(algorithm)
    shorter = key.private.sign(DATA, padding.PSS(padding.MGF1(digest), 8), digest)
    assert not verifies(algorithm, key.public, DATA, shorter)
