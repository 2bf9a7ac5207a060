"""The spool: a directory of streams, each written by one process and read by anyone.

    SPOOL/ship.lock             held by the one process that ships, which says in it who it is
    SPOOL/sidecar.lock          held by a sidecar as long as it lives: apps leave shipping to it
    SPOOL/signing-key.pem       only where no key was configured
    SPOOL/pruned                last heads of streams that retention removed whole, a line each
    SPOOL/dead-letter           what the receiver refused for good, one JSON object a line
    SPOOL/streams/ID/*.seg      segments, counted from 1
    SPOOL/streams/ID/heads      signed heads, a line each
    SPOOL/streams/ID/lock       held by the writer as long as it lives
    SPOOL/streams/ID/cursor     how far the stream was delivered
    SPOOL/streams/ID/start      the first record's line, once retention has removed its segment
    SPOOL/streams/ID/reserve    disk space kept back, with FAIL_MODE=closed

This package knows bytes only: what a line says is for others. Directories are 0700, files 0600.
"""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import orjson

from ..errors import SpoolError
from . import durable
from .place import check_owner
from .segment import SUFFIX, segment_index
from .writer import StreamWriter

STREAM_ID = re.compile(r"[0-9A-Za-z][0-9A-Za-z._\-]{0,127}")


@dataclass(frozen=True, slots=True)
class Cursor:
    """How far a stream was delivered: the segment's file name, the byte offset in it, the last
    record's number and hash, and the byte offset in ``heads``. ``ended`` when that record is the end
    record, ``torn`` the bytes met that are no whole line. ``done`` when nothing can follow."""

    segment: str = ""
    offset: int = 0
    number: int = 0
    hash: str = ""
    heads: int = 0
    ended: bool = False
    torn: int = 0
    done: bool = False

    def finished(self) -> Cursor:
        """The same place, and that nothing can follow."""
        return replace(self, done=True)


class Stream:
    """One stream as a reader sees it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.id = path.name

    def segments(self) -> list[Path]:
        """The segments in the order in which they were written."""
        try:
            return sorted(path for path in self.path.iterdir() if segment_index(path.name))
        except OSError as error:
            raise SpoolError(f"cannot read {self.path} ({error.strerror})") from error

    @property
    def heads(self) -> Path:
        """The file of signed heads; there is none while the stream is being born."""
        return self.path / "heads"

    def size(self) -> int:
        """Bytes of its segments and heads. Raises OSError."""
        with os.scandir(self.path) as entries:
            kept = (entry for entry in entries if entry.name.endswith(SUFFIX) or entry.name == "heads")
            return sum(entry.stat().st_size for entry in kept)

    def written(self) -> bool:
        """Whether its writer lives. Asks by the lock, which the kernel frees at any kind of death."""
        return durable.Lock.held(self.path / "lock")

    def cursor(self) -> Cursor:
        """How far it was delivered; from the start where that cannot be read (then it is sent again)."""
        try:
            return Cursor(**orjson.loads((self.path / "cursor").read_bytes()))
        except (OSError, TypeError, ValueError):
            return Cursor()

    def move_cursor(self, cursor: Cursor) -> None:
        """Set it: survives a power loss when this returns; a crash before leaves the old one, and duplicates."""
        form = {name: getattr(cursor, name) for name in Cursor.__dataclass_fields__}
        durable.replace(self.path / "cursor", orjson.dumps(form))


class Spool:
    """The directory. Opening it makes it; every process of a service opens the same one."""

    def __init__(self, root: Path) -> None:
        """Raises SpoolError, with the path and the system's word, where it cannot be made or written."""
        self.root = root
        self.make()

    def make(self, *, root: bool = True) -> None:
        """Make the directories that are missing; without ``root``, the spool's own must be there."""
        try:
            if root:
                self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
                check_owner(self.root)
            self._streams.mkdir(mode=0o700, exist_ok=True)
            if not os.access(self._streams, os.W_OK | os.X_OK):
                raise PermissionError(13, "not writable")
        except OSError as error:
            if isinstance(error, FileNotFoundError) and not root:  # only a spool that was there is looked for so
                raise SpoolError(f"the spool {self.root} is gone; make that directory again") from error
            raise SpoolError(f"cannot make the spool {self.root} ({error.strerror})") from error

    @property
    def _streams(self) -> Path:
        return self.root / "streams"

    def open_stream(self, stream_id: str, *, reserve: bool = False) -> StreamWriter:
        """A new stream to write. Raises OSError, and leaves no half-made stream behind."""
        path = self._streams / stream_id
        try:
            return StreamWriter(path, reserve=reserve)
        except OSError:
            shutil.rmtree(path.with_name(f".{path.name}"), ignore_errors=True)
            raise

    def streams(self) -> list[Stream]:
        """As the function `streams` gives them."""
        return streams(self.root)

    def take_ship_lock(self) -> durable.Lock | None:
        """The right to ship, or None while another process has it."""
        return durable.Lock.take(self.root / "ship.lock")

    def take_sidecar_lock(self) -> durable.Lock | None:
        """The right to ship before the apps, or None while another sidecar has it."""
        return durable.Lock.take(self.root / "sidecar.lock")

    def has_sidecar(self) -> bool:
        """Whether a sidecar lives that ships this spool, or wants to."""
        return durable.Lock.held(self.root / "sidecar.lock")

    def key(self, make: bytes) -> bytes:
        """The generated signing key's PEM: what is there, else ``make``; racing processes agree."""
        path = self.root / "signing-key.pem"
        try:
            return path.read_bytes()
        except FileNotFoundError:
            return durable.create(path, make)

    def usage(self) -> int:
        """Bytes of all segments and heads."""
        total = 0
        for stream in self.streams():
            try:
                total += stream.size()
            except FileNotFoundError:
                continue  # pruned meanwhile
        return total


def streams(root: Path) -> list[Stream]:
    """The streams of a spool in the order of their ids, which begin with the time of their start.

    For readers: makes nothing. Raises SpoolError where ``root`` cannot be read or is no spool.
    """
    try:
        with os.scandir(root / "streams") as entries:
            return [
                Stream(Path(entry.path))
                for entry in sorted(entries, key=lambda entry: entry.name)
                if STREAM_ID.fullmatch(entry.name) and entry.is_dir(follow_symlinks=False)
            ]
    except OSError as error:
        raise SpoolError(f"cannot read the spool {root} ({error.strerror})") from error
