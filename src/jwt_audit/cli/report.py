"""A verification's report in words: the verdict first, then what is wrong and where, then what is proved."""

from __future__ import annotations

from collections.abc import Iterator

import click

from ..evidence.verdict import Finding, Report, StreamReport, Verdict, iso
from .quantities import counted

_SHOWN_PROBLEMS = 10
_SHOWN_STREAMS = 20
_COLORS = {Verdict.VALID: "green", Verdict.INVALID: "red", Verdict.INCOMPLETE: "yellow"}


def lines(report: Report) -> Iterator[str]:
    """The lines to print. Colours are in them, which `click.echo` leaves out where no terminal reads."""
    problems = report.problems()
    yield f"{_word(report.verdict)}: {_summary(report, problems)}"
    if problems:
        yield ""
        yield "What is wrong, the gravest first:" if report.verdict is Verdict.INVALID else "What is missing:"
        for problem in problems[:_SHOWN_PROBLEMS]:
            yield from _finding(problem)
        if len(problems) > _SHOWN_PROBLEMS:
            yield f"  and {len(problems) - _SHOWN_PROBLEMS} more; --json lists them"
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
        tail = sum(stream.open_tail for stream in report.streams)
        proved = (
            f"; {tail} of them are chained but not yet signed (the open tail)" if tail else ", all under signed heads"
        )
        return f"{read}{proved}"
    first = next((one for one in problems if one.number), None)
    where = "" if first is None else f", the first at record {first.number} of {first.stream}"
    return f"{read}; {counted(len(problems), 'finding')}{where}"


def _finding(finding: Finding) -> Iterator[str]:
    subject = [f"record {finding.number}"] if finding.number else []
    subject += [f"stream {finding.stream}"] if finding.stream else []
    about = f" ({' of '.join(subject)})" if subject else ""
    yield f"  {_word(finding.verdict)} {finding.kind}{about}"
    yield f"    {finding.detail}"
    if finding.place is not None:
        where = f", {finding.place.where}" if finding.place.where else ""
        yield f"    in {finding.place.source}{where}"


def _copies(report: Report) -> set[str]:
    return {stream.source for stream in report.streams}


def _stream(stream: StreamReport, copy: str) -> Iterator[str]:
    yield f"  {_word(stream.verdict)} {stream.stream}{copy}"
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
