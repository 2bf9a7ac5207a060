"""A file that the sink appends to, and how it is told from one that is somebody else's.

Beside each file stands ``NAME.state``: the bytes that the file begins with, and how many bytes of it were
confirmed to senders. A file with other bytes at its start, or with a confirmed part that is gone or no
longer ends with a line, is not as the sink left it. It is never written to and never changed. Of a file
that is the sink's own, only an unterminated last line beyond the confirmed part goes: a write that a
crash interrupted. It is kept beside, in ``NAME.unconfirmed-N``.

What ``kill -9`` leaves at each step of `OwnFile.append` (a power loss likewise, since each step but the
last is synced before the next):

- before the state of a new file is written: an empty file, or none. It is taken up.
- after that, before its first bytes: a state with a start, and an empty file. It is taken up.
- in the middle of a write: an unterminated line beyond the confirmed part. It is cut off and kept beside.
- between the write and the note in the state: whole lines that nobody was told of. They stay, and the
  sender, which has no answer, sends them again: the same ids, twice.
- after the note: all of it. The note is not synced; a power loss may leave an older one, which vouches for less.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path

import orjson

from ..diagnostics import warn_operator
from ..errors import SpoolError
from ..spool import durable

_START = 4096
"""Bytes by which a file is known again: the first record's ids are among them."""
_CHUNK = 2**20
_HEAD, _NUMBER = b'{"confirmed":"', b"%020d"
"""The state begins with them: within one sector, so that no power loss leaves half of a number."""


class OwnFile:
    """One file, and its state beside it. For one thread."""

    def __init__(self, path: Path) -> None:
        """Open or make it. Raises SpoolError where it is not the sink's own, OSError where it cannot be had."""
        self.path = path
        self._state_path = path.with_name(f"{path.name}.state")
        self._told = False
        self._state = -1
        self._open(os.O_CREAT)
        if self.size:
            confirmed = self._recognise()
            self._set_torn_tail_aside(confirmed)
            if self.size:
                self._begin_state(self._read(0, _START), confirmed)

    def _open(self, flags: int) -> None:
        self._fd = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC | flags, 0o600)
        self.size = os.fstat(self._fd).st_size
        self._dirty = False

    # Whose it is

    def _recognise(self) -> int:
        """How many bytes were confirmed. Raises SpoolError where the file is not as the sink left it."""
        remedy = "move it away, or give another directory"
        try:
            state = orjson.loads(self._state_path.read_bytes())
            start, confirmed = bytes.fromhex(state["start"]), int(state["confirmed"])
        except FileNotFoundError:
            raise SpoolError(f"{self.path} was not written by this sink: {remedy}") from None
        except (ValueError, TypeError, KeyError) as error:
            raise SpoolError(f"{self._state_path} cannot be read as the state of {self.path}: {remedy}") from error
        # A first write may have been interrupted within these bytes
        if not start or self._read(0, len(start)) != start[: self.size]:
            raise SpoolError(f"{self.path} does not begin as this sink began it: {remedy}")
        if self.size < confirmed:
            raise SpoolError(f"{self.path} lacks {confirmed - self.size} bytes that were confirmed: {remedy}")
        if confirmed and self._read(confirmed - 1, 1) != b"\n":
            raise SpoolError(f"{self.path} was changed after it was confirmed: {remedy}")
        return confirmed

    def _set_torn_tail_aside(self, confirmed: int) -> None:
        end = self._last_line_end(confirmed)
        if end == self.size:
            return
        # First a synced copy, then the cut: a crash in between leaves both, and the next start a second copy
        kept = self._keep(end)
        os.ftruncate(self._fd, end)
        os.fsync(self._fd)
        warn_operator(
            f"{self.path}: the last {self.size - end} bytes are of a write that was interrupted before it was "
            f"confirmed; they are in {kept.name} now"
        )
        self.size = end

    def _last_line_end(self, least: int) -> int:
        position = self.size
        while position > least:
            start = max(least, position - _CHUNK)
            found = self._read(start, position - start).rfind(b"\n")
            if found >= 0:
                return start + found + 1
            position = start
        return least

    def _keep(self, start: int) -> Path:
        number = 1
        while True:
            kept = self.path.with_name(f"{self.path.name}.unconfirmed-{number}")
            try:
                fd = os.open(kept, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
                break
            except FileExistsError:
                number += 1
        try:
            for position in range(start, self.size, _CHUNK):
                _write(fd, self._read(position, min(_CHUNK, self.size - position)))
            os.fsync(fd)
        finally:
            os.close(fd)
        durable.sync_directory(self.path.parent)
        return kept

    def _read(self, start: int, size: int) -> bytes:
        """Up to ``size`` bytes; fewer only at the end of the file."""
        whole = b""
        while len(whole) < size and (more := os.pread(self._fd, size - len(whole), start + len(whole))):
            whole += more
        return whole

    def _begin_state(self, start: bytes, confirmed: int) -> None:
        rest = b'","start":"%b"}\n' % start.hex().encode("ascii")
        try:
            durable.replace(self._state_path, _HEAD + _NUMBER % confirmed + rest)
        except SpoolError as error:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from error
        self._state = os.open(self._state_path, os.O_WRONLY | os.O_CLOEXEC)

    # Writing

    def append(self, data: bytes) -> None:
        """Write whole lines and sync them. Raises OSError, and then nothing of them is left."""
        self._follow_name()
        if self._dirty:
            self._cut_back()
        if os.fstat(self._fd).st_size != self.size:
            raise self._foreign("was changed by somebody else while the sink was writing it")
        if self._state < 0:
            self._begin_state(data[:_START], 0)
        self._dirty = True
        try:
            _write(self._fd, data)
            os.fdatasync(self._fd)
            if not os.fstat(self._fd).st_nlink:  # removed meanwhile
                raise gone()
        except OSError:
            self._cut_back()
            raise
        self.size += len(data)
        self._dirty = False
        try:
            os.pwrite(self._state, _NUMBER % self.size, len(_HEAD))
        except OSError:
            pass  # the lines are on the disk; the state vouches for less of them

    def _follow_name(self) -> None:
        """Go on in a new file where this one no longer has its name, or was emptied (``copytruncate``)."""
        now = os.fstat(self._fd)
        try:
            if os.path.samestat(self.path.stat(), now):
                if self.size and not now.st_size:
                    self._forget_state()
                    self.size = 0
                return
        except FileNotFoundError:
            pass
        before = self._fd
        self._open(os.O_CREAT)  # log rotation may have made one already
        if self.size:
            os.close(self._fd)
            self._fd, self.size = before, os.fstat(before).st_size
            raise self._foreign("was not written by this sink")
        os.close(before)
        self._forget_state()
        durable.sync_directory(self.path.parent)

    def _forget_state(self) -> None:
        if self._state >= 0:
            os.close(self._state)
        self._state = -1

    def _foreign(self, what: str) -> OSError:
        if not self._told:
            self._told = True
            warn_operator(f"{self.path} {what}: nothing is stored in it; move it away")
        return OSError(errno.EEXIST, os.strerror(errno.EEXIST))

    def _cut_back(self) -> None:
        """Take back what a failed write left, and nothing before it."""
        if os.fstat(self._fd).st_size > self.size:
            os.ftruncate(self._fd, self.size)
        self._dirty = False

    def close(self) -> None:
        """Close it."""
        self._forget_state()
        os.close(self._fd)


def _write(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def gone() -> OSError:
    """What is said where the file or its directory was removed."""
    return OSError(errno.ENOENT, os.strerror(errno.ENOENT))
