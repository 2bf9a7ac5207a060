"""A file of lines read from its end: the last one first, whatever the size of the file."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import BinaryIO

_FIRST_BLOCK = 16 * 1024
"""Of very many streams only the last lines are wanted."""
_BLOCK = 1024 * 1024
_TOO_LONG = b"..."


def end_of_lines(file: BinaryIO) -> int:
    """The offset after the last newline as the file is now; 0 where there is none. Raises OSError."""
    for start, block in _blocks(file, file.seek(0, os.SEEK_END)):
        newline = block.rfind(b"\n")
        if newline >= 0:
            return start + newline + 1
    return 0


def lines_backwards(file: BinaryIO, end: int, longest: int) -> Iterator[bytes]:
    """The lines before ``end``, an offset after a newline, without their newlines: the last one first.

    Of one that is longer than ``longest`` bytes comes what no reader takes for a record. Raises OSError.
    """
    parts: list[bytes] = []
    """Of a line of which the start was not read yet, from its end."""
    held = 0
    for _, block in _blocks(file, end - 1):
        head, *lines = block.split(b"\n")
        if lines:
            parts.append(lines.pop())
            yield _joined(parts, longest)
            for line in reversed(lines):
                yield line if len(line) <= longest else _TOO_LONG
            parts, held = [], 0
        if held <= longest:
            parts.append(head)
        held += len(head)
    if end > 0:
        yield _joined(parts, longest)


def _blocks(file: BinaryIO, end: int) -> Iterator[tuple[int, bytes]]:
    size = _FIRST_BLOCK
    while end > 0:
        start = max(0, end - size)
        file.seek(start)
        block = file.read(end - start)
        if len(block) < end - start:
            return  # it was cut meanwhile
        yield start, block
        end, size = start, min(_BLOCK, size * 2)


def _joined(parts: list[bytes], longest: int) -> bytes:
    line = b"".join(reversed(parts))
    return line if len(line) <= longest else _TOO_LONG
