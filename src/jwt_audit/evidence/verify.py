"""The verifier: from copies of chains and signed heads to a verdict. All rules, no I/O.

Each stream of each copy is judged by its own heads, then by what proved records of other streams
state of it, then against the other copies. The rules in words, and the words of the findings:
docs/verification.md.
"""

from __future__ import annotations

from collections.abc import Sequence

from .copies import Copy, Stated
from .heads import SignedHead
from .holes import Holes, judge_missing_streams
from .proof import Trust, judge_tail, prove
from .signing import PublicKey
from .streams import Chain
from .verdict import Finding, Findings, Place, Report, StreamReport, Verdict

Heads = Sequence[tuple[SignedHead, Place]]

STRICT_KINDS = frozenset(
    {"no_end", "unproved_statement", "removed_unsigned", "start_unlinked", "behind", "torn", "unknown_file"}
)
"""Notes that ``strict`` does not let pass."""


def judge(copies: Sequence[Copy], trust: Trust | None = None, *, held: Heads = (), strict: bool = False) -> Report:
    """The verdict over copies that were read to their end and closed.

    ``held`` are heads kept elsewhere, which the copies must reach and agree with. ``strict`` wants
    all of it proved: no open tail, pinned keys, every end stated.
    """
    trust = trust or Trust()
    findings = Findings()
    for signed, place in held:
        stream = signed.head.stream_id
        chains = [copy.chains[stream] for copy in copies if stream in copy.chains]
        for chain in chains:
            chain.heads.append((signed, place))
        if not chains:
            detail = "a head is held of a stream that is not here"
            findings.add(Finding(Verdict.INCOMPLETE, "missing_stream", detail, place, stream, signed.head.number))
    embedded: dict[str, PublicKey] = {}
    for copy in copies:
        for chain in copy.chains.values():
            if chain.binding is not None:
                embedded.setdefault(chain.binding.key.key_id, chain.binding.key)
    reports = [report for copy in copies for report in _judge_copy(copy, trust, embedded)]
    _compare(copies)
    for copy in copies:
        for finding in copy.findings.kept:
            findings.add(finding)
        if not copy.records and not any(finding.kind == "nothing" for finding in copy.findings.kept):
            detail = "there is no audit record to verify"
            findings.add(Finding(Verdict.INCOMPLETE, "nothing", detail, Place(copy.source)))
    if not copies:
        findings.add(Finding(Verdict.INCOMPLETE, "nothing", "there is nothing to verify"))
    keys = sorted({report.key_id for report in reports if report.key_id is not None})
    if not trust.pins and len(keys) > 1:
        detail = f"the streams embed {len(keys)} different keys: pin those that you know with --key"
        findings.add(Finding(Verdict.VALID, "several_keys", detail))
    others = sum(copy.other_records for copy in copies)
    report = Report(reports, findings, strict, pinned=bool(trust.pins), keys=keys, other_records=others)
    if strict:
        _judge_strictly(report)
    return report


def _judge_copy(copy: Copy, trust: Trust, embedded: dict[str, PublicKey]) -> list[StreamReport]:
    good = {stream: prove(chain, trust, embedded) for stream, chain in copy.chains.items()}
    stated = Stated(copy)
    closed = stated.close_tails()
    reports = []
    for stream, chain in sorted(copy.chains.items()):
        recovered_by = closed.get(stream)
        holes = Holes(copy, chain, stated)
        if not chain.stopped:
            holes.judge([(signed.head, place) for signed, place in good[stream]])
        holes.judge_statements()
        shown = copy.shown.get(stream)
        if shown is not None and chain.binding is not None:
            shown.judge(chain)
        report = _report(chain, good[stream])
        report.recovered_by, report.explained = recovered_by, holes.explained
        if chain.runs and not chain.stopped:
            report.open_tail = judge_tail(chain, good[stream], recovered_by)
            if not chain.end and recovered_by is None:
                chain.note("no_end", "no end record: its process still runs, or was killed", None, chain.last)
        reports.append(report)
    judge_missing_streams(copy, stated)
    return reports


def _report(chain: Chain, good: list[tuple[SignedHead, Place]]) -> StreamReport:
    report = StreamReport(chain.stream, chain.source, chain.findings)
    report.records, report.ended = chain.records, bool(chain.end)
    report.heads, report.duplicates = len(good), chain.duplicates
    if chain.runs and chain.records:
        first, last = chain.runs[0], chain.runs[-1]
        report.first, report.last = first.first, chain.last
        report.from_time = first.observed(first.first)
        report.to_time = last.observed(last.last)
        for run in chain.runs:  # up to the first record that nothing signed covers
            report.proved_up_to = max(run.proved, report.proved_up_to)
            if run.proved < run.last:
                break
    if good:
        report.key_id = good[-1][0].head.key_id
    elif chain.binding is not None:
        report.key_id = chain.binding.key.key_id
    return report


def _compare(copies: Sequence[Copy]) -> None:
    """Hold the copies of one stream against each other. Exports are read first, so a spool is never behind one."""
    for one in copies:
        for other in copies:
            for stream in one.chains.keys() & other.chains.keys() if other is not one else ():
                mine, theirs = one.chains[stream], other.chains[stream]
                if differing := _first_difference(mine, theirs):
                    detail = f"record {differing} is another one in the copy in {other.source}"
                    mine.bad("fork", detail, None, differing)
                elif mine.last < theirs.last and not mine.stopped and mine.runs:
                    detail = f"the copy in {other.source} goes on to record {theirs.last}, this one to {mine.last}"
                    if one.spool and not other.spool:
                        mine.bad("cut_off", detail, None, mine.last + 1)
                    else:
                        mine.note("behind", detail, None, mine.last + 1)


def _first_difference(mine: Chain, theirs: Chain) -> int:
    for run in mine.runs:
        for their in theirs.runs:
            low, high = max(run.first, their.first), min(run.last, their.last)
            if low <= high and run.digests(low, high) != their.digests(low, high):
                return next(number for number in range(low, high + 1) if run.digest(number) != their.digest(number))
    return 0


def _judge_strictly(report: Report) -> None:
    for findings in (report.findings, *(stream.findings for stream in report.streams)):
        for note in findings.notes():
            if note.kind in STRICT_KINDS:
                findings.kept.remove(note)
                findings.add(note.judged(Verdict.INCOMPLETE))
    for stream in report.streams:
        if stream.open_tail:
            detail = f"{stream.open_tail} records follow the last signed head"
            number = stream.proved_up_to + 1
            stream.findings.add(Finding(Verdict.INCOMPLETE, "open_tail", detail, None, stream.stream, number))
    if not report.pinned and report.streams:
        detail = "the keys were taken from the evidence itself: pin them with --key"
        report.findings.add(Finding(Verdict.INCOMPLETE, "unpinned", detail))
