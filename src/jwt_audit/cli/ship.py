"""``jwt-audit ship``: the shipper as a process of its own, beside the app."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path

import click
import orjson

from .. import attributes as attr
from ..attributes import Value
from ..config import PREFIX, Config, load
from ..diagnostics import tell
from ..errors import KeySourceError
from ..evidence.canonical import wrap
from ..evidence.record import system_record
from ..evidence.signing import Signer
from ..recorder import Recorder
from ..ship.http import Endpoint
from ..ship.shipper import Shipper
from ..spool.durable import Lock
from ..spool.spool import Spool

STOP_SECONDS = 10.0
"""How long SIGTERM waits for what is under way; what is left stays in the spool."""
_RESOURCE = {"service.name": wrap("jwt-audit-ship")}


@click.command()
@click.argument("spool", type=click.Path(path_type=Path, file_okay=False))
def ship(spool: Path) -> None:
    """Deliver the streams of SPOOL until SIGINT or SIGTERM, with the settings of the app's environment.

    While this runs, the app's processes leave delivery to it: start it before them, or it takes over
    when the process that ships now ends.
    """
    config, problems = load(spool=str(spool))
    for problem in problems:
        tell(str(problem))
    opened = Spool(config.spool)
    recorder = Recorder(
        opened,
        signer=lambda: _signer(config, opened),
        binding=lambda: _binding(config),
        limit=config.spool_limit,
        on_tick=lambda: shipper.wake(),
    )

    def emit(event: str, attributes: Mapping[str, Value], body: str) -> None:
        recorder.append(system_record(event, now=time.time_ns(), attributes=attributes, body=body))

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
    shipper = Shipper(
        opened,
        endpoint,
        emit=emit,
        suppress=nullcontext,
        tell=tell,
        retention=config.retention,
        limit=config.spool_limit,
        export_canonical=config.export_canonical,
    )
    # Waited for, not handled: a handler could interrupt this thread while it holds a lock it needs
    signals = {signal.SIGINT, signal.SIGTERM}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    if Lock.held(config.spool / "ship.lock"):
        tell(f"another process is shipping {config.spool}; this one goes on when that ends")
    shipper.start()
    print(f"shipping {config.spool} to {endpoint.shown}", flush=True)
    signal.sigwait(signals)
    recorder.close()
    left = not shipper.stop(STOP_SECONDS)
    print("stopped; undelivered records wait in the spool" if left else "stopped; all is delivered", flush=True)


def _signer(config: Config, spool: Spool) -> Signer:
    if config.signing_key is None:
        return Signer.from_pem(spool.key(Signer.generate().pem))
    try:
        return Signer.from_pem(config.signing_key.read_bytes())
    except (OSError, KeySourceError) as error:
        raise KeySourceError(f"{PREFIX}SIGNING_KEY: {config.signing_key} cannot be used ({error})") from error


def _binding(config: Config) -> dict[str, Value]:
    return {
        attr.STREAM_RESOURCE: orjson.dumps(_RESOURCE, option=orjson.OPT_SORT_KEYS).decode(),
        attr.STREAM_CONFIG: config.digest,
        attr.STREAM_EXCLUDED: list(config.excluded_paths),
        attr.STREAM_HOST: attr.text(socket.gethostname()),
        attr.STREAM_PID: os.getpid(),
    }
