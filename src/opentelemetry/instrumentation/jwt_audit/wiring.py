"""Builds the parts that only the app needs from Config: what identifies requests, the resource of its telemetry."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

import orjson

from jwt_audit.anyvalue import wrap
from jwt_audit.assembly import Suppress
from jwt_audit.attributes import bounded
from jwt_audit.diagnostics import warn_operator
from jwt_audit.identity.caller import Identity
from jwt_audit.identity.privacy import Privacy
from jwt_audit.identity.pseudonym_key import PseudonymKeyFile
from jwt_audit.settings.config import Config
from jwt_audit.settings.variables import PREFIX
from jwt_audit.tokens.extract import Sources
from jwt_audit.tokens.observation import Observation
from jwt_audit.tokens.observed import AppTokens, Verification
from jwt_audit.tokens.verify import TokenVerifier

from .identifier import Identifier

if TYPE_CHECKING:
    from jwt_audit.tokens.issuers import Issuers

RESOURCE_BYTES = 32 * 1024
"""Of a larger resource only ``service.*`` is kept: a stream's first record has to hold it."""


def identifier(config: Config, suppress: Suppress) -> Identifier:
    """Identifies requests by the configured keys, else by the app's own verification.

    With invalid settings neither counts: they may have been meant to forbid it.
    """
    issuers = _issuers(config, suppress) if config.issuers and config.token_settings_ok else None
    sources = Sources((*config.sources, *(() if issuers is None else issuers.token_sources)))
    if issuers is None:
        if not config.token_settings_ok:
            return Identifier(sources, None, None)
        tokens = AppTokens(config.env_issuer, now=time.time, privacy=_privacy(config))
        return Identifier(sources, None, Observation(tokens.judge, sources))
    verifier = TokenVerifier(issuers, now=time.time, privacy=_privacy(config))

    def chosen(seen: Verification) -> Identity | None:
        """Our verdict on a token that the app has accepted, where the request shows us none or several."""
        return verifier.verify(seen.token, seen.source) if seen.reason is None and seen.signed else None

    return Identifier(sources, verifier, Observation(chosen, sources))


def _issuers(config: Config, suppress: Suppress) -> Issuers | None:
    # Loads `cryptography`, for which a process without configured keys should not wait at its start
    from jwt_audit.tokens.issuers import KeyRing, make_issuers

    return make_issuers(
        config.issuers,
        KeyRing(suppress=suppress, warn_operator=warn_operator, http_hosts=config.http_hosts),
        warn_operator,
    )


def _privacy(config: Config) -> Privacy:
    """What each signal shows of people; pseudonyms are made with the key that is in the file at that time."""
    path, first = config.pseudonym_key_file, config.privacy.pseudonyms
    if path is None or first is None:
        return config.privacy
    live = PseudonymKeyFile(path, first, lambda message: warn_operator(f"{PREFIX}PSEUDONYM_KEY_FILE: {message}"))
    return replace(config.privacy, current=live)


def resource() -> str:
    """The app's resource, JSON of wrapped values. Read when a stream begins, since the app may set it late."""
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.trace import get_tracer_provider

    resource = getattr(get_tracer_provider(), "resource", None)
    if not isinstance(resource, Resource):  # no provider yet, or a foreign one
        resource = Resource.create()
    attributes = {name: bounded(value) for name, value in resource.attributes.items() if name.isascii()}
    wrapped = {name: wrap(value) for name, value in attributes.items() if value is not None}
    shown = orjson.dumps(wrapped, option=orjson.OPT_SORT_KEYS)
    if len(shown) > RESOURCE_BYTES:
        service = {name: value for name, value in wrapped.items() if name.startswith("service.")}
        shown = orjson.dumps(service, option=orjson.OPT_SORT_KEYS)
    return shown.decode()
