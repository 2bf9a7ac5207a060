"""Keys that verify tokens: read from JWKS, PEM or a shared secret, and chosen for a token.

Invariants: pure. A key fixes what it may verify: by its type and curve (an asymmetric key never HS*,
nothing ever ``none``), and by its own ``alg``, ``use`` and ``key_ops`` (RFC 7517, 4; RFC 8725, 3.1).
An entry of a set that is unknown, broken or meant for something else is left out and takes no other
with it. Private parts of a key are never loaded.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import (
    SECP256K1,
    SECP256R1,
    SECP384R1,
    SECP521R1,
    EllipticCurve,
    EllipticCurvePublicKey,
    EllipticCurvePublicNumbers,
)
from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey, RSAPublicNumbers
from cryptography.hazmat.primitives.serialization import load_der_public_key, load_pem_public_key

from ..errors import KeySourceError
from .algorithms import CURVES, ED448, ED25519, RSA, SECRET_BYTES, SYMMETRIC
from .signatures import verifies

MAX_KEYS = 256
"""Entries of a set that are read; no issuer publishes as many."""
MAX_TRIED = 16
"""Keys tried for a token that names none of them."""

_SAME = {"EdDSA": ED25519 | ED448, "Ed25519": ED25519, "Ed448": ED448}
_NAMED_CURVES: dict[str, type[EllipticCurve]] = {
    "P-256": SECP256R1,
    "P-384": SECP384R1,
    "P-521": SECP521R1,
    "secp256k1": SECP256K1,
}
_NAMED_EDWARDS: dict[str, type[Ed25519PublicKey] | type[Ed448PublicKey]] = {
    "Ed25519": Ed25519PublicKey,
    "Ed448": Ed448PublicKey,
}
_PEM = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----.*?-----END \1-----", re.DOTALL)
_UNREADABLE = (UnsupportedAlgorithm, ValueError, TypeError, KeyError, IndexError, OverflowError)


@dataclass(frozen=True, slots=True)
class Key:
    """One key, what it is called in its set, and the algorithms it may verify."""

    id: str | None
    algorithms: frozenset[str]
    _material: Any = field(repr=False)
    issuer: str | None = None
    """Whose tokens it signs, where its set is that of many tenants and says so (Entra's do)."""

    def signs_for(self, tenant: object) -> bool:
        """Whether the tokens of ``tenant`` may be signed by it: the key of one tenant is no other's."""
        return self.issuer is None or "{tenantid}" in self.issuer or tenant in self.issuer.split("/")

    def verifies(self, algorithm: str, data: bytes, signature: bytes) -> bool:
        """Whether ``signature`` over ``data`` is this key's, made by ``algorithm``."""
        return algorithm in self.algorithms and verifies(algorithm, self._material, data, signature)


class KeySet:
    """The keys of one source at one time; never changed, only replaced."""

    def __init__(self, keys: Iterable[Key]) -> None:
        self.keys = tuple(keys)
        self.algorithms = frozenset().union(*(key.algorithms for key in self.keys))
        self._by_id: dict[str | None, list[Key]] = {}
        for key in self.keys:
            self._by_id.setdefault(key.id, []).append(key)

    def names(self, key_id: str | None) -> bool:
        """Whether a key of the set is called ``key_id``."""
        return key_id is not None and key_id in self._by_id

    def candidates(self, key_id: str | None, algorithm: str) -> list[Key]:
        """The keys that a token with this header may have been signed by.

        Those called ``key_id``, of which a set may have several of different types; else those without
        a name. A token that names no key is tried with each that fits, up to `MAX_TRIED`.
        """
        found = self.keys if key_id is None else self._by_id.get(key_id) or self._by_id.get(None) or ()
        return [key for key in found if algorithm in key.algorithms][:MAX_TRIED]


def parse_jwks(data: bytes) -> KeySet:
    """The usable keys of a JWK set (RFC 7517), or of a map of key id to PEM as Google serves it.

    Raises KeySourceError when there is no usable key in it: an empty answer must not replace keys.
    Symmetric keys are left out: what is published is no secret.
    """
    try:
        found = orjson.loads(data)
    except ValueError as error:
        raise KeySourceError("no JSON") from error
    if not isinstance(found, dict):
        raise KeySourceError("no JSON object")
    entries = found.get("keys")
    if isinstance(entries, list):
        keys = [key for entry in entries[:MAX_KEYS] if (key := _from_jwk(entry)) is not None]
    else:
        keys = [key for name, pem in list(found.items())[:MAX_KEYS] if (key := from_pem_entry(name, pem)) is not None]
    if not keys:
        raise KeySourceError("no usable key in it")
    return KeySet(keys)


def parse_pem(data: bytes) -> KeySet:
    """The public keys and certificates of a PEM file. Raises KeySourceError, also for a private key."""
    keys = []
    for match in _PEM.finditer(data):
        if b"PRIVATE KEY" in match[1]:
            raise KeySourceError("holds a private key; give the public one")
        try:
            material: Any = (
                _certified(match[0], pem=True) if match[1] == b"CERTIFICATE" else load_pem_public_key(match[0])
            )
        except _UNREADABLE as error:
            raise KeySourceError("holds a PEM block that is no public key") from error
        fits = _fits(material)
        if not fits:
            raise KeySourceError("holds a key that is neither RSA of at least 2048 bits nor EC nor Ed25519 nor Ed448")
        keys.append(Key(None, fits, material))
    if not keys:
        raise KeySourceError("holds no PEM public key")
    return KeySet(keys)


def parse_secret(data: bytes, wanted: frozenset[str]) -> KeySet:
    """The shared secret that a file holds; one line break at its end does not belong to it.

    ``wanted`` are the HS* algorithms to verify, all that the secret is long enough for when empty.
    Raises KeySourceError for a secret shorter than its algorithm demands, and for one that is a key.
    """
    secret = data.removesuffix(b"\n").removesuffix(b"\r")
    if not secret.strip():
        raise KeySourceError("holds no shared secret")
    if is_key(secret):
        raise KeySourceError("holds an asymmetric key, a certificate or a JWK, which is no shared secret")
    long_enough = frozenset(name for name, least in SECRET_BYTES.items() if len(secret) >= least)
    fits = (wanted or long_enough) & long_enough
    if not fits or wanted - fits:
        least = min(SECRET_BYTES[name] for name in (wanted - fits) or SYMMETRIC)
        raise KeySourceError(f"holds a secret of {len(secret)} bytes where at least {least} are needed")
    return KeySet([Key(None, fits, secret)])


def is_key(data: bytes) -> bool:
    """Whether ``data`` is a key that others may know: as a secret it would let anybody sign."""
    if b"-----BEGIN " in data or data.startswith((b"ssh-", b"ecdsa-")) or re.search(rb'"kty"\s*:', data):
        return True
    for load in (load_der_public_key, _certified) if data[:1] == b"0" else ():  # an ASN.1 sequence
        try:
            load(data)
        except _UNREADABLE:
            continue
        return True
    return False


def _fits(material: object) -> frozenset[str]:
    """What a public key may verify; nothing for one that is too weak or of an unknown kind."""
    if isinstance(material, RSAPublicKey) and material.key_size >= 2048:  # RFC 7518, 3.3
        return RSA
    if isinstance(material, EllipticCurvePublicKey):
        return CURVES.get(material.curve.name, frozenset())
    if isinstance(material, Ed25519PublicKey):
        return ED25519
    return ED448 if isinstance(material, Ed448PublicKey) else frozenset()


def _from_jwk(entry: Any) -> Key | None:
    """The key that one entry of a set describes, or None when it is not for verifying signatures."""
    if not isinstance(entry, dict) or entry.get("use") not in (None, "sig", "jwt-svid"):
        return None
    operations = entry.get("key_ops")
    if operations is not None and not (isinstance(operations, list) and "verify" in operations):
        return None
    try:
        material = _public_part(entry)
    except _UNREADABLE:
        return None
    fits, bound, key_id = _fits(material), entry.get("alg"), entry.get("kid")
    if bound is not None:
        fits &= _SAME.get(str(bound), {str(bound)})
    issuer = entry.get("issuer")
    if not fits:
        return None
    return Key(key_id if isinstance(key_id, str) else None, fits, material, issuer if isinstance(issuer, str) else None)


def _public_part(entry: Mapping[str, Any]) -> object:
    """The public key of an entry; raises what is in `_UNREADABLE`.

    Coordinates without their leading zeros are taken, as some libraries write them; a point that is
    not on its curve is not.
    """
    kind = entry["kty"]
    if kind == "RSA" and "n" in entry:
        return RSAPublicNumbers(_number(entry["e"]), _number(entry["n"])).public_key()
    if kind == "EC" and "x" in entry:
        curve = _NAMED_CURVES[entry["crv"]]()
        return EllipticCurvePublicNumbers(_number(entry["x"]), _number(entry["y"]), curve).public_key()
    if kind == "OKP" and "x" in entry:
        return _NAMED_EDWARDS[entry["crv"]].from_public_bytes(_decoded(entry["x"]))
    # Some sets give a key by its certificate alone. Its dates are the issuer's business: the set is.
    return _certified(base64.b64decode(entry["x5c"][0], validate=True))


def _certified(data: bytes, *, pem: bool = False) -> object:
    """The public key that a certificate is for; raises what is in `_UNREADABLE`."""
    from cryptography import x509  # few sets need it, and its import costs as much as all else here

    try:
        load = x509.load_pem_x509_certificate if pem else x509.load_der_x509_certificate
        return load(data).public_key()
    except x509.InvalidVersion as error:
        raise ValueError("a certificate of an unknown version") from error


def _decoded(text: Any) -> bytes:
    if not isinstance(text, str):
        raise TypeError("no text")
    return base64.urlsafe_b64decode(text.encode("ascii") + b"=" * (-len(text) % 4))


def _number(text: str) -> int:
    return int.from_bytes(_decoded(text), "big")


def from_pem_entry(key_id: str, pem: Any) -> Key | None:
    """The key of this name that a PEM text holds, or None where there is no usable one in it."""
    try:
        key = parse_pem(pem.encode("ascii")).keys[0]
    except (KeySourceError, AttributeError, ValueError):
        return None
    return Key(key_id, key.algorithms, key._material)
