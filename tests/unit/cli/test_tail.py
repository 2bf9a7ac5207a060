"""`jwt-audit tail` on what is there: whose records, since when, from where."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import orjson
import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from jwt_audit import attributes as attr
from jwt_audit.anyvalue import wrap
from jwt_audit.attributes import Value
from jwt_audit.cli import selection as selections
from jwt_audit.cli import tail as tails
from jwt_audit.cli.main import main
from jwt_audit.evidence import canonical
from jwt_audit.evidence.record import Record, request_record
from jwt_audit.identity.caller import ABSENT, Identity, Reason, refused
from jwt_audit.request import Request
from jwt_audit.ship.encode import JsonEncoder, record_form
from jwt_audit.sources import growing_file, growing_spool
from support.spools import LiveStream, make_stream
from support.streams import ALICE, START

BOB = replace(ALICE, subject="bob", session="s-2")
FORGED = refused(Reason.SIGNATURE_MISMATCH)
SECOND = 1_000_000_000


def write(stream: LiveStream, identity: Identity, status: int, *, second: int) -> None:
    request = Request(
        kind="http", method="GET", path="/", started=START + second * SECOND, clock=0, request_id=f"q-{second}"
    )
    request.identity, request.status = identity, status
    stream.now = START + second * SECOND
    stream.append(request_record(request, attr.EVENT_REQUEST, ended=0))


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    """Two streams: alice and bob by turns, a forgery, and one without a token."""
    root = tmp_path / "spool"
    first, second = LiveStream(root, now=START), LiveStream(root, now=START)
    for number, (stream, identity, status) in enumerate(
        [(first, ALICE, 200), (second, BOB, 201), (first, ALICE, 403), (second, FORGED, 401), (first, ABSENT, 404)]
    ):
        write(stream, identity, status, second=number + 1)
    first.end()
    second.end()
    return root


def run(*arguments: object, code: int = 0, data: bytes | None = None) -> Result:
    result = CliRunner().invoke(main, ["tail", *map(str, arguments)], input=data)
    assert result.exit_code == code, result.output
    return result


def ids(*arguments: object, data: bytes | None = None) -> list[str]:
    return [orjson.loads(line)["request_id"] for line in run(*arguments, "--json", data=data).stdout.splitlines()]


def as_file(spool: Path, path: Path, resource: dict[str, Value] | None = None) -> Path:
    """The records of a spool as the sink writes them, a stream after the other."""
    encoder = JsonEncoder()
    wrapped = {name: wrap(value) for name, value in (resource or {}).items()}
    with path.open("wb") as out:
        for segment in sorted(spool.rglob("*.seg")):
            lines = [line.rsplit(b"\t", 1) for line in segment.read_bytes().splitlines()]
            parts = [encoder.record(record_form(data, digest.decode(), carry=True)) for data, digest in lines]
            out.write(encoder.request(encoder.resource(wrapped), parts) + b"\n")
    return path


def test_all_of_it_by_time(spool: Path, tmp_path: Path) -> None:
    """Of the spool, of a file in which streams follow each other, of its directory, of a pipe."""
    whole = ["q-1", "q-2", "q-3", "q-4", "q-5"]
    assert ids(spool) == whole
    (tmp_path / "out").mkdir()
    path = as_file(spool, tmp_path / "out" / "audit.jsonl")
    assert ids(path) == whole
    assert ids(tmp_path / "out") == whole
    assert sorted(ids("-", data=path.read_bytes())) == whole
    assert sorted(ids("-", "-f", data=path.read_bytes())) == whole
    (stream, _) = sorted((spool / "streams").iterdir())
    assert ids(stream) == ["q-1", "q-3", "q-5"]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--user", "alice"], [1, 3]),
        (["--user", "alice", "--user", "bob"], [1, 2, 3]),
        (["--user", "anonymous"], []),
        (["--session", "s-2"], [2]),
        (["--user", "alice", "--session", "s-2"], []),
        (["--status", "403"], [3]),
        (["--status", "4xx"], [3, 4, 5]),
        (["--status", "invalid"], [4]),
        (["--status", "absent", "--status", "201"], [2, 5]),
        (["--status", "verified", "--user", "alice"], [1, 3]),
        (["--since", "2026-11-25T09:46:43Z"], [3, 4, 5]),
        (["--since", "2026-11-25T10:46:44.000+01:00"], [4, 5]),
        (["--since", "2026-11-25 09:46:45"], [5]),
        (["--since", "2s"], [4, 5]),
        (["--since", "1d"], [1, 2, 3, 4, 5]),
        (["-n", "2"], [4, 5]),
        (["--lines", "1", "--user", "alice"], [3]),
        (["--until", "2026-11-25T09:46:43Z"], [1, 2, 3]),
        (["--until", "4s", "--since", "5s"], [1, 2]),
        (["--path", "/"], [1, 2, 3, 4, 5]),
        (["--path", "/*"], [1, 2, 3, 4, 5]),
        (["--path", "/orders/*"], []),
        (["--action", "read"], [1, 2, 3, 4, 5]),
        (["--action", "DELETE", "--action", "SHIP"], []),
        (["-n", "2", "--until", "2026-11-25T09:46:43Z"], [2, 3]),
        (["-n", "2", "--since", "2026-11-25T09:46:44Z", "--status", "401"], [4]),
        (["-n", "1", "--status", "200"], [1]),
        (["-n", "0"], []),
        (["-n", "99"], [1, 2, 3, 4, 5]),
    ],
)
def test_filters(
    spool: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], expected: list[int]
) -> None:
    """Each, several of one kind, several kinds; the same with a file, with both at once, with a pipe."""
    monkeypatch.setattr(selections, "time", SimpleNamespace(time=lambda: START / 1e9 + 6.0))
    assert ids(spool, *options) == [f"q-{number}" for number in expected]
    path = as_file(spool, tmp_path / "audit.jsonl")
    assert ids(path, *options) == [f"q-{number}" for number in expected]
    assert ids(spool, path, *options) == [f"q-{number}" for number in expected]
    piped = ids("-", *options, data=path.read_bytes())
    assert sorted(piped) == [f"q-{number}" for number in expected]


def test_memory_is_bounded(spool: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is there is put in order within a window."""
    monkeypatch.setattr(tails, "_WINDOW", 2)
    assert ids(spool) == ["q-1", "q-2", "q-3", "q-4", "q-5"]


def test_the_table_says_that_it_proves_nothing(spool: Path) -> None:
    """Beside it, where it disturbs no program; objects are not accompanied."""
    found = run(spool)
    assert found.stdout.splitlines()[0].split() == ["TIME", "WHO", "SESSION", "ACTION", "ROUTE", "STATUS", "TOKEN"]
    assert len(found.stdout.splitlines()) == 6
    assert "not verified; jwt-audit verify proves it" in found.stderr
    assert run(spool, "--json").stderr == ""
    assert len(run(spool, "--all").stdout.splitlines()) == 10


def test_without_an_argument_it_is_the_spool_of_the_environment(spool: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As with the other commands."""
    monkeypatch.setenv("OTEL_PYTHON_JWT_AUDIT_SPOOL", str(spool))
    assert len(ids()) == 5


def test_lines_that_are_no_records_are_counted(spool: Path, tmp_path: Path) -> None:
    """Never passed over in silence."""
    path = as_file(spool, tmp_path / "audit.jsonl")
    with path.open("ab") as out:
        out.write(b"rubbish\nmore\n")
    found = run(path, code=1)
    assert len(found.stdout.splitlines()) == 6
    assert "2 lines are no records" in found.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["{tmp}/none"], "there is no"),
        (["{tmp}/other"], "is no spool"),
        (["{tmp}", "--status", "teapot"], "'teapot' is neither a response status such as 403 or 4xx nor one of"),
        (["{tmp}", "--status", "6xx"], "neither a response status"),
        (["{tmp}", "--status", "٤٠٣"], "neither a response status"),
        (["{tmp}", "--since", "yesterday"], "'yesterday' is not a valid time; write one such as"),
        (["{tmp}", "-n", "-1"], "-1 is not in the range"),
        (["{tmp}", "--until", "tomorrow"], "'tomorrow' is not a valid time"),
        (["{tmp}", "--path", "orders"], "'orders' is neither a path or route"),
        (["{tmp}", "--path", "/*/x"], "is neither a path or route"),
        (["{tmp}/none", "{tmp}"], "there is no"),
    ],
)
def test_wrong_usage_is_told(tmp_path: Path, arguments: list[str], said: str) -> None:
    """With exit code 2, and what would be right."""
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "letters").touch()
    assert said in run(*(argument.format(tmp=tmp_path) for argument in arguments), code=2).output


def test_an_empty_directory_has_no_records_yet(tmp_path: Path) -> None:
    """It is said, and is no error: the app may be about to start."""
    found = run(tmp_path)
    assert "there are no records yet" in found.stderr
    assert len(found.stdout.splitlines()) == 1


def test_what_cannot_be_read_is_told(tmp_path: Path) -> None:
    """With exit code 1."""
    path = tmp_path / "audit.jsonl.gz"
    path.write_bytes(b"\x1f\x8b123")
    assert "is compressed: zcat" in run(path, code=1).stderr


def test_damage_hides_nothing_else(tmp_path: Path) -> None:
    """A flipped byte costs its line, and that is said."""
    path, _ = make_stream(tmp_path, records=3)
    segment = path / "00000001.seg"
    lines: list[Any] = segment.read_bytes().splitlines(keepends=True)
    lines[2] = b"\0" * len(lines[2][:-1]) + b"\n"
    segment.write_bytes(b"".join(lines))
    found = run(tmp_path, "--json", code=1)
    assert len(found.stdout.splitlines()) == 2
    assert "1 line is no record;" in found.stderr


def test_paths_actions_and_targets(tmp_path: Path) -> None:
    """A path, a route as it is declared, all below one; what the app says of an event is what it is about."""
    stream = LiveStream(tmp_path)
    for number, path in enumerate(("/orders/7", "/orders/8/items", "/orders", "/other")):
        stream.request(path, annotations={"audit.action": "APPROVE"} if number == 1 else {})
    told = {"audit.action": "SHIP", "audit.target.type": "order", "audit.target.id": "7", "audit.outcome": "success"}
    stream.append(Record("order.shipped", stream.now, told, "SHIP success"))
    stream.end()

    def paths(*options: str) -> list[str]:
        rows = map(orjson.loads, run(tmp_path, "--json", *options).stdout.splitlines())
        return [row["endpoint"] or row["event"] for row in rows]

    assert paths("--path", "/orders/7") == ["/orders/7"]
    assert paths("--path", "/orders/*") == ["/orders/7", "/orders/8/items"]
    assert paths("--path", "/orders/{id}", "-n", "1") == ["/other"]
    assert paths("--path", "/orders", "--path", "/other") == ["/orders", "/other"]
    assert paths("--action", "approve") == ["/orders/8/items"]
    assert paths("--action", "SHIP") == ["order.shipped"]
    (event,) = map(orjson.loads, run(tmp_path, "--json", "--action", "SHIP").stdout.splitlines())
    assert (event["target_type"], event["target_id"], event["action"]) == ("order", "7", "SHIP")
    assert "order.shipped [order 7]" in run(tmp_path).stdout


def test_the_object_has_all_of_a_record(tmp_path: Path) -> None:
    """Each attribute, each id and both times, of a spool and of a file: in a member of its own or among the rest."""
    stream = LiveStream(tmp_path / "spool")
    stream.request("/orders/7", annotations={"order.total": 12, "user.roles": ["buyer", "admin"]})
    stream.end()
    record = canonical.parse(stream.lines[1][0])
    (found,) = map(orjson.loads, run(tmp_path / "spool", "--json").stdout.splitlines())
    shown = [*found.values(), *found["attributes"].values()]
    for name, value in record.attributes.items():
        assert value in shown, name
    assert (found["trace_id"], found["span_id"]) == (record.trace_id, record.span_id)
    assert found["body"] == record.body
    assert found["number"] == 2
    assert found["service"] == "shop"
    assert found["attributes"]["user.roles"] == ["buyer", "admin"]
    path = as_file(tmp_path / "spool", tmp_path / "audit.jsonl", {"service.name": "shop"})
    assert list(map(orjson.loads, run(path, "--json").stdout.splitlines())) == [found]


def test_several_sources_are_one(tmp_path: Path) -> None:
    """By time, with the service of each; what two of them hold comes once."""
    services = {"orders": 0, "billing": 1}
    for name, second in services.items():
        stream = LiveStream(tmp_path / name, now=START, resource={"service.name": name})
        for number in range(3):
            write(stream, ALICE, 200, second=2 * number + second)
        stream.end()
    both = (tmp_path / "orders", tmp_path / "billing")
    rows = list(map(orjson.loads, run(*both, "--json").stdout.splitlines()))
    assert [row["request_id"] for row in rows] == [f"q-{number}" for number in range(6)]
    assert [row["service"] for row in rows] == ["orders", "billing"] * 3
    assert ids(*both, "-n", "3") == ["q-3", "q-4", "q-5"]
    copy = as_file(both[0], tmp_path / "audit.jsonl")
    assert ids(*both, copy, both[0]) == [f"q-{number}" for number in range(6)]
    assert "SERVICE" in run(*both).stdout.splitlines()[0]
    assert "SERVICE" not in run(both[0]).stdout.splitlines()[0]


@given(
    starts=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 40), st.integers(0, 9)), min_size=1, max_size=30),
    number=st.integers(0, 12),
)
def test_the_last_are_the_last_of_all(starts: list[tuple[int, int, int]], number: int) -> None:
    """`-n N` gives the last N of what is shown without it, however streams overlap and however long requests take."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name) / "spool"
        streams = [LiveStream(root, now=START) for _ in range(4)]
        recorded = START
        for index, (which, took, pause) in enumerate(starts):
            recorded += pause * SECOND
            request = Request(
                kind="http", method="GET", path="/", started=recorded - took * SECOND, clock=0, request_id=f"q-{index}"
            )
            request.identity = ALICE
            streams[which].now = recorded
            streams[which].append(request_record(request, attr.EVENT_REQUEST, ended=0))
        for stream in streams:
            stream.close()

        def times(*options: object) -> list[str]:
            rows = map(orjson.loads, run(root, "--json", *options).stdout.splitlines())
            return [row["timestamp"] for row in rows]

        whole = times()
        assert whole == sorted(whole)
        assert times("-n", number) == whole[max(0, len(whole) - number) :]


def test_what_is_no_file_of_records_is_refused(tmp_path: Path) -> None:
    """With exit status 1, however long it is; a file without a record is none, and that is said."""
    passwd = tmp_path / "passwd"
    passwd.write_text("root:x:0:0:root:/root:/bin/bash\n" * 5000)
    for options in ([], ["-n", "3"], ["--json"], ["-f"]):
        assert "none of its lines is OTLP/JSON" in run(passwd, *options, code=1).stderr
    traces = tmp_path / "traces.jsonl"
    traces.write_text('{"resourceSpans":[]}\n')
    assert "there are no audit records in" in run(traces).stderr
    assert "there are no audit records in" in run(tmp_path / "traces.jsonl", "-n", "3").stderr


def test_a_file_is_read_from_its_end(spool: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the last three, no more is parsed than a few lines; and not more is read of a spool."""
    parsed: list[int] = []
    for module, name in ((growing_file, "exported"), (growing_spool, "_spooled")):
        real = getattr(module, name)

        def counted(*given: object, real: Callable[..., object] = real) -> object:
            parsed.append(1)
            return real(*given)

        monkeypatch.setattr(module, name, counted)
    stream = LiveStream(tmp_path / "long", now=START)
    for second in range(500):
        write(stream, ALICE, 200, second=second)
    stream.close()
    assert ids(tmp_path / "long", "-n", "3") == ["q-497", "q-498", "q-499"]
    assert len(parsed) < 10
    encoder = JsonEncoder()
    with (tmp_path / "audit.jsonl").open("wb") as out:
        for data, digest in stream.lines:
            parts = [encoder.record(record_form(data, digest, carry=True))]
            out.write(encoder.request(encoder.resource({}), parts) + b"\n")
    parsed.clear()
    assert ids(tmp_path / "audit.jsonl", "-n", "3") == ["q-497", "q-498", "q-499"]
    assert len(parsed) < 10
