"""Looks after a spool whose records stay where they are (ENDPOINT=none): nothing is sent, retention goes on.

Invariants: no cursor moves, so what is still there is delivered once an endpoint is set. Only what the
operator has set, age and size, removes a record, and an ``audit.stream.pruned`` record says which; never
a living stream's last segment. A shipper goes first: while a sidecar has the spool, this does nothing.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from ..errors import JWTAuditError
from ..spool import durable
from ..spool.durable import LockState
from ..spool.spool import Spool
from ..spool.stream import Cursor, Stream
from .deadletter import Emit, Settle
from .prune import Pruner
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
        self._warn_operator = warn_operator
        self._turn = Turn(spool, sidecar=False, limit=limit)
        self._pruner = Pruner(
            spool, emit, settle, cursor=removable, retention=retention, limit=limit, now=now, kind="local"
        )
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
            self._turn.give_back()
        if self._turn.held or self._turn.take():
            self._pruner.run(self._spool.streams())


def removable(stream: Stream) -> Cursor:
    """How far retention may go in a stream that is not to be delivered: not into its last segment while that may
    still be written. Of one that is over, the whole goes with its last segment. Raises SpoolError.
    """
    over = stream.writer() is LockState.FREE  # asked before listing: what a writer left is then all there is
    segments = stream.segments()
    if over and sum(1 for path in segments if durable.size(path)) < 2:
        return Cursor(done=True)
    return Cursor(segment=segments[-1].name if segments else "")
