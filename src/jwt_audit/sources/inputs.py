"""What a path holds, by its content: a spool, a stream of one, exported files, standard input.

Files may be gzip-compressed. Exports are read before spools, so that a spool that grows meanwhile is
never behind what it has already delivered.
"""

from __future__ import annotations

import gzip
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any, cast

from ..errors import EvidenceError
from ..evidence.copies import Copy
from ..evidence.exported import take
from ..evidence.verdict import Place, Verdict
from . import otlp, protobuf, stores
from .spool import Advance, read_spool, read_stream
from .values import Unread, values

STDIN = "-"

_EXPORT_SUFFIXES = (".json", ".jsonl", ".ndjson", ".gz", ".binpb", ".pb")
_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
_PEEK = 64


def read(paths: Sequence[str], advance: Advance = lambda _: None) -> list[Copy]:
    """The copies that these paths hold: each spool is one, all exported files together are one.

    ``advance`` is told the bytes read. Raises EvidenceError for a path that cannot be read as either.
    """
    spools: list[Callable[[], Copy]] = []
    exports: list[str] = []
    for name in paths:
        path = Path(name)
        if name == STDIN or path.is_file():
            exports.append(name)
        elif not path.is_dir():
            raise EvidenceError(f"there is no {name}")
        elif (path / "streams").is_dir():
            spools.append(lambda path=path: read_spool(path, advance))  # type: ignore[misc]
        elif (path / "heads").is_file() or any(path.glob("*.seg")):
            spools.append(lambda path=path: read_stream(path, advance))  # type: ignore[misc]
        else:
            found = _export_files(path)
            if not found:
                raise EvidenceError(f"{name} is neither a spool nor does it hold exported files")
            exports += found
    copies = [_read_exports(exports, advance)] if exports else []
    return copies + [read_one() for read_one in spools]


def size(paths: Iterable[str]) -> int:
    """Bytes that `read` will tell, as far as can be known before: of a spool, files and directories."""
    total = 0
    for name in paths:
        path = Path(name)
        if path.is_file():
            total += path.stat().st_size
        elif path.is_dir() and name != STDIN:
            spool = (path / "streams").is_dir()
            files = path.glob("streams/*/*") if spool else (Path(found) for found in _export_files(path) or _own(path))
            total += sum(one.stat().st_size for one in files if one.suffix == ".seg" or one.name == "heads" or not spool)
    return total


def _own(path: Path) -> list[str]:
    return [str(one) for one in path.iterdir() if one.is_file()]


def _export_files(path: Path) -> list[str]:
    """The exported files of a directory by their names' ends; rotated ones of the Collector keep theirs."""
    return sorted(str(one) for one in path.iterdir() if one.is_file() and one.name.endswith(_EXPORT_SUFFIXES))


def _read_exports(names: Sequence[str], advance: Advance) -> Copy:
    copy = Copy(names[0] if len(names) == 1 else f"{len(names)} exported files", spool=False)
    for name in names:
        try:
            if name == STDIN:
                _read_export(copy, "standard input", sys.stdin.buffer, advance)
            else:
                with Path(name).open("rb") as file:
                    _read_export(copy, name, file, advance)
        except OSError as error:
            raise EvidenceError(f"cannot read {name} ({error.strerror or error})") from error
    copy.close()
    return copy


def _read_export(copy: Copy, source: str, file: IO[bytes], advance: Advance) -> None:
    start, file = _peeked(file)
    if start.startswith(_ZSTD):
        raise EvidenceError(f"{source} is compressed with zstd: give it as zstd -dc FILE | jwt-audit verify -")
    if start.startswith(_GZIP):
        start, file = _peeked(cast("IO[bytes]", gzip.GzipFile(fileobj=file)))
    text = start.lstrip()
    if not start:
        return
    if text[:1] in (b"{", b"[") and text[1:2] in (b"", b'"', b"{", b"[", b" ", b"\n", b"\r", b"\t", b"]", b"}"):
        _take_values(copy, values(_told(file, copy, source, advance), source))
    elif start[0] in (0x00, 0x0A):
        _take_values(copy, _messages(b"".join(_told(file, copy, source, advance)), source))
    else:
        raise EvidenceError(f"{source} is no export: neither JSON nor OTLP (of a spool give the directory)")


def _told(lines: Iterable[bytes], copy: Copy, source: str, advance: Advance) -> Iterator[bytes]:
    """The lines, with the progress told; a compressed file that ends too early is a finding."""
    try:
        for line in lines:
            yield line
            advance(len(line))
    except (EOFError, zlib.error, gzip.BadGzipFile):
        copy.add(Verdict.INCOMPLETE, "unreadable", "the compressed file is damaged or ends too early", Place(source))


def _messages(data: bytes, source: str) -> Iterator[tuple[Any, Place] | Unread]:
    """OTLP/protobuf: one request, or requests with their length in four bytes before (the Collector's files)."""
    if data[0] == 0x0A:
        try:
            yield protobuf.request(data), Place(source, offset=0)
        except ValueError as error:
            raise EvidenceError(f"{source} is no export: neither JSON nor OTLP") from error
        return
    offset = 0
    while offset < len(data):
        end = offset + 4 + int.from_bytes(data[offset : offset + 4], "big")
        place = Place(source, offset=offset)
        if end > len(data) or len(data) - offset < 4:
            yield Unread(place, len(data) - offset, torn=True)
            return
        try:
            yield protobuf.request(data[offset + 4 : end]), place
        except ValueError:
            yield Unread(place, end - offset, torn=False)
        offset = end


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


def _peeked(file: IO[bytes]) -> tuple[bytes, IO[bytes]]:
    """The first bytes, and the file from its start again."""
    import io

    buffered = io.BufferedReader(cast("io.RawIOBase", file), 2**20)
    return buffered.peek(_PEEK)[:_PEEK], cast("IO[bytes]", buffered)
