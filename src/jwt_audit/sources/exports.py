"""Exported files: what the sink, the Collector's file exporter or a store's query wrote.

By content, not by name: a stream of JSON values (OTLP or a store's own form), OTLP/protobuf, each
also compressed with gzip. Nothing is passed over in silence: bytes that are no value are a finding.
"""

from __future__ import annotations

import gzip
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from io import BufferedReader
from pathlib import Path
from typing import Any, BinaryIO, cast

from ..errors import EvidenceError
from ..evidence.copies import Copy
from ..evidence.exported import take
from ..evidence.verdict import Place, Verdict
from . import otlp, protobuf, stores
from .values import Unread, values

Advance = Callable[[int], None]

STDIN = Path("-")
EXPORT_SUFFIXES = (".json", ".jsonl", ".ndjson", ".gz", ".zst", ".zstd", ".binpb", ".pb")

_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
_DAMAGED = (EOFError, zlib.error, gzip.BadGzipFile)
_LENGTH = 4
"""Bytes before each message in the Collector's files that are not JSON: its size, big-endian."""
_PEEK = 64
_BUFFER = 2**22
_LARGEST_MESSAGE = 2**28


def read_exports(paths: Sequence[Path], advance: Advance) -> Copy:
    """What these paths hold together: files, directories of files, ``-`` for standard input.

    ``advance`` is told the bytes read. Raises EvidenceError for what cannot be read or is no export.
    """
    copy = Copy(str(paths[0]) if len(paths) == 1 else f"{len(paths)} exports", spool=False)
    for path in paths:
        before = copy.taken
        for name in export_files(path) if path.is_dir() else [path]:
            try:
                if name == STDIN:
                    _read_export(copy, "standard input", sys.stdin.buffer, advance)
                else:
                    with name.open("rb", buffering=_BUFFER) as file:
                        _read_export(copy, str(name), file, advance)
            except OSError as error:
                raise EvidenceError(f"cannot read {name} ({error.strerror or error})") from error
        if copy.taken == before:
            copy.add(Verdict.INCOMPLETE, "nothing", "it holds no audit record", Place(str(path)))
    copy.close()
    return copy


def export_files(path: Path) -> list[Path]:
    """The exported files of a directory, by their names' ends; rotated ones of the Collector keep theirs."""
    return sorted(one for one in path.iterdir() if one.is_file() and one.name.endswith(EXPORT_SUFFIXES))


def _read_export(copy: Copy, source: str, opened: BinaryIO, advance: Advance) -> None:
    file = cast("BufferedReader", opened)
    start = file.peek(_PEEK)
    if start.startswith(_ZSTD):
        raise EvidenceError(f"{source} is compressed with zstd: give it as zstd -dc FILE | jwt-audit verify -")
    if start[_LENGTH : _LENGTH + len(_ZSTD)] == _ZSTD:
        raise EvidenceError(
            f"{source} holds messages that the Collector compressed one by one, which no tool undoes: "
            "have its file exporter write without compression"
        )
    if start.startswith(_GZIP):
        file = cast("BufferedReader", gzip.GzipFile(fileobj=opened))
        try:
            start = file.peek(_PEEK)
        except _DAMAGED:
            start = b""
            _tell_damaged(copy, source)
    text = start.lstrip()
    if not text:
        return
    if text[:1] in (b"{", b"[") and (len(text) == 1 or text[1] in b'"{[ \n\r\t]}'):
        _take_values(copy, values(_told(file, copy, source, advance), source))
    elif start[0] in (0x00, 0x0A):
        _take_values(copy, _messages(file, copy, source, advance))
    else:
        raise EvidenceError(f"{source} is no export: neither JSON nor OTLP (of a spool give the directory)")


def _tell_damaged(copy: Copy, source: str) -> None:
    copy.add(Verdict.INCOMPLETE, "unreadable", "the compressed file is damaged or ends too early", Place(source))


def _told(lines: Iterable[bytes], copy: Copy, source: str, advance: Advance) -> Iterator[bytes]:
    """The lines, with the progress told; a compressed file that ends too early is a finding."""
    try:
        for line in lines:
            yield line
            advance(len(line))
    except _DAMAGED:
        _tell_damaged(copy, source)


def _messages(file: BufferedReader, copy: Copy, source: str, advance: Advance) -> Iterator[tuple[Any, Place] | Unread]:
    """OTLP/protobuf: one request, or requests with their length in four bytes before (the Collector's files)."""
    try:
        if file.peek(1)[:1] == b"\x0a":
            data = file.read()
            advance(len(data))
            yield _request(data, source), Place(source, offset=0)
            return
        offset = 0
        while prefix := file.read(_LENGTH):
            size = int.from_bytes(prefix, "big")
            data = file.read(min(size, _LARGEST_MESSAGE)) if len(prefix) == _LENGTH else b""
            place = Place(source, offset=offset)
            if len(data) < size or len(prefix) < _LENGTH:
                yield Unread(place, len(prefix) + len(data), torn=size <= _LARGEST_MESSAGE)
                return
            advance(_LENGTH + size)
            offset += _LENGTH + size
            try:
                yield protobuf.request(data), place
            except ValueError:
                yield Unread(place, _LENGTH + size, torn=False)
    except _DAMAGED:
        _tell_damaged(copy, source)


def _request(data: bytes, source: str) -> dict[str, Any]:
    try:
        return protobuf.request(data)
    except ValueError as error:
        raise EvidenceError(f"{source} is no export: neither JSON nor OTLP") from error


def _take_values(copy: Copy, found: Iterable[tuple[Any, Place] | Unread]) -> None:
    for one in found:
        if isinstance(one, Unread):
            _tell_unread(copy, one)
            continue
        value, place = one
        try:
            for record in otlp.records(value) if otlp.is_otlp(value) else stores.records(value):
                if record is None:
                    copy.other_records += 1
                else:
                    take(copy, record, place)
        except ValueError:
            copy.add(Verdict.INCOMPLETE, "unreadable", "the value is not in the form of OTLP logs", place)


def _tell_unread(copy: Copy, unread: Unread) -> None:
    if unread.torn:
        detail = f"{unread.size} bytes of a value that was never whole are set aside (a kill leaves such)"
        copy.add(Verdict.VALID, "torn", detail, unread.place)
    else:
        detail = f"{unread.size} bytes are no JSON value: a record may be in them"
        copy.add(Verdict.INCOMPLETE, "unreadable", detail, unread.place)
