"""OTLP requests of either form, checked, as the canonical OTLP/JSON that is stored.

Ids are lowercase hex, other bytes base64, 64-bit integers decimal strings, enumerations integers,
names lowerCamelCase, unknown members left out: so what arrived as protobuf and what arrived as JSON
look the same on disk. One walk over the message's descriptor for each way, no field is named here.
"""

from __future__ import annotations

import base64
import binascii
import math
import re
from collections.abc import Callable
from typing import Any, cast

import orjson
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import DecodeError, Message

from ..attributes import RECORD_ID
from ..errors import JWTAuditError

MAX_DEPTH = 64
"""Messages within messages; a nested value beyond that is refused, as protobuf's own parsers do."""

MAX_VALUES = 200_000
"""Messages in a request. Each becomes an object in memory, of a hundred times its size where it has two bytes."""
_MAX_LENGTHS = 800_000
"""Of what `values_in_protobuf` counts; 4 MiB of audit records have 600,000. The parser makes 60 bytes of each."""
_LENGTH_TAGS = bytes(number << 3 | 2 for number in range(1, 16))

_IDS = frozenset({"trace_id", "span_id", "parent_span_id"})
_INT64 = frozenset(
    {
        FieldDescriptor.TYPE_INT64,
        FieldDescriptor.TYPE_SINT64,
        FieldDescriptor.TYPE_SFIXED64,
        FieldDescriptor.TYPE_UINT64,
        FieldDescriptor.TYPE_FIXED64,
    }
)
_UNSIGNED = frozenset(
    {
        FieldDescriptor.TYPE_UINT64,
        FieldDescriptor.TYPE_FIXED64,
        FieldDescriptor.TYPE_UINT32,
        FieldDescriptor.TYPE_FIXED32,
    }
)
_SPECIAL_FLOATS = ("NaN", "Infinity", "-Infinity")


class BadRequestError(JWTAuditError):
    """What arrived is no OTLP request; the message says where and why, without the value."""


class TooManyValuesError(JWTAuditError):
    """A request of more messages than are read at once; halved, it can be sent again."""

    def __init__(self) -> None:
        super().__init__(f"a request may have {MAX_VALUES} values")


def values_in_protobuf(body: bytes) -> int:
    """At most so many messages are in ``body``, told without reading it. Raises TooManyValuesError."""
    # A message has a tag of wire type 2 with a field number below 16, which is one of 15 bytes. Text has them too.
    count = len(body) - len(body.translate(None, _LENGTH_TAGS))
    if count > _MAX_LENGTHS:
        raise TooManyValuesError
    return count


def values_in_json(body: bytes) -> int:
    """At most so many objects and lists are in ``body``, told without reading it. Raises TooManyValuesError."""
    count = body.count(b"{") + body.count(b"[")
    if count > MAX_VALUES:
        raise TooManyValuesError
    return count


def from_protobuf(kind: type[Message], body: bytes) -> dict[str, Any]:
    """The request in ``body`` in canonical JSON form. Raises BadRequestError, TooManyValuesError."""
    try:
        message = kind.FromString(body)
    except DecodeError as error:
        raise BadRequestError(f"the body is no {kind.DESCRIPTOR.name} in protobuf") from error
    return _Walk().form(message)


def from_json(kind: type[Message], body: bytes) -> dict[str, Any]:
    """As `from_protobuf`, of OTLP/JSON; `values_in_json` bounds it."""
    try:
        form = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise BadRequestError("the body is no JSON") from error
    return _read(cast("Descriptor", kind.DESCRIPTOR), form, kind.DESCRIPTOR.name, 0)


def split_audit(form: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """A logs request as two: the audit records (they have an ``audit.record.id``), and the rest."""
    audit: list[dict[str, Any]] = []
    rest: list[dict[str, Any]] = []
    for group in form.get("resourceLogs", ()):
        for records, wanted in ((audit, True), (rest, False)):
            scopes = []
            for scope in group.get("scopeLogs", ()):
                chosen = [record for record in scope.get("logRecords", ()) if _is_audit(record) is wanted]
                if chosen:
                    scopes.append({**scope, "logRecords": chosen})
            if scopes:
                records.append({**group, "scopeLogs": scopes})
    return {"resourceLogs": audit} if audit else {}, {"resourceLogs": rest} if rest else {}


def _is_audit(record: dict[str, Any]) -> bool:
    return any(attribute.get("key") == RECORD_ID for attribute in record.get("attributes", ()))


# Protobuf to JSON

_Writer = Callable[[Any], Any]
_plans: dict[str, dict[int, tuple[str, bool, bool, _Writer | None]]] = {}
"""By message and field number: JSON name, whether it is repeated, whether it is a message, how else it is written."""


class _Walk:
    """Through one request, counting its messages."""

    def __init__(self) -> None:
        self._left = MAX_VALUES

    def form(self, message: Message) -> dict[str, Any]:
        self._left -= 1
        if self._left < 0:
            raise TooManyValuesError
        descriptor = message.DESCRIPTOR
        plan = _plans.get(descriptor.full_name)
        if plan is None:
            plan = _plans[descriptor.full_name] = _plan(cast("Descriptor", descriptor))
        form = {}
        for field, value in message.ListFields():
            name, repeated, is_message, write = plan[field.number]
            if is_message:
                write = self.form
            if write is None:
                form[name] = list(value) if repeated else value
            else:
                form[name] = [write(one) for one in value] if repeated else write(value)
        return form


def _plan(descriptor: Descriptor) -> dict[int, tuple[str, bool, bool, _Writer | None]]:
    return {
        field.number: (
            field.json_name,
            _is_repeated(field),
            field.type == FieldDescriptor.TYPE_MESSAGE,
            _writer(field),
        )
        for field in descriptor.fields
    }


def _writer(field: FieldDescriptor) -> _Writer | None:
    """How a value that is no message is written; None where it is as it is."""
    if field.type in _INT64:
        return str
    if field.type == FieldDescriptor.TYPE_BYTES:
        return bytes.hex if field.name in _IDS else lambda value: base64.b64encode(value).decode("ascii")
    if field.type in (FieldDescriptor.TYPE_DOUBLE, FieldDescriptor.TYPE_FLOAT):
        return _float_form
    return None


def _is_repeated(field: FieldDescriptor) -> bool:
    known = getattr(field, "is_repeated", None)  # since protobuf 6.31; the label it stands for warns there
    return bool(cast("Any", field).label == FieldDescriptor.LABEL_REPEATED if known is None else known)


def _float_form(value: float) -> float | str:
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


# JSON to canonical JSON


def _read(descriptor: Descriptor, form: Any, where: str, depth: int) -> dict[str, Any]:
    if not isinstance(form, dict):
        raise BadRequestError(f"{where} is no object")
    if depth > MAX_DEPTH:
        raise BadRequestError("values are nested too deeply")
    found: dict[str, Any] = {}
    chosen: set[str] = set()
    for field in descriptor.fields:
        value = form.get(field.json_name)
        if value is None:
            continue
        place = f"{where}.{field.json_name}"
        if _is_repeated(field):
            if not isinstance(value, list):
                raise BadRequestError(f"{place} is no list")
            items = [_read_one(field, item, f"{place}[{index}]", depth) for index, item in enumerate(value)]
            if items:
                found[field.json_name] = items
            continue
        oneof = field.containing_oneof
        if oneof is not None:
            if oneof.name in chosen:
                raise BadRequestError(f"{where} has more than one value")
            chosen.add(oneof.name)
        read = _read_one(field, value, place, depth)
        default: tuple[Any, ...] = ("0",) if field.type in _INT64 else (0, "", False)
        if field.has_presence or read not in default:  # a default value is what is not written
            found[field.json_name] = read
    return found


def _read_one(field: FieldDescriptor, value: Any, where: str, depth: int) -> Any:
    if field.type == FieldDescriptor.TYPE_MESSAGE:
        return _read(cast("Descriptor", field.message_type), value, where, depth + 1)
    if field.type == FieldDescriptor.TYPE_STRING:
        return _checked(value, str, where, "text")
    if field.type == FieldDescriptor.TYPE_BOOL:
        return _checked(value, bool, where, "boolean")
    if field.type == FieldDescriptor.TYPE_BYTES:
        text = _checked(value, str, where, "text")
        try:
            return bytes.fromhex(text).hex() if field.name in _IDS else _base64(text)
        except (ValueError, binascii.Error) as error:
            raise BadRequestError(f"{where} is not {'hex' if field.name in _IDS else 'base64'}") from error
    if field.type in (FieldDescriptor.TYPE_DOUBLE, FieldDescriptor.TYPE_FLOAT):
        if value in _SPECIAL_FLOATS or (isinstance(value, (int, float)) and not isinstance(value, bool)):
            return value
        raise BadRequestError(f"{where} is no number")
    return _integer(field, value, where)


def _integer(field: FieldDescriptor, value: Any, where: str) -> int | str:
    long = field.type in _INT64
    bits = 64 if long else 32
    if isinstance(value, str) and re.fullmatch(r"-?[0-9]{1,20}", value):
        value = int(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    lowest, beyond = (0, 2**bits) if field.type in _UNSIGNED else (-(2 ** (bits - 1)), 2 ** (bits - 1))
    if not isinstance(value, int) or isinstance(value, bool) or not lowest <= value < beyond:
        raise BadRequestError(f"{where} is no integer of {bits} bits")
    return str(value) if long else value


def _checked(value: Any, kind: type, where: str, name: str) -> Any:
    if not isinstance(value, kind):
        raise BadRequestError(f"{where} is no {name}")
    return value


def _base64(text: str) -> str:
    """Standard or URL-safe alphabet, padded or not (protobuf's JSON mapping), as the standard padded one."""
    plain = text.replace("-", "+").replace("_", "/")
    raw = base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)
    return base64.b64encode(raw).decode("ascii")
