"""One fetch of a key set, from real servers that behave well and badly."""

from __future__ import annotations

import datetime as dt
import ipaddress
import socket
import ssl
import subprocess
import sys
import time
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from jwt_audit.errors import KeySourceError
from jwt_audit.tokens import fetch
from support.issuer import jwks_server, signing_key


def test_an_answer_and_how_long_it_may_be_kept() -> None:
    """The body as it is, and max-age; neither cookies nor credentials are sent."""
    with jwks_server() as server:
        server.body = b'{"keys": []}'
        server.headers = {"Cache-Control": "public, max-age=600, must-revalidate"}
        answer = fetch.get(f"{server.url}?tenant=a")
        assert (answer.body, answer.max_age) == (server.body, 600)
        assert not {"cookie", "authorization"} & set(server.seen[0])


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("", None),
        ("public", None),
        ("max-age=0", 0),
        ("no-store", 0),
        ("no-cache, max-age=600", 0),
        ('Max-Age="60"', 60),
        ("s-maxage=5", None),
        ("max-age=-1", None),
        ("max-age=" + "9" * 40, 999_999_999),
    ],
)
def test_cache_control(header: str, seconds: int | None) -> None:
    """``max-age`` as it is written; 0 for what must not be kept; nothing where it is silent."""
    with jwks_server() as server:
        server.headers = {"Cache-Control": header}
        assert fetch.get(server.url).max_age == seconds


@pytest.mark.parametrize(
    "url",
    [
        "http://as.example.com/jwks",
        "http://127.0.0.1.example.com/jwks",
        "http://localhost.example.com/jwks",
        "http://0x7f.1/jwks",
        "ftp://127.0.0.1/jwks",
        "file:///etc/passwd",
        "https://",
        "https://user:secret@as.example.com/jwks",
        "https://[::1/jwks",
        "https://as.example.com:0/jwks",
        "https://as.example.com:99999/jwks",
        "jwks",
    ],
)
def test_only_https_or_this_machine(url: str) -> None:
    """Whoever can answer in the issuer's place can sign for everybody; the error shows no credentials."""
    with pytest.raises(KeySourceError) as caught:
        fetch.checked_url(url)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.10", "localhost", "[::1]"])
def test_plain_http_on_this_machine(host: str) -> None:
    """A sidecar or a test needs no certificate."""
    assert fetch.checked_url(f"http://{host}:8080/jwks").port == 8080


@pytest.mark.parametrize("status", [204, 301, 302, 307, 404, 500, 503])
def test_anything_but_200_is_a_failure(status: int) -> None:
    """No redirect is followed: not to another scheme, host, or anywhere."""
    with jwks_server() as other, jwks_server() as server:
        server.status = status
        server.headers = {"Location": other.url}
        with pytest.raises(KeySourceError, match=f"answers {status}"):
            fetch.get(server.url)
        assert other.requests == []


def test_too_long_an_answer() -> None:
    """Reading stops at the limit, whether or not the length was announced."""
    with jwks_server() as server:
        server.body = b" " * (fetch.MAX_BYTES + 1)
        with pytest.raises(KeySourceError, match="more than"):
            fetch.get(server.url)
        server.body = b" " * fetch.MAX_BYTES
        assert len(fetch.get(server.url).body) == fetch.MAX_BYTES


def test_no_content_encoding_is_unpacked() -> None:
    """A bomb in gzip stays as small as it is."""
    with jwks_server() as server:
        server.body = b"\x1f\x8b not unpacked"
        server.headers = {"Content-Encoding": "gzip"}
        assert fetch.get(server.url).body == server.body
        assert server.seen[0]["accept-encoding"] == "identity"


def _silence(handler: BaseHTTPRequestHandler) -> None:
    time.sleep(30)


def _drip_headers(handler: BaseHTTPRequestHandler) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
    for _ in range(600):
        handler.wfile.write(b"x")
        time.sleep(0.05)


def _drip_body(handler: BaseHTTPRequestHandler) -> None:
    handler.wfile.write(b"HTTP/1.0 200 OK\r\n\r\n")
    for _ in range(600):
        handler.wfile.write(b" ")
        time.sleep(0.05)


@pytest.mark.parametrize("behaviour", [_silence, _drip_headers, _drip_body])
def test_the_deadline_holds_however_busily_it_trickles(behaviour: object) -> None:
    """A server that hangs, or sends a byte now and then, is left when the time is over."""
    with jwks_server() as server:
        server.answer = behaviour  # type: ignore[assignment]
        started = time.monotonic()
        with pytest.raises(KeySourceError, match=r"did not answer in time \(0\.3 s passed"):
            fetch.get(server.url, deadline=0.3)
        assert time.monotonic() - started < 20


def _cut_short(handler: BaseHTTPRequestHandler) -> None:
    handler.wfile.write(b'HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{"keys":')
    handler.close_connection = True


def _no_http(handler: BaseHTTPRequestHandler) -> None:
    handler.wfile.write(b"\0\1\2 SECRET-LOOKING RUBBISH\r\n\r\n")
    handler.close_connection = True


@pytest.mark.parametrize("behaviour", [_cut_short, _no_http])
def test_a_broken_answer_is_a_failure_and_is_not_quoted(behaviour: object) -> None:
    """Half an answer is none, and what came is not repeated in the message."""
    with jwks_server() as server:
        server.answer = behaviour  # type: ignore[assignment]
        with pytest.raises(KeySourceError) as caught:
            fetch.get(server.url)
        assert "SECRET" not in str(caught.value)


def test_nobody_there() -> None:
    """A refused connection says so."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(KeySourceError, match="Connection refused"):
        fetch.get(f"http://127.0.0.1:{port}/jwks")


def test_the_certificate_must_be_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """https is verified against the system's authorities, as SSL_CERT_FILE extends them."""
    key = signing_key("ES256")
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "issuer")])
    start = dt.datetime.now(dt.timezone.utc) - dt.timedelta(days=1)
    here = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    made = (
        x509.CertificateBuilder(name, name, key.public, 1, start, start + dt.timedelta(days=2))
        .add_extension(here, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key.private, hashes.SHA256())
    )
    certificate = tmp_path / "certificate.pem"
    certificate.write_bytes(made.public_bytes(Encoding.PEM))
    private = tmp_path / "key.pem"
    private.write_bytes(key.private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, private)
    with jwks_server(
        wrap=lambda listening: context.wrap_socket(listening, server_side=True, do_handshake_on_connect=False)
    ) as server:
        server.body = b"{}"
        with pytest.raises(KeySourceError, match="certificate"):
            fetch.get(server.url)
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        assert fetch.get(server.url).body == b"{}"
        with pytest.raises(KeySourceError, match="certificate"):
            fetch.get(server.url.replace("127.0.0.1", "localhost"))


def test_the_http_client_is_imported_by_the_fetch_alone() -> None:
    """Starting an app does not pay for it."""
    script = "import sys, jwt_audit.tokens.verify, jwt_audit.tokens.issuers; print('urllib3' in sys.modules)"
    shown = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "False"
