"""What a stream's first record says beside the app's binding: its key, and the streams it found."""

from __future__ import annotations

import os
import secrets
import time
from typing import TYPE_CHECKING

from . import attributes as attr
from .attributes import Value
from .errors import SpoolError
from .spool.spool import Spool
from .spool.stream import Stream
from .stream_ends import last_head

if TYPE_CHECKING:
    from .evidence.signing import Signer

KNOWN_STREAMS = 64
"""How many other streams of the spool a stream's first record names."""


def new_stream_id(now: int) -> str:
    """Sorts by the time of its start and tells it; unique across processes and hosts."""
    moment = time.strftime("%Y%m%dT%H%M%S", time.gmtime(now // 1_000_000_000))
    return f"{moment}.{now // 1_000_000 % 1000:03d}Z-{os.getpid()}-{secrets.token_hex(4)}"


def key_binding(signer: Signer) -> dict[str, Value]:
    """The key that signs the stream's heads."""
    key = signer.public_key
    return {
        attr.STREAM_ALGORITHM: key.algorithm,
        attr.STREAM_KEY_ID: key.key_id,
        attr.STREAM_PUBLIC_KEY: key.text,
    }


def known_streams(spool: Spool) -> list[str]:
    """``stream number hash`` of the spool's latest streams, as they stand now; so one that is removed whole is missed.

    Raises SpoolError where the spool cannot be read.
    """
    return [_last_position(stream) for stream in spool.streams()[-KNOWN_STREAMS:]]


def _last_position(stream: Stream) -> str:
    """``stream number hash`` of a stream's last whole head, or ``stream 0``: a statement of what was seen.

    What cannot be read was not seen: then less is said, which accuses nobody.
    """
    try:
        signed = last_head(stream)
    except SpoolError:
        signed = None
    return f"{stream.id} 0" if signed is None else f"{stream.id} {signed.head.number} {signed.head.hash}"
