"""The settings: one frozen dataclass that declares each of them once. `environment` fills it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from types import MappingProxyType
from urllib.parse import urlsplit

import orjson

from ..http.hosts import is_loopback
from ..identity.privacy import RAW_EVERYWHERE, Privacy
from . import parsers, token_parsers
from .issuer import VARIABLES, IssuerSettings
from .variables import Setting, setting, settings_of

UNSENT = "nothing is sent, records wait in the spool"
_HIDDEN = ("off", "off", "off")
_LONGEST_RETENTION = 100 * 365 * 86400
_UNRECORDED = "no record is written, with FAIL_MODE=closed requests are answered 503"
_DELIVERY = frozenset({"endpoint", "headers", "certificate", "client_certificate", "client_key"})
"""The settings without which records could go to another receiver, or unprotected."""


@dataclass(frozen=True)
class Config:
    """Every setting; the variable is ``OTEL_PYTHON_JWT_AUDIT_`` and the name in capitals.

    Sizes are bytes, times seconds. Where the OTLP exporter has a variable of the same meaning, it is
    the default (``OTEL_EXPORTER_OTLP_LOGS_…`` before ``OTEL_EXPORTER_OTLP_…``): audit records go where
    the app's logs go, unless told otherwise.

    The settings of one issuer are in ``env_issuer``, as the variables say: an issuer if they name its keys, else
    what narrows the app's own verification; its claims and leeway are also the defaults of the file's tables.
    ``issuers`` are all whose keys are known, that one first, then those of ISSUERS_FILE. ``token_settings_ok``
    is False when a token setting was wrong: then no token is verified, since half a configuration could accept
    more than was meant. ``unusable`` names the settings whose values cannot be used: a weaker default
    never takes their place. ``privacy`` says what is shown of people; ``notes`` are told where a server
    begins to serve.
    """

    issuers_file: Path | None = setting(parsers.existing_file, about_tokens=True)
    http_hosts: tuple[str, ...] = setting(parsers.names, (), about_tokens=True)
    sources: tuple[str, ...] = setting(token_parsers.sources, ("bearer",), about_tokens=True)
    pii: tuple[str, str, str] = setting(
        parsers.pii, ("raw", "raw", "raw"), fallback=_HIDDEN, until_fixed="nobody is shown"
    )
    pseudonym_key_file: Path | None = setting(parsers.file_of_secret)
    token_fingerprint: bool = setting(parsers.flag, False)
    excluded_paths: tuple[str, ...] = setting(parsers.paths, ())
    excluded_methods: tuple[str, ...] = setting(parsers.methods, ())
    spool: Path = setting(parsers.directory, Path(), until_fixed=_UNRECORDED)
    spool_limit: int = setting(parsers.size, 2**30)
    retention: int = setting(
        parsers.seconds,
        7 * 86400,
        fallback=_LONGEST_RETENTION,
        until_fixed="delivered records stay as long as there is room",
    )
    endpoint: str = setting(parsers.endpoint, "", until_fixed=UNSENT)
    protocol: str = setting(parsers.one_of("http/protobuf", "http/json"), "http/protobuf")
    headers: tuple[tuple[str, str], ...] = setting(parsers.headers, (), otlp="HEADERS", until_fixed=UNSENT, secret=True)
    certificate: Path | None = setting(parsers.existing_file, otlp="CERTIFICATE", until_fixed=UNSENT)
    client_certificate: Path | None = setting(parsers.existing_file, otlp="CLIENT_CERTIFICATE", until_fixed=UNSENT)
    client_key: Path | None = setting(parsers.file_of_secret, otlp="CLIENT_KEY", until_fixed=UNSENT)
    timeout: float = setting(parsers.timeout, 10.0, otlp="TIMEOUT")
    compression: str = setting(parsers.one_of("auto", "gzip", "none"), "auto", otlp="COMPRESSION")
    signing_key: Path | None = setting(parsers.file_of_secret, until_fixed=_UNRECORDED)
    export_canonical: bool = setting(parsers.flag, True)
    fail_mode: str = setting(
        parsers.one_of("open", "closed"), "open", fallback="closed", until_fixed="it counts as closed"
    )
    durability: str = setting(
        parsers.one_of("process", "disk"), "process", fallback="disk", until_fixed="it counts as disk"
    )
    env_issuer: IssuerSettings = IssuerSettings(VARIABLES)
    issuers: tuple[IssuerSettings, ...] = ()
    token_settings_ok: bool = True
    unusable: tuple[str, ...] = ()
    privacy: Privacy = RAW_EVERYWHERE
    notes: tuple[str, ...] = ()

    @property
    def delivers(self) -> bool:
        """Whether records may be sent: not where what says where and how cannot be used."""
        return not _DELIVERY.intersection(self.unusable)

    @property
    def local(self) -> bool:
        """Whether records stay in the spool: nothing is sent, and retention removes them by age and size."""
        return self.endpoint == parsers.LOCAL

    @property
    def gzip(self) -> bool:
        """Whether requests are compressed. By default not to this machine: it costs the app CPU and saves nothing."""
        if self.compression == "auto":
            return not is_loopback(urlsplit(self.endpoint).hostname or "")
        return self.compression == "gzip"

    @property
    def digest(self) -> str:
        """SHA-256 over all settings but the headers' values (secrets): it binds a stream to them."""
        shown = {f.name: str(getattr(self, f.name)) for f in fields(self) if f.name != "headers"}
        shown["headers"] = ",".join(name for name, _ in self.headers)
        return hashlib.sha256(orjson.dumps(shown, option=orjson.OPT_SORT_KEYS)).hexdigest()


ISSUER_SETTINGS: Mapping[str, Setting] = MappingProxyType(settings_of(IssuerSettings))
"""The settings in `Config.env_issuer`, by name."""
SETTINGS: Mapping[str, Setting] = MappingProxyType({**ISSUER_SETTINGS, **settings_of(Config)})
"""Every setting by its name: the variable's without `PREFIX`, in lower case, and the keyword argument's."""
