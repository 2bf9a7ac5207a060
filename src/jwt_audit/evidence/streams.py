"""One stream in one copy: its chain as it is read, before anything signed is looked at.

A spool's segments are read in the order of their files, and there order is part of what is proved;
the first line that is wrong ends the stream, since nothing after it stands on anything. A backend's
export may have any order and the same record more than once. Of each record only its hash, time
and id are kept (about 150 bytes), never its content.
"""

from __future__ import annotations

import hashlib
from bisect import bisect
from typing import Literal, NamedTuple

from .facts import BadRecordError, Binding, Facts, Statement, binding, read, statements
from .heads import SignedHead
from .runs import Run
from .verdict import Finding, Findings, Kind, Place, Verdict

_ZERO_BLOCK = bytes(512)
"""A run of zeros of a disk sector's size: what a power loss leaves of data that was not synced."""


Writer = Literal["alive", "gone", "unknown", "elsewhere"]


class _Waiting(NamedTuple):
    """A record of an export whose predecessors were not yet seen."""

    facts: Facts
    digest: str
    place: Place


class Chain:
    """One stream in one copy. Fed by `line` (a spool) or by `offer` (an export), then closed."""

    __slots__ = (
        "_hash", "_ids", "_observed", "_segment_next", "_waiting", "binding", "duplicates", "end", "findings", "heads",
        "key_id", "last", "runs", "source", "statements", "stopped", "stream", "unprovable", "writer",
    )  # fmt: skip

    def __init__(self, stream: str, source: str, ids: set[bytes]) -> None:
        """``ids`` are the record ids seen so far in the whole copy."""
        self.stream = stream
        self.source = source
        self.findings = Findings()
        self.runs: list[Run] = []
        self.last = 0
        """The last record's number so far, 0 before the first."""
        self.heads: list[tuple[SignedHead, Place]] = []
        self.statements: list[Statement] = []
        self.binding: Binding | None = None
        self.stopped = False
        """A bad line was met: what follows it was not read."""
        self.end = 0
        """The number of the end record, 0 without one."""
        self.writer: Writer = "elsewhere"
        """Of a spool: whether the stream's writer lives, as far as that can be told."""
        self.key_id: str | None = None
        """The key that counts for this stream: that of its good heads, else the one that it binds."""
        self.duplicates = 0
        self.unprovable: dict[int, Place] = {}
        """Records of an export that carry neither their bytes nor what these can be made of again."""
        self._ids = ids
        self._hash = ""
        self._observed = 0
        self._waiting: dict[int, _Waiting] = {}
        self._segment_next = 0

    # A spool

    def begin_segment(self, *, may_skip: bool) -> None:
        """The next line begins a segment: it may repeat what a failed sync had left in the one before.

        With ``may_skip`` its number may be any: what came before it may have been removed by retention.
        """
        self._segment_next = -1 if may_skip else 0

    def line(self, payload: bytes, digest: bytes, place: Place) -> bool:
        """Take a line that is whole by its form. False when it does not have its hash: see `damaged`."""
        computed = hashlib.sha256(payload).hexdigest()
        if computed.encode("ascii") != digest:
            return False
        try:
            facts = read(payload)
            number = facts.number
            if facts.stream != self.stream:
                raise BadRecordError("splice", "the record is of another stream")
            last = self.last
            expected = self._segment_next
            if expected > 0:
                if number != expected:
                    raise _wrong_number(number, expected)
            elif number <= last:
                if number < self.runs[0].first:
                    raise _wrong_number(number, last + 1)
            elif number != last + 1 and expected == 0:
                raise _wrong_number(number, last + 1)
            self._segment_next = number + 1
            if number <= last:
                self._repeat(number, computed)
            else:
                self._take(facts, computed, place)
        except BadRecordError as error:
            self.bad(error.kind, str(error), place, self.last + 1)
            self.stopped = True
        return True

    def damaged(self, rest: bytes, place: Place) -> bool:
        """Judge what follows the last good line of a segment; True when the next segment may be read.

        A torn or zero-filled tail is what a crash leaves of lines that were never synced: it is set
        aside. Whether something signed covers it is seen later. Anything else was changed.
        """
        if b"\n" not in rest.rstrip(b"\0") or _ZERO_BLOCK in rest:
            detail = f"{len(rest)} bytes of a line that was never whole are set aside (a crash leaves such)"
            self.note("torn", detail, place)
            return True
        self.bad("hash_mismatch", "the line does not have its hash: it was changed", place, self.last + 1)
        self.stopped = True
        return False

    def _repeat(self, number: int, digest: str) -> None:
        run = self.run_of(number)
        if run is None or run.digest(number) != digest:
            raise BadRecordError("fork", f"there are two records with number {number}")
        self.duplicates += 1

    # An export

    def offer(self, facts: Facts, digest: str, place: Place) -> None:
        """Take a record in whatever order; the same bytes again are a retry."""
        number = facts.number
        known = self._digest(number)
        if known is None:
            try:
                self._remember_id(facts.record_id)
                if facts.form is not None:
                    self._note_statements(facts, place)
            except BadRecordError as error:
                self.bad(error.kind, str(error), place, number)
            if number == self.last + 1 or not self.runs:
                self._extend(facts, digest, place)
                while self._waiting and (following := self._waiting.pop(self.last + 1, None)):
                    self._extend(*following)
            else:
                bare = facts._replace(stream=self.stream, record_id="", form=None)
                self._waiting[number] = _Waiting(bare, digest, place)
        elif known == digest:
            self.duplicates += 1
        else:
            self.bad("fork", f"there are two records with number {number}", place, number)

    def close(self) -> None:
        """All was read. Of an export what still waits comes before what came first, or begins new runs after holes."""
        self._sort()
        self.runs = [run for run in self.runs if run.last >= run.first]  # one was begun by a record that was refused

    def _sort(self) -> None:
        if not self._waiting:
            return
        (begun,) = self.runs
        reached = self.last, self._hash, self._observed, self.end
        self.runs, self.last, self.end = [], 0, 0
        waiting = sorted(self._waiting)
        before = bisect(waiting, begun.first)
        for number in waiting[:before]:
            self._extend(*self._waiting.pop(number))
        self._resume(begun, *reached)
        for number in waiting[before:]:
            self._extend(*self._waiting.pop(number))

    def _resume(self, run: Run, last: int, digest: str, observed: int, end: int) -> None:
        """Put the run that came first after the records that came later and stand before it."""
        if self.end:
            self.bad("after_end", _after_end(self.end), run.place, run.first)
        if self.last and run.observed(run.first) < self._observed:
            self.bad("clock", _clock(self.last), run.place, run.first)
        if self.runs and self.last == run.first - 1:
            if run.previous != self._hash:
                self.bad("previous_hash", _broken(self.last), run.place, run.first)
            self.runs[-1].join(run)
        else:
            self.runs.append(run)
        self.last, self._hash, self._observed, self.end = last, digest, observed, end or self.end

    def _digest(self, number: int) -> str | None:
        if number <= self.last and (run := self.run_of(number)) is not None:
            return run.digest(number)
        waiting = self._waiting.get(number)
        return None if waiting is None else waiting.digest

    def _extend(self, facts: Facts, digest: str, place: Place) -> None:
        try:
            self._chain(facts, place)
        except BadRecordError as error:
            self.bad(error.kind, str(error), place, facts.number)
        self._append(digest, facts.observed)

    # Both

    def _take(self, facts: Facts, digest: str, place: Place) -> None:
        self._chain(facts, place)
        self._remember_id(facts.record_id)
        if facts.form is not None:
            self._note_statements(facts, place)
        self._append(digest, facts.observed)

    def _chain(self, facts: Facts, place: Place) -> None:
        """Put a record after the last one; it may begin a new run. Raises BadRecordError."""
        last = self.last
        if facts.number != last + 1 or not self.runs:
            self.runs.append(Run(facts.number, facts.previous, place))
        elif facts.previous != self._hash:
            raise BadRecordError("previous_hash", _broken(last))
        if self.end and facts.number > self.end:
            raise BadRecordError("after_end", _after_end(self.end))
        if facts.end:
            self.end = facts.number
        if last and facts.observed < self._observed:
            raise BadRecordError("clock", _clock(last))

    def _append(self, digest: str, observed: int) -> None:
        self._hash, self._observed = digest, observed
        run = self.runs[-1]
        run.append(digest, observed)
        self.last = run.last

    def _remember_id(self, record_id: str) -> None:
        try:
            key = bytes.fromhex(record_id.replace("-", ""))
        except ValueError:
            key = record_id.encode("utf-8")
        before = len(self._ids)
        self._ids.add(key)
        if len(self._ids) == before:
            raise BadRecordError("duplicate_id", "another record with other content has the same audit.record.id")

    def _note_statements(self, facts: Facts, place: Place) -> None:
        self.statements += statements(facts, place)
        if facts.number == 1:
            self.binding = binding(facts)

    def run_of(self, number: int) -> Run | None:
        """The run that a record is in; None where it is not here."""
        for run in reversed(self.runs):
            if number in run:
                return run
        return None

    @property
    def records(self) -> int:
        """How many records are here and can be proved."""
        return sum(run.last - run.first + 1 for run in self.runs)

    def bad(self, kind: Kind, detail: str, place: Place | None, number: int | None = None) -> None:
        """What proves that it is not as it was written."""
        self.findings.add(Finding(Verdict.INVALID, kind, detail, place, self.stream, number))

    def missing(self, kind: Kind, detail: str, place: Place | None = None, number: int | None = None) -> None:
        """What keeps it from being proved, without being proof of a change."""
        self.findings.add(Finding(Verdict.INCOMPLETE, kind, detail, place, self.stream, number))

    def note(self, kind: Kind, detail: str, place: Place | None = None, number: int | None = None) -> None:
        """What is worth knowing and keeps nothing from being valid."""
        self.findings.add(Finding(Verdict.VALID, kind, detail, place, self.stream, number))


def _after_end(end: int) -> str:
    return f"it follows the stream's end record {end}"


def _clock(last: int) -> str:
    return f"it was observed before record {last}"


def _broken(last: int) -> str:
    return f"its previous_hash is not the hash of record {last}: one of the two was changed"


def _wrong_number(number: int, expected: int) -> BadRecordError:
    if number < expected:
        return BadRecordError("order", f"record {number} stands where record {expected} belongs")
    which = f"record {expected} is" if number == expected + 1 else f"records {expected} to {number - 1} are"
    return BadRecordError("gap", f"{which} missing before record {number}")
