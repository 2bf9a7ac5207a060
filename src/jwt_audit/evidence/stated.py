"""What the streams of one copy state of each other, and what of that counts.

Invariants: a statement counts only when the record that makes it is under a good signed head; as an
excuse besides only where its key counts for the stream that it speaks of: a pinned one, or, where
none is pinned, that stream's own. It speaks of the copy that it stands in, and of no other.
"""

from __future__ import annotations

from collections.abc import Iterator

from .copies import Copy
from .facts import Statement


class Stated:
    """The statements of one copy. To be asked once the heads of all its chains are judged."""

    def __init__(self, copy: Copy, *, pinned: bool) -> None:
        """``pinned``: only heads of pinned keys are good."""
        self._chains = copy.chains
        self._spool = copy.spool
        self.pinned = pinned
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
        """Those that something signed covers: enough to accuse."""
        return [one for one in self.of(stream, *kinds) if self.is_proved(one)]

    def is_proved(self, statement: Statement) -> bool:
        """Whether something signed covers the record that states it."""
        run = self._chains[statement.by].run_of(statement.by_number)
        return run is not None and statement.by_number <= run.proved

    def time(self, statement: Statement) -> int:
        """When it was stated, in nanoseconds; 0 where its record is not here."""
        run = self._chains[statement.by].run_of(statement.by_number)
        return 0 if run is None else run.observed(statement.by_number)

    def excuses(self, statement: Statement, key: str | None = None) -> bool:
        """Whether it may explain why something is missing here: proved, by a key that counts for its subject.

        ``key``: the subject's, where its chain is not in this copy. Retention removes from a spool alone,
        and what a receiver refused is in the spool all the same.
        """
        wanted = "pruned" if self._spool else "undelivered"
        return statement.kind in (wanted, "recovered") and self.is_proved(statement) and self._counts(statement, key)

    def _counts(self, statement: Statement, key: str | None) -> bool:
        subject = self._chains.get(statement.stream)
        key = key if subject is None else subject.key_id
        return self.pinned or key is None or key == self.key_of(statement)

    def key_of(self, statement: Statement) -> str | None:
        """The key of the stream that states it."""
        return self._chains[statement.by].key_id

    def pruned(self, stream: str, number: int, digest: str) -> Statement | None:
        """The statement that retention removed a stream's records up to ``number`` here; one that counts first.

        None in an export: nothing is removed from a spool before it was delivered.
        """
        if not self._spool:
            return None
        found = [
            one
            for one in self.of(stream, "pruned")
            if one.number > number or (one.number == number and digest in ("", one.hash))
        ]
        return max(found, key=self.excuses, default=None)

    def removed(self, stream: str, number: int, key: str | None) -> Statement | None:
        """The statement that retention removed a whole stream of ``number`` records here; one that counts first.

        ``key`` is that stream's, None where it is not known.
        """
        found = self.of(stream, "pruned") if self._spool else []
        return max((one for one in found if one.number >= number), key=lambda one: self.excuses(one, key), default=None)

    def refused(self, stream: str, first: int, last: int) -> dict[int, Statement]:
        """The records ``first`` to ``last`` that a receiver refused for good, by number."""
        return {
            one.number: one
            for one in self.of(stream, "undelivered")
            if first <= one.number <= last and self.excuses(one)
        }

    def close_tails(self) -> dict[str, str]:
        """Let statements of where a dead stream broke off prove its tail; which stream closed which.

        Repeated until none proves more: a stream that closed another's tail may have died itself.
        """
        closed: dict[str, str] = {}
        waiting = [one for subject in self._by_subject for one in self.of(subject, "recovered")]
        ready = waiting
        while ready:
            ready = [one for one in waiting if self.excuses(one)]
            waiting = [one for one in waiting if one not in ready]
            for one in ready:
                chain = self._chains.get(one.stream)
                run = chain.run_of(one.number) if chain is not None else None
                if run is not None and run.digest(one.number) == one.hash:
                    run.proved = max(run.proved, one.number)
                    closed[one.stream] = one.by
        return closed
