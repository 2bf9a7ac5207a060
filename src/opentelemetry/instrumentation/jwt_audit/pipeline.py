"""The composition root: settings become wired objects, and the hooks' few questions get answers.

Invariants: nothing here raises into the app (`emit`, which the app calls itself, excepted). Nothing
is made on disk before the first request or a server's start, since sitecustomize also runs in pip,
shells and reloaders. After a fork the child shares no file, lock or thread with its parent.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import socket
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from functools import cached_property
from typing import Any

import orjson

from jwt_audit import api
from jwt_audit import attributes as attr
from jwt_audit.attributes import Value, bounded
from jwt_audit.config import PREFIX, Config, load, sdk_disabled
from jwt_audit.context import Request, in_flight
from jwt_audit.diagnostics import tell
from jwt_audit.errors import JWTAuditError, KeySourceError, SpoolError
from jwt_audit.evidence.canonical import wrap
from jwt_audit.evidence.record import Record, request_record, system_record
from jwt_audit.evidence.signing import Signer
from jwt_audit.identity import Identity
from jwt_audit.observation import Observation
from jwt_audit.recorder import Receipt, Recorder
from jwt_audit.ship.http import Endpoint
from jwt_audit.ship.shipper import Shipper
from jwt_audit.spool.spool import Spool
from jwt_audit.tokens.claims import Claim
from jwt_audit.tokens.extract import Sources
from jwt_audit.tokens.issuers import KeyRing, make_issuers
from jwt_audit.tokens.observed import AppTokens, Verification
from jwt_audit.tokens.verify import TokenVerifier

from .identifier import Identifier

EXIT_SECONDS = 3.0
"""How long the end of the process waits for delivery; what is left is on disk."""
DISK_SECONDS = 10.0
"""How long a request waits for a sync with DURABILITY=disk before that counts as a failure."""


class Pipeline:
    """What the hooks talk to. One a process; safe for threads."""

    def __init__(self, config: Config, *, suppress: Callable[[], AbstractContextManager[Any]]) -> None:
        """``suppress`` gives a context in which what we send makes no spans."""
        self.config = config
        self._suppress = suppress
        self._closed_mode = config.fail_mode == "closed"
        self._disk = config.durability == "disk"
        self._exact = frozenset(path for path in config.excluded_paths if not path.endswith("/*"))
        self._prefixes = tuple(path[:-1] for path in config.excluded_paths if path.endswith("/*"))
        self.identifier = self._make_identifier()
        self.observation = self.identifier.observation
        self._forget()
        self._failing = False
        self._stopped = False
        os.register_at_fork(after_in_child=self._after_fork)
        atexit.register(self.stop)
        api.install(self._emit)

    def _forget(self) -> None:
        self._lock = threading.Lock()
        self._recorder: Recorder | None = None
        self._shipper: Shipper | None = None
        self._open_again = 0.0

    # Life

    def start(self) -> None:
        """A server begins to serve: what an earlier process left in the spool is shipped. Never raises."""
        self._open()

    def settle(self) -> None:
        """Serving ends: sign the head and try for a moment to deliver. Never raises.

        The process may be killed right after, without atexit (uvicorn does so at SIGTERM).
        """
        recorder, shipper = self._recorder, self._shipper
        if recorder is not None:
            recorder.settle()
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
        self._forget()
        if recorder is not None:
            recorder.abandon()
        if shipper is not None:
            shipper.abandon()
        self.identifier.after_fork()
        in_flight.clear()

    # Tokens

    def _make_identifier(self) -> Identifier:
        config = self.config
        ring = KeyRing(suppress=self._suppress, tell=tell, http_hosts=config.http_hosts)
        issuers = make_issuers(config.issuers, ring, tell) if config.token_settings_ok else None
        sources = Sources(dict.fromkeys((*config.sources, *(() if issuers is None else issuers.token_sources))))
        if issuers is None:
            return Identifier(sources, None, self._make_observation())
        verifier = TokenVerifier(issuers, now=time.time, privacy=config.privacy)

        def chosen(seen: Verification) -> Identity | None:
            """Our verdict on a token that the app has accepted, where the request shows us none or several."""
            return verifier.verify(seen.token) if seen.reason is None and seen.signed else None

        return Identifier(sources, verifier, Observation(chosen))

    def _make_observation(self) -> Observation | None:
        """The app's own verification, which counts by itself where no key of ours is configured.

        With wrong settings it does not count either: they may have been meant to forbid it.
        """
        config = self.config
        if not config.token_settings_ok:
            return None
        tokens = AppTokens(
            now=time.time,
            leeway=config.leeway,
            subject=map(Claim.named, config.subject_claim),
            session=map(Claim.named, config.session_claim),
            mapping=((Claim.named(name), attribute) for name, attribute in config.claims),
            issuer=config.issuer,
            audience=config.audience,
            algorithms=config.algorithms,
            privacy=config.privacy,
        )
        return Observation(tokens.judge)

    # Records

    def excludes(self, path: str) -> bool:
        """Whether a path is excluded from audit: an exact path, or below a ``/*`` prefix."""
        return path in self._exact or path.startswith(self._prefixes)

    def admit(self, request: Request) -> bool:
        """With FAIL_MODE=closed, the first-stage record before the app runs; False: answer 503."""
        receipt = self._first_stage(request)
        return receipt is None if not self._closed_mode else receipt is not None and self._wait(receipt)

    async def admit_async(self, request: Request) -> bool:
        """`admit` that holds no event loop."""
        receipt = self._first_stage(request)
        return receipt is None if not self._closed_mode else receipt is not None and await self._wait_async(receipt)

    def _first_stage(self, request: Request) -> Receipt | None:
        if not self._closed_mode:
            return None
        return self._record(request, attr.EVENT_RECEIVED, "unknown", last_resort=False)

    def finish(self, request: Request, event: str = attr.EVENT_REQUEST, outcome: str | None = None) -> bool:
        """Write the request's record, once an event; False: do not complete the response.

        When this returns True the record is as durable as DURABILITY says, or FAIL_MODE is open and
        the loss is counted and told.
        """
        if event in request.recorded:
            return True
        request.recorded += (event,)
        receipt = self._record(request, event, outcome, last_resort=self._closed_mode)
        return (receipt is not None and self._wait(receipt)) or not self._closed_mode

    async def finish_async(self, request: Request, event: str = attr.EVENT_REQUEST, outcome: str | None = None) -> bool:
        """`finish` that holds no event loop."""
        if event in request.recorded:
            return True
        request.recorded += (event,)
        receipt = self._record(request, event, outcome, last_resort=self._closed_mode)
        return (receipt is not None and await self._wait_async(receipt)) or not self._closed_mode

    def late(self, request: Request, *, error_type: str | None = None, outcome: str | None = None) -> None:
        """What became known after the response was recorded: a second record with the same request id."""
        request.error_type = error_type or request.error_type
        self._record(request, attr.EVENT_LATE, outcome, last_resort=False)

    def _record(self, request: Request, event: str, outcome: str | None, *, last_resort: bool) -> Receipt | None:
        try:
            record = request_record(request, event, ended=time.perf_counter_ns(), outcome=outcome)
            return self._append(record, last_resort=last_resort)
        except JWTAuditError as error:
            if not self._failing:
                self._failing = True
                lost = "requests are refused" if self._closed_mode else "requests go on unrecorded and are counted"
                tell(f"audit records cannot be written: {error}; {lost} (see {PREFIX}SPOOL)")
            return None

    def _append(self, record: Record, *, last_resort: bool = False) -> Receipt:
        recorder = self._recorder or self._open()
        if recorder is None:
            raise SpoolError(f"there is no spool at {self.config.spool}")
        receipt = recorder.append(record, last_resort=last_resort)
        if self._failing:
            self._failing = False
            tell("audit records are written again")
        if self._shipper is None and not self._stopped:
            self._start_shipper()
        return receipt

    def _emit(self, record: Record) -> Receipt:
        receipt = self._append(record)
        if not self._wait(receipt):
            raise SpoolError(f"the record {receipt.record_id} could not be synced")
        return receipt

    def _wait(self, receipt: Receipt) -> bool:
        recorder = self._recorder
        if not self._disk or recorder is None:
            return True
        done: list[bool] = []
        event = threading.Event()

        def call(ok: bool) -> None:
            done.append(ok)
            event.set()

        recorder.on_durable(receipt.number, call)
        return event.wait(DISK_SECONDS) and done[0]

    async def _wait_async(self, receipt: Receipt) -> bool:
        recorder = self._recorder
        if not self._disk or recorder is None:
            return True
        loop = asyncio.get_running_loop()
        future: asyncio.Future[bool] = loop.create_future()

        def resolve(ok: bool) -> None:
            if not future.done():
                future.set_result(ok)

        def call(ok: bool) -> None:
            try:
                loop.call_soon_threadsafe(resolve, ok)
            except RuntimeError:
                pass  # the loop has been closed: nobody waits any more

        recorder.on_durable(receipt.number, call)
        try:
            return await asyncio.wait_for(future, DISK_SECONDS)
        except asyncio.TimeoutError:
            return False

    # Parts

    def _open(self) -> Recorder | None:
        with self._lock:
            if self._recorder is not None or self._stopped or time.monotonic() < self._open_again:
                return self._recorder
            try:
                spool = Spool(self.config.spool)
            except SpoolError as error:
                self._open_again = time.monotonic() + 1.0
                tell(f"{PREFIX}SPOOL: {error}; name a directory that this process may make and write", once="spool")
                return None
            self._recorder = Recorder(
                spool,
                signer=lambda: self._signer(spool),
                binding=self._binding,
                limit=self.config.spool_limit,
                reserve=self._closed_mode,
                on_tick=self._wake,
            )
            self._spool = spool
        self._start_shipper()
        return self._recorder

    def _start_shipper(self) -> None:
        with self._lock:
            if self._shipper is not None:
                return
            config = self.config
            endpoint = Endpoint(
                config.endpoint,
                config.protocol,
                config.headers,
                certificate=config.certificate,
                client_certificate=config.client_certificate,
                client_key=config.client_key,
                timeout=config.timeout,
                gzip=config.compression == "gzip",
            )
            self._shipper = Shipper(
                self._spool,
                endpoint,
                emit=self._emit_system,
                suppress=self._suppress,
                tell=tell,
                export_canonical=config.export_canonical,
                retention=config.retention,
            )
            self._shipper.start()

    def _wake(self) -> None:
        shipper = self._shipper
        if shipper is not None:
            shipper.wake()

    def _emit_system(self, event: str, attributes: Mapping[str, Value], body: str) -> None:
        recorder = self._recorder
        if recorder is None:
            raise SpoolError("the audit stream has ended")
        recorder.append(system_record(event, now=time.time_ns(), attributes=attributes, body=body))

    def _signer(self, spool: Spool) -> Signer:
        path = self.config.signing_key
        if path is None:
            pem = spool.key(Signer.generate().pem)
            tell(
                f"audit heads are signed by a key made in {spool.root}; evidence needs one kept elsewhere: "
                f"set {PREFIX}SIGNING_KEY to a PEM file",
                once="signing-key",
            )
            return Signer.from_pem(pem)
        try:
            return Signer.from_pem(path.read_bytes())
        except (OSError, KeySourceError) as error:
            raise KeySourceError(f"{PREFIX}SIGNING_KEY: {path} cannot be used ({error})") from error

    def _binding(self) -> dict[str, Value]:
        """What binds a stream's records, in its first one: resource, settings, host and process."""
        return {
            attr.STREAM_RESOURCE: self._resource,
            attr.STREAM_CONFIG: self.config.digest,
            attr.STREAM_EXCLUDED: list(self.config.excluded_paths),
            attr.STREAM_HOST: attr.text(socket.gethostname()),
            attr.STREAM_PID: os.getpid(),
        }

    @cached_property
    def _resource(self) -> str:
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.trace import get_tracer_provider

        resource = getattr(get_tracer_provider(), "resource", None) or Resource.create()
        found = {name: bounded(value) for name, value in resource.attributes.items() if name.isascii()}
        wrapped = {name: wrap(value) for name, value in found.items() if value is not None}
        return orjson.dumps(wrapped, option=orjson.OPT_SORT_KEYS).decode()


def compose(*, suppress: Callable[[], AbstractContextManager[Any]], **settings: Any) -> Pipeline | None:
    """The pipeline of the environment and these settings; None where OTEL_SDK_DISABLED turns all off.

    What is wrong with a setting is told once.
    """
    if sdk_disabled():
        return None
    config, problems = load(**settings)
    for problem in problems:
        tell(str(problem), once=str(problem))
    return Pipeline(config, suppress=suppress)
