"""Several sources read as one: all that is there by time, the last of it, and what comes.

Invariant: a record that more than one of them holds comes once, as far as a bounded memory can tell.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from itertools import chain
from operator import attrgetter
from pathlib import Path
from typing import Protocol

from ..errors import JWTAuditError
from .growing_file import GivenLines
from .seen import Once, Seen

_RECORDED = attrgetter("recorded")


class Source(Protocol):
    """A spool, a file or a pipe. What it raises is a JWTAuditError, where it cannot be read."""

    by_time: bool
    holds_records: bool

    @property
    def there(self) -> bool: ...
    @property
    def unread(self) -> int: ...
    @property
    def failures(self) -> list[str]: ...
    def poll(self) -> Iterator[Seen]: ...
    def last(self) -> Iterator[Seen]: ...
    def latest(self, *, whole: bool) -> Iterator[Seen]: ...
    def check(self) -> None: ...
    def close(self) -> None: ...


class Several:
    """These sources as one. ``whole`` says that none of them grows: what does not end in a newline is a line too."""

    def __init__(self, sources: Sequence[tuple[Path, Source]], *, whole: bool) -> None:
        self._named = sources
        self._sources = [source for _, source in sources]
        self._whole = whole
        self._once = Once()

    @property
    def piped(self) -> bool:
        """Whether it is one pipe alone, which is shown in the order in which it comes."""
        return len(self._sources) == 1 and isinstance(self._sources[0], GivenLines)

    @property
    def grows(self) -> bool:
        """Whether anything may follow what is there: not to pipes, which are read to their end."""
        return not all(isinstance(source, GivenLines) for source in self._sources)

    @property
    def by_time(self) -> bool:
        """Whether `latest` is in the order of time without an exception."""
        return all(source.by_time for source in self._sources)

    @property
    def unread(self) -> int:
        """Whole lines so far that are no records."""
        return sum(source.unread for source in self._sources)

    @property
    def failures(self) -> list[str]:
        """What cannot be read, and why."""
        return [failure for source in self._sources for failure in source.failures]

    @property
    def empty(self) -> list[Path]:
        """Files that are there and hold no audit record, as far as they were read."""
        return [path for path, source in self._named if source.there and not source.holds_records]

    def all(self) -> Iterator[Seen]:
        """All that is there, by the time of observation as far as each source has that order."""
        return filter(self._once.new, heapq.merge(*map(self._polled, self._sources), key=_RECORDED))

    def latest(self) -> Iterator[Seen]:
        """All that is there but in pipes, the last first; what comes later is then for `new`."""
        found = [source.latest(whole=self._whole) for source in self._sources if self._seekable(source)]
        return filter(self._once.new, heapq.merge(*found, key=_RECORDED, reverse=True))

    def given(self) -> Iterator[Seen]:
        """What comes through pipes, to their end."""
        pipes = (source for source in self._sources if isinstance(source, GivenLines))
        return filter(self._once.new, chain.from_iterable(source.poll() for source in pipes))

    def new(self) -> Iterator[Seen]:
        """What came since the last reading."""
        growing = (source for source in self._sources if not isinstance(source, GivenLines))
        return filter(self._once.new, chain.from_iterable(map(self._polled, growing)))

    def check(self) -> None:
        """Raises EvidenceError for a file of which nothing that was read is OTLP."""
        for source in self._sources:
            source.check()

    def close(self) -> None:
        """Let go of all files."""
        for source in self._sources:
            source.close()

    def _polled(self, source: Source) -> Iterator[Seen]:
        """What is new; nothing where it is not yet there."""
        try:
            yield from source.poll()
            if self._whole:
                yield from source.last()
        except JWTAuditError:
            if source.there:
                raise

    @staticmethod
    def _seekable(source: Source) -> bool:
        return source.there and not isinstance(source, GivenLines)
