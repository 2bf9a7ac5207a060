"""Where the spool is that no setting names: below the user's state directory, or where else it can be written.

Looks, and makes nothing: every instrumented process asks, shells and build tools among them. Raises nothing.
"""

from __future__ import annotations

import os
import pwd
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote

UNNAMED = "unknown_service"
"""OpenTelemetry's name for a service that has none."""
_SYSTEM = Path("/var/lib")
_TEMPORARY = (Path("/var/tmp"), Path("/tmp"))  # noqa: S108 - below them a directory of this user's own, see spool.place


class DefaultSpool(NamedTuple):
    """The directory, and what the operator should know of it."""

    path: Path
    notes: tuple[str, ...]


def default_spool(environ: Mapping[str, str]) -> DefaultSpool:
    """The first directory of `places` that this process may make and write; the very first where it may none."""
    service = service_name(environ)
    found = [place / service for place in places(environ)]
    path = next(filter(can_be_written, found), found[0])
    notes = []
    if service == UNNAMED:
        notes.append(
            f"OTEL_SERVICE_NAME: is not set; records go to {path}, together with those of every other service of "
            "this user that has no name; set it"
        )
    if path.parent.parent in _TEMPORARY:
        notes.append(
            f"OTEL_PYTHON_JWT_AUDIT_SPOOL: is not set, and {found[0]} cannot be written; records go to {path}, "
            "which the system may clear; name a directory on a disk that stays"
        )
    return DefaultSpool(path, tuple(notes))


def service_name(environ: Mapping[str, str]) -> str:
    """The service as OTEL_SERVICE_NAME or the resource says, as the name of a directory."""
    service = environ.get("OTEL_SERVICE_NAME") or ""
    for item in environ.get("OTEL_RESOURCE_ATTRIBUTES", "").split(","):
        name, _, value = item.partition("=")
        if not service and name.strip() == "service.name":
            service = unquote(value.strip())
    return re.sub(r"[^A-Za-z0-9_.\-]", "_", service).strip(".") or UNNAMED


def places(environ: Mapping[str, str]) -> Iterator[Path]:
    """The directories that may hold spools, one a service; the preferred one first."""
    state, home = environ.get("XDG_STATE_HOME") or "", _home(environ)
    if state.startswith("/"):
        yield Path(state) / "jwt-audit"
    elif home is not None:
        yield home / ".local" / "state" / "jwt-audit"
    yield _SYSTEM / "jwt-audit"
    for temporary in _TEMPORARY:
        yield temporary / f"jwt-audit-{os.geteuid()}"


def _home(environ: Mapping[str, str]) -> Path | None:
    home = environ.get("HOME") or ""
    try:
        home = home or pwd.getpwuid(os.getuid()).pw_dir
    except KeyError:  # a container's user that has no entry in passwd
        return None
    return Path(home) if home.startswith("/") else None


def can_be_written(path: Path) -> bool:
    """Whether this process may make ``path``, or write it where it is there: as far as can be told without trying."""
    for there in (path, *path.parents):
        try:
            there.lstat()
        except FileNotFoundError:
            continue
        except OSError:
            return False  # a file in the way, or one that may not be looked into
        return there.is_dir() and os.access(there, os.W_OK | os.X_OK, effective_ids=True)
    return False
