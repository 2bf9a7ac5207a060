"""The disk of the state machine: the real file system below, and above it what a kernel and a power loss may do.

It stands in the place of `jwt_audit.spool.disk`, so it sees every system call on a spool. It keeps, of
each file, the bytes that a sync has covered, and of each directory the names that one has; a power
loss goes back to those, or to anything between them and what was there. After a sync that failed the
bytes that it should have covered are never synced by a later one: Linux drops them so. A process is
killed at a call by an exception that nothing catches; all its descriptors are closed then, which
frees its locks, and whatever of its code still runs reaches no file any more.
"""

from __future__ import annotations

import errno
import os
import random
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from jwt_audit.spool import disk

_BLOCK = 512
_FIRST = 1_000_000
"""Descriptors that are given out begin here: one that is closed is never another one's number."""
_NAMING = frozenset({"open", "mkdir", "rmdir", "unlink", "rename", "link"})
_READING = frozenset({"pread", "readv", "fstat", "listdir", "directories", "stat", "statvfs"})
_FAULTY = frozenset(disk.CALLS) - {"seek", "close"}


class Killed(BaseException):
    """The process that made the call is dead."""


@dataclass
class Fault:
    """What goes wrong during one action, from its ``at``-th system call on."""

    kind: str = "none"
    """``fail``: that call alone. ``fail-after``: it did its work and says that it failed. ``short``: a write takes a
    part. ``kill`` and ``kill-after``. ``syncs``: each second sync. ``storm``: one call in four, in any way but kills.
    ``emfile``: every open. ``eio``: every call."""
    at: int = 0
    code: int = errno.EIO
    seed: int = 0


@dataclass
class Process:
    """What a kill takes away."""

    dead: bool = False
    fds: dict[int, int] = field(default_factory=dict)


@dataclass
class _Inode:
    durable: bytearray = field(default_factory=bytearray)
    dirty: list[tuple[int, int]] = field(default_factory=list)
    """What was written and is not synced: from, to."""


class Kernel:
    """Installed in the place of `disk`. One action of one process at a time."""

    def __init__(self, root: Path, grave: Path) -> None:
        self.root = root
        self.process = Process()
        self.budget: int | None = None
        """Bytes that the full disk still takes; None while it is not full."""
        self.calls = 0
        self.kills = self.failures = 0
        self._grave = grave
        self._fault = Fault()
        self._rng = random.Random(0)
        self._next = _FIRST
        self._inodes: dict[int, _Inode] = {}
        self._names: dict[int, list[Callable[[Path], None]]] = {}
        """Of a directory, how to take back what was done to its names since it was synced."""
        self._graves = 0
        self._real = {name: getattr(disk, name) for name in disk.CALLS}

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in disk.CALLS:
            monkeypatch.setattr(disk, name, self._wrapped(name))

    @contextmanager
    def acting(self, process: Process, fault: Fault) -> Iterator[None]:
        """One action of ``process``."""
        self.process, self._fault, self.calls = process, fault, 0
        self._rng = random.Random(fault.seed)
        try:
            yield
        except Killed:
            self.kill(process)
        finally:
            self._fault = Fault()

    def kill(self, process: Process) -> None:
        process.dead = True
        for fd in process.fds.values():
            os.close(fd)
        process.fds.clear()
        self.kills += 1

    def _wrapped(self, name: str) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            process = self.process
            if process.dead:
                raise Killed
            if name in ("close", "seek") and args[0] not in process.fds:
                return None  # an object of a dead process is collected
            kind = self._kind(name)
            if kind == "kill":
                raise Killed
            if kind == "fail":
                self._failed(name, args)
            if kind == "short" and name in ("write", "pwrite") and len(args[1]) > 1:
                args = (args[0], args[1][: self._rng.randrange(1, len(args[1]))], *args[2:])
            found = getattr(self, f"_{name}", self._plain(name))(*args, **options)
            if kind == "kill-after":
                raise Killed
            if kind == "fail-after":
                self._failed(name, args)
            return found

        return call

    def _failed(self, name: str, args: tuple[Any, ...]) -> None:
        self.failures += 1
        if name in ("fsync", "datasync") and args[0] in self.process.fds:
            self._inode(self.process.fds[args[0]]).dirty.clear()
        code = self._fault.code
        if self._fault.kind == "emfile":
            code = errno.EMFILE
        raise OSError(code, os.strerror(code))

    def _kind(self, name: str) -> str:
        self.calls += 1
        fault, at = self._fault, self.calls - 1
        if name not in _FAULTY or at < fault.at:
            return "kill" if fault.kind == "kill" and at == fault.at else ""
        after = "" if name in _NAMING or name in _READING or name == "flock" else "fail-after"
        if fault.kind in ("kill", "kill-after", "short", "fail"):
            return fault.kind if at == fault.at else ""
        if fault.kind == "fail-after":
            return after if at == fault.at else ""
        if fault.kind == "emfile":
            return "fail" if name in ("open", "directories", "listdir") else ""
        if fault.kind == "eio":
            return "fail"
        if fault.kind == "syncs":
            return "fail" if name in ("fsync", "datasync") and self._rng.random() < 0.5 else ""
        if fault.kind == "storm" and self._rng.random() < 0.25:
            return self._rng.choice(["fail", after, "short"])
        return ""

    def _plain(self, name: str) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            first = self.process.fds.get(args[0], args[0]) if isinstance(args[0], int) else args[0]
            return self._real[name](first, *args[1:], **options)

        return call

    def _inode(self, fd: int) -> _Inode:
        return self._inodes.setdefault(os.fstat(fd).st_ino, _Inode())

    # Files

    def _open(self, path: Path, flags: int, mode: int = 0o600) -> int:
        made = flags & os.O_CREAT and not path.exists()
        if made and self.budget is not None and self.budget < 64:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if flags & os.O_WRONLY:
            flags = flags & ~os.O_WRONLY | os.O_RDWR  # a sync looks at what was written
        fd: int = self._real["open"](path, flags, mode)
        if made:
            self._inodes[os.fstat(fd).st_ino] = _Inode()
            self._journal(path.parent, _removed(path.name))
        elif flags & os.O_TRUNC:
            self._inode(fd).dirty.clear()
        self._next += 1
        self.process.fds[self._next] = fd
        return self._next

    def _close(self, fd: int) -> None:
        os.close(self.process.fds.pop(fd))

    def _write(self, fd: int, data: bytes) -> int:
        real = self.process.fds[fd]
        return self._put(real, data, os.fstat(real).st_size, lambda part: os.write(real, part))

    def _pwrite(self, fd: int, data: bytes, offset: int) -> int:
        real = self.process.fds[fd]
        return self._put(real, data, offset, lambda part: os.pwrite(real, part, offset))

    def _put(self, real: int, data: bytes, offset: int, write: Callable[[bytes], int]) -> int:
        grows = max(0, offset + len(data) - os.fstat(real).st_size)
        if self.budget is not None and grows > self.budget:
            data = data[: len(data) - grows + self.budget]
            if not data:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            grows = self.budget
        if self.budget is not None:
            self.budget -= grows
        self._inode(real).dirty.append((offset, offset + len(data)))
        return write(data)

    def _truncate(self, fd: int, size: int) -> None:
        real = self.process.fds[fd]
        before = os.fstat(real).st_size
        os.ftruncate(real, size)
        if self.budget is not None:
            self.budget += max(0, before - size)
        inode = self._inode(real)
        inode.dirty = [(start, min(end, size)) for start, end in inode.dirty if start < size]

    def _allocate(self, fd: int, offset: int, size: int) -> None:
        real = self.process.fds[fd]
        if self.budget is not None:
            need = max(0, offset + size - os.fstat(real).st_size)
            if need > self.budget:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            self.budget -= need
        os.ftruncate(real, max(os.fstat(real).st_size, offset + size))

    def _fsync(self, fd: int) -> None:
        real = self.process.fds[fd]
        status = os.fstat(real)
        if stat.S_ISDIR(status.st_mode):
            self._names.pop(status.st_ino, None)
            return
        inode = self._inode(real)
        durable = inode.durable[: status.st_size].ljust(status.st_size, b"\0")
        content = os.pread(real, status.st_size, 0)
        for start, end in inode.dirty:
            durable[start:end] = content[start:end]
        inode.durable = bytearray(durable[: status.st_size])
        inode.dirty.clear()

    _datasync = _fsync

    # Names

    def _journal(self, directory: Path, back: Callable[[Path], None]) -> None:
        self._names.setdefault(directory.stat().st_ino, []).append(back)

    def _bury(self, path: Path) -> Path:
        """Keep what loses its name: a power loss may give it back."""
        self._graves += 1
        grave = self._grave / str(self._graves)
        os.link(path, grave)
        return grave

    def _mkdir(self, path: Path, mode: int) -> None:
        path.mkdir(mode)
        self._journal(path.parent, _removed(path.name))

    def _rmdir(self, path: Path) -> None:
        path.rmdir()
        self._journal(path.parent, _made(path.name))

    def _unlink(self, path: Path) -> None:
        grave = self._bury(path)
        size = path.stat().st_size
        path.unlink()
        if self.budget is not None:
            self.budget += size
        self._journal(path.parent, _given_back(grave, path.name))

    def _link(self, source: Path, target: Path) -> None:
        os.link(source, target)
        self._journal(target.parent, _removed(target.name))

    def _rename(self, source: Path, target: Path) -> None:
        assert source.parent == target.parent
        grave = self._bury(target) if target.is_file() else None
        source.rename(target)

        def back(parent: Path) -> None:
            if (parent / target.name).exists():
                (parent / target.name).rename(parent / source.name)
            if grave is not None:
                _give_back(grave, parent / target.name)

        self._journal(source.parent, back)

    # Power

    def lose_power(self, seed: int) -> None:
        """All processes are killed before. Names and bytes that no sync covers may be there or not."""
        rng = random.Random(seed)
        for directory in [self.root, *(path for path in self.root.rglob("*") if path.is_dir())]:
            if not directory.exists():
                continue  # its parent has lost it
            undone = self._names.pop(directory.stat().st_ino, [])
            kept = rng.choice([0, len(undone), rng.randint(0, len(undone))])
            for back in reversed(undone[kept:]):
                back(directory)
        self._names.clear()
        for path in self.root.rglob("*"):
            if path.is_file():
                self._lose_bytes(path, rng)

    def _lose_bytes(self, path: Path, rng: random.Random) -> None:
        inode = self._inodes.get(path.stat().st_ino)
        if inode is None:
            return
        content = path.read_bytes()
        after = bytearray(inode.durable)
        upto = rng.choice([0, len(content), rng.randint(0, len(content))])
        for start, end in inode.dirty:  # what came first is there first; a file has no holes of its own
            if start < upto:
                after[len(after) :] = bytes(max(0, start - len(after)))
                after[start : min(end, upto)] = content[start : min(end, upto)]
        if len(content) - len(after) >= _BLOCK and rng.random() < 0.3:  # its size was written, its bytes were not
            after[len(after) :] = bytes(len(content) - len(after))
        path.write_bytes(after)
        inode.durable, inode.dirty = after, []


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _give_back(grave: Path, path: Path) -> None:
    path.unlink(missing_ok=True)
    os.link(grave, path)


def _removed(name: str) -> Callable[[Path], None]:
    return lambda parent: _remove(parent / name)


def _made(name: str) -> Callable[[Path], None]:
    return lambda parent: (parent / name).mkdir(exist_ok=True)


def _given_back(grave: Path, name: str) -> Callable[[Path], None]:
    return lambda parent: _give_back(grave, parent / name)
