"""The few file operations on which every promise about crashes rests.

Each says what survives ``kill -9`` (the page cache does) and what a power loss (only what was synced).
"""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
from pathlib import Path

from ..errors import SpoolError


def sync_directory(path: Path) -> None:
    """Make names made, renamed or removed in ``path`` survive a power loss."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _write_beside(path: Path, data: bytes) -> Path:
    """A synced new file of a fresh name in ``path``'s directory; a crash leaves at most this file."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        written = os.write(fd, data)
        if written != len(data):
            raise SpoolError(f"could not write {path.name}: the disk took {written} of {len(data)} bytes")
        os.fsync(fd)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    finally:
        os.close(fd)
    return temporary


def replace(path: Path, data: bytes) -> None:
    """Set the content of ``path``: after a crash at any moment it is the old or the new, never a mix."""
    temporary = _write_beside(path, data)
    temporary.replace(path)
    sync_directory(path.parent)


def append(path: Path, line: bytes) -> None:
    """Add one whole line to ``path`` (made if missing): it survives a power loss when this returns.

    A torn line that a crash left at the end is ended first, so that nothing is glued to it. Raises
    OSError, and then no part of the line is left.
    """
    fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        size = os.fstat(fd).st_size
        if size and os.pread(fd, 1, size - 1) != b"\n":
            line = b"\n" + line
        try:
            written = os.write(fd, line)
            if written != len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(fd)
        except OSError:
            os.ftruncate(fd, size)
            raise
    finally:
        os.close(fd)
    if not size:
        sync_directory(path.parent)


def create(path: Path, data: bytes) -> bytes:
    """Make ``path`` with ``data`` unless it exists; return what it holds in the end.

    By ``link``, which takes no existing name: processes that race all get the winner's content.
    """
    temporary = _write_beside(path, data)
    try:
        os.link(temporary, path)
        sync_directory(path.parent)
    except FileExistsError:
        pass  # another process was first: its content counts
    finally:
        temporary.unlink(missing_ok=True)
    return path.read_bytes()


class Lock:
    """An flock on a file, held until every process that inherited it has closed it.

    Never unlocked, only closed: LOCK_UN in a forked child would free the parent's lock.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd

    @classmethod
    def take(cls, path: Path) -> Lock | None:
        """The lock on ``path`` (made if missing), or None while another holds it. The kernel frees it at death."""
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            return None
        except BaseException:
            os.close(fd)
            raise
        return cls(fd)

    @staticmethod
    def held(path: Path) -> bool:
        """Whether a process holds the lock on ``path``. Makes nothing, and does not stand in another asker's way."""
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(fd)
        return False

    def named(self) -> bool:
        """Whether its file is still there: on a removed one the lock keeps nobody out."""
        return os.fstat(self._fd).st_nlink > 0

    def note(self, data: bytes) -> None:
        """Write into the lock's file: a word for people, on which nothing may rely. Raises OSError."""
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, data, 0)

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
