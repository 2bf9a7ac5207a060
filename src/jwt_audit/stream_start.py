"""What a stream's first record says beside the app's binding: its key, and the streams it found."""

from __future__ import annotations

import os
import secrets
import time

from . import attributes as attr
from .attributes import Value
from .errors import RecordError
from .evidence import heads
from .evidence.signing import Signer
from .spool.spool import Spool

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
    return [_last_position(stream.heads, stream.id) for stream in spool.streams()[-KNOWN_STREAMS:]]


def _last_position(path: os.PathLike[str], stream_id: str) -> str:
    """``stream number hash`` of a stream's last head as it stands in the file, or ``stream 0``."""
    try:
        with open(path, "rb") as file:  # noqa: PTH123 - seeks from the end
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - 4096))
            for line in reversed(file.read().splitlines(keepends=True)):
                if line.endswith(b"\n"):
                    head = heads.parse_line(line).head
                    return f"{stream_id} {head.number} {head.hash}"
    except (OSError, RecordError):
        pass  # a statement of what was seen: nothing usable was
    return f"{stream_id} 0"
