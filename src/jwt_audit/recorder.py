"""The recorder: the only place where order matters.

One lock orders number, previous hash, canonical bytes and append. What an append does not wait for,
the disk and a signature, is the `Tick`'s.

Invariants: a record has a number if and only if its line is in the spool; what cannot be written is
counted and told in an ``audit.records.lost`` record as soon as one can be written again. A stream
whose files are removed under it is left, and the next one names it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from . import attributes as attr
from .attributes import Value
from .diagnostics import warn_operator
from .errors import RecordError, SpoolError
from .evidence.chain import link
from .evidence.record import Receipt, Record, system_record
from .ids import new_id
from .losses import Losses
from .room import Need, Room
from .spool.spool import Spool
from .spool.writer import StreamWriter
from .stream_start import KNOWN_STREAMS, key_binding, known_streams, new_stream_id
from .tick import TICK_RECORDS, TICK_SECONDS, LiveStream, Tick

if TYPE_CHECKING:
    from .evidence.signing import Signer


_RECORD = Need.RECORD


class Recorder:
    """Writes one stream. Safe for threads; in a forked child only `abandon` may be called."""

    def __init__(
        self,
        spool: Spool,
        *,
        signer: Callable[[], Signer],
        binding: Callable[[], Mapping[str, Value]],
        limit: int = 2**30,
        strict: bool = False,
        losses: Losses | None = None,
        on_tick: Callable[[], None] = lambda: None,
        advice: str = "is the receiver reachable?",
        now: Callable[[], int] = time.time_ns,
        new_id: Callable[[], str] = new_id,
    ) -> None:
        """``signer`` and ``binding`` (the first record's attributes) are asked for at the first record.

        ``limit`` is the spool's size in bytes. ``strict`` (FAIL_MODE=closed) takes no record while the
        disk space that is kept back is used up, looks before each append whether the files are still
        there, and makes no spool anew that has gone. ``losses`` are told of in the stream's start, and given away.
        ``on_tick`` is called after each tick, outside the lock. ``advice`` says what helps where the spool is
        nearly full. ``now`` (ns since the epoch) and ``new_id`` (of each record) are all it knows of time and
        chance.
        """
        self._spool = spool
        self._signer = signer
        self._binding = binding
        self._room = Room(spool, limit, advice)
        self._strict = strict
        self._on_tick = on_tick
        self._now = now
        self._new_id = new_id
        self._losses = Losses() if losses is None else losses
        self._lock = threading.Lock()
        self._tick = Tick(self._lock, self._present, place=str(spool.root), after=self._ticked, now=now)
        self._stream: LiveStream | None = None
        self._ended: LiveStream | None = None
        """The one that ended last."""
        self._left: list[StreamWriter] = []
        self._gone: list[str] = []
        self._open_again = 0.0
        """Monotonic seconds; until then a spool that failed is not tried again by every request."""
        self._closed = False

    @property
    def stream_id(self) -> str:
        """The stream's id; empty before its first record."""
        stream = self._stream
        return "" if stream is None else stream.position.stream_id

    @property
    def lost(self) -> int:
        """Records that could not be written and are not yet told of in the stream."""
        return self._losses.count

    def append(self, record: Record, *, last_resort: bool = False) -> Receipt:
        """Write ``record`` as the stream's next. It survives ``kill -9`` when this returns.

        Raises RecordError for a record with no canonical form and SpoolError where the spool does
        not take it (full, gone, closed): the record is then counted as lost. With ``last_resort`` it
        draws on what is kept back.
        """
        with self._lock:
            try:
                return self._append(record, Need.UNDER_WAY if last_resort else _RECORD)
            except Exception:
                self._losses.add(record.event_name, self._now())
                raise

    def state(self, event: str, attributes: Mapping[str, Value], body: str) -> None:
        """Write a statement about the spool into the stream. Raises as `append`, but nothing counts as lost: who
        has it to state tries again.
        """
        with self._lock:
            self._append(system_record(event, now=self._now(), attributes=attributes, body=body), Need.STATEMENT)

    def _append(self, record: Record, need: Need) -> Receipt:
        """Under the lock. Raises RecordError, SpoolError."""
        if attr.RECORD_ID not in record.form:  # a record that is tried again keeps its id
            record.form[attr.RECORD_ID] = {"stringValue": self._new_id()}
        try:
            if self._closed:
                raise SpoolError("the stream has ended")
            if self._strict:
                self._look()
            stream = self._stream or self._open(need)
            if self._strict or self._room.full(stream.writer.bytes, need):
                self._require(stream, need)
            if self._losses.count:
                self._tell_lost(stream, need)
            return self._write(stream, record, need)
        except OSError as error:
            self._look()
            raise SpoolError(f"the spool {self._spool.root} takes no record ({error.strerror})") from error

    def _require(self, stream: LiveStream | None, need: Need) -> None:
        """Raise SpoolError where there is no room."""
        if self._room.full(0 if stream is None else stream.writer.bytes, need):
            self._tick.start()
            self._tick.soon()  # which looks whether room has been freed
            raise SpoolError(f"the spool {self._spool.root} has reached its limit of {self._room.limit} bytes")
        if self._strict and need is _RECORD and stream is not None and not stream.writer.refill_reserve():
            raise SpoolError(f"the disk of {self._spool.root} is full, and its reserve is used up")

    def _look(self) -> None:
        """Leave a stream whose files were removed: what is appended to them is lost. Under the lock."""
        stream = self._stream
        if stream is None or not stream.writer.gone():
            return
        name, number, digest, _ = stream.position
        warn_operator(f"the files of the audit stream {name} were removed while it was being written", once=None)
        self._gone.append(f"{name} {number} {digest}")
        self._left.append(stream.writer)  # the tick closes it: it may be syncing it right now
        self._stream = None
        self._tick.soon()

    def _write(self, stream: LiveStream, record: Record, need: Need, *, end: bool = False) -> Receipt:
        writer = stream.writer
        data, position = link(record, stream.position, now=self._now(), end=end)
        try:
            writer.append(data, position.hash)
        except OSError:
            if need is _RECORD or not writer.free_reserve():
                raise
            writer.append(data, position.hash)
        stream.position = position
        unsigned = position.number - stream.signed
        if unsigned == 1:
            self._tick.soon()
        if unsigned == TICK_RECORDS:
            self._tick.at_once()
        record_id: str = record.form[attr.RECORD_ID]["stringValue"]
        return Receipt(record_id, position.hash, position.stream_id, position.number)

    def _own(self, event: str, attributes: Mapping[str, Value], body: str, now: int) -> Record:
        return system_record(event, now=now, attributes={attr.RECORD_ID: self._new_id(), **attributes}, body=body)

    def _open(self, need: Need) -> LiveStream:
        """Begin the stream: directory, lock, first record. Nothing is left open where that fails."""
        self._require(None, need)
        if time.monotonic() < self._open_again:
            raise SpoolError(f"the spool {self._spool.root} took no record a moment ago")
        self._open_again = time.monotonic() + TICK_SECONDS
        now = self._now()
        self._spool.make(root=not self._strict)
        signer = self._signer()
        binding = {**self._binding(), **key_binding(signer)}
        known = [*known_streams(self._spool), *self._gone[-KNOWN_STREAMS:]]
        if known:
            binding[attr.STREAM_KNOWN] = known
        writer = self._spool.open_stream(new_stream_id(now), segment_bytes=self._room.segment_bytes)
        stream = LiveStream(writer, signer)
        try:
            first = self._own(attr.EVENT_STREAM_START, binding, "audit stream started", now)
            self._write(stream, first, need)
        except BaseException:
            writer.discard()
            raise
        self._stream = stream
        self._open_again = 0.0
        self._tick.start()
        self._tick.at_once()  # a process that is killed in its first second leaves a stream that is proved to begin
        return stream

    def _tell_lost(self, stream: LiveStream, need: Need) -> None:
        record = self._losses.record(self._now())
        record.update({attr.RECORD_ID: self._new_id()})
        self._write(stream, record, need)
        self._losses = Losses()

    def on_durable(self, receipt: Receipt, call: Callable[[bool], None]) -> None:
        """Call ``call(True)`` once a record survives a power loss, ``call(False)`` if that failed.

        In the recorder's thread, or at once. One sync serves all who wait (group commit).
        """
        with self._lock:
            done = False
            for stream in (self._stream, self._ended):
                if stream is not None and receipt.stream_id == stream.position.stream_id:
                    done = receipt.number <= stream.synced
                    if not done and stream is self._stream and not self._closed:
                        self._tick.wait(call)
                        return
        call(done)

    def settle(self) -> bool:
        """Sync and sign what is there now; whether that was done: then none of it is in an open tail. Never raises."""
        settled = self._tick.settle()
        ended = self._ended
        return settled and (ended is None or ended.signed == ended.position.number)

    def _present(self) -> LiveStream | None:
        """The stream that a tick works on. Under the lock."""
        self._look()
        self._close_left()
        return self._stream

    def _ticked(self, stream: LiveStream | None) -> None:
        """After each tick, in its thread and under no lock."""
        self._room.watch(0 if stream is None else stream.writer.bytes)
        if stream is not None and stream.writer.heads_bytes > self._room.segment_bytes:
            self._tick.finish(self._end)  # heads go only with their stream: what is written next begins another
        self._on_tick()

    def _close_left(self) -> None:
        while self._left:
            self._left.pop().close()

    def end(self) -> None:
        """End the stream: an ``audit.stream.end`` record, synced, and the head over it. Never raises.

        What is appended afterwards begins another stream: nothing ever follows an end.
        """
        self._tick.finish(self._end)
        self._on_tick()

    def _end(self) -> LiveStream | None:
        """Write the end, and leave the stream. Under the lock."""
        self._look()
        self._close_left()
        stream = self._stream
        if stream is None:
            return None
        try:
            if self._losses.count:
                self._tell_lost(stream, Need.STATEMENT)
            last = self._own(attr.EVENT_STREAM_END, {}, "audit stream ended", self._now())
            self._write(stream, last, Need.STATEMENT, end=True)
        except (OSError, SpoolError, RecordError) as error:
            warn_operator(f"the audit stream could not be ended: {error}", once="end")
        self._stream, self._ended = None, stream
        return stream

    def close(self) -> None:
        """`end`, and take nothing more. Never raises."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
        self.end()
        self._tick.stop()

    def abandon(self) -> None:
        """In a forked child: close what was inherited. The locks' state is unknown here, so none is taken."""
        self._close_left()
        if self._stream is not None:
            self._stream.writer.close()
