"""The HTTP client of this package: records are sent by it, and keys are fetched by it.

Invariants, for every exchange: one deadline holds from the look-up of the name to the last byte of the
answer, and one limit for all that arrives, so an answer that drips or never ends costs no more than
that. No redirect is followed, nothing is tried twice, no content encoding is asked for or unpacked.
What went wrong is told by an `ExchangeError` without any header, body, query or credentials in it.

Loads urllib3: import it where an exchange is made, not at the start of an app.
"""

from __future__ import annotations

import base64
import http.client
import ssl
from collections.abc import Mapping
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, cast

from urllib3.util import Url, parse_url
from urllib3.util.wait import wait_for_read

from .exchange import ExchangeError, Failure, Response
from .proxies import Proxy, proxy_for
from .sockets import TLS, FloodError, LimitedSocket, Limits, ProxyRefusedError, Stage, connect, tunnel

if TYPE_CHECKING:
    import socket

OVERHEAD = 256 * 1024
"""Bytes that may arrive beside a body: certificates, heads, what frames it."""
_READ = 64 * 1024

_BEFORE = frozenset({Stage.NAME, Stage.CONNECT, Stage.PROXY_TLS, Stage.PROXY})
"""What fails here has not reached the server."""
_Route = tuple[str | None, str, int, Proxy | None]
"""Scheme, host and port of a server, and the proxy on the way to it."""


class Client:
    """Keeps the connection to the server that was asked last. For one thread.

    ``certificate`` is a file of the authorities that are trusted instead of the system's (which
    SSL_CERT_FILE extends); ``client_certificate`` and ``client_key`` are for mTLS. Each is read again
    for each connection. A longer answer than ``max_body`` bytes is read no further.
    """

    def __init__(
        self,
        *,
        max_body: int,
        certificate: Path | None = None,
        client_certificate: Path | None = None,
        client_key: Path | None = None,
    ) -> None:
        self._max_body = max_body
        self._certificate = certificate
        self._client_certificate = client_certificate
        self._client_key = client_key
        self._limits = Limits()
        self._route: _Route | None = None
        self._connection: http.client.HTTPConnection | None = None

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def exchange(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes | None = None,
        *,
        timeout: float,
        direct: bool = False,
    ) -> Response:
        """Send one request; its answer within ``timeout`` seconds, whatever its status. Raises ExchangeError.

        A proxy is used as `proxy_for` says, unless ``direct``.
        """
        self._limits.begin(timeout, self._max_body + OVERHEAD)
        kept = False
        try:
            target = _target(url)
            connection = self._connected(target, None if direct else proxy_for(url))
            response, kept = self._ask(connection, target, method, headers, body)
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise self._explained(error, timeout) from error
        finally:
            if not kept:
                self.close()
        return response

    def close(self) -> None:
        """Close the connection; the next exchange opens one."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _connected(self, target: Url, proxy: Proxy | None) -> http.client.HTTPConnection:
        """The connection of the exchange before, where it is of use still, else a new one."""
        host = (target.host or "").strip("[]")
        route = (target.scheme, host, target.port or (443 if target.scheme == "https" else 80), proxy)
        before = self._connection
        # Readable is what the server closed, and what holds bytes that nobody asked for
        if self._route == route and before and before.sock and not wait_for_read(before.sock, timeout=0.0):
            return before
        self.close()
        connection = http.client.HTTPConnection(host, route[2])
        connection.auto_open = 0
        connection.sock = cast("socket.socket", self._open(route))  # http.client needs no more of one than TLS has
        self._route, self._connection = route, connection
        return connection

    def _open(self, route: _Route) -> LimitedSocket | TLS:
        """What the server is at the other end of. Raises OSError."""
        scheme, host, port, proxy = route
        limits = self._limits
        context = self._context() if scheme == "https" else None
        made: LimitedSocket | TLS
        made = connect(proxy.host, proxy.port, limits) if proxy else connect(host, port, limits)
        try:
            if proxy is not None and proxy.tls:
                limits.stage = Stage.PROXY_TLS
                made = TLS(made, ssl.create_default_context(), proxy.host, limits)
            if context is not None:
                if proxy is not None:
                    limits.stage = Stage.PROXY
                    authority = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
                    tunnel(made, authority, _proxy_headers(proxy))
                limits.stage = Stage.TLS
                made = TLS(made, context, host, limits)
        except BaseException:
            made.close()
            raise
        return made

    def _context(self) -> ssl.SSLContext:
        """Raises ExchangeError that names the file, which ssl's errors do not."""
        path = self._certificate
        try:
            context = ssl.create_default_context(cafile=path)
            if self._client_certificate is not None:
                for path in (self._client_key, self._client_certificate):
                    if path is not None:
                        path.open("rb").close()
                # Without a password, OpenSSL would ask the terminal for that of an encrypted key
                context.load_cert_chain(self._client_certificate, self._client_key, password="")
        except (ssl.SSLError, FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError) as error:
            raise ExchangeError(Failure.TLS, f"{path}: {error.strerror}") from error
        return context

    def _ask(
        self,
        connection: http.client.HTTPConnection,
        target: Url,
        method: str,
        headers: Mapping[str, str],
        body: bytes | None,
    ) -> tuple[Response, bool]:
        """The answer, and whether the connection may be used again."""
        limits = self._limits
        limits.stage = Stage.SEND
        sent = {"Host": target.netloc or "", "Accept-Encoding": "identity", **headers}
        path = target.request_uri
        proxy = self._route[3] if self._route else None
        if proxy is not None and target.scheme == "http":
            path = target._replace(auth=None, fragment=None).url
            sent.update(_proxy_headers(proxy))
        with suppress(BrokenPipeError, ConnectionResetError):  # who refuses a long body may answer and not read on
            connection.request(method, path, body, sent)
        limits.stage = Stage.HEAD
        answer = connection.getresponse()
        with closing(answer):
            if limits.ended:  # http.client takes an end within the head for the end of the head
                raise http.client.IncompleteRead(b"")
            limits.stage = Stage.BODY
            framed = answer.chunked or answer.length is not None
            body_read = self._read(answer)
        fields = {name.lower(): value for name, value in answer.getheaders()}
        response = Response(answer.status, fields, body_read or b"", body_read is not None, framed)
        # After a 1xx that nobody asked for the answer proper follows: it must not be taken for the next one's
        reusable = response.complete and answer.status >= 200 and connection.sock is not None
        return response, reusable

    def _read(self, answer: http.client.HTTPResponse) -> bytes | None:
        """The body; None where it is too long."""
        content = bytearray()
        try:
            while more := answer.read(_READ):
                content += more
                if len(content) > self._max_body:
                    return None
        except FloodError:
            return None
        if answer.length:  # known only by a read that finds nothing more
            raise http.client.IncompleteRead(b"")
        return bytes(content)

    def _explained(self, error: Exception, timeout: float) -> ExchangeError:
        limits = self._limits
        if limits.late:
            return ExchangeError(Failure.TIMEOUT, f"{timeout:g} s passed while {limits.stage.value}")
        if limits.flooded:
            return ExchangeError(Failure.NO_HTTP, f"more than {self._max_body + OVERHEAD} bytes, {limits.stage.value}")
        why = (error.strerror or "") if isinstance(error, OSError) else ""
        if isinstance(error, (http.client.RemoteDisconnected, http.client.IncompleteRead, ssl.SSLEOFError)):
            return ExchangeError(Failure.LOST)
        if isinstance(error, ssl.SSLError):
            return ExchangeError(Failure.TLS, why)
        if limits.stage in _BEFORE:
            return ExchangeError(Failure.UNREACHABLE, why or _own_word(error))
        if isinstance(error, OSError):
            return ExchangeError(Failure.LOST, why)
        return ExchangeError(Failure.NO_HTTP)


def _own_word(error: Exception) -> str:
    """What `sockets` says; no text of others, which may quote what was sent or read."""
    return str(error) if isinstance(error, ProxyRefusedError) else ""


def _target(url: str) -> Url:
    try:
        return parse_url(url)
    except ValueError as error:
        raise ExchangeError(Failure.UNREACHABLE, "its URL cannot be read") from error


def _proxy_headers(proxy: Proxy) -> dict[str, str]:
    if proxy.login is None:
        return {}
    return {"Proxy-Authorization": f"Basic {base64.b64encode(proxy.login.encode()).decode('ascii')}"}
