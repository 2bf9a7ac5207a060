"""Who may sign: each issuer with its keys, its rules and the meaning of its claims.

A token's ``iss`` chooses the issuer; the token is then judged by that issuer's keys and rules alone.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import KeySourceError
from .claims import Claim
from .jwks import ASYMMETRIC, SYMMETRIC, parse_jwks, parse_pem, parse_secret
from .keys import FileKeys, KeySource, UrlKeys


@dataclass(frozen=True, slots=True)
class Issuer:
    """One issuer. ``issuer`` None takes any ``iss``, or none; an empty ``audience`` takes any ``aud``.

    ``typ`` is the one media type that the header must name (``at+jwt``, RFC 9068), if set. ``leeway``
    is in seconds. ``claims`` pairs what is recorded beside the fixed set with its attribute.
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


class Issuers:
    """All issuers that are trusted, and the life of their key sources."""

    def __init__(self, issuers: Iterable[Issuer]) -> None:
        self._named: dict[str, Issuer] = {}
        self._any: Issuer | None = None
        for issuer in issuers:
            if issuer.issuer is None:
                self._any = issuer
            else:
                self._named[issuer.issuer] = issuer
        every = [*self._named.values(), *([self._any] if self._any else [])]
        self.sources: tuple[KeySource, ...] = tuple({id(issuer.keys): issuer.keys for issuer in every}.values())

    def wait_answered(self, timeout: float) -> bool:
        """Whether every source has been read once, be it in vain; waits for that ``timeout`` seconds at most."""
        until = time.monotonic() + timeout
        return all(source.answered(until - time.monotonic() if timeout else 0) for source in self.sources)

    def choose(self, iss: object) -> Issuer | None:
        """The issuer whose name is exactly ``iss``; else the one without a name; None where neither is."""
        return (self._named.get(iss) if isinstance(iss, str) else None) or self._any


def single_issuer(
    *,
    jwks: str | None,
    public_key: Path | None,
    secret_file: Path | None,
    issuer: str | None,
    audience: Sequence[str],
    algorithms: Sequence[str],
    leeway: int,
    subject: Sequence[str],
    session: Sequence[str],
    claims: Sequence[tuple[str, str]],
    suppress: Callable[[], AbstractContextManager[Any]],
    tell: Callable[..., None],
) -> Issuers | None:
    """The one issuer of the settings, or None when no key is configured.

    Raises KeySourceError for what can never verify a token: an unreadable or foreign key file, a
    short secret, algorithms that the key has not, more than one kind of key. A key set that cannot
    be fetched or read is no error: it is told, and tried again in the background.
    """
    given = [source for source in (jwks, public_key, secret_file) if source is not None]
    if not given:
        return None
    if len(given) > 1:
        raise KeySourceError("several sources of keys are configured; give one of JWKS, PUBLIC_KEY and SECRET_FILE")
    possible = SYMMETRIC if secret_file is not None else ASYMMETRIC
    allowed = frozenset(algorithms) or possible
    if "EdDSA" in allowed:
        allowed |= {"Ed25519", "Ed448"}  # RFC 9864 gives them names of their own
    if allowed - possible:
        names = ", ".join(sorted(allowed - possible))
        kind = "a shared secret" if secret_file is not None else "public keys"
        raise KeySourceError(f"{names} cannot be verified with {kind}")
    keys: KeySource
    if secret_file is not None:
        keys = _loaded(FileKeys(secret_file, functools.partial(parse_secret, wanted=frozenset(algorithms)), tell))
    elif public_key is not None:
        keys = _loaded(FileKeys(public_key, parse_pem, tell))
    elif jwks is not None and "://" in jwks:
        keys = UrlKeys(jwks, suppress, tell)
    else:
        keys = FileKeys(Path(str(jwks)), parse_jwks, tell)
    if keys.keys is not None and not allowed & keys.keys.algorithms:
        names = ", ".join(sorted(algorithms))
        raise KeySourceError(f"{public_key or secret_file}: its key cannot verify {names}")
    return Issuers(
        [
            Issuer(
                keys=keys,
                algorithms=allowed,
                issuer=issuer,
                audience=frozenset(audience),
                leeway=leeway,
                subject=tuple(map(Claim.named, subject)),
                session=tuple(map(Claim.named, session)),
                claims=tuple((Claim.named(name), attribute) for name, attribute in claims),
            )
        ]
    )


def _loaded(keys: FileKeys) -> FileKeys:
    try:
        keys.load()
    except KeySourceError as error:
        raise KeySourceError(f"{keys.name}: {error}") from error
    return keys
