"""``jwt-audit verify``: prove that nothing was changed, removed, reordered, forged or cut off."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click
import orjson

from ..errors import EvidenceError, KeySourceError
from ..evidence.proof import Trust
from ..evidence.signing import PublicKey
from ..evidence.span import Span
from ..evidence.verify import judge
from ..sources import inputs
from ..sources.files import content
from ..sources.spool import read_heads
from . import report as shown
from .quantities import moment_of
from .rows import printable

_FILE = click.Path(path_type=Path)
_MAX_KEY_BYTES = 64 * 1024


@click.command(
    short_help="Prove that nothing was changed, removed, forged or cut off.",
    epilog="Every finding, and what to do about it: docs/verification.md",
)
@click.argument("paths", nargs=-1, metavar="[PATH]...", type=click.Path(path_type=Path, allow_dash=True))
@click.option(
    "--key",
    "keys",
    multiple=True,
    type=_FILE,
    metavar="FILE",
    help="PEM public key whose heads count, and no other's. May be given more than once (rotation).",
)
@click.option(
    "--revoked",
    multiple=True,
    type=(_FILE, str),
    metavar="FILE TIME",
    help="PEM public key whose heads count only up to TIME, in ISO 8601.",
)
@click.option(
    "--head",
    "held",
    multiple=True,
    type=_FILE,
    metavar="FILE",
    help="Heads that you kept elsewhere, a line each: the records must reach them and agree.",
)
@click.option(
    "--since", metavar="TIME", help="Prove what was observed from TIME on, in ISO 8601; what is earlier may be absent."
)
@click.option("--until", metavar="TIME", help="Prove what was observed before TIME; what is later may be absent.")
@click.option("--strict", is_flag=True, help="Want all of it proved: pinned keys, no open tail, every end stated.")
@click.option("--json", "as_json", is_flag=True, help="Print the whole report as one JSON object.")
@click.option("--quiet", is_flag=True, help="Print nothing; the exit status tells.")
def verify(
    paths: tuple[Path, ...],
    keys: tuple[Path, ...],
    revoked: tuple[tuple[Path, str], ...],
    held: tuple[Path, ...],
    since: str | None,
    until: str | None,
    strict: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Prove audit records, offline: was anything changed, removed, reordered, forged or cut off?

    PATH is a spool, one stream of it, or what a receiver or store gave back: files of the sink or of
    the Collector, answers of Loki or VictoriaLogs, also gzipped, or a directory of them; "-" reads
    standard input. What it is, is seen by its content. Without PATH it is the spool that an app with
    this environment writes.

    Several paths are judged together: all exported files are one copy, each spool another. A record
    that one copy has and the other should have is found missing.

    \b
      jwt-audit verify --key audit.pub /var/lib/orders/audit
      jwt-audit verify --key audit.pub --head kept-heads audit.jsonl

    \b
    Exit status 0  valid: what is signed is as it was written
                1  invalid: the first bad record is named, and why
                2  incomplete: not provable, or nothing to verify; wrong usage
    """
    paths = paths or (_default(),)
    try:
        pins = {key.key_id: key for key in map(_key, keys)}
        ends = {_key(path, "--revoked").key_id: _time(text, "--revoked") for path, text in revoked}
        span = _span(since, until)
        stored = [found for path in held for found in read_heads(path)]
        with _progress(paths, show=not (quiet or as_json)) as advance:
            copies = inputs.read(paths, advance)
    except (EvidenceError, KeySourceError) as error:
        click.echo(f"jwt-audit: {printable(str(error))}", err=True)
        sys.exit(2)
    report = judge(copies, Trust(pins, ends), held=stored, strict=strict, span=span)
    if as_json:
        click.echo(orjson.dumps(report.form(), option=orjson.OPT_INDENT_2))
    elif not quiet:
        width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
        for line in shown.lines(report):
            for part in [line] if width is None else shown.fitted(line, width):
                click.echo(part)
    sys.exit(report.verdict.exit_code)


def _default() -> Path:
    """The spool of this environment. Raises UsageError where none is there."""
    from .places import configured_spool, others  # with the settings, which a verification does not need

    found = configured_spool()
    if not found.exists():
        raise click.UsageError(f"there is no {found}{others()}")
    return found


def _key(path: Path, option: str = "--key") -> PublicKey:
    try:
        pem = content(path, _MAX_KEY_BYTES)
        if pem.count(b"-----BEGIN ") > 1:
            raise KeySourceError("holds more than one PEM block; give one --key for each key, in a file of its own")
        key = PublicKey.from_pem(pem)
    except OSError as error:
        raise KeySourceError(f"{option} {path}: cannot be read ({error.strerror})") from error
    except EvidenceError as error:
        told = str(error).removeprefix(f"{path} ").removeprefix("is ")
        told = "larger than any PEM key" if told.startswith("larger") else told
        raise KeySourceError(f"{option} {path}: {told}") from error
    except KeySourceError as error:
        raise KeySourceError(f"{option} {path}: {error}") from error
    if b"PRIVATE KEY" in pem:
        click.echo(
            f"jwt-audit: {option} {path} is a private key: whoever has it can sign heads. Its public half is used; "
            f"give that to auditors (openssl pkey -in {path} -pubout)",
            err=True,
        )
    return key


def _time(text: str, option: str) -> int:
    moment = moment_of(text)
    if moment is None:
        raise EvidenceError(f"{option} {text}: no time in ISO 8601, such as 2026-11-25T12:00:00Z")
    return moment


def _span(since: str | None, until: str | None) -> Span:
    span = Span(None if since is None else _time(since, "--since"), None if until is None else _time(until, "--until"))
    if span.since is not None and span.until is not None and span.since >= span.until:
        raise EvidenceError("--until is not later than --since")
    return span


@contextmanager
def _progress(paths: tuple[Path, ...], *, show: bool) -> Iterator[Callable[[int], None]]:
    if not (show and sys.stderr.isatty()):
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn

    columns = ("reading", BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("reading", total=inputs.size(paths) or None)
        yield lambda size: progress.advance(task, size)
