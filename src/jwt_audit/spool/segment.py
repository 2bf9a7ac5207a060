"""A segment: an append-only file of lines ``payload TAB sha256-hex NEWLINE``.

The payload holds neither tab nor newline (canonical JSON escapes both). So a line is whole if and
only if it ends in a newline and its hash is right: a torn or zero-filled tail is told from a line
that was changed. Invariant of the writer: a line is on disk whole or, after `append` raised, not
at all.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from ..errors import SpoolError

SUFFIX = ".seg"
MAX_LINE = 256 * 1024
"""Bytes; a longer line is no line of ours."""


def segment_name(index: int) -> str:
    """The file name of a stream's segment; they count from 1, and names sort as they count."""
    return f"{index:08d}{SUFFIX}"


def segment_index(name: str) -> int:
    """The inverse of `segment_name`; 0 for the name of a file that is no segment."""
    stem = name.removesuffix(SUFFIX)
    return int(stem) if len(stem) == 8 and stem.isascii() and stem.isdigit() and name != stem else 0


class SegmentWriter:
    """Appends to one new segment. Not safe for threads: the recorder's lock orders the calls."""

    def __init__(self, path: Path) -> None:
        """Make the file. It exists after a power loss once its directory was synced."""
        self.path = path
        self.size = 0
        self.broken = False
        """True once the file's end is not known to be a whole line, or a sync failed: it takes no more."""
        self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)

    def append(self, line: bytes) -> None:
        """Write one whole line. When this returns, it survives ``kill -9``; once synced, a power loss.

        Raises OSError (a full disk among them), and then the line is not in the file: a partial one
        is cut off again, or the segment is broken and takes no more.
        """
        written = 0
        try:
            written = os.write(self._fd, line)
            if written != len(line):  # a size or disk limit was met in mid-line
                written += os.write(self._fd, line[written:])
        finally:
            if written == len(line):
                self.size += written
            elif written:
                self._cut_back()
        if written != len(line):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _cut_back(self) -> None:
        try:
            os.ftruncate(self._fd, self.size)
        except OSError:
            self.broken = True

    def removed(self) -> bool:
        """Whether the file has lost its name: its bytes go with the descriptor."""
        return os.fstat(self._fd).st_nlink == 0

    def duplicate(self) -> int:
        """Another descriptor of the file, to be synced and closed outside the lock while this one goes on."""
        return os.dup(self._fd)

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class Line(NamedTuple):
    """A whole line: its payload, its hash in hex, and the offsets where it starts and the next one does."""

    payload: bytes
    digest: str
    start: int
    end: int

    @property
    def raw(self) -> bytes:
        """The line as it stands in the file."""
        return b"%b\t%b\n" % (self.payload, self.digest.encode("ascii"))


def lines(file: BinaryIO, offset: int = 0) -> Iterator[Line]:
    """The lines of a segment from ``offset`` on, as long as they are whole by their form.

    Ends at the first that is not: no newline yet, no tab, no hash. Whether the hash is right is the
    caller's to check (`whole` does), since a verifier has to know which of the two it was.
    """
    file.seek(offset)
    for raw in file:
        if not raw.endswith(b"\n") or len(raw) > MAX_LINE or raw[-66:-65] != b"\t":
            return
        digest = raw[-65:-1]
        try:
            text = digest.decode("ascii")
        except UnicodeDecodeError:
            return
        yield Line(raw[:-66], text, offset, offset + len(raw))
        offset += len(raw)


def read(path: Path, offset: int = 0) -> Iterator[Line]:
    """`lines` of a file. Raises SpoolError where it cannot be read."""
    try:
        with path.open("rb", buffering=256 * 1024) as file:
            yield from lines(file, offset)
    except OSError as error:
        raise SpoolError(f"cannot read {path} ({error.strerror})") from error
