"""How a setting is declared, and how its environment variable is named."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Any

PREFIX = "OTEL_PYTHON_JWT_AUDIT_"
"""What the name of each variable begins with; the rest is the setting's name in capitals."""


@dataclass(frozen=True)
class Setting:
    """How one setting is read.

    ``field`` is the field of the dataclass that holds its value, ``default`` that field's default. ``parse`` turns
    what the operator wrote into the value, or raises WrongValueError. While a setting ``about_tokens`` has a wrong
    value, no token is verified. ``otlp`` is the end of the names of the OTLP exporter's variables that are used
    where ours is not set. ``fallback`` takes the place of a wrong value, where the default would not be safe.
    ``until_fixed`` says what holds after a wrong value, where that is not the default.
    """

    field: str
    default: Any
    parse: Callable[[Any], Any]
    about_tokens: bool
    otlp: str
    fallback: Any
    until_fixed: str


def setting(
    parse: Callable[[Any], Any],
    default: Any = None,
    *,
    name: str = "",
    about_tokens: bool = False,
    otlp: str = "",
    fallback: Any = None,
    until_fixed: str = "",
    secret: bool = False,
) -> Any:
    """A field of a dataclass that is a setting: see `Setting`. ``name`` is the setting's, if not the field's.

    A ``secret`` value is left out of the dataclass's repr.
    """
    until_fixed = "no token is verified" if about_tokens else until_fixed
    how = (default, parse, about_tokens, otlp, fallback, until_fixed)
    return field(default=default, metadata={"name": name, "setting": how}, repr=not secret)


def settings_of(holder: type) -> dict[str, Setting]:
    """The settings that a dataclass declares, by their names."""
    declared = [each for each in fields(holder) if "setting" in each.metadata]
    return {each.metadata["name"] or each.name: Setting(each.name, *each.metadata["setting"]) for each in declared}
