"""Who it was, on every stack: nobody is ever taken for another, each request has one record, and its route."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from support.issuer import ISSUER, b64, claims, jwks, signing_key
from support.served import SECONDS, Item, Served, serving

EXAMPLES = Path(__file__).parents[2] / "examples"
APPS = Path(__file__).parent / "apps"
CANARY = "canary-that-the-search-must-find"
GUNICORN = ("gunicorn", "{app}", "--no-control-socket", "-b", "127.0.0.1:{port}")
THREADS = (*GUNICORN, "--threads", "16")
UVICORN = ("uvicorn", "{app}", "--port", "{port}")
GRANIAN = ("granian", "{app}", "--port", "{port}")
FORWARDED = "203.0.113.9"
"""What every request says that its client is; uvicorn believes a peer on loopback."""


@dataclass(frozen=True)
class Stack:
    """An app on a server, and what is particular there."""

    directory: Path
    app: str
    command: Sequence[str]
    path: str = "/orders/1"
    route: str | None = None
    server_span: bool = True
    requests: int = 80
    pipelines: bool = True
    client: str = "127.0.0.1"
    below: str = ""
    """The prefix of the app's paths."""
    environment: dict[str, str] = field(default_factory=dict)


def example(name: str, app: str, command: Sequence[str], route: str, **more: Any) -> Stack:
    return Stack(EXAMPLES / name, app, command, **{"route": route, "requests": 400, **more})


def raw(app: str, command: Sequence[str], **more: Any) -> Stack:
    return Stack(APPS, f"raw:{app}", command, **{"server_span": False, **more})


def proxied(*command: str) -> dict[str, Any]:
    return {"command": (*UVICORN, *command), "client": FORWARDED}


def mounted(below: str, route: str) -> Stack:
    path, route = f"{below}/orders/1", f"{below}{route}"
    return Stack(APPS, "mounted:app", path=path, route=route, below=below, **proxied())


FLASK, FASTAPI, DJANGO = "/orders/<int:order_id>", "/orders/{order_id}", "/orders/<int:order_id>"
STARLETTE: dict[str, Any] = {"path": "/shops/north/orders/1", "route": "/shops/{shop}/orders/{order_id}"}
SETTINGS: dict[str, Any] = {"environment": {"DJANGO_SETTINGS_MODULE": "settings"}}
STACKS = {
    "flask-gunicorn": example("flask", "app:app", THREADS, FLASK),
    "flask-werkzeug": example(
        "flask", "app", ("flask", "--app", "{app}", "run", "--port", "{port}"), FLASK, pipelines=False
    ),  # a connection of its server lasts for one request
    "fastapi-uvicorn": example("fastapi", "app:app", route=FASTAPI, **proxied("--http", "httptools")),
    "starlette-uvicorn": example("starlette", "app:app", **proxied("--http", "h11"), **STARLETTE),
    "django-gunicorn": example("django", "wsgi:application", THREADS, DJANGO, **SETTINGS),
    "django-uvicorn": example("django", "asgi:application", route=DJANGO, **proxied(), **SETTINGS),
    "raw-gunicorn": raw("wsgi", THREADS, requests=400),
    "raw-uvicorn": raw("asgi", **proxied(), requests=400),
    "wrapped-gunicorn": raw("wrapped_wsgi", THREADS, requests=400, server_span=True),
    "wrapped-uvicorn": raw("wrapped_asgi", **proxied(), requests=400, server_span=True),
    # Further servers, and layers inside of layers
    "raw-gunicorn-asgi": raw("orders", (*GUNICORN, "-k", "asgi")),
    "raw-gunicorn-uvicorn": raw("orders", (*GUNICORN, "-k", "uvicorn.workers.UvicornWorker"), client=FORWARDED),
    "raw-gunicorn-gevent": raw("wsgi", (*GUNICORN, "-k", "gevent")),
    "raw-uvicorn-wsgi": raw("wsgi", **proxied("--interface", "wsgi")),
    "raw-granian-asgi": raw("orders", (*GRANIAN, "--interface", "asgi")),
    "raw-granian-wsgi": raw("wsgi", (*GRANIAN, "--interface", "wsgi")),
    "raw-hypercorn-asgi": raw("orders", ("hypercorn", "{app}", "-b", "127.0.0.1:{port}")),
    "raw-hypercorn-wsgi": raw("wsgi", ("hypercorn", "{app}", "-b", "127.0.0.1:{port}")),
    "raw-waitress": raw("wsgi", ("waitress-serve", "--listen", "127.0.0.1:{port}", "{app}")),
    "django-wsgiref": example(
        "django",
        "",
        ("django-admin", "runserver", "--noreload", "--pythonpath", ".", "{port}"),
        DJANGO,
        requests=80,
        pipelines=False,  # its connections last for one request
        **SETTINGS,
    ),
    "fastapi-native": example(
        "fastapi",
        "app:app",
        route=FASTAPI,
        requests=80,
        environment={"OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": "fastapi,starlette,asgi"},
        **proxied(),
    ),
    "fastapi-included": mounted("/v2", FASTAPI),
    "flask-in-fastapi": mounted("/legacy", FLASK),
}


@dataclass(frozen=True)
class Asked:
    """One request as it was sent, and what everything that is told of it has to say."""

    token: str | None
    said: dict[str, Any]

    @property
    def actor(self) -> str:
        return str(self.said["enduser.id"] or "anonymous")


def asked(number: int, name: str) -> Asked:
    """By turns a good token, an expired one, three that are forged, and none."""
    now = int(time.time())
    person = claims(sub=name, sid=f"s-{name}", aud=None, iat=now, exp=now + 600)
    key, other = signing_key(), signing_key("RS256", 1)
    nobody = dict[str, Any](zip(("enduser.id", "session.id", "jwt.issuer", "jwt.expires_at"), [None] * 4, strict=True))
    kind = number % 7
    if kind < 2:
        known = {"enduser.id": name, "session.id": f"s-{name}", "jwt.issuer": ISSUER, "jwt.expires_at": str(now + 600)}
        return Asked(key.sign(person, kid="k-1"), {**known, "jwt.status": "verified", "jwt.error": None})
    if kind == 2:
        expired = key.sign({**person, "exp": now - 600}, kid="k-1")
        return Asked(expired, {**nobody, "jwt.status": "expired", "jwt.error": "expired"})
    if kind == 6:
        return Asked(None, {**nobody, "jwt.status": "absent", "jwt.error": None})
    token, error = {
        3: (other.sign(person, kid="k-1"), "signature_mismatch"),
        4: (".".join([b64(b'{"alg":"none"}'), b64(json.dumps(person).encode()), ""]), "algorithm_not_allowed"),
        5: (signing_key("HS256").sign(person, kid="k-1"), "algorithm_not_allowed"),
    }[kind]
    return Asked(token, {**nobody, "jwt.status": "invalid", "jwt.error": error})


def form(path: str, name: str, token: str | None, *, close: bool) -> bytes:
    lines = [f"GET {path} HTTP/1.1", "Host: 127.0.0.1", f"X-Request-ID: {name}", f"X-Forwarded-For: {FORWARDED}"]
    lines += [f"Authorization: Bearer {token}"] if token else []
    lines += ["Connection: close"] if close else []
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def exchange(port: int, sent: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=SECONDS) as connection:
        connection.sendall(sent)
        got = b""
        while chunk := connection.recv(65536):
            got += chunk
        return got


def together(stack: Stack, port: int, sent: dict[str, Asked]) -> None:
    """All requests, as many at a time as there are threads; the barrier lets them begin at once."""
    count = 40
    barrier = threading.Barrier(count)
    failed: list[bytes] = []

    def work(names: list[str]) -> None:
        barrier.wait()
        for name in names:
            got = exchange(port, form(stack.path, name, sent[name].token, close=True))
            if b" 200 " not in got.partition(b"\r\n")[0]:
                failed.append(got)

    names = list(sent)
    threads = [threading.Thread(target=work, args=(names[at::count],)) for at in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []


def piped(stack: Stack, port: int, sent: dict[str, Asked]) -> None:
    """All requests at once on one connection."""
    names = list(sent)
    whole = b"".join(form(stack.path, name, sent[name].token, close=name == names[-1]) for name in names)
    assert exchange(port, whole).count(b"HTTP/1.1 200") == len(sent)


def arrived(served: Served, count: int, last: str) -> bool:
    """Whether the receiver has the spans, log records and records of so many requests, and the last one's record."""
    wanted = {"audit": b'"http.request"', "traces": b'"load order"', "logs": b"loaded order"}
    files = {name: served.root / "sink" / f"{name}.jsonl" for name in wanted}
    if not all(path.exists() for path in files.values()):
        return False
    held = {name: path.read_bytes() for name, path in files.items()}
    return all(held[name].count(word) >= count for name, word in wanted.items()) and last.encode() in held["audit"]


def told(served: Served, names: set[str]) -> tuple[dict[str, list[Item]], dict[str, list[Item]], dict[str, list[Item]]]:
    """The audit records, the spans and the log records of each request."""
    records = defaultdict(list)
    for item in served.items("audit"):
        if item.form.get("eventName") == "http.request":
            records[str(item.attributes["request.id"])].append(item)
    traces = {found[0].trace: name for name, found in records.items() if found[0].trace}
    others = []
    for file in ("traces", "logs"):
        found = defaultdict(list)
        for item in served.items(file):
            name = item.attributes.get("asked.by") or traces.get(item.trace)
            if name in names and not item.form.get("name", "").endswith((" http send", " http receive")):
                found[str(name)].append(item)
        others.append(found)
    return records, *others  # type: ignore[return-value]  # a tuple of three


@pytest.mark.parametrize("name", STACKS)
def test_each_request_is_its_own(name: str, tmp_path: Path) -> None:
    """Concurrent requests of mixed identities, then four pipelined ones: no mismatch anywhere.

    On the server span where the stack has one, on the span and the log record of the handler, and on the
    audit record, of which there is exactly one, with route, peer and client. What is expired or forged has
    its reason and names nobody; a handler that raises leaves its exception. No token is in any output, in
    which the same search finds a planted word.
    """
    stack = STACKS[name]
    sent = {f"p-{number}": asked(number, f"p-{number}") for number in range(stack.requests)}
    queue = {f"q-{number}": asked((0, 6, 1, 2)[number], f"q-{number}") for number in range(4 * stack.pipelines)}
    key_set = tmp_path / "jwks.json"
    key_set.write_bytes(jwks(signing_key().jwk("k-1", alg="RS256")))
    settings = {
        "OTEL_PYTHON_JWT_AUDIT_JWKS": str(key_set),
        "OTEL_PYTHON_JWT_AUDIT_ISSUER": ISSUER,
        "OTEL_LOG_LEVEL": "debug",
        "OTEL_RESOURCE_ATTRIBUTES": f"planted={CANARY}",
        "OTEL_BSP_MAX_QUEUE_SIZE": "20000",
        "OTEL_BLRP_MAX_QUEUE_SIZE": "20000",
        **stack.environment,
    }
    with serving(tmp_path, stack.directory, stack.app, stack.command, **settings) as served:
        together(stack, served.port, sent)
        if queue:
            piped(stack, served.port, queue)
        broken, everyone = served.ask(f"{stack.below}/boom", asked(0, "boom").token), sent | queue
        served.wait(lambda: arrived(served, len(everyone), broken.id))
        served.stop()
        records, spans, logs = told(served, set(everyone))
        (failure,) = records.pop(broken.id)
        everything = served.everything()

    assert {one: len(found) for one, found in records.items()} == dict.fromkeys(everyone, 1)
    for one, wanted in everyone.items():
        (record,) = records[one]
        seen = record.attributes
        assert seen["audit.actor.id"] == wanted.actor
        assert seen.get("http.route") == stack.route
        assert (seen["client.address"], seen["network.peer.address"]) == (stack.client, "127.0.0.1")
        for item in [record, *spans[one], *logs[one]]:
            assert {name: item.attributes.get(name) for name in wanted.said} == wanted.said, (one, item)
        kinds = Counter(item.form["kind"] for item in spans[one])
        assert kinds[2] == stack.server_span, (one, kinds)
        assert [item for item in spans[one] if item.form["name"] == "load order"]
        assert [item for item in logs[one] if "loaded order" in str(item.form["body"])]

    shown = failure.attributes
    assert (broken.status, shown["http.response.status_code"], shown["audit.outcome"]) == (500, "500", "failure")
    assert (shown["error.type"], shown["audit.actor.id"]) == ("RuntimeError", "boom")
    assert shown.get("http.route") == (f"{stack.below}/boom" if stack.route else None)

    assert CANARY.encode() in everything
    assert b"eyJhbGciOi" not in everything, "the beginning of every token here"
    for wanted in everyone.values():
        for part in (wanted.token or "").split(".")[1:]:
            assert not part or part.encode() not in everything, "claims or signature"
