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


def from_protobuf(kind: type[Message], body: bytes) -> dict[str, Any]:
    """The request in ``body`` in canonical JSON form. Raises BadRequestError."""
    try:
        message = kind.FromString(body)
    except DecodeError as error:
        raise BadRequestError(f"the body is no {kind.DESCRIPTOR.name} in protobuf") from error
    return _written(message)


def from_json(kind: type[Message], body: bytes) -> dict[str, Any]:
    """As `from_protobuf`, of OTLP/JSON."""
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
_plans: dict[str, dict[int, tuple[str, _Writer | None]]] = {}


def _written(message: Message) -> dict[str, Any]:
    descriptor = message.DESCRIPTOR
    plan = _plans.get(descriptor.full_name)
    if plan is None:
        fields = cast("Descriptor", descriptor).fields
        plan = {field.number: (field.json_name, _writer(field)) for field in fields}
        _plans[descriptor.full_name] = plan
    form = {}
    for field, value in message.ListFields():
        name, write = plan[field.number]
        form[name] = value if write is None else write(value)
    return form


def _writer(field: FieldDescriptor) -> _Writer | None:
    """How a field's value is written; None where it is as it is."""
    one: _Writer | None = None
    if field.type == FieldDescriptor.TYPE_MESSAGE:
        one = _written
    elif field.type in _INT64:
        one = str
    elif field.type == FieldDescriptor.TYPE_BYTES:
        one = bytes.hex if field.name in _IDS else lambda value: base64.b64encode(value).decode("ascii")
    elif field.type in (FieldDescriptor.TYPE_DOUBLE, FieldDescriptor.TYPE_FLOAT):
        one = _float_form
    if not _is_repeated(field):
        return one
    each = one
    return list if each is None else lambda values: [each(value) for value in values]


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
