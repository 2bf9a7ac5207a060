"""One POST to the receiver by OTLP/HTTP, and its answer as `answers` knows it.

Invariants: no redirect is followed, nothing is retried here, no response is read beyond its bound or
its time, and no header's value ever stands in a message. The configured certificate is the one that
counts: no variable of another library overrides it.
"""

from __future__ import annotations

import gzip
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from ..attributes import text
from ..values import is_loopback
from .answers import Answer, Failure
from .encode import rejected

if TYPE_CHECKING:
    from urllib3 import BaseHTTPResponse, PoolManager

MAX_RESPONSE = 64 * 1024
"""Bytes of a response; a longer one is no OTLP response."""
MAX_RETRY_AFTER = 300.0
_MAX_DETAIL = 200
_RESERVED = frozenset({"content-type", "content-encoding", "content-length", "transfer-encoding", "host"})


@dataclass(frozen=True)
class Endpoint:
    """Where records go. ``certificate`` is the CA file, ``client_*`` are for mTLS; ``timeout`` in seconds."""

    url: str
    protocol: str = "http/protobuf"
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    certificate: Path | None = None
    client_certificate: Path | None = None
    client_key: Path | None = None
    timeout: float = 10.0
    gzip: bool = True

    @property
    def shown(self) -> str:
        """The URL as it may be shown: without its query, which may hold a secret."""
        return urlsplit(self.url)._replace(query="").geturl()


class Poster:
    """Keeps the connection to one endpoint. For one thread; urllib3 is imported at the first POST."""

    def __init__(self, endpoint: Endpoint, content_type: str) -> None:
        self._endpoint = endpoint
        self._content_type = content_type
        self._pool: PoolManager | None = None
        own = {name: value for name, value in endpoint.headers if name.lower() not in _RESERVED}
        # Latin-1 is what http.client encodes by: so other characters leave as their UTF-8 bytes
        self._headers = {name: value.encode("utf-8").decode("latin-1") for name, value in own.items()}
        self._headers.setdefault("User-Agent", "jwt-audit")
        self._headers["Content-Type"] = content_type
        if endpoint.gzip:
            self._headers["Content-Encoding"] = "gzip"
        secrets = {part for _, value in endpoint.headers for part in (value, *value.split()) if len(part) > 3}
        # The longest first: a part of a value must not break the match of the whole
        self._secrets = sorted(secrets, key=len, reverse=True)

    def post(self, body: bytes, *, timeout: float | None = None) -> Answer:
        """Send ``body`` once. Never raises for what the network, the receiver or a certificate file does."""
        import urllib3
        from urllib3.exceptions import HTTPError

        limit = self._endpoint.timeout if timeout is None else min(timeout, self._endpoint.timeout)
        deadline = time.monotonic() + limit
        if self._endpoint.gzip:
            body = gzip.compress(body, compresslevel=1, mtime=0)
        try:
            if self._pool is None:
                self._pool = self._connect()
            response = self._pool.request(
                "POST",
                self._endpoint.url,
                body=body,
                headers=self._headers,
                timeout=urllib3.Timeout(total=limit),
                retries=False,
                redirect=False,
                preload_content=False,
            )
            return self._answer(response, deadline)
        except (HTTPError, OSError, ValueError) as error:
            causes = _causes(error)
            return Answer(failure=_failure(causes), detail=self._clean(_describe(causes)))

    def _connect(self) -> PoolManager:
        import urllib3

        endpoint = self._endpoint
        for path in (endpoint.certificate, endpoint.client_certificate, endpoint.client_key):
            if path is not None:
                path.open("rb").close()  # the error then names the file, as ssl's does not
        options: dict[str, Any] = {
            "num_pools": 1,
            "maxsize": 1,
            "ca_certs": endpoint.certificate and str(endpoint.certificate),
            "cert_file": endpoint.client_certificate and str(endpoint.client_certificate),
            "key_file": endpoint.client_key and str(endpoint.client_key),
        }
        proxy = _proxy(endpoint.url)
        if proxy is None:
            return urllib3.PoolManager(**options)
        parts = urlsplit(proxy)
        if parts.username:
            login = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            options["proxy_headers"] = urllib3.make_headers(proxy_basic_auth=login)
        return urllib3.ProxyManager(proxy, **options)

    def _answer(self, response: BaseHTTPResponse, deadline: float) -> Answer:
        """Read the response within its bounds. The connection is used again only after a whole one."""
        body = bytearray()
        try:
            while chunk := response.read1(8192, decode_content=True):
                body += chunk
                if len(body) > MAX_RESPONSE or time.monotonic() > deadline:
                    break
        except BaseException:
            response.close()
            raise
        if len(body) > MAX_RESPONSE:
            response.close()
            body.clear()
            return Answer(response.status, detail="an answer longer than any OTLP response")
        if time.monotonic() > deadline:
            response.close()
            return Answer(failure=Failure.TIMEOUT)
        response.release_conn()
        content_type = response.headers.get("Content-Type", "")
        if response.status == 204:
            return Answer(204, rejected=0)  # no content is all that may follow, whatever the form
        if response.status == 200:
            count, message = rejected(bytes(body), content_type, self._content_type)
            return Answer(200, rejected=count, detail=self._clean(message))
        return Answer(
            response.status,
            retry_after=_retry_after(response.headers),
            detail=self._clean(_status_message(bytes(body), content_type)),
        )

    def _clean(self, message: str) -> str:
        for secret in self._secrets:
            message = message.replace(secret, "…")
        return text(message.strip(), _MAX_DETAIL)

    def close(self) -> None:
        """Close the connection; the next POST opens one."""
        if self._pool is not None:
            self._pool.clear()
            self._pool = None


def _proxy(url: str) -> str | None:
    """The proxy that HTTP(S)_PROXY names for ``url``, unless NO_PROXY does or it is this machine."""
    from urllib.request import getproxies_environment, proxy_bypass_environment  # type: ignore[attr-defined]

    parts = urlsplit(url)
    proxies = getproxies_environment()
    if is_loopback(parts.hostname or "") or proxy_bypass_environment(parts.netloc.rpartition("@")[2], proxies):
        return None
    return proxies.get(parts.scheme)


def _causes(error: BaseException) -> list[BaseException]:
    """``error`` and all that it wraps, by whichever of the ways urllib3 wraps."""
    found: list[BaseException] = []
    queue: list[object] = [error]
    while queue:
        current = queue.pop(0)
        if isinstance(current, BaseException) and current not in found:
            found.append(current)
            queue += [current.__cause__, current.__context__, getattr(current, "reason", None), *current.args]
    return found


def _failure(causes: list[BaseException]) -> Failure:
    from http.client import BadStatusLine, IncompleteRead, RemoteDisconnected
    from ssl import SSLEOFError, SSLError

    from urllib3 import exceptions

    kinds: tuple[tuple[Failure, tuple[type[BaseException], ...]], ...] = (
        (Failure.LOST, (RemoteDisconnected, IncompleteRead, SSLEOFError)),
        (Failure.TLS, (exceptions.SSLError, SSLError)),
        (Failure.UNREACHABLE, (exceptions.NewConnectionError, exceptions.ProxyError)),  # some are TimeoutErrors too
        (Failure.TIMEOUT, (exceptions.TimeoutError, TimeoutError)),
        (Failure.LOST, (ConnectionError,)),
        (Failure.TLS, (FileNotFoundError, PermissionError, IsADirectoryError)),  # a certificate or key file
        (Failure.NO_HTTP, (BadStatusLine, exceptions.DecodeError, ValueError)),
    )
    for failure, classes in kinds:
        if any(isinstance(cause, classes) for cause in causes):
            return failure
    return Failure.LOST


def _describe(causes: list[BaseException]) -> str:
    """The innermost system error's own word, which names no header and no body."""
    for cause in reversed(causes):
        if isinstance(cause, OSError) and cause.strerror:
            return f"{cause.filename}: {cause.strerror}" if isinstance(cause.filename, str) else cause.strerror
    return ""


def _status_message(body: bytes, content_type: str) -> str:
    """The message of a google.rpc.Status, which OTLP sends with an error; empty where there is none."""
    import orjson

    kind = content_type.partition(";")[0].strip().lower()
    if kind == "application/json":
        try:
            message = orjson.loads(body).get("message")
        except (ValueError, AttributeError):
            return ""
        return message if isinstance(message, str) else ""
    if kind == "text/plain":
        return body[: 4 * _MAX_DETAIL].decode("utf-8", "replace")
    # Status {int32 code = 1; string message = 2}, found without the message's class
    match = re.match(rb"(?:\x08[\x00-\x7f])?\x12([\x00-\x7f]|[\x80-\xff][\x01-\x7f])", body)
    if kind != "application/x-protobuf" or match is None:
        return ""
    size = match[1][0] & 0x7F | (match[1][1] << 7 if len(match[1]) > 1 else 0)
    return body[match.end() : match.end() + size].decode("utf-8", "replace")


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds of a Retry-After in either form (RFC 9110, 10.2.3), bounded; None where there is none."""
    from email.utils import parsedate_to_datetime

    value = headers.get("Retry-After", "").strip()
    try:
        seconds = float(value) if value.isdigit() else parsedate_to_datetime(value).timestamp() - time.time()
    except (ValueError, TypeError, OverflowError):
        return None
    return min(max(seconds, 0.0), MAX_RETRY_AFTER)
