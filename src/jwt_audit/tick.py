"""The tick: makes records durable and proves them, beside the appends and without holding one up.

At most a second, or 256 records, after the first record that no head covers: one sync, then one head
over what was synced. A crash between the two leaves an open tail that is longer by a tick.
"""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from .diagnostics import warn_operator
from .evidence import heads
from .evidence.chain import Position
from .spool.writer import StreamWriter

if TYPE_CHECKING:
    from .evidence.signing import Signer

TICK_SECONDS = 1.0
TICK_RECORDS = 256
_LAST_SYNCS = 6


class LiveStream:
    """The stream that is being written, and how far: appended, synced, signed. Under the recorder's lock."""

    __slots__ = ("position", "reached", "signed", "signer", "synced", "writer")

    def __init__(self, writer: StreamWriter, signer: Signer) -> None:
        self.writer = writer
        self.signer = signer
        self.position = Position(writer.path.name)
        self.synced = 0
        self.signed = 0
        self.reached = 0
        """How far it had come when the last tick began."""


class Tick:
    """Syncs and signs one process's stream, in a thread of its own or, by `settle`, in the caller's."""

    def __init__(
        self,
        lock: threading.Lock,
        stream: Callable[[], LiveStream | None],
        *,
        place: str,
        after: Callable[[LiveStream | None], None],
        now: Callable[[], int],
    ) -> None:
        """``stream`` gives the present one, under ``lock``; ``after`` is called after each tick, under no lock.

        ``place`` is what messages call the spool. ``now`` gives nanoseconds since the epoch.
        """
        self._lock = lock
        self._stream = stream
        self._place = place
        self._after = after
        self._now = now
        self._begun = threading.Event()
        self._due = threading.Event()
        self._waiting: list[Callable[[bool], None]] = []
        self._next_head = 0.0
        self._thread: threading.Thread | None = None
        self._stopped = False
        self._ticking = threading.Lock()

    def start(self) -> None:
        """Tick in a daemon thread from now on. Under the lock; again is no harm."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="jwt-audit-tick", daemon=True)
            self._thread.start()

    def soon(self) -> None:
        """Something was written: tick within `TICK_SECONDS`."""
        self._begun.set()

    def at_once(self) -> None:
        """Enough was written, or somebody waits: tick now."""
        self._begun.set()
        self._due.set()

    def wait(self, call: Callable[[bool], None]) -> None:
        """Have ``call`` told by the next tick whether its sync went well. Under the lock."""
        self._waiting.append(call)
        self.at_once()

    def settle(self) -> bool:
        """Sync and sign what is there now; whether all that the stream holds by then is signed. Never raises."""
        with self._ticking:
            stream = self._once(force=True)
            settled = stream is None or stream.signed >= stream.reached
        self._after(stream)
        return settled

    def finish(self, end: Callable[[], LiveStream | None]) -> None:
        """The last tick of the stream that ``end`` writes to its end and gives. Never raises.

        The lock is held all the while: nothing may follow an end, and who waits has waited for this stream.
        """
        done = False
        with self._ticking, self._lock:
            waiting, self._waiting = self._waiting, []
            stream = end()
            if stream is not None:
                try:
                    done = self._sync_end(stream)
                    if done:
                        stream.synced = stream.position.number
                        self._add_head(stream, stream.position)
                        stream.signed = stream.position.number
                except Exception as error:
                    self._failed(error)
                stream.writer.close()
                self._next_head = 0.0  # the next one is signed from its beginning on
        for call in waiting:
            call(done)

    def _sync_end(self, stream: LiveStream) -> bool:
        """Nobody syncs the stream afterwards: so it is tried more than once."""
        for _ in range(_LAST_SYNCS):
            sync = stream.writer.start_sync()
            done = sync is None or stream.writer.run_sync(sync)
            if sync is not None:
                stream.writer.finish_sync(sync)
            if done:
                return True
        warn_operator(f"the spool {self._place} could not be synced at the end of a stream", once="sync-end")
        return False

    def stop(self) -> None:
        """End the thread."""
        self._stopped = True
        self.at_once()

    def _run(self) -> None:
        while True:
            self._begun.wait()
            self._due.wait(TICK_SECONDS)
            # Cleared before the work: what is appended from here on sets them again.
            self._begun.clear()
            self._due.clear()
            if self._stopped:
                return
            try:
                with self._ticking:
                    stream = self._once(force=False)
                self._after(stream)
            except Exception as error:  # without this thread nothing is synced or signed any more
                self._failed(error)

    def _once(self, *, force: bool) -> LiveStream | None:
        """One sync, and one head where it is due. Raises nothing but what no part of it is known to raise."""
        waiting: list[Callable[[bool], None]] = []
        done = False
        stream: LiveStream | None = None
        try:
            with self._lock:
                stream = self._stream()
                waiting, self._waiting = self._waiting, waiting
                if stream is None:
                    return None
                position = stream.position
                stream.reached = position.number
                sync = stream.writer.start_sync()
            done = sync is None or stream.writer.run_sync(sync)
            with self._lock:
                if done:
                    stream.synced = max(stream.synced, position.number)
                if sync is not None:
                    stream.writer.finish_sync(sync)
        except OSError as error:
            self._failed(error)
        finally:
            for call in waiting:
                call(done)
        if stream is None:
            return None
        if not done:
            warn_operator(f"the spool {self._place} could not be synced; its records are written again", once="sync")
            self.soon()
            return stream
        try:
            self._sign(stream, position, force=force)
        except Exception as error:  # whatever a signer may raise, delivery goes on
            self._failed(error)
        return stream

    def _sign(self, stream: LiveStream, position: Position, *, force: bool) -> None:
        if position.number > stream.signed and (force or self._head_due(position.number - stream.signed)):
            self._add_head(stream, position)
            with self._lock:
                stream.signed = position.number
                if stream.position.number > position.number:
                    self.soon()
        if not stream.writer.refill_reserve():
            warn_operator(f"the disk of {self._place} is full: the reserve is used up", once="reserve")

    def _add_head(self, stream: LiveStream, position: Position) -> None:
        """Sign what is synced. Raises OSError, and what a signer raises."""
        line = heads.sign(position, stream.signer, now=self._now()).line
        try:
            stream.writer.append_head(line)
        except OSError as error:
            if error.errno != errno.ENOSPC or not stream.writer.free_reserve():
                raise
            stream.writer.append_head(line)

    def _head_due(self, unsigned: int) -> bool:
        """Whether so many records want a head: syncs for waiting requests come far more often than heads."""
        now = time.monotonic()
        if unsigned >= TICK_RECORDS or now >= self._next_head:
            self._next_head = now + TICK_SECONDS
            return True
        self.soon()
        return False

    def _failed(self, error: Exception) -> None:
        what = (error.strerror or "an error") if isinstance(error, OSError) else type(error).__name__
        warn_operator(f"the spool {self._place} fails ({what}); trying again", once=f"tick {what}")
        self.soon()
