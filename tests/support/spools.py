"""Real streams on disk: written by `StreamWriter`, chained and signed as a running app does it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from jwt_audit.attributes import Value
from jwt_audit.evidence.heads import SignedHead
from jwt_audit.evidence.record import Record
from jwt_audit.evidence.signing import Signer
from jwt_audit.spool.spool import Spool

from .streams import MadeStream


class LiveStream(MadeStream):
    """A stream under way. Made in the spool ``root`` with its start record; ``close`` is what a death leaves."""

    def __init__(
        self,
        root: Path,
        *,
        signer: Signer | None = None,
        stream_id: str | None = None,
        resource: dict[str, Value] | None = None,
        now: int | None = None,
        known: tuple[str, ...] = (),
        synced: bool = True,
    ) -> None:
        """``synced``: each record is synced at once, so that it is there to be delivered."""
        self._spool = Spool(root)
        self._synced = synced
        signer = signer or Signer.from_pem(self._spool.key(Signer.generate().pem))  # all streams of a spool have one
        super().__init__(signer=signer, stream_id=stream_id, resource=resource, now=now, known=known)

    def _begin(self) -> None:
        self.writer = self._spool.open_stream(self.id)
        self.path = self.writer.path
        super()._begin()

    def append(self, record: Record, *, end: bool = False) -> str:
        """Chain and write one record; its hash."""
        digest = super().append(record, end=end)
        self.writer.append(*self.lines[-1])
        if self._synced:
            self.sync()
        return digest

    def sync(self) -> None:
        sync = self.writer.start_sync()
        if sync is not None:
            self.writer.run_sync(sync)
            self.writer.finish_sync(sync)

    def head(self) -> SignedHead:
        """Sync, then sign and write the head over all records so far."""
        self.sync()
        signed = super().head()
        self.writer.append_head(signed.line)
        return signed

    def end(self) -> LiveStream:
        """The orderly end: the end record, its head, the files closed."""
        super().end()
        self.close()
        return self

    def close(self) -> None:
        """Close the files without an end record, as the death of the process does."""
        self.writer.close()


def make_stream(
    root: Path,
    *,
    records: int = 10,
    end: bool = True,
    head_every: int = 5,
    signer: Signer | None = None,
    stream_id: str | None = None,
    resource: dict[str, Any] | None = None,
    now: int | None = None,
) -> tuple[Path, Signer]:
    """A closed stream in the spool ``root``: start record, ``records`` request records, an end record if ``end``.

    A signed head follows every ``head_every``-th record (the start record counts) and the end
    record; so without ``end`` what follows the last head is an open tail. Returns the stream's
    directory and the key that signed.
    """
    stream = LiveStream(root, signer=signer, stream_id=stream_id, resource=resource, now=now, synced=False)
    for _ in range(records):
        stream.request()
        if stream.position.number % head_every == 0:
            stream.head()
    if end:
        stream.end()
    else:
        stream.sync()
        stream.close()
    return stream.path, stream.signer


def clear_away(spool: Path) -> None:
    """Remove a spool that is in use: first its name, so that nothing is made in it meanwhile."""
    shutil.rmtree(spool.rename(spool.with_name(f"{spool.name}-cleared")))
