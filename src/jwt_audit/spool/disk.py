"""Every system call on a spool's files, and nothing else.

All that writes or reads a spool calls these by the module's name (``disk.write``), a test holds that.
So another test can have any of them fail, do half of its work, or be the last that a process makes.
Each raises OSError as the kernel does; none turns an error into an answer.
"""

from __future__ import annotations

import fcntl
import io
import os
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

write = os.write
pwrite = os.pwrite
pread = os.pread
readv = os.readv
seek = os.lseek
truncate = os.ftruncate
fsync = os.fsync
datasync = os.fdatasync
allocate = os.posix_fallocate
fstat = os.fstat
close = os.close
mkdir = os.mkdir
rmdir = os.rmdir
unlink = os.unlink
rename = os.rename
link = os.link
flock = fcntl.flock
listdir = os.listdir
stat = os.stat
statvfs = os.statvfs

CALLS = (
    *("open", "write", "pwrite", "pread", "readv", "seek", "truncate", "fsync", "datasync", "allocate", "fstat"),
    "close",
    *("mkdir", "rmdir", "unlink", "rename", "link", "flock", "listdir", "directories", "stat", "statvfs"),
)
"""The names of all of them."""


def open(path: Path, flags: int, mode: int = 0o600) -> int:  # noqa: A001 - it is the call of that name
    """A descriptor that no program inherits which this process executes."""
    return os.open(path, flags | os.O_CLOEXEC, mode)


def directories(path: Path) -> list[str]:
    """The names of the directories in ``path``; links to some are none."""
    with os.scandir(path) as entries:
        return [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]


class _Reader(io.RawIOBase):
    """A descriptor as a raw file, so that what reads lines by a buffer reads by `readv`."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        return readv(self._fd, [buffer])

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return seek(self._fd, offset, whence)

    def tell(self) -> int:
        return seek(self._fd, 0, os.SEEK_CUR)

    def close(self) -> None:
        if not self.closed:
            super().close()
            close(self._fd)


def reader(path: Path, buffering: int = 64 * 1024) -> BinaryIO:
    """``path`` opened for reading."""
    return io.BufferedReader(_Reader(open(path, os.O_RDONLY)), buffering)
