"""The audit record, and the records this package writes (draft OpenTelemetry audit signal).

Pure: what is to be told is in the `Request`; the recorder adds the id, number, previous hash and the
time of observation. Never in a record: the token, its signature, cookies, the query string, bodies.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass

from .. import attributes as attr
from ..attributes import Value
from ..context import Request

SCHEMA_VERSION = "1"

_ACTIONS = {
    "GET": "READ",
    "HEAD": "READ",
    "OPTIONS": "READ",
    "TRACE": "READ",
    "POST": "CREATE",
    "PUT": "UPDATE",
    "PATCH": "UPDATE",
    "DELETE": "DELETE",
}


@dataclass(slots=True)
class Record:
    """One audit record. Times are nanoseconds since the epoch; trace ids lowercase hex, None when unset.

    ``timestamp`` is when the action occurred, ``observed_timestamp`` when it was recorded, 0 until
    then. The recorder sets the latter, and ``audit.record.id`` and ``audit.sequence.*``.
    """

    event_name: str
    timestamp: int
    attributes: dict[str, Value]
    body: str | None = None
    trace_id: str | None = None
    span_id: str | None = None
    observed_timestamp: int = 0


def request_record(request: Request, event: str, *, ended: int, outcome: str | None = None) -> Record:
    """The record of one request; ``ended`` is monotonic nanoseconds, on the same clock as its start.

    Outcome: success below 400, failure from there on, as ``outcome`` says where it is given
    (``unknown`` for an aborted response).
    """
    identity = request.identity
    status = request.status
    action = "CONNECT" if request.kind == "websocket" else _ACTIONS.get(request.method, request.method or "UNKNOWN")
    found: dict[str, Value] = dict(identity.audit)
    found.update(request.annotations)
    found[attr.ACTOR_ID] = identity.actor_id
    found[attr.ACTOR_TYPE] = identity.actor.value
    found.setdefault(attr.ACTION, action)
    found.setdefault(attr.TARGET_ID, request.path)
    found.setdefault(attr.TARGET_TYPE, "http.endpoint")
    found[attr.SCHEMA_VERSION] = SCHEMA_VERSION
    found[attr.HTTP_METHOD] = request.method
    found[attr.URL_PATH] = request.path
    found[attr.REQUEST_ID] = request.id
    found[attr.REQUEST_DURATION] = max(0, ended - request.clock) // 1000
    found[attr.TRACE_FLAGS] = request.trace_flags
    if outcome is None:
        outcome = "success" if 0 < status < 400 else "failure" if status else "unknown"
    found[attr.OUTCOME] = outcome
    if status:
        found[attr.HTTP_STATUS] = status
        if status in (401, 403):
            found[attr.DECISION] = "denied"
    if request.route is not None:
        found[attr.HTTP_ROUTE] = request.route
    client = request.client or request.peer
    if client is not None:
        found[attr.CLIENT_ADDRESS] = client
        found[attr.SOURCE_ID] = client
        found[attr.SOURCE_TYPE] = address_type(client)
    if request.peer is not None:
        found[attr.PEER_ADDRESS] = request.peer
    if request.user_agent is not None:
        found[attr.USER_AGENT] = request.user_agent
    if request.error_type is not None:
        found[attr.ERROR_TYPE] = request.error_type
    where = request.route or request.path
    milliseconds = max(0, ended - request.clock) // 1_000_000
    body = f"{request.method} {where} {status or '-'} in {milliseconds} ms, token {identity.status.value}"
    return Record(event, request.started, found, body, request.trace_id, request.span_id)


def system_record(event: str, *, now: int, attributes: Mapping[str, Value], body: str) -> Record:
    """A record that this package writes of itself: a stream's start and end, losses, recoveries."""
    found: dict[str, Value] = {
        attr.ACTOR_ID: "jwt-audit",
        attr.ACTOR_TYPE: "system",
        attr.ACTION: event.rpartition(".")[2].upper(),
        attr.OUTCOME: "success",
        attr.SCHEMA_VERSION: SCHEMA_VERSION,
        **attributes,
    }
    return Record(event, now, found, body)


def address_type(address: str) -> str:
    """``ipv4``, ``ipv6`` or ``hostname`` (the draft's words for ``audit.source.type``)."""
    known = _address_types.get(address)
    if known is None:
        try:
            known = f"ipv{ipaddress.ip_address(address).version}"
        except ValueError:
            known = "hostname"
        if len(_address_types) >= 1024:
            _address_types.clear()
        _address_types[address] = known
    return known


_address_types: dict[str, str] = {}
