"""The recorder: one order, heads over what is synced, losses counted and told."""

from __future__ import annotations

import itertools
import shutil
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from jwt_audit import attributes as attr
from jwt_audit.errors import RecordError, SpoolError
from jwt_audit.evidence import canonical, heads
from jwt_audit.evidence.chain import record_hash
from jwt_audit.evidence.proof import Trust
from jwt_audit.evidence.record import Receipt, Record, system_record
from jwt_audit.evidence.signing import Signer
from jwt_audit.evidence.verdict import Verdict
from jwt_audit.evidence.verify import judge
from jwt_audit.losses import Losses
from jwt_audit.recorder import Recorder
from jwt_audit.sources.spool import read_spool
from jwt_audit.spool.segment import read
from jwt_audit.spool.spool import Spool
from jwt_audit.spool.stream import streams

SIGNER = Signer.generate()


def recorder(root: Path, **options: Any) -> Recorder:
    binding = {attr.STREAM_HOST: "here", attr.STREAM_RESOURCE: "{}"}
    return Recorder(Spool(root), signer=lambda: SIGNER, binding=lambda: dict(binding), **options)


def record(body: str = "x") -> Record:
    return system_record("test.event", now=time.time_ns(), attributes={}, body=body)


def written(root: Path) -> list[Record]:
    """The records of the spool's last stream; each line's hash is checked on the way."""
    found = []
    for path in streams(root)[-1].segments():
        for line in read(path):
            assert record_hash(line.payload) == line.digest
            found.append(canonical.parse(line.payload))
    return found


def signed(root: Path) -> list[heads.SignedHead]:
    return [heads.parse_line(line) for line in streams(root)[-1].heads.read_bytes().splitlines()]


def test_nothing_is_on_disk_before_the_first_record(tmp_path: Path) -> None:
    """sitecustomize runs in pip and shells too: a process that records nothing leaves no stream."""
    made = recorder(tmp_path)
    made.close()
    assert streams(tmp_path) == []


def test_a_stream_begins_with_what_binds_it_and_ends_with_its_end(tmp_path: Path) -> None:
    """Start, the records, the end; the last head covers all, so there is no open tail."""
    made = recorder(tmp_path)
    receipt = made.append(record())
    made.close()
    found = written(tmp_path)
    assert [item.event_name for item in found] == [attr.EVENT_STREAM_START, "test.event", attr.EVENT_STREAM_END]
    assert found[0].attributes[attr.STREAM_PUBLIC_KEY] == SIGNER.public_key.text
    assert found[0].attributes[attr.STREAM_HOST] == "here"
    assert found[1].attributes[attr.RECORD_ID] == receipt.record_id
    assert found[2].attributes[attr.END] is True
    last = signed(tmp_path)[-1]
    assert last.verified_by(SIGNER.public_key)
    assert last.head.number == 3


def test_many_threads_make_one_chain(tmp_path: Path) -> None:
    """Numbers without a gap, each naming the hash before it, times that never go back."""
    made = recorder(tmp_path)
    receipts: list[Receipt] = []
    barrier = threading.Barrier(8)

    def work() -> None:
        barrier.wait()
        receipts.extend(made.append(record()) for _ in range(200))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    made.close()
    found = written(tmp_path)
    assert [item.attributes[attr.NUMBER] for item in found] == list(range(1, 1603))
    for before, after in itertools.pairwise(found):
        assert after.attributes[attr.PREVIOUS_HASH] == record_hash(canonical.canonical(before))
        assert after.observed_timestamp >= before.observed_timestamp
    assert Counter(receipt.number for receipt in receipts) == Counter(range(2, 1602))


def test_heads_come_by_count_and_by_time(tmp_path: Path) -> None:
    """An open tail is never longer than a tick: 256 records or a second."""
    ticked = threading.Event()
    made = recorder(tmp_path, on_tick=ticked.set)
    made.append(record())
    assert ticked.wait(60)
    assert signed(tmp_path)[-1].head.number == 2
    for _ in range(600):
        made.append(record())
    made.settle()
    assert signed(tmp_path)[-1].head.number == 602
    made.close()


def test_a_stream_is_signed_from_its_beginning_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed in its first second, a process leaves an open tail, not a stream that nothing proves; the next one too."""
    monkeypatch.setattr("jwt_audit.tick.TICK_SECONDS", 3600.0)
    ticked = threading.Event()
    made = recorder(tmp_path, on_tick=ticked.set)
    for _ in range(2):
        ticked.clear()
        made.append(record())
        assert ticked.wait(60)
        assert signed(tmp_path)[-1].head.number >= 1
        made.end()
    made.close()


def test_what_comes_after_an_end_begins_another_stream(tmp_path: Path) -> None:
    """Nothing follows an end, however many append meanwhile; each stream is signed to its end and names the one before.

    Without a record there is nothing to end.
    """
    made = recorder(tmp_path)
    made.end()
    assert streams(tmp_path) == []
    receipts: list[Receipt] = []
    ended = threading.Event()

    def work() -> None:
        receipts.extend(made.append(record()) for _ in range(25))
        assert ended.wait(60)
        receipts.extend(made.append(record()) for _ in range(25))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        begun = bool(receipts)
        made.end()
        if begun:
            ended.set()
    made.append(record())
    made.end()
    made.close()
    assert len(streams(tmp_path)) > 1
    assert len({receipt.record_id for receipt in receipts}) == 200
    pinned = Trust({SIGNER.public_key.key_id: SIGNER.public_key})
    report = judge([read_spool(tmp_path, lambda _: None)], pinned, strict=True)
    assert report.verdict is Verdict.VALID, report.form()
    assert all(stream.ended and not stream.open_tail for stream in report.streams)
    assert sum(stream.records - 2 for stream in report.streams) == 201


def test_who_waits_while_a_stream_ends_is_answered(tmp_path: Path) -> None:
    """Its record is synced with the end, whether it asked before or asks afterwards."""
    made = recorder(tmp_path)
    receipt = made.append(record())
    told: list[bool] = []
    made.on_durable(receipt, told.append)
    made.end()
    made.on_durable(receipt, told.append)
    made.append(record())
    made.on_durable(receipt, told.append)
    assert told == [True, True, True]
    made.close()


def test_the_clock_going_back_is_clamped(tmp_path: Path) -> None:
    """ObservedTimestamp never goes back within a stream."""
    clock = iter([5_000, 5_000, 1_000, 2_000, 9_000, 9_000, 9_000, 9_000, 9_000])
    made = recorder(tmp_path, now=lambda: next(clock, 9_000))
    for _ in range(3):
        made.append(record())
    made.close()
    times = [item.observed_timestamp for item in written(tmp_path)]
    assert times == sorted(times)


def test_a_record_without_canonical_form_moves_nothing(tmp_path: Path) -> None:
    """It is refused and counted; the chain goes on without a gap, and tells of it."""
    made = recorder(tmp_path)
    made.append(record())
    bad = record()
    bad.update({"x": "\ud800"})
    with pytest.raises(RecordError):
        made.append(bad)
    assert made.lost == 1
    made.append(record())
    made.close()
    found = written(tmp_path)
    assert [item.event_name for item in found[2:4]] == [attr.EVENT_LOST, "test.event"]
    assert found[2].attributes[attr.LOST_COUNT] == 1
    assert [item.attributes[attr.NUMBER] for item in found] == [1, 2, 3, 4, 5]


def test_at_the_limit_records_are_refused_and_counted(tmp_path: Path) -> None:
    """Never an unbounded file, never a silent drop; the end record is still written."""
    made = recorder(tmp_path, limit=3_000)
    kept = 0
    for _ in range(50):
        try:
            made.append(record())
            kept += 1
        except SpoolError as error:
            assert "limit" in str(error)  # noqa: PT017 - some appends succeed
    assert 0 < kept < 50
    made.close()
    found = written(tmp_path)
    assert found[-2].attributes[attr.LOST_COUNT] == 50 - kept
    assert found[-1].event_name == attr.EVENT_STREAM_END
    assert Spool(tmp_path).usage() < 3_000 + 5_000


def test_a_spool_that_cannot_take_a_stream_is_a_domain_error(tmp_path: Path) -> None:
    """A file stands in its place: an error each time, no half-made stream, and it goes on when that has gone."""
    made = recorder(tmp_path / "s")
    shutil.rmtree(tmp_path / "s")
    (tmp_path / "s").write_text("in the way")
    for _ in range(2):
        with pytest.raises(SpoolError):
            made.append(record())
    (tmp_path / "s").unlink()
    time.sleep(1.1)
    made.append(record())
    made.close()
    lost = written(tmp_path / "s")[1].attributes
    assert (lost[attr.LOST_COUNT], lost[attr.LOST_REFUSED]) == (2, 0)


def test_a_spool_that_is_removed_is_made_again_and_the_stream_that_went_with_it_is_named(tmp_path: Path) -> None:
    """At the next tick at the latest; what was in the files is gone, but an auditor sees that they were there."""
    made = recorder(tmp_path / "s")
    gone = made.append(record())
    shutil.rmtree(tmp_path / "s")
    made.settle()
    after = made.append(record())
    made.close()
    assert after.stream_id != gone.stream_id
    found = written(tmp_path / "s")
    assert found[0].attributes[attr.STREAM_KNOWN] == [f"{gone.stream_id} {gone.number} {gone.hash}"]
    assert found[-1].event_name == attr.EVENT_STREAM_END


def test_a_strict_recorder_writes_into_no_removed_file_and_makes_no_spool_anew(tmp_path: Path) -> None:
    """FAIL_MODE=closed: the very next append is refused, until somebody has made the directory again."""
    made = recorder(tmp_path / "s", strict=True)
    made.append(record())
    shutil.rmtree(tmp_path / "s")
    with pytest.raises(SpoolError, match="is gone; make that directory again"):
        made.append(record(), last_resort=True)
    assert not (tmp_path / "s").exists()
    (tmp_path / "s").mkdir()
    time.sleep(1.1)
    made.append(record())
    made.close()
    assert [item.event_name for item in written(tmp_path / "s")[1:3]] == [attr.EVENT_LOST, "test.event"]


def test_losses_from_before_the_recorder_are_told_in_the_streams_start(tmp_path: Path) -> None:
    """How many, since when, and how many of them are requests that never reached the app."""
    losses = Losses()
    losses.add(attr.EVENT_REQUEST, 1_700_000_000_000_000_000)
    losses.add(attr.EVENT_RECEIVED, 1_700_000_009_000_000_000)
    made = recorder(tmp_path, losses=losses)
    made.append(record())
    made.close()
    lost = written(tmp_path)[1]
    assert lost.event_name == attr.EVENT_LOST
    assert lost.attributes[attr.LOST_COUNT] == 2
    assert lost.attributes[attr.LOST_REFUSED] == 1
    assert lost.attributes[attr.LOST_SINCE] == "2023-11-14T22:13:20Z"
    assert [item.event_name for item in written(tmp_path)].count(attr.EVENT_LOST) == 1


def test_a_failure_of_any_kind_is_counted(tmp_path: Path) -> None:
    """Also one that nobody thought of: a record that is not in the spool is in the count."""

    def broken() -> dict[str, Any]:
        raise ZeroDivisionError

    made = Recorder(Spool(tmp_path), signer=lambda: SIGNER, binding=broken)
    with pytest.raises(ZeroDivisionError):
        made.append(record())
    assert made.lost == 1


def test_who_waits_for_a_removed_stream_is_told_that_it_failed(tmp_path: Path) -> None:
    """At once: nothing that comes later makes that record durable."""
    made = recorder(tmp_path / "s")
    receipt = made.append(record())
    made.settle()
    with made._tick._ticking:  # no sync comes between
        lost = made.append(record())
        shutil.rmtree(tmp_path / "s")
    told: list[bool] = []
    answered = threading.Event()

    def call(ok: bool) -> None:
        told.append(ok)
        answered.set()

    made.on_durable(receipt, told.append)
    made.on_durable(lost, call)
    assert answered.wait(30)
    made.on_durable(lost, told.append)
    assert told == [True, False, False]
    made.close()


def test_a_stream_names_the_others_it_found(tmp_path: Path) -> None:
    """So that a whole stream that goes missing is missed."""
    first = recorder(tmp_path)
    first.append(record())
    first.close()
    head = signed(tmp_path)[-1].head
    second = recorder(tmp_path)
    second.append(record())
    second.close()
    assert written(tmp_path)[0].attributes[attr.STREAM_KNOWN] == [f"{head.stream_id} {head.number} {head.hash}"]


def test_after_close_nothing_is_accepted(tmp_path: Path) -> None:
    """It raises; it never drops in silence. Closing twice is harmless."""
    made = recorder(tmp_path)
    made.append(record())
    made.close()
    made.close()
    with pytest.raises(SpoolError, match="ended"):
        made.append(record())


def test_one_sync_serves_all_who_wait(tmp_path: Path) -> None:
    """DURABILITY=disk: each waiter is told, and heads are not signed for each of them."""
    made = recorder(tmp_path)
    told: list[bool] = []
    everyone = threading.Event()

    def call(ok: bool) -> None:
        told.append(ok)
        if len(told) == 300:
            everyone.set()

    for _ in range(300):
        made.on_durable(made.append(record()), call)
    assert everyone.wait(60)
    assert told == [True] * 300
    made.close()
    assert len(signed(tmp_path)) < 10


def test_the_reserve_serves_the_last_resort_alone(tmp_path: Path) -> None:
    """A request under way is recorded from the reserve; a new one is refused while that is used up."""
    made = recorder(tmp_path, limit=32_000, strict=True)
    made.append(record())
    while True:
        try:
            made.append(record())
        except SpoolError:
            break
    assert made.append(record(), last_resort=True).number
    made.close()


def test_a_spool_that_goes_between_two_ticks_ends_no_tick(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ticks and the end raise nothing, wherever in them the directory disappears."""
    monkeypatch.setattr("jwt_audit.room._SURVEY_TICKS", 1)
    made = recorder(tmp_path / "s", on_tick=lambda: None)
    made.append(record())
    streams_of = Spool.streams

    def gone(self: Spool) -> Any:
        shutil.rmtree(tmp_path / "s", ignore_errors=True)
        return streams_of(self)

    monkeypatch.setattr(Spool, "streams", gone)
    made.settle()
    made.settle()
    made.close()
