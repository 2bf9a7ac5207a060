"""The command ``jwt-audit``: a table of subcommands, each loaded only when it is called for.

So ``jwt-audit verify`` starts at once and needs nothing of what the others need.
"""

from __future__ import annotations

import re
import sys
import traceback
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, cast

import click

from ..errors import JWTAuditError
from .output import OutputError, guarded

COMMANDS = ("sink", "ship", "status", "tail", "token", "verify")
"""The name of each command, of its module here, and of the function there."""

_TOKEN = re.compile(r"(?<!\w)e(?:y[IJAB]|w[0o1pkl])[\w\-]{12,}[\w.\-=]*")
"""A token, or what a message has left of one."""

SAID_BY_ONE = frozenset({"status", "verify"})
"""The commands whose exit status 1 is what they found. For them an error is 2: the question has no answer."""
FAULT = 70
"""The exit status of a failure of ours (EX_SOFTWARE of sysexits.h): nothing is said of what was asked."""
NO_OUTPUT = 74
"""The exit status where the output could not be written (EX_IOERR): a full disk, a closed descriptor."""
INTERRUPTED = 128 + 2
"""The exit status after SIGINT, as a shell tells a death by it."""
BROKEN_PIPE = 128 + 13
"""The exit status of a command that nobody reads any more: that of a death by SIGPIPE."""


class _NoAnswerError(click.ClickException):
    exit_code = 2


class _Group(click.Group):
    """Gives each end of a command its exit status, in this one place.

    An error of what was given is one line without a traceback, and shows no token that was given as an argument.
    Status 1 of the commands in `SAID_BY_ONE` is never given here.
    """

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of this name, imported when it is asked for."""
        if cmd_name not in COMMANDS:
            return super().get_command(ctx, cmd_name)
        return cast("click.Command", getattr(import_module(f"{__package__}.{cmd_name}"), cmd_name))

    def main(self, args: Sequence[str] | None = None, *, standalone_mode: bool = True, **extra: Any) -> Any:  # type: ignore[override]
        """As click has it, and what click makes 1 of has its own status."""
        if not standalone_mode:
            return super().main(args, standalone_mode=False, **extra)
        sys.exit(self._status(args, **extra))

    def _status(self, args: Sequence[str] | None, **extra: Any) -> int | None:
        try:
            with guarded():
                try:
                    return cast("int | None", super().main(args, standalone_mode=False, **extra))
                except click.ClickException as error:
                    error.show()
                    return error.exit_code
                except SystemExit as error:  # a command's own
                    return FAULT if isinstance(error.code, str) else error.code
                except (click.Abort, KeyboardInterrupt):
                    return INTERRUPTED
                except OutputError:
                    raise
                except Exception as error:  # of whatever kind: it is no answer of the command
                    return _fault(error)
        except OutputError as error:
            if error.nobody_reads:
                return BROKEN_PIPE
            click.echo(f"jwt-audit: the output could not be written ({error})", err=True)
            return NO_OUTPUT
        except KeyboardInterrupt:  # in the last write
            return INTERRUPTED

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return self._invoke(ctx)
        except click.UsageError as error:
            raise click.UsageError(_TOKEN.sub("…", error.format_message()), error.ctx) from error
        except click.ClickException as error:
            kind = _NoAnswerError if ctx.invoked_subcommand in SAID_BY_ONE else click.ClickException
            raise kind(_TOKEN.sub("…", error.format_message())) from error

    def _invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except JWTAuditError as error:
            raise click.ClickException(str(error)) from error
        except KeyboardInterrupt:
            sys.exit(INTERRUPTED)
        except EOFError as error:  # which click would take for the end of what a person types
            sys.exit(_fault(error))
        except OSError as error:
            what = f"{error.filename}: {error.strerror}" if error.filename else error.strerror or type(error).__name__
            raise click.ClickException(what) from error


def _fault(error: Exception) -> int:
    """Tell where it happened, for a report; not what the error says, since that may hold what was read."""
    places = [place for place in traceback.extract_tb(error.__traceback__) if "jwt_audit" in place.filename]
    where = f" at {Path(places[-1].filename).name}:{places[-1].lineno} in {places[-1].name}" if places else ""
    what = f"{type(error).__name__}{where}"
    click.echo(f"jwt-audit: a fault of jwt-audit itself, please report it: {what}; there is no result", err=True)
    return FAULT


@click.group(
    cls=_Group,
    # What click lists, and suggests for a mistyped name; `get_command` gives the commands themselves.
    commands=[click.Command(name) for name in COMMANDS],
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(package_name="opentelemetry-instrumentation-jwt-audit", prog_name="jwt-audit")
def main() -> None:
    """Who did what, with which token, and the proof: receive, ship and verify audit records, look at tokens.

    \b
      jwt-audit tail -f                    who does what, live
      jwt-audit status                     is all of it signed and delivered?
      jwt-audit verify --key audit.pub .   was anything changed, removed, forged?
      jwt-audit token inspect < token.txt  what would be verified, and why not

    \b
    Exit status 0 to 2  as each command says; 1 of verify is "invalid" alone
                    70  a fault of jwt-audit itself
                    74  the output could not be written
                   130  ended by SIGINT
                   141  nobody reads the output any more
    """
