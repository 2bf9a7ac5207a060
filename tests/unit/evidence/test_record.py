"""The audit record: what is told of a request, in the draft signal's words."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from jwt_audit import attributes as attr
from jwt_audit.attributes import Value
from jwt_audit.evidence.canonical import canonical, parse
from jwt_audit.evidence.record import Record, address_type, request_record, system_record
from jwt_audit.identity.caller import ABSENT
from jwt_audit.request import Request
from support.streams import ALICE

DRAFT = {attr.ACTOR_ID, attr.ACTOR_TYPE, attr.ACTION, attr.OUTCOME}
"""The mandatory attributes but the id, which the recorder draws."""


def request(**fields: Any) -> Request:
    made = Request(kind="http", method="GET", path="/a", started=5, clock=1_000, request_id="r-1")
    for name, value in fields.items():
        setattr(made, name, value)
    return made


def record(*, ended: int = 3_001_000, outcome: str | None = None, **fields: Any) -> Record:
    return request_record(request(**fields), attr.EVENT_REQUEST, ended=ended, outcome=outcome)


@pytest.mark.parametrize(
    ("method", "action"),
    [
        ("GET", "READ"),
        ("HEAD", "READ"),
        ("OPTIONS", "READ"),
        ("TRACE", "READ"),
        ("POST", "CREATE"),
        ("PUT", "UPDATE"),
        ("PATCH", "UPDATE"),
        ("DELETE", "DELETE"),
        ("PURGE", "PURGE"),
        ("", "UNKNOWN"),
    ],
)
def test_the_action_follows_the_method(method: str, action: str) -> None:
    """A method that nobody knows is its own action, so that it is told from all others."""
    assert record(method=method).attributes[attr.ACTION] == action


def test_a_websocket_connects() -> None:
    """Its GET reads nothing."""
    assert record(kind="websocket").attributes[attr.ACTION] == "CONNECT"


@pytest.mark.parametrize(
    ("status", "outcome", "decision"),
    [
        (200, "success", None),
        (302, "success", None),
        (399, "success", None),
        (400, "failure", None),
        (401, "failure", "denied"),
        (403, "failure", "denied"),
        (404, "failure", None),
        (500, "failure", None),
        (0, "unknown", None),
    ],
)
def test_the_outcome_follows_the_status(status: int, outcome: str, decision: str | None) -> None:
    """Success below 400; nothing answered is unknown, never success."""
    found = record(status=status).attributes
    assert found[attr.OUTCOME] == outcome
    assert found.get(attr.DECISION) == decision
    assert (attr.HTTP_STATUS in found) == (status > 0)


def test_an_aborted_response_is_unknown() -> None:
    """The status had been sent, and the client did not get what it says."""
    assert record(status=200, outcome="unknown").attributes[attr.OUTCOME] == "unknown"


def test_a_bare_request_has_all_that_the_draft_demands() -> None:
    """No token, no client address, no route, no status: the record is whole all the same."""
    found = record().attributes
    assert found.keys() >= DRAFT
    assert found[attr.ACTOR_ID] == "anonymous"
    assert found[attr.TARGET_ID] == found[attr.URL_PATH] == "/a"
    assert found[attr.REQUEST_DURATION] == 3_000
    assert not found.keys() & {attr.CLIENT_ADDRESS, attr.HTTP_ROUTE, attr.USER_AGENT, attr.ERROR_TYPE, attr.SOURCE_ID}


def test_a_full_request() -> None:
    """Who, from where, what, where it went, how it ended."""
    made = record(
        identity=ALICE,
        status=201,
        route="/a/{id}",
        client="2001:db8::1",
        peer="10.0.0.1",
        user_agent="curl/8",
        error_type="E",
        trace_id="0" * 31 + "1",
        span_id="0" * 15 + "1",
    )
    found = made.attributes
    assert found[attr.ACTOR_ID] == found[attr.ENDUSER_ID] == "alice"
    assert found[attr.SESSION_ID] == "s-1"
    assert found[attr.HTTP_ROUTE] == "/a/{id}"
    assert (found[attr.SOURCE_ID], found[attr.SOURCE_TYPE]) == ("2001:db8::1", "ipv6")
    assert found[attr.PEER_ADDRESS] == "10.0.0.1"
    assert (made.timestamp, made.observed_timestamp) == (5, 0)
    assert (made.trace_id, made.span_id) == ("0" * 31 + "1", "0" * 15 + "1")
    assert made.body == "GET /a/{id} 201 in 3 ms, token verified"


def test_the_peer_is_the_source_where_no_client_is_named() -> None:
    """Without a proxy in between they are the same."""
    assert record(peer="10.0.0.1").attributes[attr.SOURCE_ID] == "10.0.0.1"


def test_an_annotation_says_what_was_done_but_not_who_did_it() -> None:
    """The app knows action and target best; actor, outcome and path are not its to say."""
    told = {attr.ACTION: "APPROVE", attr.TARGET_ID: "order 7", attr.ACTOR_ID: "mallory", attr.OUTCOME: "success"}
    found = record(annotations=told, status=500).attributes
    assert (found[attr.ACTION], found[attr.TARGET_ID]) == ("APPROVE", "order 7")
    assert (found[attr.ACTOR_ID], found[attr.OUTCOME]) == ("anonymous", "failure")


def test_a_clock_that_went_back_gives_no_negative_duration() -> None:
    """Monotonic clocks do not, but a record must not depend on it."""
    assert record(ended=0).attributes[attr.REQUEST_DURATION] == 0


def test_an_identity_cannot_override_what_is_fixed() -> None:
    """A claim mapped to a name of ours does not get there."""
    found = request_record(
        request(identity=dataclasses.replace(ABSENT, claims={attr.HTTP_METHOD: "X"})), attr.EVENT_REQUEST, ended=0
    ).attributes
    assert found[attr.HTTP_METHOD] == "GET"


def test_a_system_record_is_of_the_system() -> None:
    """Its action is the event's last word; what it is given comes on top."""
    made = system_record(attr.EVENT_STREAM_END, now=7, attributes={attr.OUTCOME: "failure"}, body="b")
    assert made.attributes.keys() >= DRAFT
    assert made.attributes[attr.ACTOR_TYPE] == "system"
    assert made.attributes[attr.ACTION] == "END"
    assert made.attributes[attr.OUTCOME] == "failure"
    assert (made.timestamp, made.body) == (7, "b")


@pytest.mark.parametrize(
    ("address", "kind"),
    [("203.0.113.9", "ipv4"), ("::1", "ipv6"), ("fe80::1%eth0", "ipv6"), ("example.org", "hostname"), ("", "hostname")],
)
def test_the_kind_of_an_address(address: str, kind: str) -> None:
    """In the draft's words."""
    assert address_type(address) == kind


def test_what_records_share_is_bounded() -> None:
    """A scan from a million addresses, by methods and with answers that nobody knows, costs no memory."""
    from jwt_audit.evidence import record as module

    for number in range(3_000):
        record(client=f"10.{number // 256}.{number % 256}.1", method=f"M{number}", status=number)
    for kept, most in ((module._of_client, 1024), (module._of_method, 64), (module._of_status, 256)):
        assert kept.cache_info().currsize <= most


def test_a_record_of_values_and_one_of_forms_have_the_same_bytes() -> None:
    """A request's record is made of forms, most of which it shares with others; read again it is the same record."""
    told: dict[str, Value] = {"items": ["a", "b"], "paid": True, "amount": -7, attr.ACTION: "APPROVE"}
    made = record(identity=ALICE, status=403, client="::1", route="/a/{id}", annotations=told)
    made.update({attr.NUMBER: 7, attr.END: True})
    data = canonical(made)
    assert made.attributes.items() >= {**told, attr.NUMBER: 7, attr.END: True}.items()
    plain = Record(made.event_name, made.timestamp, made.attributes, made.body)
    assert canonical(plain) == data
    assert parse(data) == made


def test_a_record_does_not_change_what_others_share() -> None:
    """What one record is told stays its own."""
    first, second = record(identity=ALICE), record(identity=ALICE)
    before = canonical(second)
    first.attributes[attr.SESSION_ID] = "changed"  # of a copy
    assert first == second
    first.update({attr.ACTOR_ID: "changed", attr.URL_PATH: "changed"})
    canonical(first)
    assert canonical(second) == canonical(record(identity=ALICE)) == before
