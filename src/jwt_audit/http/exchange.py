"""What an HTTP exchange can come to, without the client that makes it (loading this loads no HTTP library)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from ..errors import JWTAuditError


class Failure(Enum):
    """Why there was no answer; the value tells the operator."""

    UNREACHABLE = "cannot be reached"
    TIMEOUT = "did not answer in time"
    LOST = "closed the connection before it answered"
    TLS = "failed the TLS handshake or its certificate was refused"
    NO_HTTP = "does not speak HTTP"


class ExchangeError(JWTAuditError):
    """There was no answer. ``detail`` is the system's or our own word, never what was sent or read; may be empty."""

    def __init__(self, failure: Failure, detail: str = "") -> None:
        super().__init__(f"{failure.value} ({detail})" if detail else failure.value)
        self.failure = failure
        self.detail = detail


@dataclass(frozen=True, slots=True)
class Response:
    """An answer. ``headers`` have lowercase names; ``body`` is as it was sent, no content encoding is unpacked.

    ``complete`` is False where the body is longer than the client reads; what was read of it is dropped.
    ``framed`` is False where nothing but the connection's end says where the body ends, so that it may
    have been cut (RFC 9112, 6.3).
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    complete: bool = True
    framed: bool = True
