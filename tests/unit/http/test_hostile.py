"""Servers that drip, flood, stall and break off: an exchange ends in its time, within its memory, with a plain word.

Each is met by both uses of the client: a delivery and a fetch of keys.
"""

from __future__ import annotations

import itertools
import socket
import ssl
import time
import tracemalloc
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from jwt_audit.errors import KeySourceError
from jwt_audit.http.client import OVERHEAD, Client
from jwt_audit.http.exchange import ExchangeError, Failure
from jwt_audit.ship.http import MAX_RESPONSE, Endpoint, Poster
from jwt_audit.tokens import fetch
from support.raw import Authority, raw_server, read_request

TIMEOUT = 0.5
SLACK = 2.0
"""Seconds, for a machine that is busy with other things; an endless server would take for ever."""
MEMORY = 8 * 2**20
"""Bytes; the fetch of a key set may hold one of 1 MiB, a few times over."""
SECRET = "s3cr3t-t0ken"

LONG = bytes(2**24)
"""More than the system takes off a sender's hands by itself."""

Talk = Callable[[socket.socket], None]
OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"


def answering(start: bytes, then: Iterable[bytes] = (), pause: float = 0.0) -> Talk:
    """Reads the request, sends ``start`` and each of ``then``, ``pause`` seconds apart, and closes."""

    def talk(connection: socket.socket) -> None:
        read_request(connection)
        connection.sendall(start)
        for piece in then:
            time.sleep(pause)
            connection.sendall(piece)

    return talk


def drip(start: bytes, piece: bytes = b"x") -> Talk:
    return answering(start, itertools.repeat(piece), 0.02)


def flood(start: bytes, piece: bytes) -> Talk:
    return answering(start, itertools.repeat(piece * (65536 // len(piece))))


def hold(start: bytes) -> Talk:
    return answering(start, [b""], 3 * TIMEOUT)


@dataclass(frozen=True)
class Case:
    """A server's behaviour; ``end`` is the failure it must come to, or the status where there is an answer."""

    talk: Talk
    end: Failure | int
    said: str = ""
    complete: bool = True


HEAD, BODY = "waiting for the head of the answer", "reading the body of the answer"
LATE = Failure.TIMEOUT
CASES = {
    "nothing": Case(hold(b""), LATE, HEAD),
    "drip status line": Case(drip(b"HTTP/1.1 200 "), LATE, HEAD),
    "drip header name": Case(drip(OK + b"X-"), LATE, HEAD),
    "drip header value": Case(drip(OK + b"X-Slow: "), LATE, HEAD),
    "drip headers": Case(drip(OK, b"X: y\r\n"), LATE, HEAD),
    "drip 100s": Case(drip(b"", b"HTTP/1.1 100 Continue\r\n\r\n"), LATE, HEAD),
    "drip body": Case(drip(OK + b"Content-Length: 999\r\n\r\n"), LATE, BODY),
    "drip body without length": Case(drip(OK + b"\r\n"), LATE, BODY),
    "drip chunk size": Case(drip(CHUNKED, b"0"), LATE, BODY),
    "drip chunk extension": Case(drip(CHUNKED + b"1;"), LATE, BODY),
    "drip chunks": Case(drip(CHUNKED, b"1\r\n \r\n"), LATE, BODY),
    "drip chunk": Case(drip(CHUNKED + b"3e7\r\n", b" "), LATE, BODY),
    "drip trailer": Case(drip(CHUNKED + b"0\r\nX-Slow: "), LATE, BODY),
    "drip trailers": Case(drip(CHUNKED + b"0\r\n", b"X: y\r\n"), LATE, BODY),
    "stop in head": Case(hold(OK + b"X-"), LATE, HEAD),
    "stop in body": Case(hold(OK + b"Content-Length: 9\r\n\r\n{"), LATE, BODY),
    "flood of 100s": Case(flood(b"", b"HTTP/1.1 100 Continue\r\n\r\n"), Failure.NO_HTTP),
    "flood of a status line": Case(flood(b"HTTP/1.1 200 ", b"x"), Failure.NO_HTTP),
    "flood of a header": Case(flood(OK + b"X: ", b"x"), Failure.NO_HTTP),
    "flood of headers": Case(flood(OK, b"X: y\r\n"), Failure.NO_HTTP),
    "flood of long headers": Case(flood(OK, b"X: " + b"y" * 32_000 + b"\r\n"), Failure.NO_HTTP),
    "flood of a body": Case(flood(OK + b"\r\n", b" "), 200, complete=False),
    "flood of a long body": Case(flood(OK + b"Content-Length: 999999999999\r\n\r\n", b" "), 200, complete=False),
    "flood of chunks": Case(flood(CHUNKED, b"1\r\n \r\n"), 200, complete=False),
    "flood of a chunk": Case(flood(CHUNKED + b"ffffffff\r\n", b" "), 200, complete=False),
    "flood of a chunk extension": Case(flood(CHUNKED + b"1;", b"x"), Failure.NO_HTTP),
    "flood of a trailer": Case(flood(CHUNKED + b"0\r\nX: ", b"x"), Failure.NO_HTTP),
    "flood of trailers": Case(flood(CHUNKED + b"0\r\n", b"X: y\r\n"), 200, complete=False),
    "flood of an error's body": Case(flood(b"HTTP/1.1 503 Away\r\n\r\n", b"x"), 503, complete=False),
    "redirect": Case(answering(b"HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 0\r\n\r\n"), 302),
    "length too long": Case(answering(OK + b"Content-Length: 9\r\n\r\n{}"), Failure.LOST),
    "chunk cut": Case(answering(CHUNKED + b"9\r\n{}"), Failure.LOST),
    "chunks cut": Case(answering(CHUNKED + b"2\r\n{}\r\n"), Failure.LOST),
    "no hexadecimal chunk": Case(answering(CHUNKED + b"zz\r\n{}\r\n"), Failure.LOST),
    "no HTTP": Case(answering(b"SSH-2.0-" + SECRET.encode() + b"\r\n\r\n"), Failure.NO_HTTP),
    "closed": Case(answering(b""), Failure.LOST),
    "1xx nobody asked for": Case(answering(b"HTTP/1.1 103 Early Hints\r\n\r\n"), 103),
}


Use = Callable[[str], "tuple[Failure | int, bool, str]"]
"""How an exchange with a URL ended: failure or status, whether the answer was complete, what was said."""


def deliver(url: str) -> tuple[Failure | int, bool, str]:
    headers = (("Authorization", f"Bearer {SECRET}"),)
    poster = Poster(Endpoint(f"{url}?key={SECRET}", timeout=TIMEOUT, headers=headers), "application/x-protobuf")
    try:
        answer = poster.post(b"x" * 1000)
    finally:
        poster.close()
    assert answer.rejected is None, "it was taken for an acknowledgement"
    return answer.failure or answer.status, "longer than" not in answer.detail, answer.detail


def fetch_keys(url: str) -> tuple[Failure | int, bool, str]:
    with pytest.raises(KeySourceError) as caught:
        fetch.get(f"{url}?key={SECRET}", deadline=TIMEOUT)
    said = str(caught.value)
    failure = next((each for each in Failure if said.startswith(each.value)), None)
    if failure is not None:
        return failure, True, said
    status = 200 if "answers more than" in said else int(said.split()[2].rstrip(","))
    return status, status != 200, said


@pytest.fixture(params=["http", "https"])
def scheme(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def server_context(authority: Authority) -> ssl.SSLContext:
    return authority.server()


@pytest.fixture(autouse=True)
def trusted(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.certificate))


@pytest.fixture
def bounded() -> Iterator[None]:
    """The test takes no longer and holds no more than it may."""
    tracemalloc.start()
    started = time.monotonic()
    yield
    taken = time.monotonic() - started
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert taken < TIMEOUT + SLACK
    assert most < MEMORY


def behind_tls(talk: Talk, context: ssl.SSLContext) -> Talk:
    def secure(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as inner:
            talk(inner)

    return secure


@pytest.mark.usefixtures("bounded")
@pytest.mark.parametrize("use", [deliver, fetch_keys])
@pytest.mark.parametrize("name", CASES)
def test_each_behaviour(scheme: str, name: str, use: Use, server_context: ssl.SSLContext) -> None:
    """It ends as it must, and what is said holds neither the query nor a header nor what the server sent."""
    case = CASES[name]
    talk = case.talk if scheme == "http" else behind_tls(case.talk, server_context)
    with raw_server(talk) as port:
        end, complete, said = use(f"{scheme}://127.0.0.1:{port}/")
    if name.startswith("flood") and end is LATE:
        return  # it is parsed line by line: on a busy machine the deadline may come first
    assert end == case.end
    if use is deliver or case.end == 200:
        assert complete is case.complete
    assert case.said in said
    assert SECRET not in said


@pytest.mark.parametrize("use", [deliver, fetch_keys])
def test_an_answer_that_is_cut_anywhere_is_none(scheme: str, use: Use, server_context: ssl.SSLContext) -> None:
    """Whichever byte is the last, by an orderly end: nothing is acknowledged and nothing is taken for keys."""
    whole = OK + b"Content-Type: application/x-protobuf\r\nContent-Length: 2\r\n\r\n\x0a\x00"
    length = 0

    def talk(connection: socket.socket) -> None:
        read_request(connection)
        connection.sendall(whole[:length])
        if isinstance(connection, ssl.SSLSocket):
            connection.unwrap()

    with raw_server(talk if scheme == "http" else behind_tls(talk, server_context)) as port:
        for length in range(len(whole)):
            end, _, _ = use(f"{scheme}://127.0.0.1:{port}/")
            assert end in (Failure.LOST, Failure.NO_HTTP), whole[:length]


@pytest.mark.parametrize("head", [OK, b"HTTP/1.0 200 OK\r\n", OK + b"Content-Length: " + b"9" * 5000 + b"\r\n"])
def test_an_answer_without_a_length_acknowledges_nothing(head: bytes) -> None:
    """Where only the connection's end says that it is whole, it may have been cut; the operator is told."""
    with raw_server(answering(head + b"\r\n")) as port:
        end, _, said = deliver(f"http://127.0.0.1:{port}/")
    assert (end, said) == (200, "its answer has no length, so it may have been cut")


Send = Callable[[socket.socket, bytes], None]


def tls_that(send: Send, context: ssl.SSLContext) -> Talk:
    """A TLS server whose records leave by ``send``."""

    def talk(connection: socket.socket) -> None:
        arrived, leaving = ssl.MemoryBIO(), ssl.MemoryBIO()
        inner = context.wrap_bio(arrived, leaving, server_side=True)
        while True:
            try:
                inner.do_handshake()
            except ssl.SSLWantReadError:
                pass
            else:
                inner.write(OK + b"Content-Length: 0\r\n\r\n")
            if leaving.pending:
                send(connection, leaving.read())
            arrived.write(connection.recv(65536))

    return talk


def byte_by_byte(connection: socket.socket, data: bytes) -> None:
    for index in range(len(data)):
        time.sleep(0.02)
        connection.sendall(data[index : index + 1])


def never(connection: socket.socket, data: bytes) -> None:
    del data
    time.sleep(3 * TIMEOUT)
    raise ConnectionResetError


@pytest.mark.usefixtures("bounded")
@pytest.mark.parametrize("use", [deliver, fetch_keys])
@pytest.mark.parametrize("send", [byte_by_byte, never])
def test_tls_that_stalls(
    use: Use, send: Callable[[socket.socket, bytes], None], server_context: ssl.SSLContext
) -> None:
    """A handshake that drips below the records, or stops."""
    with raw_server(tls_that(send, server_context)) as port:
        end, _, said = use(f"https://127.0.0.1:{port}/")
    assert end is Failure.TIMEOUT
    assert "in the TLS handshake" in said


PROXIES = {
    "drips": Case(drip(b"HTTP/1.1 200 OK\r\nX: "), LATE, "waiting for the proxy"),
    "says nothing": Case(hold(b""), LATE, "waiting for the proxy"),
    "floods": Case(flood(b"HTTP/1.1 200 OK\r\n", b"X: y\r\n"), Failure.UNREACHABLE, "did not answer CONNECT"),
    "refuses": Case(answering(b"HTTP/1.1 407 " + SECRET.encode() + b"\r\n\r\n"), Failure.UNREACHABLE, "answers 407"),
    "closes": Case(answering(b""), Failure.UNREACHABLE, "did not answer CONNECT"),
    "speaks no HTTP": Case(answering(b"\x15\x03\r\n\r\n"), Failure.UNREACHABLE, "cannot be read"),
    "says too much": Case(answering(OK + b"\r\nmore"), Failure.UNREACHABLE, "cannot be read"),
    "never connects": Case(hold(OK + b"\r\n"), LATE, "in the TLS handshake"),
}


@pytest.mark.usefixtures("bounded")
@pytest.mark.parametrize("use", [deliver, fetch_keys])
@pytest.mark.parametrize("case", PROXIES.values(), ids=PROXIES.keys())
@pytest.mark.parametrize("to_proxy", ["http", "https"])
def test_proxies(
    to_proxy: str, case: Case, use: Use, server_context: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the way to an https server; also where the proxy itself is spoken to by TLS."""
    talk = case.talk if to_proxy == "http" else behind_tls(case.talk, server_context)
    with raw_server(talk) as port:
        monkeypatch.setenv("HTTPS_PROXY", f"{to_proxy}://user:{SECRET}@127.0.0.1:{port}")
        end, _, said = use("https://collector.invalid/")
    assert end is case.end
    assert case.said in said
    assert SECRET not in said


@pytest.mark.usefixtures("bounded")
@pytest.mark.parametrize("use", [deliver, fetch_keys])
def test_a_name_that_nobody_resolves(use: Use, monkeypatch: pytest.MonkeyPatch) -> None:
    """A resolver cannot be given a time: it is left behind."""
    real = socket.getaddrinfo

    def slow(host: str, *arguments: object, **named: object) -> object:
        if host == "collector.invalid":
            time.sleep(0 if named.get("flags") else 5 * TIMEOUT)
        return real(host, *arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    end, _, said = use("https://collector.invalid/")
    assert end is Failure.TIMEOUT
    assert "looking up its name" in said


@pytest.mark.usefixtures("bounded")
@pytest.mark.parametrize("use", [deliver, fetch_keys])
def test_an_address_that_never_answers(use: Use) -> None:
    """A listener whose queue is full lets a connection wait."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        address = listener.getsockname()
        waiting = [socket.socket() for _ in range(4)]
        for each in waiting:
            each.setblocking(False)
            each.connect_ex(address)
        end, _, said = use(f"http://127.0.0.1:{address[1]}/")
        for each in waiting:
            each.close()
    assert end is Failure.TIMEOUT
    assert "connecting" in said


def test_the_next_address_gets_its_share(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that never answers does not take all of the time."""
    talk = answering(OK + b"Content-Length: 2\r\n\r\n{}")
    with socket.create_server(("127.0.0.1", 0), backlog=0) as silent, raw_server(talk) as port:
        addresses = [silent.getsockname(), ("127.0.0.1", port)]
        waiting = [socket.socket() for _ in range(4)]
        for each in waiting:
            each.setblocking(False)
            each.connect_ex(addresses[0])
        found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", address) for address in addresses]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
        with Client(max_body=10) as client:
            assert client.exchange("GET", "http://two.invalid/", {}, timeout=2.0).body == b"{}"
        for each in waiting:
            each.close()


@pytest.mark.usefixtures("bounded")
def test_a_server_that_never_reads() -> None:
    """Sending has the same deadline."""

    def talk(connection: socket.socket) -> None:
        time.sleep(3 * TIMEOUT)

    with (
        raw_server(talk) as port,
        Client(max_body=MAX_RESPONSE) as client,
        pytest.raises(ExchangeError, match="sending the request") as caught,
    ):
        client.exchange("POST", f"http://127.0.0.1:{port}/", {}, LONG, timeout=TIMEOUT)
    assert caught.value.failure is Failure.TIMEOUT


def test_who_refuses_a_long_body_is_heard() -> None:
    """Though it closes without reading it all: 413 halves the batch, a lost connection would send it for ever."""

    def talk(connection: socket.socket) -> None:
        connection.recv(1000)
        connection.sendall(b"HTTP/1.1 413 Too Long\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        connection.shutdown(socket.SHUT_WR)
        time.sleep(0.2)

    with raw_server(talk) as port, Client(max_body=10) as client:
        assert client.exchange("POST", f"http://127.0.0.1:{port}/", {}, LONG, timeout=5).status == 413


def test_what_follows_an_answer_is_not_the_next_one() -> None:
    """Bytes that nobody asked for end the connection; a 1xx that is not awaited, too."""
    extra = OK + b"Content-Length: 5\r\n\r\nwrong"
    for first in (OK + b"Content-Length: 5\r\n\r\nfirst" + extra, b"HTTP/1.1 102 Processing\r\n\r\n"):
        count = itertools.count()

        def talk(connection: socket.socket, first: bytes = first, count: Iterator[int] = count) -> None:
            while True:
                read_request(connection)
                connection.sendall(first if next(count) == 0 else OK + b"Content-Length: 6\r\n\r\nsecond")
                if next(count) == 1:
                    time.sleep(0.1)
                    connection.sendall(extra)

        with raw_server(talk) as port, Client(max_body=1000) as client:
            url = f"http://127.0.0.1:{port}/"
            client.exchange("GET", url, {}, timeout=5)
            time.sleep(0.3)
            assert client.exchange("GET", url, {}, timeout=5).body == b"second"


def test_the_bound_is_the_body_and_what_is_around_it() -> None:
    """Exactly as much as may be, in chunks; a byte more is not."""
    for size, complete in ((1000, True), (1001, False)):
        chunks = b"".join(b"1\r\n \r\n" for _ in range(size)) + b"0\r\n\r\n"
        assert len(chunks) < OVERHEAD
        with raw_server(answering(CHUNKED + chunks)) as port, Client(max_body=1000) as client:
            response = client.exchange("GET", f"http://127.0.0.1:{port}/", {}, timeout=5)
        assert response.complete is complete


def test_an_encrypted_client_key_asks_nobody_for_a_password(authority: Authority, tmp_path: Path) -> None:
    """OpenSSL would ask the terminal, and wait."""
    from cryptography.hazmat.primitives import serialization

    certificate, key = authority.issue("client")
    loaded = serialization.load_pem_private_key(key.read_bytes(), None)
    encrypted = tmp_path / "encrypted.pem"
    encrypted.write_bytes(
        loaded.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"password"),
        )
    )
    client = Client(max_body=1, client_certificate=certificate, client_key=encrypted)
    with pytest.raises(ExchangeError) as caught:
        client.exchange("GET", "https://127.0.0.1:9/", {}, timeout=1)
    assert caught.value.failure is Failure.TLS
    assert caught.value.detail.startswith(f"{certificate}: ")
