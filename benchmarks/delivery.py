"""Delivered records a second: from the first record written to the last one arrived at the sink.

Beside an idle thread, and beside one that computes without a pause: then every hand-over of the
interpreter's lock costs up to 5 ms. The SDK's queue is made large enough to drop nothing.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

from . import append
from .figures import Figure, quantile
from .workers import running_sink


def subject(**options: Any) -> Pipeline:
    return Pipeline(append.subject(**options))


class Pipeline:
    """An emitter, and a thread that may be busy beside it."""

    def __init__(self, emitter: append.Emitter) -> None:
        self._emitter = emitter
        self._stop = threading.Event()
        self._busy: threading.Thread | None = None

    def run(self, count: int, busy: bool = False) -> dict[str, Any]:
        if busy and self._busy is None:
            self._busy = threading.Thread(target=self._compute, daemon=True)
            self._busy.start()
        begun = time.monotonic()
        self._emitter.run(count)
        self._emitter.flush()
        return {"begun": begun}

    def _compute(self) -> None:
        while not self._stop.is_set():
            sum(range(1000))

    def flush(self) -> None:
        """The thread becomes idle: what a round produced has arrived."""
        if self._busy is not None:
            self._stop.set()
            self._busy.join()
            self._stop.clear()
            self._busy = None


def run(quick: bool) -> Iterator[Figure]:
    """A ratio for each kind of neighbour."""
    rounds, count = (3, 1000) if quick else (9, 8000)
    with running_sink() as sink, ExitStack() as stack:
        variants = [append.Variant(name, stack, sink, count, module="delivery") for name in append.VARIANTS]
        for busy in (False, True):
            size = count // 4 if busy else count
            for variant in variants:
                _rate(variant, size, busy=busy)
            found = [[_rate(variant, size, busy=busy) for variant in variants] for _ in range(rounds)]
            sdk, ours = (quantile([one[n] for one in found], 0.5) for n in range(2))
            yield Figure(
                "delivery",
                f"delivered beside {'a busy' if busy else 'an idle'} thread",
                "x SDK's",
                1.0,
                [ours / sdk for sdk, ours in found],
                f"SDK {sdk:,.0f} records/s, audit {ours:,.0f} records/s; {size:,} a round, none lost",
                at_least=True,
            )


def _rate(variant: append.Variant, count: int, *, busy: bool) -> float:
    begun = variant.worker.run(count, busy=busy)["begun"]
    rate: float = count / (variant.arrived(count) - begun)
    variant.worker.flush()
    return rate
