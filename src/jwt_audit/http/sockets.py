"""Sockets that keep to the limits of one HTTP exchange: a deadline, and a number of bytes that may arrive.

A socket's own timeout starts anew with every byte. Here each call gets what is left of the whole
exchange, at the lowest place there is: below TLS, below a proxy's tunnel, below the parser of HTTP.
So it makes no difference which part of an answer drips in, or never ends.
"""

from __future__ import annotations

import re
import socket
import ssl
import threading
import time
from collections.abc import Mapping
from enum import Enum
from typing import TYPE_CHECKING, Any

from urllib3.util.ssltransport import SSLTransport

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

_TUNNEL_HEAD = 16 * 1024


class Stage(Enum):
    """How far an exchange is; the value goes on from "while"."""

    NAME = "looking up its name"
    CONNECT = "connecting"
    PROXY_TLS = "in the TLS handshake with the proxy"
    PROXY = "waiting for the proxy"
    TLS = "in the TLS handshake"
    SEND = "sending the request"
    HEAD = "waiting for the head of the answer"
    BODY = "reading the body of the answer"


class FloodError(OSError):
    """More bytes arrived than the exchange may have."""


class ProxyRefusedError(ConnectionError):
    """The proxy did not connect us; the message has its status at most."""


class Limits:
    """What is left of the exchange under way, and how far it is. For one thread.

    ``late`` and ``flooded`` say afterwards which limit ended it, whatever error came of that; ``ended``,
    that the other side has closed and we have read up to there.
    """

    def __init__(self) -> None:
        self.begin(0.0, 0)

    def begin(self, seconds: float, incoming: int) -> None:
        """A new exchange may take ``seconds`` and receive ``incoming`` bytes, all of TLS and HTTP included."""
        self._deadline = time.monotonic() + seconds
        self._incoming = incoming
        self.late = self.flooded = self.ended = False
        self.stage = Stage.NAME

    def seconds(self) -> float:
        """Seconds left. Raises TimeoutError where there are none."""
        left = self._deadline - time.monotonic()
        if left <= 0:
            self.late = True
            raise TimeoutError
        return left

    def count(self, arrived: int) -> None:
        """So many bytes were read, 0 at the end. Raises FloodError."""
        self.ended = self.ended or not arrived
        self._incoming -= arrived
        if self._incoming < 0:
            self.flooded = True
            raise FloodError


class LimitedSocket(socket.socket):
    """A TCP socket under `Limits`."""

    def __init__(self, limits: Limits, *address_kind: int) -> None:
        super().__init__(*address_kind)
        self._limits = limits

    def recv(self, bufsize: int, flags: int = 0, /) -> bytes:
        self._arm()
        data = self._within(super().recv, bufsize, flags)
        self._limits.count(len(data))
        return bytes(data)

    def recv_into(self, buffer: WriteableBuffer, nbytes: int = 0, flags: int = 0) -> int:
        self._arm()
        count = int(self._within(super().recv_into, buffer, nbytes, flags))
        self._limits.count(count)
        return count

    def sendall(self, data: ReadableBuffer, flags: int = 0, /) -> None:
        self._arm()
        self._within(super().sendall, data, flags)  # its timeout is one for all that it sends

    def _arm(self) -> None:
        self.settimeout(self._limits.seconds())

    def _within(self, call: Any, *arguments: Any) -> Any:
        try:
            return call(*arguments)
        except TimeoutError:
            self._limits.late = True
            raise


class TLS(SSLTransport):
    """TLS over a `LimitedSocket`, or over another TLS; the handshake is made at once. Raises OSError."""

    def __init__(self, below: LimitedSocket | TLS, context: ssl.SSLContext, host: str, limits: Limits) -> None:
        self._limits = limits
        super().__init__(below, context, host)  # type: ignore[arg-type]  # it may be a TLS: that is what it is for

    def recv(self, buflen: int = 1024, flags: int = 0) -> bytes:
        return bytes(super().recv(buflen, flags) or b"")  # at the end it has 0

    def recv_into(self, buffer: Any, nbytes: int | None = None, flags: int = 0) -> int:
        count = int(super().recv_into(buffer, nbytes, flags) or 0)
        if not count:  # also by TLS's own end, below which the connection may go on
            self._limits.ended = True
        return count


def connect(host: str, port: int, limits: Limits) -> LimitedSocket:
    """Connected to the first of the host's addresses that answers. Raises OSError.

    Each address gets its share of the time that is left, so one that never answers does not keep the
    next from being tried.
    """
    limits.stage = Stage.NAME
    addresses = _resolve(host, port, limits)
    limits.stage = Stage.CONNECT
    failed: OSError = ConnectionError("the name has no address")
    for index, (family, kind, protocol, _, address) in enumerate(addresses):
        share = limits.seconds() / (len(addresses) - index)
        made = LimitedSocket(limits, family, kind, protocol)
        try:
            made.settimeout(share)
            made.connect(address)
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError as error:
            made.close()
            failed = error
        else:
            return made
    if isinstance(failed, TimeoutError):
        limits.late = True
    raise failed


_Address = tuple[Any, Any, int, str, Any]


def _resolve(host: str, port: int, limits: Limits) -> list[_Address]:
    """The host's addresses. A resolver cannot be told how long it may take: so it is asked in a thread."""
    try:
        return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    except socket.gaierror:
        pass  # it is a name, no address
    outcome: list[list[_Address] | Exception] = []

    def ask() -> None:
        try:
            outcome.append(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        except Exception as error:  # UnicodeError of a label that is too long, too
            outcome.append(error)

    asking = threading.Thread(target=ask, name="jwt-audit-name", daemon=True)
    try:
        asking.start()
    except RuntimeError:  # the interpreter is ending (Python 3.12), and the last records are on their way
        ask()
    else:
        asking.join(limits.seconds())
    if not outcome:
        limits.late = True
        raise TimeoutError
    (found,) = outcome
    if isinstance(found, Exception):
        raise found
    return found


def tunnel(through: LimitedSocket | TLS, authority: str, headers: Mapping[str, str]) -> None:
    """Have the proxy at the other end connect us to ``authority`` (``host:port``), by CONNECT (RFC 9110, 9.3.6).

    Raises ProxyRefusedError where it does not.
    """
    lines = (f"{name}: {value}" for name, value in {"Host": authority, **headers}.items())
    through.sendall("\r\n".join((f"CONNECT {authority} HTTP/1.1", *lines, "", "")).encode("latin-1"))
    head = b""
    while b"\r\n\r\n" not in head:
        more = through.recv(4096)
        head += more
        if not more or len(head) > _TUNNEL_HEAD:
            raise ProxyRefusedError("the proxy did not answer CONNECT")
    status = re.match(rb"HTTP/1\.[01] ([0-9]{3})[ \r]", head)
    # Nothing may follow a 200: at the other end nobody speaks before we do
    if status is None or (status[1][:1] == b"2" and not head.endswith(b"\r\n\r\n")):
        raise ProxyRefusedError("the proxy's answer to CONNECT cannot be read")
    if status[1][:1] != b"2":
        raise ProxyRefusedError(f"the proxy answers {status[1].decode()}")
