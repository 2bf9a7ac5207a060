"""The three standard streams of a command, and what becomes of its exit status when they fail.

Invariant: what a command has to say was either written whole, or its exit status tells that it was not. So an
output that takes nothing more is an error of its own, which no command takes for an error of what it reads.
"""

from __future__ import annotations

import errno
import io
import os
import select
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


class OutputError(Exception):
    """Standard output takes nothing more. Not an OSError: those are of what a command reads."""

    def __init__(self, cause: OSError, output: _Output) -> None:
        super().__init__(cause.strerror)
        self.nobody_reads = cause.errno == errno.EPIPE
        """Whether the reader of a pipe has gone, as ``head`` does when it has seen enough."""
        self._output = output

    def forgive(self) -> None:
        """It is no failure of this command: its exit status does not tell of it."""
        self._output.failure = None


class _Output(io.BufferedWriter):
    """A descriptor of which a failure is told once, as `OutputError`; what follows goes nowhere.

    At this level, not below it: a signal then finds what was written noted as written.
    """

    def __init__(self, fd: int, *, closed: bool = False) -> None:
        """``closed``: the caller had closed it, and ``fd`` is what keeps its number."""
        super().__init__(io.FileIO(fd, "wb", closefd=False))
        self._closed = closed
        self._failed = False
        self.failure: OutputError | None = None

    def write(self, data: ReadableBuffer, /) -> int:
        """Write all of ``data``, now or at a later flush. Raises OutputError."""
        if self._failed:
            return memoryview(data).nbytes
        if self._closed:
            raise self._fails(OSError(errno.EBADF, "it is closed"))
        try:
            return super().write(data)
        except OSError as error:
            raise self._fails(error) from error

    def flush(self) -> None:
        """Write what is left. Raises OutputError."""
        if self._failed:
            return
        try:
            super().flush()
        except OSError as error:
            raise self._fails(error) from error

    def _fails(self, error: OSError) -> OutputError:
        self._failed = True
        self.failure = OutputError(error, self)
        return self.failure


class _Messages(_Output):
    """Standard error: where it takes nothing, there is nobody to tell, and that changes no result."""

    def write(self, data: ReadableBuffer, /) -> int:
        """Write what can be written."""
        with suppress(OutputError):
            return super().write(data)
        return memoryview(data).nbytes

    def flush(self) -> None:
        """Write what can be written."""
        with suppress(OutputError):
            super().flush()


@contextmanager
def guarded() -> Iterator[None]:
    """Standard output and error as this module has them, within; raises OutputError where one was not written whole.

    A stream that somebody has put in the place of Python's own (a test) stays as it is.
    """
    before = sys.stdout, sys.stderr
    own = sys.__stdout__, sys.__stderr__
    out = None
    _hold_descriptors()
    if before[0] is own[0]:
        out = _Output(1, closed=True) if own[0] is None else _Output(own[0].fileno())
        sys.stdout = _text(out, own[0], line_buffering=out.isatty())
    if before[1] is own[1] and own[1] is not None:
        sys.stderr = _text(_Messages(own[1].fileno()), own[1], line_buffering=True)
    try:
        yield
        sys.stdout.flush()
        if out is not None and out.failure is not None:
            raise out.failure  # a command has gone on with its work, and that was not all
    finally:
        with suppress(OutputError):  # another one is told already
            sys.stdout.flush()
        sys.stdout, sys.stderr = before


def news(line: str) -> None:
    """Say how the work goes, which does not end where nobody can be told: the exit status then tells in the end."""
    with suppress(OutputError):
        click.echo(line)


def _text(out: _Output, like: Any, *, line_buffering: bool) -> io.TextIOWrapper:
    encoding, errors = getattr(like, "encoding", "utf-8"), getattr(like, "errors", "strict")
    return io.TextIOWrapper(out, encoding=encoding, errors=errors, line_buffering=line_buffering)


def _hold_descriptors() -> None:
    """Open those of 0 to 2 that the caller has closed: else a file of the spool would become standard output."""
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:
            held = os.open(os.devnull, os.O_RDWR)  # the lowest free number
            if held != fd:
                os.dup2(held, fd)
                os.close(held)


def reader_waits(seconds: float) -> bool:
    """Wait for so long; False as soon as nobody reads standard output any more, also where nothing is written."""
    try:
        poll = select.poll()
        poll.register(sys.stdout.fileno(), 0)
    except (OSError, ValueError):  # it is no file
        time.sleep(seconds)
        return True
    return not any(event & select.POLLERR for _, event in poll.poll(seconds * 1000))
