"""A file that grows by whole lines, and of which it is always known how much of it a power loss spares.

Two things are never assumed. After a write that failed the file's end is unknown, until a truncate
has said otherwise: nothing is appended before. After a sync that failed the kernel may have dropped
what it covered, and would call the next sync a success: the file is made anew under its own name,
from what was synced and from memory. So a line stands in one file, once, and its place never changes.
"""

from __future__ import annotations

import errno
import os
from collections import deque
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from . import disk, durable

_COPY_BYTES = 1024 * 1024


class Mark(NamedTuple):
    """How far a file had come when a sync began: bytes, and lines that no earlier sync covers."""

    size: int
    lines: int


class AppendFile:
    """Made new, for one writer. Not safe for threads, but that `sync` and `prepare` may run beside an `append`."""

    def __init__(self, path: Path) -> None:
        """Make the file. It exists after a power loss once its directory was synced. Raises OSError."""
        self.path = path
        self.size = 0
        """Bytes of whole lines."""
        self.synced = 0
        """How many of them survive a power loss."""
        self.failed = False
        """A sync failed: `prepare` and `adopt` it, no other sync counts before."""
        self._unsynced: deque[bytes] = deque()
        self._clean = True
        self._fd = disk.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_EXCL)

    def append(self, line: bytes) -> None:
        """Write one whole line. When this returns, it survives ``kill -9``; once synced, a power loss.

        Raises OSError (a full disk among them), and then no reader finds the line after the next append.
        """
        if not self._clean:
            self.cut_back()
        try:
            written = disk.write(self._fd, line)
            if written != len(line):
                durable.write_all(self._fd, line[written:])
        except BaseException:
            self._clean = False
            try:
                self.cut_back()
            except OSError:
                pass  # the next append tries again, and takes nothing before
            raise
        self.size += len(line)
        self._unsynced.append(line)

    def cut_back(self) -> None:
        """Take away what a failed write may have left. Raises OSError."""
        if not self._clean:
            disk.truncate(self._fd, self.size)
            self._clean = True

    def mark(self) -> Mark:
        """Where it is now: to be handed to `covered` when a `sync` that began later went well."""
        return Mark(self.size, len(self._unsynced))

    def sync(self) -> None:
        """Wait until the disk has all that was appended. Raises OSError: then set ``failed``."""
        disk.datasync(self._fd)

    def covered(self, mark: Mark) -> None:
        """All up to ``mark`` survives a power loss."""
        self.synced = mark.size
        for _ in range(mark.lines):
            self._unsynced.popleft()

    def unsynced(self) -> list[bytes]:
        """The lines that no sync covers."""
        return list(self._unsynced)

    def prepare(self, lines: list[bytes]) -> int:
        """After a sync that failed: a synced copy under another name, with ``lines``, which were unsynced then.

        Appends may go on meanwhile. Returns its descriptor, for `adopt`. Raises OSError.
        """
        temporary = self._temporary
        fd = disk.open(temporary, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_TRUNC)
        try:
            done = 0
            while done < self.synced:
                part = disk.pread(self._fd, min(_COPY_BYTES, self.synced - done), done)
                if not part:
                    raise OSError(errno.EIO, f"{self.path.name} has become shorter")
                durable.write_all(fd, part)
                done += len(part)
            for line in lines:
                durable.write_all(fd, line)
            disk.fsync(fd)
        except BaseException:
            self._leave(fd)
            raise
        return fd

    def adopt(self, fd: int, count: int) -> None:
        """Put what `prepare` made, of ``count`` unsynced lines, in the file's place, with what came since.

        A crash at any moment leaves the old file or the new one under the name, with the same lines;
        its directory is to be synced before a sync of it counts. Raises OSError, and then the old file
        stands.
        """
        try:
            for line in islice(self._unsynced, count, None):
                durable.write_all(fd, line)
            disk.rename(self._temporary, self.path)
        except BaseException:
            self._leave(fd)
            raise
        old, self._fd = self._fd, fd
        self._clean, self.failed = True, False
        disk.close(old)

    @property
    def _temporary(self) -> Path:
        return self.path.with_name(f".{self.path.name}.new")

    def _leave(self, fd: int) -> None:
        disk.close(fd)
        durable.discard(self._temporary)

    def removed(self) -> bool:
        """Whether the file has lost its name: its bytes go with the descriptor. Raises OSError."""
        return disk.fstat(self._fd).st_nlink == 0

    def close(self) -> None:
        if self._fd >= 0:
            disk.close(self._fd)
            self._fd = -1
