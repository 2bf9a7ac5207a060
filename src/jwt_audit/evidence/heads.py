"""Signed heads: what proves a stream up to a record.

A head says (stream, number, hash, time) and is signed over its canonical bytes by the process that
wrote the records. Since each record names the hash before it, one signature proves all up to it. In
the file ``heads`` a head is one line: canonical bytes, tab, base64 of the signature.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import orjson

from ..errors import RecordError
from .canonical import load
from .chain import Position

if TYPE_CHECKING:
    from .signing import PublicKey, Signer

TYPE = "jwt-audit/head/v1"
"""Inside the signed bytes, so that a head's signature can never serve for anything else."""
_NAMESPACE = bytes.fromhex("6f0f0d4e5ac15f0b9d0e6a1f2a3c4b5d")


@dataclass(frozen=True, slots=True)
class Head:
    """A statement: stream ``stream_id`` had at ``time`` (ns since the epoch) this number and hash."""

    stream_id: str
    number: int
    hash: str
    time: int
    key_id: str
    algorithm: str

    def canonical(self) -> bytes:
        """The bytes that are signed."""
        return orjson.dumps(
            {
                "algorithm": self.algorithm,
                "hash": self.hash,
                "key_id": self.key_id,
                "number": str(self.number),
                "stream_id": self.stream_id,
                "time": str(self.time),
                "type": TYPE,
            },
            option=orjson.OPT_SORT_KEYS,
        )


@dataclass(frozen=True)
class SignedHead:
    """A head, the bytes that were signed and the signature over them."""

    head: Head
    data: bytes
    signature: bytes

    @cached_property
    def record_id(self) -> str:
        """``audit.record.id`` of the head as it is exported: a UUID of version 5 (RFC 9562) over its line.

        So a head that is sent again has the same one, and no record of a stream has one of that version.
        """
        name = _NAMESPACE + self.line
        digest = bytearray(hashlib.sha1(name, usedforsecurity=False).digest()[:16])
        digest[6] = digest[6] & 0x0F | 0x50
        digest[8] = digest[8] & 0x3F | 0x80
        text = digest.hex()
        return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"

    @property
    def body(self) -> str:
        """The readable line of the head as it is exported."""
        return f"head of stream {self.head.stream_id} at record {self.head.number}"

    @property
    def signature_text(self) -> str:
        """The signature in base64."""
        return base64.b64encode(self.signature).decode("ascii")

    @property
    def line(self) -> bytes:
        """The line of the file ``heads``, with its newline."""
        return self.data + b"\t" + base64.b64encode(self.signature) + b"\n"

    def verified_by(self, key: PublicKey) -> bool:
        """Whether ``key`` is the key this head names, by its own algorithm, and signed these bytes."""
        return (
            self.head.key_id == key.key_id
            and self.head.algorithm == key.algorithm
            and key.verifies(self.signature, self.data)
        )


def sign(position: Position, signer: Signer, *, now: int) -> SignedHead:
    """The signed head of a stream at ``position``; ``now`` is nanoseconds since the epoch."""
    key = signer.public_key
    head = Head(position.stream_id, position.number, position.hash, now, key.key_id, key.algorithm)
    data = head.canonical()
    return SignedHead(head, data, signer.sign(data))


def parse(data: bytes, signature: bytes) -> SignedHead:
    """The signed head whose canonical bytes and base64 signature these are. Raises RecordError.

    The signature is not checked here: that needs a key.
    """
    form = load(data)
    try:
        head = Head(
            stream_id=form["stream_id"],
            number=int(form["number"]),
            hash=form["hash"],
            time=int(form["time"]),
            key_id=form["key_id"],
            algorithm=form["algorithm"],
        )
        raw = base64.b64decode(signature, validate=True)
    except (KeyError, TypeError, ValueError, binascii.Error) as error:
        raise RecordError("the bytes are no signed head") from error
    if not raw or head.canonical() != data or base64.b64encode(raw) != signature:
        raise RecordError("the bytes are no signed head")
    return SignedHead(head, data, raw)


def parse_line(line: bytes) -> SignedHead:
    """The head of one line of the file ``heads``, with or without its newline. Raises RecordError."""
    data, tab, signature = line.rstrip(b"\n").partition(b"\t")
    if not tab:
        raise RecordError("a line is no signed head")
    return parse(data, signature)
