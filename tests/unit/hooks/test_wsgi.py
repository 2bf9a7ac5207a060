"""The WSGI boundary: what is recorded when, whatever app, server and client do."""

from __future__ import annotations

import contextvars
import io
import logging
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any
from wsgiref.util import FileWrapper

import pytest
from flask import Flask, abort

from jwt_audit.request import current_request
from opentelemetry.instrumentation.jwt_audit.hooks.wsgi import App, Environ, StartResponse, run_wsgi
from support.audited import Audited, auditing, token
from support.spools import clear_away


def environ_of(path: str = "/", person: str | None = None, **changed: Any) -> Environ:
    plain: Environ = {
        "REQUEST_METHOD": "GET",
        "SCRIPT_NAME": "",
        "PATH_INFO": path,
        "QUERY_STRING": "",
        "SERVER_NAME": "shop",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": "192.0.2.7",
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(),
        "wsgi.errors": io.StringIO(),
    }
    return plain | ({} if person is None else {"HTTP_AUTHORIZATION": f"Bearer {token(person)}"}) | changed


class Server:
    """Sends what an app returns, and keeps each chunk with the number of records on disk when it left."""

    def __init__(self, audited: Audited) -> None:
        self._audited = audited
        self.status = ""
        self.sent: list[tuple[bytes, int]] = []

    def start_response(self, status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Callable[..., Any]:
        self.status = status
        return self.write

    def write(self, chunk: bytes) -> None:
        self.sent.append((chunk, len(self._audited.requests())))

    def serve(self, app: App, environ: Environ | None = None) -> Iterable[bytes]:
        result = run_wsgi(app, environ_of() if environ is None else environ, self.start_response)
        try:
            for chunk in result:
                self.write(chunk)
        finally:
            close = getattr(result, "close", None)
            if close is not None:
                close()
        return result


def answers(result: Any, *headers: tuple[str, str], status: str = "200 OK") -> App:
    def app(environ: Environ, start_response: StartResponse) -> Any:
        start_response(status, list(headers))
        return result

    return app


def chunks(*parts: bytes) -> Iterator[bytes]:
    yield from parts


@pytest.mark.parametrize(
    ("app", "sent"),
    [
        (lambda: answers([b"whole"]), [1]),
        (lambda: answers((b"a", b"b")), [0, 1]),
        (lambda: answers([]), []),
        (lambda: answers(chunks(b"a", b"b")), [0, 0]),
        (lambda: answers(chunks(b"a", b"b", b""), ("Content-Length", "2")), [0, 1, 1]),
        (lambda: answers(chunks(b"a", b"b"), ("content-length", "junk")), [0, 0]),
        (lambda: answers(chunks(b"a", b"b"), status="304 Not Modified"), [1, 1]),
    ],
    ids=["list", "tuple", "empty", "stream", "length", "no-length", "bodiless"],
)
def test_the_record_is_there_before_the_client_has_all_it_was_promised(
    audited: Audited, app: Callable[[], App], sent: list[int]
) -> None:
    """With the last item where their number is known, else by Content-Length, else at the end of the stream."""
    server = Server(audited)
    server.serve(app())
    assert [count for _, count in server.sent] == sent
    (record,) = audited.requests()
    assert record["audit.outcome"] == "success"
    assert record["client.address"] == "192.0.2.7"


def test_the_record_is_there_before_a_file_is_handed_to_the_server(audited: Audited) -> None:
    """The server sends it by itself (sendfile), so the object stays the server's own; its close ends the request."""
    closed = []

    class File(io.BytesIO):
        def close(self) -> None:
            closed.append(current_request() is not None)
            super().close()

    environ = environ_of("/", "alice") | {"wsgi.file_wrapper": FileWrapper}
    result = run_wsgi(answers(FileWrapper(File(b"content"))), environ, Server(audited).start_response)
    assert isinstance(result, FileWrapper)
    assert [one["enduser.id"] for one in audited.requests()] == ["alice"]
    assert b"".join(result) == b"content"
    result.close()
    assert closed == [True]


def test_a_file_wrapper_that_takes_no_attribute_is_recorded_all_the_same(audited: Audited) -> None:
    """Then the boundary passes its chunks on."""

    class Slotted:
        __slots__ = ("_chunks",)

        def __init__(self) -> None:
            self._chunks = chunks(b"a")

        def __iter__(self) -> Iterator[bytes]:
            return self._chunks

    server = Server(audited)
    server.serve(answers(Slotted()), environ_of() | {"wsgi.file_wrapper": Slotted})
    assert server.sent == [(b"a", 0)]
    assert len(audited.requests()) == 1


def test_an_app_that_writes_is_recorded_before_its_last_byte(audited: Audited) -> None:
    """The ``write`` of PEP 3333 sends at once: only the declared length tells that it is the last."""

    def app(environ: Environ, start_response: StartResponse) -> list[bytes]:
        write = start_response("200 OK", [("Content-Length", "2")])
        write(b"a")
        write(b"b")
        return []

    server = Server(audited)
    server.serve(app)
    assert server.sent == [(b"a", 0), (b"b", 1)]


def test_a_body_has_a_length_where_the_apps_own_has_one(audited: Audited) -> None:
    """Servers ask for it by ``hasattr`` or by ``len``, and take 1 for "this is all"."""
    for result, length in (([b"a"], 1), ((b"a", b"b"), 2), (chunks(b"a"), None)):
        body = run_wsgi(answers(result), environ_of(), Server(audited).start_response)
        assert body is not result
        assert hasattr(body, "__len__") == (length is not None)
        if length is not None:
            assert len(body) == length  # type: ignore[arg-type]
        body.close()  # type: ignore[attr-defined]


def test_a_client_that_goes_leaves_an_unknown_outcome(audited: Audited) -> None:
    """The server closes the body before its end; also before its first item, where a generator runs no finally."""
    for taken in (0, 1):
        closed: list[int] = []

        class Body:
            def __iter__(self) -> Iterator[bytes]:
                return chunks(b"a", b"b")

            def close(self, closed: list[int] = closed) -> None:
                closed.append(1)

        result = run_wsgi(answers(Body()), environ_of("/", "alice"), Server(audited).start_response)
        for _ in range(taken):
            next(iter(result))
        result.close()  # type: ignore[attr-defined]
        record = audited.requests()[-1]
        assert (record["http.response.status_code"], record["audit.outcome"]) == (200, "unknown")
        assert record["enduser.id"] == "alice"
        assert closed == [1]
    assert len(audited.requests()) == 2


def test_an_app_that_raises_is_a_failure_and_the_error_goes_on(audited: Audited) -> None:
    """As long as nothing of its body has left a 500, whatever it meant to answer; then the status that was sent.

    Servers send the status with the first bytes of the body, by PEP 3333: until then it can become another.
    """

    def before(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        raise LookupError("with a secret in it")

    def started(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        start_response("202 Accepted", [("Content-Length", "1")])
        raise LookupError

    def empty(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        start_response("202 Accepted", [])
        yield b""
        raise LookupError

    def within(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        start_response("202 Accepted", [])
        yield b"a"
        raise LookupError

    def written(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        start_response("202 Accepted", [])(b"a")
        raise LookupError

    for app, status in ((before, 500), (started, 500), (empty, 500), (within, 202), (written, 202)):
        with pytest.raises(LookupError):
            Server(audited).serve(app)
        record = audited.requests()[-1]
        assert record["http.response.status_code"] == status
        assert (record["audit.outcome"], record["error.type"]) == ("failure", "LookupError")
        assert "secret" not in str(record)
    assert len(audited.requests()) == 5


def test_a_body_that_fails_to_close_is_a_late_record(audited: Audited) -> None:
    """The response was whole and recorded; the failure has the same request id."""

    class Body(list[bytes]):
        def close(self) -> None:
            raise TimeoutError

    with pytest.raises(TimeoutError):
        Server(audited).serve(answers(Body([b"a"])))
    (record,) = audited.requests()
    (late,) = audited.requests("http.request.late")
    assert (record["audit.outcome"], late["audit.outcome"]) == ("success", "failure")
    assert late["error.type"] == "TimeoutError"
    assert late["request.id"] == record["request.id"]


def test_what_flask_answers_for_an_error_is_recorded_as_it_answers(audited: Audited) -> None:
    """An aborted request by its status, denied where it was; an unexpected error as a 500."""
    app = Flask("shop")
    app.add_url_rule("/secret", "secret", lambda: abort(403))
    app.add_url_rule("/broken", "broken", lambda: str(1 / 0))
    for path in ("/secret", "/broken", "/nowhere"):
        Server(audited).serve(app.wsgi_app, environ_of(path))
    names = ("http.response.status_code", "audit.outcome", "audit.decision")
    assert [[one.get(name) for name in names] for one in audited.requests()] == [
        [403, "failure", "denied"],
        [500, "failure", None],
        [404, "failure", None],
    ]


def test_an_error_response_after_the_start_counts(audited: Audited) -> None:
    """``start_response`` may be called again with exc_info: the length of before is no longer promised."""

    def app(environ: Environ, start_response: StartResponse) -> list[bytes]:
        start_response("200 OK", [("Content-Length", "1")])
        try:
            raise ValueError
        except ValueError as error:
            start_response("500 Oops", [], (ValueError, error, None))
        return [b"so", b"rry"]

    server = Server(audited)
    server.serve(app)
    assert [count for _, count in server.sent] == [0, 1]
    (record,) = audited.requests()
    assert (record["http.response.status_code"], record["error.type"]) == (500, "ValueError")


def test_a_request_inside_of_a_request_is_the_same_one(audited: Audited) -> None:
    """Whatever stack of layers: one record. Also where the inner app runs in a thread without its context."""
    seen: list[str | None] = []

    def inner(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        request = current_request()
        seen.append(None if request is None else request.identity.subject)
        return answers([b"x"])(environ, start_response)

    def nested(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        return run_wsgi(inner, environ, start_response)

    def threaded(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        results: list[Iterable[bytes]] = []

        def work() -> None:
            results.append(run_wsgi(inner, environ, start_response))
            seen.append("left" if current_request() is None else "kept")

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        return results[0]

    for app in (nested, threaded):
        Server(audited).serve(app, environ_of("/", "alice"))
    assert seen == ["alice", "alice", "left"]
    assert [one["audit.actor.id"] for one in audited.requests()] == ["alice", "alice"]


def test_a_body_closed_in_another_context_leaves_both_clean(audited: Audited, caplog: pytest.LogCaptureFixture) -> None:
    """Where a token of the first context would be refused; nothing is complained about, and nobody stays current."""
    start = Server(audited).start_response
    with caplog.at_level(logging.DEBUG):
        result = run_wsgi(answers([b"x"]), environ_of("/", "alice"), start)
        contextvars.copy_context().run(lambda: [*result, result.close()])  # type: ignore[attr-defined]
        other = contextvars.Context().run(lambda: run_wsgi(answers([b"x"]), environ_of("/", "bob"), start))
        assert next(iter(other)) == b"x"
        other.close()  # type: ignore[attr-defined]
    assert [record.getMessage() for record in caplog.records if record.name.startswith("opentelemetry")] == []
    # This thread's own context began the first request, and nobody has told it of the end.
    later = run_wsgi(answers([b"x"]), environ_of("/"), start)
    assert list(later) == [b"x"]
    later.close()  # type: ignore[attr-defined]
    assert [one["audit.actor.id"] for one in audited.requests()] == ["alice", "bob", "anonymous"]
    assert current_request() is None


def test_a_thread_that_serves_others_next_is_left_clean(audited: Audited) -> None:
    """After a response, a refusal and an error alike."""

    def broken(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        raise KeyError

    Server(audited).serve(answers([b"x"]), environ_of("/", "alice"))
    assert current_request() is None
    with pytest.raises(KeyError):
        Server(audited).serve(broken, environ_of("/", "alice"))
    assert current_request() is None


def test_latin_1_in_every_header_disturbs_nothing(audited: Audited) -> None:
    """WSGI gives bytes as latin-1 text; what is recorded is printable, and the path is decoded as UTF-8."""
    raw = bytes(range(0x80, 0x100)).decode("latin-1") + "\x00\x1b[31m"
    names = ("AUTHORIZATION", "X_REQUEST_ID", "USER_AGENT", "TRACEPARENT", "X_FORWARDED_FOR", "COOKIE", "HOST")
    path = "/café/\xff".encode().decode("latin-1")
    Server(audited).serve(answers([b"x"]), environ_of(path, **{f"HTTP_{name}": raw for name in names}))
    (record,) = audited.requests()
    assert record["user_agent.original"].isprintable()
    assert record["url.path"] == "/café/ÿ"
    assert record["audit.actor.id"] == "anonymous"


def test_two_authorization_headers_name_nobody(audited: Audited) -> None:
    """Servers join them by a comma."""
    both = f"Bearer {token('alice')}, Bearer {token('bob')}"
    Server(audited).serve(answers([b"x"]), environ_of(HTTP_AUTHORIZATION=both))
    (record,) = audited.requests()
    assert (record["audit.actor.id"], record["jwt.error"]) == ("anonymous", "multiple_tokens")


@pytest.mark.parametrize("missing", ["REMOTE_ADDR", "SCRIPT_NAME", "PATH_INFO", "REQUEST_METHOD", "QUERY_STRING"])
def test_an_environ_that_lacks_something_is_served_and_recorded(audited: Audited, missing: str) -> None:
    """A unix socket has no client address."""
    environ = environ_of()
    del environ[missing]
    server = Server(audited)
    server.serve(answers([b"x"]), environ)
    assert server.sent == [(b"x", 1)]
    (record,) = audited.requests()
    assert ("client.address" in record) == (missing != "REMOTE_ADDR")


def test_excluded_paths_leave_no_record(tmp_path: Path) -> None:
    """Those below a prefix, with the part of the path that a mount has taken; none that climbs out of it."""
    with auditing(tmp_path, excluded_paths=["/static/*"]) as audited:
        Server(audited).serve(answers([b"x"]), environ_of("/app.js", SCRIPT_NAME="/static"))
        Server(audited).serve(answers([b"x"]), environ_of("/static"))
        climbing = ["/static/../orders", "/static/a/.."]
        for path in (*climbing, "/static/..a", "/static/a..", "/static/./a"):
            Server(audited).serve(answers([b"x"]), environ_of(path))
        assert [one["url.path"] for one in audited.requests()] == ["/static", *climbing]


def test_excluded_methods_leave_no_record(tmp_path: Path) -> None:
    """A preflight request, on any path; another method is recorded, and the stream's start says what is left out."""
    with auditing(tmp_path, excluded_methods="OPTIONS") as audited:
        for method in ("OPTIONS", "GET", "options"):
            Server(audited).serve(answers([b"x"]), environ_of("/orders", REQUEST_METHOD=method))
        assert [one["http.request.method"] for one in audited.requests()] == ["GET", "options"]
        assert audited.records()[0].attributes["audit.stream.excluded_methods"] == ["OPTIONS"]


class Socket:
    """What gunicorn puts into an environ, as far as it is asked."""

    def __init__(self, name: Any) -> None:
        self._name = name

    def getpeername(self) -> Any:
        if self._name is None:
            raise OSError("not connected")
        return self._name


@pytest.mark.parametrize(
    ("name", "peer"), [(("10.0.0.1", 5), "10.0.0.1"), (("fe80::1", 5, 0, 0), "fe80::1"), ("", None), (None, None)]
)
def test_the_peer_behind_a_proxy_protocol_is_the_proxy(audited: Audited, name: Any, peer: str | None) -> None:
    """A proxy's first line says who the client is; over a Unix socket the peer has no address."""
    environ = environ_of(PROXY_PROTOCOL="TCP4") | {"gunicorn.socket": Socket(name)}
    Server(audited).serve(answers([b"x"]), environ)
    (record,) = audited.requests()
    assert (record["client.address"], record.get("network.peer.address")) == ("192.0.2.7", peer)


def test_closed_calls_no_app_that_it_cannot_record(tmp_path: Path) -> None:
    """A first record before the app, and 503 where that cannot be written."""
    with auditing(tmp_path, fail_mode="closed") as audited:
        calls: list[int] = []

        def app(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
            calls.append(len(audited.requests("http.request.received")))
            return answers([b"x"])(environ, start_response)

        Server(audited).serve(app, environ_of("/", "alice"))
        (first,), (last,) = audited.requests("http.request.received"), audited.requests()
        assert (first["request.id"], first["enduser.id"]) == (last["request.id"], "alice")
        clear_away(audited.spool)
        server = Server(audited)
        server.serve(app)
        assert server.status == "503 Service Unavailable"
        assert calls == [1]
        assert current_request() is None


@pytest.mark.parametrize("kind", ["list", "stream", "write", "file"])
def test_closed_lets_nothing_pass_that_completes_an_unrecorded_response(tmp_path: Path, kind: str) -> None:
    """However the app sends it, and also to who asks again."""
    with auditing(tmp_path, fail_mode="closed") as audited:

        def app(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
            write = start_response("200 OK", [("Content-Length", "1")])
            clear_away(audited.spool)
            if kind == "write":
                write(b"x")
            if kind == "list":
                return [b"x"]
            return FileWrapper(io.BytesIO(b"x")) if kind == "file" else chunks(b"x")

        server = Server(audited)
        environ = environ_of() | {"wsgi.file_wrapper": FileWrapper}
        if kind in ("write", "file"):
            with pytest.raises(ConnectionAbortedError):
                run_wsgi(app, environ, server.start_response)
        else:
            body = run_wsgi(app, environ, server.start_response)
            for _ in range(2):
                with pytest.raises(ConnectionAbortedError):
                    next(iter(body))
            body.close()  # type: ignore[attr-defined]
        assert server.sent == []
        assert current_request() is None
