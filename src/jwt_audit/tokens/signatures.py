"""Signatures by the algorithms of RFC 7518, RFC 8037, RFC 8812 and RFC 9864: PyJWT's, under our own names.

Pure. Which algorithm a key may verify is for `jwks` to say; here a key is only ever of the type and curve
that the algorithm is for. Only what reads keys imports this, so a process without configured keys never
loads PyJWT for us: its import takes longer than that of all that is ours.
"""

from __future__ import annotations

from typing import Any

from cryptography.exceptions import UnsupportedAlgorithm
from jwt.algorithms import get_default_algorithms

from .algorithms import KNOWN

_SAME = {"Ed25519": "EdDSA", "Ed448": "EdDSA"}
"""RFC 9864: one algorithm, its newer names."""
_PYJWT = get_default_algorithms()
_VERIFIERS = {name: _PYJWT[_SAME.get(name, name)] for name in KNOWN}


def verifies(algorithm: str, key: Any, data: bytes, signature: bytes) -> bool:
    """Whether ``signature`` over ``data`` was made by ``algorithm`` (one of `KNOWN`) with ``key``'s other half.

    ``key`` is a public key of `cryptography`, of HS* the secret's bytes.
    """
    try:
        return _VERIFIERS[algorithm].verify(data, key, signature)
    except (ValueError, UnsupportedAlgorithm):
        return False  # the OpenSSL at hand lacks the curve, or finds no signature in the bytes
