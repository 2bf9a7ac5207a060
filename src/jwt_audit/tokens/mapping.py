"""Which claims are recorded beside the fixed set, and what becomes of each: all of it, a part, or nothing and why.

Pure. A value becomes str, int64, bool or a list of str; absent is not empty. What cannot be kept is left
out of what is, and the whole value's digest says so: two values never become one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from .. import attributes as attr
from ..attributes import MAX_ITEMS, Value

MISSING = object()
"""The value of a claim that is not there."""

_SPACE_SEPARATED = frozenset(("scope", "scp"))
_INDEX = re.compile("0|[1-9][0-9]{0,8}")


class Claim(NamedTuple):
    """Where a value stands: ``path`` from the top of the claims, ``name`` as the operator wrote it."""

    name: str
    path: tuple[str, ...]

    @classmethod
    @lru_cache(maxsize=1024)  # the operator's settings name a few, again for each token
    def named(cls, name: str) -> Claim:
        """A literal claim name, or a JSON Pointer (RFC 6901) when it starts with ``/``."""
        if not name.startswith("/"):
            return cls(name, (name,))
        parts = name[1:].split("/")
        return cls(name, tuple(part.replace("~1", "/").replace("~0", "~") for part in parts))

    def of(self, claims: Mapping[str, Any]) -> Any:
        """The value in ``claims``; `MISSING` where there is none."""
        value: Any = claims
        for part in self.path:
            if isinstance(value, dict):
                value = value.get(part, MISSING)
            elif isinstance(value, list) and _INDEX.fullmatch(part):
                value = value[int(part)] if int(part) < len(value) else MISSING
            else:
                return MISSING
        return value

    @property
    def alone(self) -> bool:
        """Whether this is a literal name at the top."""
        return len(self.path) == 1


class Mapped(NamedTuple):
    """What one claim gave to its attribute: a value as the token has it, and what is missing of it, in words.

    ``digest`` stands for the whole value where not all of it is kept.
    """

    claim: Claim
    attribute: str
    value: Value | None = None
    why: str | None = None
    digest: str | None = None


def mapped(claims: Mapping[str, Any], mapping: Iterable[tuple[str, str]]) -> Iterator[Mapped]:
    """Each pair of a claim's name and its attribute, in their order.

    Of several claims for one attribute the first that gives a value counts.

    Raises RecursionError for a value that is nested too deeply.
    """
    given: set[str] = set()
    for name, attribute in mapping:
        claim = Claim.named(name)
        if attribute in given:
            yield Mapped(claim, attribute, why=f"{attribute} comes from a claim that is named before it")
            continue
        value = claim.of(claims)
        if value is MISSING:
            yield Mapped(claim, attribute, why="the token has no such claim")
            continue
        kept, why = _kept(_as_list(value, claim, attribute))
        if kept is not None:
            given.add(attribute)
        lost = why is not None and value is not None
        yield Mapped(claim, attribute, kept, why, attr.digest_of(value) if lost else None)


def _as_list(value: Any, claim: Claim, attribute: str) -> Any:
    if isinstance(value, str) and claim.path[-1] in _SPACE_SEPARATED:
        return value.split()  # RFC 8693, 4.2
    if isinstance(value, str) and attribute == attr.USER_ROLES:
        return [value]  # one role is a list of one
    return value


def _kept(value: Any) -> tuple[Value | None, str | None]:
    """What can be kept of a value, and what cannot, in words."""
    if isinstance(value, list):
        return _of_list(value)
    if isinstance(value, dict):
        return _of_object(value)
    if value is None:
        return None, "it is null"
    kept = _scalar(value)
    return kept, "it is a number of more than 512 bits" if kept is None else None


def _of_list(items: list[Any]) -> tuple[Value | None, str | None]:
    found = [str(kept) for item in items if (kept := _scalar(item)) is not None]
    if len(found) < len(items):
        why = f"{len(items) - len(found)} of its {len(items)} items are left out: neither texts nor numbers"
        return found or None, why
    return found, f"it has {len(found)} items, of which {MAX_ITEMS} are recorded" if len(found) > MAX_ITEMS else None


def _of_object(members: dict[str, Any]) -> tuple[Value | None, str | None]:
    """The names of an object's members where these are what it grants: ``{"admin": true}``, or to whom it is granted,
    ``{"admin": {"org-1": "acme.example.com"}}`` (Zitadel)."""
    found = [name for name, value in members.items() if value is True or _names_texts(value)]
    if not found:
        return None, "it is an object: name what is in it by a JSON Pointer"
    return found, "it is an object: the names of its members are recorded, not what is in them"


def _names_texts(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(item, str) for item in value.values())


def _scalar(value: Any) -> Value | None:
    """A text as it is; numbers and truth values as `attributes.bounded` has them; None for all else."""
    if isinstance(value, str):
        return value
    return None if isinstance(value, (list, dict)) else attr.bounded(value)
