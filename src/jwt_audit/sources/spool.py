"""A spool directory, or one stream's directory of it, read for verification. Changes nothing in it.

Nothing in it is taken for what its name says: a link, a pipe or a device in the place of a file or of a
stream is a finding, and so is a stream under a name that hides it. Where retention removes something
meanwhile, it is read again: the statement of that is signed before.
"""

from __future__ import annotations

import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from ..errors import EvidenceError, RecordError, SpoolError
from ..evidence import heads
from ..evidence.copies import Copy
from ..evidence.streams import Chain, Writer
from ..evidence.verdict import Place, Verdict
from ..spool.durable import LockState
from ..spool.segment import MAX_LINE, SEGMENT_BYTES, SUFFIX, segment_index
from ..spool.stream import STREAM_ID, Stream, streams
from .exports import Advance
from .files import BUFFER, content, opened

_LARGEST = 2 * SEGMENT_BYTES
_LARGEST_LIST = 16 * 2**20
_OWN_FILES = re.compile(
    r"heads|lock|cursor|start|recovered|reserve|\.(?:cursor|start|recovered)\.[0-9a-f]{12}|\.(?:heads|\d{8}\.seg)\.new"
)
"""What stands in a stream's directory beside its segments; a crash may leave a temporary file of some of these."""
_REMOVED = ".pruned-"
_READINGS = 3
_WRITER: dict[LockState, Writer] = {LockState.HELD: "alive", LockState.FREE: "gone", LockState.UNKNOWN: "unknown"}


def read_spool(root: Path, advance: Advance) -> Copy:
    """All streams of a spool. ``advance`` is told the bytes read. Raises EvidenceError."""
    for _ in range(_READINGS):
        before = _listing(root)
        copy = _read_once(root, advance)
        if before == {name for name in _listing(root) if name in before}:
            break
    copy.close()
    return copy


def _listing(root: Path) -> set[str]:
    """The segments there are, and so what retention may remove meanwhile."""
    try:
        return {str(path) for path in root.glob(f"streams/*/*{SUFFIX}")}
    except OSError as error:
        raise EvidenceError(f"cannot read the spool {root}") from error


def _read_once(root: Path, advance: Advance) -> Copy:
    copy = Copy(str(root), spool=True)
    try:
        found = streams(root)
        others = sorted({path.name for path in (root / "streams").iterdir()} - {stream.id for stream in found})
    except (SpoolError, OSError) as error:
        raise EvidenceError(f"cannot read the spool {root}") from error
    for name in others:
        _judge_other(copy, root / "streams" / name)
    for stream in found:
        _read_stream(copy, stream, advance)
    _read_removed(copy, root / "pruned")
    return copy


def _judge_other(copy: Copy, path: Path) -> None:
    """Something among the streams that is none by its name or its kind."""
    if path.is_symlink():
        detail = "a link stands among the streams: what it leads to is not read"
        copy.add(Verdict.INCOMPLETE, "hidden_stream", detail, Place(str(path)))
    elif path.is_dir() and any(True for _ in _records_in(path)):
        removed = path.name.removeprefix(_REMOVED)
        if removed != path.name:
            copy.half_removed.append((removed, Place(str(path))))
        else:
            detail = "records stand in a directory whose name is no stream's: they are not read"
            copy.add(Verdict.INCOMPLETE, "hidden_stream", detail, Place(str(path)))
    elif not path.name.startswith("."):  # what is just being born has such a name, and no record
        copy.add(Verdict.VALID, "unknown_file", "no stream has such a name", Place(str(path)))


def _records_in(path: Path) -> Iterator[Path]:
    try:
        for one in path.iterdir():
            if (one.name.endswith(SUFFIX) or one.name == "start") and one.lstat().st_size:
                yield one
    except FileNotFoundError:
        return  # cleared away meanwhile
    except OSError as error:
        raise EvidenceError(f"cannot read {path} ({error.strerror})") from error


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
    chain.writer = _writer(stream)  # asked before reading: what a dead writer left is then all there is
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
    except EvidenceError as error:
        chain.missing("hidden_stream", f"{error}: a part of the stream is not read", Place(str(stream.path)))
        chain.stopped = True
    except (OSError, SpoolError) as error:
        raise EvidenceError(f"cannot read the stream {stream.path}") from error


def _writer(stream: Stream) -> Writer:
    """Whether the stream's writer lives; that of a copy of a spool does not."""
    try:
        if not stat.S_ISREG((stream.path / "lock").lstat().st_mode):
            return "unknown"
    except FileNotFoundError:
        return "gone"
    except OSError:
        return "unknown"
    return _WRITER[stream.writer()]


def _read_segment(chain: Chain, path: Path, advance: Advance) -> None:
    source = str(path)
    number = offset = told = 0
    with opened(path, linked=False) as file:
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
            if offset - told >= BUFFER:
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
    offset = number = 0
    try:
        file = opened(path, linked=False)
    except FileNotFoundError:
        return
    with file:
        while raw := file.readline(MAX_LINE):
            number += 1
            place = Place(str(path), number, offset)
            offset += len(raw)
            if not raw.endswith(b"\n") or not raw.strip(b"\0"):
                chain.note("torn", f"{len(raw)} bytes of a head that was never whole are set aside", place)
                break
            try:
                chain.heads.append((heads.parse_line(raw), place))
            except RecordError as error:
                chain.bad("bad_head", f"the line is no head: {error}", place)
    advance(offset)


def _read_removed(copy: Copy, path: Path) -> None:
    """The file ``pruned``: last heads of streams that retention removed."""
    try:
        lines = _split(content(path, _LARGEST_LIST, linked=False)) if path.exists() else []
    except EvidenceError as error:
        copy.add(Verdict.VALID, "unknown_file", f"{error}: it is not read", Place(str(path)))
        return
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
        lines = _split(content(path, _LARGEST))
        found = [(heads.parse_line(raw), Place(str(path), index + 1)) for index, raw in enumerate(lines)]
    except OSError as error:
        raise EvidenceError(f"cannot read {path} ({error.strerror})") from error
    except RecordError as error:
        raise EvidenceError(f"{path} holds a line that is no signed head") from error
    if not found:
        raise EvidenceError(f"{path} holds no signed head")
    return found
