"""Tokens out of other headers, cookies and WebSocket subprotocols, through both boundaries; what is shown of them."""

from __future__ import annotations

import asyncio
import io
import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.instrumentation.threading import ThreadingInstrumentor

import jwt_audit
from jwt_audit.identity.caller import Identity, Status
from opentelemetry.instrumentation.jwt_audit.hooks.asgi import run_asgi
from opentelemetry.instrumentation.jwt_audit.hooks.wsgi import run_wsgi
from support.audited import Audited, auditing, token

pytestmark = pytest.mark.anyio

SOURCES = "bearer,header:X-Token,cookie:session,websocket"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def asgi(kind: str, *headers: tuple[str, str]) -> list[Identity | None]:
    """The identities that an app sees on a server that lowers headers' names, as all do."""
    seen: list[Identity | None] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(jwt_audit.current_identity())
        if kind == "http":
            await send({"type": "http.response.start", "status": 204, "headers": []})
            await send({"type": "http.response.body"})
        else:
            await send({"type": "websocket.accept", "subprotocol": "bearer"})
            await send({"type": "websocket.close"})

    async def receive() -> Any:
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        return

    raw = [(name.lower().encode(), value.encode("latin-1")) for name, value in headers]
    await run_asgi(app, {"type": kind, "method": "GET", "path": "/", "headers": raw}, receive, send)
    return seen


def wsgi(*headers: tuple[str, str]) -> list[Identity | None]:
    seen: list[Identity | None] = []

    def app(environ: Any, start_response: Any) -> list[bytes]:
        seen.append(jwt_audit.current_identity())
        start_response("200 OK", [])
        return [b""]

    environ = {"REQUEST_METHOD": "GET", "PATH_INFO": "/", "wsgi.input": io.BytesIO(), "wsgi.errors": io.StringIO()}
    environ |= {f"HTTP_{name.upper().replace('-', '_')}": value for name, value in headers}
    result: Any = run_wsgi(app, environ, lambda *_: None)
    list(result)
    result.close()
    return seen


PLACES = {
    "Authorization": "Bearer {}",
    "X-Token": "{}",
    "Cookie": "theme=dark; session={}; lang=de",
    "Sec-WebSocket-Protocol": "bearer, {}",
}


@pytest.mark.parametrize("name", PLACES)
async def test_each_source_through_each_boundary(tmp_path: Path, name: str) -> None:
    """The app sees who it is, the record says so; a source that is not configured shows nobody."""
    header = (name, PLACES[name].format(token("alice")))
    with auditing(tmp_path, sources=SOURCES) as audited:
        for seen in (await asgi("http", header), await asgi("websocket", header), wsgi(header)):
            assert [identity.subject for identity in seen if identity is not None] == ["alice"]
        actors = [
            record.attributes["audit.actor.id"] for record in audited.records() if "request.id" in record.attributes
        ]
        assert len(actors) == 4  # a websocket has two
        assert set(actors) == {"alice"}
    if name != "Authorization":
        with auditing(tmp_path) as audited:
            (identity,) = wsgi(header)
            assert identity is not None
            assert identity.status is Status.ABSENT


async def test_outside_of_a_request_there_is_no_identity(tmp_path: Path) -> None:
    """And inside of one without a token there is one that names nobody. Typed: no cast is needed."""
    identity: Identity | None = jwt_audit.current_identity()
    assert identity is None
    with auditing(tmp_path):
        (absent,) = await asgi("http")
    assert absent is not None
    subject: str | None = absent.subject
    assert (absent.status, subject) == (Status.ABSENT, None)


@pytest.mark.parametrize("traced", [False, True], ids=["bare threads", "threads that OpenTelemetry starts"])
async def test_the_identity_where_the_work_is_done(tmp_path: Path, traced: bool) -> None:
    """In tasks and asyncio's threads; in other threads with the threading instrumentation, else nobody's."""
    found: dict[str, list[Identity | None]] = {}

    def look(where: str) -> None:
        found.setdefault(where, []).append(jwt_audit.current_identity())

    def in_thread(where: str) -> None:
        thread = threading.Thread(target=look, args=(where,))
        thread.start()
        thread.join()

    async def deeper() -> None:
        look("task")

    async def app(scope: Any, receive: Any, send: Any) -> None:
        look("handler")
        await asyncio.gather(*(asyncio.create_task(deeper()) for _ in range(3)))
        await asyncio.to_thread(look, "asyncio's thread")
        in_thread("thread")
        with ThreadPoolExecutor(1) as pool:
            pool.submit(look, "pool").result()
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})
        await asyncio.create_task(deeper())

    async def nothing(*_: Any) -> Any:
        return {"type": "http.disconnect"}

    async def request(person: str) -> None:
        raw = [(b"authorization", f"Bearer {token(person)}".encode())]
        await run_asgi(app, {"type": "http", "method": "GET", "path": "/", "headers": raw}, nothing, nothing)

    if traced:
        ThreadingInstrumentor().instrument()
    try:
        with auditing(tmp_path):
            await request("alice")
            first, found = found, {}
            await request("bob")
            in_thread("outside")
            look("outside")
    finally:
        if traced:
            ThreadingInstrumentor().uninstrument()
    assert found.pop("outside") == [None, None]
    for person, seen in (("alice", first), ("bob", found)):
        for where, identities in seen.items():
            lost = where in ("thread", "pool") and not traced
            assert {None if one is None else one.subject for one in identities} == {None if lost else person}, where


async def test_each_signal_shows_what_its_policy_allows(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Pseudonyms on spans, nobody on log records, the person in the record, and the app sees who it is."""
    (tmp_path / "pseudonyms").write_bytes(bytes(32))
    pii = {"pii": "spans=pseudonym,logs=off", "pseudonym_key_file": tmp_path / "pseudonyms"}
    log = logging.getLogger("shop")
    caplog.set_level(logging.INFO)
    with auditing(tmp_path, **pii) as audited:

        def app(environ: Any, start_response: Any) -> list[bytes]:
            with audited.tracer.start_as_current_span("work"):
                log.info("working")
            identity = jwt_audit.current_identity()
            assert identity is not None
            assert identity.subject == "alice"
            start_response("200 OK", [])
            return [b""]

        environ = {"REQUEST_METHOD": "GET", "PATH_INFO": "/", "HTTP_AUTHORIZATION": f"Bearer {token('alice')}"}
        result: Any = run_wsgi(app, environ, lambda *_: None)
        list(result)
        result.close()
        _check(audited, caplog.records)


def _check(audited: Audited, written: list[logging.LogRecord]) -> None:
    (record,) = audited.requests()
    assert (record["enduser.id"], record["audit.actor.id"]) == ("alice", "alice")
    span = dict(audited.spans()["work"].attributes or {})
    assert "enduser.id" not in span
    assert len(str(span["enduser.pseudo.id"])) == 64
    assert span["jwt.status"] == "verified"
    (line,) = [one for one in written if one.name == "shop"]
    assert line.__dict__["jwt.status"] == "verified"
    assert not {"enduser.id", "enduser.pseudo.id", "session.id"} & set(line.__dict__)
