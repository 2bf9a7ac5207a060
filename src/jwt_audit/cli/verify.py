"""``jwt-audit verify``: prove that nothing was changed, removed, reordered, forged or cut off."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click
import orjson

from ..errors import EvidenceError, KeySourceError, RecordError
from ..evidence import heads
from ..evidence.heads import SignedHead
from ..evidence.proof import Trust
from ..evidence.signing import PublicKey
from ..evidence.verdict import Place, Report, iso
from ..evidence.verify import judge
from ..sources import inputs

_SHOWN = 10


@click.command(short_help="Prove that nothing was changed, removed, forged or cut off.")
@click.argument("paths", nargs=-1, required=True, metavar="PATH...", type=click.Path(path_type=Path, allow_dash=True))
@click.option(
    "--key", "keys", multiple=True, type=click.Path(path_type=Path), help="A PEM key whose heads count; pins."
)
@click.option("--head", "held", multiple=True, type=click.Path(path_type=Path), help="Heads that were kept elsewhere.")
@click.option("--strict", is_flag=True, help="Want all of it proved: pinned key, no open tail, every end stated.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option("--quiet", is_flag=True, help="Print nothing; the exit code tells.")
def verify(
    paths: tuple[Path, ...],
    keys: tuple[Path, ...],
    held: tuple[Path, ...],
    strict: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Verify audit records offline: a spool directory, or files that a receiver or store wrote.

    Several paths are judged together: exported files are one copy, each spool another, and a record
    that one copy has and the other should have is found missing. "-" reads an export from standard input.

    Exit code 0: valid. 1: invalid, the first bad record is named. 2: incomplete, what is here cannot
    be proved either way, or there is nothing to verify.
    """
    try:
        pins = {key.key_id: key for key in map(_key, keys)}
        stored = [found for path in held for found in _heads(path)]
        with _progress(paths, show=not (quiet or as_json)) as advance:
            copies = inputs.read(paths, advance)
    except (EvidenceError, KeySourceError) as error:
        click.echo(f"jwt-audit: {error}", err=True)
        sys.exit(2)
    report = judge(copies, Trust(pins), held=stored, strict=strict)
    if as_json:
        click.echo(orjson.dumps(report.form(), option=orjson.OPT_INDENT_2))
    elif not quiet:
        _show(report)
    sys.exit(report.verdict.exit_code)


def _key(path: Path) -> PublicKey:
    try:
        return PublicKey.from_pem(path.read_bytes())
    except OSError as error:
        raise KeySourceError(f"--key {path}: cannot be read ({error.strerror})") from error
    except KeySourceError as error:
        raise KeySourceError(f"--key {path}: {error}") from error


def _heads(path: Path) -> Iterator[tuple[SignedHead, Place]]:
    try:
        for number, line in enumerate(path.read_bytes().splitlines(), 1):
            yield heads.parse_line(line), Place(str(path), number, 0)
    except (OSError, RecordError) as error:
        raise EvidenceError(f"--head {path}: no file of signed heads") from error


@contextmanager
def _progress(paths: tuple[Path, ...], *, show: bool) -> Iterator[Callable[[int], None]]:
    if not (show and sys.stderr.isatty()):
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn

    columns = ("reading", BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("reading", total=inputs.size(paths))
        yield lambda size: progress.advance(task, size)


def _show(report: Report) -> None:
    form = report.form()
    totals = form["totals"]
    click.echo(f"{report.verdict.value}: {totals['records']} records in {totals['streams']} streams")
    for stream in report.streams:
        tail = f", open tail {stream.open_tail} (not yet signed)" if stream.open_tail else ""
        end = (
            "ended"
            if stream.ended
            else f"broke off, stated by {stream.recovered_by}"
            if stream.recovered_by
            else "no end"
        )
        click.echo(
            f"  {stream.verdict.value:<10} {stream.stream}  {stream.records} records, "
            f"proved up to {stream.proved_up_to}{tail}, {end}, {iso(stream.from_time)} to {iso(stream.to_time)}"
        )
    problems = report.problems()
    for problem in problems[:_SHOWN]:
        where = "" if problem.place is None else f" in {problem.place.source}, {problem.place.where}"
        number = "" if problem.number is None else f", record {problem.number}"
        click.echo(f"  {problem.verdict.value}: {problem.kind}: {problem.detail}{where}{number}")
    if len(problems) > _SHOWN:
        click.echo(f"  and {len(problems) - _SHOWN} more; --json lists them")
    if report.pinned:
        click.echo("  trust: the heads are signed by a key that you pinned")
    elif report.keys:
        click.echo(
            f"  trust: on first use, the key that the records carry ({', '.join(k[:16] for k in report.keys)}…);"
        )
        click.echo("         pin yours with --key FILE")
