"""Reads the settings: from the environment, once, and from keyword arguments.

This module alone reads ``os.environ``. A wrong value never raises out of `load`: the app must start
all the same. It is reported once with the variable's full name and what would be right, and the
setting falls back to the safe side, never to a weaker default: with a wrong token setting no token is verified,
with a wrong signing key no record is written, with a wrong certificate none is sent.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ..errors import ConfigError, KeySourceError
from ..identity.privacy import MIN_KEY, Policy, Privacy
from ..identity.pseudonym_key import read_key
from . import parsers
from .config import UNSENT, Config
from .default_spool import default_spool, places
from .issuer import VARIABLES, IssuerSettings, discovery_url
from .issuer_file import read_issuers
from .parsers import WrongValueError
from .variables import PREFIX


def load(environ: Mapping[str, str] | None = None, **overrides: Any) -> tuple[Config, list[ConfigError]]:
    """The settings of the environment and of keyword arguments (these win), and what was wrong.

    An unknown variable with our prefix and an unknown keyword are reported too: a misspelt setting
    must not be ignored in silence. An empty variable is an unset one (OpenTelemetry's rule).
    """
    environ = os.environ if environ is None else environ
    problems: list[ConfigError] = []
    found: dict[str, Any] = {}
    unusable: set[str] = set()
    known = {f.name: f for f in fields(Config) if f.metadata}
    given: dict[str, tuple[str, Any]] = {}
    for name, setting in known.items():
        suffix = setting.metadata["otlp"]
        for variable in (f"OTEL_EXPORTER_OTLP_{suffix}", f"OTEL_EXPORTER_OTLP_LOGS_{suffix}"):
            if suffix and environ.get(variable, "").strip():
                given[name] = (variable, environ[variable])
    for variable, value in environ.items():
        if variable.startswith(PREFIX) and value.strip():
            given[variable.removeprefix(PREFIX).lower()] = (variable, value)
    given.update({name: (f"{PREFIX}{name.upper()}", value) for name, value in overrides.items() if value is not None})
    for name, (variable, value) in given.items():
        if name not in known:
            remedy = f"the settings are {', '.join(sorted(known)).upper()}"
            problems.append(ConfigError(variable, "no such setting", remedy))
            continue
        try:
            found[name] = known[name].metadata["parse"](value)
        except Exception as error:  # of whatever kind: the app must start
            problem, remedy = "a value of the wrong type", "see the documentation"
            if isinstance(error, WrongValueError):
                problem, remedy = error.problem, error.remedy
            unusable.add(name)
            if known[name].metadata["token"]:
                found["token_settings_ok"] = False
            if known[name].metadata["meanwhile"]:
                remedy += f"; until then {known[name].metadata['meanwhile']}"
            if known[name].metadata["wrong"] is not None:
                found[name] = known[name].metadata["wrong"]
            problems.append(ConfigError(variable, problem, remedy))
    if "spool" not in found:
        found["spool"], found["notes"] = default_spool(environ)
    if "endpoint" not in found:
        found["endpoint"], notes, usable = _inherited_endpoint(environ)
        if "endpoint" not in unusable:  # else it is not used, and nothing is to be told of it
            problems.extend(notes)
            if not usable:
                unusable.add("endpoint")
    found["unusable"] = tuple(sorted(unusable))
    return _private(_with_issuers(Config(**found), problems), problems), problems


def default_spools() -> list[Path]:
    """The directories below which spools are that no setting named, one a service."""
    return list(places(os.environ))


def _with_issuers(config: Config, problems: list[ConfigError]) -> Config:
    """Who may sign: what the variables describe, and each table of the file."""

    def wrong(variable: str, problem: str, remedy: str) -> None:
        problems.append(ConfigError(f"{PREFIX}{variable}", problem, f"{remedy}; until then no token is verified"))

    base = IssuerSettings(
        name=VARIABLES,
        leeway=config.leeway,
        subject=config.subject_claim,
        session=config.session_claim,
        claims=config.claims,
    )
    tables: list[IssuerSettings] = []
    try:
        if config.jwks or config.discovery or config.public_key or config.secret_file:
            tables.append(_single(config, base))
    except WrongValueError as error:
        wrong("JWKS" if config.jwks else "DISCOVERY", error.problem, error.remedy)
        return replace(config, token_settings_ok=False)
    if config.issuers_file is None:
        return replace(config, issuers=tuple(tables))
    if not tables and (config.issuer or config.audience or config.algorithms or config.typ):
        problem = "ISSUER, AUDIENCE, ALGORITHMS and TYP belong to the keys of the variables, and there are none"
        wrong("ISSUERS_FILE", problem, "say so in the tables of the file")
        return replace(config, token_settings_ok=False)
    read = read_issuers(config.issuers_file, base, tables, config.http_hosts)
    for problem, remedy in read.problems:
        meanwhile = "its tokens stay unverified" if read.readable else "no token is verified"
        problems.append(ConfigError(f"{PREFIX}ISSUERS_FILE", problem, f"{remedy}; until then {meanwhile}"))
    ok = config.token_settings_ok and read.readable
    return replace(config, issuers=(*tables, *read.tables), token_settings_ok=ok)


def _single(config: Config, base: IssuerSettings) -> IssuerSettings:
    """The issuer of the variables. Raises WrongValueError."""
    found = config.discovery
    if found == "true" and config.issuer is None:
        raise WrongValueError("it is not known whose metadata to read", f"set {PREFIX}ISSUER")
    if found is not None:
        found = parsers.http_url(discovery_url(config.issuer, found))
    for url in (config.jwks, found):
        if url is not None and "://" in url:
            parsers.plain_http(url, config.http_hosts)
    return replace(
        base,
        issuer=config.issuer,
        jwks=config.jwks,
        discovery=found,
        public_key=config.public_key,
        secret_file=config.secret_file,
        audience=config.audience,
        algorithms=config.algorithms,
        typ=config.typ,
        tenant="{tenantid}" in (config.issuer or ""),
    )


def _private(config: Config, problems: list[ConfigError]) -> Config:
    """What is shown of people. Without a usable key there are no pseudonyms: then nothing is shown, not everything."""
    policies = [Policy(word) for word in config.pii]
    pseudonyms = None
    wanted = Policy.PSEUDONYM in policies or config.token_fingerprint
    try:
        if config.pseudonym_key_file is not None:
            pseudonyms = read_key(config.pseudonym_key_file)
        elif wanted:
            raise KeySourceError("is not set, and pseudonyms and fingerprints need a key")
    except (OSError, KeySourceError) as error:
        problem = f"cannot be read ({error.strerror})" if isinstance(error, OSError) else str(error)
        remedy = f"name a file with {MIN_KEY} random bytes or more; until then what needs the key is left out"
        problems.append(ConfigError(f"{PREFIX}PSEUDONYM_KEY_FILE", problem, remedy))
        policies = [Policy.OFF if policy is Policy.PSEUDONYM else policy for policy in policies]
    if policies == [Policy.RAW] * 3 and not config.token_fingerprint:
        return config
    spans, logs, audit = policies
    return replace(config, privacy=Privacy(spans, logs, audit, pseudonyms, config.token_fingerprint))


def _inherited_endpoint(environ: Mapping[str, str]) -> tuple[str, list[ConfigError], bool]:
    """Where the app's own logs go by the OTLP variables (OpenTelemetry protocol exporter specification).

    Also what is to be told of that, and whether it can be used.

    The distro sets the protocol to gRPC and people set ``:4317``; until audit records travel by gRPC
    the same host's 4318 is used, and said so once.
    """
    logs = environ.get("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", "").strip()
    base = environ.get("OTEL_EXPORTER_OTLP_ENDPOINT", "").strip()
    url = logs or (f"{base.rstrip('/')}/v1/logs" if base else "http://localhost:4318/v1/logs")
    variable = "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT" if logs else "OTEL_EXPORTER_OTLP_ENDPOINT"
    try:
        parts = urlsplit(parsers.http_url(url))
    except WrongValueError as error:
        told = ConfigError(variable, error.problem, f"{error.remedy}; until then {UNSENT}")
        return "http://localhost:4318/v1/logs", [told], False
    if parts.port != 4317:
        return url, [], True
    replaced = parts._replace(netloc=f"{parts.netloc.rpartition(':')[0]}:4318", path="/v1/logs").geturl()
    problem = "audit records travel by HTTP, port 4317 is gRPC's"
    return replaced, [ConfigError(variable, problem, f"using {replaced}; set {PREFIX}ENDPOINT to choose")], True


def sdk_disabled(environ: Mapping[str, str] | None = None) -> bool:
    """Whether OTEL_SDK_DISABLED turns all telemetry off."""
    environ = os.environ if environ is None else environ
    return environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"
