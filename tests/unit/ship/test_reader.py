"""The reader hands over all that was written, in order, and nothing that was not."""

from __future__ import annotations

import os
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from jwt_audit import attributes as attr
from jwt_audit.errors import SpoolError
from jwt_audit.ship import batch as batches
from jwt_audit.ship.batch import Batch, Item
from jwt_audit.ship.encode import JsonEncoder, ProtobufEncoder
from jwt_audit.ship.reader import StreamReader
from jwt_audit.spool import disk
from jwt_audit.spool import writer as segments
from jwt_audit.spool.segment import segment_name
from jwt_audit.spool.stream import Cursor, Stream
from jwt_audit.stream_ends import first_line
from support.failing import failing
from support.spools import LiveStream, make_stream


def reader_of(path: Path) -> StreamReader:
    return StreamReader(Stream(path), JsonEncoder(), carry=True)


def drain(reader: StreamReader, *, alive: bool = False) -> list[Batch]:
    """All batches that are there, each taken for delivered."""
    found: list[Batch] = []
    while True:
        batch = reader.batch(alive=alive)
        if not (batch.items or batch.broken) and batch.cursor == reader.cursor:
            return [*found, batch] if batch.finished else found
        found.append(batch)
        reader.moved(batch.cursor)
        if batch.finished:
            return found


def items_of(found: list[Batch]) -> list[Item]:
    return [item for batch in found for item in batch.items]


def numbers(items: list[Item]) -> list[int]:
    return [item.number for item in items if item.event != attr.EVENT_HEAD]


def test_a_dead_stream_is_read_whole(tmp_path: Path) -> None:
    """Every record once and in order, then every head; the end is known and the last batch says so."""
    path, _ = make_stream(tmp_path, records=20, head_every=5)
    reader = reader_of(path)
    found = drain(reader)
    items = items_of(found)
    assert numbers(items) == list(range(1, 23))
    assert [item.number for item in items if item.event == attr.EVENT_HEAD] == [5, 10, 15, 20, 22]
    assert found[-1].finished
    assert reader.cursor.ended
    assert reader.cursor.number == 22
    assert reader.cursor.torn == 0
    assert Stream(path).cursor() == reader.cursor


@pytest.mark.parametrize("most", [1, 2, 3, 7])
def test_no_head_comes_before_its_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    """Whatever the size of the batches, and heads do come while there is a backlog."""
    monkeypatch.setattr(batches, "MAX_RECORDS", most)
    monkeypatch.setattr(batches, "MAX_HEADS", 2)
    path, _ = make_stream(tmp_path, records=20, head_every=1)
    found = drain(reader_of(path))
    sent = 0
    heads = []
    for batch in found:
        for item in batch.items:
            if item.event == attr.EVENT_HEAD:
                assert item.number <= sent
                heads.append(item.number)
            else:
                assert item.number == sent + 1
                sent = item.number
    assert sent == 22
    assert heads == list(range(2, 23)) or heads == list(range(1, 23))
    assert any(item.event == attr.EVENT_HEAD for item in found[1].items)
    assert len(found) > 22 / (most + 2)


def test_a_batch_is_bounded_in_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And a record that alone is larger goes alone."""
    monkeypatch.setattr(batches, "MAX_BYTES", 20_000)
    stream = LiveStream(tmp_path)
    for size in (10, 10, 12_000, 9_000, 10, 30_000, 10):
        stream.request(annotations={f"part.{number}": "x" * 1000 for number in range(size // 1000)})
    stream.end()
    found = drain(reader_of(stream.path))
    assert numbers(items_of(found)) == list(range(1, 10))
    for batch in found:
        records = [item for item in batch.items if item.event != attr.EVENT_HEAD]
        assert len(records) == 1 or sum(len(item.fragment) for item in records) <= 20_000
    assert len(found) > 3


def test_a_live_stream_is_read_as_it_grows(tmp_path: Path) -> None:
    """What is synced, and no more; a line that is being written is waited for; quiet in between; never finished."""
    stream = LiveStream(tmp_path, synced=False)
    reader = reader_of(stream.path)
    assert drain(reader, alive=True) == []
    stream.sync()
    assert numbers(items_of(drain(reader, alive=True))) == [1]
    assert reader.quiet()
    stream.request()
    stream.head()
    assert not reader.quiet()
    found = drain(reader, alive=True)
    assert [(item.event, item.number) for item in items_of(found)] == [(attr.EVENT_REQUEST, 2), (attr.EVENT_HEAD, 2)]
    assert reader.quiet()
    data, digest = stream.lines[1]
    with (stream.path / segment_name(1)).open("ab") as file:
        file.write(data[:100])
    before = reader.cursor
    batch = reader.batch(alive=True)
    assert (batch.items, batch.broken, batch.cursor, batch.finished) == ([], [], before, False)
    stream.close()
    (batch,) = drain(reader)
    assert batch.finished
    assert reader.cursor.torn == 100
    assert (reader.cursor.number, reader.cursor.hash) == (2, digest)


def test_segments_follow_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also from a cursor in the middle of one, by a reader that starts anew."""
    monkeypatch.setattr(segments, "SEGMENT_BYTES", 4000)
    monkeypatch.setattr(batches, "MAX_RECORDS", 4)
    path, _ = make_stream(tmp_path, records=30)
    assert len(Stream(path).segments()) > 5
    found: list[Item] = []
    while True:
        reader = reader_of(path)
        batch = reader.batch(alive=False)
        found += batch.items
        reader.moved(batch.cursor)
        if batch.finished:
            break
    assert numbers(found) == list(range(1, 33))


def test_a_new_segment_ends_the_quiet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Though the one that was read has not changed."""
    monkeypatch.setattr(segments, "SEGMENT_BYTES", 10)
    stream = LiveStream(tmp_path, synced=False)
    stream.sync()
    reader = reader_of(stream.path)
    drain(reader, alive=True)
    stream.request()
    assert reader.quiet()
    stream.sync()
    assert not reader.quiet()
    stream.close()


def test_what_could_not_be_synced_is_not_sent_before_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The receiver never knows more than the disk; then each record is sent once, by a new reader too."""
    stream = LiveStream(tmp_path, synced=False)
    stream.request()
    stream.sync()
    stream.request()
    reader = reader_of(stream.path)
    assert numbers(items_of(drain(reader, alive=True))) == [1, 2]
    with monkeypatch.context() as patched:
        patched.setattr(disk, "datasync", failing())
        stream.sync()
        stream.request()
        stream.sync()
        for again in (reader, reader_of(stream.path)):
            assert items_of([again.batch(alive=True)]) == []  # it is made anew, and a sync of that is to come
    stream.sync()
    for again in (reader, reader_of(stream.path)):
        assert numbers(items_of([again.batch(alive=True)])) == [3, 4]
    stream.end()
    anew = reader_of(stream.path)
    anew.cursor = Cursor()
    assert numbers(items_of(drain(anew))) == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("again", [1, 2, 5])
def test_records_that_an_earlier_version_wrote_again_are_sent_once(tmp_path: Path, again: int) -> None:
    """However often, whole or in part: what was repeated is known by any reader, and the number never goes back."""
    stream = LiveStream(tmp_path)
    stream.requests(9)
    stream.close()
    whole = (stream.path / segment_name(1)).read_bytes().splitlines(keepends=True)
    index = 1
    (stream.path / segment_name(1)).write_bytes(b"".join(whole[:8]))
    for number in range(again):
        for part in (whole[4:6], whole[4 : 8 + (number == again - 1) * 2]):
            index += 1
            (stream.path / segment_name(index)).write_bytes(b"".join(part))
    found: list[Item] = []
    while True:
        reader = reader_of(stream.path)
        batch = reader.batch(alive=False)
        found += batch.items
        assert batch.number >= reader.cursor.number
        reader.moved(batch.cursor)
        if batch.finished:
            break
    assert numbers(found) == list(range(1, 11))
    assert (reader.cursor.number, reader.cursor.hash) == (10, stream.position.hash)


def test_of_a_dead_stream_what_was_not_synced_is_synced_before_it_is_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And where the disk does not, it is not sent."""
    stream = LiveStream(tmp_path, synced=False)
    stream.sync()
    stream.request()
    stream.close()
    reader = reader_of(stream.path)
    with monkeypatch.context() as patched:
        patched.setattr(disk, "fsync", failing())
        with pytest.raises(SpoolError, match="cannot sync"):
            reader.batch(alive=False)
    before = (stream.path / segment_name(1)).stat().st_ino
    assert numbers(items_of(drain(reader))) == [1, 2]
    assert (stream.path / segment_name(1)).stat().st_ino != before, "the kernel may have dropped what it holds"


def test_a_fork_is_not_taken_for_a_repetition(tmp_path: Path) -> None:
    """Another record under a number that was sent is delivered: the verifier has to see it."""
    stream = LiveStream(tmp_path)
    stream.request("/a")
    stream.close()
    other = LiveStream(tmp_path / "other", stream_id=stream.id)
    other.request("/b")
    other.close()
    forged = (other.path / segment_name(1)).read_bytes()
    (stream.path / segment_name(2)).write_bytes(forged)
    items = items_of(drain(reader_of(stream.path)))
    assert numbers(items) == [1, 2, 1, 2]
    assert len({item.hash for item in items}) == 4


@pytest.mark.parametrize("position", ["payload", "tab", "digest", "newline"])
def test_a_line_that_lost_its_form_is_handed_over_and_the_rest_is_read(tmp_path: Path, position: str) -> None:
    """A bit that flipped in the middle of the file costs one line, two where it was the newline between them."""
    path, _ = make_stream(tmp_path, records=4, head_every=100)
    segment = path / segment_name(1)
    lines = segment.read_bytes().splitlines(keepends=True)
    start = len(lines[0]) + len(lines[1])
    offset = {"payload": start + 40, "tab": start + len(lines[2]) - 66, "digest": start + len(lines[2]) - 9}
    data = bytearray(segment.read_bytes())
    data[offset.get(position, start + len(lines[2]) - 1)] ^= 0x01
    segment.write_bytes(data)
    (batch,) = drain(reader_of(path))
    assert numbers(batch.items) == ([1, 2, 5, 6] if position == "newline" else [1, 2, 4, 5, 6])
    (broken,) = batch.broken
    assert broken.number == 3
    assert broken.raw in data
    assert batch.finished
    assert batch.cursor.ended


def test_a_zeroed_page_is_handed_over(tmp_path: Path) -> None:
    """What a power loss leaves in the middle of a file."""
    path, _ = make_stream(tmp_path, records=4, head_every=100)
    segment = path / segment_name(1)
    lines = segment.read_bytes().splitlines(keepends=True)
    lines[2] = bytes(len(lines[2]) - 10) + lines[2][-10:]
    segment.write_bytes(b"".join(lines))
    (batch,) = drain(reader_of(path))
    assert numbers(batch.items) == [1, 2, 4, 5, 6]
    assert [broken.number for broken in batch.broken] == [3]


def test_whole_lines_with_right_hashes_that_are_no_records_are_handed_over(tmp_path: Path) -> None:
    """Also where only the encoder finds it out."""
    from jwt_audit.evidence.chain import record_hash

    path, _ = make_stream(tmp_path, records=1, end=False)
    number = '"audit.record.id":{"stringValue":"x"},"audit.sequence.number":{"intValue":"3"}'
    payloads = [
        b"{}",
        b"[1]",
        b"\xff\xfe",
        b'{"attributes":{%b},"event_name":"e","observed_timestamp":"1","timestamp":"late"}' % number.encode(),
    ]
    with (path / segment_name(1)).open("ab") as file:
        for payload in payloads:
            file.write(payload + b"\t" + record_hash(payload).encode() + b"\n")
    reader = StreamReader(Stream(path), ProtobufEncoder(), carry=True)
    (batch,) = drain(reader)
    assert len(batch.broken) == 4
    assert batch.finished


@pytest.mark.parametrize("cut", range(1, 200, 7))
def test_a_torn_end_is_counted_and_never_glued(tmp_path: Path, cut: int) -> None:
    """Wherever the file was cut: the records before it are read, the rest is a number of bytes."""
    path, _ = make_stream(tmp_path, records=2, end=False)
    segment = path / segment_name(1)
    data = segment.read_bytes()
    last = len(data.splitlines(keepends=True)[-1])
    os.truncate(segment, len(data) - cut)
    reader = reader_of(path)
    drain(reader)
    assert (reader.cursor.number, reader.cursor.torn) == (2, last - cut)


def test_a_torn_head_is_counted(tmp_path: Path) -> None:
    """And the heads before it are sent."""
    path, _ = make_stream(tmp_path, records=10, end=False, head_every=5)
    with (path / "heads").open("ab") as file:
        file.write(b'{"algorithm"')
    reader = reader_of(path)
    found = drain(reader)
    assert [item.number for item in items_of(found) if item.event == attr.EVENT_HEAD] == [5, 10]
    assert reader.cursor.torn == 12
    assert found[-1].finished


def test_a_head_that_lost_its_form_is_handed_over(tmp_path: Path) -> None:
    """And the heads after it are sent."""
    path, _ = make_stream(tmp_path, records=10, end=False, head_every=5)
    lines = (path / "heads").read_bytes().splitlines(keepends=True)
    (path / "heads").write_bytes(lines[0].replace(b'"number":"5"', b'"number": 5') + lines[1])
    (batch,) = drain(reader_of(path))
    assert [item.number for item in batch.items if item.event == attr.EVENT_HEAD] == [10]
    assert [broken.raw for broken in batch.broken] == [(path / "heads").read_bytes().splitlines(keepends=True)[0]]


def test_a_head_beyond_the_last_record_of_a_dead_stream_is_sent(tmp_path: Path) -> None:
    """It proves that the tail was cut off."""
    path, _ = make_stream(tmp_path, records=10, end=False, head_every=5)
    segment = path / segment_name(1)
    lines = segment.read_bytes().splitlines(keepends=True)
    segment.write_bytes(b"".join(lines[:3]))
    (batch,) = drain(reader_of(path))
    assert numbers(batch.items) == [1, 2, 3]
    assert [item.number for item in batch.items if item.event == attr.EVENT_HEAD] == [5, 10]
    assert batch.finished


def test_the_resource_is_known_also_when_its_segment_is_gone(tmp_path: Path) -> None:
    """From the file that retention leaves; where there is neither, the records go under an empty one."""
    path, _ = make_stream(tmp_path, records=1, end=False)
    expected = reader_of(path).resource
    assert b"shop" in expected
    first = (path / segment_name(1)).read_bytes().splitlines(keepends=True)[0]
    (path / segment_name(1)).rename(path / segment_name(2))
    assert reader_of(path).resource == b'{"attributes":[]}'
    (path / "start").write_bytes(first)
    assert reader_of(path).resource == expected
    line = first_line(Stream(path))
    assert line is not None
    assert line.payload == first[:-66]


def test_a_cursor_that_cannot_be_read_starts_from_the_first_record(tmp_path: Path) -> None:
    """Sent twice is better than never."""
    path, _ = make_stream(tmp_path, records=3)
    drain(reader_of(path))
    (path / "cursor").write_bytes(b"{")
    assert numbers(items_of(drain(reader_of(path)))) == [1, 2, 3, 4, 5]


def test_an_empty_stream_is_finished_when_its_writer_is_dead(tmp_path: Path) -> None:
    """Its process died before the first record."""
    stream = LiveStream(tmp_path)
    stream.close()
    (stream.path / segment_name(1)).unlink()
    batch = reader_of(stream.path).batch(alive=False)
    assert batch.finished
    assert batch.items == []
    assert replace(batch.cursor, done=False) == Cursor()


def test_a_reader_beside_a_busy_writer_meets_no_broken_line(tmp_path: Path) -> None:
    """Every line whole and once, however the two interleave."""
    stream = LiveStream(tmp_path, synced=False)
    reader = reader_of(stream.path)
    found: list[Item] = []
    broken = 0

    def read() -> None:
        nonlocal broken
        batch = reader.batch(alive=True)
        found.extend(batch.items)
        broken += len(batch.broken)
        reader.cursor = batch.cursor

    def write() -> None:
        for _ in range(1500):
            stream.request()
            if stream.position.number % 7 == 0:
                stream.sync()
        stream.sync()
        stream.close()

    writer = threading.Thread(target=write)
    writer.start()
    while writer.is_alive():
        read()
    read()
    read()
    assert broken == 0
    assert numbers(found) == list(range(1, 1502))
