"""The audit record, and the records this package writes (draft OpenTelemetry audit signal).

Pure: what is to be told is in the `Request`; the recorder adds the id, number, previous hash and the
time of observation. Never in a record: the token, its signature, cookies, the query string, bodies.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from .. import attributes as attr
from ..anyvalue import unwrap, wrap
from ..attributes import Value
from ..request import Request

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


class Record:
    """One audit record. Times are nanoseconds since the epoch; trace ids lowercase hex, None when unset.

    ``timestamp`` is when the action occurred, ``observed_timestamp`` when it was recorded, 0 until
    then. The recorder sets the latter, and ``audit.record.id`` and ``audit.sequence.*``.

    The attributes are kept as ``form``: as they stand in canonical bytes (see `anyvalue`). Their values in
    it are shared between records and never changed.
    """

    __slots__ = ("body", "event_name", "form", "observed_timestamp", "span_id", "timestamp", "trace_id")

    def __init__(
        self,
        event_name: str,
        timestamp: int,
        attributes: Mapping[str, Value],
        body: str | None = None,
        trace_id: str | None = None,
        span_id: str | None = None,
        observed_timestamp: int = 0,
    ) -> None:
        """Raises RecordError for an attribute of a type that no record holds."""
        self.event_name = event_name
        self.timestamp = timestamp
        self.form: dict[str, Any] = {name: wrap(value) for name, value in attributes.items()}
        self.body = body
        self.trace_id = trace_id
        self.span_id = span_id
        self.observed_timestamp = observed_timestamp

    @classmethod
    def formed(
        cls,
        event_name: str,
        timestamp: int,
        form: dict[str, Any],
        body: str,
        trace_id: str | None = None,
        span_id: str | None = None,
    ) -> Record:
        """A record of attributes that are in their form already; ``form`` is its own from here on."""
        record = cls(event_name, timestamp, {}, body, trace_id, span_id)
        record.form = form
        return record

    @property
    def attributes(self) -> dict[str, Value]:
        """The attributes' values; a copy, `update` sets them."""
        return {name: unwrap(value) for name, value in self.form.items()}

    def update(self, attributes: Mapping[str, Value]) -> None:
        """Set these attributes. Raises RecordError."""
        self.form.update({name: wrap(value) for name, value in attributes.items()})

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Record):
            return NotImplemented
        return self._key() == other._key()

    __hash__ = None  # type: ignore[assignment]  # it can be changed

    def __repr__(self) -> str:
        return f"Record{self._key()}"

    def _key(self) -> tuple[Any, ...]:
        ids = (self.trace_id, self.span_id)
        return (self.event_name, self.timestamp, self.form, self.body, *ids, self.observed_timestamp)


class Receipt(NamedTuple):
    """What a record got: its id, its hash (hex SHA-256), and its place."""

    record_id: str
    hash: str
    stream_id: str
    number: int


def request_record(request: Request, event: str, *, ended: int, outcome: str | None = None) -> Record:
    """The record of one request; ``ended`` is monotonic nanoseconds, on the same clock as its start.

    Outcome: success below 400, failure from there on, as ``outcome`` says where it is given
    (``unknown`` for an aborted response).
    """
    method, path, status = request.method, request.path, request.status
    identity = request.identity.otlp_json
    taken = max(0, ended - request.clock)
    target = {"stringValue": path}
    form = {**identity, **_of_method(request.kind, method), attr.TARGET_ID: target, attr.URL_PATH: target}
    if request.annotations:
        form.update({name: wrap(value) for name, value in request.annotations.items() if name not in _OURS})
    form.update(_of_status(status, outcome))
    form[attr.REQUEST_ID] = {"stringValue": request.id}
    form[attr.REQUEST_DURATION] = {"intValue": str(taken // 1000)}
    form[attr.TRACE_FLAGS] = {"intValue": str(request.trace_flags)}
    route, peer = request.route, request.peer
    client = request.client or peer
    if client is not None:
        form.update(_of_client(client))
    if peer is not None:
        form[attr.PEER_ADDRESS] = {"stringValue": peer}
    if route is not None:
        form[attr.HTTP_ROUTE] = {"stringValue": route}
    if request.user_agent is not None:
        form[attr.USER_AGENT] = {"stringValue": request.user_agent}
    if request.error_type is not None:
        form[attr.ERROR_TYPE] = {"stringValue": request.error_type}
    token = identity[attr.JWT_STATUS]["stringValue"]
    body = f"{method} {route or path} {status or '-'} in {taken // 1_000_000} ms, token {token}"
    return Record.formed(event, request.started, form, body, request.trace_id, request.span_id)


_OURS = frozenset((attr.ACTOR_ID, attr.ACTOR_TYPE, attr.SCHEMA_VERSION, attr.HTTP_METHOD, attr.URL_PATH))
"""What no annotation replaces, beside what is set after them."""


@lru_cache(maxsize=64)
def _of_method(kind: str, method: str) -> Mapping[str, Any]:
    action = "CONNECT" if kind == "websocket" else _ACTIONS.get(method, method or "UNKNOWN")
    fixed = {attr.SCHEMA_VERSION: SCHEMA_VERSION, attr.HTTP_METHOD: method}
    return _form({attr.ACTION: action, attr.TARGET_TYPE: "http.endpoint", **fixed})


@lru_cache(maxsize=256)
def _of_status(status: int, outcome: str | None) -> Mapping[str, Any]:
    if outcome is None:
        outcome = "success" if 0 < status < 400 else "failure" if status else "unknown"
    found: dict[str, Value] = {attr.OUTCOME: outcome}
    if status:
        found[attr.HTTP_STATUS] = status
        if status in (401, 403):
            found[attr.DECISION] = "denied"
    return _form(found)


@lru_cache(maxsize=1024)
def _of_client(address: str) -> Mapping[str, Any]:
    return _form({attr.CLIENT_ADDRESS: address, attr.SOURCE_ID: address, attr.SOURCE_TYPE: address_type(address)})


def _form(attributes: Mapping[str, Value]) -> Mapping[str, Any]:
    return {name: wrap(value) for name, value in attributes.items()}


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
    try:
        return f"ipv{ipaddress.ip_address(address).version}"
    except ValueError:
        return "hostname"
