"""A segment: an append-only file of lines ``payload TAB sha256-hex NEWLINE``.

The payload holds neither tab nor newline (canonical JSON escapes both). So a line is whole if and
only if it ends in a newline and its hash is right: a torn or zero-filled tail is told from a line
that was changed.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from ..errors import SpoolError
from . import disk

SUFFIX = ".seg"
SEGMENT_BYTES = 16 * 2**20
"""Of a segment at most; see `Room.segment_bytes`."""
MAX_LINE = 256 * 1024
"""Bytes; a longer line is no line of ours."""


def segment_name(index: int) -> str:
    """The file name of a stream's segment; they count from 1, and names sort as they count."""
    return f"{index:08d}{SUFFIX}"


def segment_index(name: str) -> int:
    """The inverse of `segment_name`; 0 for the name of a file that is no segment."""
    stem = name.removesuffix(SUFFIX)
    return int(stem) if len(stem) == 8 and stem.isascii() and stem.isdigit() and name != stem else 0


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
        with disk.reader(path, 256 * 1024) as file:
            yield from lines(file, offset)
    except OSError as error:
        raise SpoolError(f"cannot read {path} ({error.strerror})") from error
