"""The file with the key of pseudonyms, which is read again when it changes, so that the key can be replaced.

One token is always shown under one key (`Privacy.with_current_key`). While the file cannot be used, the key that was
read last stays in use.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from ..errors import KeySourceError
from .privacy import MAX_KEY, Pseudonyms, without_line_break

RECHECK_SECONDS = 5.0
"""How long the file is not looked at again."""


def read_key(path: Path) -> Pseudonyms:
    """The pseudonyms under the key in a file. Raises OSError, and KeySourceError for a key of a wrong length."""
    with path.open("rb") as file:
        return Pseudonyms(without_line_break(file.read(MAX_KEY + 2)))


class PseudonymKeyFile:
    """A call returns the pseudonyms under the present key; ``first`` are those of the start. Safe from many threads.

    It is called where a token is verified anew, and looks at the file itself: that takes less time than writing the
    record of the same request.
    """

    def __init__(self, path: Path, first: Pseudonyms, warn_operator: Callable[[str], None]) -> None:
        self._path = path
        self._warn_operator = warn_operator
        self._current = first
        self._seen: tuple[int, ...] | None = None
        self._due = 0.0
        self._failing = False

    def __call__(self) -> Pseudonyms:
        now = time.monotonic()
        if now >= self._due:
            self._due = now + RECHECK_SECONDS  # two threads that look at once read the same
            self._reread_if_changed()
        return self._current

    def _reread_if_changed(self) -> None:
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
                self._warn_operator(f"the key of pseudonyms {why}; the key that was read last stays in use")
            self._failing = True
