"""What the audit adds to the start of a process, and to its memory.

Import: CPU of importing the instrumentor and of ``instrument()`` in a fresh process that has loaded
what ``opentelemetry-instrument`` loads for Flask and OTLP over HTTP; once with nothing configured, as
the app's own verification is observed, and once with a public key. Memory: resident, after the
requests of the benchmark ``requests`` are served and delivered.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from .figures import Figure, quantile
from .workers import running, running_sink


class Start:
    """The instrumentor is not imported until `run`."""

    def __init__(self, directory: Path, *, key: bool) -> None:
        self._settings: dict[str, str] = {"spool": str(directory / "spool")}
        if key:
            self._settings["public_key"] = str(directory / "public.pem")

    def run(self, count: int) -> dict[str, Any]:
        assert count == 1
        begun = time.process_time()
        from opentelemetry.instrumentation.jwt_audit import JWTAuditInstrumentor

        JWTAuditInstrumentor().instrument(**self._settings)
        return {"each": (time.process_time() - begun) * 1e3}

    def flush(self) -> None:
        """Nothing was written."""


def subject(*, directory: str, key: bool) -> Start:
    """What OpenTelemetry loads for an app comes first."""
    import flask  # noqa: F401
    from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter  # noqa: F401
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: F401
    from opentelemetry.instrumentation.flask import FlaskInstrumentor
    from opentelemetry.sdk import _configuration  # noqa: F401 - what the distro begins with

    FlaskInstrumentor().instrument()
    return Start(Path(directory), key=key)


def run(quick: bool) -> Iterator[Figure]:
    """Import, and memory."""
    # Not at the top: a worker of this module shall have loaded nothing that the audit loads
    from . import issuer, requests

    rounds = 2 if quick else 15
    with tempfile.TemporaryDirectory() as directory:
        issuer.write(Path(directory))
        found = [[_start(directory, key=key) for key in (False, True)] for _ in range(rounds)]
    for place, title in ((0, "import, nothing configured"), (1, "import, with a public key")):
        values = [one[place] for one in found]
        yield Figure("startup", title, "ms over OpenTelemetry", 60, values, "CPU, fresh process each time")
    rounds, count = (1, 128) if quick else (5, 2000)
    values = []
    sizes = []
    with running_sink() as sink:
        for serial in range(rounds):
            with ExitStack() as stack:
                variants = requests.start(stack, sink, "flask", ("opentelemetry", "audit"), serial=serial)
                for variant in variants.values():
                    variant.round(count)
                plain, audited = (variant.memory() for variant in variants.values())
            values.append(audited - plain)
            sizes.append(plain)
    detail = f"{quantile(sizes, 0.5):.1f} MiB without audit; resident, fresh processes each time"
    yield Figure("startup", f"memory after {count:,} requests, Flask", "MiB over OpenTelemetry", 12, values, detail)


def _start(directory: str, *, key: bool) -> float:
    with running("startup", directory=directory, key=key) as worker:
        return float(worker.run(1)["each"])
