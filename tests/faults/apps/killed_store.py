"""Kills a process that writes by the sink's store, at every call that changes the disk, and looks at what is left.

Usage: killed_store.py DIRECTORY. Prints how many kills there were; exit status 1 where something was lost.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson

from jwt_audit.errors import SpoolError
from jwt_audit.sink.store import Store
from jwt_audit.spool import disk

CALLS = ("open", "write", "pwrite", "fdatasync", "fsync", "ftruncate", "replace", "rename", "link", "unlink")
LINES = 4
RUNS = 2


def line(run: int, number: int) -> bytes:
    return orjson.dumps({"line": [run, number], "text": "x" * 5000}) + b"\n"


def kill_at(fatal: int, when: str) -> None:
    """Kill this process at the ``fatal``-th call: before it, after it, or in the middle of what it writes."""
    made = 0
    lock = threading.Lock()

    def wrap(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            nonlocal made
            with lock:
                made += 1
                now = made == fatal
            if now and when == "middle" and name in ("write", "pwrite") and arguments[0] != report:
                real(arguments[0], bytes(arguments[1])[: len(arguments[1]) // 2], *arguments[2:])
            if now and when != "after":
                os.kill(os.getpid(), signal.SIGKILL)
            result = real(*arguments, **named)
            if now:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        return call

    for name in CALLS:
        real = getattr(os, name)
        wrapped = wrap(name, real)
        setattr(os, name, wrapped)
        for alias in [alias for alias, call in vars(disk).items() if call is real]:
            setattr(disk, alias, wrapped)  # a spool's calls have names of their own, bound when they are imported


def work(directory: Path, run: int) -> None:
    """Write some lines, with a rotation between; each that is confirmed is reported."""
    store = Store(directory, ("a",))
    for number in range(LINES):
        if number == LINES // 2:
            (directory / "a").rename(directory / f"a.{run}")
        answered = threading.Event()
        failures: list[OSError | None] = []

        def done(
            failure: OSError | None, failures: list[OSError | None] = failures, answered: threading.Event = answered
        ) -> None:
            failures.append(failure)
            answered.set()

        store.write({"a": line(run, number)}, done)
        answered.wait()
        if failures == [None]:
            os.write(report, b"%d %d\n" % (run, number))
    store.close()


def child(directory: Path, run: int, fatal: int, when: str) -> bool:
    """Whether it was killed."""
    process = os.fork()
    if process == 0:
        kill_at(fatal, when)
        try:
            work(directory, run)
        except SpoolError as error:
            print(error, file=sys.stderr)
            os._exit(3)
        os._exit(0)
    _, status = os.waitpid(process, 0)
    if os.WIFEXITED(status) and os.WEXITSTATUS(status):
        raise SystemExit(f"the sink did not start: run {run}, call {fatal}, {when}")
    return os.WIFSIGNALED(status)


def look(directory: Path, told: Path, where: str) -> None:
    """All that was confirmed is there, in whole lines; what was cut off is beside."""
    confirmed = {tuple(map(int, one.split())) for one in told.read_text("ascii").splitlines()}
    kept = [path for path in directory.iterdir() if path.name == "a" or path.name[2:].isdigit()]
    found = [tuple(orjson.loads(one)["line"]) for path in kept for one in path.read_bytes().splitlines()]
    if not confirmed <= set(found) or len(found) != len(set(found)):
        raise SystemExit(f"{where}: {sorted(confirmed)} were confirmed, {sorted(found)} are there")


root = Path(sys.argv[1])
report = -1
kills = 0
for when in ("before", "middle", "after"):
    fatal = 0
    killed = True
    while killed:
        fatal += 1
        directory = root / f"{when}-{fatal}"
        told = root / f"{when}-{fatal}.confirmed"
        report = os.open(told, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        # The second process finds what the first one left, and is killed likewise; the third one lives
        killed, *_ = [child(directory, run, fatal, when) for run in range(RUNS)]
        kills += killed
        child(directory, RUNS, 10**9, when)
        os.close(report)
        look(directory, told, f"killed {when} call {fatal}")
print(kills)
