"""Looks after a spool whose records stay where they are (ENDPOINT=none): nothing is sent, retention goes on.

Invariants: no cursor moves, so what is still there is delivered once an endpoint is set. Only what the
operator has set, age and size, removes a record, and an ``audit.stream.pruned`` record says which; never
a living stream's last segment. Where a killed process's stream broke off is stated, as a shipper does:
else it looks as if its end had been cut off. A shipper goes first: while a sidecar has the spool, this
does nothing.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from ..errors import JWTAuditError, SpoolError
from ..spool import durable
from ..spool.durable import LockState
from ..spool.spool import Spool
from ..spool.stream import Cursor, Stream
from ..stream_ends import last_of_stream
from .deadletter import Emit, Settle
from .prune import Pruner
from .recovery import state_end
from .turn import Turn

_LOOK_SECONDS = 1.0
"""Between two passes, at least: what a busy app writes must not fill the spool meanwhile."""
_SHARE = 5
"""So many times as long as a pass took is the time to the next one, where there are very many streams."""


class Keeper:
    """Keeps one spool within its bounds, in a thread of its own. Stands where a `Shipper` would."""

    def __init__(
        self,
        spool: Spool,
        *,
        emit: Emit,
        settle: Settle,
        warn_operator: Callable[..., None],
        retention: float,
        limit: int,
        now: Callable[[], float] = time.time,
    ) -> None:
        """``emit``, ``settle`` and ``warn_operator`` are as `Shipper` has them; ``retention`` is seconds since a
        segment's last write, ``limit`` bytes of the spool.
        """
        self._spool = spool
        self._emit = emit
        self._settle = settle
        self._warn_operator = warn_operator
        self._turn = Turn(spool, sidecar=False, limit=limit)
        self._pruner = Pruner(
            spool, emit, settle, cursor=removable, retention=retention, limit=limit, now=now, kind="local"
        )
        self._over: set[str] = set()
        """The streams of which nothing is to be stated any more."""
        self._stated: dict[str, tuple[Stream, int]] = {}
        """Those of which it is stated, but not noted yet, with their last record."""
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Work in a daemon thread from now on, as soon as no other process does."""
        self._thread = threading.Thread(target=self._run, name="jwt-audit-keep", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """Something was written: no reason to hurry here."""

    def stop(self, timeout: float) -> bool:
        """End, within ``timeout`` seconds; True, since nothing is to be delivered. Safe to call twice."""
        self._stopped.set()
        if self._thread is not None:
            self._thread.join(timeout)
        return True

    def abandon(self) -> None:
        """In a forked child, where the thread does not exist: close the locks' files, unlock nothing."""
        self._turn.close()

    def _run(self) -> None:
        try:
            while not self._stopped.is_set():
                begun = time.monotonic()
                try:
                    self.once()
                except Exception as error:  # neither the disk nor a mistake of ours must end retention for good
                    known = isinstance(error, (OSError, JWTAuditError))
                    what = str(error) if known else f"a failure ({type(error).__name__})"
                    self._warn_operator(
                        f"retention in {self._spool.root} met {what}; it goes on", once=f"keeper {what}"
                    )
                self._stopped.wait(max(_LOOK_SECONDS, _SHARE * (time.monotonic() - begun)))
        finally:
            self._turn.close()

    def once(self) -> None:
        """One pass, where it is this process's turn. Raises OSError or SpoolError."""
        if self._turn.held and self._turn.wanted():
            self._pruner.forget()
            self._over.clear()
            self._stated.clear()
            self._turn.give_back()
        if not (self._turn.held or self._turn.take()):
            return
        streams = self._spool.streams()
        failures = self._state_ends(streams)
        self._pruner.run(streams)
        if failures:
            raise failures[0]

    def _state_ends(self, streams: list[Stream]) -> list[Exception]:
        """State of each stream that a dead process left where it broke off; what failed, and is tried again.

        What is stated is noted once it is signed; a crash in between leads to a second statement, never to none.
        """
        failures: list[Exception] = []
        self._over.intersection_update({stream.id for stream in streams})
        for stream in streams:
            if stream.id in self._over or stream.id in self._stated:
                continue
            try:
                self._state_end(stream)
            except (OSError, JWTAuditError) as error:
                if not stream.gone():
                    failures.append(error)
        if self._stated and not self._settle():
            failures.append(SpoolError("where killed processes broke off could not be stated under a signature"))
            return failures
        for stream, number in list(self._stated.values()):
            try:
                stream.note_recovered(number)
            except OSError as error:
                if not stream.gone():
                    failures.append(error)
                    continue
            del self._stated[stream.id]
            self._over.add(stream.id)
        return failures

    def _state_end(self, stream: Stream) -> None:
        """Raises OSError, JWTAuditError."""
        if stream.writer() is not LockState.FREE:
            return
        if not (stream.recovered() or stream.cursor().done):
            stream.secure()
            last = last_of_stream(stream)
            if not last.ended and state_end(stream, self._emit, number=last.number, digest=last.hash):
                self._stated[stream.id] = stream, last.number
                return
        self._over.add(stream.id)


def removable(stream: Stream) -> Cursor:
    """How far retention may go in a stream that is not to be delivered: not into its last segment while that may
    still be written. Of one that is over, the whole goes with its last segment. Raises SpoolError.
    """
    over = stream.writer() is LockState.FREE  # asked before listing: what a writer left is then all there is
    segments = stream.segments()
    if over and sum(1 for path in segments if durable.size(path)) < 2:
        return Cursor(done=True)
    return Cursor(segment=segments[-1].name if segments else "")
