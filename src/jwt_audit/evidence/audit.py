"""Which rows are audit records: the one rule by which they are judged, and shown.

A row is one as soon as any reader could take it for one: it has an attribute that only audit records
have, once or twice, with a value or without, in whatever spelling a store gave to its dots; or it is one
of the events that this package writes.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from .. import attributes as attr
from .visible import normal

_NAMES = frozenset(name for name in attr.NAMES - attr.EVENTS if name.startswith("audit.") and name != attr.TRACE_FLAGS)
_NORMAL = frozenset(map(normal, _NAMES))
_LONGEST = max(map(len, _NAMES))
_STRONG = tuple(
    map(
        normal, sorted(name for name in _NAMES if name.startswith(("audit.record.", "audit.sequence.", attr.INTEGRITY)))
    )
)


def is_audit_name(name: Any) -> bool:
    """Whether an attribute of this name stands in audit records alone."""
    return isinstance(name, str) and (
        name in _NAMES or (len(name) <= _LONGEST and name[:5].lower() == "audit" and normal(name).lower() in _NORMAL)
    )


def ends_like_one(name: str) -> bool:
    """Whether a store's field is such an attribute, under whatever prefix the store put before its name."""
    return is_audit_name(name) or normal(name).lower().endswith(_STRONG)


def is_audit(names: Iterable[Any], event: Any) -> bool:
    """Whether a row with attributes of these names, and of this event, is an audit record or a head."""
    return (isinstance(event, str) and event in attr.EVENTS) or any(map(is_audit_name, names))
