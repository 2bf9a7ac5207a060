"""A boundary as a server meets it: the real pipeline over a spool in a directory, the real SDK beside it."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import jwt
from opentelemetry.propagate import get_global_textmap, set_global_textmap
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import Tracer

from jwt_audit import diagnostics
from jwt_audit.errors import SpoolError
from jwt_audit.evidence import canonical, heads
from jwt_audit.evidence.record import Record
from jwt_audit.identity.caller import Identity, Status
from jwt_audit.request import Request, current_request, in_flight
from jwt_audit.settings.environment import load
from jwt_audit.spool.segment import read
from jwt_audit.spool.stream import streams
from opentelemetry.instrumentation.jwt_audit.hooks import boundary
from opentelemetry.instrumentation.jwt_audit.hooks.verifiers import libraries
from opentelemetry.instrumentation.jwt_audit.pipeline import Pipeline
from opentelemetry.instrumentation.jwt_audit.stamp import logs, propagator, spans
from support.issuer import signing_key

ISSUER = "https://issuer.example"
KEY = signing_key()


ALICE = Identity(Status.VERIFIED, subject="alice", session="s-1", issuer="https://i", expires_at=17)


def token(person: str, **changed: Any) -> str:
    """A token that the pipeline accepts; ``changed`` claims make one that it refuses."""
    claims = {"iss": ISSUER, "sub": person, "sid": f"s-{person}", "exp": int(time.time()) + 600}
    return jwt.encode(claims | changed, KEY.private, KEY.algorithm)


class Audited:
    """The parts, and what came out of them."""

    def __init__(self, root: Path, **settings: Any) -> None:
        self.spool = root / "spool"
        key = root / "issuer.pem"
        key.write_bytes(KEY.pem)
        given = {"public_key": key, "issuer": ISSUER, "spool": self.spool, "endpoint": "http://127.0.0.1:9/"}
        config, problems = load({}, **given | settings)
        assert problems == []
        self.pipeline = Pipeline(config, suppress=nullcontext)
        self._spans = InMemorySpanExporter()
        provider = TracerProvider()
        spans.install(lambda: provider)
        provider.add_span_processor(SimpleSpanProcessor(self._spans))
        self.tracer: Tracer = provider.get_tracer("test")
        self._logs = InMemoryLogRecordExporter()  # type: ignore[no-untyped-call]
        self.logger_provider = LoggerProvider()
        self.logger_provider.add_log_record_processor(SimpleLogRecordProcessor(self._logs))
        logs.install_processor(lambda: self.logger_provider)

    def records(self, event: str | None = None) -> list[Record]:
        """What is in the spool right now, its streams in order."""
        try:
            found = [
                canonical.parse(line.payload)
                for stream in streams(self.spool)
                for path in stream.segments()
                for line in read(path)
            ]
        except SpoolError:
            return []  # none was made so far
        return [record for record in found if event is None or record.event_name == event]

    def requests(self, event: str = "http.request") -> list[dict[str, Any]]:
        """The attributes of the records of one event."""
        return [dict(record.attributes) for record in self.records(event)]

    def spans(self) -> dict[str, ReadableSpan]:
        """The spans that have ended, by name."""
        return {span.name: span for span in self._spans.get_finished_spans()}

    def logged(self) -> list[dict[str, Any]]:
        """The attributes of the records that came by the OpenTelemetry Logger API."""
        return [dict(item.log_record.attributes or {}) for item in self._logs.get_finished_logs()]


@contextmanager
def auditing(root: Path, **settings: Any) -> Iterator[Audited]:
    """The boundaries and stamps in place for a while; nothing of it stays in the process."""
    textmap, make_record = get_global_textmap(), logging.Logger.makeRecord
    diagnostics._warned.clear()
    made = Audited(root, **settings)
    boundary.install(made.pipeline)
    propagator.install()
    logs.install_records()
    try:
        yield made
    finally:
        boundary.install(None)
        set_global_textmap(textmap)
        logging.Logger.makeRecord = make_record  # type: ignore[method-assign]
        made.pipeline.stop()
    assert in_flight == set()
    assert current_request() is None, "a request was left current"


@contextmanager
def observing(root: Path, **settings: Any) -> Iterator[Pipeline]:
    """The boundaries and the hooks into token libraries, with no key of ours unless ``settings`` say so; no record."""
    config, problems = load({}, spool=root / "spool", excluded_paths=["/*"], **settings)
    assert problems == []
    libraries.install()
    made = Pipeline(config, suppress=nullcontext)
    boundary.install(made)
    try:
        yield made
    finally:
        boundary.install(None)
        made.stop()
    assert in_flight == set()


@contextmanager
def under_way(request: Request, carrier: dict[str, Any] | None = None) -> Iterator[Request]:
    """``request`` begins, its app runs in this block, and it ends."""
    carrier = {} if carrier is None else carrier
    before = boundary.enter(request, carrier)
    try:
        yield request
    finally:
        boundary.leave(request, carrier, before)
        boundary.end(request)


def last_head(spool: Path) -> int:
    """Up to which record the only stream of a spool is signed."""
    (stream,) = streams(spool)
    return heads.parse_line(stream.heads.read_bytes().splitlines(keepends=True)[-1]).head.number
