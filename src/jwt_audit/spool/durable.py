"""The few file operations on which every promise about crashes rests.

Each says what survives ``kill -9`` (the page cache does) and what a power loss (only what was synced).
"Is it there?" and "is it held?" have three answers: yes, no, and an OSError or `LockState.UNKNOWN`.
"""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from pathlib import Path

from . import disk

_ABSENT = (errno.ENOENT, errno.ENOTDIR)


def exists(path: Path) -> bool:
    """Whether there is something at ``path``. Raises OSError where that cannot be told."""
    return size(path) is not None


def size(path: Path) -> int | None:
    """Bytes of a file; None where there is none. Raises OSError where that cannot be told."""
    try:
        return disk.stat(path).st_size
    except OSError as error:
        if error.errno in _ABSENT:
            return None
        raise


def read(path: Path) -> bytes:
    """All bytes of a file."""
    with disk.reader(path) as file:
        return file.read()


def free(path: Path) -> int:
    """Bytes that may still be written to the file system of ``path``."""
    found = disk.statvfs(path)
    return found.f_bavail * found.f_frsize


@contextmanager
def _opened(path: Path, flags: int) -> Iterator[int]:
    fd = disk.open(path, flags)
    try:
        yield fd
    finally:
        disk.close(fd)


def sync_directory(path: Path) -> None:
    """Make names made, renamed or removed in ``path`` survive a power loss."""
    with _opened(path, os.O_RDONLY | os.O_DIRECTORY) as fd:
        disk.fsync(fd)


def secure(path: Path) -> None:
    """Make what a dead process left in a file survive a power loss: by a copy in its place.

    A sync of the file itself would not do: if one of the dead process's failed, the kernel has dropped
    what it covered and calls the next one a success. So on a full disk this raises, as any write does.
    A crash leaves the old file or the new one, with the same bytes, and at most the copy beside it. The
    directory is to be synced afterwards.
    """
    temporary = path.with_name(f".{path.name}.new")
    try:
        with _opened(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC) as fd:
            write_all(fd, read(path))
            disk.fsync(fd)
        disk.rename(temporary, path)
    except OSError:
        discard(temporary)
        raise


def write_all(fd: int, data: bytes) -> None:
    """Write ``data`` whole, or raise OSError; then a part of it may be there."""
    written = disk.write(fd, data)
    if written != len(data):  # a size or disk limit was met in the middle
        written += disk.write(fd, data[written:])
    if written != len(data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _write_beside(path: Path, data: bytes) -> Path:
    """A synced new file of a fresh name in ``path``'s directory; a crash leaves at most this file."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
    try:
        with _opened(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL) as fd:
            write_all(fd, data)
            disk.fsync(fd)
    except BaseException:
        discard(temporary)
        raise
    return temporary


def discard(path: Path) -> None:
    """Remove a file that means nothing any more; where that fails it stays, and still means nothing."""
    try:
        disk.unlink(path)
    except OSError:
        pass


def replace(path: Path, data: bytes) -> None:
    """Set the content of ``path``: after a crash at any moment it is the old or the new, never a mix."""
    temporary = _write_beside(path, data)
    try:
        disk.rename(temporary, path)
    except BaseException:
        discard(temporary)
        raise
    sync_directory(path.parent)


def append(path: Path, line: bytes) -> None:
    """Add one whole line to ``path`` (made if missing): it survives a power loss when this returns.

    A torn line that a crash left at the end is ended first, so that nothing is glued to it. Raises
    OSError; then the line may be there all the same where the disk would not take it back, and is
    written again by who tries again.
    """
    with _opened(path, os.O_RDWR | os.O_APPEND | os.O_CREAT) as fd:
        before = disk.fstat(fd).st_size
        if before and disk.pread(fd, 1, before - 1) != b"\n":
            line = b"\n" + line
        try:
            write_all(fd, line)
            disk.fsync(fd)
        except OSError:
            disk.truncate(fd, before)
            raise
    sync_directory(path.parent)


def create(path: Path, data: bytes) -> bytes:
    """Make ``path`` with ``data`` unless it exists; return what it holds in the end.

    By ``link``, which takes no existing name: processes that race all get the winner's content.
    """
    temporary = _write_beside(path, data)
    try:
        disk.link(temporary, path)
        sync_directory(path.parent)
    except FileExistsError:
        pass  # another process was first: its content counts
    finally:
        discard(temporary)
    return read(path)


def remove_tree(path: Path) -> None:
    """Remove a directory and what is in it. Raises OSError, and then the rest of it is still there."""
    inner = set(disk.directories(path))
    for name in disk.listdir(path):
        if name in inner:
            remove_tree(path / name)
        else:
            disk.unlink(path / name)
    disk.rmdir(path)


class LockState(Enum):
    """What can be told of a lock. ``UNKNOWN`` is an answer of its own: it is never read as one of the others."""

    HELD = "held"
    FREE = "free"
    UNKNOWN = "unknown"


class Lock:
    """An flock on a file, held until every process that inherited it has closed it.

    Never unlocked, only closed: LOCK_UN in a forked child would free the parent's lock.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd

    @classmethod
    def take(cls, path: Path) -> Lock | None:
        """The lock on ``path`` (made if missing), or None while another holds it. The kernel frees it at death.

        Raises OSError where neither can be told.
        """
        fd = disk.open(path, os.O_RDWR | os.O_CREAT)
        try:
            disk.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            disk.close(fd)
            return None
        except BaseException:
            disk.close(fd)
            raise
        return cls(fd)

    @staticmethod
    def state(path: Path, *, absent: LockState = LockState.FREE) -> LockState:
        """Whether a process holds the lock on ``path``; ``absent`` where there is no such file.

        Makes nothing, and does not stand in another asker's way.
        """
        try:
            fd = disk.open(path, os.O_RDONLY)
        except OSError as error:
            return absent if error.errno == errno.ENOENT else LockState.UNKNOWN
        try:
            disk.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return LockState.HELD
        except OSError:
            return LockState.UNKNOWN
        finally:
            disk.close(fd)
        return LockState.FREE

    def named(self) -> bool:
        """Whether its file is still there: on a removed one the lock keeps nobody out. True where it cannot be told."""
        try:
            return disk.fstat(self._fd).st_nlink > 0
        except OSError:
            return True

    def note(self, data: bytes, *, fixed: bool = False) -> None:
        """Write into the lock's file; with ``fixed`` over what was there, which is as long. Raises OSError."""
        if not fixed:
            disk.truncate(self._fd, 0)
        if disk.pwrite(self._fd, data, 0) != len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def close(self) -> None:
        if self._fd >= 0:
            disk.close(self._fd)
            self._fd = -1
