"""A compressed export, opened: never to more than an audit record could have been packed into.

An honest export of this package opens to some 20 times its size; records that were delivered over and
over to some hundred times. A bomb opens to a thousand times.
"""

from __future__ import annotations

import gzip
import io
import zlib
from typing import BinaryIO, cast

DAMAGED = (EOFError, zlib.error, gzip.BadGzipFile)
_FREE = 64 * 2**20
_RATIO = 200


class _Counted(io.RawIOBase):
    """Counts what is read."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.size = 0

    def readable(self) -> bool:
        return True

    def readinto(self, into: memoryview) -> int:  # type: ignore[override]  # what io.BufferedReader hands in
        data = self._file.read(len(into))
        into[: len(data)] = data
        self.size += len(data)
        return len(data)


class _Opened(io.RawIOBase):
    def __init__(self, file: BinaryIO) -> None:
        self._packed = _Counted(file)
        self._gzip = gzip.GzipFile(fileobj=cast("BinaryIO", io.BufferedReader(self._packed, 2**16)))
        self._size = 0

    def readable(self) -> bool:
        return True

    def readinto(self, into: memoryview) -> int:  # type: ignore[override]  # as above
        data = self._gzip.read(len(into))
        into[: len(data)] = data
        self._size += len(data)
        if self._size > _FREE and self._size > _RATIO * self._packed.size:
            raise gzip.BadGzipFile("it opens to more than any export is packed into")
        return len(data)


def unpacked(file: BinaryIO) -> io.BufferedReader:
    """What is in a gzip file. Reading raises one of `DAMAGED` where it is damaged, ends too early or is a bomb."""
    return io.BufferedReader(_Opened(file), 2**20)
