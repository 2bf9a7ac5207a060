"""Real streams in memory: chained and signed by the code that does it in an app, with no file and no clock."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Sequence
from uuid import UUID

import orjson

from jwt_audit import attributes as attr
from jwt_audit.anyvalue import wrap
from jwt_audit.attributes import Value
from jwt_audit.evidence import chain, heads
from jwt_audit.evidence.heads import SignedHead
from jwt_audit.evidence.record import Record, request_record, system_record
from jwt_audit.evidence.signing import Signer
from jwt_audit.identity.caller import Identity, Status
from jwt_audit.request import Request

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


class MadeStream:
    """A stream with its start record. With ``signer``, ``stream_id`` and ``now`` given, all bytes are fixed."""

    def __init__(
        self,
        *,
        signer: Signer | None = None,
        stream_id: str | None = None,
        resource: dict[str, Value] | None = None,
        now: int | None = None,
        known: Sequence[str] = (),
    ) -> None:
        """``known`` are the streams that the start record names: ``id number hash`` or ``id 0``."""
        serial = next(_streams)
        self.signer = signer or Signer.generate()
        self.id = stream_id or f"20261125T120000Z-{serial:06d}"
        self.now = START + serial * 1_000_000_000_000 if now is None else now
        self.position = chain.Position(self.id)
        self.lines: list[tuple[bytes, str]] = []
        """Canonical bytes and hash of each record, in order."""
        self.heads: list[SignedHead] = []
        self.resource = RESOURCE if resource is None else resource
        key = self.signer.public_key
        self.start: dict[str, Value] = {
            attr.STREAM_RESOURCE: resource_text(self.resource),
            attr.STREAM_ALGORITHM: key.algorithm,
            attr.STREAM_KEY_ID: key.key_id,
            attr.STREAM_PUBLIC_KEY: key.text,
            attr.STREAM_CONFIG: "0" * 64,
            attr.STREAM_HOST: "test-host",
            attr.STREAM_PID: 4711,
        }
        if known:
            self.start[attr.STREAM_KNOWN] = list(known)
        self._begin()

    def _begin(self) -> None:
        self.system(attr.EVENT_STREAM_START, self.start, "stream started")

    def append(self, record: Record, *, end: bool = False) -> str:
        """Chain one record; its hash."""
        self.now += 1_000_000
        if attr.RECORD_ID not in record.form:
            record.update({attr.RECORD_ID: self.record_id(self.position.number + 1)})
        data, self.position = chain.link(record, self.position, now=self.now, end=end)
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

    def requests(self, count: int) -> MadeStream:
        for _ in range(count):
            self.request()
        return self

    def system(self, event: str, attributes: dict[str, Value], body: str, *, end: bool = False) -> str:
        return self.append(system_record(event, now=self.now, attributes=attributes, body=body), end=end)

    def head(self) -> SignedHead:
        """Sign the head over all records so far."""
        signed = heads.sign(self.position, self.signer, now=self.now)
        self.heads.append(signed)
        return signed

    def end(self) -> MadeStream:
        """The orderly end: the end record and its head."""
        self.system(attr.EVENT_STREAM_END, {}, "stream ended", end=True)
        self.head()
        return self
