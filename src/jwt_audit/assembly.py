"""How the parts that record and deliver are made from the settings, in the app's process and in the sidecar.

`cryptography` is imported when a stream begins: a process that never serves a request (pip, a shell,
a reloader) needs none of it.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from . import attributes as attr
from .attributes import Value
from .diagnostics import warn_operator
from .errors import KeySourceError
from .losses import Losses
from .recorder import Recorder
from .settings.config import Config
from .settings.variables import PREFIX
from .ship.deadletter import Emit, Settle
from .ship.deliver import Attempt
from .ship.http import Endpoint
from .ship.keeper import Keeper
from .ship.shipper import Shipper
from .spool.spool import Spool

if TYPE_CHECKING:
    from .evidence.signing import Signer

Suppress = Callable[[], AbstractContextManager[Any]]
"""Gives a context in which what is sent makes no spans."""


def recorder(
    config: Config,
    spool: Spool,
    *,
    resource: Callable[[], str],
    on_tick: Callable[[], None],
    strict: bool = False,
    losses: Losses | None = None,
) -> Recorder:
    """The writer of this process's stream. ``resource`` gives its resource when it begins: JSON of wrapped values.

    ``strict`` and ``losses`` are as `Recorder` has them.
    """
    return Recorder(
        spool,
        signer=lambda: _signer(config, spool),
        binding=lambda: _binding(config, resource()),
        limit=config.spool_limit,
        strict=strict,
        losses=losses,
        on_tick=on_tick,
        advice=_advice(config),
    )


def _advice(config: Config) -> str:
    """What helps where the spool is nearly full."""
    if config.local:
        return f"raise {PREFIX}SPOOL_LIMIT or shorten {PREFIX}RETENTION"
    return f"is the receiver reachable? Where there is none, set {PREFIX}ENDPOINT=none: then retention makes room"


def endpoint(config: Config) -> Endpoint:
    """Where records are sent."""
    return Endpoint(
        config.endpoint,
        config.protocol,
        config.headers,
        certificate=config.certificate,
        client_certificate=config.client_certificate,
        client_key=config.client_key,
        timeout=config.timeout,
        gzip=config.gzip,
    )


def delivery(config: Config, spool: Spool, *, emit: Emit, settle: Settle, suppress: Suppress) -> Shipper | Keeper:
    """What looks after the spool in an app's process: delivers it, or with ENDPOINT=none keeps it within its bounds."""
    if config.local:
        limit, retention = config.spool_limit, config.retention
        return Keeper(spool, emit=emit, settle=settle, warn_operator=warn_operator, retention=retention, limit=limit)
    return shipper(config, spool, emit=emit, settle=settle, suppress=suppress)


def shipper(
    config: Config,
    spool: Spool,
    *,
    emit: Emit,
    settle: Settle,
    suppress: Suppress,
    observe: Callable[[Attempt], None] = lambda _: None,
    sidecar: bool = False,
) -> Shipper:
    """What delivers the spool; the arguments are as `Shipper` has them."""
    return Shipper(
        spool,
        endpoint(config),
        emit=emit,
        settle=settle,
        suppress=suppress,
        warn_operator=warn_operator,
        export_canonical=config.export_canonical,
        retention=config.retention,
        limit=config.spool_limit,
        observe=observe,
        sidecar=sidecar,
    )


def _signer(config: Config, spool: Spool) -> Signer:
    from .evidence.signing import Signer

    path = config.signing_key
    if "signing_key" in config.unusable:
        raise KeySourceError(f"{PREFIX}SIGNING_KEY: the file cannot be read")
    if path is None:
        pem = spool.key(Signer.generate().pem)
        warn_operator(
            f"audit heads are signed by a key made in {spool.root}; evidence needs one kept elsewhere: "
            f"set {PREFIX}SIGNING_KEY to a PEM file",
            once="signing-key",
        )
        return Signer.from_pem(pem)
    try:
        return Signer.from_pem(path.read_bytes())
    except (OSError, KeySourceError) as error:
        raise KeySourceError(f"{PREFIX}SIGNING_KEY: {path} cannot be used ({error})") from error


def _binding(config: Config, resource: str) -> dict[str, Value]:
    """What binds a stream's records, in its first one: resource, settings, host and process."""
    kept: dict[str, Value] = {
        attr.STREAM_LOCAL: True,
        attr.STREAM_RETENTION: config.retention,
        attr.STREAM_LIMIT: config.spool_limit,
    }
    return {
        **(kept if config.local else {}),
        attr.STREAM_RESOURCE: resource,
        attr.STREAM_CONFIG: config.digest,
        attr.STREAM_EXCLUDED: list(config.excluded_paths),
        attr.STREAM_EXCLUDED_METHODS: list(config.excluded_methods),
        attr.STREAM_HOST: attr.text(socket.gethostname()),
        attr.STREAM_PID: os.getpid(),
    }
