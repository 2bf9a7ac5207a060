"""What `jwt-audit tail` shows of a record: a row for people, an object for programs.

Invariants: a person or session is named only where the token was verified; of an expired token, whose
signature held, they stand in brackets. What came with a request is shown escaped: no control
character of it, nor one that turns the direction of writing, reaches a terminal.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

import orjson
from rich.cells import cell_len, set_cell_size

from .. import attributes as attr
from ..attributes import text
from ..identity import UNKNOWN, Status
from ..sources.seen import Seen

TOKEN_WORDS = tuple(status.value for status in Status)
_COLUMNS = ("time", "who", "session", "action", "route", "status", "token")
_WIDTHS = (24, 18, 14, 8, 30, 6, 24)
_ROUTE, _NARROWEST = 4, 16
_EACH_REQUEST = (attr.EVENT_RECEIVED, attr.EVENT_LATE)


@dataclass(frozen=True, slots=True)
class Row:
    """One record. ``user`` and ``session`` are proved ones; ``shown_*`` are what stands in the table."""

    time: int
    event: str
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
    request_id: str | None
    issuer: str | None
    expires_at: int | None
    token: str | None
    error: str | None


def is_shown(seen: Seen, *, everything: bool) -> bool:
    """Whether it has a row: one for each request, connection or event of the app, unless all is wanted."""
    return everything or not (seen.event.startswith("audit.") or seen.event in _EACH_REQUEST)


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
        time=seen.time,
        event=seen.event,
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


def as_json(shown: Row) -> str:
    """One object on one line, and nothing in it that a terminal would obey."""
    form = {
        "timestamp": _iso(shown.time, "microseconds"),
        "request_id": shown.request_id,
        "user_id": shown.user,
        "session_id": shown.session,
        "endpoint": shown.path,
        "method": shown.method,
        "response_status": shown.status,
        "iss": shown.issuer,
        "exp": shown.expires_at,
        "token_status": shown.token,
    }
    line = orjson.dumps(form).decode("utf-8")
    return line if line.isprintable() else "".join(map(_escaped, line))


def _escaped(character: str) -> str:
    """As JSON escapes it: beyond the BMP by a pair of surrogates."""
    if character.isprintable():
        return character
    code = character.encode("utf-16-be")
    return "".join(f"\\u{code[at]:02x}{code[at + 1]:02x}" for at in range(0, len(code), 2))


def _iso(time: int, precision: str) -> str:
    try:
        moment = datetime.fromtimestamp(time // 1_000_000_000, timezone.utc)
        moment = moment.replace(microsecond=time % 1_000_000_000 // 1000, tzinfo=None)
    except (OverflowError, OSError, ValueError):
        return str(time)
    return moment.isoformat(timespec=precision) + "Z"


def _cells(shown: Row) -> list[str]:
    where = shown.route or shown.path or ""
    what = f"{shown.method} {where}" if shown.method else shown.event
    if shown.event in _EACH_REQUEST:
        what += f" ({shown.event.rpartition('.')[2]})"
    token = shown.token or ""
    if shown.error and shown.error != token:
        token += f": {shown.error}"
    status = shown.outcome if shown.status is None else str(shown.status)
    cells = [_iso(shown.time, "milliseconds"), shown.shown_user, shown.shown_session, shown.action, what]
    return [text(cell, 4096) for cell in (*cells, status, token)]


class Table:
    """Lines of equal columns. With ``width`` (a terminal's) what is too long is cut, without it nothing is."""

    def __init__(self, *, width: int | None, colour: bool) -> None:
        self._cut = width is not None
        self._colour = colour
        widths = list(_WIDTHS)
        if width is not None:
            fixed = sum(widths) - widths[_ROUTE] + 2 * (len(widths) - 1)
            widths[_ROUTE] = max(_NARROWEST, width - fixed)
        self._widths = widths

    def fit(self, rows: Iterable[Row]) -> None:
        """Widen the columns of one that cuts nothing, so that these stand below each other."""
        if not self._cut:
            for one in rows:
                self._widths = [
                    max(width, cell_len(cell)) for width, cell in zip(self._widths, _cells(one), strict=True)
                ]

    def header(self) -> str:
        """The names of the columns."""
        return self._line([name.upper() for name in _COLUMNS])

    def line(self, shown: Row) -> str:
        """One record; what came with a request is escaped."""
        line = self._line(_cells(shown))
        return f"\x1b[{self._style(shown)}m{line}\x1b[0m" if self._colour and self._style(shown) else line

    @staticmethod
    def _style(shown: Row) -> str:
        """Red for what was refused, yellow for a token that proves nothing; plain for the rest."""
        if shown.token in (Status.INVALID.value, Status.EXPIRED.value, Status.NOT_YET_VALID.value):
            return "31"
        if shown.token == Status.UNVERIFIED.value:
            return "33"
        return "2" if shown.event.startswith("audit.") else ""

    def _line(self, cells: list[str]) -> str:
        sized = []
        for cell, width in zip(cells, self._widths, strict=True):
            length = cell_len(cell)
            if length > width and self._cut:
                sized.append(set_cell_size(cell, width - 1) + "…")
            else:
                sized.append(cell + " " * (width - length))
        return "  ".join(sized).rstrip()
