"""What an export shows of a stream's resource: does it agree with the one that the first record signed?

A collector adds to it, and does not change it: each signed member must be there exactly, once, where
the resource is shown whole. Nobody else may show there what only an audit record says.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import orjson

from .. import attributes as attr
from .streams import Chain
from .verdict import Kind, Place
from .visible import OURS, Fields, normal, plain, same

Fault = tuple[Kind, str]
"""What is wrong with how something is written, and in words."""

_DISTINCT = 64
"""Different resources of one stream that are compared; an honest export has a handful."""


class Shown:
    """What the export shows of one stream's resource: all of it (OTLP), or fields among others."""

    _VALUES = 2
    """Values kept of one field: a resource does not change, so of two different ones one is wrong."""

    def __init__(self) -> None:
        self._whole: dict[bytes, tuple[Any, Iterable[Fault], Place]] = {}
        self._last: Any = None
        self._more = 0
        self._fields: dict[str, dict[str, tuple[Any, Place]]] = {}

    def resource(self, resource: Any, faults: Callable[[], Iterable[Fault]], place: Place) -> None:
        """An OTLP resource in JSON's form, and how what is wrong with that is found."""
        if resource is self._last:  # that of the record before, in the same request
            return
        self._last = resource
        text = orjson.dumps(resource)
        if text in self._whole:
            return
        if len(self._whole) < _DISTINCT:
            self._whole[text] = resource, list(faults()), place
        else:
            self._more += 1

    def fields(self, fields: Fields, place: Place) -> None:
        """All fields of a record in a store that does not keep the resource apart."""
        for name, value in fields:
            known = self._fields.setdefault(normal(name), {})
            if len(known) < self._VALUES:
                known.setdefault(repr(value), (value, place))

    def judge(self, chain: Chain) -> None:
        """Compare with what the stream's first record signed: it must be contained; more may be there."""
        told: set[str] = set()
        for resource, faults, place in self._whole.values():
            for kind, detail in faults:
                if detail not in told:
                    told.add(detail)
                    (chain.missing if kind == "unknown_member" else chain.bad)(kind, f"the resource: {detail}", place)
            self._judge_whole(chain, resource, place, told)
        if self._more:
            detail = f"{self._more} more different resources are shown, and were not compared"
            chain.missing("unreadable", detail)
        if chain.binding is None:
            return
        signed = {name: plain(wrapped) for name, wrapped in chain.binding.resource.items()}
        for name, value in signed.items():
            for other, place in self._fields.get(normal(name), {}).values():
                if not same(value, other):
                    self._tell(chain, name, place, told)

    def _judge_whole(self, chain: Chain, resource: Any, place: Place, told: set[str]) -> None:
        attributes = resource.get("attributes") if isinstance(resource, dict) else None
        items = [item for item in attributes if isinstance(item, dict)] if isinstance(attributes, list) else []
        shown = [(item.get("key"), item.get("value")) for item in items]
        signed = {} if chain.binding is None else chain.binding.resource
        for name, value in signed.items():
            found = [plain(one) for key, one in shown if key == name]
            if found != [plain(value)] or isinstance(found[0], bool) is not isinstance(plain(value), bool):
                self._tell(chain, name, place, told)
        for key, one in shown:
            if key == attr.INTEGRITY_ALGORITHM:
                if chain.binding is not None and plain(one) != chain.binding.key.algorithm:
                    self._tell(chain, key, place, told)
            elif isinstance(key, str) and key not in signed and normal(key) in OURS:
                self._tell(chain, key, place, told)

    def _tell(self, chain: Chain, name: str, place: Place, told: set[str]) -> None:
        if name not in told:
            told.add(name)
            detail = f"the resource attribute {attr.text(name, 80)} is not what the stream's first record signed"
            chain.bad("resource", detail, place)
