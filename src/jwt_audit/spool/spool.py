"""The spool: a directory of streams, each written by one process and read by anyone.

    SPOOL/ship.lock             held by the one process that ships, which says in it who it is
    SPOOL/sidecar.lock          held by a sidecar as long as it lives: apps leave shipping to it
    SPOOL/signing-key.pem       only where no key was configured
    SPOOL/pruned                last heads of streams that retention removed whole, a line each
    SPOOL/dead-letter           what the receiver refused for good, one JSON object a line
    SPOOL/streams/ID/*.seg      segments, counted from 1
    SPOOL/streams/ID/heads      signed heads, a line each
    SPOOL/streams/ID/lock       held by the writer as long as it lives, which says in it how far it has synced
    SPOOL/streams/ID/cursor     how far the stream was delivered
    SPOOL/streams/ID/start      the first record's line, once there is a second segment: retention removes the first
    SPOOL/streams/ID/recovered  where the stream broke off, once that is stated, with ENDPOINT=none
    SPOOL/streams/ID/reserve    disk space kept back, for what must be written when the disk is full

This package knows bytes only: what a line says is for others. Directories are 0700, files 0600.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path

from ..errors import SpoolError
from . import disk, durable
from .durable import LockState
from .place import check_owner
from .stream import Stream, streams
from .writer import StreamWriter


class Spool:
    """The directory. Opening it makes it; every process of a service opens the same one."""

    def __init__(self, root: Path) -> None:
        """Raises SpoolError, with the path and the system's word, where it cannot be made or written."""
        self.root = root
        self.make()

    def make(self, *, root: bool = True) -> None:
        """Make the directories that are missing; without ``root``, the spool's own must be there."""
        try:
            if root and not durable.exists(self.root):
                # The parents too: pathlib makes them as the umask says, and who may write one may replace the spool
                for parent in reversed([one for one in self.root.parents if not one.exists()]):
                    parent.mkdir(mode=0o700, exist_ok=True)
                self.root.mkdir(mode=0o700, exist_ok=True)
                try:
                    durable.sync_directory(self.root.parent)
                except OSError:
                    pass  # that a new spool's own name survives a power loss is no reason to refuse it
            if root:
                check_owner(self.root)
            if not durable.exists(self._streams):
                try:
                    disk.mkdir(self._streams, 0o700)
                except FileExistsError:
                    pass  # by another process, just now
            if not os.access(self._streams, os.W_OK | os.X_OK):
                raise PermissionError(errno.EACCES, "not writable")
        except OSError as error:
            if isinstance(error, FileNotFoundError) and not root:  # only a spool that was there is looked for so
                raise SpoolError(f"the spool {self.root} is gone; make that directory again") from error
            raise SpoolError(f"cannot make the spool {self.root} ({error.strerror})") from error

    @property
    def _streams(self) -> Path:
        return self.root / "streams"

    def open_stream(self, stream_id: str, *, segment_bytes: int | None = None) -> StreamWriter:
        """A new stream to write. Raises OSError, and leaves no half-made stream behind."""
        path = self._streams / stream_id
        try:
            return StreamWriter(path, segment_bytes=segment_bytes)
        except OSError:
            try:
                durable.remove_tree(path.with_name(f".{path.name}"))
            except OSError:
                pass  # it is swept later
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

    def sidecar(self) -> LockState:
        """Whether a sidecar lives that ships this spool, or wants to (``HELD``)."""
        return durable.Lock.state(self.root / "sidecar.lock")

    def key(self, make: bytes) -> bytes:
        """The generated signing key's PEM: what is there, else ``make``; racing processes agree."""
        path = self.root / "signing-key.pem"
        try:
            return durable.read(path)
        except FileNotFoundError:
            return durable.create(path, make)

    def usage(self) -> int:
        """Bytes of all that counts against the limit. Raises SpoolError, OSError."""
        return Usage(self).bytes()


class Usage:
    """Sums up a spool again and again. Of a stream whose writer is dead only the directory is looked at anew."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self._settled: dict[str, tuple[int, int]] = {}
        """Of a stream that nobody writes: when its directory was changed last (ns), and its bytes."""

    def bytes(self) -> int:
        """Of all segments and heads, dead letters, and the list of what was removed. Raises SpoolError, OSError."""
        total = sum(durable.size(self._spool.root / name) or 0 for name in ("dead-letter", "pruned"))
        settled: dict[str, tuple[int, int]] = {}
        for stream in self._spool.streams():
            try:
                changed = disk.stat(stream.path).st_mtime_ns
                known = self._settled.get(stream.id)
                if known is None or known[0] != changed:
                    state = stream.writer()  # before the sizes: what a dead one left does not grow
                    known = (changed, stream.size())
                    if state is not LockState.FREE:
                        total += known[1]
                        continue
                settled[stream.id] = known
                total += known[1]
            except FileNotFoundError:
                continue  # removed by retention meanwhile
        self._settled = settled
        return total
