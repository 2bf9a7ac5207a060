"""One POST: what goes out, and how each thing that comes back is understood."""

from __future__ import annotations

import gzip
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from jwt_audit.http.exchange import Failure
from jwt_audit.ship.answers import Answer
from jwt_audit.ship.http import MAX_RESPONSE, Endpoint, Poster
from support.raw import Authority, raw_server, tls_server
from support.receivers import PROTOBUF, Receiver, Reply, partial, receiving

JSON = "application/json"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as found:
        yield found


@contextmanager
def posting(endpoint: Endpoint, content_type: str = PROTOBUF) -> Iterator[Callable[[bytes], Answer]]:
    poster = Poster(endpoint, content_type)
    try:
        yield poster.post
    finally:
        poster.close()


def ask(url: str, *, content_type: str = PROTOBUF, timeout: float = 5.0) -> Answer:
    with posting(Endpoint(url, timeout=timeout), content_type) as post:
        return post(b"{}" if content_type == JSON else b"")


def test_what_goes_out(receiver: Receiver) -> None:
    """Gzip, the form's content type and the configured headers; a second POST on the same connection."""
    headers = (("Authorization", "Bearer abc"), ("X-Scope", "ü"), ("content-type", "text/evil"))
    with posting(Endpoint(receiver.url, headers=headers)) as post:
        assert post(b"") == Answer(200, rejected=0)
        assert post(b"") == Answer(200, rejected=0)
    sent = receiver.headers[0]
    assert sent["authorization"] == "Bearer abc"
    assert sent["x-scope"].encode("latin-1").decode() == "ü"
    assert sent["content-type"] == PROTOBUF
    assert sent["content-encoding"] == "gzip"
    assert receiver.bodies == [b"", b""]


def test_without_compression_the_bytes_go_as_they_are(receiver: Receiver) -> None:
    """And no Content-Encoding is claimed."""
    with posting(Endpoint(receiver.url, gzip=False)) as post:
        post(b"")
    assert "content-encoding" not in receiver.headers[0]


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (Reply(headers={}), Answer(200, rejected=0)),
        (Reply(204), Answer(204, rejected=0)),
        (Reply(202), Answer(202)),
        (partial(2, "too old"), Answer(200, rejected=2, detail="too old")),
        (Reply(body=b"<html>login</html>", headers={"Content-Type": "text/html"}), Answer(200)),
        (Reply(302, headers={"Location": "http://127.0.0.1:9/elsewhere"}), Answer(302)),
        (Reply(503, headers={"Retry-After": "7"}), Answer(503, retry_after=7.0)),
        (Reply(429, headers={"Retry-After": "99999"}), Answer(429, retry_after=300.0)),
        (Reply(429, headers={"Retry-After": "soon"}), Answer(429)),
        (Reply(400, b"\x08\x03\x12\x03bad"), Answer(400, detail="bad")),
        (Reply(400, b"\x12\x03bad"), Answer(400, detail="bad")),
        (Reply(400, b"\x12\x96\x01" + b"x" * 150), Answer(400, detail="x" * 150)),
        (Reply(400, b"\x0a\xff"), Answer(400)),
        (Reply(400, b'{"code":3,"message":"bad"}', {"Content-Type": JSON}), Answer(400, detail="bad")),
        (Reply(400, b'{"code":3}', {"Content-Type": JSON}), Answer(400)),
        (Reply(400, b"[1", {"Content-Type": JSON}), Answer(400)),
        (
            Reply(400, b"no\x00\x1b[31m good\n", {"Content-Type": "text/plain"}),
            Answer(400, detail="no\\x00\\x1b[31m good"),
        ),
        (Reply(act="reset"), Answer(failure=Failure.LOST, detail="Connection reset by peer")),
        (Reply(act="close"), Answer(failure=Failure.LOST)),
    ],
)
def test_each_reply_is_understood(receiver: Receiver, reply: Reply, expected: Answer) -> None:
    """Status, what was rejected, the pause asked for, and the receiver's word made printable."""
    receiver.script.append(reply)
    assert ask(receiver.url) == expected
    assert len(receiver.requests) == 1


def test_a_retry_after_may_be_a_date(receiver: Receiver) -> None:
    """RFC 9110's other form, also one that has passed."""
    for ahead, least, most in ((60, 50, 60), (-60, 0, 0)):
        moment = datetime.now(timezone.utc) + timedelta(seconds=ahead)
        receiver.script.append(Reply(503, headers={"Retry-After": moment.strftime("%a, %d %b %Y %H:%M:%S GMT")}))
        found = ask(receiver.url).retry_after
        assert found is not None
        assert least <= found <= most


def test_json_is_read_as_json(receiver: Receiver) -> None:
    """An empty body acknowledges nothing then, an empty object does."""
    receiver.script += [Reply(headers={}), Reply(body=b"{}", headers={"Content-Type": JSON})]
    assert ask(receiver.url, content_type=JSON).rejected is None
    assert ask(receiver.url, content_type=JSON).rejected == 0


def test_a_receiver_that_hangs_costs_the_timeout(receiver: Receiver) -> None:
    """Not more."""
    receiver.script.append(Reply(act="hang"))
    started = time.monotonic()
    assert ask(receiver.url, timeout=0.4).failure is Failure.TIMEOUT
    assert time.monotonic() - started < 30


def test_a_body_that_drips_costs_the_timeout_too(receiver: Receiver) -> None:
    """Though each read of it is quick."""
    receiver.script.append(Reply(act="drip"))
    started = time.monotonic()
    assert ask(receiver.url, timeout=0.4).failure is Failure.TIMEOUT
    assert time.monotonic() - started < 30


def test_an_endless_answer_is_no_acknowledgement(receiver: Receiver) -> None:
    """It is read up to a bound."""
    receiver.script.append(Reply(body=b"\x00" * (MAX_RESPONSE + 1)))
    assert ask(receiver.url) == Answer(200, detail="an answer longer than any OTLP response")


def test_an_answer_that_is_compressed_is_not_unpacked(receiver: Receiver) -> None:
    """None was asked for; it acknowledges nothing, and the operator is told what it is."""
    receiver.script.append(Reply(body=gzip.compress(b""), headers={"Content-Encoding": "gzip"}))
    assert ask(receiver.url) == Answer(200, detail="its answer is compressed, which was not asked for")
    assert receiver.headers[0]["accept-encoding"] == "identity"


def test_the_connection_works_again_after_a_bad_answer(receiver: Receiver) -> None:
    """What is left of one answer is never read as the next one's."""
    receiver.script += [Reply(body=b"\x00" * (MAX_RESPONSE * 4)), Reply(act="reset")]
    with posting(Endpoint(receiver.url)) as post:
        assert [post(b"").rejected for _ in range(3)] == [None, None, 0]


def test_nobody_is_listening() -> None:
    """Refused, and a name that does not exist."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    assert ask(f"http://127.0.0.1:{port}/") == Answer(failure=Failure.UNREACHABLE, detail="Connection refused")
    assert ask("http://name.invalid/").failure is Failure.UNREACHABLE


def test_a_server_that_speaks_no_http() -> None:
    """Told from one that went away."""
    with raw_server(lambda connection: connection.sendall(b"SSH-2.0-OpenSSH_9\r\n\r\n")) as port:
        assert ask(f"http://127.0.0.1:{port}/").failure is Failure.NO_HTTP


def test_tls_to_a_plain_server_is_a_tls_failure(receiver: Receiver) -> None:
    """So it is held as a wrong configuration."""
    with raw_server(lambda connection: connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")) as port:
        assert ask(f"https://127.0.0.1:{port}/").failure is Failure.TLS


def test_no_secret_stands_in_a_message(receiver: Receiver) -> None:
    """Though the receiver sends the header's value back, whole or in part; nor does the endpoint show it."""
    secret = "s3cr3t-t0ken-value"
    endpoint = Endpoint(f"{receiver.url}?key=hidden", headers=(("Authorization", f"Bearer {secret}"),))
    receiver.script += [
        Reply(400, f"invalid Bearer {secret}".encode(), {"Content-Type": "text/plain"}),
        partial(1, f"who is {secret}?"),
    ]
    with posting(endpoint) as post:
        answers = [post(b""), post(b"")]
    assert [answer.detail for answer in answers] == ["invalid …", "who is …?"]
    assert secret not in repr(endpoint)
    assert "hidden" not in endpoint.shown


def test_a_proxy_is_used_but_never_for_this_machine(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """As HTTP_PROXY and NO_PROXY say; the proxy's login is sent to it."""
    asked: list[bytes] = []

    def proxy(connection: socket.socket) -> None:
        asked.append(connection.recv(65536))
        connection.sendall(b"HTTP/1.1 503 Away\r\nContent-Length: 0\r\n\r\n")

    with raw_server(proxy) as port:
        monkeypatch.setenv("http_proxy", f"http://user:pa%40ss@127.0.0.1:{port}")
        assert ask(receiver.url) == Answer(200, rejected=0)
        assert asked == []
        assert ask("http://collector.invalid/v1/logs").status == 503
        assert asked[0].startswith(b"POST http://collector.invalid/v1/logs ")
        assert b"dXNlcjpwYUBzcw==" in asked[0]
        monkeypatch.setenv("no_proxy", "collector.invalid")
        assert ask("http://collector.invalid/v1/logs").failure is Failure.UNREACHABLE


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def test_the_configured_certificate_counts(
    authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its authority is trusted and no other, whatever the variables of other libraries say."""
    (tmp_path / "other").mkdir()
    other = Authority(tmp_path / "other")
    with tls_server(authority) as url:
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(other.certificate))
        monkeypatch.setenv("CURL_CA_BUNDLE", str(other.certificate))
        with posting(Endpoint(url, certificate=authority.certificate)) as post:
            assert post(b"") == Answer(200, rejected=0)
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(authority.certificate))
        for certificate in (None, other.certificate):
            with posting(Endpoint(url, certificate=certificate)) as post:
                assert post(b"").failure is Failure.TLS


def test_a_client_certificate_is_shown(authority: Authority) -> None:
    """mTLS: the server takes ours, and refuses who has none."""
    certificate, key = authority.issue("client")
    with tls_server(authority, mutual=True) as url:
        endpoint = Endpoint(
            url, certificate=authority.certificate, client_certificate=certificate, client_key=key, timeout=60
        )
        with posting(endpoint) as post:
            assert post(b"") == Answer(200, rejected=0)
        with posting(Endpoint(url, certificate=authority.certificate, timeout=60)) as post:
            assert post(b"").failure in (Failure.TLS, Failure.LOST)


def test_a_certificate_file_that_is_gone_is_named(tmp_path: Path) -> None:
    """It is a wrong configuration, and it is looked for again at each attempt."""
    missing = tmp_path / "gone.pem"
    with posting(Endpoint("https://127.0.0.1:9/", certificate=missing)) as post:
        assert post(b"") == Answer(failure=Failure.TLS, detail=f"{missing}: No such file or directory")
