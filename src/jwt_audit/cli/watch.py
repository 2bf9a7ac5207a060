"""What a person at the terminal sees of delivery: a line, or a bar where the end is known."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ..errors import JWTAuditError
from ..ship.answers import Action
from ..ship.deliver import Attempt
from .quantities import counted, size_text

_REFRESH_SECONDS = 1.0


class Watch:
    """Counts what is acknowledged, heads among it. Called by the shipper's thread, read by another."""

    def __init__(self) -> None:
        self.records = 0
        self.last = 0.0
        """When the last request was made, in monotonic seconds."""

    def observe(self, attempt: Attempt) -> None:
        """Take note of one request that was made."""
        self.last = time.monotonic()
        if attempt.action is Action.ACK:
            self.records += attempt.records


@contextmanager
def watching(left: Callable[[], tuple[int, int]], watch: Watch, *, whole: int | None) -> Iterator[None]:
    """Show on standard error how delivery goes, where that is a terminal.

    ``left`` gives the bytes that wait and in how many streams; ``whole``, where the end is known, the
    bytes that are to be delivered.
    """
    if not sys.stderr.isatty():
        yield
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    bar = () if whole is None else (BarColumn(), TimeRemainingColumn())
    columns = ("{task.description}", *bar, TextColumn("{task.fields[waits]}"))
    ended = threading.Event()

    def refresh() -> None:
        size = streams = 0
        while True:
            try:
                size, streams = left()
            except (OSError, JWTAuditError):
                pass  # it cannot be told now: what was seen last is shown
            rest = f"{size_text(size)} wait in {counted(streams, 'stream')}" if size else "nothing waits"
            progress.update(
                task,
                description=f"{watch.records} log records delivered",
                completed=None if whole is None else max(0, whole - size),
                waits=rest,
            )
            if ended.wait(_REFRESH_SECONDS):
                return

    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=whole, waits="")
        thread = threading.Thread(target=refresh, daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
