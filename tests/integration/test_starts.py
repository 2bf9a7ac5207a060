"""However the processes of an app come about: workers, reloaders, a load before the fork, and not at all."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from support.issuer import claims, signing_key
from support.served import BIN, SECONDS, Answer, Served, serving

EXAMPLES = Path(__file__).parents[2] / "examples"
APPS = Path(__file__).parent / "apps"
FASTAPI, FLASK = EXAMPLES / "fastapi", EXAMPLES / "flask"
UVICORN = ("uvicorn", "{app}", "--port", "{port}")
GUNICORN = ("gunicorn", "{app}", "--no-control-socket", "-b", "127.0.0.1:{port}")


def key_of(root: Path) -> str:
    path = root / "key.pem"
    path.write_bytes(signing_key().pem)
    return str(path)


def good_token() -> str:
    return signing_key().sign(claims(iat=None, exp=4_000_000_000))


def streams(served: Served) -> set[str]:
    """The processes that have recorded a request of alice, by their streams."""
    return {
        str(item.attributes["audit.sequence.stream_id"])
        for item in served.items("audit")
        if item.form.get("eventName") == "http.request" and item.attributes.get("enduser.id") == "u1001"
    }


@pytest.mark.parametrize(
    ("directory", "command"),
    [
        (FASTAPI, (*UVICORN, "--workers", "2", "--timeout-worker-healthcheck", "60")),
        (FLASK, (*GUNICORN, "--workers", "2")),
        (FLASK, (*GUNICORN, "--workers", "2", "--preload")),
    ],
    ids=["uvicorn-workers", "gunicorn-workers", "gunicorn-preload"],
)
def test_each_worker_has_its_stream(tmp_path: Path, directory: Path, command: tuple[str, ...]) -> None:
    """Two workers, also where the app was loaded before the fork: each records, and no record is missing."""
    token = good_token()
    answers: list[Answer] = []
    with serving(tmp_path, directory, command=command, OTEL_PYTHON_JWT_AUDIT_PUBLIC_KEY=key_of(tmp_path)) as served:

        def both() -> bool:
            # At once: one after another may all go to the worker that is quicker to wake
            with ThreadPoolExecutor(8) as clients:
                answers.extend(clients.map(lambda _: served.ask("/orders/1", token), range(16)))
            return len(streams(served)) == 2

        served.wait(both)
        served.wait(
            lambda: (
                {answer.id for answer in answers}
                <= {str(item.attributes.get("request.id")) for item in served.items("audit")}
            )
        )
        assert {answer.status for answer in answers} == {200}
        assert len(streams(served)) == 2


@pytest.mark.parametrize("worker", [(), ("--threads", "2")], ids=["sync", "threads"])
def test_the_peer_is_the_proxy_that_says_who_the_client_is(tmp_path: Path, worker: tuple[str, ...]) -> None:
    """gunicorn takes the client from the proxy's first line; whose connection it is stays known."""
    command = (*GUNICORN, *worker, "--proxy-protocol", "--proxy-allow-from", "127.0.0.1")
    with serving(tmp_path, FLASK, command=command, SHOP_SECRET="0" * 32) as served:
        with socket.create_connection(("127.0.0.1", served.port), SECONDS) as connection:
            connection.sendall(b"PROXY TCP4 203.0.113.9 198.51.100.1 51234 443\r\n")
            connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: shop\r\nConnection: close\r\n\r\n")
            while connection.recv(4096):
                pass

        def requests() -> list[tuple[object, object]]:
            found = [item for item in served.items("audit") if item.form.get("eventName") == "http.request"]
            names = ("client.address", "network.peer.address")
            return [(item.attributes.get(names[0]), item.attributes.get(names[1])) for item in found]

        served.wait(lambda: bool(requests()))
        assert requests() == [("203.0.113.9", "127.0.0.1")]


def test_a_reloaded_app_is_audited_again(tmp_path: Path) -> None:
    """uvicorn --reload: the child that replaces the first has a stream of its own."""
    work = tmp_path / "work"
    work.mkdir()
    app = work / "app.py"
    app.write_bytes((EXAMPLES / "fastapi" / "app.py").read_bytes())
    token = good_token()
    command = (*UVICORN, "--reload", "--reload-dir", str(work))
    with serving(tmp_path, work, command=command, OTEL_PYTHON_JWT_AUDIT_PUBLIC_KEY=key_of(tmp_path)) as served:

        def recorded(count: int) -> bool:
            try:
                served.ask("/orders/1", token)
            except OSError:
                return False  # between the two
            return len(streams(served)) == count

        served.wait(lambda: recorded(1))
        app.write_text(app.read_text("utf-8") + "\n# changed\n", "utf-8")
        os.utime(app)
        served.wait(lambda: recorded(2))


@pytest.mark.parametrize(
    "setting",
    [{"OTEL_SDK_DISABLED": "true"}, {"OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": "jwt_audit"}],
    ids=lambda setting: next(iter(setting)),
)
def test_what_is_turned_off_does_nothing(tmp_path: Path, setting: dict[str, str]) -> None:
    """No spool, no record, no word; the app answers, and OpenTelemetry's own spans carry no identity."""
    with serving(
        tmp_path, FASTAPI, command=UVICORN, OTEL_PYTHON_JWT_AUDIT_PUBLIC_KEY=key_of(tmp_path), **setting
    ) as served:
        assert served.ask("/orders/1", good_token()).status == 200
        if "OTEL_SDK_DISABLED" not in setting:
            served.wait(lambda: bool(served.items("traces")) and bool(served.items("logs")))
        served.stop()
        shown = [item.attributes for file in ("traces", "logs") for item in served.items(file)]
        assert [one for one in shown if any(name.startswith(("enduser.", "jwt.")) for name in one)] == []
        assert served.items("audit") == []
        assert not (tmp_path / "spool").exists()
        assert "jwt-audit" not in (tmp_path / "app.log").read_text("utf-8")


@pytest.mark.parametrize("app", ["raw:asgi", "mounted:app"])
def test_uvicorn_ends_its_stream(tmp_path: Path, app: str) -> None:
    """It dies of SIGTERM without exit handlers, whether the app has a lifespan or not; no end is left open."""
    with serving(tmp_path, APPS, app, UVICORN) as served:
        served.ask("/nowhere")
        served.stop()
        line = [str(BIN / "jwt-audit"), "verify", "--json", str(tmp_path / "spool")]
        report = json.loads(subprocess.run(line, capture_output=True, timeout=SECONDS).stdout)
    (stream,) = report["streams"]
    assert (stream["records"], stream["ended"], stream["open_tail"]) == (3, True, 0)
