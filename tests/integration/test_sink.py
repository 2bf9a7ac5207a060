"""The real sink: what it takes, what it says to the rest, what is on its disk."""

from __future__ import annotations

import gzip
import http.client
import json
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest, ExportLogsServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader

from jwt_audit.ship.encode import JsonEncoder, ProtobufEncoder, record_form
from support.receivers import COMMAND, PROTOBUF, Sink, read_jsonl, running_sink
from support.spools import LiveStream

JSON = "application/json"
CANARY = "canary-7f3a"


@pytest.fixture(scope="module")
def sink(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sink]:
    with running_sink(tmp_path_factory.mktemp("sink") / "out") as found:
        yield found


def post(
    sink: Sink, path: str, body: bytes, content_type: str | None, *, method: str = "POST", **headers: str
) -> tuple[int, bytes, dict[str, str]]:
    connection = http.client.HTTPConnection("127.0.0.1", sink.port, timeout=60)
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    if content_type is not None:
        sent["Content-Type"] = content_type
    connection.request(method, path, body, sent)
    response = connection.getresponse()
    found = response.read()
    connection.close()
    return response.status, found, {name.lower(): value for name, value in response.getheaders()}


def app_log(text: str) -> ExportLogsServiceRequest:
    request = ExportLogsServiceRequest()
    record = request.resource_logs.add().scope_logs.add().log_records.add()
    record.body.string_value = text
    return request


def test_a_200_means_that_it_is_stored(sink: Sink, tmp_path: Path) -> None:
    """Protobuf and JSON, plain and gzip, on each path; answered by an empty success in the request's form."""
    stream = LiveStream(tmp_path)
    stream.close()
    for encoder in (ProtobufEncoder(), JsonEncoder()):
        for path in ("/v1/logs", "/v1/audit"):
            for pack in (False, True):
                record = encoder.record(record_form(*stream.lines[0], carry=True))
                body = encoder.request(encoder.resource({}), [record])
                before = len(sink.audit())
                headers = {"Content_Encoding": "gzip"} if pack else {}
                body = gzip.compress(body) if pack else body
                status, answer, shown = post(sink, path, body, encoder.content_type, **headers)
                assert (status, shown["content-type"]) == (200, encoder.content_type)
                assert answer == (b"" if encoder.content_type == PROTOBUF else b"{}")
                assert ExportLogsServiceResponse.FromString(b"").partial_success.rejected_log_records == 0
                assert len(sink.audit()) == before + 1
    assert len({json.dumps(sent.form, sort_keys=True) for sent in sink.audit()}) == 1


def test_each_signal_has_its_file(sink: Sink) -> None:
    """App logs and traces apart from audit records; a request with nothing in it is stored nowhere."""
    trace = ExportTraceServiceRequest()
    trace.resource_spans.add().scope_spans.add().spans.add(name="GET", trace_id=bytes(15) + b"\x01")
    audit = len(sink.audit())
    assert post(sink, "/v1/traces", trace.SerializeToString(), PROTOBUF)[0] == 200
    assert post(sink, "/v1/logs", app_log("hello").SerializeToString(), PROTOBUF)[0] == 200
    assert post(sink, "/v1/logs", b"", PROTOBUF)[0] == 200
    (line,) = (sink.directory / "traces.jsonl").read_bytes().splitlines()
    assert json.loads(line)["resourceSpans"][0]["scopeSpans"][0]["spans"][0]["traceId"] == "0" * 31 + "1"
    (log,) = read_jsonl(sink.directory / "logs.jsonl")
    assert log.form["body"] == {"stringValue": "hello"}
    assert len(sink.audit()) == audit
    assert post(sink, "/healthz", b"", None, method="GET")[:2] == (200, b"ok\n")


@pytest.mark.parametrize(
    ("body", "content_type", "headers", "status", "said"),
    [
        (b"{}", None, {}, 415, b"send application/x-protobuf or application/json\n"),
        (b"{}", "text/plain", {}, 415, b"send application/x-protobuf or application/json\n"),
        (b"{}", JSON, {"Content_Encoding": "br"}, 415, b"send gzip or no Content-Encoding\n"),
        (b"{", JSON, {}, 400, b'{"code":3,"message":"the body is no JSON"}'),
        (b"[]", JSON, {}, 400, b'{"code":3,"message":"ExportLogsServiceRequest is no object"}'),
        (b"{}", JSON, {"Content_Encoding": "gzip"}, 400, b'{"code":3,"message":"the body is no gzip"}'),
        (
            gzip.compress(b"{}" * 99)[:-9],
            JSON,
            {"Content_Encoding": "gzip"},
            400,
            b'{"code":3,"message":"the gzip body is cut off"}',
        ),
        (b"\xff", PROTOBUF, {}, 400, b"\x08\x03\x128the body is no ExportLogsServiceRequest in protobuf"),
        (bytes(2**22 + 1), PROTOBUF, {}, 413, b"a request may have 4194304 bytes\n"),
        (
            gzip.compress(bytes(2**28), 1),
            PROTOBUF,
            {"Content_Encoding": "gzip"},
            413,
            b"a request may have 4194304 bytes after decompression\n",
        ),
        (
            gzip.compress(bytes(2**21)),
            PROTOBUF,
            {"Content_Encoding": "gzip"},
            413,
            b"a request may have 200 times its size after decompression\n",
        ),
        (
            gzip.compress(b"") * 200_000,
            PROTOBUF,
            {"Content_Encoding": "gzip"},
            413,
            b"a gzip body may have 64 members\n",
        ),
        (b"\x0a\x00" * 2**20, PROTOBUF, {}, 413, b"a request may have 200000 values\n"),
        (b"\x0a\x00" * 200_000, PROTOBUF, {}, 413, b"a request may have 200000 values\n"),
        (b"[" + b"{}," * 200_000, JSON, {}, 413, b"a request may have 200000 values\n"),
    ],
    ids=[
        "no type",
        "text",
        "brotli",
        "json",
        "list",
        "gzip",
        "cut",
        "protobuf",
        "large",
        "bomb",
        "ratio",
        "members",
        "many",
        "many at the limit",
        "many in JSON",
    ],
)
def test_bad_input_gets_a_clear_answer(
    sink: Sink, body: bytes, content_type: str | None, headers: dict[str, str], status: int, said: bytes
) -> None:
    """In the request's own form where it has one; nothing is stored, and the sink goes on."""
    sizes = [path.stat().st_size for path in sorted(sink.directory.iterdir())]
    found = post(sink, "/v1/logs", body, content_type, **headers)
    assert found[0] == status
    if said[:1] == b"\x08":
        assert (found[1][:3], found[1][4:]) == (said[:3], said[4:])
        assert found[1][3] == len(said) - 4
    else:
        assert found[1] == said
    assert [path.stat().st_size for path in sorted(sink.directory.iterdir())] == sizes
    assert post(sink, "/v1/logs", b"{}", JSON)[0] == 200


def test_other_paths_and_methods(sink: Sink) -> None:
    """404 and 405, with what would be right; never the path that was asked for."""
    status, said, _ = post(sink, f"/v1/profiles?token={CANARY}", b"", PROTOBUF)
    assert status == 404
    assert b"POST OTLP/HTTP to /v1/traces, /v1/metrics, /v1/logs or /v1/audit" in said
    assert CANARY.encode() not in said
    status, again, headers = post(sink, "/v1/logs", b"", None, method="GET")
    assert (status, again, headers["allow"]) == (405, said, "POST")


def test_gzip_of_several_members_is_taken(sink: Sink) -> None:
    """As the format allows."""
    body = gzip.compress(b"{") + gzip.compress(b"}")
    assert post(sink, "/v1/logs", body, JSON, Content_Encoding="gzip")[0] == 200


def test_a_client_that_goes_away_does_no_harm(sink: Sink) -> None:
    """In the middle of its body."""
    with socket.create_connection(("127.0.0.1", sink.port)) as connection:
        head = f"POST /v1/logs HTTP/1.1\r\nHost: x\r\nContent-Type: {JSON}\r\nContent-Length: 99\r\n\r\n{{"
        connection.sendall(head.encode())
    assert post(sink, "/v1/logs", b"{}", JSON)[0] == 200


def test_it_ends_in_order_and_says_nothing_of_what_it_took(tmp_path: Path) -> None:
    """Exit code 0 at SIGTERM and SIGINT; no body, no header and no path in what it printed."""
    for number in (signal.SIGTERM, signal.SIGINT):
        with running_sink(tmp_path / "out") as sink:
            body = app_log(CANARY).SerializeToString()
            assert post(sink, f"/v1/logs?token={CANARY}", body, PROTOBUF, Authorization=CANARY)[0] == 200
            post(sink, "/v1/logs", b"{" + CANARY.encode(), JSON)
            post(sink, f"/{CANARY}", b"", JSON)
            sink.process.send_signal(number)
            out, errors = sink.process.communicate(timeout=60)
            assert sink.process.returncode == 0
            assert CANARY not in out + errors
    assert CANARY.encode() in (tmp_path / "out" / "logs.jsonl").read_bytes()


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, timeout=60, check=False)


def test_what_cannot_be_served_is_told_without_a_traceback(sink: Sink, tmp_path: Path) -> None:
    """A port that is taken, an address that is none, a directory that another sink writes or that is a file."""
    (tmp_path / "file").touch()
    for arguments, said in (
        ((str(tmp_path / "x"), "--port", str(sink.port)), "(Address already in use); choose another with --port"),
        ((str(tmp_path / "x"), "--port", "0", "--host", "name.invalid"), "cannot listen on name.invalid:0"),
        ((str(sink.directory), "--port", "0"), "another sink is writing to"),
        ((str(tmp_path / "file" / "x"), "--port", "0"), "Not a directory"),
    ):
        found = run("sink", *arguments)
        assert found.returncode == 1
        assert found.stderr.startswith("Error: ")
        assert said in found.stderr
        assert found.stderr.count("\n") == 1


def test_without_the_extra_it_says_what_to_install(tmp_path: Path) -> None:
    """Rather than name a module."""
    code = (
        "import sys; sys.modules['uvicorn'] = None\n"
        f"sys.argv = ['jwt-audit', 'sink', {str(tmp_path)!r}]\n"
        "from jwt_audit.cli.main import main; main()"
    )
    found = subprocess.run([COMMAND[0], "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert found.returncode == 1
    assert "pip install 'opentelemetry-instrumentation-jwt-audit[sink]'" in found.stderr


def test_metrics_of_a_real_exporter_have_their_file(sink: Sink) -> None:
    """As the distro's default sends them: taken without a complaint, and `verify` passes them by."""
    exporter = OTLPMetricExporter(endpoint=f"{sink.url}/v1/metrics")
    provider = MeterProvider([PeriodicExportingMetricReader(exporter)])
    provider.get_meter("shop").create_counter("orders").add(3)
    assert provider.force_flush()
    provider.shutdown()
    lines = (sink.directory / "metrics.jsonl").read_bytes().splitlines()
    metrics = json.loads(lines[0])["resourceMetrics"][0]["scopeMetrics"][0]["metrics"]
    assert [one["name"] for one in metrics] == ["orders"]
    assert metrics[0]["sum"]["dataPoints"][0]["asInt"] == "3"
    command = [*COMMAND, "verify", str(sink.directory)]
    found = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert "metrics.jsonl" not in found.stdout + found.stderr
