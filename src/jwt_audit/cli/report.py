"""A verification's report in words.

In this order: the verdict; what may be claimed (proved, by whose key, up to when) and what may not (open,
left out, not judged); what is wrong; what is worth knowing; the streams.
"""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import click

from ..evidence.verdict import Finding, Report, StreamReport, Verdict, iso
from .quantities import counted, size_text
from .rows import printable

_SHOWN_PROBLEMS = 10
_SHOWN_NOTES = 10
_SHOWN_STREAMS = 20
_CLAIM_INDENT, _CLAIM_COLUMN = 2, 13
"""Where the name of a claim begins in its line, and where its text does."""
_COLORS = {Verdict.VALID: "green", Verdict.INVALID: "red", Verdict.INCOMPLETE: "yellow"}


def fitted(line: str, width: int) -> list[str]:
    """``line`` in lines of at most ``width`` columns, but for words that are longer; what follows is indented more."""
    if len(click.unstyle(line)) <= width:
        return [line]
    indent = len(line) - len(line.lstrip(" "))
    claim = indent == _CLAIM_INDENT and line[_CLAIM_COLUMN - 1] == " " and line[_CLAIM_COLUMN] != " "
    return textwrap.wrap(
        line.lstrip(" "),
        width,
        initial_indent=" " * indent,
        subsequent_indent=" " * (_CLAIM_COLUMN if claim else indent + 2),
        break_long_words=False,
        break_on_hyphens=False,
    )


class _Judged(NamedTuple):
    """A line that a verdict stands in, behind ``indent`` blanks and before ``rest``."""

    indent: int
    verdict: Verdict
    rest: str


def lines(report: Report) -> Iterator[str]:
    """The lines to print. Colours are in them, which `click.echo` leaves out where no terminal reads.

    What the evidence and its files are named is shown escaped: it may have been made to write a verdict of its own.
    """
    for line in _lines(report):
        if isinstance(line, str):
            yield printable(line)
        else:
            yield f"{' ' * line.indent}{_word(line.verdict)}{printable(line.rest)}"


def _lines(report: Report) -> Iterator[str | _Judged]:
    problems = report.problems()
    yield _Judged(0, report.verdict, f": {_summary(report, problems)}")
    yield from _claims(report)
    if problems:
        yield ""
        yield "What is wrong, the gravest first:" if report.verdict is Verdict.INVALID else "What is missing:"
        yield from _findings(problems, _SHOWN_PROBLEMS, report.counts(problems=True))
    notes = report.notes()
    if notes:
        yield ""
        yield "Notes:"
        yield from _findings(notes, _SHOWN_NOTES, report.counts(problems=False))
    if report.streams:
        yield ""
        yield "Streams:"
        # Those that are not valid first: they are why someone reads this
        order = sorted(report.streams, key=lambda stream: stream.verdict is Verdict.VALID)
        several = len(_copies(report)) > 1
        for stream in order[:_SHOWN_STREAMS]:
            yield from _stream(stream, copy=f" in {stream.source}" if several else "")
        if len(order) > _SHOWN_STREAMS:
            yield f"  and {len(order) - _SHOWN_STREAMS} more; --json lists them"
        yield ""
        yield from _trust(report)


def _summary(report: Report, problems: list[Finding]) -> str:
    records = sum(stream.records for stream in report.streams)
    streams, copies = len({stream.stream for stream in report.streams}), len(_copies(report))
    read = f"{counted(records, 'record')} in {counted(streams, 'stream')}"
    read += f" of {copies} copies" if copies > 1 else ""
    if report.verdict is Verdict.VALID:
        return f"{read}{_up_to(report)}"
    first = next((one for one in problems if one.number), None)
    where = "" if first is None else f", the first at record {first.number} of {first.stream}"
    return f"{read}; {counted(report.counts(problems=True).total(), 'finding')}{where}"


def _up_to(report: Report) -> str:
    """How far it is proved: to its end, to the last signed record, or to where it may go on."""
    tailed = [stream for stream in report.streams if stream.open_tail]
    tail = sum(stream.open_tail for stream in tailed)
    if not tailed:
        said = ", all under signed heads"
    elif len(report.streams) == 1:
        said = f", up to record {tailed[0].proved_up_to}; {_newer(tail)} not signed yet"
    else:
        said = f", up to the last signed record of each; {_newer(tail)} not signed yet"
    going_on = sum(not stream.ended and stream.recovered_by is None for stream in report.streams if stream.records)
    if going_on:
        said += f"; {counted(going_on, 'stream')} without an end may go on"
    return said


def _newer(tail: int) -> str:
    return "1 newer one is" if tail == 1 else f"{tail} newer ones are"


def _claims(report: Report) -> Iterator[str]:
    """What may be claimed, and what may not."""
    proved = [stream for stream in report.streams if stream.proved and stream.verdict is not Verdict.INVALID]
    if proved:
        keys = sorted({stream.key_id[:16] for stream in proved if stream.key_id})
        whose = "given with --key" if report.pinned else "that the records carry themselves"
        first, last = min(one.from_time for one in proved), max(one.proved_until for one in proved)
        yield _claim(
            "proved",
            f"{counted(sum(one.proved for one in proved), 'record')} from {iso(first)} to {iso(last)}, "
            f"by the key {', '.join(keys)} {whose}",
        )
    else:
        yield _claim("proved", "nothing")
    if report.since is not None or report.until is not None:
        yield _claim("asked for", f"{iso(report.since or 0) or 'the start'} to {iso(report.until or 0) or 'the end'}")
    yield from _list("open", _open(report))
    unread = f"{size_text(report.unread_bytes)} that are no whole value" if report.unread_bytes else ""
    others = f"{counted(report.other_records, 'log record')} of other kinds" if report.other_records else ""
    files = report.counts(problems=False)["unknown_file"]
    yield from _list("left out", [others, unread, f"{counted(files, 'file')} by their names" if files else ""])
    unprovable = sum(stream.unprovable for stream in report.streams)
    yield from _list(
        "not judged",
        [
            f"{counted(unprovable, 'record')} without canonical bytes" if unprovable else "",
            f"{counted(report.uncompared, 'shown value')} in a form that cannot be compared"
            if report.uncompared
            else "",
        ],
    )


def _open(report: Report) -> list[str]:
    tail = sum(stream.open_tail for stream in report.streams)
    without_end = [one for one in report.streams if one.records and not one.ended and one.recovered_by is None]
    gone = sum(one.writer not in ("alive", "elsewhere") for one in without_end)
    notes = report.counts(problems=False)
    return [
        f"{counted(tail, 'record')} after the last signed head" if tail else "",
        f"{counted(len(without_end), 'stream')} without an end{f', {gone} of them with no writer' if gone else ''}"
        if without_end
        else "",
        f"the start of {counted(notes['open_start'], 'stream')}" if notes["open_start"] else "",
        f"the end of {counted(notes['open_end'], 'stream')}" if notes["open_end"] else "",
    ]


def _list(name: str, parts: list[str]) -> Iterator[str]:
    if any(parts):
        yield _claim(name, "; ".join(filter(None, parts)))


def _claim(name: str, text: str) -> str:
    return f"{' ' * _CLAIM_INDENT}{name:<{_CLAIM_COLUMN - _CLAIM_INDENT}}{text}"


def _findings(found: Sequence[Finding], shown: int, counts: Counter[str]) -> Iterator[str | _Judged]:
    """The first of them, and how many more of which kinds there are."""
    for one in found[:shown]:
        yield from _finding(one)
    rest = counts - Counter(one.kind for one in found[:shown])
    if rest:
        kinds = ", ".join(f"{kind} {count}" for kind, count in sorted(rest.items()))
        yield f"  and {rest.total()} more: {kinds}"


def _finding(finding: Finding) -> Iterator[str | _Judged]:
    subject = [f"record {finding.number}"] if finding.number else []
    subject += [f"stream {finding.stream}"] if finding.stream else []
    about = f" ({' of '.join(subject)})" if subject else ""
    if finding.verdict is Verdict.VALID:
        yield f"  {finding.kind}{about}"
    else:
        yield _Judged(2, finding.verdict, f" {finding.kind}{about}")
    yield f"    {finding.detail}"
    if finding.place is not None:
        where = f", {finding.place.where}" if finding.place.where else ""
        yield f"    in {finding.place.source}{where}"


def _copies(report: Report) -> set[str]:
    return {stream.source for stream in report.streams}


def _stream(stream: StreamReport, copy: str) -> Iterator[str | _Judged]:
    yield _Judged(2, stream.verdict, f" {stream.stream}{copy}")
    if not stream.records:
        yield "    no record"
        return
    span = f"{iso(stream.from_time)} to {iso(stream.to_time)}"
    yield f"    {counted(stream.records, 'record')}, {stream.first} to {stream.last}, {span}"
    proved = f"proved up to record {stream.proved_up_to}" if stream.proved_up_to else "nothing proved"
    if stream.verdict is Verdict.INVALID:
        proved = _not_proved(stream)
    tail = f", then an open tail of {stream.open_tail}" if stream.open_tail else ""
    tail = "" if stream.verdict is Verdict.INVALID else tail
    if stream.ended:
        end = "ended in order"
    elif stream.recovered_by:
        end = f"broke off there, as {stream.recovered_by} states"
    else:
        end = "no end record"
    yield f"    {proved}{tail}; {end}"
    extras = [f"{counted(stream.duplicates, 'record')} delivered twice"] if stream.duplicates else []
    extras += [f"{counted(stream.explained, 'record')} refused by the receiver"] if stream.explained else []
    if extras:
        yield f"    {', '.join(extras)}"


def _not_proved(stream: StreamReport) -> str:
    """Of a stream in which something is wrong nothing is claimed: what contradicts a proof takes part in all of it."""
    wrong = [one.number for one in stream.findings.problems() if one.verdict is Verdict.INVALID and one.number]
    return f"not proved; the first record that is wrong is {min(wrong)}" if wrong else "not proved"


def _trust(report: Report) -> Iterator[str]:
    if report.pinned:
        yield "Trust: only heads of the keys given with --key count."
    elif report.keys:
        shown = ", ".join(f"{key[:16]}…" for key in report.keys[:3])
        yield f"Trust: on first use. The key is the one that the records carry themselves ({shown});"
        yield "       give the one that you know with --key FILE, or whoever rewrote all of it goes unseen."


def _word(verdict: Verdict) -> str:
    return click.style(verdict.value, fg=_COLORS[verdict], bold=True)
