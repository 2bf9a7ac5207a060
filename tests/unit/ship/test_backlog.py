"""What of a stream is not delivered, and since when."""

from __future__ import annotations

from pathlib import Path

import pytest

from jwt_audit.ship.backlog import End, Waiting, end, passed, undelivered, waiting
from jwt_audit.ship.encode import JsonEncoder
from jwt_audit.ship.reader import StreamReader
from jwt_audit.spool import writer as segments
from jwt_audit.spool.segment import segment_name
from jwt_audit.spool.stream import Cursor, Stream
from support.spools import LiveStream


def test_what_is_undelivered(tmp_path: Path) -> None:
    """Records, heads, a further segment; nothing once the cursor says done or the stream is gone."""
    stream = LiveStream(tmp_path)
    seen = Stream(stream.path)
    assert undelivered(seen)
    reader = StreamReader(seen, JsonEncoder(), carry=False)

    def deliver() -> None:
        reader.moved(reader.batch(alive=True).cursor)

    deliver()
    assert not undelivered(seen)
    stream.head()
    assert undelivered(seen)
    deliver()
    assert not undelivered(seen)
    stream.request()
    assert undelivered(seen)
    deliver()
    (stream.path / segment_name(2)).write_bytes(b"x")
    assert undelivered(seen)
    reader.moved(reader.cursor.finished())
    assert not undelivered(seen)
    stream.close()
    assert not undelivered(Stream(tmp_path / "gone"))


def test_how_much_waits_and_since_when(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over segments, to the byte; heads alone wait since they were signed."""
    monkeypatch.setattr(segments, "SEGMENT_BYTES", 3000)
    stream = LiveStream(tmp_path)
    times, cursors = [], []
    seen = Stream(stream.path)
    for _ in range(6):
        stream.request()
        times.append(stream.now)
        reader = StreamReader(seen, JsonEncoder(), carry=False)
        cursors.append(reader.batch(alive=True).cursor)
    assert len(seen.segments()) > 2
    size = sum(path.stat().st_size for path in seen.segments())
    assert waiting(seen, Cursor()).bytes == size
    for index, cursor in enumerate(cursors[:-1]):
        assert waiting(seen, cursor).since == times[index + 1]
        assert 0 < waiting(seen, cursor).bytes < size
    assert waiting(seen, cursors[-1]) == Waiting()
    head = stream.head()
    assert waiting(seen, cursors[-1]) == Waiting(len(head.line), head.head.time)
    assert waiting(seen, Cursor(done=True)) == Waiting()
    with (stream.path / "heads").open("ab") as file:
        file.write(b"torn")
    assert waiting(seen, Cursor(cursors[-1].segment, cursors[-1].offset, 7, "", len(head.line))) == Waiting(4, 0)
    stream.close()


def test_whether_a_mark_is_passed(tmp_path: Path) -> None:
    """By segment, offset and heads; always once nothing can follow."""
    stream = LiveStream(tmp_path)
    stream.request()
    head = stream.head()
    mark = end(Stream(stream.path))
    size = (stream.path / segment_name(1)).stat().st_size
    assert mark == End(segment_name(1), size, len(head.line))
    assert passed(Cursor(segment_name(1), size, heads=len(head.line)), mark)
    assert passed(Cursor(segment_name(2), 1, heads=len(head.line)), mark)
    assert not passed(Cursor(segment_name(1), size - 1, heads=len(head.line)), mark)
    assert not passed(Cursor(segment_name(2), 1), mark)
    assert passed(Cursor(done=True), mark)
    stream.close()
    (stream.path / segment_name(1)).unlink()
    assert end(Stream(stream.path)) == End(heads=len(head.line))
