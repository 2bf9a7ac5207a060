"""Exported files: what the sink, a collector's file exporter or a store's query wrote.

A file is a stream of JSON values, not of lines: two may stand on one line, and a kill leaves a torn one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from ..errors import EvidenceError
from ..evidence.copies import Copy
from ..evidence.exported import take
from ..evidence.verdict import Place, Verdict
from . import otlp, stores
from .values import Unread, values

Advance = Callable[[int], None]


def read_exports(paths: list[Path], advance: Advance) -> Copy:
    """All files together, as one copy. ``advance`` is told the bytes read. Raises EvidenceError."""
    copy = Copy(", ".join(map(str, paths)), spool=False)
    for path in paths:
        try:
            with path.open("rb") as file:
                _read(copy, _told(file, advance), str(path))
        except OSError as error:
            raise EvidenceError(f"cannot read {path} ({error.strerror})") from error
    copy.close()
    return copy


def _told(file: BinaryIO, advance: Advance) -> Iterator[bytes]:
    for raw in file:
        advance(len(raw))
        yield raw


def _read(copy: Copy, lines: Iterator[bytes], source: str) -> None:
    for item in values(lines, source):
        if isinstance(item, Unread):
            _unread(copy, item)
            continue
        value, place = item
        for record in otlp.records(value) if otlp.is_otlp(value) else stores.records(value):
            if record is None:
                copy.other_records += 1
            else:
                take(copy, record, place)


def _unread(copy: Copy, item: Unread) -> None:
    if item.torn:
        detail = f"{item.size} bytes of a value that was not written whole"
        copy.add(Verdict.VALID, "torn", detail, Place(item.place.source, item.place.line, item.place.offset))
    else:
        copy.add(Verdict.INVALID, "garbage", f"{item.size} bytes are no JSON value", item.place)
