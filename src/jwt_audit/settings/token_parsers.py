"""What a setting about tokens may be; as in `parsers`, nothing is raised but `WrongValueError`."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlsplit

from .. import attributes as attr
from ..http.hosts import is_loopback
from .parsers import WrongValueError, existing_file, flag, http_url, names, pairs, text
from .variables import PREFIX

ALGORITHMS = (
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512",
    "ES256", "ES256K", "ES384", "ES512", "EdDSA", "HS256", "HS384", "HS512",
)  # fmt: skip
"""What may stand in ALGORITHMS (RFC 7518, RFC 8037, RFC 8812); ``none`` is not among them."""

_JWKS = "https://login.example.com/jwks.json"
_METADATA = "https://login.example.com/.well-known/openid-configuration"


def algorithms(value: Any) -> tuple[str, ...]:
    """Algorithms to verify with, never symmetric and asymmetric ones together."""
    listed = names(value)
    for name in listed:
        if name not in ALGORITHMS:
            raise WrongValueError(f"{name!r} is not a supported algorithm", f"use any of {', '.join(ALGORITHMS)}")
    symmetric = [name.startswith("HS") for name in listed]
    if any(symmetric) and not all(symmetric):
        raise WrongValueError(
            "symmetric and asymmetric algorithms together invite key confusion (RFC 8725, 3.1)",
            "list HS* alone with SECRET_FILE, or the others alone with a public key",
        )
    return listed


def jwks(value: Any) -> str:
    """The URL of a key set, or the path of a file that can be read now."""
    source = text(value)
    return http_url(source, _JWKS) if "://" in source else str(existing_file(source))


def discovery(value: Any) -> str | None:
    """``true`` for the issuer's own metadata, a URL for metadata elsewhere; None for false."""
    if isinstance(value, str) and "://" in value:
        return http_url(value, _METADATA)
    return "true" if flag(value) else None


def plain_http(url: str, allowed: tuple[str, ...]) -> None:
    """Raises WrongValueError when ``url`` leads over plain http to a host that is neither this machine nor allowed."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    if parts.scheme == "http" and not is_loopback(host) and host not in allowed:
        raise WrongValueError(
            "keys fetched over plain http can be replaced in transit",
            f"use https (http only for loopback, and for the hosts of {PREFIX}HTTP_HOSTS)",
        )


def attribute_name(name: str) -> str:
    """``name`` as the attribute that a claim is mapped to."""
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_.\-]{0,127}", name):
        raise WrongValueError(
            f"{name[:40]!r} is not a valid attribute name", "use ASCII letters, digits, '.', '_', '-'"
        )
    if name != attr.USER_ROLES and attr.is_fixed(name):
        raise WrongValueError(f"the attribute {name} has a fixed meaning", "map the claim to another name")
    return name


def claims(value: Any) -> tuple[tuple[str, str], ...]:
    """Pairs of claim and attribute."""
    return tuple((claim, attribute_name(name)) for claim, name in pairs(value))


def source(value: Any) -> str:
    """Where a token comes from: ``bearer``, ``header:NAME``, ``cookie:NAME`` or ``websocket``.

    The name of a header is written in lower case, that of a cookie as it stands (RFC 6265, 5.4).
    """
    where = text(value)
    kind, colon, name = where.partition(":")
    name = name.strip()
    if kind in ("bearer", "websocket") and not colon:
        return where
    if kind not in ("header", "cookie") or not re.fullmatch(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,128}", name):
        raise WrongValueError(
            f"{where[:60]!r} is not a valid source of tokens", "use bearer, header:NAME, cookie:NAME or websocket"
        )
    return f"{kind}:{name.lower() if kind == 'header' else name}"


def sources(value: Any) -> tuple[str, ...]:
    """Sources in their order, each once."""
    ordered = tuple(dict.fromkeys(map(source, names(value))))
    if not ordered:
        raise WrongValueError("no source of tokens is named", "use bearer, header:NAME, cookie:NAME or websocket")
    return ordered
