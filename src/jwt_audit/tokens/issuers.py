"""Who may sign: each issuer with its keys, its rules and the meaning of its claims.

A token's ``iss`` and the source it came from choose the issuer; the token is then judged by that
issuer's keys and rules alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from ..errors import KeySourceError
from ..settings.issuer import BEARER, TENANT, IssuerSettings
from .algorithms import ASYMMETRIC, SYMMETRIC, with_new_names
from .claims import tenant_in
from .jwks import KeySet, parse_jwks, parse_pem, parse_secret
from .keys import FileKeys, KeySource, UrlKeys
from .remote import DiscoveredKeys, PemPerKey


@dataclass(frozen=True, slots=True)
class Issuer:
    """An issuer by whose keys tokens are verified: its settings, its keys, and the algorithms to accept."""

    settings: IssuerSettings
    keys: KeySource
    algorithms: frozenset[str]

    def is_called(self, iss: object, tenant: object) -> bool:
        """Whether this is the issuer of a token with these claims ``iss`` and ``tid``."""
        name = self.settings.issuer
        if name is None:
            return True
        if not isinstance(iss, str):
            return False
        if self.settings.tenant and not (isinstance(tenant, str) and tenant in iss.split("/")):
            return False
        return tenant_in(name, iss) == tenant if TENANT in name else iss == name


class Issuers:
    """All issuers that are trusted, and the life of their key sources.

    An issuer whose name is exactly the token's goes before one with a placeholder, and that before one
    without a name; among equals one for the token's source before one for every source. But what comes in a place
    of its own (any source but ``bearer``) is for the issuers that are bound to that place, before all others: a
    gateway signs what it puts there, under whatever name, by its own key.
    """

    def __init__(self, issuers: Iterable[Issuer]) -> None:
        every = tuple(issuers)
        self._named: dict[str, tuple[Issuer, ...]] = {}
        rest: list[Issuer] = []
        for issuer in every:
            name = issuer.settings.issuer
            if name is None or TENANT in name:
                rest.append(issuer)
            else:
                both = (*self._named.get(name, ()), issuer)
                self._named[name] = tuple(sorted(both, key=_any_source))
        self._rest = tuple(sorted(rest, key=lambda issuer: (issuer.settings.issuer is None, _any_source(issuer))))
        self.by_source = any(issuer.settings.source is not None for issuer in every)
        """Whether it matters where a token came from."""
        self.sources: tuple[KeySource, ...] = tuple({id(issuer.keys): issuer.keys for issuer in every}.values())
        sources = (issuer.settings.source for issuer in every)
        self.token_sources = tuple(dict.fromkeys(source for source in sources if source is not None))
        """The sources that issuers name, in their order."""
        self._bound = frozenset(self.token_sources) - {BEARER}
        self.every = every

    def wait_answered(self, timeout: float) -> bool:
        """Whether every source has been read once, be it in vain; waits for that ``timeout`` seconds at most."""
        until = time.monotonic() + timeout
        return all(source.answered(until - time.monotonic() if timeout else 0) for source in self.sources)

    def choose(self, payload: Mapping[str, Any], source: str = BEARER) -> Issuer | None:
        """The issuer of a token with these claims from this source; None where it is none of them.

        A name that is here, but not for this source or tenant, is not left to an issuer without a name, unless that
        is bound to this source.
        """
        iss, tenant = payload.get("iss"), payload.get("tid")
        named = self._named.get(iss) if isinstance(iss, str) else None
        if source in self._bound:
            for issuer in (*(named or ()), *self._rest):
                if issuer.settings.source == source and issuer.is_called(iss, tenant):
                    return issuer
        for issuer in self._rest if named is None else named:
            if issuer.settings.source in (None, source) and issuer.is_called(iss, tenant):
                return issuer
        return None


def _any_source(issuer: Issuer) -> bool:
    return issuer.settings.source is None


class _NoKeys(KeySource):
    """The keys of an issuer whose description is wrong: there are none, and it is known already."""

    def __init__(self, name: str, warn_operator: Callable[..., None]) -> None:
        super().__init__(name, warn_operator)
        self.refreshing = False
        self._answered.set()

    def _read(self) -> tuple[KeySet | None, float]:
        raise KeySourceError("is described wrongly")

    def start(self) -> None:
        return


class KeyRing:
    """Makes the source of an issuer's keys, one for all issuers whose settings name the same.

    ``suppress`` gives a context in which a fetch is traced by nobody, ``warn_operator`` speaks to the operator.
    """

    def __init__(
        self,
        *,
        suppress: Callable[[], AbstractContextManager[Any]] = nullcontext,
        warn_operator: Callable[..., None],
        http_hosts: tuple[str, ...] = (),
    ) -> None:
        self._suppress, self._warn_operator, self._http_hosts = suppress, warn_operator, http_hosts
        self._made: dict[tuple[object, ...], KeySource] = {}

    def keys(self, settings: IssuerSettings) -> KeySource:
        """The keys of an issuer. Raises KeySourceError for a file that can never verify a token."""
        wanted = frozenset(settings.algorithms) if settings.secret_file is not None else frozenset()
        metadata_of = settings.issuer if settings.discovery is not None else None
        name = (settings.jwks, settings.discovery, settings.public_key, settings.secret_file, wanted, metadata_of)
        if name not in self._made:
            self._made[name] = self._make(settings, wanted)
        return self._made[name]

    def _make(self, settings: IssuerSettings, wanted: frozenset[str]) -> KeySource:
        def warn_operator(message: str, **how: Any) -> None:
            self._warn_operator(f"{settings.location}: {message}", **how)

        remote: dict[str, Any] = {
            "suppress": self._suppress,
            "warn_operator": warn_operator,
            "http_hosts": self._http_hosts,
        }
        if settings.secret_file is not None:
            return _loaded(FileKeys(settings.secret_file, partial(parse_secret, wanted=wanted), warn_operator))
        if settings.public_key is not None:
            return _loaded(FileKeys(settings.public_key, parse_pem, warn_operator))
        if settings.discovery is not None:
            return DiscoveredKeys(settings.discovery, settings.issuer or "", **remote)
        jwks = settings.jwks or ""
        if "://" not in jwks:
            return FileKeys(Path(jwks), parse_jwks, warn_operator)
        return PemPerKey(jwks, **remote) if "{kid}" in jwks else UrlKeys(jwks, **remote)


def make_issuer(settings: IssuerSettings, ring: KeyRing) -> Issuer:
    """The issuer that settings describe.

    Raises KeySourceError for what can never verify a token: an unreadable or foreign key file, a
    short secret, algorithms that the key has not, more than one kind of key. A key set that cannot
    be fetched or read is no error: it is told, and tried again in the background.
    """
    if len(settings.key_places) != 1:
        raise KeySourceError(
            "several sources of keys are configured; give one of JWKS, DISCOVERY, PUBLIC_KEY and SECRET_FILE"
        )
    possible = SYMMETRIC if settings.secret_file is not None else ASYMMETRIC
    allowed = with_new_names(frozenset(settings.algorithms) or possible)
    if allowed - possible:
        kind = "a shared secret" if settings.secret_file is not None else "public keys"
        raise KeySourceError(f"{', '.join(sorted(allowed - possible))} cannot be verified with {kind}")
    keys = ring.keys(settings)
    if keys.keys is not None and keys.keys.keys and not allowed & keys.keys.algorithms:
        raise KeySourceError(f"{keys.name}: its key cannot verify {', '.join(sorted(settings.algorithms))}")
    return Issuer(settings, keys, allowed)


def make_issuers(
    described: Iterable[IssuerSettings], ring: KeyRing, warn_operator: Callable[..., None]
) -> Issuers | None:
    """The issuers that settings describe, or None where there is none.

    One that can never verify a token is told, and then its tokens are unverified: it takes no other's
    place, and no other takes its.
    """
    made = []
    for settings in described:
        broken = settings.broken
        if not broken:
            try:
                made.append(make_issuer(settings, ring))
            except KeySourceError as error:
                broken = True
                warn_operator(
                    f"{settings.location}: {error}; until then its tokens stay unverified", once=f"keys {settings.name}"
                )
        if broken:
            made.append(Issuer(settings, _NoKeys(settings.name, warn_operator), ASYMMETRIC | SYMMETRIC))
    return Issuers(made) if made else None


def _loaded(keys: FileKeys) -> FileKeys:
    try:
        keys.load()
    except Exception as error:  # whatever a file holds, the app starts
        why = str(error) if isinstance(error, KeySourceError) else f"cannot be used ({type(error).__name__})"
        raise KeySourceError(f"{keys.name}: {why}") from error
    return keys
