"""The directory of the spool where no setting names one: below the user's state directory, else a writable one.

Nothing is made here, since every instrumented process asks, shells and build tools among them. Nothing is raised.
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
    """The first directory below `spool_parents` that this process may make and write; if there is none, the first."""
    service = service_name(environ)
    candidates = [parent / service for parent in spool_parents(environ)]
    path = next(filter(can_be_written, candidates), candidates[0])
    notes = []
    if service == UNNAMED:
        notes.append(
            f"OTEL_SERVICE_NAME: is not set; records go to {path}, together with those of every other service of "
            "this user that has no name; set it"
        )
    if path.parent.parent in _TEMPORARY:
        notes.append(
            f"OTEL_PYTHON_JWT_AUDIT_SPOOL: is not set, and {candidates[0]} cannot be written; records go to {path}, "
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


def spool_parents(environ: Mapping[str, str]) -> Iterator[Path]:
    """The directories that may hold spools, one for each service; the preferred one first."""
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
