"""Where keys come from, and their life: read in the background, kept through failures, for a bounded time.

Invariants, for every `KeySource`:
- ``keys`` is replaced as a whole, by one thread, and only by a set in which there is a usable key; an
  answer without a change keeps the very object, so that a verified result can be tied to it.
- A failed reading keeps the old keys for `MAX_STALE` seconds at most, then there are none.
- Tokens that name unknown keys, or that no key of the name they give has signed, cause one reading in
  ``interval`` seconds, however many they are: an issuer may replace a key and keep its name. What
  is read by age or at the start does not count: a key that is new just then is found at once.
- Nothing that a token says has an influence on what is read, only on when (but see `remote.PemPerKey`).
"""

from __future__ import annotations

import hashlib
import math
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from ..errors import KeySourceError
from . import fetch
from .jwks import KeySet, parse_jwks

INTERVAL = 10.0
"""Seconds between two readings that tokens may cause."""
MAX_STALE = 86_400.0
"""Seconds for which keys are used though their source fails: an issuer may be away over a night."""
FILE_AGE = 5.0
"""Seconds after which a file is looked at again."""
URL_AGE = 300.0
"""Seconds after which a key set is fetched again, unless its Cache-Control says otherwise."""
URL_AGE_BOUNDS = (60.0, 3600.0)
RETRY_BOUNDS = (1.0, 30.0)
"""Seconds until a failed reading is tried again, doubled each time."""
PATIENCE = 2.0
"""Seconds for which a reading that has begun is worth waiting for."""


class KeySource(ABC):
    """Keys that a daemon thread of their own reads again and again.

    ``refreshing`` is True while a reading is under way or about to start. Requests never wait in here: who
    can wait a moment looks at `promising`.
    """

    def __init__(
        self,
        name: str,
        warn_operator: Callable[..., None],
        *,
        interval: float = INTERVAL,
        max_stale: float = MAX_STALE,
        retry: tuple[float, float] = RETRY_BOUNDS,
    ) -> None:
        self.keys: KeySet | None = None
        self.refreshing = True
        self.name = name
        self._warn_operator = warn_operator
        self._interval = interval
        self._max_stale = max_stale
        self._retry = retry
        self._failures = 0
        self._fresh = self._begun = time.monotonic()
        self._asked = -math.inf
        self._wanted = False
        self._closed = False
        self._wake = threading.Event()
        self._answered = threading.Event()

    @property
    def promising(self) -> bool:
        """Whether a reading is worth waiting for: it has just begun, and the one before it did not fail."""
        return self.refreshing and self._failures == 0 and time.monotonic() - self._begun < PATIENCE

    @abstractmethod
    def _read(self) -> tuple[KeySet | None, float]:
        """The keys (None: as they were) and the seconds until they should be read again.

        Raises KeySourceError. Called by one thread at a time.
        """

    def load(self) -> None:
        """Read the keys here and now, before anything else uses them. Raises KeySourceError."""
        self.keys, _ = self._read()
        self._answered.set()

    def start(self) -> None:
        """Begin to read in the background."""
        self._begun = time.monotonic()
        threading.Thread(target=self._run, name="jwt-audit-keys", daemon=True).start()

    def close(self) -> None:
        """Stop reading. A reading under way ends by itself; the keys stay."""
        self._closed = True
        self._wake.set()

    def after_fork(self) -> None:
        """In the child, which has none of its parent's threads and may have inherited their locks held."""
        answered = self._answered.is_set()
        self._wake, self._answered = threading.Event(), threading.Event()
        if answered:
            self._answered.set()
        if not self._closed:
            self.start()

    def answered(self, timeout: float = 0) -> bool:
        """Whether the first reading has ended, one way or the other; waits for it ``timeout`` seconds."""
        return self._answered.wait(timeout) if timeout > 0 else self._answered.is_set()

    def want(self, key_id: str | None) -> None:  # noqa: ARG002  for sources that have no key before it is asked for
        """A token may be signed by a key that is not there yet: read again, unless that was done a moment ago."""
        if not self._wanted and not self._closed:
            self._wanted = True
            now = time.monotonic()
            if now - self._asked >= self._interval:
                self._begun = now
                self.refreshing = True
            self._wake.set()

    def _run(self) -> None:
        wake = self._wake
        while not self._closed:
            due = time.monotonic() + self._attempt()
            while not self._closed:
                at = min(due, self._asked + self._interval) if self._wanted else due
                if (rest := at - time.monotonic()) <= 0:
                    break
                wake.wait(rest)
                wake.clear()

    def _attempt(self) -> float:
        """One reading; the seconds until the next."""
        self._begun = time.monotonic()
        if self._wanted:
            self._asked = self._begun
            self._wanted = False
        self.refreshing = True
        try:
            keys, due = self._read()
        except Exception as error:  # whatever it is: a thread that dies would keep its keys for ever
            due = self._failed(error)
        else:
            self.keys = keys or self.keys
            self._fresh = time.monotonic()
            self._failures = 0
        # A key that was wanted meanwhile may be newer than this answer.
        self.refreshing = self._wanted and time.monotonic() - self._asked >= self._interval
        self._answered.set()
        return due

    def _failed(self, error: Exception) -> float:
        """Told once for each spell of failures, not for each attempt. The seconds until the next attempt."""
        reason = str(error) if isinstance(error, KeySourceError) else type(error).__name__
        if self.keys is not None and time.monotonic() - self._fresh >= self._max_stale:
            self.keys = None
            self._warn_operator(
                f"{self.name}: {reason}; its old keys are too old now, tokens stay unverified until it is back"
            )
        elif self._failures == 0:
            meanwhile = "tokens stay unverified" if self.keys is None else "its old keys are used"
            self._warn_operator(f"{self.name}: {reason}; {meanwhile} until it is back")
        self._failures += 1
        least, most = self._retry
        return min(least * 2.0 ** min(self._failures - 1, 16), most)


class FileKeys(KeySource):
    """Keys in a file, read again when it changes: replaced, rewritten, or its symbolic link turned."""

    def __init__(
        self,
        path: Path,
        parse: Callable[[bytes], KeySet],
        warn_operator: Callable[..., None],
        *,
        age: float = FILE_AGE,
        **life: Any,
    ) -> None:
        super().__init__(str(path), warn_operator, **life)
        self._path = path
        self._parse = parse
        self._age = age
        self._seen: tuple[int, ...] | None = None

    def _read(self) -> tuple[KeySet | None, float]:
        try:
            # Looked at before it is read: what changes in between is seen as a change the next time.
            stat = self._path.stat()
            seen = (stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns)
            if seen == self._seen and self.keys is not None:
                return None, self._age
            with self._path.open("rb") as file:
                data = file.read(fetch.MAX_BYTES + 1)
        except OSError as error:
            raise KeySourceError(f"cannot be read ({error.strerror})") from error
        if len(data) > fetch.MAX_BYTES:
            raise KeySourceError(f"is longer than {fetch.MAX_BYTES} bytes")
        keys = self._parse(data)
        self._seen = seen
        return keys, self._age


class UrlKeys(KeySource):
    """A JWK set behind a URL. Raises KeySourceError when the URL may not be fetched.

    ``suppress`` gives a context in which a fetch is traced by nobody. ``http_hosts`` may be asked over
    plain http.
    """

    def __init__(
        self,
        url: str,
        suppress: Callable[[], AbstractContextManager[Any]],
        warn_operator: Callable[..., None],
        *,
        age: float = URL_AGE,
        age_bounds: tuple[float, float] = URL_AGE_BOUNDS,
        deadline: float = fetch.DEADLINE,
        http_hosts: Collection[str] = (),
        **life: Any,
    ) -> None:
        parts = fetch.checked_url(url, http_hosts)
        super().__init__(parts._replace(query="", fragment="").geturl(), warn_operator, **life)
        self._url = url
        self._suppress = suppress
        self._age = age
        self._age_bounds = age_bounds
        self._deadline = deadline
        self._http_hosts = http_hosts
        self._digest: bytes | None = None

    def _get(self, url: str) -> fetch.Answer:
        with self._suppress():
            return fetch.get(url, deadline=self._deadline, http_hosts=self._http_hosts)

    def _read(self) -> tuple[KeySet | None, float]:
        return self._key_set(self._url)

    def _key_set(self, url: str) -> tuple[KeySet | None, float]:
        answer = self._get(url)
        least, most = self._age_bounds
        due = self._age if answer.max_age is None else min(max(float(answer.max_age), least), most)
        digest = hashlib.sha256(answer.body).digest()
        if digest == self._digest and self.keys is not None:
            return None, due
        keys = parse_jwks(answer.body)
        self._digest = digest
        return keys, due
