"""The table of `jwt-audit tail`: on a terminal as wide as that is, elsewhere with nothing cut.

What does not fit is given up in this order: the date (a line of its own says it), lengths of names and of the
reason why a token was refused, the service, the session, the action (the method tells it), more of the lengths, in
the end the token and the status. Time, person and what was done stay.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from rich.cells import cell_len, set_cell_size

from ..attributes import text
from ..identity.caller import Status
from .rows import SECOND_RECORDS, Row, iso

_COLUMNS = ("time", "service", "who", "session", "action", "route", "status", "token")
_GAP = "  "
_USUAL = {"time": 24, "service": 0, "who": 18, "session": 14, "action": 8, "route": 30, "status": 6, "token": 24}
"""Widths before a row was seen."""
_MOST = {"service": 16, "who": 24, "session": 24, "action": 10, "status": 7, "token": 28}
"""Widths on a terminal that no content exceeds."""
_CLOCK = 8
_LONGEST_CELL = 4096

Widths = dict[str, int]


def _at_most(name: str, width: int) -> Callable[[Widths], None]:
    def narrow(widths: Widths) -> None:
        if name in widths:
            widths[name] = min(widths[name], width)

    return narrow


def _without(name: str) -> Callable[[Widths], None]:
    def leave_out(widths: Widths) -> None:
        widths.pop(name, None)

    return leave_out


def _as_it_is(_: Widths) -> None:
    pass


_STEPS: tuple[tuple[int, Callable[[Widths], None]], ...] = (
    (30, _at_most("time", _CLOCK)),
    (30, _at_most("service", 10)),
    (28, _at_most("session", 12)),
    (28, _at_most("token", 18)),
    (28, _at_most("who", 18)),
    (28, _without("service")),
    (28, _at_most("session", 8)),
    (28, _without("session")),
    (26, _without("action")),
    (22, _at_most("who", 14)),
    (22, _at_most("token", 12)),
    (16, _at_most("who", 10)),
    (16, _at_most("status", 4)),
    (14, _at_most("token", 8)),
    (12, _at_most("who", 8)),
    (10, _without("token")),
    (6, _without("status")),
)
"""What is given up, one after the other, and how wide the route has to be for that to be enough."""


class Table:
    """Lines of equal columns. With ``width`` (a terminal's) what is too long is cut, without it nothing is."""

    def __init__(self, *, width: int | None, colour: bool) -> None:
        self._width = width
        self._colour = colour
        self._wanted = dict(_USUAL)
        self._date = ""
        self._widths: Widths = {}
        self._arrange()

    def fit(self, rows: Iterable[Row], *, more: bool = False) -> None:
        """Set the columns' widths by these rows, so that they stand below each other; with ``more``, others follow."""
        found = {name: len(name) for name in _COLUMNS}
        services = set()
        for one in rows:
            services.add(one.seen.service)
            for name, cell in _cells(one).items():
                found[name] = max(found[name], cell_len(cell))
        if not services:
            return
        if len(services) == 1:
            found["service"] = 0  # it is the same everywhere, and tells nothing
        if more or self._width is None:
            found = {name: width and max(width, _USUAL[name]) for name, width in found.items()}
        self._wanted = found
        self._arrange()

    def resize(self, width: int) -> bool:
        """Whether the terminal's width is another now; then the lines that follow have that."""
        if self._width is None or width == self._width:
            return False
        self._width = width
        self._arrange()
        return True

    def _arrange(self) -> None:
        self._widths = {name: width for name, width in self._wanted.items() if width}
        if self._width is None:
            return
        for name, most in _MOST.items():
            _at_most(name, most)(self._widths)
        route = self._widths["route"]
        for least, step in ((60, _as_it_is), *_STEPS):
            step(self._widths)
            rest = self._width - sum(width + len(_GAP) for name, width in self._widths.items() if name != "route")
            if rest >= min(route, least):
                break
        # What is left goes to the route, or, if that is whole, to nobody
        self._widths["route"] = max(1, min(rest, max(route, least)))
        if "token" in self._widths:
            spare = rest - self._widths["route"]
            self._widths["token"] = min(self._wanted["token"], self._widths["token"] + max(0, spare))

    def header(self) -> str:
        """The names of the columns."""
        return self._line({name: self._name(name, width).upper() for name, width in self._widths.items()})

    @staticmethod
    def _name(name: str, width: int) -> str:
        return "code" if name == "status" and width < len(name) else name

    def lines(self, shown: Row) -> Iterator[str]:
        """`line`, and before it the date, where the columns have no room for it and it is another than before."""
        if self._widths["time"] == _CLOCK:
            date = iso(shown.seen.time, "seconds").partition("T")[0]
            if date != self._date:
                self._date = date
                yield self._cut(f"{date} (UTC)")
        yield self.line(shown)

    def line(self, shown: Row) -> str:
        """One record; what came with a request is escaped."""
        cells = self._shortened(_cells(shown))
        line = self._line(cells)
        return f"\x1b[{self._style(shown)}m{line}\x1b[0m" if self._colour and self._style(shown) else line

    def _shortened(self, cells: dict[str, str]) -> dict[str, str]:
        """With a shorter word for what would be cut, where there is one."""
        if self._width is None:
            return cells
        if self._widths["time"] == _CLOCK:
            cells["time"] = cells["time"].partition("T")[2][:_CLOCK] or cells["time"]
        if self._widths.get("status", 0) < len(cells["status"]):
            cells["status"] = {"success": "ok", "failure": "fail", "unknown": "?"}.get(cells["status"], cells["status"])
        if self._widths.get("token", 0) < cell_len(cells["token"]):
            cells["token"] = cells["token"].rpartition(": ")[2]  # the reason says the status too
        return cells

    @staticmethod
    def _style(shown: Row) -> str:
        """Red for what was refused, yellow for a token that proves nothing; plain for the rest."""
        if shown.token in (Status.INVALID.value, Status.EXPIRED.value, Status.NOT_YET_VALID.value):
            return "31"
        if shown.token == Status.UNVERIFIED.value:
            return "33"
        return "2" if shown.seen.event.startswith("audit.") else ""

    def _line(self, cells: dict[str, str]) -> str:
        sized = []
        for name, width in self._widths.items():
            cell = cells[name]
            length = cell_len(cell)
            if length > width and self._width is not None:
                sized.append(set_cell_size(cell, width - 1) + "…")
            else:
                sized.append(cell + " " * (width - length))
        return self._cut(_GAP.join(sized).rstrip())

    def _cut(self, line: str) -> str:
        return line if self._width is None or cell_len(line) <= self._width else set_cell_size(line, self._width)


def _cells(shown: Row) -> dict[str, str]:
    token = shown.token or ""
    if shown.error and shown.error != token:
        token += f": {shown.error}"
    cells = {
        "time": iso(shown.seen.time, "milliseconds"),
        "service": shown.seen.service,
        "who": shown.shown_user,
        "session": shown.shown_session,
        "action": shown.action,
        "route": _what(shown),
        "status": shown.outcome if shown.status is None else str(shown.status),
        "token": token,
    }
    return {name: text(cell, _LONGEST_CELL) for name, cell in cells.items()}


def _what(shown: Row) -> str:
    """Method and route of a request, the name of an event of the app's own; and what it was done to."""
    where = shown.route or shown.path or ""
    what = f"{shown.method} {where}" if shown.method else shown.seen.event
    if shown.seen.event in SECOND_RECORDS:
        what += f" ({shown.seen.event.rpartition('.')[2]})"
    if shown.target and shown.target not in (shown.path, shown.route):
        kind = f"{shown.target_type} " if shown.target_type and shown.target_type != "http.endpoint" else ""
        what += f" [{kind}{shown.target}]"
    return what
