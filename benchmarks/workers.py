"""The processes of a run: one for each variant, all alive at once, told in turn what to do.

So the rounds interleave (A, B, A, B) on a machine in the same state, no variant sees what another one
has loaded, patched or left behind, and only one works at a time. A worker is a subject in a process
of its own; it answers one JSON line for each that it reads.
"""

from __future__ import annotations

import gc
import importlib
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import orjson

DELIVERY_SECONDS = 120.0
"""How long a round waits for what it produced to arrive."""


class Subject(Protocol):
    """What a worker measures."""

    def run(self, count: int) -> dict[str, Any]:
        """Do the work ``count`` times; what was measured."""

    def flush(self) -> None:
        """Send on what is held back."""


def pin(place: int) -> None:
    """Bind this process to one CPU, counted from the last; where the system allows it and there are several."""
    if hasattr(os, "sched_setaffinity"):
        cpus = sorted(os.sched_getaffinity(0))
        if len(cpus) > 1:
            os.sched_setaffinity(0, {cpus[-1 - place % len(cpus)]})


class Sink:
    """A running sink, asked from outside."""

    def __init__(self, url: str) -> None:
        self.url = url

    def counts(self, name: str) -> tuple[dict[str, int], float]:
        """What arrived for ``name``, and when the last of it did (monotonic seconds, 0 before the first)."""
        with urllib.request.urlopen(f"{self.url}/{name}", timeout=30) as response:
            form = orjson.loads(response.read())
        return form["counts"], form["last"] or 0.0

    def wait(self, name: str, kind: str, count: int) -> float:
        """Wait until ``count`` of ``kind`` are there; when the last came. Raises where there are fewer, or more."""
        until = time.monotonic() + DELIVERY_SECONDS
        while True:
            counts, last = self.counts(name)
            found = counts.get(kind, 0)
            if found == count:
                return last
            if found > count or time.monotonic() > until:
                raise RuntimeError(f"{found} of {count} {kind} of {name} arrived")
            time.sleep(0.02)


@contextmanager
def running_sink() -> Iterator[Sink]:
    """A sink in a process of its own, on another CPU than the workers."""
    with _process([sys.executable, "-m", "benchmarks.sink"], 1) as process:
        assert process.stdout is not None
        yield Sink(f"http://127.0.0.1:{int(process.stdout.readline())}")


class Worker:
    """One subject's process."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process

    def ask(self, what: str, **options: Any) -> Any:
        """Have the worker do ``what``; its answer. Raises RuntimeError when it failed."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(orjson.dumps({"do": what, **options}) + b"\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("a worker has failed; what it said is above")
        return orjson.loads(line)

    def run(self, count: int, **options: Any) -> dict[str, Any]:
        found: dict[str, Any] = self.ask("run", count=count, **options)
        return found

    def flush(self) -> None:
        self.ask("flush")

    def cpu(self) -> float:
        """Seconds of CPU that the process has used, all threads together."""
        return float(self.ask("cpu"))

    def memory(self) -> float:
        """MiB of its memory that are resident."""
        return float(self.ask("memory"))


@contextmanager
def running(module: str, **options: Any) -> Iterator[Worker]:
    """A worker whose subject is ``benchmarks.MODULE.subject(**options)``."""
    command = [sys.executable, "-m", "benchmarks.workers", module, orjson.dumps(options).decode()]
    with _process(command, 0) as process:
        yield Worker(process)


@contextmanager
def _process(command: list[str], place: int) -> Iterator[subprocess.Popen[bytes]]:
    # None of the caller's settings of telemetry and interpreter, the same hash seed for all
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "PYTHON"))}
    environ |= {"PYTHONHASHSEED": "0", "BENCHMARK_CPU": str(place)}
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environ)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield process
    finally:
        process.stdin.close()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()


def resident() -> float:
    """MiB of this process's memory that are resident."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20
    except OSError:
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak / (2**20 if sys.platform == "darwin" else 2**10)


def main() -> None:
    """Answer until standard input ends."""
    subject: Subject = importlib.import_module(f"benchmarks.{sys.argv[1]}").subject(**orjson.loads(sys.argv[2]))
    for line in sys.stdin.buffer:
        options = orjson.loads(line)
        what = options.pop("do")
        answer: Any = None
        if what == "run":
            gc.collect()  # each round begins with the same: no variant pays for what was before
            before = time.process_time()
            answer = subject.run(**options)
            answer["cpu_before"] = before
        elif what == "flush":
            subject.flush()
        elif what == "cpu":
            answer = time.process_time()
        elif what == "memory":
            gc.collect()
            answer = resident()
        sys.stdout.buffer.write(orjson.dumps(answer) + b"\n")
        sys.stdout.flush()


if __name__ == "__main__":
    pin(int(os.environ["BENCHMARK_CPU"]))
    main()
