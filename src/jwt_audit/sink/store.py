"""Appends lines durably, many requests in one sync.

Invariant: what was confirmed is on the disk. A line is confirmed after its file's fdatasync. A file that
somebody moves away (log rotation) or removes is followed by a new one of its name; nothing is confirmed
that went into a removed one, or that would have gone into a file of somebody else (see `files`).
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

from ..diagnostics import warn_operator
from ..errors import SpoolError
from ..spool import durable
from .files import OwnFile, gone

_Done = Callable[[OSError | None], None]


class Store:
    """The files of one directory, written by one thread, so that no event loop waits for the disk."""

    def __init__(self, directory: Path, names: tuple[str, ...]) -> None:
        """Open or make them.

        Raises SpoolError where that cannot be, where another sink writes, or where a file is somebody else's.
        """
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._directory = directory
            lock = durable.Lock.take(directory / "lock")
            if lock is None:
                raise SpoolError(f"another sink is writing to {directory}")
            self._lock = lock
            self._files: dict[str, OwnFile] = {}
            try:
                for name in names:
                    self._files[name] = OwnFile(directory / name)
                durable.sync_directory(directory)
            except BaseException:
                self._close()
                raise
        except OSError as error:
            raise SpoolError(f"cannot write to {directory} ({error.strerror})") from error
        self._queue: queue.SimpleQueue[tuple[Mapping[str, bytes], _Done] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="jwt-audit-sink", daemon=True)
        self._thread.start()

    def write(self, lines: Mapping[str, bytes], done: _Done) -> None:
        """Append each line to the file of its name, then call ``done`` in the store's thread, with what failed."""
        self._queue.put((lines, done))

    def close(self) -> None:
        """Write what is queued, and close."""
        self._queue.put(None)
        self._thread.join()
        self._close()

    def _close(self) -> None:
        for file in self._files.values():
            file.close()
        self._lock.close()

    def _look(self) -> None:
        """Raises OSError where the directory, or its lock, was removed: another sink may write there by now."""
        if not self._lock.named():
            warn_operator(
                f"{self._directory} was removed: nothing is stored until this is started again", once="removed"
            )
            raise gone()

    def _run(self) -> None:
        closing = False
        while not closing:
            waiting = [self._queue.get()]
            while not self._queue.empty():
                waiting.append(self._queue.get())
            closing = waiting[-1] is None
            group = [request for request in waiting if request is not None]
            failures: dict[str, OSError] = {}
            for name, file in self._files.items():
                data = b"".join(lines[name] for lines, _ in group if name in lines)
                if not data:
                    continue
                try:
                    self._look()
                    file.append(data)
                except OSError as error:
                    failures[name] = error
            for lines, done in group:
                done(next((failures[name] for name in lines if name in failures), None))
