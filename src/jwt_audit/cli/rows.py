"""What `jwt-audit tail` shows of a record: a row, and the object that programs get of it.

Invariants: a person or session is named only where the token was verified; of an expired token, whose
signature held, they stand in brackets in the table. What came with a request is shown escaped: no control
character of it, nor one that turns the direction of writing, reaches a terminal.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

import orjson

from .. import attributes as attr
from ..identity.caller import UNKNOWN, Status
from ..sources.seen import Seen

TOKEN_WORDS = tuple(status.value for status in Status)
SECOND_RECORDS = (attr.EVENT_RECEIVED, attr.EVENT_LATE)
"""Events of records beside the one that each request has."""


@dataclass(frozen=True, slots=True)
class Row:
    """One record. ``user`` and ``session`` are proved ones; ``shown_*`` are what stands in the table."""

    seen: Seen
    user: str | None
    session: str | None
    shown_user: str
    shown_session: str
    action: str
    method: str | None
    path: str | None
    route: str | None
    status: int | None
    outcome: str
    target_type: str | None
    target: str | None
    request_id: str | None
    issuer: str | None
    expires_at: int | None
    token: str | None
    error: str | None


def is_shown(seen: Seen, *, everything: bool) -> bool:
    """Whether it has a row: one for each request, connection or event of the app, unless all is wanted."""
    return everything or not (seen.event.startswith("audit.") or seen.event in SECOND_RECORDS)


def row(seen: Seen) -> Row:
    """The row of a record. Never raises, whatever its values are."""
    found = seen.attributes
    token = _text(found, attr.JWT_STATUS)
    user = session = issuer = None
    shown_user, shown_session = _text(found, attr.ACTOR_ID) or "", ""
    if token == Status.VERIFIED.value:
        named = _text(found, attr.ENDUSER_ID) or _text(found, attr.ENDUSER_PSEUDO_ID) or shown_user
        user = named if named not in ("", UNKNOWN) else None
        session, issuer = _text(found, attr.SESSION_ID), _text(found, attr.JWT_ISSUER)
        shown_user, shown_session = named, session or ""
    elif token == Status.EXPIRED.value:
        shown_user = _in_brackets(_text(found, attr.JWT_EXPIRED_SUBJECT)) or shown_user
        shown_session = _in_brackets(_text(found, attr.JWT_EXPIRED_SESSION))
    return Row(
        seen=seen,
        user=user,
        session=session,
        shown_user=shown_user,
        shown_session=shown_session,
        action=_text(found, attr.ACTION) or "",
        method=_text(found, attr.HTTP_METHOD),
        path=_text(found, attr.URL_PATH),
        route=_text(found, attr.HTTP_ROUTE),
        status=_number(found, attr.HTTP_STATUS),
        outcome=_text(found, attr.OUTCOME) or "",
        target_type=_text(found, attr.TARGET_TYPE),
        target=_text(found, attr.TARGET_ID),
        request_id=_text(found, attr.REQUEST_ID),
        issuer=issuer,
        expires_at=_number(found, attr.JWT_EXPIRES_AT) if token == Status.VERIFIED.value else None,
        token=token,
        error=_text(found, attr.JWT_ERROR),
    )


def _text(found: dict[str, Any], name: str) -> str | None:
    value = found.get(name)
    return value if isinstance(value, str) else None


def _number(found: dict[str, Any], name: str) -> int | None:
    value = found.get(name)
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 19:
        return int(value)  # some receivers turn numbers into text
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _in_brackets(value: str | None) -> str:
    return f"({value})" if value else ""


_MEMBERS = {
    "record_id": attr.RECORD_ID,
    "action": attr.ACTION,
    "outcome": attr.OUTCOME,
    "decision": attr.DECISION,
    "reason": attr.JWT_ERROR,
    "error_type": attr.ERROR_TYPE,
    "target_type": attr.TARGET_TYPE,
    "target_id": attr.TARGET_ID,
    "route": attr.HTTP_ROUTE,
    "client": attr.CLIENT_ADDRESS,
    "peer": attr.PEER_ADDRESS,
    "user_agent": attr.USER_AGENT,
    "actor": attr.ACTOR_ID,
    "actor_type": attr.ACTOR_TYPE,
    "stream": attr.STREAM_ID,
}
_NUMBERS = {"number": attr.NUMBER, "duration_us": attr.REQUEST_DURATION}
_NAMED_ABOVE = frozenset(
    {attr.REQUEST_ID, attr.URL_PATH, attr.HTTP_METHOD, attr.HTTP_STATUS, attr.JWT_STATUS}
    | {attr.ENDUSER_ID, attr.ENDUSER_PSEUDO_ID, attr.SESSION_ID, attr.JWT_ISSUER, attr.JWT_EXPIRES_AT}
    | {*_MEMBERS.values(), *_NUMBERS.values()}
)
"""What has a member of its own: a person's name among it, which no other member shows of an unverified token."""


def as_json(shown: Row) -> str:
    """One object on one line with all of the record, and nothing in it that a terminal would obey."""
    seen, found = shown.seen, shown.seen.attributes
    form: dict[str, Any] = {
        "timestamp": iso(seen.time, "microseconds"),
        "request_id": shown.request_id,
        "user_id": shown.user,
        "session_id": shown.session,
        "endpoint": shown.path,
        "method": shown.method,
        "response_status": shown.status,
        "iss": shown.issuer,
        "exp": shown.expires_at,
        "token_status": shown.token,
        "event": seen.event,
        "recorded": iso(seen.recorded, "microseconds"),
        "service": seen.service or None,
        "trace_id": seen.trace_id or None,
        "span_id": seen.span_id or None,
        "body": seen.body or None,
        **{name: _text(found, attribute) for name, attribute in _MEMBERS.items()},
        **{name: _number(found, attribute) for name, attribute in _NUMBERS.items()},
        "attributes": {
            name: value
            for name, value in found.items()
            if name not in _NAMED_ABOVE and not name.startswith(attr.INTEGRITY)
        },
    }
    try:
        line = orjson.dumps(form).decode("utf-8")
    except TypeError:  # an integer of more than 64 bits, which a file may hold
        line = json.dumps(form, default=str)
    return printable(line)


def printable(text: str) -> str:
    """``text`` with each character that a terminal would obey, or not show, escaped as JSON does it."""
    return text if text.isprintable() else "".join(map(_escaped, text))


def _escaped(character: str) -> str:
    """As JSON escapes it: beyond the BMP by a pair of surrogates."""
    if character.isprintable():
        return character
    code = character.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{code[at]:02x}{code[at + 1]:02x}" for at in range(0, len(code), 2))


def iso(time: int, precision: str) -> str:
    """Nanoseconds since the epoch as UTC in ISO 8601; the number itself where the calendar ends."""
    try:
        moment = datetime.fromtimestamp(time // 1_000_000_000, timezone.utc)
        moment = moment.replace(microsecond=time % 1_000_000_000 // 1000, tzinfo=None)
    except (OverflowError, OSError, ValueError):
        return str(time)
    return moment.isoformat(timespec=precision) + "Z"
