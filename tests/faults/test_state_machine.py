"""Recorder, tick, reader, shipper, recovery, retention and restart on a disk that fails, in every order.

A model of what must hold, beside the real parts on a real directory: hypothesis chooses what happens
(`Machine`), and at which system call of it what goes wrong (`support.kernel`). What holds in each run:

- what was acknowledged is delivered or in the spool (after a power loss: what was known to be synced);
- no record has two ids, no id two records;
- a stream whose writer lives is never taken for dead, nor removed;
- the receiver never knows more than the disk: also right after a power loss;
- `verify` accuses neither the spool nor what was received;
- once the receiver and the disk are well again, everything is delivered, and a full spool takes records again.

``JWT_AUDIT_STATES=5000`` runs so many; each prints its number, and hypothesis what makes a failure again.
"""

from __future__ import annotations

import errno
import importlib.util
import itertools
import logging
import os
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from jwt_audit import attributes as attr
from jwt_audit.attributes import Value
from jwt_audit.errors import JWTAuditError
from jwt_audit.evidence.chain import record_hash
from jwt_audit.evidence.proof import Trust
from jwt_audit.evidence.record import Receipt, system_record
from jwt_audit.evidence.signing import Signer
from jwt_audit.evidence.verdict import Verdict
from jwt_audit.evidence.verify import judge
from jwt_audit.http.exchange import Failure
from jwt_audit.recorder import Recorder
from jwt_audit.ship.answers import Answer
from jwt_audit.ship.deliver import Stopping
from jwt_audit.ship.http import Endpoint
from jwt_audit.ship.shipper import Shipper
from jwt_audit.sources.exports import read_exports
from jwt_audit.sources.spool import read_spool
from jwt_audit.spool.segment import read
from jwt_audit.spool.spool import Spool
from jwt_audit.spool.stream import Stream, streams
from support.kernel import Fault, Kernel, Process

RUNS = int(os.environ.get("JWT_AUDIT_STATES", "0"))
SIGNER = Signer.generate()
TRUST = Trust({SIGNER.public_key.key_id: SIGNER.public_key})
LIMIT = 120_000
"""Bytes of the spool: some ninety records fill it."""

RESTATED = importlib.util.find_spec("jwt_audit.ship.restate") is not None
"""Whether a statement is said again before the stream that holds it is removed. Without that the hole it explains
is accused; that alone is passed over."""

_runs = itertools.count(1)
_seen: Counter[str] = Counter()

FAULTS = st.one_of(
    st.just(Fault()),
    st.builds(
        Fault,
        st.sampled_from(["fail", "fail-after", "short", "kill", "kill-after"]),
        st.integers(0, 60),
        st.sampled_from([errno.EIO, errno.ENOSPC, errno.EMFILE, errno.EACCES]),
        st.integers(0, 9),
    ),
    st.builds(
        Fault,
        st.sampled_from(["syncs", "storm", "emfile", "eio"]),
        st.integers(0, 10),
        st.sampled_from([errno.EIO, errno.ENOSPC, errno.EACCES]),
        st.integers(0, 2**16),
    ),
)


WORLD = ["power loss", "receiver", "receiver", "answers", "refusal", "disk", "disk", "disk"]


class Receiver:
    """Takes what it is sent, as a sink does: in the place of the HTTP client alone."""

    def __init__(self, export: Path) -> None:
        self.away = False
        self.lose_answers = 0
        self.refused: set[str] = set()
        self.taken: dict[str, tuple[str, int, str]] = {}
        """Of each record id its stream, number and hash."""
        self._export = export

    def post(self, body: bytes, *, timeout: float | None = None) -> Answer:
        if self.away:
            raise Stopping
        form = orjson.loads(body)
        found = list(_received(form))
        if any(one[0] in self.refused for one in found):
            return Answer(400, detail="refused")
        for record_id, *place in found:
            known = self.taken.setdefault(record_id, (place[0], place[1], place[2]))
            assert known == tuple(place), f"{record_id} is two records"
        if found:
            with self._export.open("ab") as file:
                file.write(body + b"\n")
        if self.lose_answers:
            self.lose_answers -= 1
            return Answer(failure=Failure.LOST)
        return Answer(200, rejected=0)

    def close(self) -> None:
        pass


def _received(form: Any) -> Any:
    for group in form.get("resourceLogs", ()):
        for scope in group["scopeLogs"]:
            for record in scope["logRecords"]:
                if record["eventName"] != attr.EVENT_HEAD:
                    values = {item["key"]: next(iter(item["value"].values())) for item in record["attributes"]}
                    number = int(values[attr.NUMBER])
                    yield (
                        values[attr.RECORD_ID],
                        values[attr.STREAM_ID],
                        number,
                        record_hash(str(values[attr.INTEGRITY_CANONICAL]).encode()),
                    )


class App:
    """One process: its recorder and its shipper, without their threads."""

    def __init__(self, root: Path, pruned: dict[str, int], *, strict: bool, retention: float) -> None:
        self.process = Process()
        self.pruned = pruned
        self.strict = strict
        self.receipts: list[Receipt] = []
        self.spool = Spool(root)
        self.recorder = Recorder(
            self.spool,
            signer=lambda: SIGNER,
            binding=lambda: {attr.STREAM_RESOURCE: "{}"},
            limit=LIMIT,
            strict=strict,
        )
        self.shipper = Shipper(
            self.spool,
            Endpoint("http://receiver", "http/json"),
            emit=self.state,
            settle=self.recorder.settle,
            suppress=nullcontext,
            warn_operator=lambda *_, **__: None,
            retention=retention,
            limit=LIMIT,
        )
        self.turn = self.shipper._turn

    def state(self, event: str, attributes: Mapping[str, Value], body: str) -> None:
        self.recorder.state(event, attributes, body)
        if event == attr.EVENT_STREAM_PRUNED:
            name, number = str(attributes[attr.PRUNED_STREAM]), int(str(attributes[attr.PRUNED_NUMBER]))
            self.pruned[name] = max(number, self.pruned.get(name, 0))

    @property
    def synced(self) -> dict[str, int]:
        """How far its streams are known to survive a power loss."""
        found = (self.recorder._stream, self.recorder._ended)
        return {one.position.stream_id: one.synced for one in found if one is not None}


class Machine(RuleBasedStateMachine):
    """What happens to a spool."""

    def __init__(self) -> None:
        super().__init__()
        self.base = Path(tempfile.mkdtemp(prefix="jwt-audit-states-"))
        self.root = self.base / "spool"
        (self.base / "grave").mkdir()
        self.patch = pytest.MonkeyPatch()
        self.kernel = Kernel(self.root, self.base / "grave")
        self.receiver = Receiver(self.base / "export.jsonl")
        self.apps: list[App] = []
        self.acknowledged: dict[str, Receipt] = {}
        self.safe: set[str] = set()
        """Of them, what a power loss may not take."""
        self.refused_for = ""
        self.pruned: dict[str, int] = {}
        """Up to where streams were stated to be removed."""
        self.retention = 3600.0
        self.number = next(_runs)

    @initialize(retention=st.sampled_from([0.0, 3600.0]))
    def begin(self, retention: float) -> None:
        for name, value in {
            "jwt_audit.recorder.TICK_SECONDS": 0.0,
            "jwt_audit.tick.Tick.start": lambda self: None,
            "jwt_audit.ship.shipper.Poster": lambda *_: self.receiver,
            "jwt_audit.ship.deliver.pause": lambda *_: 0.0,
            "jwt_audit.ship.prune.INTERVAL": 0.0,
            "jwt_audit.ship.prune._HURRY_SECONDS": 0.0,
            "jwt_audit.ship.prune._BIRTH_SECONDS": 0.0,
            "jwt_audit.room._SMALLEST_SEGMENT": 3000,
            "jwt_audit.room._SURVEY_TICKS": 1,
            "jwt_audit.ship.batch.MAX_RECORDS": 7,
        }.items():
            self.patch.setattr(name, value)
        logging.getLogger("jwt_audit").disabled = True
        self.kernel.install(self.patch)
        self.retention = retention
        self.start(strict=False)

    @precondition(lambda self: len(self.apps) < 3)
    @rule(strict=st.booleans())
    def start(self, strict: bool) -> None:
        process = Process()
        with self.kernel.acting(process, Fault()):
            app = App(self.root, self.pruned, strict=strict, retention=self.retention)
            app.process = process
            self.apps.append(app)

    def app(self, which: int) -> App:
        """One of those that live; there is always one."""
        if not self.apps:
            self.start(strict=bool(which % 2))
        return self.apps[which % len(self.apps)]

    def act(self, app: App, fault: Fault, action: Any) -> None:
        """Do it as that process; if that kills it, it is gone."""
        synced = app.synced
        with self.kernel.acting(app.process, fault):
            action()
        _seen[fault.kind] += 1
        if app.process.dead:
            self.bury(app, synced)
        self.look()

    def bury(self, app: App, synced: dict[str, int]) -> None:
        self.note_safe(app, {**synced, **app.synced})
        self.apps.remove(app)

    def note_safe(self, app: App, synced: dict[str, int]) -> None:
        for receipt in app.receipts:
            if receipt.number <= synced.get(receipt.stream_id, 0):
                self.safe.add(receipt.record_id)

    @rule(which=st.integers(0, 2), count=st.integers(1, 12), size=st.sampled_from([10, 900]), fault=FAULTS)
    def append(self, which: int, count: int, size: int, fault: Fault) -> None:
        app = self.app(which)

        def work() -> None:
            for index in range(count):
                record = system_record("test", now=time.time_ns(), attributes={"x": "y" * size}, body="b")
                try:
                    receipt = app.recorder.append(record, last_resort=app.strict and index % 2 == 1)
                except JWTAuditError as error:
                    self.refused_for = str(error)
                    continue
                app.receipts.append(receipt)
                self.acknowledged[receipt.record_id] = receipt

        self.act(app, fault, work)

    @rule(which=st.integers(0, 2), count=st.integers(1, 40))
    def serve(self, which: int, count: int) -> None:
        """Nothing goes wrong: requests, a tick, delivery."""
        self.append(which=which, count=count, size=900, fault=Fault())
        self.tick(which=which, fault=Fault())
        self.ship(which=which, rounds=2, fault=Fault())

    @rule(which=st.integers(0, 2), fault=FAULTS)
    def tick(self, which: int, fault: Fault) -> None:
        app = self.app(which)
        self.act(app, fault, app.recorder.settle)
        self.note_safe(app, app.synced)

    @rule(which=st.integers(0, 2), rounds=st.integers(1, 4), fault=FAULTS)
    def ship(self, which: int, rounds: int, fault: Fault) -> None:
        app = self.app(which)
        self.act(app, fault, lambda: self.ship_once(app, rounds))

    def ship_once(self, app: App, rounds: int) -> None:
        try:
            if not app.turn.held and not app.turn.take():
                return
            for _ in range(rounds):
                app.shipper.once()
        except (OSError, JWTAuditError, Stopping):
            return

    @rule(which=st.integers(0, 2))
    def give_way(self, which: int) -> None:
        app = self.app(which)
        self.act(app, Fault(), app.shipper._give_way)

    @rule(which=st.integers(0, 2), fault=FAULTS)
    def end(self, which: int, fault: Fault) -> None:
        """The orderly end; and then the process is gone."""
        app = self.app(which)
        self.act(app, fault, app.recorder.close)
        if not app.process.dead:
            self.kernel.kill(app.process)
            self.bury(app, {})
            self.look()

    @rule(which=st.integers(0, 2), fault=FAULTS)
    def serve_again(self, which: int, fault: Fault) -> None:
        """A server stops and goes on: the stream ends, the next record begins another."""
        app = self.app(which)
        self.act(app, fault, app.recorder.end)

    @rule(which=st.integers(0, 2))
    def kill(self, which: int) -> None:
        app = self.app(which)
        self.kernel.kill(app.process)
        self.bury(app, {})
        self.look()

    @rule(what=st.sampled_from(WORLD), which=st.integers(0, 2**16))
    def around(self, what: str, which: int) -> None:
        """What happens to no process alone."""
        if what == "power loss":
            self.lose_power(which)
        elif what == "receiver":
            self.receiver.away = not self.receiver.away
        elif what == "answers":
            self.receiver.lose_answers = 2
        elif what == "refusal":
            ids = sorted(set(self.acknowledged) - set(self.receiver.taken))
            if ids:
                self.receiver.refused.add(ids[which % len(ids)])
        elif self.kernel.budget is None:
            self.kernel.budget = which % 4000
        else:
            self.kernel.budget = None
        _seen[what] += 1

    def lose_power(self, seed: int) -> None:
        for app in list(self.apps):
            self.kernel.kill(app.process)
            self.bury(app, {})
        self.kernel.lose_power(seed)
        self.root.mkdir(exist_ok=True)
        self.acknowledged = {one: receipt for one, receipt in self.acknowledged.items() if one in self.safe}
        here = self.on_disk()
        for record_id, (stream, number, _) in self.receiver.taken.items():
            known = record_id in here or number <= self.pruned.get(stream, 0)
            assert known, f"record {number} of {stream} is known to the receiver alone"

    # What holds

    def look(self) -> None:
        """No stream of a living process is taken for dead."""
        self.outside()
        for app in self.apps:
            if app.recorder.stream_id:
                stream = Stream(self.root / "streams" / app.recorder.stream_id)
                assert stream.path.exists(), "a living stream was removed"
                assert not stream.cursor().done, "a living stream was taken for dead"

    def outside(self) -> None:
        """From here on it is the test that asks."""
        self.kernel.process = Process()

    def on_disk(self) -> set[str]:
        """The ids of the records in the spool."""
        self.outside()
        found: set[str] = set()
        places: dict[tuple[str, int], str] = {}
        for stream in streams(self.root) if (self.root / "streams").is_dir() else ():
            for path in [*stream.segments(), *([stream.path / "start"] if (stream.path / "start").exists() else [])]:
                for line in read(path):
                    if record_hash(line.payload) != line.digest:
                        break  # what a power loss left of lines that were not synced
                    form = orjson.loads(line.payload)["attributes"]
                    record_id = form[attr.RECORD_ID]["stringValue"]
                    number = int(form[attr.NUMBER]["intValue"])
                    assert places.setdefault((stream.id, number), record_id) == record_id, "a record has two ids"
                    found.add(record_id)
        return found

    def teardown(self) -> None:
        try:
            if (self.root / "streams").is_dir():
                self.recover()
        finally:
            self.outside()
            self.patch.undo()
            logging.getLogger("jwt_audit").disabled = False
            for app in self.apps:
                self.kernel.kill(app.process)
            shutil.rmtree(self.base, ignore_errors=True)

    def recover(self) -> None:
        """All is well again: what was promised is there, everything drains, and nobody is accused."""
        self.kernel.budget = None
        self.receiver.away = False
        here = self.on_disk()
        dead = self.dead_letters()
        missing = set(self.acknowledged) - here - set(self.receiver.taken) - dead
        assert not missing, f"acknowledged and nowhere: {missing}"
        for old in list(self.apps):
            self.act(old, Fault(), old.recorder.close)
            self.kernel.kill(old.process)
            self.bury(old, {})
        self.start(strict=True)
        (app,) = self.apps
        for _ in range(150):
            self.act(app, Fault(), lambda: self.ship_once(app, 3))
            self.outside()
            own = app.recorder.stream_id
            if all(stream.cursor().done for stream in streams(self.root) if stream.id != own):
                break
            self.act(app, Fault(), app.recorder.settle)
        else:
            raise AssertionError(f"it does not drain: {self.left()}")
        missing = set(self.acknowledged) - set(self.receiver.taken) - self.dead_letters()
        assert not missing, f"acknowledged and not delivered: {missing}"
        for _ in range(50):
            before = len(self.acknowledged)
            self.append(which=0, count=1, size=10, fault=Fault())
            if len(self.acknowledged) > before:
                break
            self.act(app, Fault(), lambda: self.ship_once(app, 1))
            self.act(app, Fault(), app.recorder.settle)
        else:
            raise AssertionError(f"no record is taken any more: {self.refused_for}; {self.left()}")
        self.act(app, Fault(), app.recorder.settle)
        self.act(app, Fault(), lambda: self.ship_once(app, 3))
        self.accuse()
        _seen["runs"] += 1
        _seen["failed calls"] += self.kernel.failures
        _seen["kills"] += self.kernel.kills
        _seen["acknowledged"] += len(self.acknowledged)
        _seen["delivered"] += len(self.receiver.taken)
        if RUNS and self.number % 100 == 0:
            print(f"run {self.number}: {dict(_seen)}", flush=True)

    def dead_letters(self) -> set[str]:
        path = self.root / "dead-letter"
        lines = path.read_bytes().splitlines() if path.exists() else []
        return {form["record_id"] for form in map(orjson.loads, filter(None, lines)) if "record_id" in form}

    def left(self) -> list[str]:
        self.outside()
        found = [f"{one.id} {one.writer().value} {one.size()} {one.cursor()}" for one in streams(self.root)]
        return [*found, f"{Spool(self.root).usage()} bytes"]

    def accuse(self) -> None:
        self.outside()
        spool = read_spool(self.root, lambda _: None)
        copies = [[spool]]
        if self.receiver.taken:
            export = self.base / "export.jsonl"
            copies += [[read_exports([export], lambda _: None)]]
            copies += [[read_spool(self.root, lambda _: None), read_exports([export], lambda _: None)]]
        for given in copies:
            report = judge(given, TRUST)
            found = [*report.findings.kept, *(one for stream in report.streams for one in stream.findings.kept)]
            for finding in found:
                if finding.verdict is not Verdict.VALID:
                    _seen[f"{finding.verdict.name} {finding.kind}"] += 1
                accused = finding.verdict is Verdict.INVALID and not (
                    finding.kind == "gap" and finding.stream in self.pruned and not RESTATED
                )
                assert not accused, (finding, report.form())


@pytest.mark.timeout(0 if RUNS else 110)
def test_states() -> None:
    """See the module: a short run here, thousands by the variable."""
    from hypothesis.stateful import run_state_machine_as_test

    short = settings(
        max_examples=RUNS or 100,
        stateful_step_count=30,
        deadline=None,
        print_blob=True,
        derandomize=not RUNS,
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(Machine, settings=short)
    print(dict(_seen))


def test_a_tail_whose_sync_failed_waits_for_room_on_a_full_disk() -> None:
    """A dead writer's failed sync makes the next one a false success: what it left is copied, or stays where it is."""
    state = Machine()
    state.begin(retention=0.0)
    try:
        state.append(count=6, fault=Fault(kind="none", at=0, code=5, seed=0), size=10, which=0)
        state.end(fault=Fault("eio", 2, 5, 0), which=0)
        state.around(what="disk", which=252)
        state.serve(count=1, which=0)
        state.around(what="power loss", which=0)
    finally:
        state.teardown()
