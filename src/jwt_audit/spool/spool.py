"""The spool: a directory of streams, each written by one process and read by anyone.

    SPOOL/ship.lock             held by the one process that ships, which says in it who it is
    SPOOL/sidecar.lock          held by a sidecar as long as it lives: apps leave shipping to it
    SPOOL/signing-key.pem       only where no key was configured
    SPOOL/pruned                last heads of streams that retention removed whole, a line each
    SPOOL/dead-letter           what the receiver refused for good, one JSON object a line
    SPOOL/streams/ID/*.seg      segments, counted from 1
    SPOOL/streams/ID/heads      signed heads, a line each
    SPOOL/streams/ID/lock       held by the writer as long as it lives
    SPOOL/streams/ID/cursor     how far the stream was delivered
    SPOOL/streams/ID/start      the first record's line, once retention has removed its segment
    SPOOL/streams/ID/reserve    disk space kept back, with FAIL_MODE=closed

This package knows bytes only: what a line says is for others. Directories are 0700, files 0600.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections import deque
from dataclasses import dataclass, replace
from pathlib import Path

import orjson

from ..errors import SpoolError
from . import durable
from .segment import SUFFIX, SegmentWriter, segment_index, segment_name

SEGMENT_BYTES = 16 * 2**20
RESERVE_BYTES = 256 * 1024
STREAM_ID = re.compile(r"[0-9A-Za-z][0-9A-Za-z._\-]{0,127}")


@dataclass(frozen=True, slots=True)
class Cursor:
    """How far a stream was delivered: the segment's file name, the byte offset in it, the last
    record's number and hash, and the byte offset in ``heads``. ``ended`` when that record is the end
    record, ``torn`` the bytes met that are no whole line. ``done`` when nothing can follow."""

    segment: str = ""
    offset: int = 0
    number: int = 0
    hash: str = ""
    heads: int = 0
    ended: bool = False
    torn: int = 0
    done: bool = False

    def finished(self) -> Cursor:
        """The same place, and that nothing can follow."""
        return replace(self, done=True)


class Stream:
    """One stream as a reader sees it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.id = path.name

    def segments(self) -> list[Path]:
        """The segments in the order in which they were written."""
        try:
            return sorted(path for path in self.path.iterdir() if segment_index(path.name))
        except OSError as error:
            raise SpoolError(f"cannot read {self.path} ({error.strerror})") from error

    @property
    def heads(self) -> Path:
        return self.path / "heads"

    def written(self) -> bool:
        """Whether its writer lives. Asks by the lock, which the kernel frees at any kind of death."""
        return durable.Lock.held(self.path / "lock")

    def cursor(self) -> Cursor:
        """How far it was delivered; from the start where that cannot be read (then it is sent again)."""
        try:
            return Cursor(**orjson.loads((self.path / "cursor").read_bytes()))
        except (OSError, TypeError, ValueError):
            return Cursor()

    def move_cursor(self, cursor: Cursor) -> None:
        """Set it: survives a power loss when this returns; a crash before leaves the old one, and duplicates."""
        form = {name: getattr(cursor, name) for name in Cursor.__dataclass_fields__}
        durable.replace(self.path / "cursor", orjson.dumps(form))


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
    the lock, `run_sync` outside. A sync that fails breaks its segment: it is not tried again on that
    file, since the kernel may have dropped the pages and would call the next one a success. A new
    segment follows, and the records that were not yet synced are written again, from memory; so two
    segments may overlap, and the later one counts.
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


class Spool:
    """The directory. Opening it makes it; every process of a service opens the same one."""

    def __init__(self, root: Path) -> None:
        """Raises SpoolError, with the path and the system's word, where it cannot be made or written."""
        self.root = root
        self.make()

    def make(self, *, root: bool = True) -> None:
        """Make the directories that are missing; without ``root``, the spool's own must be there."""
        try:
            if root:
                self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._streams.mkdir(mode=0o700, exist_ok=True)
            if not os.access(self._streams, os.W_OK | os.X_OK):
                raise PermissionError(13, "not writable")
        except FileNotFoundError as error:
            raise SpoolError(f"the spool {self.root} is gone; make that directory again") from error
        except OSError as error:
            raise SpoolError(f"cannot make the spool {self.root} ({error.strerror})") from error

    @property
    def _streams(self) -> Path:
        return self.root / "streams"

    def open_stream(self, stream_id: str, *, reserve: bool = False) -> StreamWriter:
        """A new stream to write. Raises OSError, and leaves no half-made stream behind."""
        path = self._streams / stream_id
        try:
            return StreamWriter(path, reserve=reserve)
        except OSError:
            shutil.rmtree(path.with_name(f".{path.name}"), ignore_errors=True)
            raise

    def streams(self) -> list[Stream]:
        return streams(self.root)

    def take_ship_lock(self) -> durable.Lock | None:
        """The right to ship, or None while another process has it."""
        return durable.Lock.take(self.root / "ship.lock")

    def take_sidecar_lock(self) -> durable.Lock | None:
        """The right to ship before the apps, or None while another sidecar has it."""
        return durable.Lock.take(self.root / "sidecar.lock")

    def has_sidecar(self) -> bool:
        """Whether a sidecar lives that ships this spool, or wants to."""
        return durable.Lock.held(self.root / "sidecar.lock")

    def key(self, make: bytes) -> bytes:
        """The generated signing key's PEM: what is there, else ``make``; racing processes agree."""
        path = self.root / "signing-key.pem"
        try:
            return path.read_bytes()
        except FileNotFoundError:
            return durable.create(path, make)

    def usage(self) -> int:
        """Bytes of all segments and heads."""
        total = 0
        for stream in self.streams():
            try:
                with os.scandir(stream.path) as entries:
                    kept = (entry for entry in entries if entry.name.endswith(SUFFIX) or entry.name == "heads")
                    total += sum(entry.stat().st_size for entry in kept)
            except FileNotFoundError:
                continue  # pruned meanwhile
        return total


def streams(root: Path) -> list[Stream]:
    """The streams of a spool in the order of their ids, which begin with the time of their start.

    For readers: makes nothing. Raises SpoolError where ``root`` cannot be read or is no spool.
    """
    try:
        with os.scandir(root / "streams") as entries:
            return [
                Stream(Path(entry.path))
                for entry in sorted(entries, key=lambda entry: entry.name)
                if STREAM_ID.fullmatch(entry.name) and entry.is_dir(follow_symlinks=False)
            ]
    except OSError as error:
        raise SpoolError(f"cannot read the spool {root} ({error.strerror})") from error
