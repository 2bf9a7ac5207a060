"""Keeps slow senders from taking the sink away from the others.

uvicorn bounds neither the time in which a request arrives nor the connections that wait for one. So
here: a request arrives within `SECONDS`, head and body together; at most `MAX_CONNECTIONS` are open; at
most `MAX_ARRIVING` bytes of requests that have not arrived whole are in memory. Where one of the last two
is exceeded, the sender goes that has kept the sink waiting longest: so there is always room for one that
sends at once.
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

from ..diagnostics import warn_operator

SECONDS = 15.0
MAX_CONNECTIONS = 128
MAX_ARRIVING = 16 * 2**20
MAX_HEAD = 16 * 1024
"""Bytes of a request's head."""


class Waiting:
    """The connections on whose senders the sink waits, the longest first, and the bytes that they have sent."""

    def __init__(self) -> None:
        self._arrived: dict[GuardedProtocol, int] = {}
        self._timers: dict[GuardedProtocol, asyncio.TimerHandle] = {}
        self._total = 0
        self._open = 0

    def opened(self, one: GuardedProtocol) -> None:
        """Count a connection and begin to wait for its first request."""
        self._open += 1
        self.begin(one)
        if self._open > MAX_CONNECTIONS:
            self._drop(next(iter(self._arrived)))

    def closed(self, one: GuardedProtocol) -> None:
        self._open -= 1
        self.end(one)

    def begin(self, one: GuardedProtocol) -> None:
        """From now on its sender has `SECONDS` for a whole request."""
        self.end(one)
        self._arrived[one] = 0
        self._timers[one] = one.loop.call_later(SECONDS, self._drop, one)

    def arrived(self, one: GuardedProtocol, size: int) -> None:
        """``size`` bytes came."""
        if one in self._arrived:
            self._arrived[one] += size
            self._total += size
            while self._total > MAX_ARRIVING:
                self._drop(next(each for each, sent in self._arrived.items() if sent))

    def end(self, one: GuardedProtocol) -> None:
        """Its request is whole, or it is gone."""
        self._total -= self._arrived.pop(one, 0)
        timer = self._timers.pop(one, None)
        if timer is not None:
            timer.cancel()

    def _drop(self, one: GuardedProtocol) -> None:
        began = one.began
        self.end(one)
        one.transport.abort()
        if began:  # a connection that is kept open between requests does no harm and is no fault
            warn_operator("a sender was too slow and was disconnected (this is told once)", once="slow-sender")


class GuardedProtocol(H11Protocol):
    """uvicorn's HTTP/1.1, watched by `Waiting`. ``began`` is True once a byte of the awaited request is there."""

    waiting: Waiting

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's own
        super().connection_made(transport)
        self.began = False
        self.waiting.opened(self)

    def data_received(self, data: bytes) -> None:
        if not self.began:
            self.began = True
            self.waiting.begin(self)
        self.waiting.arrived(self, len(data))
        if self.transport.is_closing():
            return
        super().data_received(data)
        self._settle()

    def on_response_complete(self) -> None:
        self.began = False
        self.waiting.begin(self)
        super().on_response_complete()  # which may begin a request that has arrived already
        self._settle()

    def connection_lost(self, exc: Exception | None) -> None:
        self.waiting.closed(self)
        super().connection_lost(exc)

    def _settle(self) -> None:
        cycle = self.cycle
        if cycle is not None and not cycle.response_complete:
            self.began = True
            if not cycle.more_body:
                self.waiting.end(self)  # now it is the sender that waits


def guarded() -> type[Any]:
    """A protocol class for one server."""
    return type("GuardedProtocol", (GuardedProtocol,), {"waiting": Waiting()})
