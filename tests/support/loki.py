"""Records in the form in which Loki answers, made after its documentation: Loki itself is not run here.

Of OTLP logs Loki makes a line (the body) and structured metadata: each attribute, its dots turned into
underscores and its value into a string, lists into JSON; ids and times beside them. Some of the
resource's attributes become the stream's labels.
https://grafana.com/docs/loki/latest/send-data/otel/, https://grafana.com/docs/loki/latest/reference/loki-http-api/
"""

from __future__ import annotations

import json
import re
from datetime import datetime, timezone
from typing import Any

from .receivers import Sent

_LABELS = {"service.name": "service_name", "service.namespace": "service_namespace"}


def _name(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_]", "_", name)


def _string(value: dict[str, Any]) -> str:
    (kind, held), *_ = value.items()
    if kind == "arrayValue":
        return json.dumps([next(iter(item.values())) for item in held.get("values", [])], separators=(",", ":"))
    return str(held).lower() if kind == "boolValue" else str(held)


def _entry(sent: Sent) -> tuple[dict[str, str], dict[str, str], str, str]:
    """Labels, structured metadata, time, line."""
    form = sent.form
    labels = {_LABELS[name]: value for name, value in sent.resource.items() if name in _LABELS}
    metadata = {_name(name): value for name, value in sent.resource.items() if name not in _LABELS}
    metadata |= {_name(item["key"]): _string(item["value"]) for item in form["attributes"]}
    metadata |= {"event_name": sent.event, "observed_timestamp": str(form["observedTimeUnixNano"])}
    metadata |= {"detected_level": "unknown"}
    for name, member in (("trace_id", "traceId"), ("span_id", "spanId"), ("flags", "flags")):
        if form.get(member):
            metadata[name] = str(form[member])
    time = str(form.get("timeUnixNano") or form["observedTimeUnixNano"])
    return labels, metadata, time, _string(form["body"]) if form.get("body") else ""


def query_range(sent: list[Sent], *, categorized: bool) -> bytes:
    """``GET /loki/api/v1/query_range``; ``categorized`` as the header that Grafana sends asks for it."""
    streams: dict[str, dict[str, Any]] = {}
    for one in reversed(sent):  # newest first
        labels, metadata, time, line = _entry(one)
        shown = labels if categorized else labels | metadata
        stream = streams.setdefault(json.dumps(shown, sort_keys=True), {"stream": shown, "values": []})
        stream["values"].append([time, line, {"structuredMetadata": metadata}] if categorized else [time, line])
    data = {"resultType": "streams", "result": list(streams.values()), "stats": {"summary": {"execTime": 0.1}}}
    if categorized:
        data["encodingFlags"] = ["categorize-labels"]
    return json.dumps({"status": "success", "data": data}).encode()


def logcli(sent: list[Sent]) -> bytes:
    """``logcli query --output=jsonl --include-common-labels``."""
    lines = []
    for one in reversed(sent):
        labels, metadata, time, line = _entry(one)
        moment = datetime.fromtimestamp(int(time) // 10**9, timezone.utc).strftime("%Y-%m-%dT%H:%M:%S")
        shown = {"labels": labels | metadata, "line": line, "timestamp": f"{moment}.{int(time) % 10**9:09d}Z"}
        lines.append(json.dumps(shown) + "\n")
    return "".join(lines).encode()
