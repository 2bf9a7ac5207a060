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
from ..identity.caller import ActorType
from ..settings.issuer import BEARER, IssuerSettings
from .algorithms import ASYMMETRIC, SYMMETRIC, with_new_names
from .claims import tenant_in
from .jwks import KeySet, parse_jwks, parse_pem, parse_secret
from .keys import FileKeys, KeySource, UrlKeys
from .mapping import Claim
from .remote import DiscoveredKeys, PemPerKey


@dataclass(frozen=True, slots=True)
class Issuer:
    """One issuer. ``issuer`` None takes any ``iss``, or none; an empty ``audience`` takes any ``aud``.

    ``typ`` is the one media type that the header must name (``at+jwt``, RFC 9068), if set. ``leeway``
    is in seconds. ``claims`` pairs what is recorded beside the fixed set with its attribute.
    ``source`` None takes tokens from every source. ``padded`` allows base64 with its padding.
    ``tenant`` asks that the claim ``tid`` stands in ``iss``. ``audience_header`` names the member of
    the header that ``audience`` is compared with in place of ``aud``. Without the claims that are ``required``
    a token counts for nothing; ``client`` are the claims that name the program it was made for.
    """

    keys: KeySource
    algorithms: frozenset[str]
    issuer: str | None = None
    audience: frozenset[str] = frozenset()
    typ: str | None = None
    leeway: float = 10
    subject: tuple[Claim, ...] = (Claim.named("sub"),)
    session: tuple[Claim, ...] = (Claim.named("sid"),)
    claims: tuple[tuple[Claim, str], ...] = ()
    source: str | None = None
    padded: bool = False
    actor_type: ActorType | None = None
    tenant: bool = False
    audience_header: str | None = None
    required: tuple[str, ...] = ()
    client: tuple[str, ...] = IssuerSettings.client
    label: str | None = None
    """What this issuer is called in answers to the operator."""

    def is_called(self, iss: object, tenant: object) -> bool:
        """Whether this is the issuer of a token with these claims ``iss`` and ``tid``."""
        if self.issuer is None:
            return True
        if not isinstance(iss, str) or (self.tenant and not (isinstance(tenant, str) and tenant in iss.split("/"))):
            return False
        return tenant_in(self.issuer, iss) == tenant if "{tenantid}" in self.issuer else iss == self.issuer


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
        for issuer in every:
            if issuer.issuer is not None and "{tenantid}" not in issuer.issuer:
                both = (*self._named.get(issuer.issuer, ()), issuer)
                self._named[issuer.issuer] = tuple(sorted(both, key=_any_source))
        rest = [issuer for issuer in every if issuer.issuer is None or "{tenantid}" in issuer.issuer]
        self._rest = tuple(sorted(rest, key=lambda issuer: (issuer.issuer is None, _any_source(issuer))))
        self.by_source = any(issuer.source is not None for issuer in every)
        """Whether it matters where a token came from."""
        self.sources: tuple[KeySource, ...] = tuple({id(issuer.keys): issuer.keys for issuer in every}.values())
        self.token_sources = tuple(dict.fromkeys(issuer.source for issuer in every if issuer.source is not None))
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
                if issuer.source == source and issuer.is_called(iss, tenant):
                    return issuer
        for issuer in self._rest if named is None else named:
            if issuer.source in (None, source) and issuer.is_called(iss, tenant):
                return issuer
        return None


def _any_source(issuer: Issuer) -> bool:
    return issuer.source is None


class _NoKeys(KeySource):
    """The keys of an issuer whose description is wrong: there are none, and it is known already."""

    def __init__(self, name: str, tell: Callable[..., None]) -> None:
        super().__init__(name, tell)
        self.refreshing = False
        self._answered.set()

    def _read(self) -> tuple[KeySet | None, float]:
        raise KeySourceError("is described wrongly")

    def start(self) -> None:
        return


class KeyRing:
    """Makes the source of keys that a table describes, one for all tables that name the same.

    ``suppress`` gives a context in which a fetch is traced by nobody, ``tell`` speaks to the operator.
    """

    def __init__(
        self,
        *,
        suppress: Callable[[], AbstractContextManager[Any]] = nullcontext,
        tell: Callable[..., None],
        http_hosts: tuple[str, ...] = (),
    ) -> None:
        self._suppress, self._tell, self._http_hosts = suppress, tell, http_hosts
        self._made: dict[tuple[object, ...], KeySource] = {}

    def keys(self, table: IssuerSettings) -> KeySource:
        """The keys of an issuer. Raises KeySourceError for a file that can never verify a token."""
        wanted = frozenset(table.algorithms) if table.secret_file is not None else frozenset()
        metadata_of = table.issuer if table.discovery is not None else None
        name = (table.jwks, table.discovery, table.public_key, table.secret_file, wanted, metadata_of)
        if name not in self._made:
            self._made[name] = self._make(table, wanted)
        return self._made[name]

    def _make(self, table: IssuerSettings, wanted: frozenset[str]) -> KeySource:
        def tell(message: str, **how: Any) -> None:
            self._tell(f"{table.setting}: {message}", **how)

        remote: dict[str, Any] = {"suppress": self._suppress, "tell": tell, "http_hosts": self._http_hosts}
        if table.secret_file is not None:
            return _loaded(FileKeys(table.secret_file, partial(parse_secret, wanted=wanted), tell))
        if table.public_key is not None:
            return _loaded(FileKeys(table.public_key, parse_pem, tell))
        if table.discovery is not None:
            return DiscoveredKeys(table.discovery, table.issuer or "", **remote)
        jwks = table.jwks or ""
        if "://" not in jwks:
            return FileKeys(Path(jwks), parse_jwks, tell)
        return PemPerKey(jwks, **remote) if "{kid}" in jwks else UrlKeys(jwks, **remote)


def make_issuer(table: IssuerSettings, ring: KeyRing) -> Issuer:
    """The issuer that a table describes.

    Raises KeySourceError for what can never verify a token: an unreadable or foreign key file, a
    short secret, algorithms that the key has not, more than one kind of key. A key set that cannot
    be fetched or read is no error: it is told, and tried again in the background.
    """
    if len(table.key_places) != 1:
        raise KeySourceError(
            "several sources of keys are configured; give one of JWKS, DISCOVERY, PUBLIC_KEY and SECRET_FILE"
        )
    possible = SYMMETRIC if table.secret_file is not None else ASYMMETRIC
    allowed = with_new_names(frozenset(table.algorithms) or possible)
    if allowed - possible:
        kind = "a shared secret" if table.secret_file is not None else "public keys"
        raise KeySourceError(f"{', '.join(sorted(allowed - possible))} cannot be verified with {kind}")
    keys = ring.keys(table)
    if keys.keys is not None and keys.keys.keys and not allowed & keys.keys.algorithms:
        raise KeySourceError(f"{keys.name}: its key cannot verify {', '.join(sorted(table.algorithms))}")
    return _issuer(table, keys, allowed)


def _issuer(table: IssuerSettings, keys: KeySource, algorithms: frozenset[str]) -> Issuer:
    return Issuer(
        keys=keys,
        algorithms=algorithms,
        issuer=table.issuer,
        audience=frozenset(table.audience),
        typ=table.typ,
        leeway=table.leeway,
        subject=tuple(map(Claim.named, table.subject)),
        session=tuple(map(Claim.named, table.session)),
        claims=tuple((Claim.named(name), attribute) for name, attribute in table.claims),
        source=table.source,
        padded=table.padded,
        actor_type=None if table.actor_type is None else ActorType(table.actor_type),
        tenant=table.tenant,
        audience_header=table.audience_header,
        required=table.required,
        client=table.client,
        label=table.label,
    )


def make_issuers(tables: Iterable[IssuerSettings], ring: KeyRing, tell: Callable[..., None]) -> Issuers | None:
    """The issuers that the tables describe, or None where there is none.

    One that can never verify a token is told, and then its tokens are unverified: it takes no other's
    place, and no other takes its.
    """
    made = []
    for table in tables:
        broken = table.broken
        if not broken:
            try:
                made.append(make_issuer(table, ring))
            except KeySourceError as error:
                broken = True
                tell(f"{table.setting}: {error}; until then its tokens stay unverified", once=f"keys {table.name}")
        if broken:
            made.append(_issuer(table, _NoKeys(table.name, tell), ASYMMETRIC | SYMMETRIC))
    return Issuers(made) if made else None


def _loaded(keys: FileKeys) -> FileKeys:
    try:
        keys.load()
    except Exception as error:  # whatever a file holds, the app starts
        why = str(error) if isinstance(error, KeySourceError) else f"cannot be used ({type(error).__name__})"
        raise KeySourceError(f"{keys.name}: {why}") from error
    return keys
