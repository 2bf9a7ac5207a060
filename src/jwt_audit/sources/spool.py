"""A spool directory, or one stream's directory of it, read for verification. Changes nothing in it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import BinaryIO

from ..errors import EvidenceError, RecordError, SpoolError
from ..evidence import heads
from ..evidence.copies import Copy
from ..evidence.streams import Chain
from ..evidence.verdict import Place, Verdict
from ..spool.segment import MAX_LINE, segment_index
from ..spool.spool import STREAM_ID, Stream, streams
from ..spool.writer import SEGMENT_BYTES
from .exports import Advance

_BUFFER = 2**20
_LARGEST = 2 * SEGMENT_BYTES
_OWN_FILES = re.compile(r"heads|lock|cursor|start|reserve|\.(?:cursor|start)\.[0-9a-f]{12}|\.(?:heads|\d{8}\.seg)\.new")
"""What stands in a stream's directory beside its segments; a crash may leave a temporary file of two of them."""


def read_spool(root: Path, advance: Advance) -> Copy:
    """All streams of a spool. ``advance`` is told the bytes read. Raises EvidenceError."""
    copy = Copy(str(root), spool=True)
    try:
        found = streams(root)
        unknown = sorted({path.name for path in (root / "streams").iterdir()} - {stream.id for stream in found})
    except (SpoolError, OSError) as error:
        raise EvidenceError(f"cannot read the spool {root}") from error
    for name in unknown:
        copy.add(Verdict.VALID, "unknown_file", "no stream has such a name", Place(str(root / "streams" / name)))
    for stream in found:
        _read_stream(copy, stream, advance)
    _read_removed(copy, root / "pruned")
    copy.close()
    return copy


def read_stream(path: Path, advance: Advance) -> Copy:
    """One stream's directory alone. Raises EvidenceError."""
    if not STREAM_ID.fullmatch(path.name):
        raise EvidenceError(f"{path} has not the name of a stream")
    copy = Copy(str(path), spool=True)
    _read_stream(copy, Stream(path), advance)
    copy.close()
    return copy


def _read_stream(copy: Copy, stream: Stream, advance: Advance) -> None:
    chain = copy.chain(stream.id)
    try:
        segments = stream.segments()
        # The heads first: what is appended meanwhile is then in the segments, not the other way round.
        _read_heads(chain, stream.heads, advance)
        names = {path.name for path in stream.path.iterdir()}
        for name in sorted(names - {path.name for path in segments}):
            if not _OWN_FILES.fullmatch(name):
                chain.note("unknown_file", "not written by the spool", Place(str(stream.path / name)))
        start = stream.path / "start"
        if start.exists():
            chain.begin_segment(may_skip=True)
            _read_segment(chain, start, advance)
        for index, path in enumerate(segments):
            if chain.stopped:
                return
            if index and segment_index(path.name) != segment_index(segments[index - 1].name) + 1:
                chain.note("segment_gap", "the segment's name does not follow that of the one before", Place(str(path)))
            chain.begin_segment(may_skip=index == 0)
            _read_segment(chain, path, advance)
    except FileNotFoundError as error:
        detail = "it was removed while it was read: run the verification again"
        chain.missing("changed_meanwhile", detail, Place(str(error.filename)))
        chain.stopped = True
    except (OSError, SpoolError) as error:
        raise EvidenceError(f"cannot read the stream {stream.path}") from error


def _read_segment(chain: Chain, path: Path, advance: Advance) -> None:
    source = str(path)
    number = offset = told = 0
    with path.open("rb", buffering=_BUFFER) as file:
        while raw := file.readline(MAX_LINE + 1):
            number += 1
            place = Place(source, number, offset)
            whole = raw[-66:-65] == b"\t" and raw[-1:] == b"\n"
            if not whole or not chain.line(raw[:-66], raw[-65:-1], place):
                _read_damage(chain, file, raw, place)
                break
            if chain.stopped:
                break
            offset += len(raw)
            if offset - told >= _BUFFER:
                advance(offset - told)
                told = offset
    advance(offset - told)


def _read_damage(chain: Chain, file: BinaryIO, raw: bytes, place: Place) -> None:
    """A line that is not whole: what its segment's reader saw of it, and the rest of the segment."""
    if not raw.endswith(b"\n") and len(raw) <= MAX_LINE:
        chain.damaged(raw, place)  # up to the file's end as it was then; its writer may be at work
        return
    file.seek(place.offset)
    rest = file.read(_LARGEST)
    if rest.startswith(raw):
        chain.damaged(rest, place)
    else:
        chain.missing("changed_meanwhile", "it was changed while it was read: run the verification again", place)
        chain.stopped = True


def _split(data: bytes) -> list[bytes]:
    """The lines with their newlines; the last may lack it."""
    found = [line + b"\n" for line in data.split(b"\n")]
    found[-1] = found[-1][:-1]
    return found if found[-1] else found[:-1]


def _read_heads(chain: Chain, path: Path, advance: Advance) -> None:
    offset = 0
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return
    advance(len(content))
    for index, raw in enumerate(_split(content)):
        place = Place(str(path), index + 1, offset)
        offset += len(raw)
        if not raw.endswith(b"\n") or not raw.strip(b"\0"):
            chain.note("torn", f"{len(raw)} bytes of a head that was never whole are set aside", place)
            break
        try:
            chain.heads.append((heads.parse_line(raw), place))
        except RecordError as error:
            chain.bad("bad_head", f"the line is no head: {error}", place)


def _read_removed(copy: Copy, path: Path) -> None:
    """The file ``pruned``: last heads of streams that retention removed."""
    try:
        lines = _split(path.read_bytes()) if path.exists() else []
    except OSError as error:
        raise EvidenceError(f"cannot read {path}") from error
    for index, raw in enumerate(lines):
        place = Place(str(path), index + 1)
        try:
            copy.removed.append((heads.parse_line(raw), place))
        except RecordError:
            copy.add(Verdict.VALID, "unknown_file", "a line of what retention removed is no head", place)


def read_heads(path: Path) -> list[tuple[heads.SignedHead, Place]]:
    """Heads kept elsewhere: a file of head lines, one or more. Raises EvidenceError."""
    try:
        if path.is_fifo() and not path.is_symlink():  # what a shell makes of <(…) is a link, and does not wait
            raise EvidenceError(f"{path} is a named pipe, not a file")
        lines = _split(path.read_bytes())
        found = [(heads.parse_line(raw), Place(str(path), index + 1)) for index, raw in enumerate(lines)]
    except OSError as error:
        raise EvidenceError(f"cannot read {path} ({error.strerror})") from error
    except RecordError as error:
        raise EvidenceError(f"{path} holds a line that is no signed head") from error
    if not found:
        raise EvidenceError(f"{path} holds no signed head")
    return found
