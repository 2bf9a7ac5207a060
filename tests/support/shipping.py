"""A shipper in the test's own process, with all that it says recorded."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path

from jwt_audit.attributes import Value
from jwt_audit.errors import SpoolError
from jwt_audit.ship.deliver import Attempt
from jwt_audit.ship.http import Endpoint
from jwt_audit.ship.shipper import Shipper
from jwt_audit.spool.spool import Spool


class Shipping:
    """What a shipper emitted, told and attempted. ``refuse`` makes its own stream take no record."""

    def __init__(self) -> None:
        self.emitted: list[tuple[str, dict[str, Value], str]] = []
        self.told: list[str] = []
        self.attempts: list[Attempt] = []
        self.refuse = False
        self.shipper: Shipper

    def emit(self, event: str, attributes: Mapping[str, Value], body: str) -> None:
        if self.refuse:
            raise SpoolError("the spool has reached its limit")
        self.emitted.append((event, dict(attributes), body))

    def settle(self) -> bool:
        return not self.refuse

    def warn_operator(self, message: str, *, once: str | None = None) -> None:
        if message not in self.told or once is None:
            self.told.append(message)

    def events(self, event: str) -> list[dict[str, Value]]:
        return [attributes for name, attributes, _ in self.emitted if name == event]


@contextmanager
def shipping(
    root: Path,
    url: str,
    *,
    protocol: str = "http/protobuf",
    retention: float = 3600,
    limit: int = 2**30,
    timeout: float = 5,
    now: Callable[[], float] = time.time,
    headers: tuple[tuple[str, str], ...] = (),
    sidecar: bool = False,
) -> Iterator[Shipping]:
    """A started shipper; stopped in the end."""
    found = Shipping()
    found.shipper = Shipper(
        Spool(root),
        Endpoint(url, protocol, headers, timeout=timeout),
        emit=found.emit,
        settle=found.settle,
        suppress=nullcontext,
        warn_operator=found.warn_operator,
        retention=retention,
        limit=limit,
        poll=0.02,
        observe=found.attempts.append,
        now=now,
        sidecar=sidecar,
    )
    found.shipper.start()
    try:
        yield found
    finally:
        found.shipper.stop(10)
