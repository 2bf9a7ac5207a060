"""Answers of log stores: a record is found by its carried bytes, wherever the store puts them."""

from __future__ import annotations

from typing import Any

import pytest

from jwt_audit import attributes as attr
from jwt_audit.evidence.copies import Copy
from jwt_audit.evidence.proof import Trust
from jwt_audit.evidence.verdict import Place, Report, Verdict
from jwt_audit.evidence.verify import judge
from jwt_audit.sources.exports import take_value
from support.evidence import kinds, sent
from support.streams import MadeStream

STREAM = MadeStream().requests(2)
STREAM.end()


def plain_value(wrapped: dict[str, Any]) -> str:
    ((kind, value),) = wrapped.items()
    return str(value).lower() if kind == "boolValue" else str(value)


ROWS = [
    {item["key"]: plain_value(item["value"]) for item in (*resource["attributes"], *record["attributes"])}
    | {"_msg": record["body"]["stringValue"], "time": record["timeUnixNano"]}
    for record, resource in sent(STREAM)
]


def report(answer: Any) -> tuple[Report, int]:
    """The verdict, and how many other records were counted."""
    copy = Copy("answer", spool=False)
    take_value(copy, answer, Place("answer", 1))
    copy.close()
    return judge([copy], Trust()), copy.other_records


def underscored(row: dict[str, Any]) -> dict[str, Any]:
    return {name.replace(".", "_"): value for name, value in row.items()}


def without(row: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name not in names}


def nested(row: dict[str, Any]) -> dict[str, Any]:
    """Each dot a level, as a document store has it; a name that is also a branch keeps its rest."""
    made: dict[str, Any] = {}
    for name, value in sorted(row.items()):
        first, _, rest = name.partition(".")
        if rest:
            made.setdefault(first, {})[rest] = value
        else:
            made[name] = value
    return made


ANSWERS: dict[str, Any] = {
    "a list of rows": ROWS,
    "underscores": [underscored(row) for row in ROWS],
    "attributes under a member": [{"body": row["_msg"], "attributes": row} for row in ROWS],
    "attributes under a prefix": [{f"attributes.{name}": value for name, value in row.items()} for row in ROWS],
    "objects in objects": [nested(row) for row in ROWS],
    "hits": {"took": 3, "hits": {"total": {"value": 5}, "hits": [{"_id": "x", "_source": row} for row in ROWS]}},
    "Loki, labels": {
        "data": {"result": [{"stream": underscored(row), "values": [[row["time"], row["_msg"]]]} for row in ROWS]}
    },
    "Loki, metadata": {
        "data": {
            "result": [
                {"stream": {"app": "shop"}, "values": [[row["time"], row["_msg"], underscored(row)] for row in ROWS]}
            ]
        }
    },
    "resource apart": [
        {"resource": {"attributes": {"service.name": "shop"}}, "attributes": without(row, "service.name")}
        for row in ROWS
    ],
}


@pytest.mark.parametrize("shape", ANSWERS)
def test_a_record_is_found_in_each_shape(shape: str) -> None:
    """Values are strings by now, names are what the store made of them."""
    found, _ = report(ANSWERS[shape])
    assert found.verdict is Verdict.VALID, found.problems()
    assert found.streams[0].records == 4
    assert found.streams[0].heads == 1


@pytest.mark.parametrize("shape", ANSWERS)
def test_a_changed_name_is_found_in_each_shape(shape: str) -> None:
    """Where people read it."""

    def change(value: Any) -> Any:
        if isinstance(value, list):
            return [change(item) for item in value]
        if isinstance(value, dict):
            return {name: change(item) for name, item in value.items()}
        return "mallory" if value == "alice" else value

    assert kinds(report(change(ANSWERS[shape]))[0]) == {"contradiction"}


@pytest.mark.parametrize("name", ["service.name", "service_name"])
def test_a_changed_resource_is_found(name: str) -> None:
    """Among the other fields, where the store keeps no resource apart."""
    rows = [{**without(row, "service.name"), name: "bank"} for row in ROWS]
    assert kinds(report(rows)[0]) == {"resource"}


def test_a_record_deleted_from_an_answer_is_a_gap() -> None:
    """Whatever else the query left out."""
    assert "gap" in kinds(report([ROWS[0], *ROWS[2:]])[0])


def test_a_head_without_its_signature_is_none() -> None:
    """A store that dropped the field, or a hand."""
    rows = [without(row, attr.INTEGRITY_VALUE) for row in ROWS]
    assert "bad_head" in kinds(report(rows)[0])


def test_a_record_that_lost_its_bytes_proves_nothing() -> None:
    """Its place is known, so it is no gap."""
    rows = [dict(row) for row in ROWS]
    del rows[1][attr.INTEGRITY_CANONICAL]
    found, _ = report(rows)
    assert found.verdict is Verdict.INCOMPLETE
    assert "unprovable" in kinds(found)


def test_bytes_that_are_no_text_are_malformed() -> None:
    """Named by the place that is shown beside them."""
    rows = [dict(row) for row in ROWS]
    rows[2][attr.INTEGRITY_CANONICAL] = "\ud800"
    found, _ = report(rows)
    (one,) = [one for one in found.problems() if one.kind == "malformed"]
    assert (one.stream, one.number) == (STREAM.id, 3)


def test_other_rows_are_counted() -> None:
    """Logs of the app in the same answer."""
    assert report({"_msg": "hello"})[1] == 1
    assert report(["text", 7])[1] == 1


def test_depth_has_an_end() -> None:
    """A bomb of lists."""
    answer: Any = ROWS
    for _ in range(200):
        answer = [answer]
    assert report(answer)[0].verdict is Verdict.INCOMPLETE
