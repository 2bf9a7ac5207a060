"""The names of the algorithms that a token may be signed with (RFC 7518, RFC 8037, RFC 8812, RFC 9864)."""

from __future__ import annotations

SECRET_BYTES = {"HS256": 32, "HS384": 48, "HS512": 64}
"""The least length of a shared secret (RFC 7518, 3.2)."""
SYMMETRIC = frozenset(SECRET_BYTES)

RSA = frozenset(("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"))
CURVES = {
    "secp256r1": frozenset(("ES256",)),
    "secp384r1": frozenset(("ES384",)),
    "secp521r1": frozenset(("ES512",)),
    "secp256k1": frozenset(("ES256K",)),
}
ED25519 = frozenset(("EdDSA", "Ed25519"))
ED448 = frozenset(("EdDSA", "Ed448"))

ASYMMETRIC = RSA.union(*CURVES.values(), ED25519, ED448)
KNOWN = SYMMETRIC | ASYMMETRIC
"""Every algorithm that a key can verify with."""


def with_new_names(allowed: frozenset[str]) -> frozenset[str]:
    """``allowed``, and with EdDSA the names that RFC 9864 gives to its two kinds."""
    return allowed | {"Ed25519", "Ed448"} if "EdDSA" in allowed else allowed
