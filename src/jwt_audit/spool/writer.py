"""Writes one stream: its segments, its heads, and the disk space kept back for it.

What survives: an appended record ``kill -9``, a synced one a power loss. Where a sync fails, the next
one makes the segment anew under its own name (see `appendfile`); and a segment is followed by another
only when all of it is synced. So each record stands in one place, and a power loss takes an end of
what was written, never something before what it leaves.

How far the stream is synced is said in its ``lock`` file, for the shipper: it may be another process,
and the receiver must never know more than the disk.
"""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from pathlib import Path

from ..errors import SpoolError
from . import disk, durable
from .appendfile import AppendFile, Mark
from .segment import SEGMENT_BYTES, segment_name
from .stream import Extent

RESERVE_BYTES = 256 * 1024
UNSYNCED_BYTES = 64 * 2**20
"""So much may wait for a disk that does not sync: it is kept in memory, too."""


@dataclass(slots=True)
class Sync:
    """A sync under way: what of the segment it covers, and how many new names are in the directories."""

    file: AppendFile | None
    mark: Mark
    names: int
    lines: list[bytes] | None
    """Where an earlier sync failed: what was not synced, to be written anew."""
    prepared: int = -1
    synced: bool = False
    failed: bool = False


class StreamWriter:
    """Appends to one stream. Not safe for threads: the recorder's lock orders the calls.

    A sync is three steps, so that no append waits for the disk: `start_sync` and `finish_sync` under
    the lock, `run_sync` outside. Only one is under way at a time. All descriptors that it needs are
    opened when the stream begins: a process that runs out of them can still sync, sign and end.
    """

    def __init__(self, path: Path, *, segment_bytes: int | None = None) -> None:
        """Make the stream's directory, lock and ``heads``. Raises OSError, and holds nothing then.

        Under a hidden name first: whoever sees the stream finds its lock held, not a stream that
        looks dead because it is just being born.
        """
        hidden = path.with_name(f".{path.name}")
        disk.mkdir(hidden, 0o700)
        lock = durable.Lock.take(hidden / "lock")
        if lock is None:
            raise SpoolError(f"the stream {path.name} has a writer already")
        self.path = path
        self._lock = lock
        self._segment_bytes = SEGMENT_BYTES if segment_bytes is None else min(segment_bytes, SEGMENT_BYTES)
        self._index = 0
        self._segment: AppendFile | None = None
        self._full = False
        """The segment has its size and is synced: the next record begins another."""
        self._extent = self._noted = Extent()
        self._names = self._names_synced = 0
        self._start_kept = False
        self._directories: list[int] = []
        self._reserve = -1
        self._heads: AppendFile | None = None
        self.has_reserve = False
        self.bytes = 0
        """All that was written, for the spool's size limit."""
        try:
            lock.note(self._extent.line)
            self._heads = AppendFile(hidden / "heads")
            self._reserve = disk.open(hidden / "reserve", os.O_WRONLY | os.O_CREAT)
            for directory in (hidden, path.parent, path.parent.parent):
                self._directories.append(disk.open(directory, os.O_RDONLY | os.O_DIRECTORY))
            disk.rename(hidden, path)  # a stream of that name is never empty, so this replaces none
        except BaseException:
            self.close()
            raise
        self._heads.path = path / "heads"
        self._names += 1
        self.refill_reserve()

    def append(self, payload: bytes, digest: str) -> None:
        """Write one record's line.

        It survives ``kill -9`` when this returns, a power loss after a sync that covers it. Raises
        OSError, and then the record is in no file that counts.
        """
        line = b"%b\t%b\n" % (payload, digest.encode("ascii"))
        segment = self._segment
        if segment is None or self._full:
            segment = self._next_segment()
        elif segment.size - segment.synced > UNSYNCED_BYTES:
            raise OSError(errno.EIO, f"nothing could be synced of the last {UNSYNCED_BYTES} bytes")
        segment.append(line)
        self.bytes += len(line)

    def _next_segment(self) -> AppendFile:
        old, self._full = self._segment, False
        try:
            new = AppendFile(self.path / segment_name(self._index + 1))
        except OSError:
            if old is None:
                raise
            return old  # no descriptor is to be had: this one takes more than its share
        if old is not None:
            old.close()
        self._index += 1
        self._names += 1
        self._segment = new
        return new

    def _keep_start(self) -> None:
        """Set the first record aside while there is room: retention of a full disk could not do it any more."""
        try:
            with disk.reader(self.path / segment_name(1)) as file:
                durable.create(self.path / "start", file.readline())
        except OSError:
            return  # the next sync tries again, and so does retention
        self._start_kept = True

    def start_sync(self) -> Sync | None:
        """What to sync now, or None when all is synced and said to be. Under the lock."""
        segment = self._segment
        if segment is not None:
            try:
                segment.cut_back()
            except OSError:
                segment.failed = True  # made anew it has no such end
        if segment is None or not (segment.failed or segment.size > segment.synced):
            return None if self._noted == self._extent else Sync(None, Mark(0, 0), self._names, None)
        return Sync(segment, segment.mark(), self._names, segment.unsynced() if segment.failed else None)

    def run_sync(self, sync: Sync) -> bool:
        """Wait for the disk, outside the lock. False when it failed, or has to be done once more."""
        if sync.file is None:
            return True
        try:
            if sync.lines is not None:
                sync.prepared = sync.file.prepare(sync.lines)
                return False
            sync.file.sync()
        except OSError:
            sync.failed = True
            return False
        sync.synced = self._names_synced >= sync.names or self._sync_names(sync.names)
        if self._index > 1 and not self._start_kept:
            self._keep_start()
        return sync.synced

    def _sync_names(self, names: int) -> bool:
        try:
            for directory in self._directories:
                disk.fsync(directory)
        except OSError:
            return False
        self._names_synced = names
        return True

    def finish_sync(self, sync: Sync) -> None:
        """Note what it made safe, and say so in the lock's file. Under the lock. Raises OSError."""
        file = sync.file
        if file is not None:
            file.failed = file.failed or sync.failed
            if sync.prepared >= 0:
                self._names += 1
                file.adopt(sync.prepared, sync.mark.lines)
            elif sync.synced:
                self._covered(file, sync.mark)
        self._note()

    def _covered(self, file: AppendFile, mark: Mark) -> None:
        file.covered(mark)
        if file.size >= self._segment_bytes and self._names_synced == self._names:
            try:
                if file.size > file.synced:  # the little that came meanwhile
                    mark = file.mark()
                    file.sync()
                    file.covered(mark)
                self._full = True
            except OSError:
                file.failed = True
        self._extent = Extent(self._index, file.synced, self._extent.heads)

    def append_head(self, line: bytes) -> None:
        """Write a signed head, synced: only after a sync, so that it never covers what may be lost. Raises OSError."""
        heads = self._heads
        assert heads is not None  # noqa: S101 - it is None only while the stream is being made
        if heads.failed:
            lines = heads.unsynced()
            heads.adopt(heads.prepare(lines), len(lines))
            for directory in self._directories:
                disk.fsync(directory)
        heads.append(line)
        mark = heads.mark()
        try:
            heads.sync()
        except OSError:
            heads.failed = True
            raise
        heads.covered(mark)
        self.bytes += len(line)
        self._extent = Extent(self._extent.segment, self._extent.offset, mark.size)
        self._note()

    def _note(self) -> None:
        self._lock.note(self._extent.line, fixed=True)
        self._noted = self._extent

    @property
    def heads_bytes(self) -> int:
        """Of the heads so far: they go only with the whole stream."""
        return 0 if self._heads is None else self._heads.size

    def gone(self) -> bool:
        """Whether somebody has removed the files that this writes to: what is appended then is lost.

        False where that cannot be told.
        """
        try:
            return not durable.exists(self.path) if self._segment is None else self._segment.removed()
        except OSError:
            return False

    def discard(self) -> None:
        """Close and remove a stream that holds no record: it could not even take the first."""
        hidden = self.path.with_name(f".{self.path.name}")
        try:
            disk.rename(self.path, hidden)  # while its lock is held: nobody finds it dead, with half a record
            durable.remove_tree(hidden)
        except OSError:
            pass  # what is left is swept, or else is a stream that ended before its first record
        self.close()

    def free_reserve(self) -> bool:
        """Give the kept disk space back to the file system, once: for what must still be written."""
        if not self.has_reserve:
            return False
        self.has_reserve = False
        disk.truncate(self._reserve, 0)
        return True

    def refill_reserve(self) -> bool:
        """Take the reserve; False while the disk is too full for it."""
        if self._reserve >= 0 and not self.has_reserve:
            try:
                disk.allocate(self._reserve, 0, RESERVE_BYTES)
                self.has_reserve = True
            except OSError:
                return False
        return True

    def close(self) -> None:
        """Close the files; in a forked child too, where this must unlock nothing of the parent's."""
        for file in (self._segment, self._heads):
            if file is not None:
                file.close()
        for fd in (*self._directories, self._reserve):
            if fd >= 0:
                disk.close(fd)
        self._directories, self._reserve = [], -1
        self._lock.close()
