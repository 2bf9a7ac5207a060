"""Signatures by the algorithms of RFC 7518, RFC 8037, RFC 8812 and RFC 9864, over `cryptography`.

Pure. Which algorithm a key may verify is for `jwks` to say; here a key is only ever of the type and curve
that the algorithm is for. (Not by PyJWT, although its way is the same: its import costs each process
that is audited more than all of ours.)
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from functools import partial
from typing import Any

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from .algorithms import KNOWN

_SHA: dict[str, hashes.HashAlgorithm] = {"256": hashes.SHA256(), "384": hashes.SHA384(), "512": hashes.SHA512()}


def verifies(algorithm: str, key: Any, data: bytes, signature: bytes) -> bool:
    """Whether ``signature`` over ``data`` was made by ``algorithm`` (one of `KNOWN`) with ``key``'s other half.

    ``key`` is a public key of `cryptography`, of HS* the secret's bytes.
    """
    try:
        return _VERIFIERS[algorithm](key, data, signature)
    except (InvalidSignature, ValueError, UnsupportedAlgorithm):
        return False  # the last two: the OpenSSL at hand lacks the curve, or finds no signature in the bytes


def _hmac(digest: str, key: bytes, data: bytes, signature: bytes) -> bool:
    return hmac.compare_digest(hmac.digest(key, data, digest), signature)


def _rsa(how: padding.AsymmetricPadding, digest: hashes.HashAlgorithm, key: Any, data: bytes, signature: bytes) -> bool:
    key.verify(signature, data, how, digest)
    return True


def _ecdsa(digest: hashes.HashAlgorithm, key: Any, data: bytes, signature: bytes) -> bool:
    # RFC 7518, 3.4: both numbers in as many bytes as the curve needs, never DER
    size = (key.curve.key_size + 7) // 8
    if len(signature) != 2 * size:
        return False
    r, s = int.from_bytes(signature[:size], "big"), int.from_bytes(signature[size:], "big")
    key.verify(encode_dss_signature(r, s), data, ec.ECDSA(digest))
    return True


def _eddsa(key: Any, data: bytes, signature: bytes) -> bool:
    key.verify(signature, data)
    return True


def _verifier(algorithm: str) -> Callable[[Any, bytes, bytes], bool]:
    kind, bits = algorithm[:2], algorithm[2:5]
    if kind == "HS":
        return partial(_hmac, f"sha{bits}")
    if kind == "RS":
        return partial(_rsa, padding.PKCS1v15(), _SHA[bits])
    if kind == "PS":  # RFC 7518, 3.5: a salt as long as the digest
        return partial(_rsa, padding.PSS(padding.MGF1(_SHA[bits]), _SHA[bits].digest_size), _SHA[bits])
    return partial(_ecdsa, _SHA[bits]) if kind == "ES" else _eddsa


_VERIFIERS = {algorithm: _verifier(algorithm) for algorithm in KNOWN}
