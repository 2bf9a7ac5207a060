"""The real chain: the FastAPI example, the Collector with the shipped gateway, Jaeger and VictoriaLogs.

VictoriaLogs stands in Loki's place, behind the same exporter. Where Go is missing all of it is skipped.
"""

from __future__ import annotations

import http.client
import json
import signal
import subprocess
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from jwt_audit import attributes as attr
from jwt_audit.spool.stream import Stream
from support.chain import CONFIG, Chain, chained, programs
from support.issuer import SigningKey, claims
from support.receivers import COMMAND, Reply, receiving, running_shipper
from support.spools import make_stream

pytestmark = pytest.mark.timeout(1800)  # the first test may wait for the build
SECRET = "0123456789abcdef0123456789abcdef"
KEY = SigningKey(SECRET.encode(), "HS256")
FOREIGN = SigningKey(b"fedcba9876543210fedcba9876543210", "HS256")
README = (CONFIG / "README.md").read_text("utf-8")
QUEUE = "otelcol_exporter_queue_size"
AUDIT = '"audit.integrity.canonical":*'


def token(person: str, key: SigningKey = KEY) -> str:
    now = int(time.time())
    return key.sign(claims(iss=None, aud=None, iat=now, exp=now + 3600, sub=person, sid=f"session-of-{person}"))


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chain]:
    programs()
    with chained(tmp_path_factory.mktemp("chain"), SHOP_SECRET=SECRET) as running:
        yield running


def verify(*paths: Path) -> tuple[int, dict[str, Any]]:
    """Exit code and report of ``jwt-audit verify``."""
    line = [*COMMAND, "verify", "--json", *map(str, paths)]
    done = subprocess.run(line, capture_output=True, text=True, timeout=120, check=False)
    assert done.stderr == ""
    return done.returncode, json.loads(done.stdout)


@pytest.mark.parametrize(("program", "config"), [("otelcol", "gateway.yaml"), ("jaeger", "jaeger.yaml")])
def test_the_shipped_configurations_are_accepted(program: str, config: str) -> None:
    """The real programs find nothing wrong with them, and something with a component that is not there."""
    line = [str(programs()[program]), "validate", "--config", str(CONFIG / config)]
    done = subprocess.run(line, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    wrong = [*line, "--config", "yaml:exporters::nowhere: {}"]
    assert subprocess.run(wrong, capture_output=True, timeout=60, check=False).returncode != 0


def test_the_whole_request_is_found_by_who_made_it(chain: Chain, capsys: pytest.CaptureFixture[str]) -> None:
    """Traces in Jaeger by person; audit records in VictoriaLogs by person and by session, with the trace's id."""
    answers = {person: chain.ask("/orders", token(person)) for person in ("alice", "bob")}
    refused = chain.ask("/orders", token("ceo", FOREIGN))
    assert [answer.status for answer in answers.values()] == [200, 200]
    assert refused.status == 401
    chain.wait(lambda: bool(chain.traces(**{"enduser.id": "alice"}) and chain.traces(**{"jwt.status": "invalid"})))
    chain.wait(lambda: len(chain.rows(f'event_name:="http.request" {AUDIT}')) >= 3)
    (trace,) = chain.traces(**{"enduser.id": "alice"})
    for query in ('"enduser.id":="alice"', '"session.id":="session-of-alice"'):
        (row,) = chain.rows(f"{query} {AUDIT}")
        assert row["request.id"] == answers["alice"].id
        assert row["trace_id"] == trace["traceID"]
        assert row["audit.actor.id"] == "alice"
        assert row["_msg"].startswith("GET /orders 200 in ")
    tags = {tag["key"]: tag["value"] for span in trace["spans"] for tag in span["tags"]}
    assert tags["session.id"] == "session-of-alice"
    assert "list orders" in {span["operationName"] for span in trace["spans"]}
    assert chain.traces(**{"enduser.id": "ceo"}) == []
    assert chain.rows('"enduser.id":="ceo"') == []
    (row,) = chain.rows(f'"request.id":="{refused.id}" {AUDIT}')
    assert (row["jwt.status"], row["audit.actor.id"]) == ("invalid", "anonymous")
    # The app's own logs take the other route to the same store, with the same identity
    by_app = '"enduser.id":="alice" !"audit.integrity.canonical":*'
    chain.wait(lambda: bool(chain.rows(by_app)))
    logs = chain.rows(by_app)
    assert {log["trace_id"] for log in logs} == {trace["traceID"]}
    with capsys.disabled():
        print(
            f"\n{len(trace['spans'])} spans of alice's trace in Jaeger, 1 record and {len(logs)} logs in VictoriaLogs"
        )


def test_what_the_store_refuses_is_counted(tmp_path: Path) -> None:
    """The Collector drops it, as the README says, and the metric that it says to watch tells."""
    assert "`otelcol_exporter_send_failed_log_records`" in README
    stream, _ = make_stream(tmp_path / "spool", records=3)
    chain = Chain(tmp_path)
    with receiving() as receiver:
        receiver.rule = lambda _: Reply(400)
        chain.start_collector(receiver.url.removesuffix("/v1/logs"))
        try:
            url = f"http://127.0.0.1:{chain.ports['audit']}/v1/audit"
            with running_shipper(tmp_path / "spool", url):
                chain.wait(lambda: Stream(stream).cursor().done)
            failed = "otelcol_exporter_send_failed_log_records"
            chain.wait(lambda: chain.metric(failed, exporter="otlp_http/audit") >= 5)
        finally:
            chain.kill()


class Load:
    """Clients that ask for one id after another; an id is noted once the whole answer was read."""

    def __init__(self, chain: Chain) -> None:
        self._port = chain.port
        self._stop = threading.Event()
        self.answered: dict[str, str] = {}
        """Who asked, by request id."""
        self._threads = [threading.Thread(target=self._ask, args=(person,)) for person in ("alice", "bob", "carol")]

    def _ask(self, person: str) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
        bearer, number = f"Bearer {token(person)}", 0
        while not self._stop.is_set():
            number += 1
            name = f"{person}-{number}"
            connection.request("GET", "/orders", headers={"X-Request-ID": name, "Authorization": bearer})
            answer = connection.getresponse()
            answer.read()
            assert answer.status == 200
            self.answered[name] = person
            time.sleep(0.005)  # a load, not a race with the other processes for the processor
        connection.close()

    @contextmanager
    def running(self) -> Iterator[None]:
        for thread in self._threads:
            thread.start()
        try:
            yield
        finally:
            self._stop.set()
            for thread in self._threads:
                thread.join(120)


def streams(chain: Chain) -> list[Path]:
    return list((chain.root / "spool" / "streams").iterdir())


def delivered(chain: Chain) -> int:
    """How many records the app's spool knows to be acknowledged."""
    return sum(Stream(path).cursor().number for path in streams(chain))


def grows(chain: Chain, by: int) -> None:
    """Wait until so many more records were acknowledged."""
    before = delivered(chain)
    chain.wait(lambda: delivered(chain) >= before + by)


def test_a_kill_of_the_collector_loses_nothing(chain: Chain, capsys: pytest.CaptureFixture[str]) -> None:
    """Killed twice while records flow and the log store is away: each answered request has exactly one record id."""
    assert f"`{QUEUE}`" in README
    load, acknowledged = Load(chain), []
    (by_app,) = streams(chain)
    with load.running():
        grows(chain, 50)
        chain.end("logs")
        for _ in range(2):
            chain.wait(lambda: chain.metric(QUEUE, exporter="otlp_http/audit") > 0)
            before = delivered(chain)
            grows(chain, 150)  # acknowledged into the Collector's queue: nothing else could take them
            chain.end("collector", signal.SIGKILL)
            acknowledged.append(delivered(chain) - before)
            answered = len(load.answered)
            chain.wait(lambda: len(load.answered) >= answered + 50)  # noqa: B023  waited for in place
            chain.start_collector()
        grows(chain, 50)
        chain.start_logs()
        grows(chain, 50)
    chain.end("app")
    # uvicorn ends without exit handlers: what it left is shipped by whoever comes next, here the sidecar
    with running_shipper(chain.root / "spool", f"http://127.0.0.1:{chain.ports['otlp_http']}/v1/logs") as shipper:
        stream = Stream(by_app)
        chain.wait(lambda: stream.cursor().done)
        shipper.terminate()
        assert shipper.wait(60) == 0

    def stored() -> dict[str, list[dict[str, str]]]:
        rows: dict[str, list[dict[str, str]]] = defaultdict(list)
        for row in chain.rows(f'event_name:="http.request" {AUDIT}'):
            rows[row["request.id"]].append(row)
        return rows

    chain.wait(lambda: load.answered.keys() <= stored().keys())
    found = {name: rows for name, rows in stored().items() if name in load.answered}
    ids = {name: {row["audit.record.id"] for row in rows} for name, rows in found.items()}
    people = {name: {row["enduser.id"] for row in rows} for name, rows in found.items()}
    assert {name: len(one) for name, one in ids.items() if len(one) != 1} == {}
    assert people == {name: {person} for name, person in load.answered.items()}
    assert len(set.union(*ids.values())) == len(load.answered)
    twice = sum(map(len, found.values())) - len(found)
    with capsys.disabled():
        print(
            f"\n{len(load.answered)} requests answered, {len(found)} in VictoriaLogs with one record id each "
            f"({twice} rows more by redelivery); before the kills the Collector had acknowledged "
            f"{' and '.join(map(str, acknowledged))} records that were only in its queue; 0 lost"
        )


def test_what_victorialogs_answers_is_proved(chain: Chain, tmp_path: Path) -> None:
    """Its query's output alone and with the spool is valid; a changed attribute and a deleted record are found."""
    assert f"'query={AUDIT}'" in (CONFIG.parent / "docs" / "backends.md").read_text("utf-8")
    written = sum(
        len(segment.read_bytes().splitlines()) for stream in streams(chain) for segment in stream.glob("*.seg")
    )
    chain.wait(
        lambda: len({row[attr.RECORD_ID] for row in chain.rows(f'{AUDIT} !event_name:="audit.head"')}) >= written
    )
    lines = chain.export(AUDIT).splitlines(keepends=True)
    export = tmp_path / "victorialogs.jsonl"
    export.write_bytes(b"".join(lines))
    code, report = verify(export)
    assert (code, report["verdict"]) == (0, "valid"), report
    assert report["totals"]["records"] == written
    code, report = verify(export, chain.root / "spool")
    assert (code, report["verdict"]) == (0, "valid"), report

    bobs = [index for index, line in enumerate(lines) if b'"enduser.id":"bob"' in line]
    at = sorted(bobs, key=lambda index: int(json.loads(lines[index])[attr.NUMBER]))[len(bobs) // 2]
    changed = lines[at].replace(b'"enduser.id":"bob"', b'"enduser.id":"eve"')
    export.write_bytes(b"".join([*lines[:at], changed, *lines[at + 1 :]]))
    code, report = verify(export)
    assert (code, report["verdict"]) == (1, "invalid")
    assert "enduser.id contradicts the signed record" in json.dumps(report)
    assert "eve" not in json.dumps(report)

    record = json.loads(lines[at])[attr.RECORD_ID]
    left = [line for line in lines if json.loads(line).get(attr.RECORD_ID) != record]
    assert len(left) < len(lines)
    export.write_bytes(b"".join(left))
    code, report = verify(export)
    kinds = [problem["kind"] for stream in report["streams"] for problem in stream["problems"]]
    assert (code, kinds) == (1, ["gap"]), report
