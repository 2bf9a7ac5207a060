"""What a path holds, by its content: a spool, one stream of a spool, or exported files."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

from ..errors import EvidenceError
from ..evidence.copies import Copy
from ..spool.segment import SUFFIX
from .exports import EXPORT_NAME, STDIN, Advance, export_files, read_exports
from .spool import read_spool, read_stream


def read(paths: Sequence[Path], advance: Advance) -> list[Copy]:
    """The copies that these paths hold: each spool is one, all exported files together are one.

    ``advance`` is told the bytes read. Raises EvidenceError for a path that cannot be read as either.
    """
    spools: list[Callable[[], Copy]] = []
    exports: list[Path] = []
    for path in dict.fromkeys(paths):
        try:
            spool = _spool(path, advance)
        except OSError as error:
            raise EvidenceError(f"cannot read {path} ({error.strerror})") from error
        if spool is None:
            exports.append(path)
        else:
            spools.append(spool)
    # Exports first: a spool that grows meanwhile is then never behind what it has already delivered.
    copies = [read_exports(exports, advance)] if exports else []
    return copies + [read_one() for read_one in spools]


def _spool(path: Path, advance: Advance) -> Callable[[], Copy] | None:
    """What reads ``path`` as a spool or a stream of one; None where it is an export."""
    if path == STDIN or path.is_file() or path.is_fifo():
        return None
    if not path.is_dir():
        raise EvidenceError(f"{path} is neither a file nor a directory" if path.exists() else f"there is no {path}")
    if (path / "streams").is_dir():
        return partial(read_spool, path, advance)
    if (path / "heads").is_file() or any(path.glob(f"*{SUFFIX}")):
        return partial(read_stream, path, advance)
    if export_files(path):
        return None
    raise EvidenceError(f"{path} is neither a spool nor does it hold exported files")


def size(paths: Iterable[Path]) -> int:
    """Bytes that `read` will tell of, as far as can be known before."""
    total = 0
    for path in paths:
        with suppress(OSError):  # told when it is read
            for one in path.rglob("*") if path.is_dir() else [path]:
                named = one.name == "heads" or one.name.endswith(SUFFIX) or EXPORT_NAME.fullmatch(one.name)
                counts = one is path or named
                if counts and one.is_file():
                    total += one.stat().st_size
    return total
