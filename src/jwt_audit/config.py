"""The settings: one frozen dataclass, read once from the environment and keyword arguments.

This module alone reads ``os.environ``. A wrong value never raises out of `load`: the app must start
all the same. It is reported once with the variable's full name and what would be right, and the
setting falls back to the safe side: with a wrong token setting no token is verified, never more.
"""

from __future__ import annotations

import hashlib
import ipaddress
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import orjson

from . import attributes as attr
from .errors import ConfigError

PREFIX = "OTEL_PYTHON_JWT_AUDIT_"

ALGORITHMS = (
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512",
    "ES256", "ES256K", "ES384", "ES512", "EdDSA", "HS256", "HS384", "HS512",
)  # fmt: skip
"""What may stand in ALGORITHMS (RFC 7518, RFC 8037, RFC 8812); ``none`` is not among them."""

_RESERVED = frozenset(value for name, value in vars(attr).items() if name.isupper() and isinstance(value, str))


class _WrongValueError(ValueError):
    """A value that cannot be used: what is wrong, what would be right."""

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(problem)
        self.problem, self.remedy = problem, remedy


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise _WrongValueError(f"{type(value).__name__} is not text", "give a string")
    return value.strip()


def _list(value: Any) -> tuple[str, ...]:
    items = value.split(",") if isinstance(value, str) else [_text(item) for item in value]
    return tuple(item.strip() for item in items if item.strip())


def _existing_file(value: Any) -> Path:
    path = Path(value).expanduser()
    try:
        with path.open("rb"):
            return path
    except OSError as error:
        raise _WrongValueError(
            f"cannot read {path} ({error.strerror})", "name a file that this process may read"
        ) from error


def _directory(value: Any) -> Path:
    return Path(value).expanduser().absolute()


def _one_of(*words: str) -> Callable[[Any], str]:
    def parse(value: Any) -> str:
        if value not in words:
            raise _WrongValueError(f"{value!r} is not a choice", f"use one of {', '.join(words)}")
        return str(value)

    return parse


def _algorithms(value: Any) -> tuple[str, ...]:
    names = _list(value)
    for name in names:
        if name not in ALGORITHMS:
            raise _WrongValueError(
                f"{name!r} is not an algorithm to verify with", f"use names of {', '.join(ALGORITHMS)}"
            )
    if any(name.startswith("HS") for name in names) and not all(name.startswith("HS") for name in names):
        raise _WrongValueError(
            "symmetric and asymmetric algorithms together invite key confusion (RFC 8725, 3.1)",
            "list HS* alone with SECRET_FILE, or the others alone with a public key",
        )
    return names


def _jwks(value: Any) -> str:
    source = _text(value)
    if "://" not in source:
        return str(_existing_file(source))
    url = http_url(source)
    host = urlsplit(url).hostname or ""
    if url.startswith("http:") and not is_loopback(host):
        raise _WrongValueError(
            "keys fetched over plain http can be replaced on the way", "use https (http only for loopback)"
        )
    return url


def is_loopback(host: str) -> bool:
    """Whether a URL's host name is this machine itself."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"  # any other name, 127.0.0.1.example.com among them, may lead anywhere


def http_url(value: Any) -> str:
    """``value`` as an absolute http(s) URL without user, password or fragment."""
    url = _text(value)
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise _WrongValueError(f"{url[:80]!r} is no URL", "give one such as http://127.0.0.1:4318/v1/audit")
    if parts.username or parts.password:
        raise _WrongValueError("a URL with credentials in it would be logged", "put them into HEADERS")
    return url


def _pairs(value: Any) -> tuple[tuple[str, str], ...]:
    if isinstance(value, Mapping):
        return tuple((_text(name), _text(item)) for name, item in value.items())
    pairs = []
    for item in _list(value):
        # A claim's name may be a URL that holds "=": the attribute's name never does, so split at the last.
        name, equals, mapped = item.rpartition("=")
        if not equals or not name.strip() or not mapped.strip():
            raise _WrongValueError(f"{item[:40]!r} is no pair", "write name=value,name=value")
        pairs.append((name.strip(), mapped.strip()))
    return tuple(pairs)


def _claims(value: Any) -> tuple[tuple[str, str], ...]:
    pairs = _pairs(value)
    for _, name in pairs:
        if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_.\-]{0,127}", name):
            raise _WrongValueError(f"{name[:40]!r} is no attribute name", "use ASCII letters, digits, '.', '_', '-'")
        if name != attr.USER_ROLES and (name in _RESERVED or name.startswith(("audit.", "jwt."))):
            raise _WrongValueError(f"the attribute {name} has a fixed meaning", "map the claim to another name")
    return pairs


def _headers(value: Any) -> tuple[tuple[str, str], ...]:
    # The OTLP exporter specification: W3C baggage's key=value,… with values percent-encoded.
    if isinstance(value, Mapping):
        pairs = _pairs(value)
    else:
        split = [item.partition("=") for item in _list(value)]
        if any(not equals or not name.strip() for name, equals, _ in split):
            raise _WrongValueError(
                "an entry is no pair", "write name=value,name=value"
            )  # never shows the value: a secret
        pairs = tuple((name.strip(), unquote(item.strip())) for name, _, item in split)
    for name, item in pairs:
        if not re.fullmatch(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+", name) or re.search(r"[\r\n\0]", item):
            raise _WrongValueError("an entry is no HTTP header", "write name=value,name=value")
    return pairs


def _paths(value: Any) -> tuple[str, ...]:
    paths = _list(value)
    for path in paths:
        if not path.startswith("/") or "*" in path.removesuffix("/*"):
            raise _WrongValueError(f"{path[:40]!r} is no path rule", "write /exact/path or /prefix/*")
    return paths


def _flag(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    word = str(value).strip().lower()
    if word not in ("true", "false", "1", "0"):
        raise _WrongValueError(f"{word[:20]!r} is neither true nor false", "use true or false")
    return word in ("true", "1")


def _scaled(units: Mapping[str, int], example: str) -> Callable[[Any], int]:
    def parse(value: Any) -> int:
        match = re.fullmatch(r"(\d{1,15})\s*([A-Za-z]*)", str(value).strip())
        if not match or match[2] not in units:
            raise _WrongValueError(f"{str(value)[:20]!r} is no quantity", f"write a number such as {example}")
        return int(match[1]) * units[match[2]]

    return parse


_seconds = _scaled({"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}, "7d, 12h or 90s")
_bytes = _scaled({"": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}, "512MiB or 2GiB")


def _timeout(value: Any) -> float:
    # The SDK reads OTEL_EXPORTER_OTLP_TIMEOUT as seconds, a fraction allowed.
    try:
        seconds = float(value)
    except ValueError:
        seconds = -1.0
    if not 0 < seconds <= 600:
        raise _WrongValueError(f"{str(value)[:20]!r} is no time", "write seconds from above 0 up to 600")
    return seconds


def _default_spool(environ: Mapping[str, str]) -> Path:
    """``$XDG_STATE_HOME/jwt-audit/<service>``; the service as OTEL_SERVICE_NAME or the resource says."""
    service = environ.get("OTEL_SERVICE_NAME") or ""
    for item in environ.get("OTEL_RESOURCE_ATTRIBUTES", "").split(","):
        name, _, value = item.partition("=")
        if not service and name.strip() == "service.name":
            service = unquote(value.strip())
    state = environ.get("XDG_STATE_HOME") or ""
    base = Path(state) if state.startswith("/") else Path.home() / ".local" / "state"
    return base / "jwt-audit" / (re.sub(r"[^A-Za-z0-9_.\-]", "_", service).strip(".") or "unknown_service")


def _setting(parse: Callable[[Any], Any], default: Any = None, *, token: bool = False, otlp: str = "") -> Any:
    return field(default=default, metadata={"parse": parse, "token": token, "otlp": otlp})


@dataclass(frozen=True)
class Config:
    """Every setting; the variable is ``OTEL_PYTHON_JWT_AUDIT_`` and the name in capitals.

    Sizes are bytes, times seconds. Where the OTLP exporter has a variable of the same meaning, it is
    the default (``OTEL_EXPORTER_OTLP_LOGS_…`` before ``OTEL_EXPORTER_OTLP_…``): audit records go where
    the app's logs go, unless told otherwise. ``token_settings_ok`` is False when a token setting was wrong:
    then no token is verified, since half a configuration could accept more than was meant.
    """

    jwks: str | None = _setting(_jwks, token=True)
    public_key: Path | None = _setting(_existing_file, token=True)
    secret_file: Path | None = _setting(_existing_file, token=True)
    issuer: str | None = _setting(_text, token=True)
    audience: tuple[str, ...] = _setting(_list, (), token=True)
    algorithms: tuple[str, ...] = _setting(_algorithms, (), token=True)
    leeway: int = _setting(_seconds, 10, token=True)
    subject_claim: tuple[str, ...] = _setting(_list, ("sub", "user_id"), token=True)
    session_claim: tuple[str, ...] = _setting(_list, ("sid", "session_id", "session_state", "jti"), token=True)
    claims: tuple[tuple[str, str], ...] = _setting(_claims, ())
    excluded_paths: tuple[str, ...] = _setting(_paths, ())
    spool: Path = _setting(_directory, Path())
    spool_limit: int = _setting(_bytes, 2**30)
    retention: int = _setting(_seconds, 7 * 86400)
    endpoint: str = _setting(http_url, "")
    protocol: str = _setting(_one_of("http/protobuf", "http/json"), "http/protobuf")
    headers: tuple[tuple[str, str], ...] = _setting(_headers, (), otlp="HEADERS")
    certificate: Path | None = _setting(_existing_file, otlp="CERTIFICATE")
    client_certificate: Path | None = _setting(_existing_file, otlp="CLIENT_CERTIFICATE")
    client_key: Path | None = _setting(_existing_file, otlp="CLIENT_KEY")
    timeout: float = _setting(_timeout, 10.0, otlp="TIMEOUT")
    compression: str = _setting(_one_of("gzip", "none"), "gzip", otlp="COMPRESSION")
    signing_key: Path | None = _setting(_existing_file)
    export_canonical: bool = _setting(_flag, True)
    fail_mode: str = _setting(_one_of("open", "closed"), "open")
    durability: str = _setting(_one_of("process", "disk"), "process")
    token_settings_ok: bool = True

    @property
    def digest(self) -> str:
        """SHA-256 over all settings but the headers' values (secrets): it binds a stream to them."""
        shown = {f.name: str(getattr(self, f.name)) for f in fields(self) if f.name != "headers"}
        shown["headers"] = ",".join(name for name, _ in self.headers)
        return hashlib.sha256(orjson.dumps(shown, option=orjson.OPT_SORT_KEYS)).hexdigest()


def load(environ: Mapping[str, str] | None = None, **overrides: Any) -> tuple[Config, list[ConfigError]]:
    """The settings of the environment and of keyword arguments (these win), and what was wrong.

    An unknown variable with our prefix and an unknown keyword are reported too: a misspelt setting
    must not be ignored in silence. An empty variable is an unset one (OpenTelemetry's rule).
    """
    environ = os.environ if environ is None else environ
    problems: list[ConfigError] = []
    values: dict[str, Any] = {}
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
            values[name] = known[name].metadata["parse"](value)
        except (_WrongValueError, TypeError) as error:
            problem, remedy = "a value of the wrong type", "see the documentation"
            if isinstance(error, _WrongValueError):
                problem, remedy = error.problem, error.remedy
            if known[name].metadata["token"]:
                values["token_settings_ok"] = False
                remedy += "; until then no token is verified"
            problems.append(ConfigError(variable, problem, remedy))
    values.setdefault("spool", _default_spool(environ))
    if "endpoint" not in values:
        values["endpoint"], notes = _inherited_endpoint(environ)
        problems.extend(notes)
    return Config(**values), problems


def _inherited_endpoint(environ: Mapping[str, str]) -> tuple[str, list[ConfigError]]:
    """Where the app's own logs go by the OTLP variables (OpenTelemetry protocol exporter specification).

    The distro sets the protocol to gRPC and people set ``:4317``; until audit records travel by gRPC
    the same host's 4318 is used, and said so once.
    """
    logs = environ.get("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", "").strip()
    base = environ.get("OTEL_EXPORTER_OTLP_ENDPOINT", "").strip()
    url = logs or (f"{base.rstrip('/')}/v1/logs" if base else "http://localhost:4318/v1/logs")
    variable = "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT" if logs else "OTEL_EXPORTER_OTLP_ENDPOINT"
    try:
        parts = urlsplit(http_url(url))
    except _WrongValueError as error:
        default = "http://localhost:4318/v1/logs"
        return default, [ConfigError(variable, error.problem, f"{error.remedy}; audit records go to {default}")]
    if parts.port != 4317:
        return url, []
    replaced = parts._replace(netloc=f"{parts.netloc.rpartition(':')[0]}:4318", path="/v1/logs").geturl()
    problem = "audit records travel by HTTP, port 4317 is gRPC's"
    return replaced, [ConfigError(variable, problem, f"using {replaced}; set {PREFIX}ENDPOINT to choose")]


def sdk_disabled(environ: Mapping[str, str] | None = None) -> bool:
    """Whether OTEL_SDK_DISABLED turns all telemetry off."""
    environ = os.environ if environ is None else environ
    return environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"
