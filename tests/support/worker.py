"""A process that serves as ``tests/faults/apps/worker.py`` does, to be filled, starved and killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

WORKER = Path(__file__).parent.parent / "faults" / "apps" / "worker.py"
P = "OTEL_PYTHON_JWT_AUDIT_"


class Worker:
    """One such process, and what it answered. ``url``: its receiver's, or ``none``."""

    def __init__(self, spool: Path, url: str, **settings: str) -> None:
        self.answered: list[str] = []
        self.refused: list[str] = []
        self.slowest = 0.0
        own = {f"{P}{name}": value for name, value in settings.items() if name.isupper()}
        other = {name.removeprefix("env_"): value for name, value in settings.items() if name.startswith("env_")}
        environment = os.environ | {f"{P}SPOOL": str(spool), f"{P}ENDPOINT": url} | own | other
        self.process = subprocess.Popen(
            [sys.executable, str(WORKER)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment,
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "ready\n"

    def serve(self, count: int) -> int:
        """So many requests; how many of them were answered."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{count}\n")
        self.process.stdin.flush()
        before = len(self.answered)
        while (line := self.process.stdout.readline()) != "done\n":
            name, said, seconds = line.split()
            (self.answered if said == "ok" else self.refused).append(name)
            self.slowest = max(self.slowest, float(seconds))
        return len(self.answered) - before

    def end(self) -> None:
        """The orderly end."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait(60)
        self.process.stdout.close()

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            with suppress(OSError):
                pipe.close()
