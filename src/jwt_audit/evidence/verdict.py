"""What a verification says: findings, each with its place, and the verdict they add up to.

No finding ever shows a value of a record: places, names, numbers and hashes are enough to look it up.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from enum import Enum
from typing import Any, Literal, NamedTuple


class Verdict(str, Enum):
    """The three answers, and the exit statuses that say them."""

    VALID = "valid"
    INVALID = "invalid"
    INCOMPLETE = "incomplete"

    @property
    def exit_code(self) -> int:
        """What a command that says so exits with."""
        return _EXIT_CODES[self]


_EXIT_CODES = {Verdict.VALID: 0, Verdict.INVALID: 1, Verdict.INCOMPLETE: 2}
_SEVERITY = (Verdict.VALID, Verdict.INCOMPLETE, Verdict.INVALID)


def worst(verdicts: Iterable[Verdict]) -> Verdict:
    """Invalid before incomplete before valid; valid where there is none."""
    return max(verdicts, key=_SEVERITY.index, default=Verdict.VALID)


Kind = Literal[
    # invalid
    "malformed", "not_canonical", "binding", "hash_mismatch", "previous_hash", "fork", "order", "gap", "splice",
    "after_end", "clock", "duplicate_id", "cut_off", "grew", "head_mismatch", "bad_head", "bad_signature", "other_key",
    "unpinned_key", "downgrade", "revoked_key", "contradiction", "resource", "ambiguous",
    # incomplete
    "unsigned", "no_key", "unlinked", "heads_missing", "missing_prefix", "missing_records", "missing_stream",
    "unprovable", "unreadable", "changed_meanwhile", "nothing", "open_tail", "unpinned", "unsigned_end",
    "unproved_statement", "unknown_member", "hidden_stream",
    # notes, or incomplete where docs/verification.md says when
    "no_end", "behind",
    # notes
    "torn", "empty", "explained", "pruned", "start_unlinked", "unknown_file", "segment_gap", "several_keys",
    "elsewhere", "open_start", "open_end", "uncompared",
]  # fmt: skip
"""The closed list of what can be found; docs/verification.md says of each what it means and what to do."""


class Place(NamedTuple):
    """Where something stands: a file, its line (from 1) and byte offset as far as they are known."""

    source: str
    line: int = 0
    offset: int = -1

    @property
    def where(self) -> str:
        """Line and offset, for people."""
        parts = [f"line {self.line}"] if self.line else []
        if self.offset >= 0:
            parts.append(f"byte {self.offset}")
        return ", ".join(parts)


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing found. ``verdict`` is what it alone would make of the whole; VALID is a mere note.

    ``detail`` is a sentence for people.
    """

    verdict: Verdict
    kind: Kind
    detail: str
    place: Place | None = None
    stream: str | None = None
    number: int | None = None

    def judged(self, verdict: Verdict) -> Finding:
        """The same, as making this of the whole."""
        return replace(self, verdict=verdict)

    def form(self) -> dict[str, Any]:
        """As `Report.form` has it."""
        place = self.place or Place("")
        return {
            "source": place.source or None,
            "where": place.where or None,
            "stream": self.stream,
            "number": self.number,
            "kind": self.kind,
            "detail": self.detail,
        }


KEPT_OF_A_KIND = 25
"""Findings of one kind kept of one stream; more of them only count, and push out no other kind."""


class Findings:
    """The findings about one stream, or about none in particular."""

    __slots__ = ("counts", "kept")

    def __init__(self) -> None:
        self.kept: list[Finding] = []
        self.counts: Counter[tuple[Verdict, Kind]] = Counter()
        """All that were found, those that are not kept among them, by verdict and kind."""

    def add(self, finding: Finding) -> None:
        """Count a finding, and keep it unless many of its kind are kept already."""
        key = finding.verdict, finding.kind
        self.counts[key] += 1
        if self.counts[key] <= KEPT_OF_A_KIND:
            self.kept.append(finding)

    def join(self, others: Findings) -> None:
        """Add all of ``others``, those that only count among them."""
        for one in others.kept:
            self.add(one)
            others.counts[one.verdict, one.kind] -= 1
        self.counts.update(others.counts)
        others.kept = []
        others.counts.clear()

    def tighten(self, kinds: Iterable[Kind]) -> None:
        """Make problems of the notes of these kinds."""
        for kind in kinds:
            count = self.counts.pop((Verdict.VALID, kind), 0)
            if count:
                self.counts[Verdict.INCOMPLETE, kind] += count
        self.kept = [
            one.judged(Verdict.INCOMPLETE) if one.verdict is Verdict.VALID and one.kind in kinds else one
            for one in self.kept
        ]

    @property
    def more(self) -> int:
        """How many were found beyond those that are kept."""
        return self.counts.total() - len(self.kept)

    def form(self) -> dict[str, int]:
        """How many of each kind were found."""
        totals: Counter[str] = Counter()
        for (_, kind), count in self.counts.items():
            totals[kind] += count
        return dict(sorted(totals.items()))

    @property
    def verdict(self) -> Verdict:
        """What they add up to."""
        return worst(verdict for (verdict, _), count in self.counts.items() if count)

    def problems(self) -> list[Finding]:
        """What keeps it from being valid, the gravest first, then by record number."""
        found = [finding for finding in self.kept if finding.verdict is not Verdict.VALID]
        return sorted(found, key=lambda one: (-_SEVERITY.index(one.verdict), one.number or 0))

    def notes(self) -> list[Finding]:
        """What does not keep it from being valid."""
        return [finding for finding in self.kept if finding.verdict is Verdict.VALID]


@dataclass(slots=True)
class StreamReport:
    """What was found of one stream in one copy. Times are nanoseconds since the epoch, 0 when unknown.

    ``open_tail`` counts the records after the last that is proved; ``ended`` is whether the stream
    has its end record, ``recovered_by`` the stream that states where this one broke off.
    """

    stream: str
    source: str
    findings: Findings
    records: int = 0
    first: int = 0
    last: int = 0
    from_time: int = 0
    to_time: int = 0
    proved_up_to: int = 0
    open_tail: int = 0
    ended: bool = False
    recovered_by: str | None = None
    key_id: str | None = None
    heads: int = 0
    duplicates: int = 0
    explained: int = 0
    unprovable: int = 0
    proved: int = 0
    """Records that a good head covers; ``proved_until``: when the last of them was observed."""
    proved_until: int = 0
    writer: str = "elsewhere"
    """Of a spool, whether its writer lives: ``alive``, ``gone``, ``unknown``; ``elsewhere`` in an export."""

    @property
    def verdict(self) -> Verdict:
        """The stream's own."""
        return self.findings.verdict

    def form(self) -> dict[str, Any]:
        """As `Report.form` has it."""
        return {
            "id": self.stream,
            "source": self.source,
            "verdict": self.verdict.value,
            "records": self.records,
            "first": self.first,
            "last": self.last,
            "from": iso(self.from_time),
            "to": iso(self.to_time),
            "proved": self.proved,
            "proved_up_to": self.proved_up_to,
            "proved_until": iso(self.proved_until),
            "open_tail": self.open_tail,
            "ended": self.ended,
            "writer": self.writer,
            "recovered_by": self.recovered_by,
            "key_id": self.key_id,
            "heads": self.heads,
            "duplicates": self.duplicates,
            "explained": self.explained,
            "unprovable": self.unprovable,
            "problems": [finding.form() for finding in self.findings.problems()],
            "warnings": [finding.form() for finding in self.findings.notes()],
            "found": self.findings.form(),
            "more_findings": self.findings.more,
        }


@dataclass(slots=True)
class Report:
    """The whole answer."""

    streams: list[StreamReport]
    findings: Findings
    strict: bool
    pinned: bool
    keys: list[str] = field(default_factory=list)
    """Ids of the keys that the heads were verified with."""
    other_records: int = 0
    """Log records in the inputs that are no audit records."""
    unread_bytes: int = 0
    """Bytes of the inputs that are torn, damaged, or no value."""
    uncompared: int = 0
    """Shown times and members in a form that cannot be compared."""
    since: int | None = None
    until: int | None = None
    """The time that was asked about, in nanoseconds."""

    @property
    def verdict(self) -> Verdict:
        """That of the whole."""
        return worst([self.findings.verdict, *(stream.verdict for stream in self.streams)])

    def problems(self) -> list[Finding]:
        """All problems, the gravest first; within one verdict stream by stream, and by record number."""
        found = [*self.findings.problems(), *(one for stream in self.streams for one in stream.findings.problems())]
        return sorted(found, key=lambda one: -_SEVERITY.index(one.verdict))

    def notes(self) -> list[Finding]:
        """All that is worth knowing and no problem."""
        return [*self.findings.notes(), *(one for stream in self.streams for one in stream.findings.notes())]

    def counts(self, *, problems: bool) -> Counter[str]:
        """How many problems, or notes, of each kind were found, those that are not kept among them."""
        totals: Counter[str] = Counter()
        for findings in (self.findings, *(stream.findings for stream in self.streams)):
            for (verdict, kind), count in findings.counts.items():
                if (verdict is not Verdict.VALID) is problems:
                    totals[kind] += count
        return +totals

    def form(self) -> dict[str, Any]:
        """The report as it is printed with ``--json``; docs/verification.md tells the members."""
        return {
            "verdict": self.verdict.value,
            "strict": self.strict,
            "range": {"since": iso(self.since or 0), "until": iso(self.until or 0)},
            "trust": {"mode": "pinned" if self.pinned else "first_use", "keys": self.keys},
            "totals": {
                "streams": len(self.streams),
                "records": sum(stream.records for stream in self.streams),
                "proved": sum(stream.proved for stream in self.streams),
                "heads": sum(stream.heads for stream in self.streams),
                "open_tail": sum(stream.open_tail for stream in self.streams),
                "duplicates": sum(stream.duplicates for stream in self.streams),
                "explained": sum(stream.explained for stream in self.streams),
                "unprovable": sum(stream.unprovable for stream in self.streams),
                "uncompared": self.uncompared,
                "other_records": self.other_records,
                "unread_bytes": self.unread_bytes,
            },
            "streams": [stream.form() for stream in self.streams],
            "problems": [finding.form() for finding in self.findings.problems()],
            "warnings": [finding.form() for finding in self.findings.notes()],
            "found": self.findings.form(),
            "more_findings": self.findings.more,
        }


def iso(nanoseconds: int) -> str | None:
    """UTC in ISO 8601 to the millisecond; None for 0, the number itself where the calendar ends."""
    if not nanoseconds:
        return None
    try:
        moment = datetime.fromtimestamp(nanoseconds // 1_000_000_000, timezone.utc)
    except (OverflowError, OSError, ValueError):
        return str(nanoseconds)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{nanoseconds // 1_000_000 % 1000:03d}Z"
