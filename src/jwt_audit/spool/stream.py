"""One stream of a spool as its readers see it. Nothing here writes a record.

This package knows bytes only: what a line says is for others.
"""

from __future__ import annotations

import errno
import re
from dataclasses import dataclass, replace
from pathlib import Path
from zlib import crc32

import orjson

from ..errors import DiskFullError, SpoolError
from . import disk, durable
from .durable import LockState
from .segment import SUFFIX, segment_index

STREAM_ID = re.compile(r"[0-9A-Za-z][0-9A-Za-z._\-]{0,127}")
_READINGS = 4
"""So often a reader tries that may have met the writer at the same line."""


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


@dataclass(frozen=True, slots=True)
class Extent:
    """How far a stream survives a power loss: bytes of the segment with this index, and of ``heads``.

    Its line is always of the same length, so that it is written over the one before, and has a check
    sum, since a reader may meet the writer at it.
    """

    segment: int = 0
    offset: int = 0
    heads: int = 0

    @property
    def line(self) -> bytes:
        """As it stands in the file."""
        text = b"%08d %020d %020d" % (self.segment, self.offset, self.heads)
        return b"%b %08x\n" % (text, crc32(text))

    @classmethod
    def parse(cls, line: bytes) -> Extent | None:
        """The inverse of `line`; None for anything else."""
        text, _, _ = line.rpartition(b" ")
        try:
            found = cls(*map(int, text.split(b" ")))
        except (ValueError, TypeError):
            return None
        return found if found.line == line else None


class Stream:
    """One stream as a reader sees it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.id = path.name

    def segments(self) -> list[Path]:
        """The segments in the order in which they were written. Raises SpoolError, also where the stream is gone."""
        try:
            return sorted(self.path / name for name in disk.listdir(self.path) if segment_index(name))
        except OSError as error:
            raise SpoolError(f"cannot read {self.path} ({error.strerror})") from error

    @property
    def heads(self) -> Path:
        """The file of signed heads."""
        return self.path / "heads"

    def gone(self) -> bool:
        """Whether it is certainly not there any more, as when retention has removed it."""
        try:
            return not durable.exists(self.path)
        except OSError:
            return False

    def size(self) -> int:
        """Bytes of its segments and heads. Raises OSError."""
        kept = [name for name in disk.listdir(self.path) if name.endswith(SUFFIX) or name == "heads"]
        return sum(disk.stat(self.path / name).st_size for name in kept)

    def writer(self) -> LockState:
        """Whether its writer lives (``HELD``). Asks by the lock, which the kernel frees at any kind of death.

        A stream whose lock's file was removed may have a writer all the same: ``UNKNOWN``. But a power loss
        may take all names out of a new stream's directory, the lock's too, and there nothing is to be lost.
        """
        state = durable.Lock.state(self.path / "lock", absent=LockState.UNKNOWN)
        if state is LockState.UNKNOWN:
            try:
                return state if disk.listdir(self.path) else LockState.FREE
            except OSError:
                pass
        return state

    def synced(self) -> Extent:
        """How far it survives a power loss, by its living writer's word. Raises SpoolError."""
        try:
            for _ in range(_READINGS):
                line = durable.read(self.path / "lock")
                found = Extent.parse(line)
                if found is not None:
                    return found
        except OSError as error:
            raise SpoolError(f"cannot read {self.path / 'lock'} ({error.strerror})") from error
        raise SpoolError(f"{self.path / 'lock'} does not say how far the stream is synced")

    def secure(self) -> Extent:
        """Sync what its dead writer did not come to sync; where the stream ends.

        That needs room for a copy of a segment: a full disk gives the room that the writer had kept back, which
        it needs no more. Raises DiskFullError where that is not enough, and SpoolError.
        """
        try:
            return self._secure()
        except DiskFullError:
            durable.discard(self.path / "reserve")
            return self._secure()

    def _secure(self) -> Extent:
        segments = self.segments()
        try:
            last = segment_index(segments[-1].name) if segments else 0
            whole = Extent(last, (durable.size(segments[-1]) or 0) if segments else 0, durable.size(self.heads) or 0)
            lock = self.path / "lock"
            said = (Extent.parse(durable.read(lock)) if durable.exists(lock) else None) or Extent()
            for path in segments:
                if (segment_index(path.name), durable.size(path) or 0) > (said.segment, said.offset):
                    durable.secure(path)
            if whole.heads > said.heads:
                durable.secure(self.heads)
            if whole != said:
                for directory in (self.path, self.path.parent, self.path.parent.parent):
                    durable.sync_directory(directory)
        except OSError as error:
            kind = DiskFullError if error.errno in (errno.ENOSPC, errno.EDQUOT) else SpoolError
            raise kind(f"cannot sync {self.path} ({error.strerror})") from error
        return whole

    def recovered(self) -> bool:
        """Whether it is noted that the keeper has stated where it broke off. Raises OSError."""
        return durable.exists(self.path / "recovered")

    def note_recovered(self, number: int) -> None:
        """Note that, once the statement is signed. Raises OSError."""
        durable.create(self.path / "recovered", b"%d\n" % number)

    def cursor(self) -> Cursor:
        """How far it was delivered; from the start where there is no cursor or it says nothing (then it is sent again).

        Raises SpoolError where that cannot be told.
        """
        try:
            return Cursor(**orjson.loads(durable.read(self.path / "cursor")))
        except FileNotFoundError:
            return Cursor()
        except OSError as error:
            raise SpoolError(f"cannot read {self.path / 'cursor'} ({error.strerror})") from error
        except (TypeError, ValueError):
            return Cursor()

    def move_cursor(self, cursor: Cursor) -> None:
        """Set it: survives a power loss when this returns; a crash before leaves the old one, and duplicates."""
        form = {name: getattr(cursor, name) for name in Cursor.__dataclass_fields__}
        durable.replace(self.path / "cursor", orjson.dumps(form))


def streams(root: Path) -> list[Stream]:
    """The streams of a spool in the order of their ids, which begin with the time of their start.

    For readers: makes nothing. Raises SpoolError where ``root`` cannot be read or is no spool.
    """
    try:
        names = sorted(name for name in disk.directories(root / "streams") if STREAM_ID.fullmatch(name))
    except OSError as error:
        raise SpoolError(f"cannot read the spool {root} ({error.strerror})") from error
    return [Stream(root / "streams" / name) for name in names]
