"""An export in each form in which it may be given: manipulated as OTLP/JSON, written as each writer writes it."""

from __future__ import annotations

import base64
import copy
import json
from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any

import orjson
from google.protobuf.json_format import ParseDict, ParseError
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

from . import loki
from .evidence import Sent
from .receivers import flatten


class InexpressibleError(Exception):
    """The form cannot hold this: there is nothing to manipulate in it so."""


def request(*records: Sent) -> dict[str, Any]:
    """One request; records of one resource that follow each other share it."""
    groups: list[dict[str, Any]] = []
    for record, resource in records:
        if not groups or groups[-1]["resource"] is not resource:
            groups.append({"resource": resource, "scopeLogs": [{"scope": {}, "logRecords": []}]})
        groups[-1]["scopeLogs"][0]["logRecords"].append(record)
    return {"resourceLogs": groups}


def sink(records: list[Sent]) -> bytes:
    """A request a line, as the sink writes them."""
    return b"".join(orjson.dumps(request(one)) + b"\n" for one in records)


def collector(records: list[Sent]) -> bytes:
    """Large requests, as the Collector's file exporter writes them: read record by record."""
    return orjson.dumps(request(*records)) + b"\n"


def protobuf(records: list[Sent]) -> bytes:
    """The Collector's ``format: proto``: each request with its length before it. By the official classes."""
    found = b""
    for one in records:
        form = copy.deepcopy(request(one))
        record = form["resourceLogs"][0]["scopeLogs"][0]["logRecords"][0]
        try:
            for name in ("traceId", "spanId"):
                if name in record:
                    record[name] = base64.b64encode(bytes.fromhex(record[name])).decode()
            data = ParseDict(form, ExportLogsServiceRequest()).SerializeToString()
        except (ParseError, ValueError, TypeError) as error:
            raise InexpressibleError from error
        found += len(data).to_bytes(4, "big") + data
    return found


def loki_answer(records: list[Sent]) -> bytes:
    """``query_range`` with categorized labels."""
    return _stored(lambda sent: loki.query_range(sent, categorized=True), records)


def logcli(records: list[Sent]) -> bytes:
    """``logcli --output=jsonl``."""
    return _stored(loki.logcli, records)


def _stored(write: Callable[[Any], bytes], records: list[Sent]) -> bytes:
    _expressible(records)
    try:
        return write(flatten(request(*records)))
    except (AttributeError, TypeError, ValueError, KeyError, StopIteration) as error:
        raise InexpressibleError from error


def _expressible(records: list[Sent]) -> None:
    """A store takes OTLP: what no OTLP parser takes never reaches it, and of a name given twice it keeps one."""
    protobuf(records)
    for record, resource in records:
        for items in (record.get("attributes", []), resource.get("attributes", [])):
            if len({item["key"] for item in items}) != len(items):
                raise InexpressibleError


def victorialogs(records: list[Sent]) -> bytes:
    """A row an object: every field a string, the resource among them."""
    return _stored(_rows, records)


def _rows(sent: list[Any]) -> bytes:
    rows = []
    for one in sent:
        time = int(one.form.get("timeUnixNano", 0))
        moment = datetime.fromtimestamp(time // 10**9, timezone.utc).strftime("%Y-%m-%dT%H:%M:%S")
        fields = {item["key"]: loki._string(item["value"]) for item in one.form["attributes"]}
        body = loki._string(one.form["body"]) if one.form.get("body") else ""
        row = {"_time": f"{moment}.{time % 10**9:09d}Z", "_msg": body, **one.resource, **fields}
        row |= {"event_name": one.event, "severity": "Unspecified"}
        row |= {name: one.form[member] for name, member in (("trace_id", "traceId"),) if member in one.form}
        rows.append(json.dumps(row) + "\n")
    return "".join(rows).encode()


FORMS: dict[str, Callable[[list[Sent]], bytes]] = {
    "sink": sink,
    "collector": collector,
    "protobuf": protobuf,
    "loki": loki_answer,
    "logcli": logcli,
    "victorialogs": victorialogs,
}
