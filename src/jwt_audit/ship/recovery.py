"""States where a dead stream broke off: one without an end, whose writer is certainly gone.

What is stated must be as safe as the statement: the stream is synced before (`Stream.secure`). Whoever makes the
statement remembers that it did only once that is signed. A crash in between leads to a second statement, never to none.
"""

from __future__ import annotations

from .. import attributes as attr
from ..attributes import Value
from ..spool.stream import Stream
from ..stream_ends import last_head
from .deadletter import Emit


def state_end(stream: Stream, emit: Emit, *, number: int, digest: str, torn: int = 0) -> bool:
    """State that a stream ends with record ``number`` and its hash, after which ``torn`` bytes were left aside.

    False where it holds neither a record nor a head. Raises JWTAuditError.
    """
    head = last_head(stream)
    if not number and head is None:
        return False
    signed = head.head.number if head is not None else 0
    found: dict[str, Value] = {
        attr.RECOVERED_STREAM: stream.id,
        attr.RECOVERED_NUMBER: number,
        attr.RECOVERED_HASH: digest,
        attr.RECOVERED_HEAD: signed,
    }
    body = f"a stream without an end was recovered up to record {number}, its last head is at {signed}"
    if torn:
        body += f"; {torn} torn bytes were left aside"
    emit(attr.EVENT_STREAM_RECOVERED, found, body)
    return True
