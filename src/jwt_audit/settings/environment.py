"""Reads the settings: from the environment, once, and from keyword arguments.

This module alone reads ``os.environ``. A wrong value never raises out of `load`: the app must start
all the same. It is reported once with the variable's full name and what would be right, and the
setting falls back to the safe side, never to a weaker default: with a wrong token setting no token is verified,
with a wrong signing key no record is written, with a wrong certificate none is sent.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ..errors import ConfigError, KeySourceError
from ..identity.privacy import MIN_KEY, RAW_EVERYWHERE, Policy, Privacy
from ..identity.pseudonym_key import read_key
from . import parsers
from .config import ISSUER_SETTINGS, SETTINGS, UNSENT, Config
from .default_spool import default_spool, spool_parents
from .issuer import VARIABLES, IssuerSettings
from .parsers import WrongValueError
from .trusted_issuers import trusted_issuers
from .variables import PREFIX

_DEFAULT_ENDPOINT = "http://localhost:4318/v1/logs"


def load(environ: Mapping[str, str] | None = None, **arguments: Any) -> tuple[Config, list[ConfigError]]:
    """The settings of the environment and of keyword arguments (these win), and what was wrong.

    An unknown variable with our prefix and an unknown keyword are reported too: a misspelt setting
    must not be ignored in silence. An empty variable counts as unset (OpenTelemetry's rule).
    """
    environ = os.environ if environ is None else environ
    reading = _Reading()
    for name, (variable, text) in _written(environ, arguments).items():
        reading.parse(name, variable, text)
    notes: tuple[str, ...] = ()
    if "spool" not in reading.values:
        reading.values["spool"], notes = default_spool(environ)
    if "endpoint" not in reading.values:
        reading.values["endpoint"] = _inherited_endpoint(environ, reading)
    config = replace(reading.config(), notes=notes)
    issuers, issuers_ok = trusted_issuers(config, reading.problems)
    privacy = _privacy(config, reading.problems)
    ok = config.token_settings_ok and issuers_ok
    return replace(config, issuers=issuers, token_settings_ok=ok, privacy=privacy), reading.problems


def default_spool_parents() -> list[Path]:
    """The directories below which there is a spool for each service whose settings name none."""
    return list(spool_parents(os.environ))


def sdk_disabled(environ: Mapping[str, str] | None = None) -> bool:
    """Whether OTEL_SDK_DISABLED turns all telemetry off."""
    environ = os.environ if environ is None else environ
    return environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"


class _Reading:
    """The values by the names of their settings, what was wrong, and the settings whose values cannot be used."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self.problems: list[ConfigError] = []
        self.unusable: set[str] = set()

    def parse(self, name: str, variable: str, text: Any) -> None:
        """Take one value, or say what is wrong with it."""
        setting = SETTINGS.get(name)
        if setting is None:
            remedy = f"the settings are {', '.join(sorted(SETTINGS)).upper()}"
            self.problems.append(ConfigError(variable, "no such setting", remedy))
            return
        try:
            self.values[name] = setting.parse(text)
        except Exception as error:  # of whatever kind: the app must start
            problem, remedy = "a value of the wrong type", "see the documentation"
            if isinstance(error, WrongValueError):
                problem, remedy = error.problem, error.remedy
            if setting.until_fixed:
                remedy += f"; until then {setting.until_fixed}"
            if setting.fallback is not None:
                self.values[name] = setting.fallback
            self.unusable.add(name)
            self.problems.append(ConfigError(variable, problem, remedy))

    def config(self) -> Config:
        """The settings as they were written."""
        of_issuer: dict[str, Any] = {}
        others: dict[str, Any] = {}
        for name, value in self.values.items():
            (of_issuer if name in ISSUER_SETTINGS else others)[SETTINGS[name].field] = value
        return Config(
            **others,
            env_issuer=IssuerSettings(VARIABLES, **of_issuer),
            token_settings_ok=not any(name in SETTINGS and SETTINGS[name].about_tokens for name in self.unusable),
            unusable=tuple(sorted(self.unusable)),
        )


def _written(environ: Mapping[str, str], arguments: Mapping[str, Any]) -> dict[str, tuple[str, Any]]:
    """What the operator wrote for each setting, and in which variable; what comes last counts."""
    written: dict[str, tuple[str, Any]] = {}
    for name, setting in SETTINGS.items():
        for variable in (f"OTEL_EXPORTER_OTLP_{setting.otlp}", f"OTEL_EXPORTER_OTLP_LOGS_{setting.otlp}"):
            if setting.otlp and environ.get(variable, "").strip():
                written[name] = (variable, environ[variable])
    for variable, text in environ.items():
        if variable.startswith(PREFIX) and text.strip():
            written[variable.removeprefix(PREFIX).lower()] = (variable, text)
    for name, value in arguments.items():
        if value is not None:
            written[name] = (f"{PREFIX}{name.upper()}", value)
    return written


def _inherited_endpoint(environ: Mapping[str, str], reading: _Reading) -> str:
    """Where the app's own logs go by the OTLP variables (OpenTelemetry protocol exporter specification).

    The distro sets the protocol to gRPC and people set ``:4317``; until audit records travel by gRPC
    the same host's 4318 is used, and a warning says so once. Where our own variable has an unusable value nothing
    is sent, so there is nothing to say of the inherited one.
    """
    logs = environ.get("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", "").strip()
    base = environ.get("OTEL_EXPORTER_OTLP_ENDPOINT", "").strip()
    url = logs or (f"{base.rstrip('/')}/v1/logs" if base else _DEFAULT_ENDPOINT)
    variable = "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT" if logs else "OTEL_EXPORTER_OTLP_ENDPOINT"
    own_is_wrong = "endpoint" in reading.unusable
    try:
        parts = urlsplit(parsers.http_url(url))
    except WrongValueError as error:
        if not own_is_wrong:
            reading.problems.append(ConfigError(variable, error.problem, f"{error.remedy}; until then {UNSENT}"))
            reading.unusable.add("endpoint")
        return _DEFAULT_ENDPOINT
    if parts.port != 4317:
        return url
    replaced = parts._replace(netloc=f"{parts.netloc.rpartition(':')[0]}:4318", path="/v1/logs").geturl()
    if not own_is_wrong:
        problem = "audit records are sent over HTTP, and port 4317 is for gRPC"
        remedy = f"using {replaced}; set {PREFIX}ENDPOINT to choose"
        reading.problems.append(ConfigError(variable, problem, remedy))
    return replaced


def _privacy(config: Config, problems: list[ConfigError]) -> Privacy:
    """What is shown of people. Without a usable key there are no pseudonyms: then nothing is shown, not everything."""
    policies = [Policy(word) for word in config.pii]
    pseudonyms = None
    needs_key = Policy.PSEUDONYM in policies or config.token_fingerprint
    try:
        if config.pseudonym_key_file is not None:
            pseudonyms = read_key(config.pseudonym_key_file)
        elif needs_key:
            raise KeySourceError("is not set, and pseudonyms and fingerprints need a key")
    except (OSError, KeySourceError) as error:
        problem = f"cannot be read ({error.strerror})" if isinstance(error, OSError) else str(error)
        remedy = f"name a file with {MIN_KEY} random bytes or more; until then what needs the key is left out"
        problems.append(ConfigError(f"{PREFIX}PSEUDONYM_KEY_FILE", problem, remedy))
        policies = [Policy.OFF if policy is Policy.PSEUDONYM else policy for policy in policies]
    if policies == [Policy.RAW] * 3 and not config.token_fingerprint:
        return RAW_EVERYWHERE
    spans, logs, audit = policies
    return Privacy(spans, logs, audit, pseudonyms, config.token_fingerprint)
