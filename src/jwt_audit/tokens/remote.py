"""Keys behind a URL that must be found first: by the issuer's metadata, or by the key's own name.

Invariants, beside those of `keys`: metadata counts only if it names the issuer that was configured
(OpenID Connect Discovery 1.0, 4.3). The name of a key becomes part of a URL only if it is made of
letters, digits, ``-`` and ``_``, so a token chooses among the names below the configured path and
nothing else.
"""

from __future__ import annotations

import re
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any
from urllib.parse import urlsplit

import orjson

from ..errors import KeySourceError
from . import fetch
from .claims import tenant_in
from .jwks import KeySet, from_pem_entry
from .keys import UrlKeys

METADATA_AGE = 3600.0
"""Seconds after which an issuer's metadata is fetched again."""
MAX_NAMED = 16
"""Keys that are kept of a source that has one URL for each."""
MAX_WANTED = 64
"""Names of keys that wait to be asked for."""

_NAME = re.compile(r"[A-Za-z0-9_\-]{1,128}")


class DiscoveredKeys(UrlKeys):
    """The key set that an issuer's metadata names (``jwks_uri``), wherever that moves to."""

    def __init__(
        self,
        url: str,
        issuer: str,
        suppress: Callable[[], AbstractContextManager[Any]],
        warn_operator: Callable[..., None],
        **life: Any,
    ) -> None:
        super().__init__(url, suppress, warn_operator, **life)
        self._issuer = issuer
        self._key_set_url: str | None = None
        self._discovered = 0.0

    def _read(self) -> tuple[KeySet | None, float]:
        if self._key_set_url is None or time.monotonic() - self._discovered >= METADATA_AGE:
            self._key_set_url = self._discover()
            self._discovered = time.monotonic()
        try:
            return self._key_set(self._key_set_url)
        except KeySourceError as error:
            where = urlsplit(self._key_set_url)._replace(query="", fragment="").geturl()
            self._key_set_url = None  # it may have moved
            raise KeySourceError(f"the key set at {where}: {error}") from error

    def _discover(self) -> str:
        try:
            metadata = orjson.loads(self._get(self._url).body)
        except ValueError as error:
            raise KeySourceError("the metadata is no JSON") from error
        stated = metadata.get("issuer") if isinstance(metadata, dict) else None
        if not isinstance(stated, str) or not (stated == self._issuer or tenant_in(stated, self._issuer) is not None):
            raise KeySourceError(f"the metadata is not of the issuer {self._issuer}")
        key_set_url = metadata.get("jwks_uri")
        if not isinstance(key_set_url, str):
            raise KeySourceError("the metadata names no key set")
        fetch.checked_url(key_set_url, self._http_hosts)
        return key_set_url


class PemPerKey(UrlKeys):
    """One PEM public key behind each URL: ``{kid}`` in ``url`` stands for the name of the key.

    A key is fetched when a token names it; of the names that wait, one that is not known comes first, and then
    the one named most often: so a flood of invented ones, or of forgeries under a known one, does not keep out a key
    that is in use. Keys that were found are
    fetched again by age, and one that is gone is gone from the set.
    """

    def __init__(
        self,
        url: str,
        suppress: Callable[[], AbstractContextManager[Any]],
        warn_operator: Callable[..., None],
        **life: Any,
    ) -> None:
        super().__init__(url, suppress, warn_operator, **life)
        self._lock = threading.Lock()
        self._wants: Counter[str] = Counter()
        self._pems: dict[str, str] = {}

    def want(self, key_id: str | None) -> None:
        """A token names a key: fetch it, if that name can be part of a URL."""
        if key_id is None or not _NAME.fullmatch(key_id):
            return
        with self._lock:
            if len(self._wants) >= MAX_WANTED and key_id not in self._wants:
                del self._wants[min(self._wants, key=self._wants.__getitem__)]
            self._wants[key_id] += 1
        super().want(key_id)

    def after_fork(self) -> None:
        """In the child: a lock of its own."""
        self._lock = threading.Lock()
        super().after_fork()

    def _read(self) -> tuple[KeySet | None, float]:
        with self._lock:
            new = {name: count for name, count in self._wants.items() if name not in self._pems}
            wanted = [name for name, _ in Counter(new or self._wants).most_common(1)]
            self._wants.clear()
        names = wanted or list(self._pems)
        found = {name: pem for name in names if (pem := self._pem(name)) is not None}
        pems = {**self._pems, **found} if wanted else found
        pems = dict(list(pems.items())[-MAX_NAMED:])
        if pems == self._pems and self.keys is not None:
            return None, self._age
        self._pems = pems
        keys = [from_pem_entry(name, pem) for name, pem in pems.items()]
        return KeySet(key for key in keys if key is not None), self._age

    def _pem(self, name: str) -> str | None:
        """The text behind a name; None where there is none. Raises KeySourceError."""
        try:
            return self._get(self._url.replace("{kid}", name)).body.decode("ascii", "replace")
        except fetch.NotThereError:
            return None
