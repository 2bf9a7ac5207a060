"""A spool as it grows: what is there, from its start or from its end, and what was written since the last look.

Nothing is proved here, and nothing held on to: a segment that is rotated or pruned, a stream that
comes or goes are followed. What is not a whole line yet is left for the next look; a whole line that
is no record is counted.
"""

from __future__ import annotations

import heapq
import sys
from collections.abc import Iterator
from contextlib import suppress
from functools import cached_property
from pathlib import Path

import orjson

from .. import attributes as attr
from ..errors import SpoolError
from ..evidence.visible import plain
from ..spool.durable import LockState
from ..spool.stream import Stream, streams
from ..stream_ends import first_line, last_record
from .backwards import end_of_lines, lines_backwards
from .seen import LONGEST, NewLines, Once, Seen


class _GrowingStream:
    def __init__(self, stream: Stream, since: int) -> None:
        self.stream = stream
        self.finished = False
        self.unread = 0
        self.failure = ""
        """Why a part of it cannot be read; empty where all can be, or is gone by retention."""
        self._since = since
        self._segment = ""
        self._lines = NewLines()

    @cached_property
    def service(self) -> str:
        """The name of the service that writes it, as its first record says; empty where that cannot be read."""
        try:
            line = first_line(self.stream)
            form = {} if line is None else orjson.loads(line.payload)
            resource = orjson.loads(form["attributes"][attr.STREAM_RESOURCE]["stringValue"])
            return str(plain(resource["service.name"]))
        except (SpoolError, ValueError, TypeError, KeyError, AttributeError):
            return ""

    def begins(self) -> int:
        """When its first unread record was recorded, or earlier."""
        if self._segment:
            return 0
        try:
            line = first_line(self.stream)
            return 0 if line is None else int(orjson.loads(line.payload)["observed_timestamp"])
        except (SpoolError, ValueError, TypeError, KeyError):
            return 0

    def read(self) -> Iterator[Seen]:
        # Asked before reading: what a dead writer left is then all there is
        alive = self.stream.writer() is not LockState.FREE
        try:
            segments = [path for path in self.stream.segments() if path.name >= self._segment]
        except SpoolError as error:
            segments, alive = [], not self.stream.gone()
            self.failure = str(error) if alive else ""
        for path in segments:
            if path.name != self._segment:
                self._segment, self._lines = path.name, NewLines()
                if path is not segments[-1] and self._before(path):
                    continue
            try:
                with path.open("rb") as file:
                    yield from self._records(self._lines.read(file))
            except FileNotFoundError:
                continue  # removed by retention
            except OSError as error:
                self.failure = f"cannot read {path} ({error.strerror})"
        self.finished = not alive

    def go_to_end(self) -> int:
        """Let `read` begin after what is there now; when its last record was recorded, or later, 0 for none."""
        with suppress(SpoolError):  # removed by retention
            for path in reversed(self.stream.segments()[-1:]):
                try:
                    with path.open("rb") as file:
                        self._segment, self._lines.offset = path.name, end_of_lines(file)
                        last = next(lines_backwards(file, self._lines.offset, LONGEST), None)
                        found = None if last is None else _spooled(last, "")
                        return sys.maxsize if found is None else found.recorded
                except FileNotFoundError:
                    continue
                except OSError as error:
                    self.failure = f"cannot read {path} ({error.strerror})"
        return 0

    def _before(self, path: Path) -> bool:
        """Whether all of a segment need not be shown: within a stream the time of observation never goes back."""
        try:
            return last_record(path).time < self._since
        except SpoolError:
            return False

    def latest(self) -> Iterator[Seen]:
        """After `go_to_end`: what was there then, the last first."""
        try:
            segments = [path for path in self.stream.segments() if path.name <= self._segment]
        except SpoolError:
            return
        at = self._lines.offset
        for path in reversed(segments):
            try:
                with path.open("rb") as file:
                    end = at if path.name == self._segment else end_of_lines(file)
                    yield from self._records(lines_backwards(file, end, LONGEST))
            except FileNotFoundError:
                continue
            except OSError as error:
                self.failure = f"cannot read {path} ({error.strerror})"

    def _records(self, lines: Iterator[bytes]) -> Iterator[Seen]:
        for raw in lines:
            seen = _spooled(raw, self.service)
            if seen is None:
                self.unread += 1
            else:
                yield seen


def _spooled(raw: bytes, service: str) -> Seen | None:
    if raw[-65:-64] != b"\t":
        return None
    try:
        form = orjson.loads(raw[:-65])
        attributes = {name: plain(value) for name, value in form["attributes"].items()}
        body = plain(form.get("body")) if "body" in form else ""
        times = int(form["timestamp"]), int(form["observed_timestamp"])
        ids = str(form.get("trace_id", "")), str(form.get("span_id", ""))
        return Seen(str(form["event_name"]), *times, attributes, service, str(body), *ids)
    except (ValueError, TypeError, KeyError, AttributeError):
        return None


class GrowingSpool:
    """A spool, or one stream's directory: all streams as one, in the order in which they were recorded."""

    by_time = True
    """Within a stream the time of observation never goes back."""
    holds_records = True

    def __init__(self, root: Path, *, since: int = 0) -> None:
        """``since``: nanoseconds; what was recorded before need not be shown."""
        self._root = root
        self._since = since
        self._streams: dict[str, _GrowingStream] = {}
        self._once = Once()

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
        self._look()
        growing = [one for one in self._streams.values() if not one.finished]
        return filter(self._once.new, _merged(growing))

    def latest(self, *, whole: bool) -> Iterator[Seen]:  # noqa: ARG002  # as the other sources have it
        """What is there now, the last first; what comes later is then for `poll`. Raises SpoolError as that.

        With or without ``whole``, a line that does not end yet is none.
        """
        self._look()
        return filter(self._once.new, _merged_backwards(list(self._streams.values())))

    def last(self) -> Iterator[Seen]:
        """Nothing: a line that does not end is none."""
        return iter(())

    def check(self) -> None:
        """Nothing: what a spool is, is seen before it is read."""

    def close(self) -> None:
        """Nothing is held open between two looks."""

    def _look(self) -> None:
        alone = (self._root / "heads").is_file()
        found = [Stream(self._root)] if alone else streams(self._root)
        for stream in found:
            if stream.id not in self._streams:
                self._streams[stream.id] = _GrowingStream(stream, self._since)


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


def _merged_backwards(found: list[_GrowingStream]) -> Iterator[Seen]:
    """By the time of observation, the last first. A stream is opened only when its time has come, as in `_merged`."""
    waiting = sorted((stream.go_to_end(), index) for index, stream in enumerate(found))
    heap: list[tuple[int, int, Seen, Iterator[Seen]]] = []

    def push(index: int, source: Iterator[Seen]) -> None:
        seen = next(source, None)
        if seen is not None:
            heapq.heappush(heap, (-seen.recorded, index, seen, source))

    def each() -> Iterator[Seen]:
        while heap or waiting:
            while waiting and (not heap or waiting[-1][0] >= -heap[0][0]):
                _, index = waiting.pop()
                push(index, found[index].latest())
            if heap:
                _, index, seen, source = heapq.heappop(heap)
                yield seen
                push(index, source)

    return each()
