"""A file that a receiver writes, or a pipe, as it grows: what came since the last look.

Nothing is proved here. What is not a whole line yet is left for the next look; a whole line that is
no OTLP is counted.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import orjson

from .. import attributes as attr
from ..errors import EvidenceError
from ..evidence.visible import plain
from .cut import records
from .seen import LONGEST, NewLines, Once, Seen


class GrowingFile:
    """A file that a receiver writes, one OTLP/JSON request a line; replaced or cut, it is read anew.

    It is held open between two looks, so that what is written into it last before it is replaced is
    not missed: a context manager closes it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lines = NewLines()
        self._file: BinaryIO | None = None
        self._once = Once()
        self._broken = 0

    @property
    def unread(self) -> int:
        """Whole lines so far that are no OTLP."""
        return self._broken

    def poll(self) -> Iterator[Seen]:
        """What is new, in the file's order. Raises EvidenceError where it cannot be read."""
        try:
            if self._file is not None and self._replaced(self._file):
                yield from self._read(self._file)  # what the old file got last
                self._file.close()
                self._file = None
            if self._file is None:
                self._file = self._path.open("rb")
                self._lines.offset = 0
                if self._file.read(2) == b"\x1f\x8b":
                    raise EvidenceError(f"{self._path} is compressed: zcat {self._path} | jwt-audit tail -")
            if os.fstat(self._file.fileno()).st_size < self._lines.offset:
                self._lines.offset = 0  # it was cut, and begins anew
            yield from self._read(self._file)
        except OSError as error:
            raise EvidenceError(f"cannot read {self._path} ({error.strerror})") from error

    def last(self) -> Iterator[Seen]:
        """What follows the last newline, taken for a line: of a file that grows no more."""
        if self._file is not None:
            self._file.seek(self._lines.offset)
            yield from self._records(self._file.read(LONGEST))

    @property
    def failures(self) -> list[str]:
        """None: what cannot be read raises."""
        return []

    def __enter__(self) -> GrowingFile:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _replaced(self, file: BinaryIO) -> bool:
        try:
            return not os.path.samestat(os.fstat(file.fileno()), self._path.stat())
        except FileNotFoundError:
            return False  # moved away, and the new one not yet there

    def _read(self, file: BinaryIO) -> Iterator[Seen]:
        for raw in self._lines.read(file):
            yield from self._records(raw)

    def _records(self, raw: bytes) -> Iterator[Seen]:
        found = exported(raw)
        if found is None:
            self._broken += 1
        else:
            yield from filter(self._once.new, found)


class GivenLines(GrowingFile):
    """What comes through a pipe, in the order in which it comes."""

    def __init__(self, stream: BinaryIO) -> None:
        super().__init__(Path("-"))
        self._stream = stream

    def poll(self) -> Iterator[Seen]:
        for raw in self._stream:
            yield from self._records(raw)


def exported(raw: bytes) -> list[Seen] | None:
    """The audit records of one line of OTLP/JSON, heads not among them; None for what is no OTLP."""
    if not raw.strip():
        return []
    try:
        found = []
        for record, _ in records(orjson.loads(raw)):
            attributes = {item["key"]: plain(item.get("value")) for item in record.get("attributes", ())}
            event = str(record.get("eventName", ""))
            if attr.RECORD_ID in attributes and event != attr.EVENT_HEAD:
                time = int(record.get("timeUnixNano", 0))
                found.append(Seen(event, time, int(record.get("observedTimeUnixNano", time)), attributes))
        return found
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
