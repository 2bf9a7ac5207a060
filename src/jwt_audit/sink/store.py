"""Appends lines durably, many requests in one sync.

Invariant: what was confirmed is on the disk. A line is confirmed after its file's fdatasync; what a
crash leaves behind beyond that was never confirmed, and is cut off when the store opens again. A file
that somebody moves away (log rotation) or removes is followed by a new one of its name; nothing is
confirmed that went into a removed one.
"""

from __future__ import annotations

import errno
import os
import queue
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

import orjson

from ..diagnostics import tell
from ..errors import SpoolError
from ..spool import durable

_Done = Callable[[OSError | None], None]


class _File:
    def __init__(self, path: Path) -> None:
        self.path = path
        self._open()
        self._cut_torn_tail()

    def _open(self) -> None:
        self.fd = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self.size = os.fstat(self.fd).st_size
        self._dirty = False

    def _keep_name(self) -> None:
        """Go on in a new file where this one no longer has its name."""
        try:
            if os.path.samestat(self.path.stat(), os.fstat(self.fd)):
                return
        except FileNotFoundError:
            pass
        before = self.fd
        self._open()
        os.close(before)
        durable.sync_directory(self.path.parent)

    def _cut_torn_tail(self) -> None:
        """Cut what is no whole line of JSON at the end: a write that a crash interrupted, never confirmed."""
        size = self.size
        while size:
            start = self._line_start(size)
            line = os.pread(self.fd, size - start, start)
            if line.endswith(b"\n") and _is_json(line):
                break
            size = start
        if size != self.size:
            tell(f"{self.path}: cut {self.size - size} bytes of a write that was interrupted before it was confirmed")
            self.cut_back(size)

    def _line_start(self, end: int) -> int:
        """Where the line that ends before ``end`` starts."""
        position = end - 1  # the newline at the very end, if there is one, ends this line
        while position > 0:
            start = max(0, position - 65536)
            found = os.pread(self.fd, position - start, start).rfind(b"\n")
            if found >= 0:
                return start + found + 1
            position = start
        return 0

    def append(self, data: bytes) -> None:
        """Write and sync. Raises OSError, and then nothing of it is left."""
        self._keep_name()
        if self._dirty:
            self.cut_back(self.size)
        self._dirty = True
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(self.fd, view) :]
            os.fdatasync(self.fd)
            if not os.fstat(self.fd).st_nlink:  # removed meanwhile
                raise _gone()
        except OSError:
            self.cut_back(self.size)
            raise
        self.size += len(data)
        self._dirty = False

    def cut_back(self, size: int) -> None:
        os.ftruncate(self.fd, size)
        self.size = size
        self._dirty = False


def _gone() -> OSError:
    return OSError(errno.ENOENT, os.strerror(errno.ENOENT))


def _is_json(line: bytes) -> bool:
    try:
        orjson.loads(line)
    except orjson.JSONDecodeError:
        return False
    return True


class Store:
    """The files of one directory, written by one thread, so that no event loop waits for the disk."""

    def __init__(self, directory: Path, names: tuple[str, ...]) -> None:
        """Open or make them. Raises SpoolError where that cannot be, or where another sink writes there."""
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._directory = directory
            lock = durable.Lock.take(directory / "lock")
            if lock is None:
                raise SpoolError(f"another sink is writing to {directory}")
            self._lock = lock
            self._files = {name: _File(directory / name) for name in names}
            durable.sync_directory(directory)
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
        for file in self._files.values():
            os.close(file.fd)
        self._lock.close()

    def _look(self) -> None:
        """Raises OSError where the directory, or its lock, was removed: another sink may write there by now."""
        if not self._lock.named():
            tell(f"{self._directory} was removed: nothing is stored until this is started again", once="removed")
            raise _gone()

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
