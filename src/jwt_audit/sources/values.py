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

_TOKENS = re.compile(rb'"(?:[^"\\]|\\.)*+"|[{}\[\]"]' if hasattr(re, "NOFLAG") else rb'"(?:[^"\\]|\\.)*"|[{}\[\]"]')
_SHAPE = 12
"""Bytes at the start of a value by which the next value of the same writer is known."""


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
        if splitter.empty:
            try:
                value = orjson.loads(raw)
            except orjson.JSONDecodeError:
                value = None
            if isinstance(value, (dict, list)):
                yield value, Place(source, number, offset)
                offset += len(raw)
                continue
        yield from splitter.feed(raw, number, offset)
        offset += len(raw)
    yield from splitter.finish()


class _Splitter:
    """Cuts values out of bytes by their braces, and finds its feet again after a torn one."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._pieces: list[bytes] = []
        self._depth = 0
        self._line = self._offset = 0

    @property
    def empty(self) -> bool:
        return not self._pieces

    def feed(self, raw: bytes, number: int, offset: int) -> Iterator[tuple[Any, Place] | Unread]:
        if self._pieces and self._begins_anew(raw):
            yield self._give_up(torn=False)
        start = 0  # of what belongs to the value under way, or of what lies between two
        position = 0
        while match := _TOKENS.search(raw, position):
            token, position = match[0], match.end()
            if not self._pieces and self._depth == 0:
                if token not in (b"{", b"["):
                    continue  # still between two values
                if between := self._between(raw, start, match.start(), number, offset):
                    yield between
                start = match.start()
                self._line, self._offset = number, offset + start
            if token in (b"{", b"["):
                self._depth += 1
            elif token in (b"}", b"]"):
                self._depth -= 1
            elif token == b'"':
                break  # a string that does not end on its line: no JSON
            if self._depth <= 0 and token in (b"}", b"]"):
                whole = b"".join((*self._pieces, raw[start:position]))
                self._pieces, self._depth = [], 0
                yield from self._parsed(whole)
                start = position
        if self._depth > 0:
            self._pieces.append(raw[start:])
            yield from self._find_next()
        elif between := self._between(raw, start, len(raw), number, offset):
            yield between

    def _begins_anew(self, raw: bytes) -> bool:
        """Whether the value under way will never end: here begins another of the same writer, and is whole."""
        if raw[:_SHAPE] != self._pieces[0][:_SHAPE] or len(raw) <= _SHAPE:
            return False
        try:
            orjson.loads(raw)
        except orjson.JSONDecodeError:
            return False
        return True

    def _parsed(self, whole: bytes) -> Iterator[tuple[Any, Place] | Unread]:
        try:
            yield orjson.loads(whole), Place(self._source, self._line, self._offset)
        except orjson.JSONDecodeError:
            self._pieces = [whole]
            yield from self._find_next()
            if self._pieces:
                yield self._give_up(torn=False)

    def _find_next(self) -> Iterator[tuple[Any, Place] | Unread]:
        """In a value under way, look for the start of another one that was glued to it."""
        piece = self._pieces[-1]
        at = piece.find(piece[:_SHAPE], _SHAPE) if len(self._pieces) == 1 and len(piece) > _SHAPE else -1
        if at < 0:
            return
        number, offset = self._line, self._offset
        self._pieces = [piece[:at]]
        yield self._give_up(torn=True)
        yield from self.feed(piece[at:], number, offset + at)

    def _between(self, raw: bytes, start: int, end: int, number: int, offset: int) -> Unread | None:
        text = raw[start:end].strip(b" \t\r\n,")
        return Unread(Place(self._source, number, offset + start), len(text), torn=False) if text else None

    def _give_up(self, *, torn: bool) -> Unread:
        size = sum(map(len, self._pieces))
        self._pieces, self._depth = [], 0
        return Unread(Place(self._source, self._line, self._offset), size, torn)

    def finish(self) -> Iterator[Unread]:
        if self._pieces:
            yield self._give_up(torn=not self._pieces[-1].endswith(b"\n"))
