"""One HTTP GET of a key set, by the client of this package, with every bound that it has."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

from ..errors import KeySourceError
from ..http.exchange import ExchangeError
from ..http.hosts import is_loopback

MAX_BYTES = 2**20
"""The longest answer that is read."""
DEADLINE = 5.0
"""Seconds until an answer must be complete, however busily it trickles in."""


class NotThereError(KeySourceError):
    """The server says that nothing is behind the URL (403 and 404: object stores do not tell them apart)."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A body, and how long it may be kept by its ``Cache-Control`` (seconds), if that says so."""

    body: bytes
    max_age: int | None


def checked_url(url: str, http_hosts: Collection[str] = ()) -> SplitResult:
    """``url`` taken apart. Raises KeySourceError unless it is https, or http to this machine or to ``http_hosts``.

    Whoever can answer in the issuer's place can sign for everybody.
    """
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        usable = bool(host) and parts.port != 0 and parts.username is None
    except ValueError as error:
        raise KeySourceError("the URL of the key set cannot be read") from error
    plain = parts.scheme == "http" and (is_loopback(host) or host in http_hosts)
    if not usable or not (parts.scheme == "https" or plain):
        raise KeySourceError("a key set is fetched over https only, over http only from this machine")
    return parts


def get(url: str, *, deadline: float = DEADLINE, http_hosts: Collection[str] = ()) -> Answer:
    """The answer to a GET of ``url``. Raises KeySourceError: refused, late, too long, not 200.

    Over plain http no proxy is used: it could put its own keys in the place of the issuer's.
    """
    from ..http.client import Client

    parts = checked_url(url, http_hosts)
    headers = {"Accept": "application/jwk-set+json, application/json", "User-Agent": "jwt-audit"}
    try:
        with Client(max_body=MAX_BYTES) as client:
            response = client.exchange("GET", url, headers, timeout=deadline, direct=parts.scheme == "http")
    except ExchangeError as error:
        raise KeySourceError(str(error)) from error
    if response.status != 200:
        kind_of_error = NotThereError if response.status in (403, 404) else KeySourceError
        redirect = ", a redirect, which is not followed" if 300 <= response.status < 400 else ""
        raise kind_of_error(f"it answers {response.status}{redirect}")
    if not response.complete:
        raise KeySourceError(f"it answers more than {MAX_BYTES} bytes")
    return Answer(response.body, _max_age(response.headers.get("cache-control", "")))


def _max_age(cache_control: str) -> int | None:
    """The seconds of ``max-age`` (RFC 9111, 5.2.2.1); 0 for what must not be kept; None when it is silent."""
    if re.search(r"\bno-(store|cache)\b", cache_control, re.IGNORECASE):
        return 0
    match = re.search(r"\bmax-age=\"?([0-9]{1,9})", cache_control, re.IGNORECASE)
    return int(match[1]) if match else None
