"""What signed heads prove of a chain, under which key, and what stays open.

Invariants: a head counts only when its signature holds under the stream's own key, and, where keys
are pinned, only under one of these. A head proves the record it names and all before it, since each
record names the hash before; across a hole it proves nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from .heads import Head, SignedHead
from .signing import PublicKey
from .span import Span
from .streams import Chain
from .verdict import Kind, Place

TAIL_SECONDS = 5
TAIL_RECORDS = 2048
"""An open tail that a living writer leaves. It signs a second, or 256 records, after the first that no head covers;
what is written while the disk syncs comes on top. The seconds are counted within the tail: a stream may be idle."""


@dataclass(frozen=True, slots=True)
class Trust:
    """Whose signatures count: the pinned keys by id, or any stream's own where none is pinned.

    ``revoked`` maps the id of a key to the time (ns) after which it signs nothing that counts.
    """

    pins: Mapping[str, PublicKey] = field(default_factory=dict)
    revoked: Mapping[str, int] = field(default_factory=dict)


def prove(chain: Chain, trust: Trust, embedded: Mapping[str, PublicKey]) -> list[tuple[SignedHead, Place]]:
    """Check the heads of a chain and set how far each of its runs is proved; the heads that are good.

    ``embedded`` are the keys that any stream embeds, by id: a stream whose first record is not there
    is checked with one of these.
    """
    good: list[tuple[SignedHead, Place]] = []
    seen: set[tuple[bytes, bytes]] = set()
    told: set[str] = set()
    for signed, place in chain.heads:
        if (signed.data, signed.signature) in seen:
            continue  # delivered twice
        seen.add((signed.data, signed.signature))
        wrong = _wrong(signed, chain, trust, embedded)
        if wrong is None:
            good.append((signed, place))
            _apply(signed.head, place, chain)
        elif wrong[0] not in told:  # a stream signed by another key has thousands of such heads
            told.add(wrong[0])
            kind, detail = wrong
            (chain.missing if kind == "no_key" else chain.bad)(kind, detail, place, signed.head.number)
    if good:
        chain.key_id = good[-1][0].head.key_id
    elif chain.binding is not None:
        chain.key_id = chain.binding.key.key_id
    return good


def _wrong(
    signed: SignedHead, chain: Chain, trust: Trust, embedded: Mapping[str, PublicKey]
) -> tuple[Kind, str] | None:
    """Why a head does not count: kind and detail; None where it does."""
    head = signed.head
    if head.stream_id != chain.stream:
        return "splice", "the head is of another stream"
    if not 0 < head.number < 2**63:
        return "bad_head", "the head names no record"
    if chain.binding is not None and head.key_id != chain.binding.key.key_id:
        return "other_key", "the head names another key than the one that the stream's first record binds"
    if trust.pins and head.key_id not in trust.pins:
        return "unpinned_key", f"the head names the key {head.key_id[:16]}, which is none of the pinned ones"
    key = trust.pins.get(head.key_id) or (chain.binding.key if chain.binding else embedded.get(head.key_id))
    if key is None:
        return "no_key", "the key of its heads is not in this copy: pin it with --key"
    if head.algorithm != key.algorithm:
        return "downgrade", "the head names another algorithm than its key's"
    if not signed.verified_by(key):
        return "bad_signature", "the head's signature is not its key's"
    if head.key_id in trust.revoked and head.time > trust.revoked[head.key_id]:
        return "revoked_key", "the head was signed after its key was revoked"
    return None


def _apply(head: Head, place: Place, chain: Chain) -> None:
    run = chain.run_of(head.number)
    if run is None:
        return  # beyond the end or in a hole: judged with the holes
    if run.digest(head.number) != head.hash:
        chain.bad("head_mismatch", f"record {head.number} is not the one that this head signed", place, head.number)
    else:
        run.proved = max(run.proved, head.number)


def judge_tail(chain: Chain, good: bool, recovered_by: str | None, span: Span) -> int:
    """The length of the open tail; says what of the stream's end is open. ``good``: it has a good head.

    An end record is under a head, or the stream is not whole. Without one it is about what is signed:
    of a living writer, and of an export, the rest may still come; of a dead one something signed has to say
    that this was all, or nobody knows.
    """
    run = chain.runs[-1]
    tail = run.last - run.proved
    seconds = (run.observed(run.last) - run.observed(max(run.first, run.proved + 1))) // 1_000_000_000 if tail else 0
    short = tail <= TAIL_RECORDS and seconds <= TAIL_SECONDS
    if run.proved >= run.first and span.is_after(run.observed(run.proved)):
        return tail  # the end is later than what is asked for
    if chain.end:
        if tail:
            detail = "it has its end record, and no signed head covers that"
            chain.missing("unsigned_end" if good else "unsigned", detail, None, run.proved + 1)
    elif recovered_by is not None and not tail:
        pass
    elif not good and recovered_by is None and (chain.writer == "elsewhere" or not short):
        chain.missing("unsigned", "no signed head proves any record of it", run.place)
    elif not short:
        detail = f"{tail} records over {seconds} s follow the last signed head: heads are missing"
        chain.missing("heads_missing", detail, None, run.proved + 1)
    if not chain.end and recovered_by is None:
        _tell_open(chain, tail)
    return tail


def _tell_open(chain: Chain, tail: int) -> None:
    open_tail = f"; its last {tail} records are not signed" if tail else ""
    if chain.writer == "alive":
        chain.note("no_end", f"no end record: its process still runs{open_tail}", None, chain.last)
    elif chain.writer == "elsewhere":
        chain.note("no_end", f"no end record: it may go on{open_tail}", None, chain.last)
    else:
        known = "nothing writes it any more" if chain.writer == "gone" else "whether it is still written cannot be told"
        detail = f"no end record, {known}, and no signed statement says that this is its end{open_tail}"
        chain.missing("no_end", detail, None, chain.last)
