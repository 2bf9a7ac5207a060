"""``jwt-audit ship``: the shipper as a process of its own, beside the app."""

from __future__ import annotations

import signal
import time
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path

import click
import orjson

from .. import assembly
from ..anyvalue import wrap
from ..diagnostics import warn_operator
from ..errors import SpoolError
from ..recorder import Recorder
from ..settings.config import Config
from ..settings.environment import load
from ..settings.variables import PREFIX
from ..ship.backlog import End, end, passed, undelivered, waiting
from ..ship.shipper import Shipper
from ..ship.turn import Holder, holder
from ..spool.durable import LockState
from ..spool.spool import Spool
from ..spool.stream import Stream
from .output import news
from .places import check_spool, others, spool_argument
from .quantities import counted, size_text
from .watch import Watch, watching

STOP_SECONDS = 10.0
"""How long SIGTERM waits for what is under way; what is left stays in the spool."""
_GRACE_SECONDS = 2.0
"""The same with --once, which has what it came for by then, or knows that it will not get it."""
_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_TURN_SECONDS = 3.0
"""A process of the app gives its turn to a sidecar sooner than that, unless it waits for an answer."""
_IDLE_SECONDS = 60.0
_RESOURCE = orjson.dumps({"service.name": wrap("jwt-audit-ship")}).decode()

_READ = frozenset(
    [
        *("spool", "spool_limit", "retention", "signing_key", "export_canonical"),
        *("endpoint", "protocol", "headers", "certificate", "client_certificate", "client_key"),
        *("timeout", "compression"),
    ]
)
"""The settings that matter here; what is wrong with the others is the app's affair."""


@click.command(short_help="Deliver a spool's records, beside the app.")
@spool_argument
@click.option("--endpoint", metavar="URL", help="Where to send, as it stands (/v1/logs or /v1/audit of a receiver).")
@click.option("--protocol", metavar="NAME", help="http/protobuf or http/json.")
@click.option("--once", is_flag=True, help="Deliver what is there now, and end.")
def ship(spool: Path, endpoint: str | None, protocol: str | None, once: bool) -> None:
    """Deliver the audit records of SPOOL, beside the app, until SIGINT or SIGTERM.

    Settings are the app's own environment variables (OTEL_PYTHON_JWT_AUDIT_ENDPOINT, _HEADERS,
    _CERTIFICATE, _RETENTION and so on, OTEL_EXPORTER_OTLP_… where these are unset); the options win.
    Without SPOOL it is the directory that an app with this environment writes. Headers have no
    option: what is on a command line can be read by everybody on the machine.

    While this runs, the app's processes leave delivery to it, whichever was started first; when it
    ends, by kill -9 too, one of them goes on within seconds. Nothing is lost; after a kill what was
    just being sent may arrive twice, with the same audit.record.id.

    \b
      jwt-audit ship /var/lib/orders/audit
      jwt-audit ship --once --endpoint http://collector:4318 /var/lib/audit

    \b
    Exit status 0  ended by a signal; with --once: all was delivered
                1  it could not be done; with --once: something is left, and why
                2  wrong usage, or a setting that cannot be used
    """
    config = _settings(spool, endpoint=endpoint, protocol=protocol)
    if config.local:
        raise click.UsageError(f"{PREFIX}ENDPOINT is none: nothing is to be delivered; --endpoint URL would")
    if not check_spool(config.spool) and once:
        raise click.ClickException(f"there is no spool at {config.spool}: nothing was ever written there{others()}")
    opened = Spool(config.spool)
    recorder = assembly.recorder(config, opened, resource=lambda: _RESOURCE, on_tick=lambda: shipper.wake())

    watch = Watch()
    shipper = assembly.shipper(
        config,
        opened,
        emit=recorder.state,
        settle=recorder.settle,
        suppress=nullcontext,
        observe=watch.observe,
        sidecar=True,
    )
    # Waited for, not handled: a handler could interrupt this thread while it holds a lock it needs
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    job = _Job(opened, shipper, recorder, watch)
    news(f"shipping {config.spool} to {assembly.endpoint(config).shown}")
    if once:
        job.once()
    else:
        job.until_signal()


def _settings(spool: Path, **options: str | None) -> Config:
    """The settings; what is wrong with one that is read here ends the command, anything else is told."""
    config, problems = load(None, spool=str(spool), **options)
    wrong = []
    for problem in problems:
        own = problem.variable.startswith(PREFIX)
        name = problem.variable.removeprefix(PREFIX).removeprefix("OTEL_EXPORTER_OTLP_").removeprefix("LOGS_").lower()
        if options.get(name) is not None and own:
            raise click.BadParameter(str(problem).removeprefix(f"{problem.variable}: "), param_hint=f"--{name}")
        # What the app's own telemetry is sent to may be a gRPC port: that is a note, another is used
        if name in _READ and (own or name != "endpoint"):
            wrong.append(str(problem))
        else:
            warn_operator(str(problem))
    if wrong:
        raise click.UsageError("\n".join(wrong))
    return config


class _Job:
    """The shipper at work, and what the terminal sees of it."""

    def __init__(self, spool: Spool, shipper: Shipper, recorder: Recorder, watch: Watch) -> None:
        self._spool = spool
        self._shipper = shipper
        self._recorder = recorder
        self._watch = watch
        self._started = time.monotonic()
        self._told_turn = False

    def until_signal(self) -> None:
        self._shipper.start()
        with watching(self._left, self._watch, whole=None):
            while not _signalled():
                self._tell_turn()
        self._recorder.close()
        left = not self._shipper.stop(STOP_SECONDS)
        news("stopped; undelivered records wait in the spool" if left else "stopped; all is delivered")

    def once(self) -> None:
        """Raises ClickException where not all that was there at the start was delivered."""
        marks = {
            stream.id: (stream, stream.writer() is not LockState.FREE, end(stream)) for stream in self._spool.streams()
        }
        refused = _lines(self._spool.root / "dead-letter")
        self._shipper.start()
        with watching(self._left, self._watch, whole=self._left()[0]):
            why = self._wait(marks)
            mine = self._recorder.stream_id
            self._recorder.close()
            # Its own stream has ended: what is refused of it can be stated nowhere, so that is not waited for
            self._shipper.stop(STOP_SECONDS if why is None else _GRACE_SECONDS)
            own = [stream for stream in self._spool.streams() if stream.id == mine]
            whole = all(self._delivered(stream, False, end(stream)) for stream in own)
        set_aside = _lines(self._spool.root / "dead-letter") - refused
        if why is None and set_aside:
            why = f"{set_aside} were refused for good and are in {self._spool.root / 'dead-letter'}"
        if why is None and not whole:
            why = self._shipper.trouble or f"the receiver did not take the stream {mine}, which this command wrote"
        if why is not None:
            size, streams = self._left()
            raise click.ClickException(
                f"not all is delivered: {why}; {self._watch.records} log records were delivered, "
                f"{size_text(size)} in {counted(streams, 'stream')} wait in the spool"
            )
        news(f"all is delivered: {self._watch.records} log records")

    def _wait(self, marks: Mapping[str, tuple[Stream, bool, End]]) -> str | None:
        """Until all up to the marks is delivered: None; else why not."""
        while True:
            if self._shipper.shipping and all(self._delivered(*mark) for mark in marks.values()):
                return None
            if self._shipper.trouble is not None:
                return self._shipper.trouble
            if not self._shipper.shipping and time.monotonic() - self._started > _TURN_SECONDS:
                other = self._other()
                if other is not None and other.role == "sidecar":
                    return f"{other.shown} is shipping this spool"
            idle = time.monotonic() - max(self._watch.last, self._started)
            if idle > _IDLE_SECONDS:
                other = None if self._shipper.shipping else self._other()
                return f"{other.shown} keeps its turn" if other else "nothing went on for a minute"
            if _signalled():
                return "it was told to stop"

    def _delivered(self, stream: Stream, alive: bool, mark: End) -> bool:
        try:
            cursor = self._shipper.cursor(stream)
            return cursor.done or (alive and passed(cursor, mark)) or not undelivered(stream)
        except SpoolError:
            return stream.gone()  # delivered and removed by retention; else it cannot be told yet

    def _left(self) -> tuple[int, int]:
        """Bytes that wait, and in how many streams."""
        found = [_waiting(stream) for stream in self._spool.streams()]
        return sum(found), sum(1 for size in found if size)

    def _other(self) -> Holder | None:
        """Who ships instead of this one, where that can be told."""
        try:
            return holder(self._spool.root)
        except SpoolError:
            return None

    def _tell_turn(self) -> None:
        """Say once whom this one waits for."""
        if self._told_turn or self._shipper.shipping:
            self._told_turn = True
        elif time.monotonic() - self._started > _TURN_SECONDS:
            other = self._other()
            if other is not None:
                self._told_turn = True
                warn_operator(f"{other.shown} is shipping {self._spool.root}; this one goes on when that ends")


def _signalled() -> bool:
    return signal.sigtimedwait(_SIGNALS, 0.2) is not None


def _waiting(stream: Stream) -> int:
    try:
        return waiting(stream, stream.cursor()).bytes
    except SpoolError:
        if stream.gone():
            return 0  # delivered and removed by retention
        raise


def _lines(path: Path) -> int:
    try:
        return path.read_bytes().count(b"\n")
    except FileNotFoundError:
        return 0
