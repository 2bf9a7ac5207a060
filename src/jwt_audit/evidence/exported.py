"""A record or head as a store exports it: carried bytes, and what is shown beside them.

The carried bytes are what is proved; what is shown is what people read and search by, so where the
two disagree, or where two readers would not read the same, that is told by the field's name, never by
its value.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from .. import attributes as attr
from ..errors import RecordError
from . import heads
from .canonical import MAX_BYTES
from .copies import Copy
from .facts import BadRecordError, of, read
from .resource import Fault
from .streams import Chain
from .verdict import Finding, Kind, Place, Verdict
from .visible import Fields, contradictions, normal

_HEAD_MARK = f'"type":"{heads.TYPE}"'


Signed = Mapping[str, Any]
"""The attributes that were signed, wrapped: what is shown exactly so needs no look."""
NOTHING: Signed = {}


def no_faults(_: Signed = NOTHING) -> Iterable[Fault]:
    """Of what is written as it should be."""
    return ()


@dataclass(slots=True)
class Exported:
    """One audit record or head of an export.

    ``canonical`` are the carried bytes as text, ``signature`` a head's (base64). ``fields`` gives all
    that is shown, by name, or all but what is shown exactly as it was signed; ``resource`` is an OTLP
    resource. ``form`` is the canonical form that the typed values make, where a store keeps them and
    nothing else stands among them. ``faults`` gives what readers may read differently, of the same,
    ``resource_faults`` of the resource.
    """

    canonical: str | None
    signature: str | None
    hash: str | None
    fields: Callable[[Signed], Fields]
    resource: Any = None
    form: dict[str, Any] | None = None
    faults: Callable[[Signed], Iterable[Fault]] = no_faults
    resource_faults: Callable[[], Iterable[Fault]] = no_faults


def take(copy: Copy, record: Exported, place: Place) -> None:
    """Put an exported record or head into the copy."""
    copy.taken += 1
    try:
        if record.canonical is None:
            _take_rebuilt(copy, record, place)
        elif record.signature is not None or _HEAD_MARK in record.canonical:
            _take_head(copy, record, record.canonical, place)
        else:
            _take_record(copy, record, record.canonical.encode("utf-8"), place)
    except (BadRecordError, UnicodeEncodeError) as error:
        kind: Kind = "malformed"
        detail = "the carried bytes are no text"
        if isinstance(error, BadRecordError):
            kind, detail = error.kind, str(error)
        _tell(copy, record, Verdict.INVALID, kind, detail, place)


def _tell(copy: Copy, record: Exported, verdict: Verdict, kind: Kind, detail: str, place: Place) -> None:
    """A finding about a record whose place is only as far known as it is shown."""
    stream, number = _shown_place(record)
    if stream in copy.chains:
        copy.chains[stream].findings.add(Finding(verdict, kind, detail, place, stream, number or None))
    else:
        copy.add(verdict, kind, detail, place)


def _take_record(copy: Copy, record: Exported, payload: bytes, place: Place) -> None:
    digest = hashlib.sha256(payload).hexdigest()
    form = record.form
    if form is not None and _written(form) == payload and len(payload) <= MAX_BYTES:
        # What is shown is to the byte what was signed: nothing can contradict, and the bytes are canonical.
        facts = of(form)
        chain = copy.offer(facts, digest, place)
        if record.hash is not None and record.hash != digest:
            _contradicted(chain, facts.number, [attr.INTEGRITY_HASH], place)
    else:
        facts = read(payload)
        chain = copy.offer(facts, digest, place)
        _compare(copy, chain, facts.number, orjson.loads(payload), digest, record, place)
    shown = copy.resource(facts.stream)
    if record.resource is not None:
        shown.resource(record.resource, record.resource_faults, place)
    else:
        shown.fields(record.fields(NOTHING), place)


def _written(form: dict[str, Any]) -> bytes | None:
    try:
        return orjson.dumps(form, option=orjson.OPT_SORT_KEYS)
    except TypeError:  # a lone surrogate, a name that is no string, or values nested too deep
        return None


def _take_head(copy: Copy, record: Exported, canonical: str, place: Place) -> None:
    try:
        signed = heads.parse(canonical.encode("utf-8"), (record.signature or "").encode("utf-8"))
    except RecordError as error:
        detail = "the signature is missing from the head" if not record.signature else str(error)
        _tell(copy, record, Verdict.INVALID, "bad_head", detail, place)
        return
    head = signed.head
    chain = copy.chain(head.stream_id)
    chain.heads.append((signed, place))
    form = {
        "attributes": {
            attr.RECORD_ID: {"stringValue": signed.record_id},
            attr.STREAM_ID: {"stringValue": head.stream_id},
            attr.NUMBER: {"intValue": str(head.number)},
        },
        "body": {"stringValue": signed.body},
        "event_name": attr.EVENT_HEAD,
        "observed_timestamp": str(head.time),
        "timestamp": str(head.time),
    }
    _compare(copy, chain, head.number, form, head.hash, record, place)
    if record.resource is not None:
        copy.resource(head.stream_id).resource(record.resource, record.resource_faults, place)


def _take_rebuilt(copy: Copy, record: Exported, place: Place) -> None:
    """A record without its bytes: what was made from its typed values is proved by its hash, or nothing is."""
    payload = None if record.form is None else _written(record.form)
    if payload is not None and record.hash == hashlib.sha256(payload).hexdigest():
        _take_record(copy, record, payload, place)
        return
    for kind, detail in record.faults(NOTHING):
        _tell(copy, record, _verdict(kind), kind, detail, place)
    stream, number = _shown_place(record)
    if stream and number:
        copy.chain(stream).unprovable.setdefault(number, place)
    else:
        copy.add(Verdict.INCOMPLETE, "unprovable", "the record carries no canonical bytes and names no place", place)


def _verdict(kind: Kind) -> Verdict:
    return Verdict.INCOMPLETE if kind == "unknown_member" else Verdict.INVALID


def _compare(
    copy: Copy, chain: Chain, number: int, form: dict[str, Any], digest: str, record: Exported, place: Place
) -> None:
    for kind, detail in record.faults(form["attributes"]):
        chain.findings.add(Finding(_verdict(kind), kind, detail, place, chain.stream, number))
    wrong, uncompared = contradictions(form, digest, record.fields(form["attributes"]))
    _contradicted(chain, number, wrong, place)
    copy.uncompared += uncompared


def _contradicted(chain: Chain, number: int, wrong: list[str], place: Place) -> None:
    for name in wrong:
        detail = f"the visible attribute {attr.text(name, 80)} contradicts the signed record"
        chain.bad("contradiction", detail, place, number)


def _shown_place(record: Exported) -> tuple[str, int]:
    """Stream and number as far as they are shown, for the message."""
    stream, number = "", 0
    for name, value in record.fields(NOTHING):
        key = normal(name)
        if key == normal(attr.STREAM_ID) and isinstance(value, str):
            stream = value
        elif key == normal(attr.NUMBER) and str(value).isascii() and str(value).isdigit() and len(str(value)) < 19:
            number = int(str(value))
    return stream, number
