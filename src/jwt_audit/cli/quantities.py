"""Times and sizes as people write them on a command line, and as they read them."""

from __future__ import annotations

from datetime import datetime, timezone

import click

from ..settings import parsers
from ..settings.parsers import WrongValueError


def duration(_ctx: click.Context, param: click.Parameter, given: str) -> float:
    """A callback for an option that takes a length of time: ``90``, ``90s``, ``15m``, ``12h``, ``7d``; in seconds."""
    seconds = seconds_of(given)
    if seconds is None:
        raise click.BadParameter(f"{given!r} is no duration; write one such as 90s, 15m, 12h or 7d", param=param)
    return seconds


def seconds_of(text: str) -> int | None:
    """The seconds of a duration's text, as the settings take them; None where it is none."""
    try:
        return parsers.seconds(text)
    except WrongValueError:
        return None


def moment_of(text: str) -> int | None:
    """Nanoseconds since the epoch of a time in ISO 8601, in UTC where it names no offset; None where it is none."""
    try:
        moment = datetime.fromisoformat(text.strip().upper().replace("Z", "+00:00"))
    except ValueError:
        return None
    moment = moment if moment.tzinfo is not None else moment.replace(tzinfo=timezone.utc)
    return int(moment.timestamp()) * 1_000_000_000 + moment.microsecond * 1000


def counted(number: int, noun: str) -> str:
    """``1 stream``, ``2 streams``."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


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
