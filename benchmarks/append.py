"""One record written: the recorder's append against the SDK's ``Logger.emit`` into its batch processor.

Both get the same event, times, body and attributes, the recorder as `request_record` makes them, the
SDK as a log record's. The recorder's has its number, its hash and its line in a file when the call
returns, the SDK's is in a queue in memory; both deliver in the background. Measured: CPU time of the
calling thread, the mean of a round.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, nullcontext
from pathlib import Path
from typing import Any

import orjson

from jwt_audit import attributes as attr
from jwt_audit.anyvalue import wrap
from jwt_audit.attributes import Value
from jwt_audit.diagnostics import warn_operator
from jwt_audit.evidence.record import Record, request_record
from jwt_audit.evidence.signing import Signer
from jwt_audit.identity.caller import Identity, Status
from jwt_audit.recorder import Recorder
from jwt_audit.request import Request
from jwt_audit.ship.http import Endpoint
from jwt_audit.ship.shipper import Shipper
from jwt_audit.spool.spool import Spool

from . import delivered, issuer
from .figures import Figure, quantile
from .workers import Sink, Worker, running, running_sink

VARIANTS = ("sdk", "audit")


def ordinary() -> Record:
    """The record of an ordinary request."""
    now = time.time_ns()
    request = Request(
        kind="http",
        method="GET",
        path="/orders/7",
        started=now,
        clock=0,
        request_id="c1d7c5f3-2c0f-4b0a-9d6e-2f1a8f3b7c11",
    )
    request.identity = Identity(
        Status.VERIFIED,
        subject="user-000007",
        session="session-000007",
        session_claim="sid",
        issuer=issuer.ISSUER,
        expires_at=now // 10**9 + 3600,
        token_id="5d0ad0a4-000000000007",
        client="shop",
    )
    request.status, request.route = 200, "/orders/{order_id}"
    request.peer = request.client = "203.0.113.9"
    request.user_agent = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
    request.trace_id, request.span_id, request.trace_flags = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331", 1
    return request_record(request, attr.EVENT_REQUEST, ended=1_234_000)


class Emitter:
    """One way to write a record, in this process."""

    def __init__(self, emit: Callable[[], Any], flush: Callable[[], object]) -> None:
        self._emit = emit
        self._flush = flush

    def run(self, count: int) -> dict[str, Any]:
        emit = self._emit
        begun = time.thread_time_ns()
        for _ in range(count):
            emit()
        return {"each": (time.thread_time_ns() - begun) / count / 1e3}

    def flush(self) -> None:
        self._flush()


def subject(*, variant: str, directory: str, url: str, queue: int = 2048) -> Emitter:
    """The SDK's pipeline with its default settings but the size of its ``queue``, or ours."""
    if variant == "sdk":
        return Emitter(*_sdk(url, queue))
    emit, flush = _audit(Path(directory), url)
    return Emitter(emit, flush)


def _sdk(url: str, queue: int) -> tuple[Callable[[], Any], Callable[[], None]]:
    from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
    from opentelemetry.sdk._logs import LoggerProvider
    from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
    from opentelemetry.sdk.resources import Resource

    provider = LoggerProvider(resource=Resource.create({"service.name": "orders"}))
    exporter = OTLPLogExporter(f"{url}/v1/logs")
    provider.add_log_record_processor(BatchLogRecordProcessor(exporter, max_queue_size=queue))
    logger = provider.get_logger("audit")
    record = ordinary()
    attributes: Any = {**record.attributes, attr.RECORD_ID: "1f0a8f3b-2c0f-4b0a-9d6e-c1d7c5f37c11"}

    def emit() -> None:
        logger.emit(
            timestamp=record.timestamp,
            observed_timestamp=time.time_ns(),
            body=record.body,
            attributes=attributes,
            event_name=record.event_name,
        )

    def flush() -> None:
        provider.force_flush()

    return emit, flush


def _audit(directory: Path, url: str) -> tuple[Callable[[], Any], Callable[[], object]]:
    spool = Spool(directory / "spool")

    signer = Signer.from_pem((directory / "signing.pem").read_bytes())
    resource = orjson.dumps({"service.name": wrap("orders")}).decode()
    binding: dict[str, Value] = {attr.STREAM_RESOURCE: resource}
    recorder = Recorder(spool, signer=lambda: signer, binding=lambda: binding, on_tick=lambda: shipper.wake())
    shipper = Shipper(
        spool,
        Endpoint(f"{url}/v1/logs"),
        emit=recorder.state,
        settle=recorder.settle,
        suppress=nullcontext,
        warn_operator=warn_operator,
        retention=86_400,
    )
    shipper.start()
    record = ordinary()
    form = record.form

    def emit() -> None:
        recorder.append(Record.formed(record.event_name, record.timestamp, dict(form), record.body or ""))

    return emit, recorder.settle


class Variant:
    """One variant as the run sees it."""

    def __init__(self, name: str, stack: ExitStack, sink: Sink, queue: int, module: str = "append") -> None:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        issuer.write(directory)
        self._name = f"{name}-{directory.name}"  # apart from what an earlier variant of the name has sent
        self._sink = sink
        self._spool = directory / "spool" if name == "audit" else None
        options = {"variant": name, "directory": str(directory), "url": f"{sink.url}/{self._name}", "queue": queue}
        self.worker: Worker = stack.enter_context(running(module, **options))
        self.sent = 0

    def round(self, count: int) -> float:
        """Microseconds of a record; all of them have arrived when this returns."""
        each = self.worker.run(count)["each"]
        self.worker.flush()
        self.arrived(count)
        return float(each)

    def arrived(self, count: int) -> float:
        """Wait for ``count`` more records; when the last of them came."""
        self.sent += count
        if self._spool is not None:
            delivered.wait(self._spool)
        return self._sink.wait(self._name, attr.EVENT_REQUEST, self.sent)


def run(quick: bool) -> Iterator[Figure]:
    """One figure."""
    # A round fits into the SDK's queue: it would drop what it has no room for
    rounds, count = (3, 256) if quick else (25, 1024)
    with running_sink() as sink, ExitStack() as stack:
        variants = [Variant(name, stack, sink, 2048) for name in VARIANTS]
        for variant in variants:
            variant.round(count)
        found = [[variant.round(count) for variant in variants] for _ in range(rounds)]
    sdk, ours = (quantile([one[n] for one in found], 0.5) for n in range(2))
    yield Figure(
        "append",
        "recorder append against Logger.emit",
        "x SDK's",
        0.75,
        [ours / sdk for sdk, ours in found],
        f"Logger.emit {sdk:.1f} us, append {ours:.1f} us; {variants[1].sent:,} records each, none lost",
    )
