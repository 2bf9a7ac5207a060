"""A file that a receiver writes, or a pipe, as it grows: what is there, also from its end, and what came since.

Nothing is proved here. What is not a whole line yet is left for the next look; a whole line that is
no OTLP is counted.
"""

from __future__ import annotations

import heapq
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import orjson

from .. import attributes as attr
from ..errors import EvidenceError
from ..evidence.audit import is_audit
from ..evidence.visible import plain
from .backwards import end_of_lines, lines_backwards
from .cut import records
from .seen import LONGEST, NewLines, Once, Seen

_STDIN = Path("-")
_RECORDED = re.compile(rb'"observedTimeUnixNano":\s*"?(\d{1,19})')
"""Not within a text: there a quotation mark is escaped."""
_FOREIGN_LINES = 100
"""Lines that are no OTLP, with none before that is, after which a file is not read on."""
_WINDOW = 8 * 2**20
"""Bytes of a file's end that are put in the order of time: what streams sent by turns, a few requests long each."""


class GrowingFile:
    """A file that a receiver writes, one OTLP/JSON request a line; replaced or cut, it is read anew.

    It is held open between two looks, so that what is written into it last before it is replaced is
    not missed: `close` lets go of it.
    """

    by_time = False
    """Records stand where they arrived, which after an outage is hours late."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lines = NewLines()
        self._file: BinaryIO | None = None
        self._once = Once()
        self._broken = 0
        self._understood = False
        self.holds_records = False
        """Whether an audit record was seen in it."""

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
                self._file = self._opened()
                self._lines.offset = 0
            if os.fstat(self._file.fileno()).st_size < self._lines.offset:
                self._lines.offset = 0  # it was cut, and begins anew
            yield from self._read(self._file)
        except OSError as error:
            raise EvidenceError(f"cannot read {self._path} ({error.strerror})") from error

    def latest(self, *, whole: bool) -> Iterator[Seen]:
        """What is there now, the last first, by the time of observation within a window; `poll` goes on after it.

        With ``whole`` what follows the last newline is taken for a line. Raises EvidenceError as `poll`.
        """
        try:
            self._file = file = self._opened()
            end = self._lines.offset = end_of_lines(file)
            rest = list(self.last()) if whole else []
        except OSError as error:
            raise EvidenceError(f"cannot read {self._path} ({error.strerror})") from error
        return self._latest(lines_backwards(file, end, LONGEST), rest)

    def _latest(self, lines: Iterator[bytes], rest: list[Seen]) -> Iterator[Seen]:
        try:
            yield from filter(self._once.new, _latest_first(lines, self._read_line, rest))
        except OSError as error:
            raise EvidenceError(f"cannot read {self._path} ({error.strerror})") from error

    def _opened(self) -> BinaryIO:
        file = self._path.open("rb")
        if file.read(2) == b"\x1f\x8b":
            file.close()
            raise EvidenceError(f"{self._path} is compressed: zcat {self._path} | jwt-audit tail -")
        return file

    def last(self) -> Iterator[Seen]:
        """What follows the last newline, taken for a line: of a file that grows no more."""
        if self._file is not None:
            self._file.seek(self._lines.offset)
            yield from self._records(self._file.read(LONGEST))

    @property
    def there(self) -> bool:
        """Whether the file is there now."""
        return self._file is not None or self._path.exists()

    @property
    def failures(self) -> list[str]:
        """None: what cannot be read raises."""
        return []

    def close(self) -> None:
        """Let go of the file."""
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
        return filter(self._once.new, self._read_line(raw))

    def _read_line(self, raw: bytes) -> list[Seen]:
        found = exported(raw)
        if found is None:
            self._broken += 1
            if self._broken >= _FOREIGN_LINES:
                self.check()
            return []
        self._understood = self._understood or bool(raw.strip())
        self.holds_records = self.holds_records or bool(found)
        return found

    def check(self) -> None:
        """Raises EvidenceError where lines were read and none is OTLP: it is no file of a receiver."""
        if self._broken and not self._understood:
            raise EvidenceError(f"{self._path} holds no audit records: none of its lines is OTLP/JSON")


class GivenLines(GrowingFile):
    """What comes through a pipe, in the order in which it comes."""

    def __init__(self, stream: BinaryIO, path: Path = _STDIN) -> None:
        super().__init__(path)
        self._stream = stream

    def poll(self) -> Iterator[Seen]:
        for raw in self._stream:
            yield from self._records(raw)

    def close(self) -> None:
        """Let go of the pipe, unless it is standard input, which others opened."""
        if self._path != _STDIN:
            self._stream.close()


def exported(raw: bytes) -> list[Seen] | None:
    """The audit records of one line of OTLP/JSON, heads not among them; None for what is no OTLP.

    What is an audit record is `verify`'s rule: whatever is shown here is judged there.
    """
    if not raw.strip():
        return []
    try:
        found = []
        known, service = None, ""
        for record, group, *_ in records(orjson.loads(raw)):
            resource = group.get("resource", {}).get("attributes", [])
            attributes = {item["key"]: plain(item.get("value")) for item in record.get("attributes", ())}
            event = str(record.get("eventName", ""))
            if is_audit(attributes, event) and event != attr.EVENT_HEAD:
                time = int(record.get("timeUnixNano", 0))
                recorded = int(record.get("observedTimeUnixNano", time))
                if resource is not known:
                    known, service = resource, _service(resource)
                body = plain(record["body"]) if "body" in record else ""
                ids = str(record.get("traceId", "")), str(record.get("spanId", ""))
                found.append(Seen(event, time, recorded, attributes, service, str(body), *ids))
        return found
    except (ValueError, TypeError, KeyError, AttributeError):
        return None


def _service(resource: list[dict[str, Any]]) -> str:
    return next((str(plain(item.get("value"))) for item in resource if item.get("key") == "service.name"), "")


def _latest_first(lines: Iterable[bytes], read: Callable[[bytes], list[Seen]], rest: Iterable[Seen]) -> Iterator[Seen]:
    """Records by the time of observation, the last first, as far as a window of lines allows.

    A line waits unread, by the time that it says of its records: only what comes first is parsed.
    """
    heap: list[tuple[int, int, bytes | Seen]] = []
    count = held = 0

    def push(time: int, one: bytes | Seen) -> None:
        nonlocal count
        count += 1
        heapq.heappush(heap, (-time, count, one))

    def pop() -> Iterator[Seen]:
        nonlocal held
        _, _, one = heapq.heappop(heap)
        if isinstance(one, Seen):
            yield one
            return
        held -= len(one)
        for seen in read(one):
            push(seen.recorded, seen)

    for seen in rest:
        push(seen.recorded, seen)
    for line in lines:
        times = _RECORDED.findall(line)
        push(max(map(int, times)) if times else sys.maxsize, line)
        held += len(line)
        while held > _WINDOW:
            yield from pop()
    while heap:
        yield from pop()
