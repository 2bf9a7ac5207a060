"""Manipulations made by chance, and readers of exports that are none of the verifier's."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Iterator
from typing import Any

NAMES = ("enduser.id", "audit.actor.id", "audit.action", "audit.target.id", "audit.outcome", "session.id")
WORDS: tuple[Any, ...] = (
    "mallory", "alice", "", "0", 7, None, True, [], {}, {"stringValue": "mallory"}, {"intValue": "7"}, ["mallory"],
    "enduser.id", "audit.record.id", "audit.integrity.canonical", "audit_integrity_canonical", "1795600000000000001",
)  # fmt: skip
MEMBERS = (
    "x", "key", "value", "stringValue", "string_value", "body", "eventName", "event_name", "attributes",
    "resource", "timeUnixNano", "resourceLogs", "resource_logs", "logRecords", "enduser.id", "enduser_id", "line",
)  # fmt: skip


def nodes(value: Any) -> Iterator[Any]:
    """Every object and list in a value."""
    if isinstance(value, (dict, list)):
        if value:
            yield value
        for item in value.values() if isinstance(value, dict) else value:
            yield from nodes(item)


def manipulated(value: Any, chance: random.Random) -> None:
    """One thing dropped, doubled, swapped, edited, renamed or added somewhere in it."""
    node = chance.choice(list(nodes(value)))
    if isinstance(node, dict):
        name = chance.choice(list(node))
        how = chance.randrange(5)
        if how == 0:
            del node[name]
        elif how == 1:
            node[name] = copy.deepcopy(chance.choice(WORDS))
        elif how == 2:
            node[chance.choice(MEMBERS)] = copy.deepcopy(chance.choice(WORDS))
        elif how == 3:
            node[chance.choice(MEMBERS)] = node.pop(name)
        else:
            node[f"{name}\u0000twice"] = copy.deepcopy(chance.choice(WORDS))  # written as a second one: see `text`
    else:
        at = chance.randrange(len(node))
        how = chance.randrange(4)
        if how == 0:
            del node[at]
        elif how == 1:
            node.insert(at, copy.deepcopy(node[at]))
        elif how == 2:
            other = chance.randrange(len(node))
            node[at], node[other] = node[other], node[at]
        else:
            node[at] = copy.deepcopy(chance.choice(WORDS))


def text(value: Any) -> bytes:
    """As JSON, with the members that are to stand twice."""
    return json.dumps(value, separators=(",", ":")).replace("\\u0000twice", "").encode()


def lines_manipulated(lines: list[bytes], chance: random.Random) -> list[bytes]:
    """A line dropped, doubled, moved, cut or changed in a byte."""
    found, at, how = list(lines), chance.randrange(len(lines)), chance.randrange(5)
    if how == 0:
        del found[at]
    elif how == 1:
        found.insert(chance.randrange(len(found)), found[at])
    elif how == 2:
        found.insert(chance.randrange(len(found)), found.pop(at))
    elif how == 3:
        found[at] = found[at][: chance.randrange(len(found[at]))]
    else:
        line = bytearray(found[at])
        line[chance.randrange(len(line))] ^= 1 << chance.randrange(8)
        found[at] = bytes(line)
    return found


def first_of(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    return dict(reversed(pairs))


Seen = dict[str, Any]


def seen(data: bytes) -> Iterator[Seen]:
    """What readers see: of each record its person, action, target, outcome, time, and the resource's service."""
    for line in data.splitlines():
        for hook in (None, first_of):
            try:
                value = json.loads(line, object_pairs_hook=hook)
            except (ValueError, RecursionError):
                continue
            yield from records(value)


def records(value: Any) -> Iterator[Seen]:
    if isinstance(value, list):
        for item in value:
            yield from records(item)
    elif isinstance(value, dict):
        for group in listed(value, "resourceLogs"):
            for scope in listed(group, "scopeLogs"):
                for record in listed(scope, "logRecords"):
                    if isinstance(record, dict):
                        yield from shown(record, group.get("resource"))


def listed(holder: Any, name: str) -> list[Any]:
    found = holder.get(name) if isinstance(holder, dict) else None
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []


def shown(record: dict[str, Any], resource: Any) -> Iterator[Seen]:
    """Once with the first, once with the last of the attributes of one name."""
    items, around = listed(record, "attributes"), listed(resource, "attributes")
    for order in (items, items[::-1]):
        found = {item.get("key"): bare(item.get("value")) for item in order if isinstance(item.get("key"), str)}
        if "audit.record.id" in found or "audit.sequence.stream_id" in found:
            services = [bare(item.get("value")) for item in around if item.get("key") == "service.name"]
            yield {
                **{name: found.get(name) for name in NAMES},
                "id": found.get("audit.record.id"),
                "time": record.get("timeUnixNano"),
                "event": record.get("eventName"),
                "body": bare(record.get("body")),
                "service": services[0] if services else None,
            }


def bare(value: Any) -> Any:
    """What a reader makes of a value who takes the first member that looks like one."""
    return next(iter(value.values()), None) if isinstance(value, dict) else value


def rule(found: Seen, written: dict[Any, Seen]) -> bool:
    """Whether what a reader sees is what was written: each value that is shown, of the record of that id."""
    right = written.get(found["id"])
    if found["id"] is None:
        return any(agrees(found, one) for one in written.values())
    return right is not None and agrees(found, right)


def agrees(found: Seen, right: Seen) -> bool:
    return all(value in (None, "") or name == "id" or str(value) == str(right[name]) for name, value in found.items())
