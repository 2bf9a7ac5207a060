"""What the commands that look into a spool share: where it is, and whether it is one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click

from ..settings.environment import default_spool_parents, load
from ..settings.variables import PREFIX

_FOREIGN_OK = frozenset({"lost+found"})
"""What a new file system has in its root."""


def spool_argument(command: Callable[..., Any]) -> Callable[..., Any]:
    """The argument SPOOL; without it the directory that the app's own settings name."""
    kind = click.Path(path_type=Path, file_okay=False)
    return click.argument("spool", type=kind, required=False, callback=_spool)(command)


def _spool(_ctx: click.Context, _param: click.Parameter, given: Path | None) -> Path:
    return given if given is not None else configured_spool()


def configured_spool() -> Path:
    """The spool that an app with this environment writes. Raises UsageError where it cannot be told which that is."""
    config, problems = load()
    if "spool" in config.unusable:
        raise click.UsageError("\n".join(str(one) for one in problems if one.variable == f"{PREFIX}SPOOL"))
    return config.spool


def known_spools() -> list[Path]:
    """The spools that services of this user, or of this system, have made where no setting named one."""
    return sorted(
        {path for parent in default_spool_parents() for path in _below(parent) if (path / "streams").is_dir()}
    )


def _below(place: Path) -> Iterator[Path]:
    try:
        yield from place.iterdir()
    except OSError:
        return  # none is there, or it belongs to others


def others() -> str:
    """What to say beside "there is no spool": those that are there."""
    found = known_spools()
    return f"; there are {', '.join(map(str, found))}" if found else ""


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
