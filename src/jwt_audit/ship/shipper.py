"""The shipper: delivers every stream of a spool, for ever, one process at a time.

Invariants: a cursor moves only after everything before it was acknowledged, or set aside in the dead
letter and told. Whatever the receiver answers, no record is given up. A crash at any point leads to
records that are sent again, never to records that are not sent. What ships a spool has its `Turn`;
the kernel frees that at any kind of death, and another process goes on.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from ..errors import JWTAuditError, SpoolError
from ..spool import disk
from ..spool.durable import LockState
from ..spool.spool import Spool
from ..spool.stream import Cursor, Stream
from .backlog import undelivered
from .batch import Batch
from .deadletter import DeadLetter, Emit, Parked, Settle
from .deliver import Attempt, Courier, Stopping
from .encode import JsonEncoder, ProtobufEncoder
from .http import Endpoint, Poster
from .prune import Pruner
from .reader import StreamReader
from .recovery import state_end
from .turn import Turn

_LOCK_SECONDS = 1.0
_LISTING_SECONDS = 2.0

_inherited: list[Poster] = []
"""Keeps a parent's connections from being collected, and so closed, in a forked child."""


class Shipper:
    """Ships one spool to one endpoint, in a thread of its own (`start`) or in the caller's (`run`)."""

    def __init__(
        self,
        spool: Spool,
        endpoint: Endpoint,
        *,
        emit: Emit,
        settle: Settle,
        suppress: Callable[[], AbstractContextManager[Any]],
        warn_operator: Callable[..., None],
        retention: float,
        limit: int = 2**30,
        export_canonical: bool = True,
        now: Callable[[], float] = time.time,
        poll: float = 0.5,
        observe: Callable[[Attempt], None] = lambda _: None,
        sidecar: bool = False,
    ) -> None:
        """``emit`` writes a statement into this process's own stream, ``settle`` syncs and signs that and
        says whether it was done; ``suppress`` is entered around what the app's instrumentation must not
        see; ``warn_operator`` warns the operator; ``retention`` and ``poll`` are seconds, ``limit`` the spool's
        size in bytes; ``observe`` is told of each request. A ``sidecar`` goes before the threads of the
        app's processes.
        """
        self._spool = spool
        self._emit = emit
        self._settle = settle
        self._suppress = suppress
        self._warn_operator = warn_operator
        self._carry = export_canonical
        self._poll = poll
        self._encoder = JsonEncoder() if endpoint.protocol == "http/json" else ProtobufEncoder()
        self._poster = Poster(endpoint, self._encoder.content_type)
        self._dead_letter = DeadLetter(spool.root, emit, settle, now)
        self._turn = Turn(spool, sidecar=sidecar, limit=limit)
        wanted = self._turn.wanted
        self._courier = Courier(
            endpoint, self._encoder, self._poster, self._dead_letter.path, warn_operator, observe, wanted
        )
        self._pruner = Pruner(spool, emit, settle, cursor=self.cursor, retention=retention, limit=limit, now=now)
        self._work = threading.Event()
        self._thread: threading.Thread | None = None
        self._readers: dict[str, StreamReader] = {}
        self._pending: dict[str, tuple[Batch, list[Parked]]] = {}
        self._done: set[str] = set()
        self._unwritten: dict[str, StreamReader] = {}
        self._stated: list[StreamReader] = []
        """Delivered whole and told of; done with once that is signed."""
        self._listed: list[Stream] = []
        self._listing = (0, 0.0)

    def start(self) -> None:
        """Ship in a daemon thread from now on, as soon as no other process does."""
        self._thread = threading.Thread(target=self.run, name="jwt-audit-ship", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """Something was written: do not wait for the next poll. Never blocks."""
        self._work.set()

    def stop(self, timeout: float) -> bool:
        """Deliver what is there, at most ``timeout`` seconds long, and end; True when nothing is left.

        A receiver that cannot be reached is not waited for: the spool keeps what is left, and the next
        shipper goes on. Safe to call twice.
        """
        self._courier.stop(time.monotonic() + timeout)
        self._work.set()
        if self._thread is not None:
            self._thread.join(timeout)
        try:
            return not any(undelivered(stream) for stream in self._spool.streams())
        except SpoolError:
            return False

    @property
    def shipping(self) -> bool:
        """Whether it is this one's turn."""
        return self._turn.held

    @property
    def trouble(self) -> str | None:
        """Why nothing has been delivered for a while, as the operator was told; None while it goes on."""
        return self._courier.trouble

    def cursor(self, stream: Stream) -> Cursor:
        """How far a stream was delivered: ahead of what is on disk where that takes no cursor. Raises SpoolError."""
        reader = self._readers.get(stream.id)
        if reader is not None:
            return reader.cursor
        return Cursor(done=True) if stream.id in self._done else stream.cursor()

    def abandon(self) -> None:
        """In a forked child, where the thread does not exist: close the locks' files, unlock nothing.

        The connection is left alone: to close it takes locks that the parent's thread may have held.
        """
        _inherited.append(self._poster)
        self._turn.close()

    def run(self) -> None:
        """Ship in the caller's thread until `stop` is called."""
        try:
            while self._wait_for_turn():
                with self._suppress():
                    self._ship_until_told()
                if self._courier.stopping:
                    return
                self._give_way()
        finally:
            self._poster.close()
            self._turn.close()

    def _wait_for_turn(self) -> bool:
        """True when it has come, False when it is to stop before."""
        while True:
            try:
                if self._turn.take():
                    return True
            except OSError as error:
                self._warn_operator(f"cannot lock the spool {self._spool.root} ({error.strerror})", once="ship-lock")
            if self._courier.stopping:
                return False
            self._work.wait(_LOCK_SECONDS)
            self._work.clear()

    def _give_way(self) -> None:
        """Another one ships and moves the cursors: nothing that was read of them counts any more."""
        self._readers.clear()
        self._pending.clear()
        self._stated.clear()
        self._unwritten.clear()
        self._done.clear()
        self._listing = (0, 0.0)
        self._pruner.forget()
        self._turn.give_back()

    def _ship_until_told(self) -> None:
        """Until `stop` was called, or a sidecar wants the turn."""
        while True:
            self._work.clear()
            stopping = self._courier.stopping  # asked before: then this round sees all that is to be delivered
            try:
                more = self.once()
            except Stopping:
                return
            except Exception as error:
                more = False
                self._report(error)
            if (stopping and not more) or self._turn.wanted():
                return
            if not more:
                self._work.wait(self._poll)

    def once(self) -> bool:
        """A batch of each stream that has one, and retention where it is due; whether there is more to send at once.

        For the holder of the turn. What is written during the round is no reason: it waits for the next
        tick or poll. Else small requests follow each other while an app is busy, and cost it more than
        all else of delivery. Raises `Stopping`, and what the listing of the spool or retention raises.
        """
        more = False
        self._move_again()
        for stream in self._streams():
            if stream.id in self._done:
                continue
            try:
                more |= self._ship(self._reader(stream))
            except Stopping:
                raise
            except Exception as error:  # one stream that fails holds up no other
                if stream.gone():
                    self._readers.pop(stream.id, None)
                else:
                    self._report(error)
                    self._pruner.hurry()  # it may lack the room for a statement
        self._close_stated()
        if self._pruner.due() and not self._courier.stopping:
            self._pruner.run(self._streams())
        return more

    def _report(self, error: Exception) -> None:
        """Say it once and go on: neither the disk nor a mistake of ours must end delivery for good.

        Not while stopping: the process's own stream has ended then and takes no statement, the next shipper makes it.
        """
        if self._courier.stopping:
            return
        known = isinstance(error, (OSError, JWTAuditError))
        what = str(error) if known else f"a failure ({type(error).__name__})"
        self._warn_operator(f"the shipper of {self._spool.root} met {what}; it goes on", once=f"shipper {what}")

    def _reader(self, stream: Stream) -> StreamReader:
        reader = self._readers.get(stream.id)
        if reader is None:
            reader = self._readers[stream.id] = StreamReader(stream, self._encoder, carry=self._carry)
        return reader

    def _ship(self, reader: StreamReader) -> bool:
        """Deliver the next batch of a stream; whether more was there than one takes."""
        stream = reader.stream
        if reader.cursor.done:
            self._forget(stream)
            return False
        if reader in self._stated:
            return False
        pending = self._pending.get(stream.id)
        if pending is None:
            state = stream.writer()  # asked before reading: what a dead writer left is then all there is
            if state is LockState.UNKNOWN:
                self._warn_operator(
                    f"whether a process still writes {stream.path} cannot be told now; what it says to be synced is "
                    "delivered, the rest waits",
                    once=f"unknown {stream.id}",
                )
            alive = state is not LockState.FREE
            if alive and reader.quiet():
                return False
            batch = reader.batch(alive=alive)
            parked = self._courier.deliver(stream.id, reader.resource if batch.items else b"", batch)
            if parked is None:
                return True  # to be read anew: by now there may be more in it, which tells bad records apart
            pending = self._pending[stream.id] = (batch, parked)
        batch, parked = pending
        self._dead_letter.park(stream.id, parked)  # where this fails, what was acknowledged is not sent again
        del self._pending[stream.id]
        if batch.cursor != reader.cursor:
            self._move(reader, batch.cursor)
        if batch.finished:
            self._finish(reader)
        return bool(batch.items or batch.broken) and not batch.exhausted

    def _forget(self, stream: Stream) -> None:
        self._done.add(stream.id)
        self._readers.pop(stream.id, None)

    def _move(self, reader: StreamReader, cursor: Cursor) -> None:
        """Move the cursor. A disk that takes none holds nothing up: what follows a crash is then sent again."""
        try:
            reader.moved(cursor)
        except OSError as error:
            self._unmoved(reader, error)

    def _move_again(self) -> None:
        """Write the cursors that the disk has not taken before."""
        waiting, self._unwritten = self._unwritten, {}
        for reader in waiting.values():
            self._move(reader, reader.cursor)

    def _unmoved(self, reader: StreamReader, error: OSError) -> None:
        stream = reader.stream
        if stream.gone():
            return  # one that held nothing was taken back
        self._unwritten[stream.id] = reader
        self._warn_operator(
            f"{stream.path / 'cursor'} cannot be written ({error.strerror or error}); delivery goes on, "
            "after a restart records may be sent twice",
            once="cursor",
        )

    def _finish(self, reader: StreamReader) -> None:
        """A dead stream is delivered whole. One without an end record is told of in this process's own stream.

        Then, once that is signed, the cursor says so; a crash in between leads to a second statement, never to none.
        """
        cursor = reader.cursor
        if cursor.ended or not state_end(
            reader.stream, self._emit, number=cursor.number, digest=cursor.hash, torn=cursor.torn
        ):
            self._done_with(reader)
            return
        self._stated.append(reader)

    def _close_stated(self) -> None:
        if self._stated and self._settle():
            while self._stated:
                self._done_with(self._stated.pop())

    def _done_with(self, reader: StreamReader) -> None:
        self._move(reader, reader.cursor.finished())
        self._forget(reader.stream)

    def _streams(self) -> list[Stream]:
        """The streams of the spool. Listed again only when one has come or gone: there may be very many."""
        modified = disk.stat(self._spool.root / "streams").st_mtime_ns
        # A directory's time is coarse: within it another stream may have come after the listing
        if self._listing[0] != modified or self._listing[1] < modified / 1e9 + _LISTING_SECONDS:
            self._listing = (modified, time.time())
            self._listed = self._spool.streams()
        return self._listed
