"""Spools and exported files as they grow: what was written since the last look, as it stands there.

Nothing is proved here, and nothing held on to: a segment that is rotated or pruned, a stream that
comes or goes, a file that is replaced are followed. What is not a whole line yet is left for the
next look; a whole line that is no record is counted.
"""

from __future__ import annotations

import heapq
import os
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import orjson

from .. import attributes as attr
from ..errors import EvidenceError, SpoolError
from ..evidence.visible import plain
from ..ship.backlog import last_record
from ..ship.reader import first_line
from ..spool.spool import Stream, streams

_BLOCK = 64 * 1024
_LONGEST = 64 * 2**20
"""Bytes of a line; what is longer is no request that a receiver took."""
_REMEMBERED = 65_536
"""Records whose ids are kept, to show one that was written or delivered twice only once."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A record as it stands there. ``time`` and ``recorded`` (its observation) in nanoseconds."""

    event: str
    time: int
    recorded: int
    attributes: dict[str, Any]


class _Lines:
    """The whole lines of a file that are new, without their newlines."""

    def __init__(self) -> None:
        self.offset = 0

    def read(self, file: BinaryIO) -> Iterator[bytes]:
        """From where the last reading ended to the file's end as it is now."""
        while True:
            file.seek(self.offset)
            block = file.read(_BLOCK)
            while b"\n" not in block and (more := file.read(len(block) or _BLOCK)):
                block += more
                if len(block) > _LONGEST:
                    break
            end = block.rfind(b"\n") + 1
            if not end:
                if len(block) > _LONGEST:
                    self.offset += len(block)
                    yield b"..."  # no record, whatever it is the start of
                    continue
                return
            self.offset += end
            yield from block[: end - 1].split(b"\n")


class _Once:
    """Tells what was not seen before, within a bounded memory."""

    def __init__(self) -> None:
        self._ids: set[str] = set()
        self._order: deque[str] = deque()

    def new(self, seen: Seen) -> bool:
        name = seen.attributes.get(attr.RECORD_ID)
        if not isinstance(name, str):
            return True
        if name in self._ids:
            return False
        self._ids.add(name)
        self._order.append(name)
        if len(self._order) > _REMEMBERED:
            self._ids.discard(self._order.popleft())
        return True


class _GrowingStream:
    def __init__(self, stream: Stream, since: int) -> None:
        self.stream = stream
        self.finished = False
        self.unread = 0
        self.failure = ""
        """Why a part of it cannot be read; empty where all can be, or is gone by retention."""
        self._since = since
        self._segment = ""
        self._lines = _Lines()

    def begins(self) -> int:
        """When its first unread record was recorded, or earlier."""
        if self._segment:
            return 0
        try:
            return int(orjson.loads(first_line(self.stream).payload)["observed_timestamp"])
        except (SpoolError, ValueError, TypeError, KeyError):
            return 0

    def read(self) -> Iterator[Seen]:
        alive = self.stream.written()  # asked before reading: what a dead writer left is then all there is
        try:
            segments = [path for path in self.stream.segments() if path.name >= self._segment]
        except SpoolError:
            segments, alive = [], False  # removed by retention
        for path in segments:
            if path.name != self._segment:
                self._segment, self._lines = path.name, _Lines()
                if path is not segments[-1] and last_record(path).time < self._since:
                    continue  # within a stream the time of observation never goes back
            try:
                with path.open("rb") as file:
                    for raw in self._lines.read(file):
                        seen = _spooled(raw)
                        if seen is None:
                            self.unread += 1
                        else:
                            yield seen
            except FileNotFoundError:
                continue  # removed by retention
            except OSError as error:
                self.failure = f"cannot read {path} ({error.strerror})"
        self.finished = not alive


def _spooled(raw: bytes) -> Seen | None:
    if raw[-65:-64] != b"\t":
        return None
    try:
        form = orjson.loads(raw[:-65])
        attributes = {name: plain(value) for name, value in form["attributes"].items()}
        return Seen(str(form["event_name"]), int(form["timestamp"]), int(form["observed_timestamp"]), attributes)
    except (ValueError, TypeError, KeyError, AttributeError):
        return None


class GrowingSpool:
    """A spool, or one stream's directory: all streams as one, in the order in which they were recorded."""

    def __init__(self, root: Path, *, since: int = 0) -> None:
        """``since``: nanoseconds; what was recorded before need not be shown."""
        self._root = root
        self._since = since
        self._streams: dict[str, _GrowingStream] = {}
        self._once = _Once()

    @property
    def unread(self) -> int:
        """Whole lines so far that are no record."""
        return sum(stream.unread for stream in self._streams.values())

    @property
    def failures(self) -> list[str]:
        """What of it cannot be read, and why."""
        return [stream.failure for stream in self._streams.values() if stream.failure]

    @property
    def there(self) -> bool:
        """Whether anything was ever written."""
        return (self._root / "streams").is_dir()

    def poll(self) -> Iterator[Seen]:
        """What is new. Raises SpoolError where ``root`` cannot be read."""
        alone = (self._root / "heads").is_file()
        found = [Stream(self._root)] if alone else streams(self._root)
        for stream in found:
            if stream.id not in self._streams:
                self._streams[stream.id] = _GrowingStream(stream, self._since)
        growing = [one for one in self._streams.values() if not one.finished]
        return filter(self._once.new, _merged(growing))


def _merged(found: list[_GrowingStream]) -> Iterator[Seen]:
    """By the time of observation. A stream is opened only when its time has come: there may be very many."""
    waiting = sorted(((stream.begins(), index) for index, stream in enumerate(found)), reverse=True)
    heap: list[tuple[int, int, Seen, Iterator[Seen]]] = []

    def push(index: int, source: Iterator[Seen]) -> None:
        seen = next(source, None)
        if seen is not None:
            heapq.heappush(heap, (seen.recorded, index, seen, source))

    while heap or waiting:
        while waiting and (not heap or waiting[-1][0] <= heap[0][0]):
            _, index = waiting.pop()
            push(index, found[index].read())
        if heap:
            _, index, seen, source = heapq.heappop(heap)
            yield seen
            push(index, source)


class GrowingFile:
    """A file that a receiver writes, one OTLP/JSON request a line; replaced or cut, it is read anew.

    It is held open between two looks, so that what is written into it last before it is replaced is
    not missed: a context manager closes it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lines = _Lines()
        self._file: BinaryIO | None = None
        self._once = _Once()
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
            yield from self._records(self._file.read(_LONGEST))

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
        for group in orjson.loads(raw).get("resourceLogs", ()):
            for scope in group.get("scopeLogs", ()):
                for record in scope.get("logRecords", ()):
                    attributes = {item["key"]: plain(item.get("value")) for item in record.get("attributes", ())}
                    event = str(record.get("eventName", ""))
                    if attr.RECORD_ID in attributes and event != attr.EVENT_HEAD:
                        time = int(record.get("timeUnixNano", 0))
                        found.append(Seen(event, time, int(record.get("observedTimeUnixNano", time)), attributes))
        return found
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
