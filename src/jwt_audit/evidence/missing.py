"""Whole streams that are not there, and what one copy has and another should have.

A stream is missed where a proved record, a held head or another copy names it. A copy should have
what is signed, within the time asked for, older than delivery may lag, and not stated to be pruned
from that copy.
"""

from __future__ import annotations

from collections.abc import Sequence

from .copies import Copy
from .heads import SignedHead
from .proof import Trust
from .runs import Run
from .span import Span, started
from .stated import Stated
from .streams import Chain
from .verdict import Finding, Findings, Kind, Place, Verdict

LAG = 600_000_000_000
"""Nanoseconds that delivery may lag behind the newest record that is given before what is missing is missed."""

Judged = Sequence[tuple[Copy, Stated]]
Heads = Sequence[tuple[SignedHead, Place]]


def judge_named(copy: Copy, stated: Stated, span: Span) -> None:
    """Streams that proved records name and that are not there at all."""
    for stream in stated.subjects():
        kinds = ("known", "recovered", "undelivered") if copy.spool else ("known", "recovered", "undelivered", "pruned")
        naming = [one for one in stated.proved(stream, *kinds) if one.number > 0]
        if stream in copy.chains or not naming:
            continue  # one that had no record when it was seen may never have had one
        one = max(naming, key=lambda found: found.number)
        began = started(stream)
        if began is not None and span.is_after(began):
            continue
        said = f"the stream {one.by} names it in its record {one.by_number}, and it is not here"
        key = stated.key_of(one)
        removed = stated.removed(stream, one.number, key)
        if removed is not None and stated.excuses(removed, key):
            continue
        if removed is not None:
            detail = f"{said}; it was pruned, as a record says that is not signed by a key that counts for it"
            finding = Finding(Verdict.INCOMPLETE, "unproved_statement", detail, removed.place, stream)
        elif began is not None and span.is_before(began):
            detail = f"{said}; it began before the time asked for, and may have ended before"
            finding = Finding(Verdict.VALID, "open_start", detail, one.place, stream)
        else:
            if any(signed.head.stream_id == stream for signed, _ in copy.removed):
                said += "; the spool's list of removed streams has it, which nobody signed"
            finding = Finding(Verdict.INCOMPLETE, "missing_stream", said, one.place, stream)
        copy.findings.add(finding)


def judge_half_removed(copy: Copy, stated: Stated) -> None:
    """Retention renames a stream before it removes its files, and says so before, under a head."""
    for stream, place in copy.half_removed:
        pruned = stated.removed(stream, 0, None)
        if pruned is None or not stated.excuses(pruned):
            detail = (
                "records stand under the name of a stream that is being removed, and nothing signed says that it is"
            )
            copy.findings.add(Finding(Verdict.INCOMPLETE, "hidden_stream", detail, place, stream))


def judge_held(held: Heads, judged: Judged, findings: Findings, trust: Trust, span: Span) -> None:
    """Held heads of streams that no copy has."""
    for signed, place in held:
        head = signed.head
        if any(head.stream_id in copy.chains for copy, _ in judged):
            continue  # judged with its heads, and where one copy alone has it, by the other
        if span.is_before(head.time) or span.is_after(head.time):
            continue
        key = trust.pins.get(head.key_id)
        if trust.pins and (key is None or not signed.verified_by(key)):
            kind: Kind = "unpinned_key" if key is None else "bad_signature"
            detail = "the head that is held is not signed by a pinned key"
            findings.add(Finding(Verdict.INVALID, kind, detail, place, head.stream_id, head.number))
        elif not any(copy.spool for copy, _ in judged) or not all(
            _pruned(stated, signed) for copy, stated in judged if copy.spool
        ):
            detail = "a head is held of a stream that is not here"
            findings.add(Finding(Verdict.INCOMPLETE, "missing_stream", detail, place, head.stream_id, head.number))
        elif any(not copy.spool for copy, _ in judged):
            detail = "a head is held of a stream that retention removed from the spool, and the export has not"
            findings.add(Finding(Verdict.INCOMPLETE, "missing_stream", detail, place, head.stream_id, head.number))


def _pruned(stated: Stated, signed: SignedHead) -> bool:
    head = signed.head
    statement = stated.pruned(head.stream_id, head.number, head.hash)
    return statement is not None and stated.excuses(statement, head.key_id)


def compare(judged: Judged, span: Span) -> None:
    """Hold the copies against each other."""
    newest = max((copy.newest for copy, _ in judged), default=0)
    for one, stated in judged:
        for other, theirs in judged:
            if other is one:
                continue
            for stream in sorted(one.chains.keys() & other.chains.keys()):
                _compare_chain(one, stated, one.chains[stream], other.chains[stream], span, newest)
            for stream in sorted(other.chains.keys() - one.chains.keys()):
                _miss(one, stated, other, theirs, other.chains[stream], span, newest)


def _compare_chain(copy: Copy, stated: Stated, mine: Chain, theirs: Chain, span: Span, newest: int) -> None:
    if differing := _first_difference(mine, theirs):
        mine.bad("fork", f"record {differing} is another one in the copy in {theirs.source}", None, differing)
        return
    if not mine.runs or mine.stopped or mine.last >= theirs.last:
        return
    refused = stated.refused(mine.stream, mine.last + 1, theirs.last)
    number = next((one for one in range(mine.last + 1, theirs.last + 1) if one not in refused), 0)
    if not number:
        return
    detail = f"the copy in {theirs.source} goes on to record {theirs.last}, this one to {mine.last}"
    if copy.spool:
        if theirs.writer == "elsewhere":  # an export, which is read first: a whole spool is never behind it
            mine.bad("cut_off", detail, None, number)
        else:
            mine.note("behind", detail, None, number)
        return
    run = theirs.run_of(number)
    due = run is not None and number <= run.proved and _due(run.observed(number), run.observed(number), span, newest)
    (mine.missing if due else mine.note)("behind", detail, None, number)


def _due(first: int, last: int, span: Span, newest: int) -> bool:
    """Whether what was observed from ``first`` to ``last`` should have arrived."""
    return not (span.is_before(last) or span.is_after(first)) and first + LAG <= newest


def _miss(copy: Copy, stated: Stated, other: Copy, theirs: Stated, chain: Chain, span: Span, newest: int) -> None:
    """A stream that ``other`` has and ``copy`` has not."""
    signed = [run for run in chain.runs if run.proved >= run.first]
    if not signed:
        return
    first, last = signed[0].observed(signed[0].first), signed[-1].observed(signed[-1].proved)
    if span.is_before(last) or span.is_after(first):
        return
    detail = f"the copy in {other.source} has it, and it is not here"
    verdict = Verdict.INCOMPLETE
    kind: Kind = "missing_stream"
    if copy.spool:
        pruned = stated.pruned(chain.stream, signed[-1].proved, "")
        if pruned is not None and stated.excuses(pruned, chain.key_id):
            return
        if not _belongs(copy, stated, theirs, chain):
            verdict, kind = Verdict.VALID, "elsewhere"
            detail += "; nothing signed says that it belongs here"
    elif not _due(first, last, span, newest):
        verdict, kind = Verdict.VALID, "behind"
        detail += " yet"
    copy.findings.add(Finding(verdict, kind, detail, Place(copy.source), chain.stream))


def _belongs(copy: Copy, stated: Stated, theirs: Stated, chain: Chain) -> bool:
    """Whether a stream is of this spool: one of the two names the other in a proved record."""
    kinds = ("known", "recovered", "undelivered", "pruned")
    named_here = bool(stated.proved(chain.stream, *kinds))
    return named_here or any(one.by == chain.stream for stream in copy.chains for one in theirs.proved(stream, *kinds))


def _first_difference(mine: Chain, theirs: Chain) -> int:
    for run in mine.runs:
        for their in theirs.runs:
            low, high = max(run.first, their.first), min(run.last, their.last)
            if low <= high and run.digests(low, high) != their.digests(low, high):
                return _differing(run, their, low, high)
    return 0


def _differing(run: Run, their: Run, low: int, high: int) -> int:
    return next(number for number in range(low, high + 1) if run.digest(number) != their.digest(number))
