"""A copy of the evidence: one spool, or all exported files together."""

from __future__ import annotations

from .facts import Facts
from .heads import SignedHead
from .resource import Shown
from .streams import Chain
from .verdict import Finding, Findings, Kind, Place, Verdict


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
        self.half_removed: list[tuple[str, Place]] = []
        """Streams whose files stand under the name that retention gives them before it removes them."""
        self.taken = 0
        """Records and heads that an export held, duplicates among them."""
        self.other_records = 0
        self.unread = 0
        """Bytes of the inputs that were read as nothing: what is torn, damaged, or no value."""
        self.uncompared = 0
        """Shown times and members whose form cannot be compared with what was signed."""
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

    @property
    def newest(self) -> int:
        """When its latest record was observed, in nanoseconds; 0 without one."""
        return max((chain.runs[-1].observed(chain.last) for chain in self.chains.values() if chain.runs), default=0)

    def add(self, verdict: Verdict, kind: Kind, detail: str, place: Place | None = None) -> None:
        """A finding about no stream in particular."""
        self.findings.add(Finding(verdict, kind, detail, place))
