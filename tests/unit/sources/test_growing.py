"""What is new in a spool or a file: all of it, once, in the order of time, and never half a line."""

from __future__ import annotations

import gzip
import io
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import orjson
import pytest

from jwt_audit import attributes as attr
from jwt_audit.errors import EvidenceError, SpoolError
from jwt_audit.ship.encode import JsonEncoder, head_form, record_form
from jwt_audit.sources import growing_spool
from jwt_audit.sources import seen as seen_module
from jwt_audit.sources.growing_file import GivenLines, GrowingFile, exported
from jwt_audit.sources.growing_spool import GrowingSpool
from jwt_audit.sources.seen import Once, Seen
from jwt_audit.spool import disk
from jwt_audit.spool import writer as segments
from jwt_audit.spool.segment import segment_name
from support.failing import failing
from support.spools import LiveStream, make_stream
from support.streams import START

SECOND = 1_000_000_000


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as found:
        yield found


def numbers(seen: list[Seen]) -> list[tuple[str, int]]:
    return [(one.attributes[attr.STREAM_ID], one.attributes[attr.NUMBER]) for one in seen]


def request(stream: LiveStream, *, head: bool = False) -> bytes:
    """The stream's last record, and its head, as the sink writes a request with it."""
    encoder = JsonEncoder()
    parts = [encoder.record(record_form(*stream.lines[-1], carry=True))]
    if head:
        parts.append(encoder.record(head_form(stream.head())))
    return encoder.request(encoder.resource({}), parts) + b"\n"


def test_a_spool_is_one_stream_in_the_order_of_time(tmp_path: Path) -> None:
    """However its streams overlap; then what is new, and only that."""
    first = LiveStream(tmp_path, now=START)
    second = LiveStream(tmp_path, now=START + 500_000)
    for _ in range(50):
        first.request()
        second.request()
    later = LiveStream(tmp_path, now=START + 3600 * SECOND)
    spool = GrowingSpool(tmp_path)
    seen = list(spool.poll())
    assert len(seen) == 103
    assert [one.recorded for one in seen] == sorted(one.recorded for one in seen)
    assert numbers(seen)[:4] == [(first.id, 1), (second.id, 1), (first.id, 2), (second.id, 2)]
    assert list(spool.poll()) == []
    later.request()
    second.request()
    third = LiveStream(tmp_path, now=START + 9 * SECOND)
    assert set(numbers(list(spool.poll()))) == {(later.id, 2), (second.id, 52), (third.id, 1)}
    assert spool.unread == 0
    for stream in (first, second, later, third):
        stream.close()


def test_segments_that_come_are_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each record once, though after a failed sync the segment was made anew."""
    monkeypatch.setattr(segments, "SEGMENT_BYTES", 4000)
    stream = LiveStream(tmp_path)
    spool = GrowingSpool(tmp_path)
    found = []
    for _ in range(30):
        stream.request()
        found += list(spool.poll())
    with monkeypatch.context() as patched:
        patched.setattr(disk, "datasync", failing())
        stream.request()
    stream.sync()
    found += list(spool.poll())
    stream.request()
    found += list(spool.poll())
    assert len(list(stream.path.glob("*.seg"))) > 5
    assert numbers(found) == [(stream.id, number) for number in range(1, 34)]
    stream.close()


def test_a_line_that_is_being_written_is_waited_for(tmp_path: Path) -> None:
    """And one that is no record is counted, whatever it is."""
    stream = LiveStream(tmp_path)
    path = stream.path / segment_name(1)
    spool = GrowingSpool(tmp_path)
    assert len(list(spool.poll())) == 1
    whole = path.read_bytes()
    stream.request()
    new = path.read_bytes()[len(whole) :]
    for cut in (1, len(new) // 2, len(new) - 1):
        path.write_bytes(whole + new[:cut])
        assert list(spool.poll()) == []
    path.write_bytes(whole + new + b"\0\0\0\n" + b"{}\t" + b"0" * 64 + b"\n[1]\t" + b"0" * 64 + b"\n")
    assert numbers(list(spool.poll())) == [(stream.id, 2)]
    assert spool.unread == 3
    stream.close()


def test_what_retention_removes_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stream that goes between two looks, and one that goes between the listing and the reading."""
    gone, _ = make_stream(tmp_path, records=3)
    stream = LiveStream(tmp_path)
    spool = GrowingSpool(tmp_path)
    found = spool.poll()
    shutil.rmtree(gone)
    assert numbers(list(found)) == [(stream.id, 1)]
    shutil.rmtree(stream.path)
    assert list(spool.poll()) == []
    stream.close()


def test_a_stream_that_is_ended_is_not_looked_at_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There may be thousands of them."""
    path, _ = make_stream(tmp_path, records=3)
    spool = GrowingSpool(tmp_path)
    assert len(list(spool.poll())) == 5
    (path / segment_name(1)).unlink()
    monkeypatch.setattr(growing_spool._GrowingStream, "read", lambda _: pytest.fail("it was read"))
    assert list(spool.poll()) == []


def test_old_segments_are_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By their last record's time of observation; nothing later is missed."""
    monkeypatch.setattr(segments, "SEGMENT_BYTES", 4000)
    stream = LiveStream(tmp_path)
    times = {}
    for number in range(2, 40):
        stream.request()
        times[number] = stream.now
    seen = list(GrowingSpool(tmp_path, since=times[30]).poll())
    assert {number for _, number in numbers(seen)} >= set(range(30, 40))
    assert len(seen) < 20
    stream.close()


def test_one_stream_alone(tmp_path: Path) -> None:
    """Given by its directory."""
    make_stream(tmp_path)
    path, _ = make_stream(tmp_path, records=2)
    assert numbers(list(GrowingSpool(path).poll())) == [(path.name, number) for number in range(1, 5)]


def test_a_spool_that_is_not_there_yet(tmp_path: Path) -> None:
    """It is told; once it is there it is read."""
    spool = GrowingSpool(tmp_path / "later")
    with pytest.raises(SpoolError):
        spool.poll()
    assert not spool.there
    make_stream(tmp_path / "later", records=1)
    assert spool.there
    assert len(list(spool.poll())) == 3


def test_a_file_is_read_as_it_grows(tmp_path: Path, stack: ExitStack) -> None:
    """Heads are no records, nor are the app's logs; a record that was delivered twice is shown once."""
    stream = LiveStream(tmp_path / "spool")
    path = tmp_path / "audit.jsonl"
    path.write_bytes(request(stream))
    file = stack.enter_context(closing(GrowingFile(path)))
    assert numbers(list(file.poll())) == [(stream.id, 1)]
    stream.request()
    line = request(stream, head=True)
    with path.open("ab") as out:
        out.write(line[:100])
        out.flush()
        assert list(file.poll()) == []
        out.write(line[100:] + line + b'{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"body":{}}]}]}]}\n')
        out.flush()
        assert numbers(list(file.poll())) == [(stream.id, 2)]
        out.write(b"rubbish\n[]\n\n" + line[:50] + b"\n")
    assert list(file.poll()) == []
    assert file.unread == 3
    stream.close()


@pytest.mark.parametrize("how", ["replaced", "cut"])
def test_a_file_that_begins_anew_is_read_anew(tmp_path: Path, stack: ExitStack, how: str) -> None:
    """With what the old one got last; while there is none, nothing is new."""
    stream = LiveStream(tmp_path / "spool")
    path = tmp_path / "audit.jsonl"
    path.write_bytes(request(stream))
    file = stack.enter_context(closing(GrowingFile(path)))
    assert len(list(file.poll())) == 1
    expected = [3]
    stream.request()
    if how == "replaced":
        with path.open("ab") as old:
            path.rename(tmp_path / "audit.1.jsonl")
            old.write(request(stream))
        expected = [2, 3]
        assert numbers(list(file.poll())) == [(stream.id, 2)]
        expected = [3]
        stream.request()
        path.write_bytes(request(stream))
    else:
        stream.request()
        with path.open("r+b") as again:
            again.truncate()
        assert list(file.poll()) == []
        path.write_bytes(request(stream))
    assert [number for _, number in numbers(list(file.poll()))] == expected
    stream.close()


def test_what_cannot_be_read_is_told(tmp_path: Path) -> None:
    """A file that is gone, and one that is compressed: with what helps."""
    with pytest.raises(EvidenceError, match="No such file"):
        list(GrowingFile(tmp_path / "gone").poll())
    path = tmp_path / "audit.jsonl.gz"
    path.write_bytes(gzip.compress(b"{}\n"))
    with closing(GrowingFile(path)) as file, pytest.raises(EvidenceError, match="zcat"):
        list(file.poll())


def test_lines_of_any_length_are_read(tmp_path: Path, stack: ExitStack, monkeypatch: pytest.MonkeyPatch) -> None:
    """Up to what a receiver takes; a longer one is counted, and what follows it is read."""
    monkeypatch.setattr(seen_module, "_BLOCK", 64)
    monkeypatch.setattr(seen_module, "LONGEST", 20_000)
    stream = LiveStream(tmp_path / "spool")
    stream.request("/" + "x" * 900)
    path = tmp_path / "audit.jsonl"
    path.write_bytes(b"x" * 70_000 + b"\n" + request(stream))
    file = stack.enter_context(closing(GrowingFile(path)))
    assert numbers(list(file.poll())) == [(stream.id, 2)]
    assert file.unread > 0
    stream.close()


def test_what_comes_through_a_pipe(tmp_path: Path) -> None:
    """Line by line, and once."""
    stream = LiveStream(tmp_path)
    given = GivenLines(io.BytesIO(request(stream) * 2 + b"x\n"))
    assert len(list(given.poll())) == 1
    assert list(given.poll()) == []
    assert given.unread == 1
    stream.close()


@pytest.mark.parametrize(
    "form",
    [
        {"resourceLogs": 1},
        {"resourceLogs": [1]},
        {"resourceLogs": [{"scopeLogs": [{"logRecords": [1]}]}]},
        {"resourceLogs": [{"scopeLogs": [{"logRecords": [{"attributes": [1]}]}]}]},
        {"resourceLogs": [{"scopeLogs": [{"logRecords": [{"attributes": [{"value": {}}]}]}]}]},
        {
            "resourceLogs": [
                {"scopeLogs": [{"logRecords": [{"timeUnixNano": "x", "attributes": [{"key": "audit.record.id"}]}]}]}
            ]
        },
    ],
)
def test_what_is_no_otlp_is_none(form: object) -> None:
    """Whatever its shape is."""
    assert exported(orjson.dumps(form)) is None


def test_memory_of_what_was_shown_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last ones are known."""
    monkeypatch.setattr(seen_module, "_REMEMBERED", 2)
    once = Once()
    seen = [Seen("e", 0, 0, {attr.RECORD_ID: name}) for name in "abc"]
    assert [once.new(one) for one in (*seen, seen[2], seen[1], seen[0])] == [True, True, True, False, False, True]
    assert once.new(Seen("e", 0, 0, {}))


def test_a_last_line_without_its_end(tmp_path: Path, stack: ExitStack) -> None:
    """Of a file that grows no more it is a line; torn, it is counted."""
    stream = LiveStream(tmp_path / "spool")
    path = tmp_path / "audit.jsonl"
    path.write_bytes(request(stream).rstrip())
    file = stack.enter_context(closing(GrowingFile(path)))
    assert list(file.poll()) == []
    assert numbers(list(file.last())) == [(stream.id, 1)]
    assert file.unread == 0
    path.write_bytes(request(stream)[:-20])
    torn = stack.enter_context(closing(GrowingFile(path)))
    assert list(torn.poll()) == list(torn.last()) == []
    assert (torn.unread, torn.failures) == (1, [])
    stream.close()


def test_what_of_a_spool_cannot_be_read_is_named(tmp_path: Path) -> None:
    """And hides nothing else."""
    bad, _ = make_stream(tmp_path)
    good, _ = make_stream(tmp_path, records=1)
    (bad / segment_name(1)).unlink()
    (bad / segment_name(1)).mkdir()
    spool = GrowingSpool(tmp_path)
    assert {stream for stream, _ in numbers(list(spool.poll()))} == {good.name}
    assert spool.failures == [f"cannot read {bad / segment_name(1)} (Is a directory)"]
