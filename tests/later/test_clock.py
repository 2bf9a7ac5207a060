"""Nothing depends on the year: the unit tests, the vectors, the documentation and the demo under a later clock."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from support import later

ROOT = Path(__file__).parents[2]
YEARS = (1, 10)
PROBE = """
import json, os, subprocess, sys, threading, time
path = sys.argv[1]
def took(call):
    begun = time.monotonic()
    call()
    return time.monotonic() - begun
open(path, "w").close()
written = os.stat(path).st_mtime
os.utime(path, (1, 1))
held = threading.Lock()
held.acquire()
print(json.dumps({
    "time": time.time(),
    "child": int(subprocess.run(["date", "+%s"], capture_output=True, check=True).stdout),
    "file": written,
    "old file": os.stat(path).st_mtime,
    "source": os.stat(sys.argv[2]).st_mtime,
    "sleep": took(lambda: time.sleep(0.2)),
    "event": took(lambda: threading.Event().wait(0.2)),
    "lock": took(lambda: held.acquire(timeout=0.2)),
}))
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    try:
        return later.build(tmp_path_factory.mktemp("later"))
    except later.MissingError as missing:
        pytest.skip(f"{missing}: not shown: that nothing depends on the year")


@dataclass(frozen=True)
class Run:
    """A process, and where its output goes."""

    process: subprocess.Popen[bytes]
    log: Path


@pytest.fixture(scope="module")
def unit_tests(library: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[int, Run]]:
    """A run of them for each year, all at the same time: they wait more than they compute."""
    started: dict[int, Run] = {}
    for years in YEARS:
        root = tmp_path_factory.mktemp("unit-tests")
        log = root / "log"
        # A directory of its own for each: of the shared one, pytest removes what looks old
        line = ["-m", "pytest", "-q", "-p", "no:cacheprovider", f"--basetemp={root / 'pytest'}"]
        line += ["tests/unit", "tests/vectors", "tests/docs"]
        environment = later.environment(library, years)
        with log.open("wb") as out:
            process = subprocess.Popen([sys.executable, *line], cwd=ROOT, env=environment, stdout=out, stderr=out)
        started[years] = Run(process, log)
    yield started
    for run in started.values():
        run.process.kill()
        run.process.wait()


@pytest.mark.parametrize("years", YEARS)
def test_the_clock_is_ahead(library: Path, tmp_path: Path, years: int) -> None:
    """The time of day and new files, of children too; not what is older, and no time-out."""
    old = later.SOURCE
    line = [sys.executable, "-c", PROBE, str(tmp_path / "file"), str(old)]
    environment = later.environment(library, years)
    now = float(environment["LATER_SINCE"])
    found = json.loads(subprocess.run(line, env=environment, capture_output=True, check=True).stdout)
    for name in ("time", "child", "file"):
        assert 0 <= found[name] - now - years * later.YEAR_SECONDS < 100, name
    assert found["old file"] == 1
    assert found["source"] == old.stat().st_mtime
    for name in ("sleep", "event", "lock"):
        assert 0.19 < found[name] < 60, name


@pytest.mark.timeout(150)
@pytest.mark.parametrize("years", YEARS)
def test_the_demo_succeeds(library: Path, years: int) -> None:
    """The apps, their tokens, the audit trail and its proof."""
    line = [sys.executable, str(ROOT / "examples/demo/run.py")]
    environment = later.environment(library, years)
    done = subprocess.run(line, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.timeout(900)
@pytest.mark.parametrize("years", YEARS)
def test_the_unit_tests_and_the_vectors_pass(unit_tests: dict[int, Run], years: int) -> None:
    """Tokens, certificates, records and files that they make or bring are of no certain year."""
    run = unit_tests[years]
    assert run.process.wait(800) == 0, run.log.read_text("utf-8", "replace")[-5000:]
