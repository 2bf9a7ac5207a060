"""The command ``jwt-audit``: a table of subcommands, each loaded only when it is called for.

So ``jwt-audit verify`` starts at once and needs nothing of what the others need.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, MutableMapping
from importlib import import_module
from typing import Any, cast

import click

from ..errors import JWTAuditError

COMMANDS = {
    "sink": "jwt_audit.cli.sink:sink",
    "ship": "jwt_audit.cli.ship:ship",
    "status": "jwt_audit.cli.status:status",
    "tail": "jwt_audit.cli.tail:tail",
    "token": "jwt_audit.cli.token:token",
    "verify": "jwt_audit.cli.verify:verify",
}
"""Name of each command, and where it is."""

_TOKEN = re.compile(r"(?<!\w)e(?:y[IJAB]|w[0o1pkl])[\w\-]{12,}[\w.\-=]*")
"""A token, or what a message has left of one."""

BROKEN_PIPE = 128 + 13
"""The exit status of a command that nobody reads any more: that of a death by SIGPIPE."""


class _Lazy(MutableMapping[str, click.Command]):
    """A table of commands that imports one when it is asked for."""

    def __init__(self, places: dict[str, str]) -> None:
        self._places = places
        self._loaded: dict[str, click.Command] = {}

    def __getitem__(self, name: str) -> click.Command:
        if name not in self._loaded:
            module, _, attribute = self._places[name].partition(":")
            self._loaded[name] = cast("click.Command", getattr(import_module(module), attribute))
        return self._loaded[name]

    def __setitem__(self, name: str, command: click.Command) -> None:
        self._places[name] = ""
        self._loaded[name] = command

    def __delitem__(self, name: str) -> None:
        del self._places[name]
        self._loaded.pop(name, None)

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)


class _Group(click.Group):
    """Shows an error of this package as one line, without a traceback; and no token that was given as an argument."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return self._invoke(ctx)
        except click.UsageError as error:
            raise click.UsageError(_TOKEN.sub("…", error.format_message()), error.ctx) from error
        except click.ClickException as error:
            raise click.ClickException(_TOKEN.sub("…", error.format_message())) from error

    def _invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except JWTAuditError as error:
            raise click.ClickException(str(error)) from error
        except BrokenPipeError:
            # Who reads has gone. Not by 1, which for some commands is a finding. What is buffered goes nowhere
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(BROKEN_PIPE)
        except OSError as error:
            what = f"{error.filename}: {error.strerror}" if error.filename else error.strerror or type(error).__name__
            raise click.ClickException(what) from error


@click.group(cls=_Group, commands=_Lazy(dict(COMMANDS)), context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="opentelemetry-instrumentation-jwt-audit", prog_name="jwt-audit")
def main() -> None:
    """Who did what, with which token, and the proof: receive, ship and verify audit records, look at tokens."""
