"""``jwt-audit status``: how far the streams of a spool were written, signed and delivered."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
import orjson

from ..attributes import iso_8601, text
from ..errors import JWTAuditError
from ..settings.environment import load
from ..settings.variables import PREFIX
from ..ship.backlog import undelivered, waiting
from ..ship.turn import Holder, holder
from ..spool import durable
from ..spool.durable import LockState
from ..spool.stream import Stream, streams
from ..stream_ends import kept_locally, last_head, last_of_stream
from .places import check_spool, others, spool_argument
from .quantities import age_text, counted, duration, size_text

_WRITERS = {LockState.HELD: "alive", LockState.FREE: "died", LockState.UNKNOWN: "unknown"}
_FULL = 0.8
"""The share of the limit at which the app warns too."""
_UNSIGNED_SECONDS = 60.0
"""A head comes every second; a live stream's records that are unsigned for so long will stay so."""


@dataclass(frozen=True)
class StreamStatus:
    """One stream. ``records`` counts all that were written, also what retention has removed since."""

    stream_id: str
    writer: str
    """``alive``, ``ended`` (it wrote its last record), ``died``, or ``unknown``: it cannot be told whether it lives."""
    records: int
    signed_up_to: int
    delivered_up_to: int
    complete: bool
    """All of it was delivered, heads included; of a stream whose writer lives, all that is there now."""
    backlog_records: int
    backlog_bytes: int
    backlog_age: float
    """Seconds since the first undelivered record was written; 0 where there is none."""
    bytes: int
    last_record: str
    """When the last record was written, ISO 8601; empty where there is none."""
    unsigned_age: float
    """Seconds since the last record was written, where a live stream's is not yet signed; else 0."""


@dataclass(frozen=True)
class Problem:
    """Something that wants attention."""

    kind: str
    detail: str


def look(stream: Stream, now: float) -> StreamStatus:
    """Reads a stream's cursor and the ends of its files; takes no lock. ``now`` in seconds."""
    cursor = stream.cursor()
    state = stream.writer()
    last = last_of_stream(stream)
    head = last_head(stream)
    signed = head.head.number if head is not None else 0
    backlog = waiting(stream, cursor)
    return StreamStatus(
        stream_id=stream.id,
        writer="ended" if last.ended and state is not LockState.HELD else _WRITERS[state],
        records=last.number,
        signed_up_to=signed,
        delivered_up_to=min(cursor.number, last.number),
        complete=not undelivered(stream),
        backlog_records=max(0, last.number - cursor.number),
        backlog_bytes=backlog.bytes,
        backlog_age=max(0.0, now - backlog.since / 1e9) if backlog.since else 0.0,
        bytes=stream.size(),
        last_record=iso_8601(last.time // 1_000_000_000) if last.time else "",
        unsigned_age=max(0.0, now - last.time / 1e9) if state is LockState.HELD and last.number > signed else 0.0,
    )


@click.command(short_help="Show what of a spool is written, signed and delivered.")
@spool_argument
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option("--all", "show_all", is_flag=True, help="Show also the streams that ended and are delivered whole.")
@click.option(
    "--max-age",
    default="5m",
    show_default=True,
    metavar="DURATION",
    callback=duration,
    help="How long a record may wait for delivery before that is a problem.",
)
def status(spool: Path, as_json: bool, show_all: bool, max_age: float) -> None:
    """Show how far the streams of SPOOL are written, signed and delivered, and who ships.

    It only reads: it changes nothing, takes no lock that anybody waits for, and may be asked at any
    time. Without SPOOL it is the directory that an app with this environment writes.

    \b
      jwt-audit status /var/lib/orders/audit
      jwt-audit status --json --max-age 15m | jq .problems

    \b
    Exit status 0  all is well
                1  something wants attention, and is named: records that wait
                   longer than --max-age, dead letters, a spool near its limit, a
                   stream that is no longer signed, or cannot be read
                2  wrong usage, or SPOOL is no spool
    """
    found: list[StreamStatus] = []
    problems: list[Problem] = []
    if not spool.exists():
        raise click.UsageError(f"there is no {spool}{others()}")
    present = check_spool(spool)
    for stream in streams(spool) if present else ():
        try:
            found.append(look(stream, time.time()))
        except (OSError, JWTAuditError) as error:
            if not stream.gone():  # else retention has removed it meanwhile
                problems.append(Problem("unreadable", f"the stream {stream.id} cannot be read ({error})"))
    ships: Holder | None = None
    counts = {"dead-letter": 0, "pruned": 0}
    aside = 0
    try:
        ships = holder(spool)
        aside = sum(durable.size(spool / name) or 0 for name in counts)
        counts = {name: _count(spool / name) for name in counts}
    except (OSError, JWTAuditError) as error:
        problems.append(Problem("unreadable", f"not all of the spool can be read ({error})"))
    limit = (ships.limit if ships is not None else 0) or load()[0].spool_limit
    whole: dict[str, Any] = {
        "spool": str(spool),
        "local": _local(found, spool),
        "shipper": None if ships is None else _holder_form(ships),
        "streams": [asdict(one) for one in found],
        "records": sum(one.records for one in found),
        "backlog_records": sum(one.backlog_records for one in found),
        "backlog_bytes": sum(one.backlog_bytes for one in found),
        "backlog_age": max((one.backlog_age for one in found), default=0.0),
        "bytes": sum(one.bytes for one in found) + aside,
        "limit": limit,
        "dead_letters": counts["dead-letter"],
        "pruned_streams": counts["pruned"],
    }
    problems += _problems(found, whole, max_age)
    whole["problems"] = [asdict(problem) for problem in problems]
    if as_json:
        click.echo(orjson.dumps(whole, option=orjson.OPT_INDENT_2))
    else:
        _show(found, whole, ships, problems, show_all=show_all)
    sys.exit(1 if problems else 0)


def _local(found: list[StreamStatus], spool: Path) -> bool:
    """Whether nothing is to be delivered, as the latest stream says; of a spool without streams, the settings."""
    try:
        return kept_locally(Stream(spool / "streams" / found[-1].stream_id)) if found else load()[0].local
    except JWTAuditError:
        return False  # it has just gone, or cannot be read


def _holder_form(ships: Holder) -> dict[str, Any]:
    since = iso_8601(ships.since // 1_000_000_000) if ships.since else ""
    return {"role": ships.role, "pid": ships.pid, "host": ships.host, "since": since}


def _problems(found: list[StreamStatus], whole: dict[str, Any], max_age: float) -> Iterator[Problem]:
    if whole["backlog_age"] > max_age and not whole["local"]:
        idle = "" if whole["shipper"] else ", and no process is shipping"
        yield Problem("backlog", f"records have waited for {age_text(whole['backlog_age'])}{idle}")
    if whole["dead_letters"]:
        detail = "were refused for good: they are in the file dead-letter (see why, then move it away)"
        yield Problem("dead_letters", f"{whole['dead_letters']} {detail}")
    if whole["bytes"] >= whole["limit"] * _FULL:
        other = "" if whole["local"] else f"; where there is no receiver, set {PREFIX}ENDPOINT=none"
        yield Problem("near_limit", f"{whole['bytes'] * 100 // whole['limit']} % of the limit is used{other}")
    for one in found:
        if one.writer == "unknown":
            yield Problem("unknown_writer", f"whether a process still writes {one.stream_id} cannot be told")
        if one.unsigned_age > _UNSIGNED_SECONDS:
            count = one.records - one.signed_up_to
            yield Problem("unsigned", f"the last {count} records of {one.stream_id} are unsigned: can its disk sync?")


def _show(
    found: list[StreamStatus],
    whole: dict[str, Any],
    ships: Holder | None,
    problems: list[Problem],
    *,
    show_all: bool,
) -> None:
    from rich.console import Console
    from rich.table import Table

    shown = [one for one in found if show_all or one.writer == "alive" or not one.complete]
    table = Table(box=None, pad_edge=False)
    table.add_column("stream", no_wrap=True)
    for column in ("writer", "records", "signed", "delivered", "waiting", "bytes", "last record"):
        table.add_column(column, justify="right", no_wrap=True)
    for one in shown:
        waits = f"{size_text(one.backlog_bytes)}, {age_text(one.backlog_age)}" if one.backlog_bytes else "-"
        numbers = (str(number) for number in (one.records, one.signed_up_to, one.delivered_up_to))
        table.add_row(one.stream_id, one.writer, *numbers, waits, size_text(one.bytes), one.last_record or "-")
    console = Console()
    if not console.is_terminal:
        console = Console(width=200)  # no terminal has told how wide it is, and lines are to stay whole

    def say(line: str, style: str = "") -> None:
        console.print(text(line, 4096), style=style, highlight=False, markup=False, soft_wrap=True)

    with console.capture() as captured:
        if shown:
            console.print(table)
        if len(found) > len(shown):
            more = counted(len(found) - len(shown), "more stream")
            say(f"{more} ended and delivered whole (--all shows them)")
        waits = (
            f"{size_text(whole['backlog_bytes'])} in {counted(whole['backlog_records'], 'record')} wait for delivery"
        )
        if whole["backlog_bytes"]:
            waits += f", the first for {age_text(whole['backlog_age'])}"
        else:
            waits = "nothing waits for delivery"
        if whole["local"]:
            waits = "they stay here: nothing is delivered (ENDPOINT=none), RETENTION and SPOOL_LIMIT remove the oldest"
        say(f"{counted(len(found), 'stream')}, {counted(whole['records'], 'record')}; {waits}")
        used = f"{size_text(whole['bytes'])} of {size_text(whole['limit'])} used"
        letters, pruned = counted(whole["dead_letters"], "dead letter"), counted(whole["pruned_streams"], "stream")
        say(f"{used}; {letters}; {pruned} pruned")
        does, nobody = (
            ("looked after", "no process is looking after it")
            if whole["local"]
            else ("shipped", "no process is shipping")
        )
        say(f"{does} by {ships.shown}" if ships is not None else nobody)
        for problem in problems:
            say(f"{problem.kind}: {problem.detail}", "bold red")
    click.echo(captured.get(), nl=False)  # by one write, and a reader that has gone is then seen


def _count(path: Path) -> int:
    """Lines of a file, 0 where there is none. Raises OSError."""
    return durable.read(path).count(b"\n") if durable.exists(path) else 0
