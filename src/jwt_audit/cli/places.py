"""What the commands that look into a spool share: where it is, and whether it is one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from ..config import load

_FOREIGN_OK = frozenset({"lost+found"})
"""What a new file system has in its root."""
_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}


def spool_argument(command: Callable[..., Any]) -> Callable[..., Any]:
    """The argument SPOOL; without it the directory that the app's own settings name."""
    kind = click.Path(path_type=Path, file_okay=False)
    return click.argument("spool", type=kind, required=False, callback=_spool)(command)


def _spool(_ctx: click.Context, _param: click.Parameter, given: Path | None) -> Path:
    return given if given is not None else configured_spool()


def configured_spool() -> Path:
    """The spool that an app with this environment writes."""
    return load()[0].spool


def check_spool(root: Path) -> bool:
    """Whether a spool is at ``root``; False where nothing is there yet. Raises UsageError for anything else."""
    if (root / "streams").is_dir():
        return True
    try:
        if not root.exists() or all(one.name in _FOREIGN_OK or one.name.startswith(".") for one in root.iterdir()):
            return False
    except OSError as error:
        raise click.UsageError(f"cannot read {root} ({error.strerror})") from error
    raise click.UsageError(f"{root} is no spool: it has no directory streams, but other things are in it")


def duration(_ctx: click.Context, param: click.Parameter, given: str) -> float:
    """A callback for an option that takes a length of time: ``90``, ``90s``, ``15m``, ``12h``, ``7d``; in seconds."""
    seconds = seconds_of(given)
    if seconds is None:
        raise click.BadParameter(f"{given!r} is no duration; write one such as 90s, 15m, 12h or 7d", param=param)
    return seconds


def seconds_of(text: str) -> float | None:
    """The seconds of a duration's text, None where it is none."""
    number, unit = text.rstrip("smhd"), text[len(text.rstrip("smhd")) :]
    return float(int(number) * _UNITS[unit]) if number.isascii() and number.isdigit() and unit in _UNITS else None


def size_text(size: float) -> str:
    """Bytes for people."""
    if size < 1024:
        return f"{size:.0f} B"
    for unit in ("KiB", "MiB"):
        size /= 1024
        if size < 1024:
            return f"{size:.1f} {unit}"
    return f"{size / 1024:.1f} GiB"


def age_text(seconds: float) -> str:
    """A length of time for people, in its largest unit."""
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} s"
