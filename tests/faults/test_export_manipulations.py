"""The table of manipulations of an export that somebody makes who has not the signing key: what each is called.

Four verdicts a row: with ``--key``, with ``--key --strict``, without a key, with ``--key`` and the spool as a
second copy. V valid, I invalid, ? incomplete. Each row in every form in which the manipulation can be
expressed; what a store cannot show, or shows otherwise, has a column of its own.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from jwt_audit import attributes as attr
from jwt_audit.evidence.signing import Signer
from support.evidence import Sent, sent, statement
from support.forms import FORMS, InexpressibleError
from support.streams import START, MadeStream
from support.world import HOUR, SIGNER, World, make_world, verdicts

MALLORY = Signer.generate()
STORES = ("loki", "logcli", "victorialogs")

Records = list[Sent]
Change = Callable[[Records], Records]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("world") / "spool")


# What is done to a list of records


def at(record: Sent) -> tuple[str, int]:
    values = {item["key"]: item["value"] for item in record[0]["attributes"]}
    number = -1 if record[0]["eventName"] == attr.EVENT_HEAD else int(values[attr.NUMBER]["intValue"])
    return values[attr.STREAM_ID]["stringValue"][-8:], number


def only(stream: str, number: int, change: Callable[[dict[str, Any]], Any]) -> Change:
    """The record changed in place."""

    def apply(records: Records) -> Records:
        for record in records:
            if at(record) == (stream, number):
                change(record[0])
        return records

    return apply


def value(name: str, new: Any) -> Callable[[dict[str, Any]], None]:
    def change(record: dict[str, Any]) -> None:
        for item in record["attributes"]:
            if item["key"] == name:
                item["value"] = new

    return change


def member(name: str, new: Any) -> Callable[[dict[str, Any]], None]:
    return lambda record: record.__setitem__(name, new)


def added(name: str, new: Any, first: bool = False) -> Callable[[dict[str, Any]], None]:
    item = {"key": name, "value": new}
    return lambda record: record["attributes"].insert(0 if first else len(record["attributes"]), item)


def time_as_number(record: dict[str, Any]) -> None:
    record["timeUnixNano"] = int(record["timeUnixNano"])


def taken(*names: str) -> Callable[[dict[str, Any]], None]:
    def change(record: dict[str, Any]) -> None:
        record["attributes"] = [item for item in record["attributes"] if item["key"] not in names]

    return change


def without(wanted: Callable[[str, int], bool]) -> Change:
    return lambda records: [record for record in records if not wanted(*at(record))]


def resource(change: Callable[[list[dict[str, Any]]], Any]) -> Change:
    def apply(records: Records) -> Records:
        found = next(one for record, one in records if at((record, one))[0] == "a" * 8)
        change(found["attributes"])  # all records of a stream share it
        return records

    return apply


def named(items: list[dict[str, Any]], name: str) -> dict[str, Any]:
    return next(item for item in items if item["key"] == name)


def whole(change: Callable[[MadeStream], MadeStream]) -> Change:
    """The first stream made anew, in memory, and exported in the place of the right one."""

    def apply(records: Records) -> Records:
        made = MadeStream(signer=SIGNER, stream_id="20261125T120000.000Z-1-aaaaaaaa", now=START)
        return [*sent(change(made)), *without(lambda stream, _: stream == "a" * 8)(records)]

    return apply


def early(made: MadeStream) -> MadeStream:
    """No more than an early head covers, and that head."""
    made.requests(6).head()
    return made


def forged_tail(made: MadeStream) -> MadeStream:
    """The end dropped, the right records up to the early head, and others behind it."""
    made.requests(6).head()
    for _ in range(10):
        made.request("/mallory")
    return made


def other_signature(records: Records) -> Records:
    for record, _ in records:
        if record["eventName"] == attr.EVENT_HEAD:
            value(attr.INTEGRITY_VALUE, {"stringValue": "AAAA"})(record)
    return records


def foreign(made: MadeStream) -> MadeStream:
    """The whole stream by another key, right in itself."""
    made = MadeStream(signer=MALLORY, stream_id=made.id, now=START)
    made.requests(20).end()
    return made


def explained_by_another(records: Records) -> Records:
    """Records deleted, and a stream by another key that says that the receiver refused them."""
    right = next(records[index][0] for index in range(len(records)) if at(records[index]) == ("a" * 8, 5))
    subject = MadeStream(signer=SIGNER, stream_id="20261125T120000.000Z-1-aaaaaaaa", now=START)
    subject.requests(20)
    told = MadeStream(signer=MALLORY, now=START + HOUR)
    told.system(*statement("undelivered", subject, 5))
    told.end()
    assert right
    return [*without(lambda stream, number: (stream, number) == ("a" * 8, 5))(records), *sent(told)]


def explained_in_an_open_tail(records: Records) -> Records:
    """The same by a forged record behind the last signed one of a stream by the right key."""
    made = explained_by_another(records)
    return [
        record
        for record in made
        if record[0]["eventName"] != attr.EVENT_HEAD or at(record)[0] in "aaaaaaaa bbbbbbbb cccccccc"
    ]


def no_audit_names(record: dict[str, Any]) -> None:
    """A record that only its event and its person make one."""
    record["attributes"] = [
        {"key": "enduser.id", "value": {"stringValue": "mallory"}},
        {"key": "http.response.status_code", "value": {"intValue": "200"}},
    ]


def one_more(change: Callable[[dict[str, Any]], Any]) -> Change:
    """A copy of a record, changed, beside the right one."""

    def apply(records: Records) -> Records:
        extra = copy.deepcopy(next(record for record in records if at(record) == ("a" * 8, 4)))
        change(extra[0])
        return [*records, extra]

    return apply


MALLORY_TEXT = {"stringValue": "mallory"}
DEEP: dict[str, Any] = {"stringValue": "mallory"}
for _ in range(20):
    DEEP = {"arrayValue": {"values": [DEEP]}}
REC = ("a" * 8, 4)


class Row(NamedTuple):
    change: Change
    otlp: str
    """Verdicts for OTLP in JSON and protobuf; empty where that cannot hold it."""
    stores: str = "="
    """Verdicts for what stores show; ``=`` for the same, ``-`` where a store does not show it, or not so."""
    why: str = ""
    """Why it may stay valid."""
    protobuf: str = "="
    """Verdicts for protobuf, where its parser alone makes another value of it than JSON shows."""


ROWS: dict[str, Row] = {
    "nothing": Row(lambda records: records, "VV?V", why="this is how it should be"),
    "a visible value": Row(only(*REC, value(attr.ENDUSER_ID, MALLORY_TEXT)), "IIII"),
    "a visible value and a member beside it": Row(
        only(*REC, value(attr.ENDUSER_ID, {**MALLORY_TEXT, "x": 1})), "IIII", "-"
    ),
    "a visible value of two kinds": Row(
        only(*REC, value(attr.ENDUSER_ID, {**MALLORY_TEXT, "intValue": "1"})), "IIII", "-"
    ),
    "a visible value under the proto's name": Row(
        only(*REC, value(attr.ENDUSER_ID, {"string_value": "mallory"})), "IIII"
    ),
    "a visible value of no kind": Row(only(*REC, value(attr.ENDUSER_ID, {})), "IIII", "-"),
    "a visible value of an odd type": Row(
        only(*REC, value(attr.ENDUSER_ID, {"stringValue": ["mallory"]})), "IIII", "-"
    ),
    "a visible value nested deep": Row(only(*REC, value(attr.ENDUSER_ID, DEEP)), "IIII"),
    "an attribute twice": Row(only(*REC, added(attr.ENDUSER_ID, MALLORY_TEXT)), "IIII", "-"),
    "an attribute twice, the other first": Row(
        only(*REC, added(attr.ENDUSER_ID, MALLORY_TEXT, first=True)), "IIII", "-"
    ),
    "an attribute twice, alike": Row(only(*REC, added(attr.ENDUSER_ID, {"stringValue": "alice"})), "IIII", "-"),
    "an attribute in another spelling": Row(only(*REC, added("enduser_id", MALLORY_TEXT)), "IIII"),
    "an attribute of ours that was not signed": Row(only(*REC, added(attr.JWT_ACT_SUBJECT, MALLORY_TEXT)), "IIII"),
    "an attribute taken away": Row(
        only(*REC, taken(attr.ENDUSER_ID)), "VV?V", why="stores drop attributes; nobody reads another"
    ),
    "an attribute that a collector adds": Row(
        only(*REC, added("k8s.pod.name", {"stringValue": "p"})), "VV?V", why="not ours, and nothing that was signed"
    ),
    "the action": Row(only(*REC, value(attr.ACTION, {"stringValue": "READ "})), "IIII"),
    "the status as another number": Row(only(*REC, value(attr.HTTP_STATUS, {"intValue": "403"})), "IIII"),
    "the status as no number": Row(only(*REC, value(attr.HTTP_STATUS, {"intValue": "2OO"})), "IIII", "-"),
    "the body": Row(only(*REC, member("body", MALLORY_TEXT)), "IIII"),
    "the body and a member beside it": Row(only(*REC, member("body", {**MALLORY_TEXT, "x": 1})), "IIII", "-"),
    "the body of an odd type": Row(only(*REC, member("body", "mallory")), "IIII", "-"),
    "the time": Row(only(*REC, member("timeUnixNano", str(START + HOUR))), "IIII"),
    "the time by a nanosecond": Row(only(*REC, member("timeUnixNano", str(START + 4_000_001))), "IIII"),
    "the time as a number beyond a double": Row(
        only(*REC, time_as_number), "IIII", "-", protobuf="VV?V", why="of protobuf it is the same time"
    ),
    "the time of observation": Row(only(*REC, member("observedTimeUnixNano", str(START + HOUR))), "IIII", "-"),
    "the trace id": Row(only(*REC, member("traceId", "f" * 32)), "IIII"),
    "the event": Row(only(*REC, member("eventName", "http.request.late")), "IIII"),
    "a member under the proto's name": Row(only(*REC, member("event_name", "mallory")), "????", "-", protobuf="IIII"),
    "a member that is unknown": Row(only(*REC, member("x", "mallory")), "????", "-"),
    "flags of an odd type": Row(only(*REC, member("flags", {"x": 1})), "IIII", "-"),
    "the carried bytes": Row(only(*REC, value(attr.INTEGRITY_CANONICAL, MALLORY_TEXT)), "IIII"),
    "the carried bytes taken away": Row(
        only(*REC, taken(attr.INTEGRITY_CANONICAL)), "VV?V", "????", why="typed values prove themselves"
    ),
    "the carried bytes under two names": Row(only(*REC, added("audit_integrity_canonical", MALLORY_TEXT)), "IIII"),
    "all of the proof taken away": Row(only(*REC, taken(attr.INTEGRITY_CANONICAL, attr.INTEGRITY_HASH)), "????"),
    "a head's signature": Row(other_signature, "IIII"),
    "the heads taken away": Row(without(lambda _, number: number < 0), "????"),
    "the last head taken away": Row(lambda records: records[:-1], "????"),
    "the resource": Row(resource(lambda items: named(items, "service.name").update(value=MALLORY_TEXT)), "IIII"),
    "the resource, and a member beside its value": Row(
        resource(lambda items: named(items, "service.name").update(value={**MALLORY_TEXT, "x": 1})), "IIII", "-"
    ),
    "a resource attribute twice": Row(
        resource(lambda items: items.append({"key": "service.name", "value": MALLORY_TEXT})), "IIII", "-"
    ),
    "a resource attribute as text": Row(
        resource(lambda items: named(items, "process.pid").update(value={"stringValue": "4711"})),
        "IIII",
        "VV?V",
        why="a store shows text of everything",
    ),
    "a resource attribute taken away": Row(
        resource(lambda items: items.remove(named(items, "service.name"))),
        "IIII",
        "VV?V",
        why="a store that flattens may leave it out",
    ),
    "a person in the resource": Row(
        resource(lambda items: items.append({"key": "enduser.id", "value": MALLORY_TEXT})), "IIII"
    ),
    "a pod in the resource": Row(
        resource(lambda items: items.append({"key": "k8s.pod.name", "value": {"stringValue": "p"}})),
        "VV?V",
        why="a collector adds that",
    ),
    "a record deleted": Row(without(lambda stream, number: (stream, number) == REC), "IIII"),
    "a stream's first records deleted": Row(
        without(lambda stream, number: stream == "a" * 8 and 0 < number < 4), "????"
    ),
    "a stream's last records deleted": Row(without(lambda stream, number: stream == "a" * 8 and number > 15), "IIII"),
    "a stream deleted": Row(without(lambda stream, _: stream == "a" * 8), "????"),
    "a stream's records deleted, its heads kept": Row(
        without(lambda stream, number: stream == "a" * 8 and number > 0), "????"
    ),
    "the stream that names the others deleted": Row(
        without(lambda stream, _: stream == "c" * 8),
        "V??V",
        why="nobody else names it, and it is so young that it may be on its way",
    ),
    "all but one stream deleted": Row(
        without(lambda stream, _: stream != "a" * 8), "VV??", why="nobody else names the others; a second copy does"
    ),
    "the end cut off with its heads": Row(whole(early), "????"),
    "the end dropped, and others put behind the early head": Row(whole(forged_tail), "???I"),
    "the whole stream by another key": Row(whole(foreign), "IIII"),
    "a record copied": Row(one_more(lambda _: None), "VV?V", why="a retry"),
    "a record copied, and a value changed": Row(one_more(value(attr.ENDUSER_ID, MALLORY_TEXT)), "IIII"),
    "a record added that only its event makes one": Row(one_more(no_audit_names), "????"),
    "a record added with an id alone": Row(
        one_more(
            lambda record: record.update(eventName="x", attributes=[{"key": attr.RECORD_ID, "value": MALLORY_TEXT}])
        ),
        "????",
    ),
    "a record added with an id in another spelling": Row(
        one_more(
            lambda record: record.update(eventName="x", attributes=[{"key": "audit_record_id", "value": MALLORY_TEXT}])
        ),
        "????",
    ),
    "a record deleted, and explained by another key": Row(explained_by_another, "IIII"),
    "a record deleted, and explained by what nobody signed": Row(explained_in_an_open_tail, "IIII"),
    "records in any order": Row(lambda records: records[::-1], "VV?V", why="a store gives them so"),
    "records repeated": Row(lambda records: records * 2, "VV?V", why="retries"),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ROWS)
def test_a_manipulation_is_called_what_it_is(tmp_path: Path, world: World, name: str, form: str) -> None:
    """With the key, strictly, without a key (strictly), and beside the spool."""
    row = ROWS[name]
    column = row.stores if form in STORES else row.protobuf if form == "protobuf" else "="
    expected = row.otlp if column == "=" else column
    try:
        data = FORMS[form](row.change(copy.deepcopy(world.records)))
    except InexpressibleError:
        assert form not in ("sink", "collector")
        return
    if expected == "-":
        return
    (tmp_path / "export").write_bytes(data)
    assert verdicts(tmp_path / "export", world) == expected
    assert "V" not in expected or row.why
