"""``jwt-audit verify`` over a spool: records a second and core.

The command runs as a process of its own over a large and over a small spool; what it needs of CPU for
the difference counts, so its start does not. All of its threads and processes count.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import orjson

from jwt_audit import attributes as attr
from jwt_audit.evidence.record import Record
from jwt_audit.evidence.signing import Signer
from jwt_audit.recorder import Recorder
from jwt_audit.spool.spool import Spool

from . import append
from .figures import Figure, quantile


def run(quick: bool) -> Iterator[Figure]:
    """One figure."""
    rounds, small, large = (2, 100, 2000) if quick else (9, 1000, 41_000)
    with tempfile.TemporaryDirectory() as directory:
        spools = [Path(directory) / str(count) for count in (small, large)]
        for spool, count in zip(spools, (small, large), strict=True):
            _fill(spool, count)
        rates = []
        for _ in range(rounds):
            less, more = (_cpu(spool, count) for spool, count in zip(spools, (small, large), strict=True))
            rates.append((large - small) / (more - less))
    microseconds = 1e6 / quantile(rates, 0.5)
    yield Figure(
        "verify",
        "records verified",
        "records/s a core",
        50_000,
        rates,
        f"{microseconds:.1f} us of CPU a record; {large:,} records of a spool, its heads' signatures among it",
        at_least=True,
    )


def _fill(spool: Path, count: int) -> None:
    signer = Signer.generate()
    recorder = Recorder(Spool(spool), signer=lambda: signer, binding=lambda: {attr.STREAM_RESOURCE: "{}"})
    record = append.ordinary()
    for _ in range(count):
        recorder.append(Record(record.event_name, record.timestamp, dict(record.attributes), record.body))
    recorder.close()


def _cpu(spool: Path, count: int) -> float:
    """Seconds of CPU that the command takes. Raises where it does not prove what is there."""
    command = [sys.executable, "-c", "from jwt_audit.cli.main import main; main()", "verify", "--json", str(spool)]
    before = os.times()
    done = subprocess.run(command, capture_output=True, check=True)
    after = os.times()
    form = orjson.loads(done.stdout)
    records = sum(stream["records"] for stream in form["streams"])
    if form["verdict"] != "valid" or records < count:
        raise RuntimeError(f"{spool} is {form['verdict']} with {records} records")
    return after.children_user + after.children_system - before.children_user - before.children_system
