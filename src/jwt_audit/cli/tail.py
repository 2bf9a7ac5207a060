"""``jwt-audit tail``: who did what, as it is written. It proves nothing; `verify` does."""

from __future__ import annotations

import heapq
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import closing
from itertools import chain, islice
from pathlib import Path

import click

from ..sources.growing_file import GivenLines, GrowingFile
from ..sources.growing_spool import GrowingSpool
from ..sources.several import Several, Source
from .output import OutputError, reader_waits
from .places import check_spool, configured_spool, others
from .quantities import counted
from .rows import Row, as_json, printable
from .selection import Selection, selection
from .table import Table

_POLL_SECONDS = 0.3
_WINDOW = 20_000
"""Rows within which what is there already is put into the order of time; more are not held in memory."""
_FITTED = 200
"""Rows that say how wide the columns have to be."""
_BEFORE_FOLLOWING = 10
"""Rows of what is there that -f begins with, as tail does."""
_STDIN = Path("-")
_FILE_SUFFIXES = (".json", ".jsonl", ".ndjson")
_NARROWEST = 20
"""Columns of a terminal; one that says less has not said how wide it is."""


@click.command(short_help="Show who did what, as it is written.")
@click.argument("paths", metavar="[SPOOL|FILE]...", type=click.Path(path_type=Path, allow_dash=True), nargs=-1)
@click.option("-f", "--follow", is_flag=True, help="Go on as records are written, until SIGINT; begins at the end.")
@click.option(
    "-n",
    "--lines",
    type=click.IntRange(0),
    metavar="N",
    help="Only the last N, of what the other options leave.  [default: all; with -f and no --since: 10]",
)
@click.option("--user", multiple=True, metavar="ID", help="Only of this verified person.")
@click.option("--session", multiple=True, metavar="ID", help="Only of this verified session.")
@click.option(
    "--status",
    multiple=True,
    metavar="STATUS",
    help="Only with this response status (403, 4xx) or token status (expired).",
)
@click.option(
    "--path",
    "path",
    multiple=True,
    metavar="PATH",
    help="Only of this path or route (/orders/7, '/orders/{id}'), or of all below one ('/orders/*').",
)
@click.option("--action", multiple=True, metavar="NAME", help="Only with this action: READ, DELETE, or the app's own.")
@click.option("--since", metavar="TIME", help="Only what began then or later: 15m (ago), 2h, 7d, or ISO 8601.")
@click.option("--until", metavar="TIME", help="Only what began then or earlier; as --since.")
@click.option("--all", "everything", is_flag=True, help="Also what this package writes of itself, and second records.")
@click.option("--json", "json", is_flag=True, help="One JSON object a line, with all of the record.")
def tail(
    paths: tuple[Path, ...],
    follow: bool,
    lines: int | None,
    user: tuple[str, ...],
    session: tuple[str, ...],
    status: tuple[str, ...],
    path: tuple[str, ...],
    action: tuple[str, ...],
    since: str | None,
    until: str | None,
    everything: bool,
    json: bool,
) -> None:
    """Show who did what, with which token: of spools, live, and of files that jwt-audit sink wrote.

    All that is given is shown as one, in the order of time. A directory of the sink's is read at its
    audit.jsonl, "-" is standard input, and without an argument it is the spool that an app with this
    environment writes. What is there is shown, then it ends; with -f it goes on, through rotation,
    restarts and new processes. Options that choose records may be repeated: any of the values will do.

    \b
      jwt-audit tail -f /var/lib/orders/audit
      jwt-audit tail -n 20 --status 403 --status expired /var/lib/orders/audit
      jwt-audit tail --since 2h --until 1h --path '/orders/*' --action DELETE
      jwt-audit tail -f --json /var/lib/*/audit | jq -r .user_id

    This shows what is written and PROVES NOTHING: jwt-audit verify proves it. WHO and SESSION are those
    of tokens that the app's process verified; of an expired one they stand in brackets, of any other
    nobody is named. What came with a request is shown escaped. On a terminal the table has its width;
    times are UTC.

    \b
    Exit status 0  the end of what is there, or nobody reads any more
                1  it cannot be read, or not all of it
                2  wrong usage
              130  ended by SIGINT
    """
    wanted = selection(
        user=user,
        session=session,
        status=status,
        path=path,
        action=action,
        since=since,
        until=until,
        everything=everything,
    )
    named = paths or (configured_spool(),)
    found = [(one, _source(one, follow=follow, since=wanted.since)) for one in dict.fromkeys(named)]
    source = Several(found, whole=not follow)
    if follow and lines is None and since is None and not source.piped:
        lines = _BEFORE_FOLLOWING
    show = _Shown(None if json else _table(), more=follow)
    with closing(source):
        try:
            whole = _show(source, wanted, show, lines=lines, follow=follow)
        except OutputError as error:
            if not error.nobody_reads:
                raise
            error.forgive()  # who reads has seen enough, as head does
            return
    if not whole:
        sys.exit(1)


def _show(source: Several, wanted: Selection, show: _Shown, *, lines: int | None, follow: bool) -> bool:
    """Whether all could be read."""
    trouble = _Trouble(source)
    show.begin()
    if source.piped and lines is None:
        show.rows(wanted.rows(source.given()), at_once=True)
    elif lines is None:
        show.rows(_in_order(wanted.rows(source.all())), fit=True)
    else:
        show.rows(_last(source, wanted, lines), fit=True)
    source.check()
    trouble.tell()
    while follow and source.grows and reader_waits(_POLL_SECONDS):
        show.rows(sorted(wanted.rows(source.new()), key=lambda one: one.seen.time), only_if_any=True)
        trouble.tell()
    if not follow:
        for path in source.empty:
            click.echo(f"jwt-audit: there are no audit records in {printable(str(path))}", err=True)
    return trouble.none


def _source(path: Path, *, follow: bool, since: int) -> Source:
    if path == _STDIN:
        return GivenLines(sys.stdin.buffer)
    if path.is_fifo():
        return GivenLines(path.open("rb"), path)
    if path.is_dir() and (path / "audit.jsonl").is_file():
        return GrowingFile(path / "audit.jsonl")
    if path.is_file() or (follow and path.suffix in _FILE_SUFFIXES and not path.exists()):
        return GrowingFile(path)
    if (path / "heads").is_file() or check_spool(path):
        return GrowingSpool(path, since=since)
    if not follow and not path.is_dir():
        raise click.UsageError(f"there is no {path}{others()}")
    click.echo(f"jwt-audit: there are no records yet in {printable(str(path))}", err=True)
    return GrowingSpool(path, since=since)


def _last(source: Several, wanted: Selection, number: int) -> list[Row]:
    """The last ``number`` rows that are wanted, by the time of the action.

    Read from the end, until no record before can belong to them: none is observed before its action began.
    """
    best: list[tuple[int, int, int, Row]] = []
    count = 0

    def add(one: Row, order: int) -> None:
        entry = (one.seen.time, one.seen.recorded, order, one)
        if len(best) < number:
            heapq.heappush(best, entry)
        elif number:
            heapq.heappushpop(best, entry)

    for one in wanted.rows(source.given()):
        count += 1
        add(one, count)
    for seen in source.latest():
        if (len(best) == number and (not best or seen.recorded < best[0][0])) or (
            source.by_time and seen.recorded < wanted.since
        ):
            break
        for one in wanted.rows((seen,)):
            count += 1
            add(one, -count)
    return [row for *_, row in sorted(best)]


def _in_order(rows: Iterable[Row]) -> Iterator[Row]:
    """By the time of the action, as far as a bounded memory can."""
    heap: list[tuple[int, int, Row]] = []
    for index, one in enumerate(rows):
        heapq.heappush(heap, (one.seen.time, index, one))
        if len(heap) > _WINDOW:
            yield heapq.heappop(heap)[2]
    while heap:
        yield heapq.heappop(heap)[2]


class _Trouble:
    """What could not be read of a source, told as it comes; of lines only when they have doubled."""

    def __init__(self, source: Several) -> None:
        self._source = source
        self._failures: set[str] = set()
        self._unread = 0

    @property
    def none(self) -> bool:
        return not (self._failures or self._unread)

    def tell(self) -> None:
        for failure in self._source.failures:
            if failure not in self._failures:
                self._failures.add(failure)
                click.echo(f"jwt-audit: {printable(str(failure))}", err=True)
        unread = self._source.unread
        if unread and unread >= 2 * self._unread:
            self._unread = unread
            verb = "is no record" if unread == 1 else "are no records"
            click.echo(f"jwt-audit: {counted(unread, 'line')} {verb}; jwt-audit verify says what they are", err=True)


class _Shown:
    """Rows on standard output: objects, or a table that has the terminal's width also after that has changed."""

    def __init__(self, table: Table | None, *, more: bool) -> None:
        """``more``: rows of which nothing is known yet are to follow."""
        self._table = table
        self._more = more
        self._out = sys.stdout.buffer

    def begin(self) -> None:
        if self._table is not None:
            click.echo("jwt-audit: not verified; jwt-audit verify proves it", err=True)

    def rows(self, rows: Iterable[Row], *, fit: bool = False, at_once: bool = False, only_if_any: bool = False) -> None:
        if only_if_any and not rows:
            return
        if self._table is not None:
            if fit:
                first = list(islice(rows := iter(rows), _FITTED))
                self._table.fit(first, more=self._more)
                rows = chain(first, rows)
            width = _width()
            if self._table.resize(width or 0) or not only_if_any:
                self._write(self._table.header())
        for one in rows:
            for line in (as_json(one),) if self._table is None else self._table.lines(one):
                self._write(line)
            if at_once:
                self._out.flush()
        self._out.flush()

    def _write(self, line: str) -> None:
        self._out.write(line.encode("utf-8") + b"\n")


def _table() -> Table:
    width = _width()
    if width is None:
        return Table(width=None, colour=False)
    from rich.console import Console

    console = Console(file=sys.stdout)
    return Table(width=width, colour=console.color_system is not None and not console.no_color)


def _width() -> int | None:
    """Columns of the terminal on standard output as it is now; None where that is none."""
    try:
        columns = os.get_terminal_size(sys.stdout.fileno()).columns
    except (OSError, ValueError):
        return None
    return columns if columns >= _NARROWEST else 80
