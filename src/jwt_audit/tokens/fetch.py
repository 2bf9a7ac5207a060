"""One HTTP GET of a key set, with every bound that it needs.

urllib3 is imported by the thread that fetches, not by the app's start.
"""

from __future__ import annotations

import http.client
import re
import socket
import threading
from collections.abc import Collection
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

from ..errors import KeySourceError
from ..values import is_loopback

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

    No redirect is followed, no content encoding accepted, nothing tried twice.
    """
    from urllib3.connection import HTTPConnection, HTTPSConnection
    from urllib3.exceptions import HTTPError
    from urllib3.exceptions import TimeoutError as HTTPTimeoutError

    parts = checked_url(url, http_hosts)
    kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
    connection = kind(parts.hostname or "", parts.port, timeout=deadline)
    watchdog = _Watchdog(deadline)
    try:
        connection.connect()
        watchdog.watch(connection.sock)
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        headers = {"Accept": "application/jwk-set+json, application/json", "Accept-Encoding": "identity"}
        connection.request("GET", target, headers={**headers, "User-Agent": "jwt-audit"}, preload_content=False)
        response = connection.getresponse()
        if response.status != 200:
            kind_of_error = NotThereError if response.status in (403, 404) else KeySourceError
            raise kind_of_error(f"it answers {response.status}")
        body = b""
        while len(body) <= MAX_BYTES and (more := response.read(MAX_BYTES + 1 - len(body), decode_content=False)):
            body += more  # only a read that finds nothing more sees that the answer was cut short
        max_age = _max_age(response.headers.get("Cache-Control", ""))
    except (OSError, HTTPError, http.client.HTTPException, ValueError) as error:
        why = _why(error) or (None if isinstance(error, (TimeoutError, HTTPTimeoutError)) else type(error).__name__)
        raise KeySourceError(f"no answer in {deadline:g} s" if watchdog.late or why is None else why) from error
    finally:
        watchdog.cancel()
        connection.close()
    if watchdog.late:  # cut off: what was read until then is no answer
        raise KeySourceError(f"no answer in {deadline:g} s")
    if len(body) > MAX_BYTES:
        raise KeySourceError(f"it answers more than {MAX_BYTES} bytes")
    return Answer(body, max_age)


class _Watchdog(threading.Timer):
    """Ends a request that is late: a socket's own timeout starts anew with every byte that arrives."""

    def __init__(self, deadline: float) -> None:
        super().__init__(deadline, self._cut)
        self.daemon = True
        self.late = False
        self._socket: socket.socket | None = None

    def watch(self, connected: socket.socket | None) -> None:
        self._socket = connected
        self.start()

    def _cut(self) -> None:
        self.late = True
        if self._socket is not None:
            try:
                # Not SSLSocket's, which would take the session from under the thread that reads.
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)
            except OSError:
                pass  # it has ended meanwhile


def _why(error: BaseException) -> str | None:
    """What the system says went wrong. No text of foreign exceptions, which may quote what was read."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror
        cause = cause.__cause__ or cause.__context__
    return None


def _max_age(cache_control: str) -> int | None:
    """The seconds of ``max-age`` (RFC 9111, 5.2.2.1); 0 for what must not be kept; None when it is silent."""
    if re.search(r"\bno-(store|cache)\b", cache_control, re.IGNORECASE):
        return 0
    match = re.search(r"\bmax-age=\"?([0-9]{1,9})", cache_control, re.IGNORECASE)
    return int(match[1]) if match else None
