"""Streams put before the judge without files: as a spool reads them, or as an export shows them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import orjson

from jwt_audit import attributes as attr
from jwt_audit.evidence import heads
from jwt_audit.evidence.chain import Position
from jwt_audit.evidence.copies import Copy
from jwt_audit.evidence.heads import SignedHead
from jwt_audit.evidence.proof import Trust
from jwt_audit.evidence.signing import Signer
from jwt_audit.evidence.verdict import Place, Report, Verdict
from jwt_audit.evidence.verify import judge
from jwt_audit.ship.encode import JsonEncoder, head_form, record_form, stream_resource
from jwt_audit.sources.exports import take_value

from .streams import MadeStream

Line = tuple[bytes, str]


def spool_copy(
    *streams: tuple[str, Sequence[Sequence[Line]], Sequence[SignedHead]], source: str = "spool", pruned: str = ""
) -> Copy:
    """A spool: of each stream its name, its segments' lines, its heads.

    Of the stream ``pruned`` the first of them is the file ``start`` that retention leaves.
    """
    copy = Copy(source, spool=True)
    for name, segments, signed in streams:
        chain = copy.chain(name)
        chain.writer = "gone"
        chain.heads += [(one, Place("heads", index)) for index, one in enumerate(signed, 1)]
        for number, lines in enumerate(segments):
            chain.begin_segment(may_skip=number <= (name == pruned))
            for index, (payload, digest) in enumerate(lines, 1):
                place = Place(f"segment {number + 1}", index)
                if not chain.line(payload, digest.encode(), place):
                    chain.damaged(payload + b"\t" + digest.encode() + b"\n", place)
                if chain.stopped:
                    break
            if chain.stopped:
                break
    copy.close()
    return copy


def as_spool(*streams: MadeStream) -> Copy:
    return spool_copy(*((stream.id, [stream.lines], stream.heads) for stream in streams))


Sent = tuple[dict[str, Any], dict[str, Any]]
"""A log record of OTLP/JSON, and its resource."""


def sent(*streams: MadeStream, carry: bool = True) -> list[Sent]:
    """What is exported of streams: their records, then their heads, by the shipper's own encoder."""
    encoder = JsonEncoder()
    found = []
    for stream in streams:
        resource = orjson.loads(encoder.resource(stream_resource(orjson.loads(stream.lines[0][0]))))
        forms = [record_form(payload, digest, carry=carry) for payload, digest in stream.lines]
        forms += [head_form(signed) for signed in stream.heads]
        found += [(orjson.loads(encoder.record(form)), resource) for form in forms]
    return found


def export_copy(records: Iterable[Sent], source: str = "export") -> Copy:
    """What a receiver kept, in this order."""
    copy = Copy(source, spool=False)
    for number, (record, resource) in enumerate(records, 1):
        request = {"resourceLogs": [{"resource": resource, "scopeLogs": [{"logRecords": [record]}]}]}
        take_value(copy, request, Place(source, number))
    copy.close()
    return copy


def verdict(*copies: Copy, pins: Iterable[Signer] = (), strict: bool = False, **options: Any) -> Report:
    keys = [pin.public_key for pin in pins]
    trust = Trust({key.key_id: key for key in keys}, **options.pop("trust", {}))
    return judge(copies, trust, strict=strict, **options)


def kinds(report: Report, of: Verdict | None = None) -> set[str]:
    """The kinds of what was found: of problems, or of findings with this verdict."""
    everything = [*report.findings.kept, *(one for stream in report.streams for one in stream.findings.kept)]
    return {one.kind for one in everything if (one.verdict is not Verdict.VALID if of is None else one.verdict is of)}


def known(stream: MadeStream) -> str:
    """A stream's last head, as a later stream's first record names it."""
    head = stream.heads[-1].head
    return f"{stream.id} {head.number} {head.hash}"


def statement(kind: str, stream: MadeStream, number: int) -> tuple[str, dict[str, Any], str]:
    """What a shipper writes of another stream: event, attributes, body."""
    digest = stream.lines[number - 1][1]
    if kind == "recovered":
        return (
            attr.EVENT_STREAM_RECOVERED,
            {
                attr.RECOVERED_STREAM: stream.id,
                attr.RECOVERED_NUMBER: number,
                attr.RECOVERED_HASH: digest,
                attr.RECOVERED_HEAD: 0,
            },
            "recovered",
        )
    if kind == "pruned":
        return (
            attr.EVENT_STREAM_PRUNED,
            {attr.PRUNED_STREAM: stream.id, attr.PRUNED_NUMBER: number, attr.PRUNED_HASH: digest},
            "pruned",
        )
    form = orjson.loads(stream.lines[number - 1][0])["attributes"]
    told = {
        attr.UNDELIVERED_STREAM: stream.id,
        attr.UNDELIVERED_NUMBER: number,
        attr.UNDELIVERED_ID: form[attr.RECORD_ID]["stringValue"],
        attr.UNDELIVERED_HASH: digest,
        attr.UNDELIVERED_REASON: "too old",
    }
    if number > 1:
        told[attr.UNDELIVERED_PREVIOUS] = form[attr.PREVIOUS_HASH]["stringValue"]
    return attr.EVENT_UNDELIVERED, told, "undelivered"


def forged(signed: SignedHead, signer: Signer) -> SignedHead:
    """The same head, signed by another."""
    position = Position(signed.head.stream_id, signed.head.number, signed.head.hash)
    return heads.sign(position, signer, now=signed.head.time)
