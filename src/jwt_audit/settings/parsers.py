"""What a setting may be: each function takes what an operator wrote and gives the value, or says what is wrong.

Invariants: a function raises nothing but `WrongValueError`, whose two sentences never show a secret.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from .. import attributes as attr
from ..http.hosts import is_loopback
from .variables import PREFIX

ALGORITHMS = (
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512",
    "ES256", "ES256K", "ES384", "ES512", "EdDSA", "HS256", "HS384", "HS512",
)  # fmt: skip
"""What may stand in ALGORITHMS (RFC 7518, RFC 8037, RFC 8812); ``none`` is not among them."""

_LIKE_A_PATH = re.compile(r"(?!-----)[\w .~:/\\@+=\-]{1,1024}")
"""A value that may be shown as the path that it ought to be; a pasted key or key set is none."""


class WrongValueError(ValueError):
    """A value that cannot be used: what is wrong, what would be right."""

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(problem)
        self.problem, self.remedy = problem, remedy


def text(value: Any) -> str:
    """Text without the blanks around it."""
    if not isinstance(value, str):
        raise WrongValueError(f"a value of type {type(value).__name__} is not text", "give a string")
    return value.strip()


def names(value: Any) -> tuple[str, ...]:
    """The items of a list, or of a text with commas; a text that is there names at least one."""
    items = value.split(",") if isinstance(value, str) else [text(item) for item in value]
    found = tuple(item.strip() for item in items if item.strip())
    if not found and isinstance(value, str) and value:
        raise WrongValueError("the list has nothing in it", "write name,name or leave the variable out")
    return found


def path(value: Any) -> Path:
    """A path, which may begin with somebody's ``~``."""
    try:
        return Path(value).expanduser()
    except RuntimeError as error:
        raise WrongValueError("it begins with ~, and that home is not known", "write the whole path") from error


def existing_file(value: Any) -> Path:
    """The path of a file that can be read now."""
    shown = str(value)
    return _readable(value, shown[:256] if _LIKE_A_PATH.fullmatch(shown) else "the file")


def file_of_secret(value: Any) -> Path:
    """`existing_file` for one whose content is secret: it is easily given in place of the path, and never shown."""
    return _readable(value, "the file, if that is its name")


def _readable(value: Any, shown: str) -> Path:
    found = path(value)
    try:
        with found.open("rb"):
            return found
    except (OSError, ValueError) as error:  # ValueError: a NUL in it
        why = error.strerror if isinstance(error, OSError) else "it is no path"
        raise WrongValueError(f"cannot read {shown} ({why})", "name a file that this process may read") from error


def directory(value: Any) -> Path:
    """An absolute path; whether it is there is not looked at."""
    return path(value).absolute()


def one_of(*words: str) -> Callable[[Any], str]:
    """A parser that takes these words alone."""

    def parse(value: Any) -> str:
        word = str(value).strip().lower()
        if word not in words:
            raise WrongValueError(f"{word[:20]!r} is not a choice", f"use one of {', '.join(words)}")
        return word

    return parse


def algorithms(value: Any) -> tuple[str, ...]:
    """Algorithms to verify with, never symmetric and asymmetric ones together."""
    found = names(value)
    for name in found:
        if name not in ALGORITHMS:
            raise WrongValueError(
                f"{name!r} is not an algorithm to verify with", f"use names of {', '.join(ALGORITHMS)}"
            )
    if any(name.startswith("HS") for name in found) and not all(name.startswith("HS") for name in found):
        raise WrongValueError(
            "symmetric and asymmetric algorithms together invite key confusion (RFC 8725, 3.1)",
            "list HS* alone with SECRET_FILE, or the others alone with a public key",
        )
    return found


def jwks(value: Any) -> str:
    """The URL of a key set, or the path of a file that is there."""
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
            "keys fetched over plain http can be replaced on the way",
            f"use https (http only for loopback, and for the hosts of {PREFIX}HTTP_HOSTS)",
        )


_JWKS = "https://login.example.com/jwks.json"
_METADATA = "https://login.example.com/.well-known/openid-configuration"


def http_url(value: Any, example: str = "http://127.0.0.1:4318/v1/audit") -> str:
    """``value`` as an absolute http(s) URL without user, password or fragment."""
    url = text(value)
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        shown = url.partition("?")[0].rpartition("@")[2][:80]  # neither a password nor a token
        raise WrongValueError(f"{shown!r} is no URL", f"give one such as {example}")
    if parts.username or parts.password:
        raise WrongValueError("a URL with credentials in it would be logged", "put them into HEADERS")
    return url


LOCAL = "none"
"""The ENDPOINT of records that stay where they are."""


def endpoint(value: Any) -> str:
    """Where records are sent: a URL, or `LOCAL`."""
    return LOCAL if text(value).lower() == LOCAL else http_url(value)


def _pairs(value: Any) -> tuple[tuple[str, str], ...]:
    if isinstance(value, Mapping):
        return tuple((text(name), text(item)) for name, item in value.items())
    pairs = []
    for item in names(value):
        # A claim's name may be a URL that holds "=": the attribute's name never does, so split at the last.
        name, equals, mapped = item.rpartition("=")
        if not equals or not name.strip() or not mapped.strip():
            raise WrongValueError(f"{item[:40]!r} is no pair", "write name=value,name=value")
        pairs.append((name.strip(), mapped.strip()))
    return tuple(pairs)


def attribute_name(name: str) -> str:
    """``name`` as the attribute that a claim is mapped to."""
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_.\-]{0,127}", name):
        raise WrongValueError(f"{name[:40]!r} is no attribute name", "use ASCII letters, digits, '.', '_', '-'")
    if name != attr.USER_ROLES and attr.is_fixed(name):
        raise WrongValueError(f"the attribute {name} has a fixed meaning", "map the claim to another name")
    return name


def claims(value: Any) -> tuple[tuple[str, str], ...]:
    """Pairs of claim and attribute."""
    return tuple((claim, attribute_name(name)) for claim, name in _pairs(value))


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
            f"{where[:60]!r} is no source of tokens", "use bearer, header:NAME, cookie:NAME or websocket"
        )
    return f"{kind}:{name.lower() if kind == 'header' else name}"


def sources(value: Any) -> tuple[str, ...]:
    """Sources in their order, each once."""
    found = tuple(dict.fromkeys(map(source, names(value))))
    if not found:
        raise WrongValueError("no source of tokens is named", "use bearer, header:NAME, cookie:NAME or websocket")
    return found


_SIGNALS = ("spans", "logs", "audit")


def pii(value: Any) -> tuple[str, str, str]:
    """What spans, logs and audit records show of a person: one word for all, or ``signal=word,…``."""
    words = dict.fromkeys(_SIGNALS, "raw")
    if isinstance(value, Mapping):
        value = [f"{name}={word}" for name, word in value.items()]
    for item in names(value):
        signal, equals, word = item.rpartition("=")
        signal, word = signal.strip(), word.strip()
        if word not in ("raw", "pseudonym", "off") or (equals and signal not in _SIGNALS):
            raise WrongValueError(
                f"{item[:40]!r} is no choice",
                "use raw, pseudonym or off, or each by its signal, as spans=pseudonym,logs=off,audit=raw",
            )
        words.update({signal: word} if equals else dict.fromkeys(_SIGNALS, word))
    return words["spans"], words["logs"], words["audit"]


def headers(value: Any) -> tuple[tuple[str, str], ...]:
    """HTTP headers, as a mapping or as the OTLP variables write them."""
    # The OTLP exporter specification: W3C baggage's key=value,… with values percent-encoded.
    if isinstance(value, Mapping):
        pairs = _pairs(value)
    else:
        split = [item.partition("=") for item in names(value)]
        if any(not equals or not name.strip() for name, equals, _ in split):
            raise WrongValueError(
                "an entry is no pair", "write name=value,name=value"
            )  # never shows the value: a secret
        pairs = tuple((name.strip(), unquote(item.strip())) for name, _, item in split)
    for name, item in pairs:
        if not re.fullmatch(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+", name) or re.search(r"[\r\n\0]", item):
            raise WrongValueError("an entry is no HTTP header", "write name=value,name=value")
    return pairs


def paths(value: Any) -> tuple[str, ...]:
    """Rules over paths: exact, or everything below one."""
    found = names(value)
    for rule in found:
        if not rule.startswith("/") or "*" in rule.removesuffix("/*"):
            raise WrongValueError(f"{rule[:40]!r} is no path rule", "write /exact/path or /prefix/*")
    return found


def methods(value: Any) -> tuple[str, ...]:
    """HTTP methods, which are written in capitals (RFC 9110, 9.1)."""
    found = names(value)
    for method in found:
        if not re.fullmatch(r"[A-Z][A-Z\-]{0,31}", method):
            raise WrongValueError(f"{method[:40]!r} is not an HTTP method", "write OPTIONS or OPTIONS,HEAD")
    return found


def flag(value: Any) -> bool:
    """True or false."""
    if isinstance(value, bool):
        return value
    word = str(value).strip().lower()
    if word not in ("true", "false", "1", "0"):
        raise WrongValueError(f"{word[:20]!r} is neither true nor false", "use true or false")
    return word in ("true", "1")


def _scaled(units: Mapping[str, int], example: str, *, least: int = 0) -> Callable[[Any], int]:
    def parse(value: Any) -> int:
        match = re.fullmatch(r"([0-9]{1,15})\s*([A-Za-z]*)", str(value).strip())
        if not match or match[2] not in units:
            raise WrongValueError(f"{str(value)[:20]!r} is no quantity", f"write a number such as {example}")
        found = int(match[1]) * units[match[2]]
        if found < least:
            raise WrongValueError(f"{str(value)[:20]!r} is too little", f"write a number such as {example}")
        return found

    return parse


seconds = _scaled({"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}, "7d, 12h or 90s")
size = _scaled({"": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}, "512MiB or 2GiB", least=2**20)
"""Bytes that can hold a record: less is a unit forgotten."""


def timeout(value: Any) -> float:
    """Seconds above 0 up to 600, a fraction allowed."""
    # The SDK reads OTEL_EXPORTER_OTLP_TIMEOUT as seconds, a fraction allowed.
    try:
        seconds = float(value)
    except ValueError:
        seconds = -1.0
    if not 0 < seconds <= 600:
        raise WrongValueError(f"{str(value)[:20]!r} is no time", "write seconds from above 0 up to 600")
    return seconds
