"""An issuer for tests: real keys, tokens of any form however wrong, and a JWKS server on loopback."""

from __future__ import annotations

import base64
import datetime as dt
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm, get_default_algorithms

from jwt_audit.settings.issuer import IssuerSettings
from jwt_audit.tokens.issuers import Issuer
from jwt_audit.tokens.jwks import KeySet
from jwt_audit.tokens.keys import KeySource

NOW = 1_795_500_000
"""The time at which the tokens of these tests are issued."""
ISSUER = "https://as.example.com/"
AUDIENCE = "api"
SECRET = b"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

_CURVES: dict[str, ec.EllipticCurve] = {
    "ES256": ec.SECP256R1(),
    "ES384": ec.SECP384R1(),
    "ES512": ec.SECP521R1(),
    "ES256K": ec.SECP256K1(),
}


def signing_issuer(keys: KeySource, algorithms: frozenset[str], **settings: Any) -> Issuer:
    """An issuer of these settings; its tokens name somebody by ``sub`` and a session by ``sid`` unless they say so."""
    return Issuer(IssuerSettings("test", **{"subject": ("sub",), "session": ("sid",), **settings}), keys, algorithms)


def b64(data: bytes) -> str:
    """Base64url without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


@dataclass(frozen=True)
class SigningKey:
    """A private key (bytes: a shared secret) and the algorithm that it signs with by default."""

    private: Any
    algorithm: str

    @property
    def public(self) -> Any:
        return self.private.public_key()

    @property
    def pem(self) -> bytes:
        return bytes(self.public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))

    @property
    def der(self) -> bytes:
        return bytes(self.public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))

    @property
    def certificate(self) -> bytes:
        """A self-signed certificate of the key, long expired, in DER."""
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "issuer")])
        start = dt.datetime(2020, 1, 1, tzinfo=dt.timezone.utc)
        builder = x509.CertificateBuilder(name, name, self.public, 1, start, start + dt.timedelta(days=1))
        return builder.sign(self.private, hashes.SHA256()).public_bytes(Encoding.DER)

    @property
    def pem_certificate(self) -> bytes:
        body = base64.encodebytes(self.certificate)
        return b"-----BEGIN CERTIFICATE-----\n" + body + b"-----END CERTIFICATE-----\n"

    def jwk(self, kid: str | None = None, **members: Any) -> dict[str, Any]:
        """The public key as a JWK without ``alg`` and ``use``, unless given; a member None is left out."""
        how: Any = {"RS": RSAAlgorithm, "PS": RSAAlgorithm, "ES": ECAlgorithm, "Ed": OKPAlgorithm}[self.algorithm[:2]]
        found = dict(how.to_jwk(self.public, as_dict=True))
        found.pop("key_ops", None)
        named = {"kid": kid} if kid is not None else {}
        return {name: value for name, value in {**found, **named, **members}.items() if value is not None}

    def sign(self, payload: Any, *, algorithm: str | None = None, **header: Any) -> str:
        """A token. ``payload`` is JSON to be, or bytes as they are; a header None is left out."""
        algorithm = algorithm or self.algorithm
        whole = {"alg": algorithm, "typ": "JWT", **header}
        return self.sign_raw({name: value for name, value in whole.items() if value is not None}, payload, algorithm)

    def sign_raw(self, header: Any, payload: Any, algorithm: str | None = None) -> str:
        """A token whose header is exactly ``header``, whatever ``algorithm`` signs it."""
        return self._sign(header, payload, algorithm, b64)

    def sign_padded(self, header: Any, payload: Any) -> str:
        """A token that keeps the padding of its base64 and is signed over it, as AWS' load balancers write them."""
        return self._sign(header, payload, None, lambda data: base64.urlsafe_b64encode(data).decode())

    def _sign(self, header: Any, payload: Any, algorithm: str | None, encode: Callable[[bytes], str]) -> str:
        parts = [part if isinstance(part, bytes) else json.dumps(part).encode() for part in (header, payload)]
        signing_input = ".".join(map(encode, parts))
        how = get_default_algorithms()[algorithm or self.algorithm]
        return f"{signing_input}.{encode(how.sign(signing_input.encode(), self.private))}"


@cache
def signing_key(algorithm: str = "RS256", number: int = 0) -> SigningKey:
    """A key made once for the whole run; another ``number`` is another key."""
    if algorithm.startswith("HS"):
        return SigningKey(SECRET, algorithm)
    if algorithm in _CURVES:
        return SigningKey(ec.generate_private_key(_CURVES[algorithm]), algorithm)
    if algorithm == "EdDSA":
        return SigningKey(ed448.Ed448PrivateKey.generate() if number == 448 else _ed25519(), algorithm)
    return SigningKey(rsa.generate_private_key(public_exponent=65537, key_size=2048), algorithm)


def _ed25519() -> ed25519.Ed25519PrivateKey:
    return ed25519.Ed25519PrivateKey.generate()


class FixedKeys(KeySource):
    """Keys that are there from the start and never read again."""

    def __init__(self, keys: KeySet) -> None:
        super().__init__("fixed", lambda *_, **__: None)
        self.keys = keys
        self.refreshing = False
        self._answered.set()

    def _read(self) -> tuple[KeySet | None, float]:
        return self.keys, 3600

    def start(self) -> None:
        return

    def want(self, key_id: str | None) -> None:
        return


Start = Callable[[KeySource], KeySource]
"""Starts a source of keys, and gives it back."""


class Told(list[str]):
    """What the operator was told."""

    def __call__(self, message: str, **_: Any) -> None:
        self.append(message)


def claims(**changes: Any) -> dict[str, Any]:
    """The claims of a good token; a change to None removes one."""
    base = {"iss": ISSUER, "sub": "u1001", "aud": AUDIENCE, "iat": NOW, "exp": NOW + 3600, "sid": "s-1", "jti": "j-1"}
    return {name: value for name, value in {**base, **changes}.items() if value is not None}


def jwks(*keys: Any) -> bytes:
    """A JWK set of these entries."""
    return json.dumps({"keys": list(keys)}).encode()


def eventually(happens: Callable[[], bool], seconds: float = 60.0) -> bool:
    """Whether ``happens`` becomes true within ``seconds``."""
    until = time.monotonic() + seconds
    while not happens():
        if time.monotonic() > until:
            return False
        time.sleep(0.005)
    return True


class JwksServer:
    """What a test's issuer answers: ``body`` with ``status`` and ``headers``, or whatever ``answer`` writes."""

    def __init__(self) -> None:
        self.body = b""
        self.status = 200
        self.headers: dict[str, str] = {}
        self.answer: Callable[[BaseHTTPRequestHandler], None] | None = None
        self.requests: list[float] = []
        """When each request came (monotonic seconds)."""
        self.seen: list[dict[str, str]] = []
        """The request headers, in lower case."""
        self.url = ""

    def write(self, handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(self.status)
        for name, value in {"Content-Length": str(len(self.body)), **self.headers}.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(self.body)


class Site:
    """A server with a page for each path, others are 404: an issuer's metadata and whatever it leads to."""

    def __init__(self, server: JwksServer) -> None:
        self.server = server
        self.base = server.url.removesuffix("/jwks")
        self.pages: dict[str, bytes] = {}
        self.asked: list[str] = []
        server.answer = self._answer

    def _answer(self, handler: BaseHTTPRequestHandler) -> None:
        self.asked.append(handler.path)
        body = self.pages.get(handler.path)
        handler.send_response(404 if body is None else 200)
        handler.send_header("Content-Length", str(len(body or b"")))
        handler.end_headers()
        handler.wfile.write(body or b"")

    def metadata(self, issuer: Any = ISSUER, **members: Any) -> None:
        found = {"issuer": issuer, "jwks_uri": f"{self.base}/keys", **members}
        self.pages["/meta"] = json.dumps(found).encode()


@contextmanager
def jwks_server(port: int = 0, wrap: Callable[[Any], Any] | None = None) -> Iterator[JwksServer]:
    """A running `JwksServer` on loopback, stopped at the end; ``wrap`` turns its socket into a TLS one."""
    served = JwksServer()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            served.requests.append(time.monotonic())
            served.seen.append({name.lower(): value for name, value in self.headers.items()})
            try:
                (served.answer or served.write)(self)
            except OSError:
                self.close_connection = True  # the client was tired of waiting

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  the signature of http.server
            pass

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    server.daemon_threads = True
    if wrap is not None:
        server.socket = wrap(server.socket)
    served.url = f"http{'s' if wrap else ''}://127.0.0.1:{server.server_address[1]}/jwks"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield served
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
