"""Statements that outlive the record they stand in: what retention is about to remove is said again, before.

A signed record says that retention removed a stream, or where a dead stream broke off. When that record
goes itself, a stream that is still there may go on naming the one of which it spoke; without the
statement it would be missed, or never be known to be whole. Only what is still needed is said again, so
that the number of statements does not grow with the spool's age.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from .. import attributes as attr
from ..attributes import Value
from ..errors import SpoolError
from ..spool import durable, segment
from ..spool.stream import Stream, streams
from ..stream_ends import first_line


class Statement(NamedTuple):
    """What a record is to say in its event, attributes and body, about the stream ``subject`` up to ``number``."""

    event: str
    attributes: dict[str, Value]
    body: str
    subject: str = ""
    number: int = 0


_NAMES = {
    attr.EVENT_STREAM_PRUNED: (attr.PRUNED_STREAM, attr.PRUNED_NUMBER, attr.PRUNED_HASH),
    attr.EVENT_STREAM_RECOVERED: (
        attr.RECOVERED_STREAM,
        attr.RECOVERED_NUMBER,
        attr.RECOVERED_HASH,
        attr.RECOVERED_HEAD,
    ),
}
_NAMING = (attr.RECOVERED_STREAM.encode(), attr.UNDELIVERED_STREAM.encode())


class Restate:
    """What is to be said again of a spool. Raises OSError and SpoolError where the spool cannot be read."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._read: dict[Path, tuple[int, frozenset[str]]] = {}
        """Of each segment its size when it was looked through, and the streams that records in it name."""

    def needed(self, stream: Stream, paths: list[Path], *, whole: bool) -> list[Statement]:
        """The statements in these segments of a stream that are still needed once they are gone.

        ``whole``: the stream goes, and so names nobody any more.
        """
        found: dict[tuple[str, str], Statement] = {}
        for path in paths:
            for one in _statements(path):
                if one.subject != stream.id and one.number >= found.get((one.event, one.subject), one).number:
                    found[one.event, one.subject] = one
        if not found:
            return []
        others = [one for one in streams(self._root) if not (whole and one.id == stream.id)]
        present = {one.id for one in others}
        named = self._named(others, frozenset(paths))
        return [
            one
            for _, one in sorted(found.items())
            if one.subject in present or (one.event == attr.EVENT_STREAM_PRUNED and one.subject in named)
        ]

    def _named(self, others: list[Stream], but: frozenset[Path]) -> set[str]:
        """The streams that records of these streams name, those in the segments ``but`` not among them."""
        named: set[str] = set()
        read: dict[Path, tuple[int, frozenset[str]]] = {}
        for other in others:
            try:
                line = first_line(other)
                if line is not None:
                    named |= _known(line.payload)
                for path in other.segments():
                    size = None if path in but else durable.size(path)
                    if size is not None:
                        known = self._read.get(path)
                        read[path] = known if known is not None and known[0] == size else (size, _naming(path))
                        named |= read[path][1]
            except SpoolError:
                if not other.gone():  # what cannot be read may name anybody
                    raise
        self._read = read
        return named


def _statements(path: Path) -> Iterator[Statement]:
    for line in segment.read(path):
        if not any(event.encode() in line.payload for event in _NAMES):
            continue
        try:
            form: dict[str, Any] = orjson.loads(line.payload)
            names = _NAMES[form["event_name"]]
            attributes: dict[str, Value] = {}
            for name in names:
                value = form["attributes"].get(name, {})
                if "intValue" in value:
                    attributes[name] = int(value["intValue"])
                elif "stringValue" in value:
                    attributes[name] = value["stringValue"]
            body = str(form["body"]["stringValue"]).removesuffix(_AGAIN) + _AGAIN
            subject, number = attributes[names[0]], attributes[names[1]]
            if isinstance(subject, str) and isinstance(number, int):
                yield Statement(form["event_name"], attributes, body, subject, number)
        except (ValueError, TypeError, KeyError, AttributeError):
            continue  # no statement of ours; verify says what it is


_AGAIN = " (said again, since the record that said so is removed)"


def _naming(path: Path) -> frozenset[str]:
    found: set[str] = set()
    for line in segment.read(path):
        if not any(name in line.payload for name in _NAMING):
            continue
        try:
            attributes = orjson.loads(line.payload)["attributes"]
            for name in (attr.RECOVERED_STREAM, attr.UNDELIVERED_STREAM):
                if name in attributes:
                    found.add(str(attributes[name]["stringValue"]))
        except (ValueError, TypeError, KeyError, AttributeError):
            continue
    return frozenset(found)


def _known(payload: bytes) -> set[str]:
    """The streams that a stream's first record names."""
    try:
        items = orjson.loads(payload)["attributes"].get(attr.STREAM_KNOWN, {"arrayValue": {"values": []}})
        return {str(item["stringValue"]).split(" ")[0] for item in items["arrayValue"]["values"]}
    except (ValueError, TypeError, KeyError, AttributeError):
        return set()
