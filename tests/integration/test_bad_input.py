"""Wrong settings and strange requests, through running apps: answered as without us, each fault told once.

In one line, with the variable's full name, with no traceback and nothing of a token.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from jwt_audit.evidence.signing import Signer
from support.audited import ISSUER, KEY, token
from support.issuer import jwks_server
from support.served import GUNICORN, SECONDS, UVICORN, Served, free_port, serving

APPS = Path(__file__).parent / "apps"
CANARY = "canary-that-the-search-must-find"
P = "OTEL_PYTHON_JWT_AUDIT_"
SERVERS = {
    "uvicorn": ("plain:asgi", UVICORN),
    "gunicorn": ("plain:wsgi", (*GUNICORN, "--limit-request-field_size", "65536")),
}


def serve(stack: ExitStack, root: Path, server: str, environment: dict[str, str]) -> Served:
    """The plain app with a signing key and the issuer's public key, unless ``environment`` says otherwise."""
    for name, pem in (("signing.pem", Signer.generate().pem), ("issuer.pem", KEY.pem)):
        (root / name).write_bytes(pem)
    app, command = SERVERS[server]
    plain = {f"{P}SIGNING_KEY": str(root / "signing.pem"), f"{P}ISSUER": ISSUER}
    if not any(f"{P}{name}" in environment for name in ("JWKS", "SECRET_FILE")):
        plain[f"{P}PUBLIC_KEY"] = str(root / "issuer.pem")
    return stack.enter_context(serving(root, APPS, app, command, **plain | environment))


def ours(served: Served) -> list[str]:
    """What was said of audit on the app's own terminal."""
    lines = (served.root / "app.log").read_text("utf-8", "replace").splitlines()
    return [line for line in lines if line.startswith(("jwt-audit: ", "WARNING:jwt_audit:"))]


def quiet(served: Served, *tokens: str) -> None:
    """Nothing of a token and no traceback is in any output."""
    assert "Traceback" not in served.output()
    everything = served.everything()
    for one in tokens:
        for part in (one, one.rpartition(".")[2]):
            assert part.encode() not in everything


def written(root: Path, name: str, data: bytes) -> str:
    (root / name).write_bytes(data)
    return str(root / name)


def rubbish_over_http(stack: ExitStack) -> str:
    keys = stack.enter_context(jwks_server())
    keys.body = b"<html>rubbish</html>"
    return keys.url


Fault = Callable[[Path, ExitStack], tuple[str, str]]
"""A wrong value, and words that the one line says of it."""
FAULTS: dict[str, tuple[str, Fault]] = {
    "key file missing": ("PUBLIC_KEY", lambda root, _: (str(root / "none.pem"), "No such file")),
    "key file unreadable": ("PUBLIC_KEY", lambda root, _: (str(root), "Is a directory")),
    "key file of rubbish": ("PUBLIC_KEY", lambda root, _: (written(root, "k.pem", b"rubbish"), "no PEM public key")),
    "short secret": ("SECRET_FILE", lambda root, _: (written(root, "s", b"short"), "a secret of 5 bytes")),
    "key set of rubbish": ("JWKS", lambda root, _: (written(root, "jwks.json", b"\xff{"), "no JSON")),
    "key set of rubbish over HTTP": ("JWKS", lambda _, stack: (rubbish_over_http(stack), "no JSON")),
    "key set unreachable": ("JWKS", lambda *_: (f"http://127.0.0.1:{free_port()}/jwks", "Connection refused")),
    "key set by plain HTTP": ("JWKS", lambda *_: ("http://login.example.com/jwks", "use https")),
    "algorithm unknown": ("ALGORITHMS", lambda *_: ("RS256,RS257", "'RS257' is not a supported algorithm")),
    "spool under a file": ("SPOOL", lambda root, _: (written(root, "file", b"") + "/s", "cannot make the spool")),
    "endpoint refused": ("ENDPOINT", lambda *_: (f"http://127.0.0.1:{free_port()}/", "audit records wait")),
    "endpoint no URL": ("ENDPOINT", lambda *_: ("collector:4318", "is not a valid URL")),
    "name misspelt": ("ENPOINT", lambda *_: ("http://127.0.0.1:1/", "no such setting")),
}
TOGETHER = [
    ("uvicorn", ["key file missing", "spool under a file", "endpoint no URL", "name misspelt"]),
    ("gunicorn", ["key set unreachable", "spool under a file", "endpoint no URL"]),
    ("uvicorn", ["key file of rubbish", "endpoint refused"]),
    ("gunicorn", ["key set of rubbish over HTTP"]),
    ("uvicorn", ["key file unreadable", "algorithm unknown"]),
    ("uvicorn", ["key set unreachable"]),
    ("gunicorn", ["key set of rubbish"]),
    ("uvicorn", ["key set by plain HTTP"]),
    ("gunicorn", ["short secret"]),
]


@pytest.mark.parametrize(("server", "faults"), TOGETHER, ids=lambda value: value if isinstance(value, str) else None)
def test_wrong_settings_are_told_once_and_change_no_answer(tmp_path: Path, server: str, faults: list[str]) -> None:
    """The app starts, answers, and stops; one line names the variable, what is wrong, and what holds meanwhile."""
    sent = token("alice")
    with ExitStack() as stack:
        made = {FAULTS[fault][0]: FAULTS[fault][1](tmp_path, stack) for fault in faults}
        served = serve(stack, tmp_path, server, {f"{P}{variable}": value for variable, (value, _) in made.items()})
        for number in range(3):
            answer = served.ask(f"/{number}", sent)
            assert (answer.status, answer.json) == (200, f'{{"path": "{number}", "authorization": 1}}')
        for _, words in made.values():
            served.wait(lambda words=words: any(words in line for line in ours(served)))  # type: ignore[misc]
        assert served.ask("/last", sent).status == 200
        served.stop()
    lines = ours(served)
    for variable, (_, words) in made.items():
        (about,) = [line for line in lines if words in line]
        assert f"{P}{variable}: " in about
        lines.remove(about)
    # What it means for the requests is said at the first of them, and nothing else.
    assert [f"(see {P}SPOOL)" in line for line in lines] == ([True] if "SPOOL" in made else []), lines
    quiet(served, sent)


@pytest.fixture(params=list(SERVERS))
def served(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Served]:
    with ExitStack() as stack:
        yield serve(stack, tmp_path, request.param, {})


def raw(served: Served, path: str, *headers: bytes) -> bytes:
    """The answer to a request of these very bytes."""
    lines = [b"GET /%b HTTP/1.1" % path.encode(), b"Host: shop", *headers, b"Connection: close", b"", b""]
    with socket.create_connection(("127.0.0.1", served.port), timeout=SECONDS) as connection:
        connection.sendall(b"\r\n".join(lines))
        got = b""
        while chunk := connection.recv(65536):
            got += chunk
    return got


def test_strange_requests_are_answered_and_recorded(served: Served) -> None:
    """A token of 30 KB, latin-1 bytes in every header, two Authorization headers, no token at all, a good one."""
    good, large = token("alice"), f"{token('mallory', padding='x' * 22_000)}"
    assert 29_000 < len(large) < 32_000
    bearer = b"Authorization: Bearer "
    latin = bytes(range(0xA1, 0x100))
    names = (b"Authorization", b"User-Agent", b"X-Request-ID", b"Traceparent", b"Cookie", b"X-Forwarded-For", b"Accept")
    requests = {
        "large": [bearer + large.encode()],
        "latin": [name + b": " + latin for name in names],
        "two": [bearer + good.encode(), bearer + large[:3000].encode()],
        "none": [],
        "good": [bearer + good.encode()],
    }
    for path, headers in requests.items():
        answer = raw(served, path, *headers)
        assert answer.startswith(b"HTTP/1.1 200"), answer
        assert path.encode() in answer.partition(b"\r\n\r\n")[2]

    def records() -> dict[str, tuple[str, str, str | None]]:
        found = (item.attributes for item in served.items("audit") if item.form.get("eventName") == "http.request")
        return {
            shown["url.path"][1:]: (shown["audit.actor.id"], shown["jwt.status"], shown.get("jwt.error"))
            for shown in found
        }

    served.wait(lambda: len(records()) == len(requests))
    assert records() == {
        "large": ("anonymous", "invalid", "too_large"),
        "latin": ("anonymous", "absent", None),
        "two": ("anonymous", "invalid", "multiple_tokens"),
        "none": ("anonymous", "absent", None),
        "good": ("alice", "verified", None),
    }
    served.stop()
    assert ours(served) == []
    quiet(served, good, large)


@pytest.mark.parametrize("server", SERVERS)
def test_a_unix_socket_has_no_client_address(tmp_path: Path, server: str) -> None:
    """Then none is recorded."""
    path = tmp_path / "app.sock"
    command = {
        "uvicorn": ("uvicorn", "{app}", "--uds", str(path)),
        "gunicorn": ("gunicorn", "{app}", "--no-control-socket", "-b", f"unix:{path}"),
    }[server]
    with ExitStack() as stack:
        served = Served(tmp_path)
        (tmp_path / "issuer.pem").write_bytes(KEY.pem)
        stack.callback(served.kill)
        served.start(APPS, SERVERS[server][0], command, {f"{P}PUBLIC_KEY": str(tmp_path / "issuer.pem")}, listens=path)
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(SECONDS)
            connection.connect(str(path))
            lines = ("GET /x HTTP/1.1", "Host: shop", f"Authorization: Bearer {token('alice')}", "Connection: close")
            connection.sendall("\r\n".join([*lines, "", ""]).encode())
            assert connection.recv(65536).startswith(b"HTTP/1.1 200")
        served.wait(lambda: any(item.form.get("eventName") == "http.request" for item in served.items("audit")))
        served.stop()
    (record,) = [item.attributes for item in served.items("audit") if item.form.get("eventName") == "http.request"]
    assert record["enduser.id"] == "alice"
    assert "client.address" not in record
    assert "network.peer.address" not in record
    assert "Traceback" not in served.output()


@pytest.mark.parametrize("server", SERVERS)
def test_no_output_ever_holds_a_token(tmp_path: Path, server: str) -> None:
    """Everything at DEBUG: the app, every library, OpenTelemetry itself. A planted word is found by the same search."""
    tokens = [token("alice"), token("bob", exp=1_000_000_000), token("mallory", iss="https://elsewhere.example")]
    tokens.append(tokens[0].rpartition(".")[0] + "." + "A" * 342)
    tokens.append("eyJhbGciOiJub25lIn0.eyJzdWIiOiJjZW8ifQ.c2lnbmF0dXJlLW9mLW5vYm9keQ")
    debug = {"APP_LOG_LEVEL": "DEBUG", "OTEL_LOG_LEVEL": "debug", "CANARY": CANARY, "PYTHONASYNCIODEBUG": "1"}
    with ExitStack() as stack:
        served = serve(stack, tmp_path, server, debug)
        for one in tokens:
            assert served.ask("/x", one).status == 200
        served.wait(lambda: len([item for item in served.items("audit") if "request.id" in item.attributes]) == 5)
        served.stop()
    assert "DEBUG" in (tmp_path / "app.log").read_text()
    for path in (tmp_path / "app.log", tmp_path / "sink" / "logs.jsonl"):
        assert CANARY.encode() in path.read_bytes(), f"the search looks at {path.name}"
    assert CANARY.encode() in served.everything()
    quiet(served, *tokens)
