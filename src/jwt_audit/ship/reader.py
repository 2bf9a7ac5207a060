"""Reads one stream from where it was delivered to, in batches that are ready to send.

Invariants: nothing that a power loss could still take is handed over, so the receiver never knows more
than the disk: of a living writer's stream what it says to be synced, of a dead one's what this has
synced itself. Records in the order of the file, then the heads that cover them, never a head before
its records; nothing is skipped in silence: a whole line that is no record is handed over as broken, a
torn tail is counted. A batch's cursor is where the stream stands once all of the batch is delivered,
and its number never goes back.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO

import orjson

from .. import attributes as attr
from ..errors import DiskFullError, RecordError, SpoolError
from ..evidence import heads
from ..evidence.chain import record_hash
from ..spool import disk
from ..spool.segment import Line, lines, segment_index
from ..spool.stream import Cursor, Extent, Stream
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
        self._secured: Extent | None = None
        self._repeated = ""
        self._earlier: set[str] = set()
        self._unread: list[Path] = []

    @property
    def resource(self) -> bytes:
        """The encoded resource that the stream's first record names; an empty one where there is none.

        Raises SpoolError where that cannot be told.
        """
        if self._resource is None:
            line = first_line(self.stream)
            try:
                form = {} if line is None else stream_resource(orjson.loads(line.payload))
            except (RecordError, ValueError):
                form = {}
            self._resource = self._encoder.resource(form)
        return self._resource

    def quiet(self) -> bool:
        """Whether the living writer has synced nothing since the cursor's place. Raises SpoolError."""
        extent, cursor = self.stream.synced(), self.cursor
        place = segment_index(cursor.segment), cursor.offset
        return (extent.segment, extent.offset) <= place and extent.heads <= cursor.heads

    def moved(self, cursor: Cursor) -> None:
        """Set the place from which is read next, in memory and then on disk. Raises OSError where the disk fails."""
        self.cursor = cursor
        self.stream.move_cursor(cursor)

    def batch(self, *, alive: bool) -> Batch:
        """What follows the cursor. ``alive``: the writer may have lived before this call. Raises SpoolError."""
        batch = Batch(self.cursor)
        try:
            end = self.stream.synced() if alive else self._secure()
        except DiskFullError:
            end, alive = (
                self.stream.synced(),
                True,
            )  # what follows waits for room: no receiver may know more than the disk
        exhausted = True
        for path in self.stream.segments():
            index = segment_index(path.name)
            if path.name < batch.segment:
                continue
            if index > end.segment:
                break
            if path.name != batch.segment:
                batch.segment, batch.offset = path.name, 0
            exhausted = self._read_segment(path, batch, end.offset if index == end.segment else None)
            if not exhausted:
                break
        finished = exhausted and not alive
        batch.exhausted = self._read_heads(batch, end.heads, finished=finished) and exhausted
        batch.finished = batch.exhausted and finished
        return batch

    def _secure(self) -> Extent:
        """What the dead writer left, synced once. Raises SpoolError."""
        if self._secured is None:
            self._secured = self.stream.secure()
        return self._secured

    def _read_segment(self, path: Path, batch: Batch, limit: int | None) -> bool:
        """Read on in one segment, up to ``limit`` bytes or else to its end; True when it has no more."""
        try:
            with disk.reader(path, 256 * 1024) as file:
                while True:
                    for line in lines(file, batch.offset):
                        if limit is not None and line.end > limit:
                            return True
                        if batch.full or not self._take(path, line, batch):
                            return False
                    rest, raw = _rest(file, batch.offset)
                    if limit is not None and batch.offset + len(raw) > limit:
                        return True
                    if not raw.endswith(b"\n"):
                        break
                    if batch.full:
                        return False
                    batch.pass_broken(raw, "", "a line of the spool has lost its form")
        except OSError as error:
            raise SpoolError(f"cannot read {path} ({error.strerror})") from error
        batch.offset += rest  # torn by a crash or a full disk: no record of it was acknowledged
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
            if number <= batch.number and self._stands_before(path, line.digest):
                batch.offset = line.end
                return True
            record_id = form["attributes"][attr.RECORD_ID]["stringValue"]
            fragment = self._encoder.record(form)
            if not batch.add(Item(fragment, number, line.digest, event, record_id, line.payload)):
                return False
        except (RecordError, KeyError, TypeError, ValueError) as error:
            reason = str(error) if isinstance(error, RecordError) else "a line of the spool is no record"
            batch.pass_broken(line.raw, line.digest, reason)
            return True
        batch.offset = line.end
        if number > batch.number:  # else it is a second one of that number, and does not take its place
            batch.number, batch.hash = number, line.digest
            batch.ended = event == attr.EVENT_STREAM_END
        return True

    def _stands_before(self, path: Path, digest: str) -> bool:
        """Whether an earlier segment has the same record. A writer of before wrote records again after a failed sync,
        more than once where that went on; so as many segments are looked at as it takes to find it.
        """
        if self._repeated != path.name:
            self._repeated, self._earlier = path.name, set()
            self._unread = [other for other in self.stream.segments() if other.name < path.name]
        while digest not in self._earlier and self._unread:
            with disk.reader(self._unread[-1], 256 * 1024) as file:
                self._earlier.update(line.digest for line in lines(file))
            self._unread.pop()
        return digest in self._earlier

    def _read_heads(self, batch: Batch, limit: int, *, finished: bool) -> bool:
        """Take the heads that cover what is read, all of them when ``finished``; True when none is left."""
        try:
            with disk.reader(self.stream.heads) as file:
                file.seek(batch.heads)
                for raw in file:
                    if batch.heads + len(raw) > limit:
                        return True
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
