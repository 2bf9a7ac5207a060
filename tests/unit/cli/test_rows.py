"""What `jwt-audit tail` shows: the proved person and no other, and nothing that a terminal obeys."""

from __future__ import annotations

import unicodedata
from dataclasses import replace
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from jwt_audit import attributes as attr
from jwt_audit.cli.rows import as_json, is_shown, row
from jwt_audit.cli.table import Table
from jwt_audit.sources.seen import Seen

TIME = 1_795_600_000_123_456_789
REQUEST = {
    attr.RECORD_ID: "r-1",
    attr.ACTOR_ID: "alice",
    attr.ACTION: "READ",
    attr.OUTCOME: "success",
    attr.HTTP_METHOD: "GET",
    attr.URL_PATH: "/orders/7",
    attr.HTTP_ROUTE: "/orders/{id}",
    attr.HTTP_STATUS: 200,
    attr.REQUEST_ID: "q-1",
}
ALICE = {
    attr.JWT_STATUS: "verified",
    attr.ENDUSER_ID: "alice",
    attr.SESSION_ID: "s-1",
    attr.JWT_ISSUER: "https://issuer.example",
    attr.JWT_EXPIRES_AT: 1_795_700_000,
}
FIRST = {
    "timestamp": "2026-11-25T09:46:40.123456Z",
    "request_id": "q-1",
    "user_id": "alice",
    "session_id": "s-1",
    "endpoint": "/orders/7",
    "method": "GET",
    "response_status": 200,
    "iss": "https://issuer.example",
    "exp": 1_795_700_000,
    "token_status": "verified",
}
"""What the object has always begun with."""
NOBODY = {"user_id": None, "session_id": None, "iss": None, "exp": None}


def seen(event: str = attr.EVENT_REQUEST, /, **changes: Any) -> Seen:
    found = {**REQUEST, **ALICE, **{name.replace("__", "."): value for name, value in changes.items()}}
    return Seen(event, TIME, TIME, {name: value for name, value in found.items() if value is not None})


def form(one: Seen) -> dict[str, Any]:
    found: dict[str, Any] = orjson.loads(as_json(row(one)))
    return found


def cells(one: Seen, width: int | None = None) -> list[str]:
    line = Table(width=width, colour=False).line(row(one))
    return [cell.strip() for cell in line.replace("  ", "\t").split("\t") if cell.strip()]


def test_a_verified_request() -> None:
    """In both forms."""
    found = form(seen())
    assert list(found)[:10] == list(FIRST)
    assert found | FIRST == found
    assert found["attributes"] == {}
    assert {name: found[name] for name in ("event", "action", "outcome", "route", "record_id", "actor")} == {
        "event": "http.request",
        "action": "READ",
        "outcome": "success",
        "route": "/orders/{id}",
        "record_id": "r-1",
        "actor": "alice",
    }
    assert cells(seen()) == [
        "2026-11-25T09:46:40.123Z",
        "alice",
        "s-1",
        "READ",
        "GET /orders/{id}",
        "200",
        "verified",
    ]


def test_columns_stand_below_each_other_where_nothing_is_cut() -> None:
    """Whatever the length of a session's or a person's id: the header too has the widths of the rows."""
    rows = [row(seen(session__id="s" * length, enduser__id="e" * length)) for length in (3, 36)]
    table = Table(width=None, colour=False)
    table.fit(rows)
    lines = [table.header(), *map(table.line, rows)]
    assert len({line.index(word) for line, word in zip(lines, ("ACTION", "READ", "READ"), strict=True)}) == 1
    terminal = Table(width=120, colour=False)
    terminal.fit(rows)
    assert len(terminal.line(rows[1])) <= 120


@pytest.mark.parametrize(
    "status", ["expired", "not_yet_valid", "invalid", "unverified", "absent", "VERIFIED", "", None]
)
def test_only_a_verified_token_names_anybody(status: str | None) -> None:
    """Whatever else stands in the record, and whoever wrote that."""
    one = seen(jwt__status=status, jwt__error="signature_mismatch", audit__actor__id="anonymous")
    assert {name: form(one)[name] for name in NOBODY} == NOBODY
    assert form(one)["token_status"] == status
    assert "alice" not in " ".join(cells(one))
    assert "s-1" not in " ".join(cells(one))
    assert "anonymous" in cells(one)
    assert (f"{status}: signature_mismatch" in cells(one)[-1]) == bool(status) or not status


def test_of_an_expired_token_the_person_stands_in_brackets() -> None:
    """In the table, beside the word; the object names nobody."""
    expired = {"jwt__status": "expired", "jwt__error": "expired", "enduser__id": None, "session__id": None}
    one = seen(**expired, jwt__expired__subject="bob", jwt__expired__session="s-9", audit__actor__id="anonymous")
    assert cells(one)[1:3] == ["(bob)", "(s-9)"]
    assert cells(one)[-1] == "expired"
    assert {name: form(one)[name] for name in NOBODY} == NOBODY


def test_a_pseudonym_and_a_service_are_who_they_are() -> None:
    """A verified token that names nobody is nobody."""
    assert form(seen(enduser__id=None, enduser__pseudo__id="p-1"))["user_id"] == "p-1"
    assert form(seen(enduser__id=None, audit__actor__id="billing"))["user_id"] == "billing"
    unknown = seen(enduser__id=None, audit__actor__id="unknown")
    assert form(unknown)["user_id"] is None
    assert form(unknown)["exp"] == 1_795_700_000
    assert cells(unknown)[1] == "unknown"


def test_what_has_a_row() -> None:
    """Requests, connections, the app's own events; of a request one, unless all is wanted."""
    shown = [attr.EVENT_REQUEST, attr.EVENT_WEBSOCKET_OPEN, attr.EVENT_WEBSOCKET_CLOSE, "order.shipped"]
    others = [attr.EVENT_RECEIVED, attr.EVENT_LATE, attr.EVENT_STREAM_START, attr.EVENT_LOST, attr.EVENT_UNDELIVERED]
    for event in shown + others:
        assert is_shown(seen(event), everything=False) == (event in shown)
        assert is_shown(seen(event), everything=True)


def test_other_events_are_told_by_their_names() -> None:
    """With their outcome in place of a status; a second record of a request says which it is."""
    own = seen("order.shipped", http__request__method=None, http__response__status_code=None, audit__action="SHIP")
    assert cells(own)[3:] == ["SHIP", "order.shipped", "success", "verified"]
    assert cells(seen(attr.EVENT_LATE))[4] == "GET /orders/{id} (late)"
    assert cells(seen(http__route=None))[4] == "GET /orders/7"


HOSTILE = "\x1b[31mred\x07\r\n\t\x00\x9b2J\u202egnp.exe\u2028\U000e0041\x7f"


def test_nothing_that_a_terminal_obeys_is_shown() -> None:
    """Escapes, bells, C1 codes, line ends, turned directions: escaped in both forms, and the object keeps its value."""
    one = seen(
        enduser__id=HOSTILE,
        session__id=HOSTILE,
        audit__action=HOSTILE,
        http__route=HOSTILE,
        url__path=HOSTILE,
        http__request__method=HOSTILE,
        jwt__error=HOSTILE,
        jwt__issuer=HOSTILE,
        request__id=HOSTILE,
    )
    for width in (None, 80, 200):
        assert Table(width=width, colour=False).line(row(one)).isprintable()
    assert as_json(row(one)).isprintable()
    assert form(one)["user_id"] == form(one)["endpoint"] == form(one)["iss"] == HOSTILE


@given(st.text(st.characters(exclude_categories=["Cs"])), st.integers(40, 300))
def test_any_text_keeps_its_line(value: str, width: int) -> None:
    """One line of the terminal's width, printable, and the object's value is what it was."""
    one = seen(enduser__id=value or "x", http__route=value or "x", jwt__status="verified")
    line = Table(width=width, colour=False).line(row(one))
    assert line.isprintable()
    wide = sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in line)
    assert len(line) <= wide
    assert "\n" not in as_json(row(one))
    assert form(one)["user_id"] == (value or "x")


VALUES = st.none() | st.booleans() | st.integers() | st.text() | st.lists(st.text())


@given(st.dictionaries(st.sampled_from([*REQUEST, *ALICE]), VALUES))
def test_any_value_has_a_row(values: dict[str, Any]) -> None:
    """A file may hold anything under any name."""
    one = Seen("e", TIME, TIME, values)
    Table(width=None, colour=True).line(row(one)).encode("utf-8", "surrogatepass")
    if all(not isinstance(value, int) or abs(value) < 2**63 for value in values.values()):
        form(one)


@pytest.mark.parametrize("time", [0, -1, 2**63, -(2**63), 2**80])
def test_any_time_is_shown(time: int) -> None:
    """As a number where the calendar ends."""
    one = row(Seen("e", time, time, {}))
    assert as_json(one)
    assert Table(width=None, colour=False).line(one)


def test_a_terminal_gets_its_width_and_a_file_all() -> None:
    """What is cut says so; colours are for terminals alone, and tell refused tokens apart."""
    one = seen(enduser__id="a" * 50, http__route="/" + "b" * 500)
    assert len(Table(width=120, colour=False).line(row(one))) <= 120
    assert "…" in Table(width=120, colour=False).line(row(one))
    assert "a" * 50 in Table(width=None, colour=False).line(row(one))
    assert "b" * 500 in Table(width=None, colour=False).line(row(one))
    refused = row(seen(jwt__status="invalid", jwt__error="signature_mismatch"))
    assert Table(width=120, colour=True).line(refused).startswith("\x1b[31m")
    assert not Table(width=120, colour=True).line(row(seen())).startswith("\x1b")
    header = Table(width=120, colour=False).header()
    assert header.split() == ["TIME", "WHO", "SESSION", "ACTION", "ROUTE", "STATUS", "TOKEN"]


MANY = [
    seen(),
    seen(enduser__id="auth0|5f7c8ec7c33c6c004bbafe82", session__id="6f1d6a1e-9f0c-4e6a-8e27-3f6a7b1d9c55"),
    seen(http__route="/api/v2/customers/{customer_id}/orders/{order_id}/items/{item_id}"),
    seen(jwt__status="invalid", jwt__error="signature_mismatch", audit__actor__id="anonymous"),
    seen(enduser__id="山田太郎@例え.jp", http__route="/größe/日本/{id}"),
    seen("order.shipped", http__request__method=None, http__response__status_code=None, audit__target__id="7"),
]
LAYOUTS = {
    200: "TIME WHO SESSION ACTION ROUTE STATUS TOKEN",
    120: "TIME WHO SESSION ACTION ROUTE STATUS TOKEN",
    80: "TIME WHO ROUTE STATUS TOKEN",
    60: "TIME WHO ROUTE CODE TOKEN",
    40: "TIME WHO ROUTE CODE",
}


@pytest.mark.parametrize("width", [*LAYOUTS, 30, 1000])
def test_a_table_fits_its_terminal(width: int) -> None:
    """No line is wider; time, person and what was done are there at any width, and most of them can be read."""
    rows = list(map(row, MANY))
    table = Table(width=width, colour=False)
    table.fit(rows)
    lines = [table.header(), *(line for one in rows for line in table.lines(one))]
    assert max(map(cell_len, lines)) <= width
    assert lines[0].split() == LAYOUTS.get(width, lines[0]).split()
    text = "\n".join(lines)
    assert "GET /or"[: width // 3] in text
    assert "alice" in text
    if width < 160:
        assert lines[1] == "2026-11-25 (UTC)"
        assert lines[2].startswith("09:46:40  alice")
        assert len(lines) == len(rows) + 2, "the date is told once"
    if width >= 80:
        assert "signature_mismatch" in text
        assert "order.shipped [" in text


@given(st.integers(20, 300), st.integers(20, 300))
def test_a_table_follows_its_terminal(first: int, second: int) -> None:
    """After a change it is as one of that width from the start, and tells that it changed."""
    rows = list(map(row, MANY))
    table, fresh = Table(width=first, colour=False), Table(width=second, colour=False)
    table.fit(rows)
    fresh.fit(rows)
    assert table.resize(second) == (first != second)
    assert not table.resize(second)
    assert [table.header(), *map(table.line, rows)] == [fresh.header(), *map(fresh.line, rows)]
    assert max(cell_len(line) for line in map(table.line, rows)) <= second


def test_services_are_told_apart_where_there_are_several() -> None:
    """One that is the same everywhere takes no room."""
    several = [row(replace(seen(), service=name)) for name in ("shop", "billing")]
    for rows, shown in ((several, True), (several[:1], False)):
        table = Table(width=200, colour=False)
        table.fit(rows)
        assert ("SERVICE" in table.header()) == shown
        assert ("shop" in table.line(rows[0])) == shown


def test_rows_that_are_to_follow_have_room() -> None:
    """The widths of the first rows are not those of the next."""
    narrow = row(seen(enduser__id="al", session__id="s"))
    table = Table(width=140, colour=False)
    table.fit([narrow], more=True)
    assert "f" * 18 in table.line(row(seen(enduser__id="f" * 18)))
