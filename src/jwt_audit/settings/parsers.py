"""What a setting may be: each function takes what an operator wrote and returns the value, or says what is wrong.

Invariants: a function raises nothing but `WrongValueError`, whose two sentences never show a secret.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

_LIKE_A_PATH = re.compile(r"(?!-----)[\w .~:/\\@+=\-]{1,1024}")
"""A value that may be shown in a message, since it looks like a path; a pasted key or key set does not."""


class WrongValueError(ValueError):
    """A value that cannot be used: what is wrong, what would be right."""

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(problem)
        self.problem, self.remedy = problem, remedy


def text(value: Any) -> str:
    """Text, without white space at its ends."""
    if not isinstance(value, str):
        raise WrongValueError(f"a value of type {type(value).__name__} is not text", "give a string")
    return value.strip()


def names(value: Any) -> tuple[str, ...]:
    """The items of a list, or of a text with commas, which must have at least one unless it is empty."""
    items = value.split(",") if isinstance(value, str) else [text(item) for item in value]
    stripped = tuple(item.strip() for item in items if item.strip())
    if not stripped and isinstance(value, str) and value:
        raise WrongValueError("the list is empty", "write name,name or leave the variable out")
    return stripped


def path(value: Any) -> Path:
    """A path, which may begin with ``~`` or ``~user``."""
    try:
        return Path(value).expanduser()
    except RuntimeError as error:
        raise WrongValueError(
            "it begins with ~, but that home directory is not known", "write the absolute path"
        ) from error


def existing_file(value: Any) -> Path:
    """The path of a file that can be read now."""
    shown = str(value)
    return _readable(value, shown[:256] if _LIKE_A_PATH.fullmatch(shown) else "the file")


def file_of_secret(value: Any) -> Path:
    """`existing_file` for a secret, which is easily given in place of its path: so the value is never shown."""
    return _readable(value, "the file that it should name")


def _readable(value: Any, shown: str) -> Path:
    file = path(value)
    try:
        with file.open("rb"):
            return file
    except (OSError, ValueError) as error:  # ValueError: a NUL in it
        why = error.strerror if isinstance(error, OSError) else "it is not a valid path"
        raise WrongValueError(f"cannot read {shown} ({why})", "name a file that this process may read") from error


def directory(value: Any) -> Path:
    """An absolute path, which need not exist."""
    return path(value).absolute()


def one_of(*words: str) -> Callable[[Any], str]:
    """A parser that accepts only these words."""

    def parse(value: Any) -> str:
        word = str(value).strip().lower()
        if word not in words:
            raise WrongValueError(f"{word[:20]!r} is not a valid value", f"use one of {', '.join(words)}")
        return word

    return parse


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
        raise WrongValueError(f"{shown!r} is not a valid URL", f"give one such as {example}")
    if parts.username or parts.password:
        raise WrongValueError("a URL with credentials in it would be logged", "put them into HEADERS")
    return url


LOCAL = "none"
"""The ENDPOINT with which records stay in the spool."""


def endpoint(value: Any) -> str:
    """Where records are sent: a URL, or `LOCAL`."""
    return LOCAL if text(value).lower() == LOCAL else http_url(value)


def pairs(value: Any) -> tuple[tuple[str, str], ...]:
    """Pairs of a mapping, or of a text such as ``name=value,name=value``."""
    if isinstance(value, Mapping):
        return tuple((text(name), text(item)) for name, item in value.items())
    split = []
    for item in names(value):
        # A claim's name may be a URL that holds "=": the attribute's name never does, so split at the last.
        name, equals, mapped = item.rpartition("=")
        if not equals or not name.strip() or not mapped.strip():
            raise WrongValueError(f"{item[:40]!r} is not a name=value pair", "write name=value,name=value")
        split.append((name.strip(), mapped.strip()))
    return tuple(split)


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
                f"{item[:40]!r} is not a valid value",
                "use raw, pseudonym or off, or each by its signal, as spans=pseudonym,logs=off,audit=raw",
            )
        words.update({signal: word} if equals else dict.fromkeys(_SIGNALS, word))
    return words["spans"], words["logs"], words["audit"]


def headers(value: Any) -> tuple[tuple[str, str], ...]:
    """HTTP headers, as a mapping or as the OTLP variables write them."""
    # The OTLP exporter specification: W3C baggage's key=value,… with values percent-encoded.
    # No message shows an entry: its value is a secret.
    if isinstance(value, Mapping):
        entries = pairs(value)
    else:
        parts = [item.partition("=") for item in names(value)]
        if any(not equals or not name.strip() for name, equals, _ in parts):
            raise WrongValueError("an entry is not a name=value pair", "write name=value,name=value")
        entries = tuple((name.strip(), unquote(content.strip())) for name, _, content in parts)
    for name, content in entries:
        if not re.fullmatch(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+", name) or re.search(r"[\r\n\0]", content):
            raise WrongValueError("an entry is not a valid HTTP header", "write name=value,name=value")
    return entries


def paths(value: Any) -> tuple[str, ...]:
    """Rules over paths: exact, or everything below one."""
    rules = names(value)
    for rule in rules:
        if not rule.startswith("/") or "*" in rule.removesuffix("/*"):
            raise WrongValueError(f"{rule[:40]!r} is not a valid path rule", "write /exact/path or /prefix/*")
    return rules


def methods(value: Any) -> tuple[str, ...]:
    """HTTP methods, which are written in capitals (RFC 9110, 9.1)."""
    listed = names(value)
    for method in listed:
        if not re.fullmatch(r"[A-Z][A-Z\-]{0,31}", method):
            raise WrongValueError(f"{method[:40]!r} is not an HTTP method", "write OPTIONS or OPTIONS,HEAD")
    return listed


def flag(value: Any) -> bool:
    """True or false."""
    if isinstance(value, bool):
        return value
    word = str(value).strip().lower()
    if word not in ("true", "false", "1", "0"):
        raise WrongValueError(f"{word[:20]!r} is neither true nor false", "use true or false")
    return word in ("true", "1")


def _scaled(kind: str, units: Mapping[str, int], example: str, *, least: int = 0) -> Callable[[Any], int]:
    def parse(value: Any) -> int:
        match = re.fullmatch(r"([0-9]{1,15})\s*([A-Za-z]*)", str(value).strip())
        if not match or match[2] not in units:
            raise WrongValueError(f"{str(value)[:20]!r} is not a valid {kind}", f"write a {kind} such as {example}")
        number = int(match[1]) * units[match[2]]
        if number < least:
            raise WrongValueError(f"{str(value)[:20]!r} is too small", f"write a {kind} such as {example}")
        return number

    return parse


seconds = _scaled("duration", {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}, "7d, 12h or 90s")
size = _scaled("size", {"": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}, "512MiB or 2GiB", least=2**20)
"""Bytes: with less a unit was forgotten."""


def timeout(value: Any) -> float:
    """Seconds above 0 up to 600, a fraction allowed."""
    # The SDK reads OTEL_EXPORTER_OTLP_TIMEOUT as seconds, a fraction allowed.
    try:
        seconds = float(value)
    except ValueError:
        seconds = -1.0
    if not 0 < seconds <= 600:
        raise WrongValueError(f"{str(value)[:20]!r} is not a valid duration", "write seconds above 0, at most 600")
    return seconds
