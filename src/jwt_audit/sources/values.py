"""A stream of JSON values as exporters and kills really leave it: not lines.

The Collector's file exporter may put two objects on one line and, after a kill, glue a whole one to
a torn one; a query's answer may be one document over many lines. The common case, one value a line,
costs no more than parsing it. Nothing is skipped in silence: what is no value comes out as `Unread`.
Whatever a file holds, it is read in time linear in its size, and no value takes more memory than it may.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO, NamedTuple

import orjson

from ..evidence.verdict import Place
from .cut import Cut, cut, has_doubled
from .seen import LONGEST

_TOKENS = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|[{}\[\]"]')
_BEGINS = re.compile(rb"[{\[]")
_FULL = re.compile(rb"[^ \t\r\n,]")
_SHAPE = 12
"""Bytes at the start of a value by which the next value of the same writer is known."""
_LOOKS = 16
"""How often a line that is no value may be gone through to find the values in it."""
_SMALL = 2**20
_MAX_MEMORY = 200 * 2**20
"""Bytes of objects that one value may become; a smaller text is not looked at."""


class Value(NamedTuple):
    """An object or array, or a large request that is read record by record.

    ``doubled``: a member stood twice in an object of it, so that readers see one or the other.
    """

    value: Any
    place: Place
    doubled: bool = False


@dataclass(frozen=True, slots=True)
class Unread:
    """Bytes that are no JSON value. ``torn``: the start of one, as a kill in the middle of a write leaves it."""

    place: Place
    size: int
    torn: bool


def lines(file: BinaryIO) -> Iterator[bytes | int]:
    """The lines of a file with their newlines; of one that is longer than any request, only its size."""
    while raw := file.readline(LONGEST):
        if len(raw) < LONGEST or raw.endswith(b"\n"):
            yield raw
            continue
        size = len(raw)
        while raw and not raw.endswith(b"\n"):
            raw = file.readline(_SMALL)
            size += len(raw)
        yield size


def values(lines: Iterable[bytes | int], source: str) -> Iterator[Value | Unread]:
    """The objects and arrays in ``lines`` (with their newlines), each with its place, and what is none."""
    splitter = _Splitter(source)
    offset = number = 0
    for raw in lines:
        number += 1
        if isinstance(raw, int):
            yield from splitter.finish()
            yield Unread(Place(source, number, offset), raw, torn=False)
            offset += raw
            continue
        if not splitter.pending:
            value = _read(raw)
            if value is not None:
                yield Value(value[0], Place(source, number, offset), value[1])
                value = None  # a request is megabytes of objects: gone before the next is parsed
                offset += len(raw)
                continue
        yield from splitter.feed(raw, number, offset)
        offset += len(raw)
    yield from splitter.finish()


def _read(raw: bytes) -> tuple[Cut | dict[str, Any] | list[Any], bool] | None:
    """The one value in ``raw``, and whether a member of it stands twice; None where it is none, or too large."""
    whole = cut(raw)
    if whole is not None:
        return whole, False
    if len(raw) > _SMALL and _memory(raw) > _MAX_MEMORY:
        return None
    try:
        value = orjson.loads(raw)
        return (value, has_doubled(raw, value)) if isinstance(value, (dict, list)) else None
    except ValueError:
        return None


def _memory(raw: bytes) -> int:
    """About how many bytes of objects a text becomes, seen by what makes an object of it."""
    return len(raw) + 232 * raw.count(b"{") + 88 * raw.count(b"[") + 64 * (raw.count(b",") + raw.count(b":"))


def _end(raw: bytes, position: int, depth: int) -> tuple[int, int]:
    """Where the value under way ends in this line, or -1 and how deep it is nested at the line's end."""
    for match in _TOKENS.finditer(raw, position):
        token = match[0]
        if token in (b"{", b"["):
            depth += 1
        elif token in (b"}", b"]"):
            depth -= 1
            if depth <= 0:
                return match.end(), 0
    return -1, depth


class _Splitter:
    """Cuts values out of lines by their braces, and finds its feet again after a torn one."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._depth = 0
        self._size = 0
        self._line = self._offset = 0
        self.pending: list[bytes] = []
        """The lines of a value that did not end yet."""

    def feed(self, raw: bytes, number: int, offset: int) -> Iterator[Value | Unread]:
        position = 0
        if self.pending and raw[:_SHAPE] == self.pending[0][:_SHAPE] and _read(raw) is not None:
            yield self._give_up()  # it will never end: here begins the next value of the same writer
        elif self.pending and self._size + len(raw) > LONGEST:
            yield self._give_up()
        elif self.pending:
            position, self._depth = _end(raw, 0, self._depth)
            self._keep(raw if position < 0 else raw[:position])
            if position < 0:
                return
            value = _read(b"".join(self.pending))
            place = Place(self._source, self._line, self._offset)
            yield self._give_up() if value is None else Value(value[0], place, value[1])
            self._drop()
        yield from self._line_of_values(raw, position, number, offset)

    def _line_of_values(self, raw: bytes, start: int, number: int, offset: int) -> Iterator[Value | Unread]:
        looked = 0
        while full := _FULL.search(raw, start):
            start = full.start()
            place = Place(self._source, number, offset + start)
            if looked > _LOOKS * len(raw):
                yield Unread(place, len(raw) - start, torn=False)
                return
            begins = raw[start] in b"{["
            end, depth = _end(raw, start, 0) if begins else (-1, 0)
            value = _read(raw[start:end]) if end > 0 else None
            if value is not None:
                yield Value(value[0], place, value[1])
                start = end
                continue
            looked += (end if end > 0 else len(raw)) - start if begins else 0
            following = raw.find(raw[start : start + _SHAPE], start + _SHAPE)
            if following > 0 and begins:  # another value of the same writer was glued to the start of this one
                yield Unread(place, following - start, torn=not 0 < end <= following)
                start = following
            elif depth > 0:
                self._keep(raw[start:])
                self._depth = depth
                self._line, self._offset = number, place.offset
                return
            else:
                begin = None if begins else _BEGINS.search(raw, start + 1)
                end = begin.start() if begin else len(raw)
                yield Unread(place, len(raw[start:end].rstrip(b" \t\r\n,")), torn=False)
                start = end

    def _keep(self, raw: bytes) -> None:
        self.pending.append(raw)
        self._size += len(raw)

    def _drop(self) -> None:
        self.pending, self._size = [], 0

    def _give_up(self) -> Unread:
        torn = not self.pending[-1].endswith(b"\n")
        size = self._size
        self._drop()
        return Unread(Place(self._source, self._line, self._offset), size, torn)

    def finish(self) -> Iterator[Unread]:
        if self.pending:
            yield self._give_up()
