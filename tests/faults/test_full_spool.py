"""Real processes, a real receiver, and a spool that is full, starved of descriptors, or on a disk that does not sync.

After each: what was answered is delivered or told as lost, to the last one; nothing is accused; the spool takes
records again. ``JWT_AUDIT_LONG=40`` makes the parts that take time so many seconds long.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from jwt_audit import attributes as attr
from jwt_audit.evidence.proof import Trust
from jwt_audit.evidence.signing import Signer
from jwt_audit.evidence.verdict import Verdict
from jwt_audit.evidence.verify import judge
from jwt_audit.ship.backlog import undelivered
from jwt_audit.sources.exports import read_exports
from jwt_audit.sources.spool import read_spool
from jwt_audit.spool.durable import LockState
from jwt_audit.spool.stream import Cursor, Stream, streams
from support.receivers import Receiver, Reply, Sent, receiving, until
from support.spools import make_stream
from support.worker import Worker

SHIM = Path(__file__).parent / "shims" / "half_of_syncs.c"
LONG = float(os.environ.get("JWT_AUDIT_LONG", "3"))


class Place:
    """A spool, its receiver, and the processes."""

    def __init__(self, root: Path, receiver: Receiver, spool: Path) -> None:
        self.root = root
        self.spool = spool
        self.receiver = receiver
        self.signer = Signer.generate()
        (root / "key.pem").write_bytes(self.signer.pem)
        self.workers: list[Worker] = []

    def worker(self, **settings: str) -> Worker:
        made = Worker(self.spool, self.receiver.url, SIGNING_KEY=str(self.root / "key.pem"), **settings)
        self.workers.append(made)
        return made

    def delivered(self) -> dict[str, set[str]]:
        """Of each request that was received, the ids of its last record: one, however often it was sent."""
        found: dict[str, set[str]] = {}
        for one in list(self.receiver.acknowledged):
            if one.event == attr.EVENT_REQUEST:
                found.setdefault(one.attributes["request.id"], set()).add(one.attributes[attr.RECORD_ID])
        return found

    def lost(self) -> int:
        """How many records were told to be lost."""
        told = {
            one.attributes[attr.RECORD_ID]: int(one.attributes[attr.LOST_COUNT])
            for one in list(self.receiver.acknowledged)
            if one.event == attr.EVENT_LOST
        }
        return sum(told.values())

    def drained(self) -> bool:
        return all(not undelivered(stream) for stream in streams(self.spool))

    def accused(self) -> list[str]:
        """What `verify` says against the spool and against what was received."""
        export = self.root / "export.binpb"
        with export.open("wb") as file:
            for body in self.receiver.bodies:
                if body:
                    file.write(len(body).to_bytes(4, "big") + body)
        key = self.signer.public_key
        found = []
        for copies in ([read_spool(self.spool, lambda _: None)], [read_exports([export], lambda _: None)]):
            report = judge(copies, Trust({key.key_id: key}))
            if report.verdict is Verdict.INVALID:
                found.append(str(report.form()))
        return found


@contextmanager
def placed(root: Path, spool: Path | None = None) -> Iterator[Place]:
    with receiving() as receiver:
        place = Place(root, receiver, spool or root / "spool")
        try:
            yield place
        finally:
            for worker in place.workers:
                worker.kill()


def away(_: list[Sent]) -> Reply:
    return Reply(503)


def test_descriptors_used_up_by_other_threads(tmp_path: Path) -> None:
    """An EMFILE says nothing of a lock: no living stream is taken for dead, all of it is delivered."""
    with placed(tmp_path) as place:
        thirsty = place.worker(env_THIRST=str(LONG), SPOOL_LIMIT="64MiB")
        others = [place.worker(), place.worker()]
        until_then = time.monotonic() + LONG
        served = 0
        while time.monotonic() < until_then:
            for worker in (thirsty, *others):
                served += 20
                worker.serve(20)
                assert not any(
                    stream.cursor().done for stream in streams(place.spool) if stream.writer() is LockState.HELD
                )
        time.sleep(1.0)
        for worker in place.workers:
            worker.serve(5)  # the descriptors are given back: what was lost is told
            worker.end()
        served += 15
        last = place.worker()
        until(place.drained)
        until(lambda: len(place.delivered()) + place.lost() >= served)
        last.end()
        found = place.delivered()
        assert len(found) + place.lost() == served
        assert all(len(ids) == 1 for ids in found.values())
        assert place.accused() == []
        print(f"descriptors: {served} requests, {len(found)} delivered, {place.lost()} told as lost, 0 accused")


@pytest.mark.parametrize("limit", ["1MiB", "4MiB"])
@pytest.mark.parametrize(("mode", "durability"), [("open", "process"), ("closed", "process"), ("closed", "disk")])
def test_a_spool_filled_by_killed_processes_empties_again(
    tmp_path: Path, limit: str, mode: str, durability: str
) -> None:
    """Eight streams without an end fill it while the receiver is away. Then all is delivered, and records go on."""
    settings = {"SPOOL_LIMIT": limit, "FAIL_MODE": mode, "DURABILITY": durability}
    share = (2**20 if limit == "1MiB" else 2**22) // 1200 // 8
    with placed(tmp_path) as place:
        place.receiver.rule = away
        for _ in range(8):
            place.worker(**settings).serve(share)
        for worker in place.workers:
            worker.kill()
        full = place.worker(**settings)
        full.serve(200)
        time.sleep(1.5)
        full.serve(200)
        if mode == "closed":
            assert full.refused
        full.kill()
        again = place.worker(**settings)
        place.receiver.rule = lambda _: Reply()
        until(place.drained)

        def goes_on() -> bool:
            """Whether a request that is made now is recorded: with ``open`` it may still be told as lost."""
            again.serve(1)
            time.sleep(1.5)
            return bool(again.answered) and again.answered[-1] in place.delivered()

        until(goes_on)
        again.end()
        last = place.worker(**settings)
        until(place.drained)
        last.end()
        found = place.delivered()
        if mode == "closed":
            answered = {name for worker in place.workers for name in worker.answered}
            assert not answered - set(found)
        assert all(len(ids) == 1 for ids in found.values())
        assert place.accused() == []


def test_one_refused_record_after_an_outage_stops_nothing(tmp_path: Path) -> None:
    """Closed, 4 MiB: full while the receiver is away, one record is refused for good, then it goes on; after a
    restart as well."""
    settings = {"SPOOL_LIMIT": "4MiB", "FAIL_MODE": "closed"}
    with placed(tmp_path) as place:
        place.receiver.rule = away
        first = place.worker(**settings)
        while not first.refused:
            first.serve(200)
        bad = first.answered[len(first.answered) // 2]

        def rule(sent: list[Sent]) -> Reply:
            refused = any(one.attributes.get("request.id") == bad and one.event == attr.EVENT_REQUEST for one in sent)
            return Reply(400, b"\x12\x03bad") if refused else Reply()

        place.receiver.rule = rule
        until(lambda: bool(first.serve(1)))
        until(lambda: not set(first.answered) - set(place.delivered()) - {bad})
        first.kill()
        second = place.worker(**settings)
        until(lambda: bool(second.serve(1)))
        until(lambda: not set(second.answered) - set(place.delivered()))
        second.end()
        assert (place.spool / "dead-letter").read_bytes().count(b"\n") == 1
        assert place.accused() == []


@pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("gcc") is None, reason="mounts a small disk (root) and compiles what fails it"
)
def test_half_of_the_syncs_fail_beside_a_full_disk(tmp_path: Path) -> None:
    """Killed again and again meanwhile: nothing answered is lost, or delivered under two ids, or accused."""
    shim = tmp_path / "shim.so"
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", str(shim), str(SHIM)], check=True)
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", str(disk)], capture_output=True)
    if mounted.returncode:
        pytest.skip("this machine lets nobody mount a file system")
    try:
        with placed(tmp_path, disk / "spool") as place:
            until_then = time.monotonic() + LONG
            while time.monotonic() < until_then:
                place.receiver.rule = away
                worker = place.worker(env_LD_PRELOAD=str(shim), FAIL_MODE="closed")
                filler = disk / "filler"
                worker.serve(300)
                with filler.open("wb") as file:
                    try:
                        while True:
                            file.write(bytes(65536))
                            file.flush()
                    except OSError:
                        pass
                worker.serve(300)
                filler.unlink()
                place.receiver.rule = lambda _: Reply()
                time.sleep(1.0)
                worker.kill()
            last = place.worker(FAIL_MODE="closed")
            until(place.drained)
            until(lambda: bool(last.serve(1)))
            last.end()
            answered = {name for worker in place.workers for name in worker.answered}
            until(lambda: not answered - set(place.delivered()))
            assert all(len(ids) == 1 for ids in place.delivered().values())
            assert place.accused() == []
            refused = sum(len(worker.refused) for worker in place.workers)
            print(f"failing syncs: {len(place.workers)} processes, {len(answered)} answered, {refused} refused, 0 lost")
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=False)


def test_very_many_old_streams_hold_up_no_first_request(tmp_path: Path) -> None:
    """What is needed of them is read beside the requests."""
    template, _ = make_stream(tmp_path / "spool", records=3)
    Stream(template).move_cursor(Cursor("00000001.seg", 9, 5, "0" * 64, ended=True, done=True))
    for number in range(5000):
        shutil.copytree(template, template.with_name(f"20250101T000000.{number:04d}Z-1-{number:08x}"))
    with placed(tmp_path) as place:
        worker = place.worker()
        worker.serve(1)
        print(f"first request beside 5000 streams: {worker.slowest * 1000:.0f} ms")
        assert (
            worker.slowest < 1.0
        )  # 1.3 s where the request waited for all that was read, on a machine with nothing else to do
        threading.Event().wait(0.1)
        worker.end()
