"""The demonstration: two apps, real tokens, who did what, the proof, and two tamperings that are caught.

Everything runs on loopback in a temporary directory, and nothing is left behind.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.server
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from rich.console import Console
from rich.text import Text

from jwt_audit.evidence.signing import Signer

EXAMPLES = Path(__file__).parent.parent
BIN = Path(sys.executable).parent
ISSUER = "https://issuer.example"
console = Console(highlight=False)


class Issuer:
    """Mints RS256 tokens and serves its key set over HTTP."""

    def __init__(self) -> None:
        self.key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        public = jwt.algorithms.RSAAlgorithm.to_jwk(self.key.public_key(), as_dict=True)
        jwks = json.dumps({"keys": [{**public, "kid": "k1", "use": "sig", "alg": "RS256"}]}).encode()

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.end_headers()
                self.wfile.write(jwks)

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/jwks.json"

    def token(self, person: str, *, seconds: int = 600, key: Any = None) -> str:
        claims = {"iss": ISSUER, "sub": person, "sid": f"session-of-{person}", "exp": int(time.time()) + seconds}
        return jwt.encode(claims, key or self.key, "RS256", headers={"kid": "k1"})

    def forged(self) -> list[str]:
        """No algorithm; another key; the public key as an HMAC secret."""
        pem = self.key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        parts = self.token("ceo").split(".")
        none = ".".join([_b64(b'{"alg":"none","kid":"k1"}'), parts[1], ""])
        signed = _b64(b'{"alg":"HS256","kid":"k1"}') + "." + parts[1]
        confused = signed + "." + _b64(hmac.new(pem, signed.encode(), hashlib.sha256).digest())
        other = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        return [none, self.token("ceo", key=other), confused]


def _b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def wait_for(port: int) -> None:
    for _ in range(300):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise SystemExit(f"nothing came up on port {port}")


def ask(url: str, token: str | None, method: str = "GET") -> int:
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers, method=method), timeout=10) as answer:
            answer.read()
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def attributes(record: dict[str, Any]) -> dict[str, Any]:
    return {item["key"]: next(iter(item["value"].values()), None) for item in record.get("attributes", [])}


def rows(path: Path, signal_name: str) -> list[tuple[str, dict[str, Any], dict[str, Any]]]:
    """(service, attributes, record) of each span or log record in a file of the sink's."""
    scope, kind = {"logs": ("scopeLogs", "logRecords"), "spans": ("scopeSpans", "spans")}[signal_name]
    found = []
    for line in path.read_text().splitlines():
        for group in json.loads(line)["resourceLogs" if signal_name == "logs" else "resourceSpans"]:
            service = attributes(group["resource"]).get("service.name", "?")
            for inner in group[scope]:
                found += [(service, attributes(record), record) for record in inner.get(kind, [])]
    return found


def say(line: str) -> None:
    """One line, cut where the terminal ends."""
    console.print(Text(line, no_wrap=True, overflow="ellipsis"))


def audit(work: Path, *arguments: str) -> int:
    """Run `jwt-audit` in ``work`` as a person does, on this terminal; its exit status."""
    console.print(f"[bold]$ jwt-audit {' '.join(arguments)}[/]")
    sys.stdout.flush()
    status = subprocess.run([BIN / "jwt-audit", *arguments], cwd=work, stderr=subprocess.STDOUT, check=False).returncode
    console.print()
    return status


def change_one_byte(work: Path, file: Path) -> None:
    """Make alice of one record blice."""
    data = file.read_bytes()
    at = data.index(b'"alice"') + 1
    file.write_bytes(data[:at] + b"b" + data[at + 1 :])
    say(f"byte {at} of {file.relative_to(work).parts[0]}/…/{file.name} was a, is b now: alice is blice")


def main() -> int:
    work = Path(tempfile.mkdtemp(prefix="jwt-audit-demo-"))
    processes: list[subprocess.Popen[bytes]] = []

    def start(name: str, command: list[str], cwd: Path, **environment: str) -> subprocess.Popen[bytes]:
        with (work / f"{name}.log").open("wb") as log:
            process = subprocess.Popen(
                command, cwd=cwd, env=os.environ | environment, stdout=log, stderr=log, start_new_session=True
            )
        processes.append(process)
        return process

    try:
        return run(work, start)
    finally:
        for process in processes:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        shutil.rmtree(work, ignore_errors=True)


def run(work: Path, start: Any) -> int:
    issuer, sink_port = Issuer(), free_port()
    apps = {"shop-fastapi": free_port(), "shop-flask": free_port()}
    start("sink", [str(BIN / "jwt-audit"), "sink", str(work / "sink"), "--port", str(sink_port)], work)
    wait_for(sink_port)
    signer = Signer.generate()
    (work / "signing-key.pem").write_bytes(signer.pem)
    (work / "public-key.pem").write_bytes(signer.public_key.pem)  # what an auditor has
    common = {
        "SHOP_JWKS": issuer.url,  # for the apps; the audit is given no key
        "OTEL_PYTHON_JWT_AUDIT_SPOOL": str(work / "spool"),
        "OTEL_PYTHON_JWT_AUDIT_SIGNING_KEY": str(work / "signing-key.pem"),
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{sink_port}",
        "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
        "OTEL_METRICS_EXPORTER": "none",
        "OTEL_BSP_SCHEDULE_DELAY": "200",
        "OTEL_BLRP_SCHEDULE_DELAY": "200",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PATH": f"{BIN}{os.pathsep}{os.environ.get('PATH', '')}",
    }
    fastapi, flask = apps.values()
    bind = f"127.0.0.1:{flask}"
    commands = {
        "shop-fastapi": ["uvicorn", "app:app", "--port", str(fastapi)],
        "shop-flask": ["gunicorn", "app:app", "-w", "2", "--threads", "4", "-b", bind, "--no-control-socket"],
    }
    running = {
        name: start(
            name,
            ["opentelemetry-instrument", *command],
            EXAMPLES / name.removeprefix("shop-"),
            **common,
            OTEL_SERVICE_NAME=name,
        )
        for name, command in commands.items()
    }
    for port in apps.values():
        wait_for(port)

    console.rule("requests of alice, bob and carol: good, expired, forged and no tokens")
    console.print("the audit is given no key: it observes what the apps verify themselves")
    sent = Counter[str]()
    for name, port in apps.items():
        url = f"http://127.0.0.1:{port}"
        for person in ("alice", "bob", "carol"):
            ask(f"{url}/orders", issuer.token(person))
            ask(f"{url}/orders/2", issuer.token(person), "DELETE")
            sent["verified"] += 2
        ask(f"{url}/orders", issuer.token("bob", seconds=-600))
        sent["expired"] += 1
        for token in issuer.forged():
            ask(f"{url}/orders", token)
            sent["invalid"] += 1
        ask(f"{url}/orders", None)
        ask(f"{url}/boom", None)
        sent["absent"] += 2
        console.print(f"{name}: {sent.total()} requests so far")
    time.sleep(2)
    for process in running.values():
        process.terminate()
    for process in running.values():
        process.wait(20)
    return tell(work, sent)


def tell(work: Path, sent: Counter[str]) -> int:
    console.rule("who did what: the audit records that the receiver holds")
    audit(work, "tail", "sink")
    records = [row for row in rows(work / "sink" / "audit.jsonl", "logs") if row[2].get("eventName") == "http.request"]

    spans, logs = rows(work / "sink" / "traces.jsonl", "spans"), rows(work / "sink" / "logs.jsonl", "logs")
    trace_id = next(record["traceId"] for _, found, record in records if found["audit.actor.id"] == "alice")
    console.rule("one trace of alice's, and its logs")
    same = True
    for what, kept in (("span", spans), ("log record", logs)):
        for _, found, record in kept:
            if record.get("traceId") == trace_id and not record.get("name", "").endswith((" send", " receive")):
                name = record.get("name") or next(iter(record.get("body", {"": ""}).values()), "")
                who = f"enduser.id={found.get('enduser.id')} jwt.status={found.get('jwt.status')}"
                say(f"{what:<11} {str(name)[:28]:<28} {who}")
                same = same and found.get("enduser.id") == "alice"

    console.print()
    prove = ("verify", "--key", "public-key.pem")
    console.rule("the proof: what the apps keep on their disk, and what the receiver holds")
    intact = [audit(work, *prove, "spool"), audit(work, *prove, "sink")]
    console.rule("one byte is changed in a copy of the spool")
    shutil.copytree(work / "spool", work / "changed-spool")
    segments = sorted((work / "changed-spool").rglob("*.seg"))
    change_one_byte(work, next(file for file in segments if b'"alice"' in file.read_bytes()))
    changed = [audit(work, *prove, "changed-spool")]
    console.rule("one byte is changed in a copy of what the receiver holds")
    shutil.copytree(work / "sink", work / "changed-sink")
    change_one_byte(work, work / "changed-sink" / "audit.jsonl")
    changed.append(audit(work, *prove, "changed-sink"))

    seen = Counter(found["jwt.status"] for _, found, _ in records)
    ids = {found["audit.record.id"] for _, found, _ in records}
    good = intact == [0, 0] and changed == [1, 1] and same and seen == sent
    good = good and len(ids) == len(records) == sent.total()
    if not good:
        console.print(f"expected {dict(sent)}, found {dict(seen)}; verify said {intact} and {changed}", markup=False)
        for log in sorted(work.glob("*.log")):
            console.print(f"--- {log.name}\n{log.read_text()[-1500:]}", markup=False, highlight=False)
        console.print("[bold red]The demonstration FAILED.[/]")
        return 1
    console.print(
        f"{len(records)} requests, {len(records)} records, all [green]proved[/]; both changed bytes were found."
    )
    console.print("[bold green]The demonstration succeeded.[/]")
    return 0


if __name__ == "__main__":
    sys.exit(main())
