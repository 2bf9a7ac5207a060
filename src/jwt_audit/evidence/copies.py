"""A copy of the evidence, and what its streams state of each other.

A copy is one spool, or all exported files together. A statement stands in a record of some stream;
it accuses only when that record is proved, it may explain before, and then that is said.
"""

from __future__ import annotations

from collections.abc import Iterator

from .facts import Facts, Statement
from .heads import SignedHead
from .streams import Chain
from .verdict import Finding, Findings, Kind, Place, Verdict
from .visible import Shown


class Copy:
    """What one spool, or all exported files together, hold. Filled by the readers, then closed."""

    def __init__(self, source: str, *, spool: bool) -> None:
        self.source = source
        self.spool = spool
        self.chains: dict[str, Chain] = {}
        self.findings = Findings()
        self.shown: dict[str, Shown] = {}
        """What an export shows of each stream's resource."""
        self.removed: list[tuple[SignedHead, Place]] = []
        """Last heads of streams that retention removed whole, as a file says that nobody signed."""
        self.taken = 0
        """Records and heads that an export held, duplicates among them."""
        self.other_records = 0
        self._ids: set[bytes] = set()

    def chain(self, stream: str) -> Chain:
        """The chain of a stream; a new one where it was not met yet."""
        chain = self.chains.get(stream)
        if chain is None:
            chain = self.chains[stream] = Chain(stream, self.source, self._ids)
        return chain

    def resource(self, stream: str) -> Shown:
        """What the export shows of a stream's resource."""
        shown = self.shown.get(stream)
        if shown is None:
            shown = self.shown[stream] = Shown()
        return shown

    def offer(self, facts: Facts, digest: str, place: Place) -> Chain:
        """Take an exported record; the chain it went into."""
        chain = self.chain(facts.stream)
        chain.offer(facts, digest, place)
        return chain

    def close(self) -> None:
        """All was read."""
        for chain in self.chains.values():
            chain.close()

    @property
    def records(self) -> int:
        """Records it holds, those that cannot be proved among them."""
        return sum(chain.records + len(chain.unprovable) for chain in self.chains.values())

    def add(self, verdict: Verdict, kind: Kind, detail: str, place: Place | None = None) -> None:
        """A finding about no stream in particular."""
        self.findings.add(Finding(verdict, kind, detail, place))


class Stated:
    """What the streams of one copy state of each other."""

    def __init__(self, copy: Copy) -> None:
        self._chains = copy.chains
        self._by_subject: dict[str, list[Statement]] = {}
        for chain in copy.chains.values():
            for statement in chain.statements:
                self._by_subject.setdefault(statement.stream, []).append(statement)

    def subjects(self) -> Iterator[str]:
        """The streams of which something is stated."""
        return iter(self._by_subject)

    def of(self, stream: str, *kinds: str) -> list[Statement]:
        """All statements of these kinds about a stream, proved or not."""
        return [one for one in self._by_subject.get(stream, ()) if one.kind in kinds]

    def proved(self, stream: str, *kinds: str) -> list[Statement]:
        """Those that something signed covers."""
        return [one for one in self.of(stream, *kinds) if self.is_proved(one)]

    def is_proved(self, statement: Statement) -> bool:
        """Whether something signed covers the record that states it."""
        run = self._chains[statement.by].run_of(statement.by_number)
        return run is not None and statement.by_number <= run.proved

    def refused(self, stream: str, first: int, last: int) -> dict[int, Statement]:
        """The records ``first`` to ``last`` that a receiver refused for good, by number."""
        return {one.number: one for one in self.proved(stream, "undelivered") if first <= one.number <= last}

    def close_tails(self) -> dict[str, str]:
        """Let statements of where a dead stream broke off prove its tail; which stream closed which.

        Repeated until none proves more: a stream that closed another's tail may have died itself.
        """
        closed: dict[str, str] = {}
        waiting = [one for subject in self._by_subject for one in self.of(subject, "recovered")]
        ready = waiting
        while ready:
            ready = [one for one in waiting if self.is_proved(one)]
            waiting = [one for one in waiting if one not in ready]
            for one in ready:
                chain = self._chains.get(one.stream)
                run = chain.run_of(one.number) if chain is not None else None
                if run is not None and run.digest(one.number) == one.hash:
                    run.proved = max(run.proved, one.number)
                    closed[one.stream] = one.by
        return closed
