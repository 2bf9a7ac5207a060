"""``jwt-audit status``: how far the streams of a spool were written, signed and delivered."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
import orjson

from ..ship.backlog import last_head, last_of_stream, undelivered
from ..spool.durable import Lock
from ..spool.segment import SUFFIX
from ..spool.spool import Stream, streams


@dataclass(frozen=True)
class StreamStatus:
    """One stream. ``records`` counts all that were written, also what retention has removed since."""

    stream_id: str
    alive: bool
    ended: bool
    records: int
    delivered: int
    undelivered: int
    complete: bool
    """All of it was delivered, heads included."""
    open_tail: int
    """Records after the last signed head."""
    bytes: int


def look(stream: Stream) -> StreamStatus:
    """Reads a stream's cursor and the ends of its files; takes no lock."""
    cursor = stream.cursor()
    alive = stream.written()
    last = last_of_stream(stream)
    head = last_head(stream)
    sizes = (path.stat().st_size for path in stream.path.iterdir() if path.suffix == SUFFIX or path.name == "heads")
    return StreamStatus(
        stream_id=stream.id,
        alive=alive,
        ended=last.ended,
        records=last.number,
        delivered=min(cursor.number, last.number),
        undelivered=max(0, last.number - cursor.number),
        complete=not undelivered(stream),
        open_tail=max(0, last.number - (head.head.number if head is not None else 0)),
        bytes=sum(sizes),
    )


@click.command()
@click.argument("spool", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def status(spool: Path, as_json: bool) -> None:
    """Show the streams of SPOOL: who writes, what is delivered, what is not yet signed. Changes nothing."""
    found = [look(stream) for stream in streams(spool)]
    whole = {
        "spool": str(spool),
        "shipped_now": Lock.held(spool / "ship.lock"),
        "streams": [asdict(one) for one in found],
        "records": sum(one.records for one in found),
        "undelivered": sum(one.undelivered for one in found),
        "bytes": sum(one.bytes for one in found),
        "dead_letters": _count(spool / "dead-letter"),
        "pruned_streams": _count(spool / "pruned"),
    }
    if as_json:
        click.echo(orjson.dumps(whole, option=orjson.OPT_INDENT_2))
    else:
        _show(found, whole)


def _show(found: list[StreamStatus], whole: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    table.add_column("stream", no_wrap=True)
    for column in ("writer", "records", "delivered", "waiting", "open tail", "bytes"):
        table.add_column(column, justify="right")
    for one in found:
        writer = "alive" if one.alive else "ended" if one.ended else "died"
        numbers = (one.records, one.delivered, one.undelivered, one.open_tail, one.bytes)
        table.add_row(one.stream_id, writer, *(str(number) for number in numbers))
    console = Console()
    if not console.is_terminal:
        console = Console(width=200)  # no terminal has told how wide it is, and lines are to stay whole
    console.print(table)
    shipper = "a process is shipping" if whole["shipped_now"] else "no process is shipping"
    console.print(
        f"{len(found)} streams, {whole['records']} records, {whole['undelivered']} waiting, {whole['bytes']} bytes; "
        f"{shipper}; {whole['dead_letters']} dead letters, {whole['pruned_streams']} streams pruned",
        highlight=False,
        soft_wrap=True,
    )


def _count(path: Path) -> int:
    try:
        with path.open("rb") as file:
            return sum(1 for _ in file)
    except FileNotFoundError:
        return 0
