"""Exported files: what the sink, the Collector's file exporter or a store's query wrote.

By content, not by name: a stream of JSON values (OTLP or a store's own form), OTLP/protobuf, each
also compressed with gzip. Nothing is passed over in silence: bytes that are no value are a finding, a
file of a directory that is not read is named.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from io import BufferedReader
from pathlib import Path
from typing import Any, BinaryIO, cast

from ..errors import EvidenceError
from ..evidence.copies import Copy
from ..evidence.exported import Exported, take
from ..evidence.verdict import Place, Verdict
from . import otlp, protobuf, stores
from .cut import Cut
from .files import opened
from .gzipped import DAMAGED, unpacked
from .seen import LONGEST
from .values import Unread, Value, lines, values

Advance = Callable[[int], None]

STDIN = Path("-")
EXPORT_NAME = re.compile(r".*\.(?:json|jsonl|ndjson|gz|zst|zstd|binpb|pb)(?:[.\-_].*)?", re.DOTALL)
"""Of a file in a directory: rotated ones keep what tells them (``audit.jsonl.1``, ``audit.jsonl-20261128.gz``)."""
_OWN_NAMES = frozenset({"lock"})
"""What the sink keeps beside its files."""

_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
_LENGTH = 4
"""Bytes before each message in the Collector's files that are not JSON: its size, big-endian."""
_PEEK = 64
_LARGEST_MESSAGE = LONGEST


def read_exports(paths: Sequence[Path], advance: Advance) -> Copy:
    """What these paths hold together: files, directories of files, ``-`` for standard input.

    ``advance`` is told the bytes read. Raises EvidenceError for what cannot be read or is no export.
    """
    copy = Copy(str(paths[0]) if len(paths) == 1 else f"{len(paths)} exports", spool=False)
    for path in paths:
        before = copy.taken
        for name in _files(copy, path) if path != STDIN and path.is_dir() else [path]:
            try:
                if name == STDIN:
                    _read_export(copy, "standard input", sys.stdin.buffer, advance)
                else:
                    with opened(name) as file:
                        _read_export(copy, str(name), file, advance)
            except OSError as error:
                raise EvidenceError(f"cannot read {name} ({error.strerror or error})") from error
        if copy.taken == before:
            copy.add(Verdict.INCOMPLETE, "nothing", "it holds no audit record", Place(str(path)))
    copy.close()
    return copy


def export_files(path: Path) -> list[Path]:
    """The exported files of a directory, by their names; rotated ones of the Collector and of logrotate keep theirs."""
    return sorted(one for one in path.iterdir() if EXPORT_NAME.fullmatch(one.name) and one.is_file())


def _files(copy: Copy, path: Path) -> list[Path]:
    """The exported files of a directory; each other one is named."""
    found = export_files(path)
    for other in sorted({*path.iterdir()} - {*found}):
        if other.name not in _OWN_NAMES:
            copy.add(
                Verdict.VALID, "unknown_file", "it has not the name of an export, and is not read", Place(str(other))
            )
    return found


def _read_export(copy: Copy, source: str, given: BinaryIO, advance: Advance) -> None:
    file = cast("BufferedReader", given)
    start = file.peek(_PEEK)
    if start.startswith(_ZSTD):
        raise EvidenceError(f"{source} is compressed with zstd: give it as zstd -dc FILE | jwt-audit verify -")
    if start[_LENGTH : _LENGTH + len(_ZSTD)] == _ZSTD:
        raise EvidenceError(
            f"{source} holds messages that the Collector compressed one by one, which no tool undoes: "
            "have its file exporter write without compression"
        )
    if start.startswith(_GZIP):
        file = unpacked(file)
        try:
            start = file.peek(_PEEK)
        except DAMAGED as error:
            start = b""
            _tell_damaged(copy, source, error)
    text = start.lstrip()
    if not text:
        return
    if text[:1] in (b"{", b"[") and (len(text) == 1 or text[1] in b'"{[ \n\r\t]}'):
        _take_values(copy, values(_told(lines(file), copy, source, advance), source))
    elif start[0] in (0x00, 0x0A):
        _take_values(copy, _messages(file, copy, source, advance))
    else:
        raise EvidenceError(f"{source} is no export: neither JSON nor OTLP (of a spool give the directory)")


def _tell_damaged(copy: Copy, source: str, error: Exception) -> None:
    why = str(error) if "more than" in str(error) else "it is damaged or ends too early"
    copy.add(Verdict.INCOMPLETE, "unreadable", f"the compressed file is not read to its end: {why}", Place(source))


def _told(found: Iterable[bytes | int], copy: Copy, source: str, advance: Advance) -> Iterator[bytes | int]:
    """The lines, with the progress told; a compressed file that ends too early is a finding."""
    try:
        for line in found:
            yield line
            advance(line if isinstance(line, int) else len(line))
    except DAMAGED as error:
        _tell_damaged(copy, source, error)


def _messages(file: BufferedReader, copy: Copy, source: str, advance: Advance) -> Iterator[Value | Unread]:
    """OTLP/protobuf: one request, or requests with their length in four bytes before (the Collector's files)."""
    try:
        if file.peek(1)[:1] == b"\x0a":
            data = file.read(_LARGEST_MESSAGE + 1)
            advance(len(data))
            yield Value(_request(data, source), Place(source, offset=0))
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
                yield Value(protobuf.Request(data), place)
            except ValueError:
                yield Unread(place, _LENGTH + size, torn=False)
    except DAMAGED as error:
        _tell_damaged(copy, source, error)


def _request(data: bytes, source: str) -> protobuf.Request:
    if len(data) > _LARGEST_MESSAGE:
        raise EvidenceError(f"{source} is larger than any request")
    try:
        return protobuf.Request(data)
    except ValueError as error:
        raise EvidenceError(f"{source} is no export: neither JSON nor OTLP") from error


def _take_values(copy: Copy, found: Iterable[Value | Unread]) -> None:
    for one in found:
        if isinstance(one, Unread):
            _tell_unread(copy, one)
            continue
        take_value(copy, one.value, one.place)
        if one.doubled or (isinstance(one.value, Cut) and one.value.doubled):
            _tell_doubled(copy, one.place)


def take_value(copy: Copy, value: Any, place: Place) -> None:
    """Put the audit records of one value, or of a list of OTLP requests, into the copy, and what is wrong with it."""
    if isinstance(value, list) and value and all(map(otlp.is_otlp, value)):
        for one in value:
            take_value(copy, one, place)
        return
    try:
        for record in otlp.records(value) if otlp.is_otlp(value) else stores.records(value):
            if record is None:
                copy.other_records += 1
            elif isinstance(record, Exported):
                take(copy, record, place)
            else:
                kind, detail = record
                verdict = Verdict.INVALID if kind == "ambiguous" else Verdict.INCOMPLETE
                copy.add(verdict, kind, detail, place)
    except ValueError:
        copy.add(Verdict.INCOMPLETE, "unreadable", "the value is not in the form of OTLP logs", place)


def _tell_doubled(copy: Copy, place: Place) -> None:
    detail = "a member stands twice in one object: some readers see the one, some the other"
    copy.add(Verdict.INVALID, "ambiguous", detail, place)


def _tell_unread(copy: Copy, unread: Unread) -> None:
    copy.unread += unread.size
    if unread.torn:
        detail = f"{unread.size} bytes of a value that was never whole are set aside (a kill leaves such)"
        copy.add(Verdict.VALID, "torn", detail, unread.place)
    else:
        detail = f"{unread.size} bytes are no JSON value, or more than is read at once: a record may be in them"
        copy.add(Verdict.INCOMPLETE, "unreadable", detail, unread.place)
