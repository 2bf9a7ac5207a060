"""Whose turn it is to ship a spool: one process at a time, and a sidecar before an app's own thread.

Two locks, both freed by the kernel at any kind of death. ``ship.lock`` is held by the one that ships.
A sidecar holds ``sidecar.lock`` besides, for as long as it lives: while that is held no app's thread
takes the turn, and one that has it gives it back between two requests. So it does not matter which
of them was started first.
"""

from __future__ import annotations

import os
import socket
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import orjson

from ..errors import SpoolError
from ..spool import durable
from ..spool.durable import Lock, LockState
from ..spool.spool import Spool


@dataclass(frozen=True, slots=True)
class Holder:
    """Who ships, by its own word in ``ship.lock``; nothing relies on it. ``since`` in nanoseconds, ``limit`` bytes."""

    pid: int = 0
    host: str = ""
    role: str = ""
    """``sidecar`` or ``app``."""
    since: int = 0
    limit: int = 0
    """The spool's size limit, as the holder was told it."""

    @property
    def shown(self) -> str:
        """Who that is, for people."""
        if not self.role:
            return "a process"
        name = "jwt-audit ship" if self.role == "sidecar" else "a process of the app"
        return f"{name} (pid {self.pid} on {self.host})"


def holder(root: Path) -> Holder | None:
    """Who ships the spool ``root`` now, or None. Takes and changes nothing. Raises SpoolError."""
    path = root / "ship.lock"
    state = Lock.state(path)
    if state is LockState.UNKNOWN:
        raise SpoolError(f"cannot tell whether {path} is held")
    if state is LockState.FREE:
        return None
    try:
        return Holder(**orjson.loads(durable.read(path)))
    except (OSError, TypeError, ValueError):
        return Holder()  # it took the lock a moment ago, or its disk is full


class Turn:
    """One process's claim to ship a spool. For one thread, but `held`."""

    def __init__(self, spool: Spool, *, sidecar: bool, limit: int) -> None:
        self._spool = spool
        self._sidecar = sidecar
        self._limit = limit
        self._first: Lock | None = None
        self._lock: Lock | None = None

    @property
    def held(self) -> bool:
        """Whether it is this process's turn."""
        return self._lock is not None

    def take(self) -> bool:
        """Try once; True when it is this process's turn. Raises OSError."""
        if self._sidecar and self._first is None:
            self._first = self._spool.take_sidecar_lock()
        if (self._first is not None) if self._sidecar else self._spool.sidecar() is LockState.FREE:
            self._lock = self._spool.take_ship_lock()
        if self._lock is None:
            return False
        role = "sidecar" if self._sidecar else "app"
        found = Holder(os.getpid(), socket.gethostname(), role, time.time_ns(), self._limit)
        try:
            self._lock.note(orjson.dumps(asdict(found)))
        except OSError:
            pass  # a full disk: who ships is then not told
        return True

    def wanted(self) -> bool:
        """Whether this process is to give its turn back: to a sidecar that waits, or since its lock was removed.

        Where that cannot be told it keeps it.
        """
        if any(lock is not None and not lock.named() for lock in (self._lock, self._first)):
            return True
        return not self._sidecar and self._spool.sidecar() is LockState.HELD

    def give_back(self) -> None:
        """Let another ship, until the next `take`. A sidecar stays before the apps."""
        if self._first is not None and not self._first.named():
            self._first.close()
            self._first = None
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def close(self) -> None:
        """Give up all claims; also in a forked child, where this unlocks nothing of the parent's."""
        self.give_back()
        if self._first is not None:
            self._first.close()
            self._first = None
