"""The composition root: what it makes when, what it counts, and that nothing of it reaches the app."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import orjson
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

import jwt_audit
from jwt_audit import diagnostics
from jwt_audit.errors import JWTAuditError, RecordError, SpoolError
from jwt_audit.evidence.signing import Signer
from jwt_audit.request import Request
from jwt_audit.spool import disk
from jwt_audit.spool.writer import StreamWriter
from opentelemetry.instrumentation.jwt_audit import wiring
from opentelemetry.instrumentation.jwt_audit.hooks import boundary
from opentelemetry.instrumentation.jwt_audit.pipeline import compose
from support.audited import Audited, auditing, last_head
from support.receivers import receiving

SPOOL = "OTEL_PYTHON_JWT_AUDIT_SPOOL"


@pytest.fixture(autouse=True)
def _untold() -> None:
    """What is told once in a process is told anew in each test."""
    diagnostics._warned.clear()


def request_of(status: int = 200) -> Request:
    made = boundary.new_request("http", "GET", "/", None)
    made.status = status
    return made


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if "SIGNING_KEY" not in record.getMessage()]


def test_nothing_is_made_before_there_is_something_to_do(audited: Audited) -> None:
    """sitecustomize runs in shells and build tools too; a server's start makes the spool, a record the stream."""
    assert not audited.spool.exists()
    audited.pipeline.start()
    assert audited.spool.is_dir()
    assert list((audited.spool / "streams").iterdir()) == []
    audited.pipeline.finish(request_of())
    assert len(list((audited.spool / "streams").iterdir())) == 1


def test_the_start_is_said_once_and_nothing_is_made(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """When a server gets its app: what is hooked, where the spool is, where records go."""
    settings: dict[str, Any] = {"spool": tmp_path / "spool", "endpoint": "https://c.example/v1/audit?key=secret"}
    pipeline = compose(suppress=nullcontext, hooked=lambda: ["flask", "gunicorn"], **settings)
    assert pipeline is not None
    handlers, logging.getLogger().handlers = logging.getLogger().handlers, []
    try:
        pipeline.announce()
        pipeline.announce()
    finally:
        logging.getLogger().handlers = handlers
    assert capfd.readouterr().err == (
        f"jwt-audit: recording requests in {tmp_path / 'spool'}, sending records to https://c.example/v1/audit; "
        "hooked into flask, gunicorn\n"
    )
    assert list(tmp_path.iterdir()) == []
    pipeline.stop()


@pytest.mark.parametrize("mode", ["open", "closed"])
def test_a_spool_that_cannot_be_made_is_told_at_the_start(caplog: pytest.LogCaptureFixture, mode: str) -> None:
    """Before the first request, with what happens until it is mended."""
    diagnostics._warned.clear()
    pipeline = compose(suppress=nullcontext, spool="/dev/null/spool", fail_mode=mode, endpoint="none")
    assert pipeline is not None
    pipeline.announce()
    (message,) = [one for one in told(caplog) if "SPOOL" in one]
    assert message.startswith("OTEL_PYTHON_JWT_AUDIT_SPOOL: cannot make the spool /dev/null/spool; name a directory")
    assert message.endswith(
        "until then nothing is recorded" if mode == "open" else "until then every request is answered 503"
    )
    pipeline.stop()


def test_requests_that_go_unrecorded_are_told_of_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As long as they do, with their number: not only twice at the start."""
    monkeypatch.setattr("opentelemetry.instrumentation.jwt_audit.pipeline._WARNING_SECONDS", 0.0)
    (tmp_path / "file").touch()
    with auditing(tmp_path, spool=tmp_path / "file" / "spool") as audited:
        for _ in range(3):
            audited.pipeline.finish(request_of())
    found = [message for message in told(caplog) if message.startswith("audit records cannot be written")]
    assert len(found) == 3
    assert "requests go on unrecorded and are counted, 3 records so far" in found[-1]


def test_a_request_has_one_record_of_each_event(audited: Audited) -> None:
    """However often it is asked for."""
    request = request_of()
    assert audited.pipeline.finish(request)
    assert audited.pipeline.finish(request)
    assert len(audited.requests()) == 1


def test_without_a_spool_requests_are_counted_and_told_of_later(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Said once with the variable's name; the stream that can be made at last starts with how many, since when."""
    (tmp_path / "spool").write_text("in the way")
    with auditing(tmp_path) as audited:
        audited.pipeline.start()
        for _ in range(3):
            assert audited.pipeline.finish(request_of()), "the app is served all the same"
        assert [message.partition(":")[0] for message in told(caplog)] == [SPOOL, "audit records cannot be written"]
        assert "requests go on unrecorded and are counted" in told(caplog)[1]
        (tmp_path / "spool").unlink()
        deadline = time.monotonic() + 30
        while not audited.requests() and time.monotonic() < deadline:
            audited.pipeline.finish(request_of())
            time.sleep(0.1)
        records = audited.records()
        assert [one.event_name for one in records[:3]] == ["audit.stream.start", "audit.records.lost", "http.request"]
        lost = records[1].attributes
        assert isinstance(lost["audit.lost.count"], int)
        assert lost["audit.lost.count"] >= 3
        assert lost["audit.lost.refused"] == 0
        assert str(lost["audit.lost.since"]).startswith("20")
        assert told(caplog)[-1] == "audit records are written again"


def test_closed_refuses_what_it_cannot_record_and_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Neither admitted nor finished; those refused before the app ran are counted apart."""
    (tmp_path / "spool").write_text("in the way")
    with auditing(tmp_path, fail_mode="closed") as audited:
        assert not audited.pipeline.admit(request_of())
        assert not asyncio.run(audited.pipeline.admit_async(request_of()))
        assert not audited.pipeline.finish(request_of())
        assert not asyncio.run(audited.pipeline.finish_async(request_of()))
        assert "requests are refused with 503" in told(caplog)[-1]
        (tmp_path / "spool").unlink()
        deadline = time.monotonic() + 30
        while not audited.pipeline.admit(request_of()):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        (lost,) = audited.requests("audit.records.lost")
        assert lost["audit.lost.count"] - lost["audit.lost.refused"] == 2
        assert lost["audit.lost.refused"] >= 2


def test_one_bad_record_is_not_a_failing_spool(audited: Audited, caplog: pytest.LogCaptureFixture) -> None:
    """It is told once and counted; nothing flaps between failing and written again."""
    for _ in range(3):
        bad = request_of()
        bad.annotations["order"] = "\ud800"
        assert audited.pipeline.finish(bad)
        assert audited.pipeline.finish(request_of())
    assert len(told(caplog)) == 1
    assert told(caplog)[0].startswith("an audit record could not be written: ")
    assert sum(one["audit.lost.count"] for one in audited.requests("audit.records.lost")) == 3


def test_a_failure_that_nobody_thought_of_reaches_no_app(
    audited: Audited, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is told by its type, counted, and made good once it is over."""

    def fails(self: StreamWriter, payload: bytes, digest: str) -> int:
        raise MemoryError("with a secret in it")

    audited.pipeline.finish(request_of())
    with monkeypatch.context() as patched:
        patched.setattr(StreamWriter, "append", fails)
        assert audited.pipeline.finish(request_of())
    (message,) = told(caplog)
    assert message.startswith("audit records cannot be written: a failure (MemoryError); requests go on unrecorded")
    assert message.endswith(f"(see {SPOOL})")
    audited.pipeline.finish(request_of())
    assert [one["audit.lost.count"] for one in audited.requests("audit.records.lost")] == [1]


def test_a_record_of_the_apps_own_is_in_the_spool_or_an_error(audited: Audited, tmp_path: Path) -> None:
    """`emit` raises where it cannot write: the app asked for it, and decides."""
    receipt = jwt_audit.emit("order.approved", action="APPROVE", target_id="17")
    (record,) = audited.records("order.approved")
    assert record.attributes["audit.record.id"] == receipt.record_id
    with pytest.raises(RecordError):
        jwt_audit.emit("http.request", action="READ")
    audited.pipeline.stop()
    with pytest.raises(JWTAuditError, match="no audit runs"):
        jwt_audit.emit("order.approved", action="APPROVE")


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # Python 3.12: fork beside threads
def test_a_forked_child_has_a_stream_and_counts_of_its_own(audited: Audited) -> None:
    """It shares neither file nor lock; what its parent lost is told by its parent."""
    audited.pipeline.finish(request_of())
    child = os.fork()
    if child == 0:
        code = 1
        try:
            audited.pipeline.finish(request_of())
            audited.pipeline.stop()
            code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    audited.pipeline.finish(request_of())
    found = [
        [one.event_name for one in audited.records() if one.attributes["audit.sequence.stream_id"] == stream]
        for stream in sorted({str(one.attributes["audit.sequence.stream_id"]) for one in audited.records()})
    ]
    assert found == [
        ["audit.stream.start", "http.request", "http.request"],
        ["audit.stream.start", "http.request", "audit.stream.end"],
    ]


def test_stopping_ends_the_stream_and_is_final(audited: Audited) -> None:
    """Twice is harmless; a request that comes later is served and counted, not recorded."""
    audited.pipeline.finish(request_of())
    audited.pipeline.stop()
    audited.pipeline.stop()
    assert audited.records()[-1].event_name == "audit.stream.end"
    assert audited.pipeline.finish(request_of())
    assert audited.records()[-1].event_name == "audit.stream.end"


def test_after_settling_it_goes_on(audited: Audited) -> None:
    """A server's shutdown ends the stream; it is not always the end of the process, and then another begins."""
    audited.pipeline.finish(request_of())
    audited.pipeline.settle()
    assert audited.records()[-1].event_name == "audit.stream.end"
    assert last_head(audited.spool) == len(audited.records())
    audited.pipeline.settle()
    audited.pipeline.finish(request_of())
    assert len(list(audited.spool.glob("streams/*/heads"))) == 2
    assert len(audited.requests()) == 2


def test_disk_waits_for_one_sync_that_all_share(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """DURABILITY=disk: nothing returns before a sync has ended; 64 requests that wait together cost few of them."""
    synced: list[int] = []
    returned: list[bool] = []
    all_written = threading.Event()
    real = disk.datasync

    def held(fd: int) -> None:
        assert all_written.wait(60)
        real(fd)
        synced.append(fd)

    def work() -> None:
        returned.append(made.pipeline.finish(request_of()) and bool(synced))

    async def tasks() -> None:
        found = await asyncio.gather(*(made.pipeline.finish_async(request_of()) for _ in range(32)))
        returned.extend(one and bool(synced) for one in found)

    with auditing(tmp_path, durability="disk") as made:
        made.pipeline.finish(request_of())
        monkeypatch.setattr(disk, "datasync", held)
        monkeypatch.setattr("opentelemetry.instrumentation.jwt_audit.pipeline.DISK_SECONDS", 120.0)
        threads = [threading.Thread(target=work) for _ in range(32)]
        threads.append(threading.Thread(target=lambda: asyncio.run(tasks())))
        for thread in threads:
            thread.start()
        deadline = time.monotonic() + 60
        while len(made.requests()) < 65 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert returned == []
        all_written.set()
        for thread in threads:
            thread.join()
        assert returned == [True] * 64
        assert len(synced) <= 64 / 5, "five times fewer syncs than requests"


def test_disk_and_closed_give_no_response_for_a_sync_that_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At once, not after a time-out; open serves it, and the records are written again into a new segment."""

    def fails(fd: int) -> None:
        raise OSError(5, "Input/output error")

    for mode in ("open", "closed"):
        (tmp_path / mode).mkdir()
        with auditing(tmp_path / mode, durability="disk", fail_mode=mode) as audited:
            assert audited.pipeline.admit(request_of())
            with monkeypatch.context() as patched:
                patched.setattr(disk, "datasync", fails)
                began = time.monotonic()
                assert audited.pipeline.finish(request_of()) == (mode == "open")
                assert asyncio.run(audited.pipeline.finish_async(request_of())) == (mode == "open")
                assert time.monotonic() - began < 9, "less than the time-out"
            assert audited.pipeline.finish(request_of())


def test_the_apps_resource_binds_the_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also without a provider, beside a foreign one, and where it is longer than a record may be."""
    monkeypatch.setenv("OTEL_SERVICE_NAME", "shop")
    assert orjson.loads(wiring.resource())["service.name"] == {"stringValue": "shop"}
    many = ",".join(f"k{number}={'v' * 900}" for number in range(60))
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", many)
    found = orjson.loads(wiring.resource())
    assert found["service.name"] == {"stringValue": "shop"}
    assert len(orjson.dumps(found)) < wiring.RESOURCE_BYTES


def test_an_unusable_signing_key_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Evidence signed by some other key would not be what was asked for: nothing is written, and said why."""
    key = tmp_path / "signing.pem"
    key.write_text("rubbish")
    with auditing(tmp_path, signing_key=key) as audited:
        assert audited.pipeline.finish(request_of())
        (message,) = [record.getMessage() for record in caplog.records]
        assert f"OTEL_PYTHON_JWT_AUDIT_SIGNING_KEY: {key} cannot be used" in message
        with pytest.raises((SpoolError, JWTAuditError)):
            jwt_audit.emit("order.approved", action="APPROVE")


def encrypted(path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8)
    path.write_bytes(key.private_bytes(*form, serialization.BestAvailableEncryption(b"word")))


UNUSABLE_KEYS: dict[str, Callable[[Path], object]] = {
    "missing": lambda path: None,
    "directory": Path.mkdir,
    "link to nothing": lambda path: path.symlink_to("nothing"),
    "empty": Path.touch,
    "rubbish": lambda path: path.write_bytes(b"\xff\0rubbish"),
    "public": lambda path: path.write_bytes(Signer.generate().public_key.pem),
    "encrypted": encrypted,
}


@pytest.mark.parametrize("mode", ["open", "closed"])
@pytest.mark.parametrize("kind", UNUSABLE_KEYS)
def test_no_other_key_signs_in_place_of_the_configured_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, kind: str, mode: str
) -> None:
    """Closed refuses the request, open serves it and counts the loss; both say why, and no key is made in the spool."""
    key = tmp_path / "signing.pem"
    UNUSABLE_KEYS[kind](key)
    for name, value in {"SIGNING_KEY": str(key), "SPOOL": str(tmp_path / "spool"), "FAIL_MODE": mode}.items():
        monkeypatch.setenv(f"OTEL_PYTHON_JWT_AUDIT_{name}", value)
    pipeline = compose(suppress=nullcontext)
    assert pipeline is not None
    try:
        assert pipeline.admit(request_of()) == (mode == "open")
        assert asyncio.run(pipeline.admit_async(request_of())) == (mode == "open")
        assert pipeline.finish(request_of()) == (mode == "open")
        with pytest.raises(JWTAuditError):
            jwt_audit.emit("order.approved", action="APPROVE")
    finally:
        pipeline.stop()
    told = [record.getMessage() for record in caplog.records]
    assert any("OTEL_PYTHON_JWT_AUDIT_SIGNING_KEY: " in line for line in told)
    assert any(("503" if mode == "closed" else "unrecorded") in line for line in told)
    assert not (tmp_path / "spool" / "signing-key.pem").exists()
    assert not list((tmp_path / "spool").rglob("*.seg"))


@pytest.mark.parametrize("mode", ["open", "closed"])
def test_no_other_spool_is_written_in_place_of_the_configured_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    """Where the default is may be no volume at all."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setenv(SPOOL, "~nobody-of-that-name/spool")
    monkeypatch.setenv("OTEL_PYTHON_JWT_AUDIT_FAIL_MODE", mode)
    pipeline = compose(suppress=nullcontext)
    assert pipeline is not None
    pipeline.start()
    assert pipeline.admit(request_of()) == (mode == "open")
    assert pipeline.finish(request_of()) == (mode == "open")
    pipeline.stop()
    assert any(record.getMessage().startswith(f"{SPOOL}: ") for record in caplog.records)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "value"),
    [("CERTIFICATE", "/no/ca.pem"), ("CLIENT_KEY", "/no/key.pem"), ("HEADERS", "x"), ("ENDPOINT", "nowhere")],
)
def test_nothing_is_sent_another_way_than_was_configured(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    """Without the authorities, the certificate or the headers that were asked for: it waits in the spool."""
    with receiving() as heard:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", heard.url)
        monkeypatch.setenv(SPOOL, str(tmp_path / "spool"))
        monkeypatch.setenv(f"OTEL_PYTHON_JWT_AUDIT_{name}", value)
        pipeline = compose(suppress=nullcontext)
        assert pipeline is not None
        pipeline.start()
        assert pipeline.finish(request_of())
        pipeline.stop()
        assert heard.headers == []
    (message,) = told(caplog)
    assert message.startswith(f"OTEL_PYTHON_JWT_AUDIT_{name}: ")
    assert "nothing is sent, records wait in the spool" in message
    assert list((tmp_path / "spool").rglob("*.seg"))


def test_wrong_settings_are_told_once_and_the_pipeline_is_there(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the variable's full name; OTEL_SDK_DISABLED alone gives none."""
    monkeypatch.setenv("OTEL_PYTHON_JWT_AUDIT_ENDPOINT", "nowhere")
    monkeypatch.setenv(SPOOL, str(tmp_path / "spool"))
    made: list[Any] = [compose(suppress=nullcontext) for _ in range(2)]
    (message,) = told(caplog)
    assert message.startswith("OTEL_PYTHON_JWT_AUDIT_ENDPOINT: ")
    for pipeline in made:
        pipeline.stop()
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    assert compose(suppress=nullcontext) is None


def test_the_spools_limit_is_kept(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """What is beyond it is refused, counted and told: never an unbounded directory."""
    with auditing(tmp_path, spool_limit="1MiB") as audited:
        for _ in range(1500):
            audited.pipeline.finish(request_of())
        assert 0 < len(audited.requests()) < 1500
        assert sum(path.stat().st_size for path in audited.spool.glob("streams/*/*.seg")) < 2**20
        assert any("has reached its limit of 1048576 bytes" in message for message in told(caplog))
