"""A token in the compact form of a signed JWT (RFC 7515, RFC 7519), taken apart without trusting it.

Invariants: pure; any text ends in a `Jws` or in a `TokenRefusedError`. What is accepted has one
spelling: canonical base64url (with its padding only where `Jws.padded` says so), UTF-8 JSON objects in
which no name occurs twice. So no two parsers can read two identities out of one token, and none of its
bits can be turned unseen.
Nothing in here is proved: the signature is checked by `verify`.
"""

from __future__ import annotations

import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from .. import attributes as attr
from ..attributes import Value
from ..errors import JWTAuditError
from ..identity.caller import Reason

MAX_TOKEN = 16 * 1024
"""Characters of the longest token that is parsed. Most servers cut off header lines of 8 to 64 KiB."""

_TO_STANDARD = bytes.maketrans(b"-_", b"+/")
_TO_URL_SAFE = bytes.maketrans(b"+/", b"-_")
_OBJECT_STARTS = frozenset(("ey", "ew", "e3"))
"""How base64 of a JSON object begins: ``{`` before a quote or blank, a line break or tab, ``}``."""


class TokenRefusedError(JWTAuditError):
    """A token proves nothing, for ``reason``; ``claimed`` is what it says of itself, capped.

    ``about`` is the name of the claim or header that is the cause, where one is.
    """

    def __init__(self, reason: Reason, claimed: Mapping[str, Value] | None = None, *, about: str | None = None) -> None:
        super().__init__(reason.value)
        self.reason = reason
        self.claimed = claimed or {}
        self.about = about


@dataclass(frozen=True, slots=True)
class Jws:
    """The parts of a token. ``signing_input`` are the received bytes, never a re-serialised header."""

    header: dict[str, Any] = field(repr=False)
    payload: dict[str, Any] = field(repr=False)
    algorithm: str
    key_id: str | None
    signing_input: bytes = field(repr=False)
    signature: bytes = field(repr=False)
    padded: bool = False
    """Whether a part keeps the padding of its base64: only an issuer that is said to write so may (AWS does)."""

    @property
    def claimed(self) -> dict[str, Value]:
        """Issuer, key id and algorithm as the token states them, for the audit record."""
        return _claimed(self.header, self.payload)


def unfit(token: str) -> Reason | None:
    """Why ``token`` cannot be a signed JWT by its looks alone, or None. Nothing of it is decoded."""
    if len(token) > MAX_TOKEN:
        return Reason.TOO_LARGE
    if not token or not token.isascii() or " " in token or "\t" in token:
        return Reason.MALFORMED
    dots = token.count(".")
    if token[:2] not in _OBJECT_STARTS or dots in (0, 4):
        return Reason.UNSUPPORTED_TOKEN  # opaque, PASETO, or encrypted (JWE, five parts)
    return None if dots == 2 else Reason.MALFORMED


def parse(token: str) -> Jws:
    """``token`` taken apart. Raises TokenRefusedError: what makes it no signed JWT, or not one for us.

    ``crit`` is refused whatever it lists, since no extension is implemented (RFC 7515, 4.1.11), and
    with it ``b64``, which a JWT must not use (RFC 7797, 7). ``jku``, ``jwk``, ``x5u`` and ``x5c`` are
    never looked at.
    """
    reason = unfit(token)
    if reason is not None:
        raise TokenRefusedError(reason)
    signing_input, _, last = token.encode("ascii").rpartition(b".")
    first, _, middle = signing_input.partition(b".")
    padded = "=" in token
    try:
        header = _json_object(_decode(first))
    except (ValueError, RecursionError) as error:
        raise TokenRefusedError(Reason.MALFORMED) from error
    if "crit" in header or "b64" in header:
        raise TokenRefusedError(Reason.CRITICAL_HEADER, _claimed(header, {}))
    algorithm, key_id = header.get("alg"), header.get("kid")
    if not isinstance(algorithm, str) or ("kid" in header and not isinstance(key_id, str)):
        raise TokenRefusedError(Reason.MALFORMED, _claimed(header, {}))
    try:
        payload = _json_object(_decode(middle))
        signature = _decode(last)
    except (ValueError, RecursionError) as error:
        raise TokenRefusedError(Reason.MALFORMED, _claimed(header, {})) from error
    return Jws(header, payload, algorithm, key_id, signing_input, signature, padded)


def _decode(segment: bytes) -> bytes:
    """Base64url in its one canonical spelling (RFC 7515, 2), with its padding whole or without. Raises ValueError."""
    if segment.endswith(b"="):
        bare = segment.rstrip(b"=")
        if len(segment) - len(bare) != -len(bare) % 4:
            raise ValueError("not canonical padding")
        segment = bare
    data = binascii.a2b_base64(segment.translate(_TO_STANDARD) + b"=" * (-len(segment) % 4))
    # a2b_base64 skips foreign characters and ignores unused bits: only the way back shows them.
    if binascii.b2a_base64(data, newline=False).translate(_TO_URL_SAFE).rstrip(b"=") != segment:
        raise ValueError("not canonical base64url")
    return data


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name occurs twice")
    return found


_decoder = json.JSONDecoder(object_pairs_hook=_unique)


def _json_object(data: bytes) -> dict[str, Any]:
    """The JSON object that ``data`` is. Raises ValueError or RecursionError."""
    # Twice, because each misses something: orjson lets a name occur twice; json knows NaN, takes
    # any depth to the C stack and is lax about surrogates. orjson goes first, it stops at depth 1024.
    orjson.loads(data)
    value = _decoder.decode(data.decode())
    if not isinstance(value, dict):
        raise ValueError("no object")
    return value


def _claimed(header: Mapping[str, Any], payload: Mapping[str, Any]) -> dict[str, Value]:
    named = (
        (attr.JWT_CLAIMED_ISSUER, payload.get("iss"), 256),
        (attr.JWT_CLAIMED_KEY_ID, header.get("kid"), 128),
        (attr.JWT_CLAIMED_ALGORITHM, header.get("alg"), 32),
    )
    return {name: attr.text(value, limit) for name, value, limit in named if isinstance(value, str)}
