"""What the verifier needs of one record, read straight from its canonical bytes.

`read` is the hot path of a verification: it takes the few fields that carry the proof and builds no
`Record`. That the bytes are canonical is checked for all of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import orjson

from .. import attributes as attr
from ..errors import KeySourceError, RecordError
from .canonical import MAX_BYTES, load
from .signing import PublicKey
from .verdict import Kind, Place

_MEMBERS = frozenset({"attributes", "body", "event_name", "observed_timestamp", "span_id", "timestamp", "trace_id"})
_TELLING = frozenset(
    {attr.EVENT_STREAM_START, attr.EVENT_STREAM_RECOVERED, attr.EVENT_STREAM_PRUNED, attr.EVENT_UNDELIVERED}
)
_HASH_LENGTH = 64


class BadRecordError(RecordError):
    """The bytes cannot be a record of any stream; ``kind`` is the finding's."""

    def __init__(self, kind: Kind, detail: str) -> None:
        super().__init__(detail)
        self.kind = kind


class Facts(NamedTuple):
    """One record: its place in its stream, when it was observed (ns), its id, and what it says of streams.

    ``form`` is kept only of the events that say something of a stream, ``previous`` is empty on a first record.
    """

    stream: str
    number: int
    previous: str
    observed: int
    record_id: str
    end: bool
    form: dict[str, Any] | None


def read(payload: bytes) -> Facts:
    """The facts of a record, from its canonical bytes. Raises BadRecordError for anything else."""
    if len(payload) > MAX_BYTES:
        raise BadRecordError("malformed", "the record is larger than any record is written")
    try:
        form = load(payload)
    except RecordError as error:
        raise BadRecordError("not_canonical", str(error)) from error
    return of(form)


def of(form: dict[str, Any]) -> Facts:
    """The facts of a record whose canonical form this is. Raises BadRecordError where it is no record's."""
    try:
        attributes = form["attributes"]
        number_text = attributes[attr.NUMBER]["intValue"]
        number = int(number_text)
        previous = attributes.get(attr.PREVIOUS_HASH)
        previous = "" if previous is None else previous["stringValue"]
        observed_text = form["observed_timestamp"]
        observed = int(observed_text)
        timestamp = int(form["timestamp"])
        event = form["event_name"]
        facts = Facts(
            attributes[attr.STREAM_ID]["stringValue"],
            number,
            previous,
            observed,
            attributes[attr.RECORD_ID]["stringValue"],
            attr.END in attributes and attributes[attr.END]["boolValue"] is True,
            form if event in _TELLING else None,
        )
        right = (
            str(number) == number_text
            and 0 < number < 2**63
            and str(observed) == observed_text
            and 0 <= observed < 2**63
            and str(timestamp) == form["timestamp"]
            and 0 <= timestamp <= observed
            and type(previous) is str
            and type(event) is str
            and type(facts.stream) is str
            and type(facts.record_id) is str
            and len(previous) == (_HASH_LENGTH if number > 1 else 0)
            and form.keys() <= _MEMBERS
            and (number == 1) == (event == attr.EVENT_STREAM_START)
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BadRecordError("malformed", "the bytes lack a field that every record of a stream has") from error
    if not right:
        raise BadRecordError("malformed", "a field that every record of a stream has is not as it is written")
    return facts


@dataclass(frozen=True, slots=True)
class Statement:
    """What a record says of a stream: that it reached ``number`` with ``hash``, and what of that.

    ``kind`` is ``known`` (seen then), ``recovered`` (it broke off there), ``pruned`` (removed up to
    there) or ``undelivered`` (that record was refused; ``previous`` is the hash before it). ``by``
    and ``by_number`` are the stream and number of the record that says so.
    """

    kind: str
    stream: str
    number: int
    hash: str
    by: str
    by_number: int
    place: Place
    previous: str = ""


def statements(facts: Facts, place: Place) -> list[Statement]:
    """What one record says of other streams. Raises BadRecordError where it says it otherwise than we write it."""
    if facts.form is None:
        return []
    attributes, event = facts.form["attributes"], facts.form["event_name"]
    by = (facts.stream, facts.number, place)
    try:
        if event == attr.EVENT_STREAM_START:
            return [_known(item["stringValue"], *by) for item in _items(attributes.get(attr.STREAM_KNOWN))]
        if event == attr.EVENT_STREAM_RECOVERED:
            names = (attr.RECOVERED_STREAM, attr.RECOVERED_NUMBER, attr.RECOVERED_HASH)
            return [_statement("recovered", attributes, names, *by)]
        if event == attr.EVENT_STREAM_PRUNED:
            return [_statement("pruned", attributes, (attr.PRUNED_STREAM, attr.PRUNED_NUMBER, attr.PRUNED_HASH), *by)]
        record_id = attributes.get(attr.UNDELIVERED_ID, {}).get("stringValue", "")
        if attr.UNDELIVERED_HASH not in attributes or record_id[14:15] in ("", "5"):
            # A line of the spool that was no record any more, or a head (its id is a UUID of version 5):
            # neither explains why a record is missing.
            return []
        names = (attr.UNDELIVERED_STREAM, attr.UNDELIVERED_NUMBER, attr.UNDELIVERED_HASH)
        return [_statement("undelivered", attributes, names, *by)]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BadRecordError("malformed", f"a record of {event} does not say what it is written for") from error


def _items(value: Any) -> list[Any]:
    return [] if value is None else list(value["arrayValue"]["values"])


def _known(text: str, by: str, by_number: int, place: Place) -> Statement:
    stream, number, *digest = text.split(" ")
    return Statement("known", stream, int(number), digest[0] if digest else "", by, by_number, place)


def _statement(
    kind: str, attributes: dict[str, Any], names: tuple[str, str, str], by: str, by_number: int, place: Place
) -> Statement:
    stream, number, digest = names
    known = attributes[digest]["stringValue"] if digest in attributes else ""
    previous = attributes.get(attr.UNDELIVERED_PREVIOUS, {}).get("stringValue", "")
    subject = attributes[stream]["stringValue"]
    if not (type(subject) is str and type(known) is str and type(previous) is str):
        raise TypeError("no text")
    return Statement(kind, subject, int(attributes[number]["intValue"]), known, by, by_number, place, previous)


@dataclass(frozen=True, slots=True)
class Binding:
    """What a stream's first record binds: the key of its heads and its resource (wrapped values)."""

    key: PublicKey
    resource: dict[str, Any]


def binding(facts: Facts) -> Binding:
    """The binding of a stream's first record. Raises BadRecordError.

    The embedded key must be what its id and algorithm say, so that neither can be swapped or lowered.
    """
    try:
        attributes = (facts.form or {})["attributes"]
        key = PublicKey.from_text(attributes[attr.STREAM_PUBLIC_KEY]["stringValue"])
        resource = orjson.loads(attributes[attr.STREAM_RESOURCE]["stringValue"])
        same = (
            attributes[attr.STREAM_KEY_ID]["stringValue"] == key.key_id
            and attributes[attr.STREAM_ALGORITHM]["stringValue"] == key.algorithm
        )
    except (KeyError, TypeError, ValueError, AttributeError, KeySourceError) as error:
        raise BadRecordError("binding", "the stream's first record binds no usable key and resource") from error
    if not same or not isinstance(resource, dict):
        raise BadRecordError("binding", "the stream's first record contradicts itself about its key or resource")
    return Binding(key, resource)
