"""The recorder: the only place where order matters.

One lock orders number, previous hash, canonical bytes and append. Outside of it a thread works on a
tick, at most a second or 256 records after the first record it has not seen: it syncs, signs the
head and wakes the shipper. So no append waits for a signature or the disk.

Invariants: a record has a number if and only if its line is in the spool; a head covers only what
was synced; what cannot be written is counted and told in an ``audit.records.lost`` record as soon
as one can be written again. A stream whose files are removed under it is left, and the next one names it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, NamedTuple

from . import attributes as attr
from .attributes import Value
from .diagnostics import tell
from .errors import RecordError, SpoolError
from .evidence import heads
from .evidence.chain import Position, link
from .evidence.record import Record, system_record
from .ids import new_id
from .losses import Losses
from .spool.spool import Spool, StreamWriter
from .stream_start import KNOWN_STREAMS, key_binding, known_streams, new_stream_id

if TYPE_CHECKING:
    from .evidence.signing import Signer

TICK_SECONDS = 1.0
TICK_RECORDS = 256

_USAGE_TICKS = 16


class Receipt(NamedTuple):
    """What a record got: its id, its hash (hex SHA-256), and its place."""

    record_id: str
    hash: str
    stream_id: str
    number: int


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
        now: Callable[[], int] = time.time_ns,
        new_id: Callable[[], str] = new_id,
    ) -> None:
        """``signer`` and ``binding`` (the first record's attributes) are asked for at the first record.

        ``limit`` is the spool's size in bytes. ``strict`` (FAIL_MODE=closed) keeps disk space back for
        `append` with ``last_resort``, looks before each append whether the files are still there, and
        makes no spool anew that has gone. ``losses`` are told of in the stream's start, and given away.
        ``on_tick`` is called after each signed head, outside the lock. ``now`` (ns since the
        epoch) and ``new_id`` (of each record) are all it knows of time and chance.
        """
        self._spool = spool
        self._signer_source = signer
        self._binding = binding
        self._limit = limit
        self._strict = strict
        self._on_tick = on_tick
        self._now = now
        self._new_id = new_id
        self._lock = threading.Lock()
        self._writer: StreamWriter | None = None
        self._signer: Signer | None = None
        self._position = Position("")
        self._signed = 0
        self._synced = 0
        self._losses = Losses() if losses is None else losses
        self._left: list[StreamWriter] = []
        self._gone: list[str] = []
        self._others = 0
        self._closed = False
        self._tick = threading.Event()
        self._begun = threading.Event()
        self._waiting: list[Callable[[bool], None]] = []
        self._thread: threading.Thread | None = None
        self._ticking = threading.Lock()

    @property
    def stream_id(self) -> str:
        """The stream's id; empty before its first record."""
        return self._position.stream_id

    @property
    def lost(self) -> int:
        """Records that could not be written and are not yet told of in the stream."""
        return self._losses.count

    def append(self, record: Record, *, last_resort: bool = False) -> Receipt:
        """Write ``record`` as the stream's next. It survives ``kill -9`` when this returns.

        Raises RecordError for a record with no canonical form and SpoolError where the spool does
        not take it (full, gone, closed): the record is then counted as lost. With ``last_resort`` it
        draws on the reserve.
        """
        if record.get(attr.RECORD_ID) is None:  # a record that is tried again keeps its id
            record.update({attr.RECORD_ID: self._new_id()})
        with self._lock:
            try:
                if self._closed:
                    raise SpoolError("the stream has ended")
                if self._strict:
                    self._look()
                if self._writer is None:
                    self._open()
                if self._losses.count:
                    self._tell_lost(last_resort)
                return self._write(record, last_resort)
            except OSError as error:
                self._losses.add(record.event_name, self._now())
                self._look()
                raise SpoolError(f"the spool {self._spool.root} takes no record ({error.strerror})") from error
            except Exception:
                self._losses.add(record.event_name, self._now())
                raise

    def _look(self) -> None:
        """Leave a stream whose files were removed: what is appended to them is lost. Under the lock."""
        writer, position = self._writer, self._position
        if writer is None or not writer.gone():
            return
        tell(f"the files of the audit stream {position.stream_id} were removed while it was being written", once=None)
        self._gone.append(f"{position.stream_id} {position.number} {position.hash}")
        self._left.append(writer)  # the tick closes it: it may be syncing it right now
        self._writer = None
        self._position = Position("")
        self._signed = self._synced = 0
        self._begun.set()

    def _write(self, record: Record, last_resort: bool, *, end: bool = False) -> Receipt:
        writer = self._writer
        assert writer is not None  # noqa: S101 - the callers have opened it
        if self._others + writer.bytes >= self._limit and not last_resort:
            raise SpoolError(f"the spool {self._spool.root} has reached its limit of {self._limit} bytes")
        if self._strict and not last_resort and not writer.refill_reserve():
            raise SpoolError(f"the disk of {self._spool.root} is full, and its reserve is used up")
        data, position = link(record, self._position, now=self._now(), end=end)
        try:
            writer.append(data, position.hash)
        except OSError:
            if not (last_resort and writer.free_reserve()):
                raise
            writer.append(data, position.hash)
        self._position = position
        pending = position.number - self._signed
        if pending == 1:
            self._begun.set()
        if pending == TICK_RECORDS:
            self._tick.set()
        return Receipt(str(record.get(attr.RECORD_ID)), position.hash, position.stream_id, position.number)

    def _own(self, event: str, attributes: Mapping[str, Value], body: str, now: int) -> Record:
        return system_record(event, now=now, attributes={attr.RECORD_ID: self._new_id(), **attributes}, body=body)

    def _open(self) -> None:
        """Begin the stream: directory, lock, first record. Nothing is left open where that fails."""
        if time.monotonic() < self._open_again:
            raise SpoolError(f"the spool {self._spool.root} took no record a moment ago")
        self._open_again = time.monotonic() + TICK_SECONDS
        now = self._now()
        self._spool.make(root=not self._strict)
        signer = self._signer_source()
        binding = dict(self._binding())
        binding.update(key_binding(signer))
        known = [*known_streams(self._spool), *self._gone[-KNOWN_STREAMS:]]
        if known:
            binding[attr.STREAM_KNOWN] = known
        self._others = self._spool.usage()
        writer = self._spool.open_stream(new_stream_id(now), reserve=self._strict)
        self._writer, self._signer = writer, signer
        self._position = Position(writer.path.name)
        try:
            first = self._own(attr.EVENT_STREAM_START, binding, "audit stream started", now)
            self._write(first, last_resort=False)
        except BaseException:
            self._writer = None
            self._position = Position("")
            writer.discard()
            raise
        self._open_again = 0.0
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="jwt-audit-tick", daemon=True)
            self._thread.start()

    _open_again = 0.0
    """Monotonic seconds; until then a spool that failed is not tried again by every request."""

    def _tell_lost(self, last_resort: bool) -> None:
        record = self._losses.record(self._now())
        record.update({attr.RECORD_ID: self._new_id()})
        self._write(record, last_resort)
        self._losses = Losses()

    def on_durable(self, receipt: Receipt, call: Callable[[bool], None]) -> None:
        """Call ``call(True)`` once a record survives a power loss, ``call(False)`` if that failed.

        In the recorder's thread, or at once. One sync serves all who wait (group commit).
        """
        with self._lock:
            same = receipt.stream_id == self._position.stream_id
            done = same and receipt.number <= self._synced
            if same and not done and not self._closed:
                self._waiting.append(call)
                self._begun.set()
                self._tick.set()
                return
        call(done)

    def settle(self) -> None:
        """Sync and sign what is there now: nothing is left in the open tail. Never raises."""
        with self._ticking:
            self._tick_once(force=True)

    def _run(self) -> None:
        while True:
            self._begun.wait()
            self._tick.wait(TICK_SECONDS)
            # Cleared before the work: what is appended from here on sets them again.
            self._begun.clear()
            self._tick.clear()
            if self._closed:
                return
            try:
                with self._ticking:
                    self._tick_once(force=False)
            except Exception as error:  # without this thread nothing is synced or signed any more
                tell(f"a sync of {self._spool.root} failed ({type(error).__name__}); trying again", once="tick-failure")
                self._begun.set()

    def _tick_once(self, *, force: bool) -> None:
        """One sync, then one head. A crash between them leaves an open tail that is longer by a tick."""
        waiting: list[Callable[[bool], None]] = []
        done = False
        try:
            with self._lock:
                self._look()
                self._close_left()
                waiting, self._waiting = self._waiting, waiting
                writer, signer, position = self._writer, self._signer, self._position
                if writer is None or signer is None:
                    return
                sync = writer.start_sync()
            done = sync is None or writer.run_sync(sync)
            with self._lock:
                if sync is not None:
                    writer.finish_sync(sync, done=done)
                if done and self._writer is writer:
                    self._synced = max(self._synced, position.number)
        except OSError as error:
            self._tell_tick(error)
            return
        finally:
            for call in waiting:
                call(done)
        if not done:
            tell(f"the spool {self._spool.root} could not be synced; its records are written again", once="sync")
            self._begun.set()
            return
        try:
            self._sign(writer, signer, position, force=force)
        except OSError as error:
            self._tell_tick(error)
            return
        self._measure()
        self._on_tick()

    def _sign(self, writer: StreamWriter, signer: Signer, position: Position, *, force: bool) -> None:
        if position.number > self._signed and (force or self._due(position)):
            writer.append_head(heads.sign(position, signer, now=self._now()).line)
            with self._lock:
                if self._writer is writer:
                    self._signed = position.number
                    if self._position.number > position.number:
                        self._begun.set()
        if not writer.refill_reserve():
            tell(f"the disk of {self._spool.root} is full: the reserve is used up", once="reserve")

    def _tell_tick(self, error: OSError) -> None:
        tell(f"the spool {self._spool.root} fails ({error.strerror}); trying again", once="tick")
        self._begun.set()

    def _close_left(self) -> None:
        while self._left:
            self._left.pop().close()

    def _due(self, position: Position) -> bool:
        """Whether a head is due: syncs for waiting requests come far more often than heads."""
        now = time.monotonic()
        if position.number - self._signed >= TICK_RECORDS or now >= self._next_head:
            self._next_head = now + TICK_SECONDS
            return True
        self._begun.set()
        return False

    _next_head = 0.0

    def _measure(self) -> None:
        self._since_measured += 1
        if self._since_measured >= _USAGE_TICKS and self._writer is not None:
            self._since_measured = 0
            try:
                self._others = self._spool.usage() - self._writer.bytes
            except SpoolError:
                return  # it has just gone: the next tick sees that
        used = self._others + (self._writer.bytes if self._writer is not None else 0)
        if used >= self._limit * 0.8:
            tell(
                f"the spool {self._spool.root} is at {used * 100 // self._limit} % of its limit; "
                "is the receiver reachable?",
                once="spool-limit",
            )

    _since_measured = 0

    def close(self) -> None:
        """End the stream: an ``audit.stream.end`` record, synced, and the head over it. Never raises."""
        with self._lock:
            if self._closed:
                return
            try:
                if self._writer is not None:
                    if self._losses.count:
                        self._tell_lost(last_resort=True)
                    last = self._own(attr.EVENT_STREAM_END, {}, "audit stream ended", self._now())
                    self._write(last, last_resort=True, end=True)
            except (OSError, SpoolError, RecordError) as error:
                tell(f"the audit stream could not be ended: {error}", once="end")
            self._closed = True
        self.settle()
        self._begun.set()
        self._tick.set()
        with self._ticking:
            self._close_left()
            if self._writer is not None:
                self._writer.close()
                self._writer = None

    def abandon(self) -> None:
        """In a forked child: close what was inherited. The locks' state is unknown here, so none is taken."""
        self._close_left()
        if self._writer is not None:
            self._writer.close()
