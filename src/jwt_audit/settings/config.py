"""The settings: one frozen dataclass, which `environment` fills."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import orjson

from ..http.hosts import is_loopback
from ..identity.privacy import OPEN, Privacy
from . import parsers
from .issuer import IssuerSettings

_HIDDEN = ("off", "off", "off")
_LONGEST_RETENTION = 100 * 365 * 86400
_UNRECORDED = "no record is written, with FAIL_MODE=closed requests are answered 503"
UNSENT = "nothing is sent, records wait in the spool"
_DELIVERY = frozenset({"endpoint", "headers", "certificate", "client_certificate", "client_key"})
"""The settings without which records could go to another receiver, or unprotected."""


def _setting(
    parse: Callable[[Any], Any],
    default: Any = None,
    *,
    token: bool = False,
    otlp: str = "",
    wrong: Any = None,
    meanwhile: str = "",
    secret: bool = False,
) -> Any:
    """A setting; ``wrong`` takes the place of a value that cannot be used, where the default would not be safe.

    ``meanwhile`` says what holds until it is mended, where that is not the default.
    """
    meanwhile = "no token is verified" if token else meanwhile
    metadata = {"parse": parse, "token": token, "otlp": otlp, "wrong": wrong, "meanwhile": meanwhile}
    return field(default=default, metadata=metadata, repr=not secret)


@dataclass(frozen=True)
class Config:
    """Every setting; the variable is ``OTEL_PYTHON_JWT_AUDIT_`` and the name in capitals.

    Sizes are bytes, times seconds. Where the OTLP exporter has a variable of the same meaning, it is
    the default (``OTEL_EXPORTER_OTLP_LOGS_…`` before ``OTEL_EXPORTER_OTLP_…``): audit records go where
    the app's logs go, unless told otherwise. ``token_settings_ok`` is False when a token setting was wrong:
    then no token is verified, since half a configuration could accept more than was meant. ``unusable`` names
    the settings whose values cannot be used: a weaker default never takes their place. ``issuers`` are
    those of ISSUERS_FILE, and before them the one that the variables describe; ``privacy`` says what is
    shown of people; ``notes`` are told where a server begins to serve.
    """

    jwks: str | None = _setting(parsers.jwks, token=True)
    discovery: str | None = _setting(parsers.discovery, token=True)
    public_key: Path | None = _setting(parsers.existing_file, token=True)
    secret_file: Path | None = _setting(parsers.file_of_secret, token=True)
    issuer: str | None = _setting(parsers.text, token=True)
    audience: tuple[str, ...] = _setting(parsers.names, (), token=True)
    algorithms: tuple[str, ...] = _setting(parsers.algorithms, (), token=True)
    typ: str | None = _setting(parsers.text, token=True)
    leeway: int = _setting(parsers.seconds, 10, token=True)
    subject_claim: tuple[str, ...] = _setting(parsers.names, ("sub", "user_id"), token=True)
    session_claim: tuple[str, ...] = _setting(parsers.names, ("sid", "session_id", "session_state", "jti"), token=True)
    claims: tuple[tuple[str, str], ...] = _setting(parsers.claims, ())
    issuers_file: Path | None = _setting(parsers.existing_file, token=True)
    http_hosts: tuple[str, ...] = _setting(parsers.names, (), token=True)
    sources: tuple[str, ...] = _setting(parsers.sources, ("bearer",), token=True)
    pii: tuple[str, str, str] = _setting(parsers.pii, ("raw", "raw", "raw"), wrong=_HIDDEN, meanwhile="nobody is shown")
    pseudonym_key_file: Path | None = _setting(parsers.file_of_secret)
    token_fingerprint: bool = _setting(parsers.flag, False)
    excluded_paths: tuple[str, ...] = _setting(parsers.paths, ())
    excluded_methods: tuple[str, ...] = _setting(parsers.methods, ())
    spool: Path = _setting(parsers.directory, Path(), meanwhile=_UNRECORDED)
    spool_limit: int = _setting(parsers.size, 2**30)
    retention: int = _setting(
        parsers.seconds,
        7 * 86400,
        wrong=_LONGEST_RETENTION,
        meanwhile="delivered records stay as long as there is room",
    )
    endpoint: str = _setting(parsers.endpoint, "", meanwhile=UNSENT)
    protocol: str = _setting(parsers.one_of("http/protobuf", "http/json"), "http/protobuf")
    headers: tuple[tuple[str, str], ...] = _setting(parsers.headers, (), otlp="HEADERS", meanwhile=UNSENT, secret=True)
    certificate: Path | None = _setting(parsers.existing_file, otlp="CERTIFICATE", meanwhile=UNSENT)
    client_certificate: Path | None = _setting(parsers.existing_file, otlp="CLIENT_CERTIFICATE", meanwhile=UNSENT)
    client_key: Path | None = _setting(parsers.file_of_secret, otlp="CLIENT_KEY", meanwhile=UNSENT)
    timeout: float = _setting(parsers.timeout, 10.0, otlp="TIMEOUT")
    compression: str = _setting(parsers.one_of("auto", "gzip", "none"), "auto", otlp="COMPRESSION")
    signing_key: Path | None = _setting(parsers.file_of_secret, meanwhile=_UNRECORDED)
    export_canonical: bool = _setting(parsers.flag, True)
    fail_mode: str = _setting(parsers.one_of("open", "closed"), "open", wrong="closed", meanwhile="it counts as closed")
    durability: str = _setting(
        parsers.one_of("process", "disk"), "process", wrong="disk", meanwhile="it counts as disk"
    )
    token_settings_ok: bool = True
    unusable: tuple[str, ...] = ()
    issuers: tuple[IssuerSettings, ...] = ()
    privacy: Privacy = OPEN
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
        """Whether requests are compressed: on this machine it costs the app and saves nobody anything."""
        if self.compression == "auto":
            return not is_loopback(urlsplit(self.endpoint).hostname or "")
        return self.compression == "gzip"

    @property
    def digest(self) -> str:
        """SHA-256 over all settings but the headers' values (secrets): it binds a stream to them."""
        shown = {f.name: str(getattr(self, f.name)) for f in fields(self) if f.name != "headers"}
        shown["headers"] = ",".join(name for name, _ in self.headers)
        return hashlib.sha256(orjson.dumps(shown, option=orjson.OPT_SORT_KEYS)).hexdigest()
