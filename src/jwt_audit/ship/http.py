"""One POST to the receiver by OTLP/HTTP, and its answer as `answers` knows it.

Invariants: what `http.client` holds for every exchange (one deadline, no redirect, nothing twice), and
no header's value ever stands in a message. The configured certificate is the one that counts: no
variable of another library overrides it.
"""

from __future__ import annotations

import gzip
import re
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from ..attributes import text
from ..http.exchange import ExchangeError, Response
from .answers import Answer
from .encode import rejected

if TYPE_CHECKING:
    from ..http.client import Client

MAX_RESPONSE = 64 * 1024
"""Bytes of a response; a longer one is no OTLP response."""
MAX_RETRY_AFTER = 300.0
_MAX_DETAIL = 200
_RESERVED = frozenset({"content-type", "content-encoding", "content-length", "transfer-encoding", "host"})


@dataclass(frozen=True)
class Endpoint:
    """Where records go. ``certificate`` is the CA file, ``client_*`` are for mTLS; ``timeout`` in seconds, of a whole
    exchange."""

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
    """Keeps the connection to one endpoint. For one thread; the client is loaded at the first POST."""

    def __init__(self, endpoint: Endpoint, content_type: str) -> None:
        self._endpoint = endpoint
        self._content_type = content_type
        self._client: Client | None = None
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
        from ..http.client import Client

        endpoint = self._endpoint
        if self._client is None:
            self._client = Client(
                max_body=MAX_RESPONSE,
                certificate=endpoint.certificate,
                client_certificate=endpoint.client_certificate,
                client_key=endpoint.client_key,
            )
        if endpoint.gzip:
            body = gzip.compress(body, compresslevel=1, mtime=0)
        limit = endpoint.timeout if timeout is None else min(timeout, endpoint.timeout)
        try:
            response = self._client.exchange("POST", endpoint.url, self._headers, body, timeout=limit)
        except ExchangeError as error:
            return Answer(failure=error.failure, detail=self._clean(error.detail))
        return self._answer(response)

    def _answer(self, response: Response) -> Answer:
        status = response.status
        if not response.complete:
            return Answer(status, detail="an answer longer than any OTLP response")
        if status == 204:
            return Answer(204, rejected=0)  # no content is all that may follow, whatever the form
        coding = response.headers.get("content-encoding", "identity").strip().lower()
        if coding != "identity":
            return Answer(status, detail="its answer is compressed, which was not asked for")
        if status == 200 and not response.framed:
            return Answer(200, detail="its answer has no length, so it may have been cut")
        content_type = response.headers.get("content-type", "")
        if status == 200:
            count, message = rejected(response.body, content_type, self._content_type)
            return Answer(200, rejected=count, detail=self._clean(message))
        return Answer(
            status,
            retry_after=_retry_after(response.headers.get("retry-after", "")),
            detail=self._clean(_status_message(response.body, content_type)),
        )

    def _clean(self, message: str) -> str:
        for secret in self._secrets:
            message = message.replace(secret, "…")
        return text(message.strip(), _MAX_DETAIL)

    def close(self) -> None:
        """Close the connection; the next POST opens one."""
        if self._client is not None:
            self._client.close()


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


def _retry_after(value: str) -> float | None:
    """Seconds of a Retry-After in either form (RFC 9110, 10.2.3), bounded; None where there is none."""
    from email.utils import parsedate_to_datetime

    value = value.strip()
    try:
        seconds = float(value) if value.isdigit() else parsedate_to_datetime(value).timestamp() - time.time()
    except (ValueError, TypeError, OverflowError):
        return None
    return min(max(seconds, 0.0), MAX_RETRY_AFTER)
