"""The key of pseudonyms in its file, looked at again while the process runs, so that it can be changed.

What is shown of one token is under one key (`Privacy.with_current_key`), whichever that is. A file that cannot be used
changes nothing: the key of before goes on.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from ..errors import KeySourceError
from .privacy import MAX_KEY, Pseudonyms, key_in

LOOK_SECONDS = 5.0
"""How long the file is left alone."""


def read_key(path: Path) -> Pseudonyms:
    """The pseudonyms under the key in a file. Raises OSError, and KeySourceError for a key that is none."""
    with path.open("rb") as file:
        return Pseudonyms(key_in(file.read(MAX_KEY + 2)))


class KeyFile:
    """Gives the pseudonyms of now; ``first`` are those of the start. Safe from many threads.

    It is asked where a token is verified anew, and looks at the file itself: that takes less than the record
    of the request, which is written on the same way.
    """

    def __init__(self, path: Path, first: Pseudonyms, tell: Callable[[str], None]) -> None:
        self._path = path
        self._tell = tell
        self._current = first
        self._seen: tuple[int, ...] | None = None
        self._due = 0.0
        self._failing = False

    def __call__(self) -> Pseudonyms:
        now = time.monotonic()
        if now >= self._due:
            self._due = now + LOOK_SECONDS  # two threads that look at once read the same
            self._look()
        return self._current

    def _look(self) -> None:
        try:
            stat = self._path.stat()
            seen = (stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns)
            if seen != self._seen:
                self._current = read_key(self._path)
                self._seen = seen
            self._failing = False
        except (OSError, KeySourceError) as error:
            why = f"cannot be read ({error.strerror})" if isinstance(error, OSError) else str(error)
            if not self._failing:
                self._tell(f"the key of pseudonyms {why}; the one of before is used until it is back")
            self._failing = True
