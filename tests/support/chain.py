"""The whole chain in real processes: an app, the Collector with the shipped gateway, Jaeger and VictoriaLogs."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from .served import BIN, SECONDS, Served, free_port

CONFIG = Path(__file__).parents[2] / "collector-config"
EXAMPLE = Path(__file__).parents[2] / "examples" / "fastapi"


@cache
def programs() -> dict[str, Path]:
    """What `make collector` builds, by name. Skips the test where Go is missing and nothing was built before."""
    done = subprocess.run([CONFIG / "programs" / "build.sh"], capture_output=True, text=True, timeout=1500, check=False)
    if done.returncode != 0 and shutil.which("go") is None:
        pytest.skip("Go is missing: not shown that records pass a real Collector into Jaeger and VictoriaLogs")
    assert done.returncode == 0, done.stderr
    return {name: Path(path) for name, path in (line.split(" ", 1) for line in done.stdout.splitlines())}


def get(port: int, path: str, **query: str) -> bytes:
    """The answer to a GET on loopback; empty where nobody answers yet."""
    url = f"http://127.0.0.1:{port}{path}?{urllib.parse.urlencode(query)}"
    try:
        with urllib.request.urlopen(url, timeout=SECONDS) as answer:
            return bytes(answer.read())
    except OSError:
        return b""


class Chain(Served):
    """The processes, which write below ``root``; each listens on a port that it keeps when it is started again."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        names = ("audit", "health", "jaeger", "jaeger_grpc", "jaeger_otlp", "metrics", "otlp_grpc", "otlp_http", "logs")
        self.ports = {name: free_port() for name in names}
        self.running: dict[str, subprocess.Popen[bytes]] = {}
        self._starts = 0

    def run(self, name: str, port: int, line: list[str], cwd: Path, **environment: str) -> None:
        """Start a process and wait until it listens."""
        self._starts += 1
        self._start(f"{self._starts:02d}-{name}", line, cwd, environment)
        self.running[name] = self.processes[-1]
        self._up(port)

    def end(self, name: str, how: signal.Signals = signal.SIGTERM) -> None:
        """Signal a process and wait for its end."""
        process = self.running.pop(name)
        process.send_signal(how)
        process.wait(SECONDS)
        self.processes.remove(process)

    def start_collector(self, logs_url: str | None = None) -> None:
        """The shipped gateway; only its ports and the places that its environment names are of this run."""
        ports = {name: f"127.0.0.1:{port}" for name, port in self.ports.items()}
        reader = {"pull": {"exporter": {"prometheus": {"host": "127.0.0.1", "port": self.ports["metrics"]}}}}
        own = {
            "extensions": {"health_check": {"endpoint": ports["health"]}},
            "receivers": {
                "otlp": {
                    "protocols": {
                        "grpc": {"endpoint": ports["otlp_grpc"]},
                        "http": {"endpoint": ports["otlp_http"]},
                    }
                },
                "otlp/audit": {"protocols": {"http": {"endpoint": ports["audit"]}}},
            },
            "service": {"telemetry": {"metrics": {"readers": [reader]}}},
        }
        (self.root / "ports.yaml").write_text(json.dumps(own))  # JSON is YAML
        self.run(
            "collector",
            self.ports["health"],
            [str(programs()["otelcol"]), "--config", str(CONFIG / "gateway.yaml"), "--config", "ports.yaml"],
            self.root,
            LOGS_URL=logs_url or f"http://{ports['logs']}/insert/opentelemetry",
            TRACES_ADDRESS=ports["jaeger_otlp"],
            QUEUE_DIRECTORY=str(self.root / "queue"),
        )

    def start_jaeger(self) -> None:
        """The shipped configuration on ports of this run."""
        ports = {name: f"127.0.0.1:{port}" for name, port in self.ports.items()}
        own = {
            "extensions": {
                "jaeger_query": {"http": {"endpoint": ports["jaeger"]}, "grpc": {"endpoint": ports["jaeger_grpc"]}}
            },
            "receivers": {"otlp": {"protocols": {"grpc": {"endpoint": ports["jaeger_otlp"]}}}},
        }
        (self.root / "jaeger.yaml").write_text(json.dumps(own))
        self.run(
            "jaeger",
            self.ports["jaeger"],
            [str(programs()["jaeger"]), "--config", str(CONFIG / "jaeger.yaml"), "--config", "jaeger.yaml"],
            self.root,
            OTEL_TRACES_SAMPLER="always_off",
        )

    def start_logs(self) -> None:
        address = f"-httpListenAddr=127.0.0.1:{self.ports['logs']}"
        line = [str(programs()["victoria-logs"]), address, f"-storageDataPath={self.root / 'victoria-logs'}"]
        self.run("logs", self.ports["logs"], line, self.root)

    def start_app(self, **environment: str) -> None:
        """The FastAPI example, without a change, as its README starts it."""
        self.run(
            "app",
            self.port,
            [str(BIN / "opentelemetry-instrument"), str(BIN / "uvicorn"), "app:app", "--port", str(self.port)],
            EXAMPLE,
            OTEL_SERVICE_NAME="shop",
            OTEL_PYTHON_JWT_AUDIT_SPOOL=str(self.root / "spool"),
            OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{self.ports['otlp_http']}",
            # The receiver that opens when the Collector's queue is loaded: see the README of collector-config
            OTEL_PYTHON_JWT_AUDIT_ENDPOINT=f"http://127.0.0.1:{self.ports['audit']}/v1/audit",
            OTEL_EXPORTER_OTLP_PROTOCOL="http/protobuf",
            OTEL_METRICS_EXPORTER="none",
            OTEL_BSP_SCHEDULE_DELAY="200",
            OTEL_BLRP_SCHEDULE_DELAY="200",
            PYTHONDONTWRITEBYTECODE="1",
            **environment,
        )

    def traces(self, **tags: str) -> list[dict[str, Any]]:
        """The traces that Jaeger finds by these tags."""
        named = json.dumps({name.replace("__", "."): value for name, value in tags.items()})
        answer = get(self.ports["jaeger"], "/api/traces", service="shop", tags=named, limit="1000")
        found: list[dict[str, Any]] = json.loads(answer or b"{}").get("data") or []
        return found

    def export(self, query: str) -> bytes:
        """What VictoriaLogs answers to a query, as it is."""
        return get(self.ports["logs"], "/select/logsql/query", query=query, limit="1000000")

    def rows(self, query: str) -> list[dict[str, str]]:
        return [json.loads(line) for line in self.export(query).splitlines()]

    def metric(self, name: str, **labels: str) -> float:
        """One of the Collector's own metrics, added up; 0 where it is not exposed."""
        lines = get(self.ports["metrics"], "/metrics").decode().splitlines()
        wanted = [f'{label}="{value}"' for label, value in labels.items()]
        named = [line for line in lines if line.startswith((f"{name}{{", f"{name}_total{{"))]
        return sum(float(line.rpartition(" ")[2]) for line in named if all(one in line for one in wanted))


@contextmanager
def chained(root: Path, **environment: str) -> Iterator[Chain]:
    """All of it running, killed in the end."""
    chain = Chain(root)
    try:
        chain.start_jaeger()
        chain.start_logs()
        chain.start_collector()
        chain.start_app(**environment)
        yield chain
    finally:
        chain.kill()
