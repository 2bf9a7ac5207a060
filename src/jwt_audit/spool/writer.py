"""Writes one stream: its segments, its heads, and the disk space kept back for it.

What survives: an appended record ``kill -9``, a synced one a power loss. A sync that fails breaks its
segment: it is not tried again on that file, since the kernel may have dropped the pages and would
call the next one a success. A new segment follows, and the records that were not yet synced are
written again, from memory; so two segments may overlap, and the later one counts.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections import deque
from dataclasses import dataclass
from pathlib import Path

from ..errors import SpoolError
from . import durable
from .segment import SegmentWriter, segment_name

SEGMENT_BYTES = 16 * 2**20
RESERVE_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True)
class Sync:
    """A sync under way: the descriptors it works on, how many records it covers."""

    fds: tuple[int, ...]
    upto: int
    retired: int
    new_name: bool


class StreamWriter:
    """Appends to one stream. Not safe for threads: the recorder's lock orders the calls.

    A sync is three steps, so that no append waits for the disk: `start_sync` and `finish_sync` under
    the lock, `run_sync` outside.
    """

    def __init__(self, path: Path, *, reserve: bool) -> None:
        """Make the stream's directory, lock and ``heads``. Raises OSError, and holds nothing then.

        Under a hidden name first: whoever sees the stream finds its lock held, not a stream that
        looks dead because it is just being born.
        """
        hidden = path.with_name(f".{path.name}")
        hidden.mkdir(mode=0o700)
        lock = durable.Lock.take(hidden / "lock")
        if lock is None:
            raise SpoolError(f"the stream {path.name} has a writer already")
        self.path = path
        self._lock = lock
        self._heads = self._reserve = -1
        self._heads_size = 0
        self._index = 0
        self._segment: SegmentWriter | None = None
        self._retired: list[SegmentWriter] = []
        self._appended = 0
        self._unsynced: deque[bytes] = deque()
        self._new_name = True
        self.has_reserve = False
        self.bytes = 0
        """All that was written, for the spool's size limit."""
        try:
            self._heads = os.open(hidden / "heads", os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
            if reserve:
                self._reserve = os.open(hidden / "reserve", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
            hidden.rename(path)  # a stream of that name is never empty, so this replaces none
        except OSError:
            self.close()
            raise
        self.refill_reserve()

    def append(self, payload: bytes, digest: str) -> int:
        """Write one record's line; returns how many were appended, to be compared with a sync's.

        It survives ``kill -9`` when this returns, a power loss after a sync that covers it. Raises
        OSError, and then the record is in no file that counts.
        """
        line = b"%b\t%b\n" % (payload, digest.encode("ascii"))
        segment = self._segment
        if segment is None or segment.broken or segment.size >= SEGMENT_BYTES:
            segment = self._next_segment()
        segment.append(line)
        self._unsynced.append(line)
        self._appended += 1
        self.bytes += len(line)
        return self._appended

    def _next_segment(self) -> SegmentWriter:
        old = self._segment
        new = SegmentWriter(self.path / segment_name(self._index + 1))
        self._index += 1
        self._new_name = True  # its directory entry is synced with the next sync, before any head covers it
        self._segment = new
        if old is not None and not old.broken:
            self._retired.append(old)
        elif old is not None:
            old.close()
            self._drop_retired(len(self._retired))
            try:
                for line in self._unsynced:
                    new.append(line)
            except OSError:
                new.broken = True  # it lacks lines: the next try begins another one
                raise
        return new

    def _drop_retired(self, count: int) -> None:
        for segment in self._retired[:count]:
            segment.close()
        del self._retired[:count]

    def start_sync(self) -> Sync | None:
        """What to sync now, or None when nothing is unsynced. Under the lock. Raises OSError."""
        if self._segment is None or not self._unsynced:
            return None
        if self._segment.broken:
            self._next_segment()
        fds = tuple(segment.duplicate() for segment in (*self._retired, self._segment))
        sync = Sync(fds, self._appended, len(self._retired), self._new_name)
        self._new_name = False
        return sync

    def run_sync(self, sync: Sync) -> bool:
        """Wait for the disk, outside the lock. False when it failed."""
        try:
            for fd in sync.fds:
                os.fdatasync(fd)
            if sync.new_name:
                durable.sync_directory(self.path)
                durable.sync_directory(self.path.parent)
        except OSError:
            return False
        finally:
            for fd in sync.fds:
                os.close(fd)
        return True

    def finish_sync(self, sync: Sync, *, done: bool) -> None:
        """Forget what a successful sync made safe; after a failed one the next append begins anew. Under the lock."""
        if not done:
            if self._segment is not None:
                self._segment.broken = True
            return
        self._drop_retired(sync.retired)
        for _ in range(len(self._unsynced) - (self._appended - sync.upto)):
            self._unsynced.popleft()

    def append_head(self, line: bytes) -> None:
        """Write a signed head, synced: only after a sync, so that it never covers what may be lost."""
        written = os.write(self._heads, line)
        if written != len(line):
            os.ftruncate(self._heads, self._heads_size)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._heads_size += written
        self.bytes += written
        os.fdatasync(self._heads)

    def gone(self) -> bool:
        """Whether somebody has removed the files that this writes to: what is appended then is lost."""
        segment = self._segment
        return not self.path.exists() if segment is None else segment.removed()

    def discard(self) -> None:
        """Close and remove a stream that holds no record: it could not even take the first."""
        self.close()
        shutil.rmtree(self.path, ignore_errors=True)

    def free_reserve(self) -> bool:
        """Give the kept disk space back to the file system, once: for the requests under way."""
        if not self.has_reserve:
            return False
        self.has_reserve = False
        os.ftruncate(self._reserve, 0)
        return True

    def refill_reserve(self) -> bool:
        """Take the reserve; False while the disk is too full for it."""
        if self._reserve >= 0 and not self.has_reserve:
            try:
                os.posix_fallocate(self._reserve, 0, RESERVE_BYTES)
                self.has_reserve = True
            except OSError:
                return False
        return True

    def close(self) -> None:
        """Close the files; in a forked child too, where this must unlock nothing of the parent's."""
        self._drop_retired(len(self._retired))
        if self._segment is not None:
            self._segment.close()
        for fd in (self._heads, self._reserve):
            if fd >= 0:
                os.close(fd)
        self._heads = self._reserve = -1
        self._lock.close()
