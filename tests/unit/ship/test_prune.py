"""Retention removes only what was delivered, in order, and leaves word of it."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from jwt_audit import attributes as attr
from jwt_audit.attributes import Value
from jwt_audit.errors import SpoolError
from jwt_audit.evidence import heads
from jwt_audit.ship.encode import JsonEncoder
from jwt_audit.ship.prune import Pruner
from jwt_audit.ship.reader import StreamReader
from jwt_audit.spool import writer as segments
from jwt_audit.spool.segment import lines, segment_name
from jwt_audit.spool.spool import Spool
from jwt_audit.spool.stream import Stream
from jwt_audit.stream_ends import first_line
from support.spools import LiveStream, make_stream

DAY = 86400.0


class Pruning:
    """A pruner whose clock and stream are the test's."""

    def __init__(self, root: Path, *, retention: float = DAY, limit: int = 2**30) -> None:
        self.spool = Spool(root)
        self.said: list[dict[str, Value]] = []
        self.refuse = False
        self.signing = True
        self.ahead = 0.0
        self.pruner = Pruner(
            self.spool,
            self.emit,
            lambda: self.signing,
            cursor=Stream.cursor,
            retention=retention,
            limit=limit,
            now=lambda: time.time() + self.ahead,
        )

    def emit(self, event: str, attributes: Mapping[str, Value], body: str) -> None:
        if self.refuse:
            raise SpoolError("full")
        assert event == attr.EVENT_STREAM_PRUNED
        self.said.append(dict(attributes))

    def run(self, ahead: float = 0.0) -> None:
        self.ahead = ahead
        self.pruner.run(self.spool.streams())

    @property
    def names(self) -> list[str]:
        return [stream.id for stream in self.spool.streams()]


def deliver(path: Path, *, finish: bool = True) -> None:
    reader = StreamReader(Stream(path), JsonEncoder(), carry=False)
    while True:
        batch = reader.batch(alive=not finish)
        if batch.cursor == reader.cursor:
            break
        reader.moved(batch.cursor)
    if finish:
        reader.moved(reader.cursor.finished())


def test_a_delivered_stream_goes_after_its_time(tmp_path: Path) -> None:
    """Not before; its last head is in the file ``pruned`` and a statement names its last record."""
    path, signer = make_stream(tmp_path, records=5)
    last = (path / segment_name(1)).read_bytes().splitlines()[-1][-64:].decode()
    deliver(path)
    pruning = Pruning(tmp_path)
    pruning.run(ahead=DAY - 60)
    assert pruning.names == [path.name]
    pruning.run(ahead=DAY + 60)
    assert pruning.names == []
    assert list((tmp_path / "streams").iterdir()) == []
    (line,) = (tmp_path / "pruned").read_bytes().splitlines()
    head = heads.parse_line(line)
    assert head.verified_by(signer.public_key)
    assert (head.head.stream_id, head.head.number, head.head.hash) == (path.name, 7, last)
    assert pruning.said == [{attr.PRUNED_STREAM: path.name, attr.PRUNED_NUMBER: 7, attr.PRUNED_HASH: last}]


def test_what_was_not_delivered_stays_for_ever(tmp_path: Path) -> None:
    """Whatever its age and however full the spool is."""
    path, _ = make_stream(tmp_path, records=5)
    half, _ = make_stream(tmp_path, records=5)
    deliver(half, finish=False)
    pruning = Pruning(tmp_path, limit=10)
    pruning.run(ahead=1000 * DAY)
    assert pruning.names == [path.name, half.name]
    assert pruning.said == []
    assert not (tmp_path / "pruned").exists()


def test_the_time_counts_from_the_delivery(tmp_path: Path) -> None:
    """An old stream that was just delivered is kept."""
    path, _ = make_stream(tmp_path, records=5)
    for file in path.iterdir():
        os.utime(file, (1, 1))
    deliver(path)
    pruning = Pruning(tmp_path)
    pruning.run(ahead=DAY / 2)
    assert pruning.names == [path.name]


def test_segments_of_a_stream_that_lives_go_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those delivered, never the last; the first record is kept, and a reader still knows the resource."""
    monkeypatch.setattr(segments, "SEGMENT_BYTES", 4000)
    live = LiveStream(tmp_path)
    for _ in range(12):
        live.request()
    live.head()
    deliver(live.path, finish=False)
    resource = StreamReader(Stream(live.path), JsonEncoder(), carry=False).resource
    first = first_line(Stream(live.path))
    before = Stream(live.path).segments()
    assert len(before) > 3
    old = time.time() - 2 * DAY
    for segment in (before[0], before[2]):
        os.utime(segment, (old, old))
    with before[0].open("rb") as file:
        *_, end = lines(file)
    pruning = Pruning(tmp_path)
    pruning.run()
    # The third is old as well, but the second before it is not
    assert Stream(live.path).segments() == before[1:]
    (said,) = pruning.said
    assert (said[attr.PRUNED_STREAM], said[attr.PRUNED_HASH]) == (live.id, end.digest)
    pruning.run(ahead=3 * DAY)
    assert Stream(live.path).segments() == before[-1:]
    numbers = [one[attr.PRUNED_NUMBER] for one in pruning.said]
    assert numbers == sorted(numbers)
    kept = first_line(Stream(live.path))
    assert kept is not None
    assert kept == first
    assert StreamReader(Stream(live.path), JsonEncoder(), carry=False).resource == resource
    live.request()
    live.close()
    assert not (tmp_path / "pruned").exists()


def test_a_segment_that_is_not_delivered_whole_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cursor stands in it."""
    monkeypatch.setattr(segments, "SEGMENT_BYTES", 4000)
    path, _ = make_stream(tmp_path, records=12)
    reader = StreamReader(Stream(path), JsonEncoder(), carry=False)
    monkeypatch.setattr("jwt_audit.ship.batch.MAX_RECORDS", 5)
    batch = reader.batch(alive=False)
    reader.moved(batch.cursor)
    pruning = Pruning(tmp_path)
    pruning.run(ahead=100 * DAY)
    assert Stream(path).segments()[0].name == batch.cursor.segment
    assert batch.cursor.segment != segment_name(1)


def test_under_pressure_the_oldest_delivered_goes_before_its_time(tmp_path: Path) -> None:
    """Only as much as is needed: new records matter more than evidence that was delivered."""
    paths = [make_stream(tmp_path, records=20)[0] for _ in range(4)]
    for age, path in zip((3, 2, 1, 0), paths, strict=True):
        deliver(path)
        os.utime(path / "cursor", (time.time() - age * 60,) * 2)
    size = Spool(tmp_path).usage() // 4
    pruning = Pruning(tmp_path, limit=int(size * 4 / 0.8))
    pruning.run()
    assert pruning.names == [path.name for path in paths[1:]]
    pruning.run()
    assert pruning.names == [path.name for path in paths[1:]]


@pytest.mark.parametrize("lacks", ["room", "signature"])
def test_nothing_goes_before_it_is_stated_under_a_signature(tmp_path: Path, lacks: str) -> None:
    """Killed in between, a process would leave a hole that nothing proved explains. It is stated once."""
    path, _ = make_stream(tmp_path, records=5)
    deliver(path)
    pruning = Pruning(tmp_path)
    pruning.refuse, pruning.signing = lacks == "room", lacks != "signature"
    for _ in range(2):
        with pytest.raises(SpoolError):
            pruning.run(ahead=2 * DAY)
        assert pruning.names == [path.name]
    pruning.refuse, pruning.signing = False, True
    pruning.run(ahead=2 * DAY)
    assert pruning.names == []
    assert (tmp_path / "pruned").read_bytes().count(b"\n") == 1
    assert [one[attr.PRUNED_STREAM] for one in pruning.said] == [path.name]


def test_what_a_crash_left_is_cleared_away(tmp_path: Path) -> None:
    """A stream half removed, one never born; not one that is being born, nor one that got its name meanwhile."""
    streams = tmp_path / "streams"
    live = LiveStream(tmp_path)
    for name in (".pruned-x", ".dead", ".born"):
        (streams / name).mkdir()
        (streams / name / segment_name(1)).touch()
    os.utime(streams / ".dead", (1, 1))
    (streams / ".gone").symlink_to(streams / "nowhere")  # what is listed and not there any more
    Pruning(tmp_path).run()
    assert sorted(path.name for path in streams.iterdir()) == [".born", ".gone", live.id]
    live.close()


def test_a_stream_without_a_head_leaves_its_last_record(tmp_path: Path) -> None:
    """In the statement; there is no head to keep."""
    path, _ = make_stream(tmp_path, records=2, end=False, head_every=100)
    deliver(path)
    pruning = Pruning(tmp_path)
    pruning.run(ahead=2 * DAY)
    assert pruning.names == []
    assert [one[attr.PRUNED_NUMBER] for one in pruning.said] == [3]
    assert not (tmp_path / "pruned").exists()
