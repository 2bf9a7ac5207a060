"""``jwt-audit tail``: who did what, as it is written. It proves nothing; `verify` does."""

from __future__ import annotations

import heapq
import os
import select
import shutil
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from itertools import chain, islice
from pathlib import Path

import click

from ..errors import JWTAuditError
from ..sources.growing_file import GivenLines, GrowingFile
from ..sources.growing_spool import GrowingSpool
from ..sources.seen import Seen
from .places import check_spool, configured_spool
from .quantities import moment_of, seconds_of
from .rows import TOKEN_WORDS, Row, Table, as_json, is_shown, row

_POLL_SECONDS = 0.3
_WINDOW = 20_000
"""Rows within which what is there already is put into the order of time; more are not held in memory."""
_FITTED = 200
"""Rows that say how wide the columns have to be, where no terminal does."""
_STDIN = Path("-")

Source = GrowingSpool | GrowingFile
Wanted = Callable[[Row], bool]


@click.command(short_help="Show who did what, as it is written.")
@click.argument("path", metavar="[SPOOL|FILE]", type=click.Path(path_type=Path, allow_dash=True), required=False)
@click.option("-f", "--follow", is_flag=True, help="Go on as records are written, until SIGINT.")
@click.option("-n", "--lines", type=click.IntRange(0), metavar="N", help="Only the last N of what is there already.")
@click.option("--user", multiple=True, metavar="ID", help="Only of this verified person; may be repeated.")
@click.option("--session", multiple=True, metavar="ID", help="Only of this verified session; may be repeated.")
@click.option(
    "--status",
    multiple=True,
    metavar="STATUS",
    help="Only with this response status (403, 4xx) or token status (expired); may be repeated.",
)
@click.option("--since", metavar="TIME", help="Only from then on: 15m (ago), 2h, 7d, or ISO 8601 (UTC without offset).")
@click.option("--all", "everything", is_flag=True, help="Also what this package writes of itself, and second records.")
@click.option("--json", "json", is_flag=True, help="One JSON object a line.")
def tail(
    path: Path | None,
    follow: bool,
    lines: int | None,
    user: tuple[str, ...],
    session: tuple[str, ...],
    status: tuple[str, ...],
    since: str | None,
    everything: bool,
    json: bool,
) -> None:
    """Show who did what, with which token: of a spool, live, or of a file that jwt-audit sink wrote.

    All streams of a spool are shown as one, in the order of time. A directory of the sink's is read at
    its audit.jsonl, "-" is standard input, and without an argument it is the spool that an app with
    this environment writes. What is there is shown, then it ends; with -f it goes on, through
    rotation, restarts and new processes.

    This shows what is written and PROVES NOTHING: jwt-audit verify proves it. WHO and SESSION are those
    of tokens that the app's process verified; of an expired one they stand in brackets, of any other
    nobody is named. What came with a request is shown escaped.

    \b
    Exit status 0  the end of what is there
                1  it cannot be read, or not all of it
                2  wrong usage
              130  ended by SIGINT
    """
    start = 0 if since is None else _moment(since)
    wanted = _filter(user, session, status, start)
    source = _source(path, follow=follow, since=start)
    out = sys.stdout.buffer
    table = None if json else _table()
    show = as_json if table is None else table.line

    told: set[str] = set()

    def new() -> Iterator[Row]:
        for seen in _polled(source, last=not follow):
            if is_shown(seen, everything=everything) and wanted(one := row(seen)):
                yield one
        for failure in source.failures:
            if failure not in told:
                told.add(failure)
                click.echo(f"jwt-audit: {failure}", err=True)

    def write(some: Iterable[Row], *, at_once: bool = False) -> None:
        for one in some:
            out.write(show(one).encode("utf-8") + b"\n")
            if at_once:
                out.flush()
        out.flush()

    with source if isinstance(source, GrowingFile) else nullcontext():
        try:
            piped = isinstance(source, GivenLines)
            rows: Iterable[Row] = new() if piped else _in_order(new())
            rows = rows if lines is None else deque(rows, maxlen=lines)
            if table is not None:
                click.echo("jwt-audit: as it is written, not verified; jwt-audit verify proves it", err=True)
                if not piped:  # all of it is there, while a pipe would have to be waited for
                    first = list(islice(rows := iter(rows), _FITTED))
                    table.fit(first)
                    rows = chain(first, rows)
                out.write(table.header().encode("utf-8") + b"\n")
                out.flush()
            write(rows, at_once=piped)
            while follow and not piped and _reader_waits():
                write(sorted(new(), key=lambda one: one.time))
        except BrokenPipeError:
            # Who reads has seen enough, as head does. What the buffer still holds is to go nowhere
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return
        except KeyboardInterrupt:
            sys.exit(130)
    if source.unread:
        click.echo(f"jwt-audit: {source.unread} lines are no records; jwt-audit verify says what they are", err=True)
    if told:
        sys.exit(1)


def _source(path: Path | None, *, follow: bool, since: int) -> Source:
    root = configured_spool() if path is None else path
    if root == _STDIN:
        return GivenLines(sys.stdin.buffer)
    if root.is_file() or root.is_fifo():
        return GrowingFile(root)
    if root.is_dir() and (root / "audit.jsonl").is_file():
        return GrowingFile(root / "audit.jsonl")
    if (root / "heads").is_file() or check_spool(root):
        return GrowingSpool(root, since=since)
    if not follow and not root.is_dir():
        raise click.UsageError(f"there is no {root}")
    click.echo(f"jwt-audit: there are no records yet in {root}", err=True)
    return GrowingSpool(root, since=since)


def _polled(source: Source, *, last: bool) -> Iterator[Seen]:
    """What is new; nothing where the spool is not yet there. With ``last`` nothing is expected to follow."""
    try:
        yield from source.poll()
        if last and isinstance(source, GrowingFile):
            yield from source.last()
    except JWTAuditError:
        if isinstance(source, GrowingSpool) and not source.there:
            return
        raise


def _in_order(rows: Iterable[Row]) -> Iterator[Row]:
    """By the time of the action, as far as a bounded memory can."""
    heap: list[tuple[int, int, Row]] = []
    for index, one in enumerate(rows):
        heapq.heappush(heap, (one.time, index, one))
        if len(heap) > _WINDOW:
            yield heapq.heappop(heap)[2]
    while heap:
        yield heapq.heappop(heap)[2]


def _reader_waits() -> bool:
    """Wait for the next look; raises BrokenPipeError as soon as nobody reads any more, also without output."""
    try:
        poll = select.poll()
        poll.register(sys.stdout.fileno(), 0)
    except (OSError, ValueError):  # it is no file
        time.sleep(_POLL_SECONDS)
        return True
    for _, event in poll.poll(_POLL_SECONDS * 1000):
        if event & select.POLLERR:
            raise BrokenPipeError
    return True


def _table() -> Table:
    from rich.console import Console

    console = Console(file=sys.stdout)
    if not console.is_terminal:
        return Table(width=None, colour=False)
    return Table(width=shutil.get_terminal_size((120, 24)).columns, colour=not console.no_color)


def _filter(user: tuple[str, ...], session: tuple[str, ...], status: tuple[str, ...], since: int) -> Wanted:
    codes = frozenset(code for one in status for code in _codes(one))
    words = frozenset(one for one in status if one in TOKEN_WORDS)

    def wanted(one: Row) -> bool:
        return (
            one.time >= since
            and (not user or one.user in user)
            and (not session or one.session in session)
            and (not status or one.status in codes or one.token in words)
        )

    return wanted


def _codes(word: str) -> Iterable[int]:
    if len(word) == 3 and word.isascii() and word[0] in "12345":
        if word[1:] == "xx":
            return range(int(word[0]) * 100, int(word[0]) * 100 + 100)
        if word.isdigit():
            return (int(word),)
    if word in TOKEN_WORDS:
        return ()
    raise click.BadParameter(
        f"{word!r} is neither a response status such as 403 or 4xx nor one of {', '.join(TOKEN_WORDS)}",
        param_hint="'--status'",
    )


def _moment(word: str) -> int:
    """Nanoseconds since the epoch of a time, or of so long ago."""
    seconds = seconds_of(word)
    if seconds is not None:
        return int((time.time() - seconds) * 1e9)
    moment = moment_of(word)
    if moment is None:
        problem = f"{word!r} is no time; write one such as 15m, 2h or 2026-11-25T12:00:00Z"
        raise click.BadParameter(problem, param_hint="'--since'")
    return moment
