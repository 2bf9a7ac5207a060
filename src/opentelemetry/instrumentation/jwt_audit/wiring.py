"""How each part is made from the settings. With `pipeline`, the only reader of `Config` in here."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import orjson

from jwt_audit import attributes as attr
from jwt_audit.anyvalue import wrap
from jwt_audit.attributes import Value, bounded
from jwt_audit.config import PREFIX, Config
from jwt_audit.diagnostics import tell
from jwt_audit.errors import KeySourceError
from jwt_audit.identity import Identity
from jwt_audit.losses import Losses
from jwt_audit.observation import Observation
from jwt_audit.recorder import Recorder
from jwt_audit.ship.deadletter import Emit
from jwt_audit.ship.http import Endpoint
from jwt_audit.ship.shipper import Shipper
from jwt_audit.spool.spool import Spool
from jwt_audit.tokens.claims import Claim
from jwt_audit.tokens.extract import Sources
from jwt_audit.tokens.observed import AppTokens, Verification
from jwt_audit.tokens.verify import TokenVerifier

from .identifier import Identifier

if TYPE_CHECKING:
    from jwt_audit.evidence.signing import Signer
    from jwt_audit.tokens.issuers import Issuers

RESOURCE_BYTES = 32 * 1024
"""A longer resource leaves its stream no first record: of such a one the service alone is kept."""

Suppress = Callable[[], AbstractContextManager[Any]]
"""Gives a context in which what is sent makes no spans."""


def identifier(config: Config, suppress: Suppress) -> Identifier:
    """What finds who makes a request: by the configured keys, else by the app's own verification.

    With wrong settings neither counts: they may have been meant to forbid it.
    """
    issuers = _issuers(config, suppress) if config.issuers and config.token_settings_ok else None
    sources = Sources(dict.fromkeys((*config.sources, *(() if issuers is None else issuers.token_sources))))
    if issuers is None:
        return Identifier(sources, None, Observation(_app_tokens(config).judge) if config.token_settings_ok else None)
    verifier = TokenVerifier(issuers, now=time.time, privacy=config.privacy)

    def chosen(seen: Verification) -> Identity | None:
        """Our verdict on a token that the app has accepted, where the request shows us none or several."""
        return verifier.verify(seen.token) if seen.reason is None and seen.signed else None

    return Identifier(sources, verifier, Observation(chosen))


def _issuers(config: Config, suppress: Suppress) -> Issuers | None:
    # With `cryptography`, for which a process without keys of ours should not wait at its start
    from jwt_audit.tokens.issuers import KeyRing, make_issuers

    return make_issuers(config.issuers, KeyRing(suppress=suppress, tell=tell, http_hosts=config.http_hosts), tell)


def _app_tokens(config: Config) -> AppTokens:
    return AppTokens(
        now=time.time,
        leeway=config.leeway,
        subject=map(Claim.named, config.subject_claim),
        session=map(Claim.named, config.session_claim),
        mapping=((Claim.named(name), attribute) for name, attribute in config.claims),
        issuer=config.issuer,
        audience=config.audience,
        algorithms=config.algorithms,
        typ=config.typ,
        privacy=config.privacy,
    )


def recorder(config: Config, spool: Spool, losses: Losses, on_tick: Callable[[], None]) -> Recorder:
    """The writer of this process's stream; ``losses`` is what was lost before there was one."""
    return Recorder(
        spool,
        signer=lambda: _signer(config, spool),
        binding=lambda: _binding(config),
        limit=config.spool_limit,
        strict=config.fail_mode == "closed",
        losses=losses,
        on_tick=on_tick,
    )


def shipper(config: Config, spool: Spool, emit: Emit, suppress: Suppress) -> Shipper:
    """What delivers the spool; ``emit`` writes its statements into this process's stream."""
    endpoint = Endpoint(
        config.endpoint,
        config.protocol,
        config.headers,
        certificate=config.certificate,
        client_certificate=config.client_certificate,
        client_key=config.client_key,
        timeout=config.timeout,
        gzip=config.gzip,
    )
    return Shipper(
        spool,
        endpoint,
        emit=emit,
        suppress=suppress,
        tell=tell,
        export_canonical=config.export_canonical,
        retention=config.retention,
        limit=config.spool_limit,
    )


def _signer(config: Config, spool: Spool) -> Signer:
    # With `cryptography`: a process that never serves a request (pip, a shell, a reloader) needs none of it
    from jwt_audit.evidence.signing import Signer

    path = config.signing_key
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


def _binding(config: Config) -> dict[str, Value]:
    """What binds a stream's records, in its first one: resource, settings, host and process."""
    return {
        attr.STREAM_RESOURCE: _resource(),
        attr.STREAM_CONFIG: config.digest,
        attr.STREAM_EXCLUDED: list(config.excluded_paths),
        attr.STREAM_HOST: attr.text(socket.gethostname()),
        attr.STREAM_PID: os.getpid(),
    }


def _resource() -> str:
    """The resource of the app's telemetry, asked for when a stream begins: the app may set it up after us."""
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.trace import get_tracer_provider

    resource = getattr(get_tracer_provider(), "resource", None)
    if not isinstance(resource, Resource):  # no provider yet, or a foreign one
        resource = Resource.create()
    found = {name: bounded(value) for name, value in resource.attributes.items() if name.isascii()}
    wrapped = {name: wrap(value) for name, value in found.items() if value is not None}
    shown = orjson.dumps(wrapped, option=orjson.OPT_SORT_KEYS)
    if len(shown) > RESOURCE_BYTES:
        service = {name: value for name, value in wrapped.items() if name.startswith("service.")}
        shown = orjson.dumps(service, option=orjson.OPT_SORT_KEYS)
    return shown.decode()
