"""`verify` over what backends hold: files of the real Collector's file exporter, and Loki's answers."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from jwt_audit import attributes as attr
from jwt_audit.evidence.signing import Signer
from jwt_audit.spool.stream import Stream
from support import loki
from support.chain import programs
from support.receivers import COMMAND, Sent, receiving, running_shipper, until
from support.served import SECONDS, Served, free_port
from support.spools import make_stream

RECORDS = 900
"""Of each stream; together the JSON of two is more than twice the size at which a file is rotated."""


def verify(*arguments: Path | str) -> tuple[int, str, dict[str, Any]]:
    """Exit code, what was said on standard error, and the report of ``jwt-audit verify``."""
    line = [*COMMAND, "verify", "--json", *map(str, arguments)]
    done = subprocess.run(line, capture_output=True, text=True, timeout=120, check=False)
    return done.returncode, done.stderr, json.loads(done.stdout or "{}")


def problems(report: dict[str, Any]) -> list[str]:
    return [problem["kind"] for stream in report["streams"] for problem in stream["problems"]]


def ship(root: Path, url: str, wait: Callable[[Callable[[], bool]], None]) -> None:
    """Two streams under one key: one ended, one that died; its statement comes from the shipper."""
    signer = Signer.generate()
    for end in (True, False):
        make_stream(root / "spool", records=RECORDS, end=end, head_every=100, signer=signer)
    (root / "key.pem").write_bytes(signer.public_key.pem)
    (root / "signing-key.pem").write_bytes(signer.pem)
    (root / "signing-key.pem").chmod(0o600)
    with running_shipper(root / "spool", url, SIGNING_KEY=str(root / "signing-key.pem")) as shipper:
        streams = [Stream(path) for path in (root / "spool" / "streams").iterdir()]
        wait(lambda: all(stream.cursor().done for stream in streams))
        shipper.terminate()
        assert shipper.wait(SECONDS) == 0


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory of what the Collector's file exporter wrote, in each of its formats."""
    program = str(programs()["otelcol"])
    root = tmp_path_factory.mktemp("files")
    port = free_port()
    exporters: dict[str, dict[str, Any]] = {
        "file/json": {"path": "audit.json"},
        "file/proto": {"path": "audit.binpb", "format": "proto"},
        "file/zstd": {"path": "audit.zstd", "format": "proto", "compression": "zstd"},
        "file/zstd_json": {"path": "audit.json.zstd", "compression": "zstd"},
        "file/rotated": {"path": "rotated/audit.json", "create_directory": True, "rotation": {"max_megabytes": 3}},
    }
    config = {
        "receivers": {"otlp": {"protocols": {"http": {"endpoint": f"127.0.0.1:{port}"}}}},
        "exporters": exporters,
        "service": {
            "telemetry": {"metrics": {"level": "none"}},
            "pipelines": {"logs": {"receivers": ["otlp"], "exporters": list(exporters)}},
        },
    }
    (root / "config.yaml").write_text(json.dumps(config))  # JSON is YAML
    served = Served(root)
    try:
        served._start("collector", [program, "--config", "config.yaml"], root, {})
        served._up(port)
        ship(root, f"http://127.0.0.1:{port}/v1/logs", served.wait)
        served.stop()
    finally:
        served.kill()
    return root


@pytest.mark.timeout(1800)  # the first test may wait for the build
@pytest.mark.parametrize("name", ["audit.json", "audit.binpb", "rotated"])
def test_the_file_exporter_s_files_are_proved(files: Path, name: str) -> None:
    """JSON, protobuf, and a directory of rotated files; beside the spool too."""
    assert name != "rotated" or len(list((files / "rotated").iterdir())) >= 3
    code, said, report = verify("--key", files / "key.pem", files / name)
    assert (code, said) == (0, ""), report
    assert report["totals"]["records"] == 2 * RECORDS + 3 + 3
    assert report["totals"]["open_tail"] == 0
    code, said, report = verify(files / name, files / "spool")
    assert (code, said) == (0, ""), report


def test_a_torn_file_is_proved_as_far_as_it_goes(files: Path, tmp_path: Path) -> None:
    """A kill leaves half a value, and the next run writes on behind it: what is whole is read, the rest is told."""
    whole = (files / "audit.json").read_bytes()
    cut = tmp_path / "cut.json"
    cut.write_bytes(whole[:300] + whole)  # glued to the start of a value that never ended
    code, _, report = verify(cut)
    assert code == 0, report
    assert "torn" in [warning["kind"] for warning in report["warnings"]]
    cut.write_bytes(whole[:-500])
    code, _, report = verify(cut)
    assert code != 1 or "cut_off" in problems(report)
    assert "torn" in [warning["kind"] for warning in report["warnings"]]
    proto = (files / "audit.binpb").read_bytes()
    cut.write_bytes(proto[:-500])
    code, _, report = verify(cut)
    assert "torn" in [warning["kind"] for warning in report["warnings"]]


@pytest.mark.parametrize("name", ["audit.zstd", "audit.json.zstd"])
def test_a_compressed_file_is_refused_with_what_to_do(files: Path, name: str) -> None:
    """The exporter frames each compressed message in a way of its own: that is said, and what to do instead."""
    code, said, report = verify(files / name)
    assert (code, report) == (2, {})
    assert said == (
        f"jwt-audit: {files / name} holds messages that the Collector compressed one by one, which no tool undoes: "
        "have its file exporter write without compression\n"
    )


def test_a_change_in_a_file_is_named(files: Path, tmp_path: Path) -> None:
    """A visible attribute of one record changed; one record gone."""
    lines = (files / "audit.json").read_bytes().splitlines(keepends=True)
    changed = tmp_path / "changed.json"
    changed.write_bytes(b"".join(lines).replace(b'"stringValue":"alice"', b'"stringValue":"eve"', 1))
    code, _, report = verify(changed)
    assert (code, problems(report)) == (1, ["contradiction"])
    value = json.loads(lines[0])
    records = value["resourceLogs"][0]["scopeLogs"][0]["logRecords"]
    assert len(records) > 10
    del records[5]
    changed.write_bytes(b"".join([json.dumps(value).encode() + b"\n", *lines[1:]]))
    code, _, report = verify(changed)
    assert (code, problems(report)) == (1, ["gap"])


@pytest.fixture(scope="module")
def sent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Sent]]:
    """What the shipper really sends, to be put into a store's form."""
    with receiving() as receiver:
        ship(tmp_path_factory.mktemp("loki"), receiver.url, lambda happens: until(happens, SECONDS))
        yield receiver.acknowledged


FORMS: dict[str, Callable[[list[Sent]], bytes]] = {
    "query_range": lambda sent: loki.query_range(sent, categorized=False),
    "query_range, categorized": lambda sent: loki.query_range(sent, categorized=True),
    "logcli": loki.logcli,
}


@pytest.mark.parametrize("form", FORMS)
def test_loki_s_answers_are_proved(sent: list[Sent], tmp_path: Path, form: str) -> None:
    """Each form of answer: valid as it is, a changed attribute is named, a deleted record is found."""
    answer = FORMS[form](sent)
    assert b"enduser_id" in answer
    assert b"enduser.id" not in answer.replace(b'\\"enduser.id\\"', b"")
    export = tmp_path / "loki.json"
    export.write_bytes(answer)
    code, said, report = verify(export)
    assert (code, said) == (0, ""), report
    assert report["totals"]["records"] == 2 * RECORDS + 3 + 3
    export.write_bytes(answer.replace(b'"enduser_id": "alice"', b'"enduser_id": "eve"', 1))
    code, _, report = verify(export)
    assert (code, problems(report)) == (1, ["contradiction"])
    middle = [one for one in sent if one.attributes[attr.NUMBER] != "50"]
    export.write_bytes(FORMS[form](middle))
    code, _, report = verify(export)
    assert (code, problems(report)) == (1, ["gap", "gap"])
