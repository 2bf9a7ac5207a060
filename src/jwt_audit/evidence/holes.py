"""Records of a stream that are not there: at its start, in the middle, at its end. Explained, missing, or cut off.

A hole in a spool is explained by a counting ``audit.stream.pruned``, one in an export by a counting
``audit.record.undelivered`` for each of its records. What stands before a hole is not covered by
heads after it, unless the statements name the hashes that link it.
"""

from __future__ import annotations

from .copies import Copy
from .facts import Statement
from .heads import Head
from .runs import Run
from .span import SLACK, Span, started
from .stated import Stated
from .streams import Chain
from .verdict import Place


class Holes:
    """Judges what is missing of one chain. ``explained`` counts the records that a receiver refused."""

    def __init__(self, copy: Copy, chain: Chain, stated: Stated, span: Span) -> None:
        self._spool = copy.spool
        self._chain = chain
        self._stated = stated
        self._span = span
        self.explained = 0

    def judge(self, heads: list[tuple[Head, Place]]) -> None:
        """``heads`` are those that are good."""
        runs = self._chain.runs
        # From the last to the first: what a head proves reaches back across a linked hole.
        for index in reversed(range(len(runs))):
            before = runs[index - 1] if index else None
            if runs[index].first > (before.last + 1 if before else 1):
                self._hole(before, runs[index], heads)
        self._end(heads)
        if self._chain.unprovable:
            number, place = min(self._chain.unprovable.items())
            detail = (
                f"{len(self._chain.unprovable)} records carry no canonical bytes, and none that prove them can be made"
            )
            self._chain.missing("unprovable", detail, place, number)

    def _hole(self, before: Run | None, after: Run, heads: list[tuple[Head, Place]]) -> None:
        chain = self._chain
        first, last = before.last + 1 if before else 1, after.first - 1
        which = described(first, last)
        refused = self._stated.refused(chain.stream, first, last)
        pruned = self._stated.pruned(chain.stream, last, after.previous)
        if pruned is not None:
            self._tell_pruned(which, first, pruned)
            if before is not None and before.proved < before.last:
                self._judge_kept_start(before)
        elif len(refused) == last - first + 1 and refused[last].hash == after.previous:
            self._tell_refused(which, refused)
            if before is not None and before.proved < before.last:
                self._link(before, after, refused)
        elif len(refused) + sum(first <= number <= last for number in chain.unprovable) == last - first + 1:
            pass  # told once for the whole stream
        elif not self._spool and self._outside(before, after):
            pass
        elif before is None and not self._spool:
            self._prefix(which, after, heads)
        else:
            detail = f"{which} missing before record {after.first}, which names the hash of the one before it"
            chain.bad("gap", detail, after.place, first)

    def _outside(self, before: Run | None, after: Run) -> bool:
        """Whether all that is missing was observed outside of the time asked for."""
        return self._span.is_before(after.observed(after.first)) or (
            before is not None and self._span.is_after(before.observed(before.last))
        )

    def _prefix(self, which: str, after: Run, heads: list[tuple[Head, Place]]) -> None:
        """An export that begins in the middle of the stream: as far as asked for, or too late."""
        since, began = self._span.since, started(self._chain.stream)
        if since is not None and began is not None and began < since:
            covered = [head.number for head, _ in heads if head.number < after.first and head.time >= since + SLACK]
            if not covered:
                detail = f"{which} not in this copy: from the time asked for up to its first record it may have more"
                self._chain.note("open_start", detail, after.place, after.first)
                return
        self._chain.missing("missing_prefix", f"{which} not in this copy", after.place, 1)

    def _tell_pruned(self, which: str, first: int, statement: Statement) -> None:
        if self._stated.excuses(statement):
            self._chain.note("pruned", f"{which} pruned by retention", statement.place, first)
        else:
            detail = f"{which} pruned by retention, as a record says that is not signed by a key that counts for it"
            self._chain.missing("unproved_statement", detail, statement.place, first)

    def _judge_kept_start(self, run: Run) -> None:
        """Of a pruned stream the first record is kept, since it binds key and resource."""
        if self._spool and run.first == run.last == 1:
            detail = "the first record was kept when those after it were pruned, so nothing links it to the rest"
            self._chain.note("start_unlinked", detail, run.place, 1)
            run.proved = 1
        else:
            self._tell_unlinked(run)

    def _tell_refused(self, which: str, refused: dict[int, Statement]) -> None:
        self.explained += len(refused)
        by = refused[max(refused)]
        detail = f"{which} refused by the receiver, as the stream {by.by} states in its record {by.by_number}"
        self._chain.note("explained", detail, by.place, min(refused))

    def _link(self, before: Run, after: Run, refused: dict[int, Statement]) -> None:
        """Whether the refusals name the hashes that lead from ``before`` to ``after``."""
        digest = before.digest(before.last)
        for number in sorted(refused):
            if refused[number].previous != digest:
                self._tell_unlinked(before)
                return
            digest = refused[number].hash
        if after.proved >= after.first:
            before.proved = before.last

    def _tell_unlinked(self, run: Run) -> None:
        first = run.proved + 1
        detail = f"{described(first, run.last)} before a hole, and no signed head between covers what stands there"
        self._chain.missing("unlinked", detail, None, first)

    def _end(self, heads: list[tuple[Head, Place]]) -> None:
        chain = self._chain
        if not chain.runs and self._spool and not heads:
            # Its key is gone with its records, but that there were some is said all the same.
            heads = [(signed.head, place) for signed, place in chain.heads]
        beyond = [one for one in heads if one[0].number > chain.last and one[0].number not in chain.unprovable]
        if self._ends_after():
            return
        later = [one for one in beyond if self._span.is_after(one[0].time)]
        beyond = [one for one in beyond if one not in later]
        if later and not beyond:
            self._tell_open_end(later[0][1])
        if not beyond:
            if not chain.runs and not chain.unprovable and not later:
                chain.note("empty", "it holds no record")
            return
        head, place = max(beyond, key=lambda one: one[0].number)
        if not self.explains_end(head.number, head.hash):
            detail = f"a signed head covers records up to {head.number}; the last one here is {chain.last}"
            if chain.runs or self._spool:
                chain.bad("cut_off", detail, place, chain.last + 1)
            elif not self._span.is_before(head.time):
                chain.missing("missing_records", detail, place, 1)

    def _ends_after(self) -> bool:
        """Whether the records here go on beyond the time asked for."""
        chain = self._chain
        return bool(chain.runs) and self._span.is_after(chain.runs[-1].observed(chain.last))

    def _tell_open_end(self, place: Place) -> None:
        detail = "there are records after the last one here, which may be later than the time asked for"
        self._chain.note("open_end", detail, place, self._chain.last + 1)

    def explains_end(self, number: int, digest: str) -> bool:
        """Whether the records after the last one up to ``number`` were refused by the receiver, or all pruned."""
        chain = self._chain
        if not chain.runs:
            pruned = self._stated.pruned(chain.stream, number, digest)
            if pruned is not None and self._stated.excuses(pruned):
                return True
        refused = self._stated.refused(chain.stream, chain.last + 1, number)
        if len(refused) != number - chain.last or refused[number].hash != digest:
            return False
        if not any(note.kind == "explained" and note.number == chain.last + 1 for note in chain.findings.kept):
            self._tell_refused(described(chain.last + 1, number), refused)
        return True

    def judge_statements(self) -> None:
        """Compare the chain with what proved records of other streams say that it was."""
        chain = self._chain
        for one in self._stated.proved(chain.stream, "known", "recovered", "pruned"):
            run = chain.run_of(one.number)
            said = f"the stream {one.by} states in its record {one.by_number}"
            if run is not None and one.hash and run.digest(one.number) != one.hash:
                chain.bad("fork", f"{said} that record {one.number} had another hash", one.place, one.number)
            elif (one.kind == "pruned" and self._spool) or chain.stopped:
                continue
            elif one.number > chain.last and not self.explains_end(one.number, one.hash):
                if self._ends_after():
                    continue
                if self._span.is_after(self._stated.time(one)):
                    self._tell_open_end(one.place)
                    continue
                detail = f"{said} that there were records up to {one.number}; the last one here is {chain.last}"
                (chain.bad if self._spool else chain.missing)("cut_off", detail, one.place, chain.last + 1)
            elif one.kind == "recovered" and one.number < chain.last:
                detail = f"{said} that it broke off at record {one.number}; records were added since"
                chain.bad("grew", detail, one.place, one.number + 1)


def described(first: int, last: int) -> str:
    """``record 3 is``, ``records 3 to 5 are``."""
    return f"record {first} is" if first == last else f"records {first} to {last} are"
