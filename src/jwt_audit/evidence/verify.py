"""The verifier: from copies of chains and signed heads to a verdict. All rules, no I/O.

Each stream of each copy is judged by its own heads, then by what proved records of other streams
state of it, then against the other copies. The rules in words, and the words of the findings:
docs/verification.md.
"""

from __future__ import annotations

from collections.abc import Sequence

from .copies import Copy
from .heads import SignedHead
from .holes import Holes
from .missing import Heads, compare, judge_half_removed, judge_held, judge_named
from .proof import Trust, judge_tail, prove
from .resource import Shown
from .signing import PublicKey
from .span import Span
from .stated import Stated
from .streams import Chain
from .verdict import Finding, Findings, Kind, Place, Report, StreamReport, Verdict

STRICT_KINDS: frozenset[Kind] = frozenset(
    {
        "no_end",
        "start_unlinked",
        "behind",
        "torn",
        "unknown_file",
        "elsewhere",
        "open_start",
        "open_end",
        "uncompared",
    }
)
"""Notes that ``strict`` does not let pass."""


def judge(
    copies: Sequence[Copy],
    trust: Trust | None = None,
    *,
    held: Heads = (),
    strict: bool = False,
    span: Span | None = None,
) -> Report:
    """The verdict over copies that were read to their end and closed.

    ``held`` are heads kept elsewhere, which the copies must reach and agree with. ``strict`` wants
    all of it proved: no open tail, pinned keys, every end stated. ``span`` is the time asked for.
    """
    trust, span = trust or Trust(), span or Span()
    findings = Findings()
    for signed, place in held:
        for copy in copies:
            if signed.head.stream_id in copy.chains:
                copy.chains[signed.head.stream_id].heads.append((signed, place))
    embedded: dict[str, PublicKey] = {}
    for copy in copies:
        for chain in copy.chains.values():
            if chain.binding is not None:
                embedded.setdefault(chain.binding.key.key_id, chain.binding.key)
    good = [{stream: prove(chain, trust, embedded) for stream, chain in copy.chains.items()} for copy in copies]
    judged = [(copy, Stated(copy, pinned=bool(trust.pins))) for copy in copies]
    reports = [
        report
        for (copy, stated), heads in zip(judged, good, strict=True)
        for report in _judge_copy(copy, stated, heads, span)
    ]
    judge_held(held, judged, findings, trust, span)
    compare(judged, span)
    for copy in copies:
        _collect(copy, findings)
    keys = sorted({report.key_id for report in reports if report.key_id is not None})
    if not copies:
        findings.add(Finding(Verdict.INCOMPLETE, "nothing", "there is nothing to verify"))
    elif any(copy.records for copy in copies):
        _judge_amount(reports, findings, span)
    if not trust.pins and len(keys) > 1:
        detail = f"the streams embed {len(keys)} different keys: pin those that you know with --key"
        findings.add(Finding(Verdict.VALID, "several_keys", detail))
    report = Report(reports, findings, strict, pinned=bool(trust.pins), keys=keys, since=span.since, until=span.until)
    report.other_records = sum(copy.other_records for copy in copies)
    report.unread_bytes = sum(copy.unread for copy in copies)
    report.uncompared = sum(copy.uncompared for copy in copies)
    if strict:
        _judge_strictly(report)
    return report


def _collect(copy: Copy, findings: Findings) -> None:
    """What was found of the copy itself."""
    if copy.uncompared:
        detail = f"{copy.uncompared} shown times or members are in a form that cannot be compared with what was signed"
        copy.findings.add(Finding(Verdict.VALID, "uncompared", detail, Place(copy.source)))
    findings.join(copy.findings)
    if not copy.records and not any(finding.kind == "nothing" for finding in copy.findings.kept):
        detail = "there is no audit record to verify"
        findings.add(Finding(Verdict.INCOMPLETE, "nothing", detail, Place(copy.source)))


def _judge_amount(reports: Sequence[StreamReport], findings: Findings, span: Span) -> None:
    """Nothing proved is never valid, nor is nothing of the time asked for."""
    if not any(report.proved for report in reports):
        if all(report.verdict is Verdict.VALID for report in reports):
            findings.add(Finding(Verdict.INCOMPLETE, "unsigned", "no record is signed yet"))
    elif not any(
        report.records and not (span.is_before(report.to_time) or span.is_after(report.from_time)) for report in reports
    ):
        findings.add(Finding(Verdict.INCOMPLETE, "nothing", "there is no record of the time asked for"))


def _judge_copy(
    copy: Copy, stated: Stated, good: dict[str, list[tuple[SignedHead, Place]]], span: Span
) -> list[StreamReport]:
    closed = stated.close_tails()
    reports = []
    for stream, chain in sorted(copy.chains.items()):
        recovered_by = closed.get(stream)
        holes = Holes(copy, chain, stated, span)
        if not chain.stopped:
            holes.judge([(signed.head, place) for signed, place in good[stream]])
        holes.judge_statements()
        shown: Shown | None = copy.shown.get(stream)
        if shown is not None:
            shown.judge(chain)
        report = _report(chain, good[stream])
        report.recovered_by, report.explained = recovered_by, holes.explained
        if chain.runs and not chain.stopped:
            report.open_tail = judge_tail(chain, bool(good[stream]), recovered_by, span)
        reports.append(report)
    judge_named(copy, stated, span)
    judge_half_removed(copy, stated)
    return reports


def _report(chain: Chain, good: list[tuple[SignedHead, Place]]) -> StreamReport:
    report = StreamReport(chain.stream, chain.source, chain.findings)
    report.records, report.ended = chain.records, bool(chain.end)
    report.heads, report.duplicates = len(good), chain.duplicates
    report.writer = chain.writer
    report.unprovable = len(chain.unprovable)
    if chain.runs and chain.records:
        first, last = chain.runs[0], chain.runs[-1]
        report.first, report.last = first.first, chain.last
        report.from_time = first.observed(first.first)
        report.to_time = last.observed(last.last)
        for run in chain.runs:  # up to the first record that nothing signed covers
            if run.proved >= run.first:
                report.proved += run.proved - run.first + 1
                report.proved_until = run.observed(run.proved)
                report.proved_up_to = run.proved
            if run.proved < run.last:
                break
    report.key_id = chain.key_id
    return report


def _judge_strictly(report: Report) -> None:
    for findings in (report.findings, *(stream.findings for stream in report.streams)):
        findings.tighten(STRICT_KINDS)
    for stream in report.streams:
        if stream.open_tail:
            detail = f"{stream.open_tail} records follow the last signed head"
            number = stream.proved_up_to + 1
            stream.findings.add(Finding(Verdict.INCOMPLETE, "open_tail", detail, None, stream.stream, number))
    if not report.pinned and report.streams:
        detail = "the keys were taken from the evidence itself: pin them with --key"
        report.findings.add(Finding(Verdict.INCOMPLETE, "unpinned", detail))
