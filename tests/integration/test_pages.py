"""The pages of the examples and of the chain, followed as a newcomer follows them: their commands, as they stand."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from support.served import BIN, SECONDS, free_port

ROOT = Path(__file__).parents[2]
QUIET = {f"OTEL_{signal_}_EXPORTER": "none" for signal_ in ("TRACES", "LOGS", "METRICS")}
"""The apps' own telemetry has its own tests, and no receiver here."""


def blocks(page: Path) -> list[str]:
    """What stands between fences."""
    return re.findall(r"^```\n(.*?)^```$", page.read_text("utf-8"), re.MULTILINE | re.DOTALL)


def starting(block: str) -> bool:
    return "opentelemetry-instrument " in block


EXAMPLES = [
    pytest.param(page.parent.name, number, id=f"{page.parent.name}-{number}")
    for page in sorted((ROOT / "examples").glob("*/README.md"))
    for number in range(sum(map(starting, blocks(page))))
]


def environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    return {**kept, **QUIET, "PATH": f"{BIN}{os.pathsep}{kept['PATH']}", "PYTHONDONTWRITEBYTECODE": "1"}


@contextmanager
def running(lines: str, directory: Path, port: int, **more: str) -> Iterator[Path]:
    """The lines at work in a shell, until the app listens; what they write goes to the file that is given."""
    log = directory / "app.log"
    with log.open("wb") as out:
        shell = subprocess.Popen(
            ["bash", "-ec", lines],
            cwd=directory,
            env=environment() | more,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        until = time.monotonic() + SECONDS
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            assert shell.poll() is None, log.read_text("utf-8")
            assert time.monotonic() < until, log.read_text("utf-8")
            time.sleep(0.05)
        yield log
    finally:
        os.killpg(shell.pid, signal.SIGINT)  # Ctrl-C ends the app; what the shell has started behind itself goes on
        try:
            shell.wait(SECONDS)
        except subprocess.TimeoutExpired:
            pass
        try:
            os.killpg(shell.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        shell.wait()


def complaints(shown: str) -> list[str]:
    """What is said of audit, but for the line at the start, and what these pages leave out: a key, a receiver."""
    found = [line for line in shown.splitlines() if re.search(r"\bjwt[-_]audit:", line)]
    known = ("recording requests in", "signed by a key made in", "cannot be reached")
    return [line for line in found if not any(one in line for one in known)]


def audit(directory: Path, spool: Path) -> list[dict[str, Any]]:
    """The records, as `jwt-audit tail` shows them."""
    line = ["jwt-audit", "tail", "--json", str(spool)]
    said = subprocess.run(line, cwd=directory, env=environment(), capture_output=True, text=True, timeout=SECONDS)
    assert said.returncode == 0, said.stderr
    return [json.loads(one) for one in said.stdout.splitlines()]


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed: the pages' requests were not made")
@pytest.mark.parametrize(("example", "number"), EXAMPLES)
def test_an_example_does_what_its_page_says(tmp_path: Path, example: str, number: int) -> None:
    """It starts, answers, and leaves the records that the page tells of, which are proved; nothing is complained of."""
    page = ROOT / "examples" / example / "README.md"
    starts = [block for block in blocks(page) if starting(block)]
    (asking,) = [block for block in blocks(page) if "curl " in block]
    (there,) = set(re.findall(r"127\.0\.0\.1:(\d+)", asking))
    port = free_port()
    setting_up = starts[0].splitlines()[0]
    lines = starts[number] if number == 0 else f"{setting_up}\n{starts[number]}"
    work = tmp_path / "work"
    shutil.copytree(page.parent, work)
    with running(re.sub(rf"\b{there}\b", str(port), lines), work, port) as log:
        said = subprocess.run(
            ["bash", "-ec", re.sub(rf"\b{there}\b", str(port), asking)],
            cwd=work,
            env=environment(),
            capture_output=True,
            text=True,
            timeout=SECONDS,
        )
        shown = log.read_text("utf-8")
    assert said.returncode == 0, said.stdout + said.stderr
    assert re.search(r"\bvalid: \d+ records in ", said.stdout), said.stdout
    seen = [(one["user_id"], one["token_status"], one["response_status"]) for one in audit(work, work / "spool")]
    refused = seen[4][2]
    assert refused in (401, 422)
    assert seen == [
        (None, "absent", 200),
        ("alice", "verified", 201),
        ("alice", "verified", 200),
        ("alice", "verified", 403),
        (None, "invalid", refused),
        (None, "unverified", 200),
    ]
    assert complaints(shown) == []


def test_the_chains_page_starts_the_app(tmp_path: Path) -> None:
    """The second of the newcomer's three commands: the app comes up and finds nothing wrong with what it is given."""
    page = ROOT / "collector-config" / "README.md"
    line = next(line for line in blocks(page)[0].splitlines() if "opentelemetry-instrument" in line)
    (there,) = re.findall(r"--port (\d+)", line)
    port = free_port()
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    work = tmp_path / "collector-config"
    work.mkdir()
    state = tmp_path / "state"
    with running(line.replace(there, str(port)), work, port, XDG_STATE_HOME=str(state)) as log:
        subprocess.run(["curl", "-s", f"http://127.0.0.1:{port}/healthz"], check=True, timeout=SECONDS)
        (service,) = re.findall(r"OTEL_SERVICE_NAME=(\S+)", line)
        assert [one["endpoint"] for one in audit(work, state / "jwt-audit" / service)] == ["/healthz"]
        shown = log.read_text("utf-8")
    assert complaints(shown) == []


PLAIN = """
import logging
from flask import Flask

app = Flask(__name__)

@app.get("/")
def index():
    logging.getLogger("shop").warning("hello")
    return "hello"
"""
QUICK = """
import logging
from fastapi import FastAPI

app = FastAPI()

@app.get("/")
def index():
    logging.getLogger("shop").warning("hello")
    return "hello"
"""
URLS = """
import logging
from django.http import HttpResponse
from django.urls import path

def index(request):
    logging.getLogger("shop").warning("hello")
    return HttpResponse("hello")

urlpatterns = [path("", index)]
"""
STARTS = {
    "uvicorn app:app": ("--port", QUICK),
    "flask run": ("--port", PLAIN),
    "gunicorn app:app": ("--no-control-socket -b 127.0.0.1:", PLAIN),
    "gunicorn mysite.wsgi": ("--no-control-socket -b 127.0.0.1:", ""),
}
"""How README starts an app, where the port goes, and an app as a newcomer may have it."""


def write_app(work: Path, text: str) -> None:
    work.mkdir()
    if text:
        (work / "app.py").write_text(text)
        return
    subprocess.run([BIN / "django-admin", "startproject", "mysite", str(work)], check=True, timeout=SECONDS)
    (work / "mysite" / "urls.py").write_text(URLS)


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed: the app was not asked")
@pytest.mark.parametrize("start", STARTS)
def test_readme_starts_an_app_and_proves_what_it_did(tmp_path: Path, start: str) -> None:
    """Its own lines: a sink, the variables, the app, and then `tail` and `verify` in the same environment.

    Spans, log records and metrics arrive in files of the sink, and nothing is complained of: with the distro's
    default exporters, none of which is turned off.
    """
    found = blocks(ROOT / "README.md")
    (beginning,) = [block for block in found if "jwt-audit sink &" in block]
    (line,) = {
        line for block in found for line in block.splitlines() if line.endswith(f"opentelemetry-instrument {start}")
    }
    (looking,) = [block for block in found if "jwt-audit tail\n" in block]
    option, text = STARTS[start]
    write_app(tmp_path / "work", text)
    port, sink = free_port(), free_port()
    separator = "" if option.endswith(":") else " "
    setting_up = re.sub(r"^opentelemetry-instrument .*$", "", beginning, flags=re.MULTILINE)
    setting_up = setting_up.replace("jwt-audit sink &", f"jwt-audit sink --port {sink} &")
    lines = f"{setting_up}\n{line} {option}{separator}{port}"
    more = {
        "XDG_STATE_HOME": str(tmp_path / "state"),
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{sink}",
        "OTEL_BSP_SCHEDULE_DELAY": "100",
        "OTEL_BLRP_SCHEDULE_DELAY": "100",
        "OTEL_METRIC_EXPORT_INTERVAL": "200",
        **dict.fromkeys(QUIET, "otlp"),  # the distro's default
    }
    kept = tmp_path / "work" / "jwt-audit-sink"
    with running(lines, tmp_path / "work", port, **more) as log:
        subprocess.run(["curl", "-sf", f"http://127.0.0.1:{port}/"], check=True, timeout=SECONDS)
        until = time.monotonic() + SECONDS
        names = ("traces", "logs", "metrics", "audit")
        while not all((kept / f"{name}.jsonl").exists() and (kept / f"{name}.jsonl").stat().st_size for name in names):
            assert time.monotonic() < until, (sorted(kept.iterdir()), log.read_text("utf-8"))
            time.sleep(0.1)
    shown = log.read_text("utf-8")
    assert "recording requests in" in shown
    assert complaints(shown) == []
    assert "Failed to export" not in shown
    said = subprocess.run(
        ["bash", "-c", f"{setting_up.partition('&')[2]}\n{looking}"],
        cwd=tmp_path / "work",
        env=environment() | more,
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    assert said.returncode == 0, said.stdout + said.stderr
    assert re.search(r"READ +GET / ", said.stdout)
    assert len(re.findall(r"^valid: ", said.stdout, re.MULTILINE)) == 2
