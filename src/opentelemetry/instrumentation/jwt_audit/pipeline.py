"""The composition root: holds the parts that live as long as the process, and gives the hooks what they ask for.

Invariants: nothing here raises into the app (`emit`, which the app calls itself, excepted). Nothing
is made on disk before the first request or a server's start, since instrumented Python also runs in pip,
shells and reloaders. After a fork the child shares no file, lock or thread with its parent. A record
that is not written is counted, also while there is no spool.
"""

from __future__ import annotations

import atexit
import os
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from jwt_audit import api, assembly
from jwt_audit import attributes as attr
from jwt_audit.attributes import Value
from jwt_audit.diagnostics import inform, warn_operator
from jwt_audit.errors import JWTAuditError, RecordError, SpoolError
from jwt_audit.evidence.record import Receipt, Record, request_record
from jwt_audit.losses import Losses
from jwt_audit.recorder import Recorder
from jwt_audit.request import Request, in_flight
from jwt_audit.settings.config import Config
from jwt_audit.settings.default_spool import can_be_written
from jwt_audit.settings.environment import load, sdk_disabled
from jwt_audit.settings.variables import PREFIX
from jwt_audit.ship.keeper import Keeper
from jwt_audit.ship.shipper import Shipper
from jwt_audit.spool.spool import Spool

from . import waiting, wiring
from .request_context import request_of

EXIT_SECONDS = 3.0
"""How long the end of the process waits for delivery; the rest stays on disk."""
DISK_SECONDS = 10.0
"""How long a request waits for a sync with DURABILITY=disk before that counts as a failure."""
_WARNING_SECONDS = 60.0
"""The interval between warnings that requests go unrecorded."""
_RETRY_SECONDS = 1.0
"""The pause before the next attempt to make a spool that could not be made."""


class Pipeline:
    """What the hooks talk to. One a process; safe for threads."""

    def __init__(self, config: Config, *, suppress: assembly.Suppress, hooked: Callable[[], list[str]] = list) -> None:
        """``hooked`` names the packages that are hooked, for the message to the operator."""
        self._config = config
        self._suppress = suppress
        self._hooked = hooked
        self._announced = False
        self.closed = config.fail_mode == "closed"
        """Whether a response that cannot be recorded must not be given."""
        self._disk = config.durability == "disk"
        self._methods = frozenset(config.excluded_methods)
        self._exact = frozenset(path for path in config.excluded_paths if not path.endswith("/*"))
        self._prefixes = tuple(path[:-1] for path in config.excluded_paths if path.endswith("/*"))
        self.identifier = wiring.identifier(config, suppress)
        self.observation = self.identifier.observation
        self._reset()
        self._failing = False
        self._warn_again_at = 0.0
        self._stopped = False
        os.register_at_fork(after_in_child=self._after_fork)
        atexit.register(self.stop)
        api.install(self._emit, request_of)

    def _reset(self) -> None:
        self._lock = threading.Lock()
        self._spool: Spool | None = None
        self._recorder: Recorder | None = None
        self._shipper: Shipper | Keeper | None = None
        self._losses = Losses()
        self._open_again_at = 0.0

    # Life

    def announce(self) -> None:
        """A server has got its app: say once what is hooked and where records go, and warn if they cannot.

        Makes nothing on disk.
        """
        if self._announced:
            return
        self._announced = True
        config = self._config
        where = (
            "sending nothing"
            if config.local or not config.delivers
            else f"sending records to {assembly.endpoint(config).shown}"
        )
        inside = ", ".join(self._hooked()) or "nothing so far"
        inform(f"recording requests in {config.spool}, {where}; hooked into {inside}")
        for note in config.notes:
            warn_operator(note, once=note)
        if "spool" not in config.unusable and not can_be_written(config.spool):
            self._warn_no_spool(f"cannot make the spool {config.spool}")

    def _warn_no_spool(self, why: str) -> None:
        until = "every request is answered 503" if self.closed else "nothing is recorded"
        remedy = "name a directory that this process may make and write"
        warn_operator(f"{PREFIX}SPOOL: {why}; {remedy}, until then {until}", once="spool")

    def start(self) -> None:
        """A server begins to serve: what an earlier process left in the spool is shipped. Never raises."""
        self._open()

    def settle(self) -> None:
        """Serving ends: end the stream and try for a moment to deliver. Never raises.

        The process may be killed right after, without atexit (uvicorn does so at SIGTERM). If it goes
        on, what it records begins another stream.
        """
        recorder, shipper = self._recorder, self._shipper
        if recorder is not None:
            recorder.end()
        if shipper is not None:
            with self._lock:
                self._shipper = None
            shipper.stop(EXIT_SECONDS)

    def stop(self) -> None:
        """End the stream, try for a moment to deliver, stop the threads. Never raises."""
        if self._stopped:
            return
        self._stopped = True
        api.install(None)
        if self._recorder is not None:
            self._recorder.close()
        if self._shipper is not None:
            self._shipper.stop(EXIT_SECONDS)
        self.identifier.close()

    def _after_fork(self) -> None:
        recorder, shipper = self._recorder, self._shipper
        self._reset()
        if recorder is not None:
            recorder.abandon()
        if shipper is not None:
            shipper.abandon()
        self.identifier.after_fork()
        in_flight.clear()

    # Records

    def excludes(self, request: Request) -> bool:
        """Whether a request is excluded from audit: by its method, its exact path, or below a ``/*`` prefix.

        A path that climbs by ``..`` is below none: whoever sends it could be served from elsewhere. A WebSocket
        has no method.
        """
        if request.method in self._methods and request.kind == "http":
            return True
        path = request.path
        return path in self._exact or (path.startswith(self._prefixes) and "/../" not in f"{path}/")

    def admit(self, request: Request) -> bool:
        """With FAIL_MODE=closed, the first-stage record before the app runs; False: answer 503."""
        if not self.closed:
            return True
        receipt = self._record(request, attr.EVENT_RECEIVED, "unknown", last_resort=False)
        return receipt is not None and self._wait(receipt)

    async def admit_async(self, request: Request) -> bool:
        """`admit` that does not block the event loop."""
        if not self.closed:
            return True
        receipt = self._record(request, attr.EVENT_RECEIVED, "unknown", last_resort=False)
        return receipt is not None and await self._wait_async(receipt)

    def finish(self, request: Request, event: str = attr.EVENT_REQUEST, outcome: str | None = None) -> bool:
        """Write the request's record, once an event; False: do not complete the response.

        When this returns True the record is as durable as DURABILITY says, or FAIL_MODE is open and
        the loss is counted and the operator is warned.
        """
        if event in request.recorded:
            return True
        request.recorded += (event,)
        receipt = self._record(request, event, outcome, last_resort=self.closed)
        return (receipt is not None and self._wait(receipt)) or not self.closed

    async def finish_async(self, request: Request, event: str = attr.EVENT_REQUEST, outcome: str | None = None) -> bool:
        """`finish` that does not block the event loop."""
        if event in request.recorded:
            return True
        request.recorded += (event,)
        receipt = self._record(request, event, outcome, last_resort=self.closed)
        return (receipt is not None and await self._wait_async(receipt)) or not self.closed

    def late(self, request: Request, *, error_type: str | None = None, outcome: str | None = None) -> None:
        """What became known after the response was recorded: a second record with the same request id."""
        request.error_type = error_type or request.error_type
        self._record(request, attr.EVENT_LATE, outcome, last_resort=False)

    def _record(self, request: Request, event: str, outcome: str | None, *, last_resort: bool) -> Receipt | None:
        try:
            record = request_record(request, event, ended=time.perf_counter_ns(), outcome=outcome)
            return self._append(record, last_resort=last_resort)
        except RecordError as error:  # it is this record that cannot be written: nothing is wrong with the spool
            warn_operator(f"an audit record could not be written: {error}", once=f"record {error}")
        except JWTAuditError as error:
            self._warn_failing(str(error))
        except Exception as error:
            self._warn_failing(f"a failure ({type(error).__name__})")
        return None

    def _append(self, record: Record, *, last_resort: bool = False) -> Receipt:
        recorder = self._recorder or self._open()
        if recorder is None:
            with self._lock:  # also for a recorder that another thread is making: it takes these losses
                self._losses.add(record.event_name, time.time_ns())
            raise SpoolError(f"there is no spool at {self._config.spool}")
        receipt = recorder.append(record, last_resort=last_resort)
        if self._failing:
            self._failing = False
            warn_operator("audit records are written again")
        if self._shipper is None and not self._stopped:
            self._start_shipper()
        return receipt

    def _warn_failing(self, why: str) -> None:
        now = time.monotonic()
        if self._failing and now < self._warn_again_at:
            return
        lost = self._losses.count if self._recorder is None else self._recorder.lost
        so_far = f", {lost} records so far" if self._failing else ""
        self._failing, self._warn_again_at = True, now + _WARNING_SECONDS
        what = "requests are refused with 503" if self.closed else "requests go on unrecorded and are counted"
        warn_operator(f"audit records cannot be written: {why}; {what}{so_far} (see {PREFIX}SPOOL)")

    def _emit(self, record: Record) -> Receipt:
        receipt = self._append(record)
        if not self._wait(receipt):
            raise SpoolError(f"the record {receipt.record_id} could not be synced")
        return receipt

    def _wait(self, receipt: Receipt) -> bool:
        recorder = self._recorder
        return not self._disk or (recorder is not None and waiting.wait_durable(recorder, receipt, DISK_SECONDS))

    async def _wait_async(self, receipt: Receipt) -> bool:
        recorder = self._recorder
        if not self._disk:
            return True
        return recorder is not None and await waiting.wait_durable_async(recorder, receipt, DISK_SECONDS)

    # Parts

    def _open(self) -> Recorder | None:
        self.announce()
        with self._lock:
            if self._recorder is not None or self._stopped or time.monotonic() < self._open_again_at:
                return self._recorder
            if "spool" in self._config.unusable:  # as the start has warned; the default is not the place that was meant
                return None
            try:
                self._spool = Spool(self._config.spool)
            except SpoolError as error:
                self._open_again_at = time.monotonic() + _RETRY_SECONDS
                self._warn_no_spool(str(error))
                return None
            self._recorder = assembly.recorder(
                self._config,
                self._spool,
                resource=wiring.resource,
                on_tick=self._wake,
                strict=self.closed,
                losses=self._losses,
            )
        self._start_shipper()
        return self._recorder

    def _start_shipper(self) -> None:
        if not (self._config.delivers or self._config.local):
            return
        with self._lock:
            if self._shipper is None and self._spool is not None:
                self._shipper = assembly.delivery(
                    self._config, self._spool, emit=self._state, settle=self._settle, suppress=self._suppress
                )
                self._shipper.start()

    def _wake(self) -> None:
        shipper = self._shipper
        if shipper is not None:
            shipper.wake()

    def _state(self, event: str, attributes: Mapping[str, Value], body: str) -> None:
        recorder = self._recorder
        if recorder is None:
            raise SpoolError("the audit stream has ended")
        recorder.state(event, attributes, body)

    def _settle(self) -> bool:
        recorder = self._recorder
        return recorder is not None and recorder.settle()


def compose(*, suppress: assembly.Suppress, hooked: Callable[[], list[str]] = list, **settings: Any) -> Pipeline | None:
    """The pipeline for the environment and these settings; None if OTEL_SDK_DISABLED is set.

    Warns the operator once of each setting that is not valid.
    """
    if sdk_disabled():
        return None
    config, problems = load(**settings)
    for problem in problems:
        warn_operator(str(problem), once=str(problem))
    return Pipeline(config, suppress=suppress, hooked=hooked)
