"""`jwt-audit tail` on what is there: whose records, since when, from where."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import orjson
import pytest
from click.testing import CliRunner, Result

from jwt_audit import attributes as attr
from jwt_audit.cli import tail as tails
from jwt_audit.cli.main import main
from jwt_audit.context import Request
from jwt_audit.evidence.record import request_record
from jwt_audit.identity import ABSENT, Identity, Reason, refused
from jwt_audit.ship.encode import JsonEncoder, record_form
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


def as_file(spool: Path, path: Path) -> Path:
    """The records of a spool as the sink writes them, a stream after the other."""
    encoder = JsonEncoder()
    with path.open("wb") as out:
        for segment in sorted(spool.rglob("*.seg")):
            lines = [line.rsplit(b"\t", 1) for line in segment.read_bytes().splitlines()]
            parts = [encoder.record(record_form(data, digest.decode(), carry=True)) for data, digest in lines]
            out.write(encoder.request(encoder.resource({}), parts) + b"\n")
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
        (["-n", "0"], []),
        (["-n", "99"], [1, 2, 3, 4, 5]),
    ],
)
def test_filters(spool: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], expected: list[int]) -> None:
    """Each, several of one kind, several kinds; the same with a file."""
    monkeypatch.setattr(tails, "time", SimpleNamespace(time=lambda: START / 1e9 + 6.0))
    assert ids(spool, *options) == [f"q-{number}" for number in expected]


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
    found = run(path)
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
        (["{tmp}", "--since", "yesterday"], "'yesterday' is no time; write one such as"),
        (["{tmp}", "-n", "-1"], "-1 is not in the range"),
        (["{tmp}", "{tmp}"], "unexpected extra argument"),
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
    found = run(tmp_path, "--json")
    assert len(found.stdout.splitlines()) == 2
    assert "1 lines are no records" in found.stderr
