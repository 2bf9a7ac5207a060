"""Opening what somebody names, or what stands in a directory that somebody else may write.

Nothing here waits: a named pipe, a device, a socket in the place of a file is an error, not a hang.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO

from ..errors import EvidenceError

BUFFER = 2**20


def opened(path: Path, *, linked: bool = True) -> BinaryIO:
    """The regular file at ``path``, to be read; also a pipe that a shell gives as ``<(…)``, which is a link.

    With ``linked`` false the file's own name may be no link, which then is an EvidenceError too. Raises
    FileNotFoundError where there is none; else OSError.
    """
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
    given = linked and path.is_symlink()
    if given and path.is_fifo():
        return path.open("rb", buffering=BUFFER)
    try:
        fd = os.open(path, flags | (0 if linked else os.O_NOFOLLOW))
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise EvidenceError(f"{path} is a link") from error
        raise
    kind = stat.S_IFMT(os.fstat(fd).st_mode)
    if kind != stat.S_IFREG:
        os.close(fd)
        if kind == stat.S_IFDIR:
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        what = "a named pipe" if kind == stat.S_IFIFO else "a device or socket"
        raise EvidenceError(f"{path} is {what}, not a file")
    return os.fdopen(fd, "rb", buffering=BUFFER)


def content(path: Path, limit: int, *, linked: bool = True) -> bytes:
    """All of a file of at most ``limit`` bytes. Raises EvidenceError, and OSError as `opened` does."""
    with opened(path, linked=linked) as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise EvidenceError(f"{path} is larger than {limit} bytes")
    return data
