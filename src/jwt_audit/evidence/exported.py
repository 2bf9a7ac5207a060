"""A record or head as a store exports it: carried bytes, and what is shown beside them.

The carried bytes are what is proved; what is shown is what people read and search by, so where the
two disagree that is told by the field's name, never by its value.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import orjson

from .. import attributes as attr
from ..errors import RecordError
from . import heads
from .canonical import MAX_BYTES
from .copies import Copy
from .facts import BadRecordError, of, read
from .streams import Chain
from .verdict import Kind, Place, Verdict
from .visible import contradictions, normal

_HEAD_MARK = f'"type":"{heads.TYPE}"'


Fields = list[tuple[str, Any]]


@dataclass(slots=True)
class Exported:
    """One audit record or head of an export.

    ``canonical`` are the carried bytes as text, ``signature`` a head's (base64). ``fields`` gives all
    that is shown, by name, ``resource`` an OTLP resource's list. ``form`` is the canonical form that
    the typed values make, where a store keeps them.
    """

    canonical: str | None
    signature: str | None
    hash: str | None
    fields: Callable[[], Fields]
    resource: list[Any] | None = None
    form: dict[str, Any] | None = None


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
        stream, number = _shown_place(record)
        if stream in copy.chains:
            copy.chains[stream].bad(kind, detail, place, number)
        else:
            copy.add(Verdict.INVALID, kind, detail, place)


def _take_record(copy: Copy, record: Exported, payload: bytes, place: Place) -> None:
    digest = hashlib.sha256(payload).hexdigest()
    form = record.form
    if form is not None and _written(form) == payload and len(payload) <= MAX_BYTES:
        # What is shown is to the byte what was signed: nothing can contradict, and the bytes are canonical.
        facts = of(form)
        chain = copy.offer(facts, digest, place)
        if record.hash is not None and record.hash != digest:
            _compare(chain, facts.number, [attr.INTEGRITY_HASH], place)
    else:
        facts = read(payload)
        chain = copy.offer(facts, digest, place)
        _compare(chain, facts.number, contradictions(orjson.loads(payload), digest, record.fields()), place)
    shown = copy.resource(facts.stream)
    if record.resource is not None:
        shown.resource(record.resource, place)
    else:
        shown.fields(record.fields(), place)


def _written(form: dict[str, Any]) -> bytes | None:
    try:
        return orjson.dumps(form, option=orjson.OPT_SORT_KEYS)
    except TypeError:  # a lone surrogate, or a name that is no string
        return None


def _take_head(copy: Copy, record: Exported, canonical: str, place: Place) -> None:
    try:
        signed = heads.parse(canonical.encode("utf-8"), (record.signature or "").encode("utf-8"))
    except RecordError as error:
        stream, _ = _shown_place(record)
        detail = "the signature is missing from the head" if not record.signature else str(error)
        if stream in copy.chains:
            copy.chains[stream].bad("bad_head", detail, place)
        else:
            copy.add(Verdict.INVALID, "bad_head", detail, place)
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
    _compare(chain, head.number, contradictions(form, head.hash, record.fields()), place)
    if record.resource is not None:
        copy.resource(head.stream_id).resource(record.resource, place)


def _take_rebuilt(copy: Copy, record: Exported, place: Place) -> None:
    """A record without its bytes: what was made from its typed values is proved by its hash, or nothing is."""
    payload = None if record.form is None else _written(record.form)
    if payload is not None and record.hash == hashlib.sha256(payload).hexdigest():
        _take_record(copy, record, payload, place)
        return
    stream, number = _shown_place(record)
    if stream and number:
        copy.chain(stream).unprovable.setdefault(number, place)
    else:
        copy.add(Verdict.INCOMPLETE, "unprovable", "the record carries no canonical bytes and names no place", place)


def _compare(chain: Chain, number: int, wrong: list[str], place: Place) -> None:
    for name in wrong:
        detail = f"the visible attribute {attr.text(name, 80)} contradicts the signed record"
        chain.bad("contradiction", detail, place, number)


def _shown_place(record: Exported) -> tuple[str, int]:
    """Stream and number as far as they are shown, for the message."""
    stream, number = "", 0
    for name, value in record.fields():
        key = normal(name)
        if key == normal(attr.STREAM_ID) and isinstance(value, str):
            stream = value
        elif key == normal(attr.NUMBER) and str(value).isascii() and str(value).isdigit() and len(str(value)) < 19:
            number = int(str(value))
    return stream, number
