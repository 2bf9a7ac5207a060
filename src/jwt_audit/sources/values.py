"""A stream of JSON values, as exporters really leave it: not lines.

The Collector's file exporter may put two objects on one line and, after a kill, glue a whole one to
a torn one; a query's answer may be one document over many lines. The common case, one value a line,
costs no more than parsing it. Nothing is skipped in silence: what is no value comes out as `Unread`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import orjson

from ..evidence.verdict import Place
from .cut import cut

_TOKENS = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|[{}\[\]"]')
_SHAPE = 12
"""Bytes at the start of a value by which the next value of the same writer is known."""
_SPACE = b" \t\r\n,"


@dataclass(frozen=True, slots=True)
class Unread:
    """Bytes that are no JSON value. ``torn``: the start of one, as a kill in the middle of a write leaves it."""

    place: Place
    size: int
    torn: bool


def values(lines: Iterable[bytes], source: str) -> Iterator[tuple[Any, Place] | Unread]:
    """The objects and arrays in ``lines`` (with their newlines), each with its place, and what is none."""
    splitter = _Splitter(source)
    offset = number = 0
    for raw in lines:
        number += 1
        if not splitter.pending:
            value = cut(raw) or _parsed(raw)
            if value is not None:
                yield value, Place(source, number, offset)
                value = None  # a request is megabytes of objects: gone before the next is parsed
                offset += len(raw)
                continue
        yield from splitter.feed(raw, number, offset)
        offset += len(raw)
    yield from splitter.finish()


def _parsed(raw: bytes) -> dict[str, Any] | list[Any] | None:
    try:
        value = orjson.loads(raw)
    except orjson.JSONDecodeError:
        return None
    return value if isinstance(value, (dict, list)) else None


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
        self._line = self._offset = 0
        self.pending: list[bytes] = []
        """The lines of a value that did not end yet."""

    def feed(self, raw: bytes, number: int, offset: int) -> Iterator[tuple[Any, Place] | Unread]:
        position = 0
        if self.pending and raw[:_SHAPE] == self.pending[0][:_SHAPE] and _parsed(raw) is not None:
            yield self._give_up()  # it will never end: here begins the next value of the same writer
        elif self.pending:
            position, self._depth = _end(raw, 0, self._depth)
            self.pending.append(raw if position < 0 else raw[:position])
            if position < 0:
                return
            value = _parsed(b"".join(self.pending))
            yield self._give_up() if value is None else (value, Place(self._source, self._line, self._offset))
            self.pending = []
        yield from self._line_of_values(raw, position, number, offset)

    def _line_of_values(self, raw: bytes, start: int, number: int, offset: int) -> Iterator[tuple[Any, Place] | Unread]:
        while raw[start:].strip(_SPACE):
            start += len(raw[start:]) - len(raw[start:].lstrip(_SPACE))
            place = Place(self._source, number, offset + start)
            end, depth = _end(raw, start, 0) if raw[start] in b"{[" else (-1, 0)
            value = _parsed(raw[start:end]) if end > 0 else None
            following = raw.find(raw[start : start + _SHAPE], start + _SHAPE)
            if value is not None:
                yield value, place
                start = end
            elif following > 0:  # another value of the same writer was glued to the start of this one
                yield Unread(place, following - start, torn=True)
                start = following
            elif depth > 0:
                self.pending, self._depth = [raw[start:]], depth
                self._line, self._offset = number, place.offset
                return
            else:
                begin = min((at for at in (raw.find(b"{", start + 1), raw.find(b"[", start + 1)) if at > 0), default=-1)
                end = begin if begin > 0 and raw[start] not in b"{[" else len(raw)
                yield Unread(place, len(raw[start:end].rstrip(_SPACE)), torn=False)
                start = end

    def _give_up(self) -> Unread:
        torn = not self.pending[-1].endswith(b"\n")
        size = sum(map(len, self.pending))
        self.pending = []
        return Unread(Place(self._source, self._line, self._offset), size, torn)

    def finish(self) -> Iterator[Unread]:
        if self.pending:
            yield self._give_up()
