"""Reads one stream from where it was delivered to, in batches that are ready to send.

Invariants: records in the order of the file, then the heads that cover them, never a head before its
records; nothing is skipped in silence: a whole line that is no record is handed over as broken, a
torn tail is counted. A batch's cursor is where the stream stands once all of the batch is delivered.
"""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import BinaryIO

import orjson

from .. import attributes as attr
from ..errors import RecordError, SpoolError
from ..evidence import heads
from ..evidence.chain import record_hash
from ..spool.segment import Line, lines, segment_index, segment_name
from ..spool.spool import Cursor, Stream
from ..stream_ends import first_line
from .batch import Batch, Broken, Item
from .encode import Encoder, head_form, record_form, stream_resource


class StreamReader:
    """Where one stream stands, and its next batch. Only `moved` changes what is read next."""

    def __init__(self, stream: Stream, encoder: Encoder, *, carry: bool) -> None:
        """``carry`` says whether records carry their canonical bytes; heads always do."""
        self.stream = stream
        self.cursor = stream.cursor()
        self._encoder = encoder
        self._carry = carry
        self._resource: bytes | None = None
        self._earlier: tuple[str, frozenset[str]] = ("", frozenset())

    @property
    def resource(self) -> bytes:
        """The encoded resource that the stream's first record names; an empty one where it cannot be read."""
        if self._resource is None:
            try:
                form = orjson.loads(first_line(self.stream).payload)
                self._resource = self._encoder.resource(stream_resource(form))
            except (RecordError, SpoolError, ValueError):
                self._resource = self._encoder.resource({})
        return self._resource

    def quiet(self) -> bool:
        """Whether nothing was written since the cursor's place. Three file status calls, no more."""
        cursor, path = self.cursor, self.stream.path
        return (
            bool(cursor.segment)
            and _size(path / cursor.segment) == cursor.offset
            and _size(self.stream.heads) == cursor.heads
            and not (path / segment_name(segment_index(cursor.segment) + 1)).exists()
        )

    def moved(self, cursor: Cursor) -> None:
        """Set the place from which is read next, in memory and then on disk. Raises OSError where the disk fails."""
        self.cursor = cursor
        try:
            self.stream.move_cursor(cursor)
        except SpoolError as error:
            raise OSError(str(error)) from error

    def batch(self, *, alive: bool) -> Batch:
        """What follows the cursor. ``alive`` is whether the writer lived before this call. Raises SpoolError."""
        batch = Batch(self.cursor)
        segments = [path for path in self.stream.segments() if path.name >= batch.segment]
        exhausted = True
        for path in segments:
            if path.name != batch.segment:
                batch.segment, batch.offset = path.name, 0
            exhausted = self._read_segment(path, batch, growing=alive and path is segments[-1])
            if not exhausted:
                break
        finished = exhausted and not alive
        batch.exhausted = self._read_heads(batch, finished=finished) and exhausted
        batch.finished = batch.exhausted and finished
        return batch

    def _read_segment(self, path: Path, batch: Batch, *, growing: bool) -> bool:
        """Read on in one segment; True when it has no more, as far as can be known while it is growing."""
        try:
            with path.open("rb", buffering=256 * 1024) as file:
                while True:
                    for line in lines(file, batch.offset):
                        if batch.full or not self._take(path, line, batch):
                            return False
                    rest, raw = _rest(file, batch.offset)
                    if not raw.endswith(b"\n"):
                        break
                    if next(lines(io.BytesIO(raw)), None) is not None:
                        continue  # its writer has completed the line between the two readings
                    if batch.full or not _same_again(path, batch.offset, raw):
                        return False
                    batch.pass_broken(raw, "", "a line of the spool has lost its form")
        except OSError as error:
            raise SpoolError(f"cannot read {path} ({error.strerror})") from error
        if rest and not growing:  # torn by a crash or a full disk: no record of it was acknowledged
            batch.offset += rest
            batch.torn += rest
        return True

    def _take(self, path: Path, line: Line, batch: Batch) -> bool:
        """Take one whole line; False when it has to wait for the next batch."""
        try:
            if record_hash(line.payload) != line.digest:
                raise RecordError("a line of the spool does not have its hash")
            form = record_form(line.payload, line.digest, carry=self._carry)
            event = form["event_name"]
            number = int(form["attributes"][attr.NUMBER]["intValue"])
            if number <= batch.number and line.digest in self._digests_before(path):
                batch.offset = line.end  # it was sent from the segment before
                return True
            record_id = form["attributes"][attr.RECORD_ID]["stringValue"]
            fragment = self._encoder.record(form)
            if not batch.add(Item(fragment, number, line.digest, event, record_id, line.payload)):
                return False
        except (RecordError, KeyError, TypeError, ValueError) as error:
            if not _same_again(path, line.start, line.raw):
                return False  # it was read while it was being cut back
            reason = str(error) if isinstance(error, RecordError) else "a line of the spool is no record"
            batch.pass_broken(line.raw, line.digest, reason)
            return True
        batch.offset, batch.number, batch.hash = line.end, number, line.digest
        batch.ended = event == attr.EVENT_STREAM_END
        return True

    def _digests_before(self, path: Path) -> frozenset[str]:
        """The hashes in the two segments before ``path``: what a segment that follows a failed sync may repeat."""
        if self._earlier[0] != path.name:
            known: set[str] = set()
            for earlier in [other for other in self.stream.segments() if other.name < path.name][-2:]:
                with earlier.open("rb") as file:
                    known.update(line.digest for line in lines(file))
            self._earlier = (path.name, frozenset(known))
        return self._earlier[1]

    def _read_heads(self, batch: Batch, *, finished: bool) -> bool:
        """Take the heads that cover what is read, all of them when ``finished``; True when none is left."""
        try:
            with self.stream.heads.open("rb") as file:
                file.seek(batch.heads)
                for raw in file:
                    if not raw.endswith(b"\n"):
                        if finished:  # torn by a crash: what it would have proved is in the open tail
                            batch.heads += len(raw)
                            batch.torn += len(raw)
                        return True
                    if batch.full_of_heads or not self._take_head(raw, batch, finished=finished):
                        return False
                    batch.heads += len(raw)
        except FileNotFoundError:
            return True
        except OSError as error:
            raise SpoolError(f"cannot read {self.stream.heads} ({error.strerror})") from error
        return True

    def _take_head(self, raw: bytes, batch: Batch, *, finished: bool) -> bool:
        try:
            signed = heads.parse_line(raw)
            if signed.head.number > batch.number and not finished:
                return False  # its records come first
            form = head_form(signed)
            fragment = self._encoder.record(form)
        except RecordError as error:
            if not _same_again(self.stream.heads, batch.heads, raw):
                return False
            batch.broken.append(Broken(batch.number, "", raw, f"a line of the heads is unusable: {error}"))
            return True
        head = signed.head
        record_id = form["attributes"][attr.RECORD_ID]["stringValue"]
        batch.add_head(
            Item(fragment, head.number, head.hash, attr.EVENT_HEAD, record_id, signed.data, signed.signature_text)
        )
        return True


def _rest(file: BinaryIO, offset: int) -> tuple[int, bytes]:
    """How many bytes follow ``offset``, and the first line of them."""
    file.seek(offset)
    raw = file.readline()
    return file.seek(0, os.SEEK_END) - offset, raw


def _same_again(path: Path, offset: int, raw: bytes) -> bool:
    """Whether the file still has ``raw`` there: a reader may meet a writer that cuts back a partial line."""
    with path.open("rb") as file:
        file.seek(offset)
        return file.read(len(raw)) == raw


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
