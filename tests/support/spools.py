"""Real streams for tests: written by `StreamWriter`, chained and signed as a running app does it."""

from __future__ import annotations

import hashlib
import itertools
from pathlib import Path
from typing import Any
from uuid import UUID

import orjson

from jwt_audit import attributes as attr
from jwt_audit.attributes import Value
from jwt_audit.context import Request
from jwt_audit.evidence import chain, heads
from jwt_audit.evidence.canonical import wrap
from jwt_audit.evidence.heads import SignedHead
from jwt_audit.evidence.record import Record, request_record, system_record
from jwt_audit.evidence.signing import Signer
from jwt_audit.identity import Identity, Status
from jwt_audit.spool.spool import Spool

START = 1_795_600_000_000_000_000
"""Nanoseconds since the epoch at which the first stream begins: 2026-11-25."""
RESOURCE: dict[str, Value] = {"service.name": "shop", "service.version": "1.2.3", "process.pid": 4711}

ALICE = Identity(
    Status.VERIFIED,
    subject="alice",
    session="s-1",
    session_claim="sid",
    issuer="https://issuer.example",
    expires_at=1_795_700_000,
    verified_by="key",
)

_streams = itertools.count(1)


def resource_text(resource: dict[str, Value]) -> str:
    """A resource as a stream's first record carries it: canonical JSON of wrapped values."""
    form = {key: wrap(value) for key, value in resource.items()}
    return orjson.dumps(form, option=orjson.OPT_SORT_KEYS).decode()


class LiveStream:
    """A stream under way. Made in the spool ``root`` with its start record; ``close`` is what a death leaves."""

    def __init__(
        self,
        root: Path,
        *,
        signer: Signer | None = None,
        stream_id: str | None = None,
        resource: dict[str, Value] | None = None,
        now: int | None = None,
        known: list[str] | None = None,
    ) -> None:
        """With ``signer``, ``stream_id`` and ``now`` given, every byte is the same each time.

        ``known`` are the streams that the start record names: ``id number hash`` or ``id 0``.
        """
        serial = next(_streams)
        self.signer = signer or Signer.generate()
        self.id = stream_id or f"20261125T120000Z-{serial:06d}"
        self.now = START + serial * 1_000_000_000_000 if now is None else now
        self.writer = Spool(root).open_stream(self.id)
        self.path = self.writer.path
        self.position = chain.Position(self.id)
        self.lines: list[tuple[bytes, str]] = []
        """Canonical bytes and hash of each record, in order."""
        key = self.signer.public_key
        self.system(
            attr.EVENT_STREAM_START,
            {
                attr.STREAM_RESOURCE: resource_text(RESOURCE if resource is None else resource),
                attr.STREAM_ALGORITHM: key.algorithm,
                attr.STREAM_KEY_ID: key.key_id,
                attr.STREAM_PUBLIC_KEY: key.text,
                attr.STREAM_CONFIG: "0" * 64,
                attr.STREAM_HOST: "test-host",
                attr.STREAM_PID: 4711,
                **({attr.STREAM_KNOWN: known} if known else {}),
            },
            "stream started",
        )

    def append(self, record: Record, *, end: bool = False) -> str:
        """Chain and write one record; its hash."""
        self.now += 1_000_000
        record.attributes.setdefault(attr.RECORD_ID, self.record_id(self.position.number + 1))
        data, self.position = chain.link(record, self.position, now=self.now, end=end)
        self.writer.append(data, self.position.hash)
        self.lines.append((data, self.position.hash))
        return self.position.hash

    def record_id(self, number: int) -> str:
        """The id of the stream's record ``number``: as random as a recorder's, and always the same."""
        return str(UUID(bytes=hashlib.sha256(f"{self.id} {number}".encode()).digest()[:16], version=4))

    def request(self, path: str | None = None, *, annotations: dict[str, Value] | None = None) -> str:
        """One record of an HTTP request; its hash."""
        request = Request(
            kind="http",
            method="GET",
            path=path or "/orders/7",
            started=self.now,
            clock=0,
            request_id=f"request-{self.position.number:04d}",
        )
        request.identity = ALICE
        request.route, request.status = "/orders/{id}", 200
        request.trace_id, request.span_id = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
        request.trace_flags = 1
        request.client = "203.0.113.9"
        request.annotations.update(annotations or {})
        return self.append(request_record(request, attr.EVENT_REQUEST, ended=12_000_000))

    def system(self, event: str, attributes: dict[str, Value], body: str, *, end: bool = False) -> str:
        return self.append(system_record(event, now=self.now, attributes=attributes, body=body), end=end)

    def sync(self) -> None:
        sync = self.writer.start_sync()
        if sync is not None:
            self.writer.finish_sync(sync, done=self.writer.run_sync(sync))

    def head(self) -> SignedHead:
        """Sync, then sign and write the head over all records so far."""
        self.sync()
        signed = heads.sign(self.position, self.signer, now=self.now)
        self.writer.append_head(signed.line)
        return signed

    def end(self) -> None:
        """The orderly end: the end record, its head, the files closed."""
        self.system(attr.EVENT_STREAM_END, {}, "stream ended", end=True)
        self.head()
        self.close()

    def close(self) -> None:
        """Close the files without an end record, as the death of the process does."""
        self.writer.close()


def make_stream(
    root: Path,
    *,
    records: int = 10,
    end: bool = True,
    head_every: int = 5,
    signer: Signer | None = None,
    stream_id: str | None = None,
    resource: dict[str, Any] | None = None,
) -> tuple[Path, Signer]:
    """A closed stream in the spool ``root``: start record, ``records`` request records, an end record if ``end``.

    A signed head follows every ``head_every``-th record (the start record counts) and the end
    record; so without ``end`` what follows the last head is an open tail. Returns the stream's
    directory and the key that signed.
    """
    stream = LiveStream(root, signer=signer, stream_id=stream_id, resource=resource)
    for _ in range(records):
        stream.request()
        if stream.position.number % head_every == 0:
            stream.head()
    if end:
        stream.end()
    else:
        stream.sync()
        stream.close()
    return stream.path, stream.signer
