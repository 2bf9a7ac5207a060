"""Runs the test suites of OpenTelemetry's instrumentations and of frameworks, with us and without, and compares.

``python -m suites DIRECTORY [NAME …]``: archives, unpacked suites, spools and results go below ``DIRECTORY``; a
``NAME`` is an archive's, or a part of some archives'. Both runs are made under ``opentelemetry-instrument`` with all
other instrumentation off, as these suites instrument by themselves; they differ in us alone. Ends with 1 where the
outcome of a test differs and does so again.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import time
from collections import Counter
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from xml.etree import ElementTree as ET

import tomli

HERE = Path(__file__).parent
BIN = Path(sys.executable).parent
OURS = "jwt_audit"
SECONDS = 1800
"""How long one run of a suite may take."""
AGAIN = 2
"""How often tests are run once more whose outcomes differ: some of these suites' depend on time."""

HEADS = ("suite", "tests", "passed", "failed", "skipped", "differ", "s without", "s with us")

Outcomes = dict[str, str]
"""The outcome of each test: passed, skipped, failure or error."""


@dataclass(frozen=True)
class Suite:
    """One suite: the archive it comes in, and pytest's arguments."""

    archive: str
    sha256: str
    arguments: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return self.archive.partition("==")[0]


class Runner:
    """Below ``root``: the archives, what is unpacked of them, and the results."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for name in ("archives", "unpacked", "results"):
            (root / name).mkdir(parents=True, exist_ok=True)

    def unpack(self, suite: Suite) -> Path:
        """The suite's directory, from its archive, which is fetched where it is not there and must have its hash."""
        wanted = self.root / "archives" / f"{suite.name}.txt"
        wanted.write_text(f"{suite.archive} --hash=sha256:{suite.sha256}\n", "utf-8")
        line = ["download", "--quiet", "--disable-pip-version-check", "--no-deps", "--no-binary", suite.name]
        line += ["--require-hashes", "--dest", str(wanted.parent), "--requirement", str(wanted)]
        subprocess.run([str(BIN / "python"), "-m", "pip", *line], check=True)
        name, _, version = suite.archive.partition("==")
        (found,) = (*wanted.parent.glob(f"{name.replace('-', '_')}-{version}.tar.gz"),)
        directory = self.root / "unpacked"
        whole = directory / found.name.removesuffix(".tar.gz")
        shutil.rmtree(whole, ignore_errors=True)
        with tarfile.open(found) as archive:
            archive.extractall(directory, filter="data")
        return whole

    def run(
        self, suite: Suite, directory: Path, *, with_us: bool, only: list[str] | None = None
    ) -> tuple[Outcomes, float]:
        """The outcomes and the seconds that it took; of ``only`` these tests, where they are named."""
        mode = "with" if with_us else "without"
        results = self.root / "results" / f"{suite.name}-{mode}.xml"
        results.unlink(missing_ok=True)
        line = [str(BIN / "opentelemetry-instrument"), str(BIN / "pytest"), "-q", "-p", "no:cacheprovider"]
        line += [f"--junitxml={results}", *(("-p", "suites.plugin") if with_us else ()), *suite.arguments]
        if "[tool.pytest" not in (directory / "pyproject.toml").read_text("utf-8"):
            # Else pytest would look further up, and find the settings of our own tests.
            none = self.root / "pytest.ini"
            none.write_text("[pytest]\n", "utf-8")
            line += ["-c", str(none), f"--rootdir={directory}"]
        began = time.monotonic()
        with results.with_suffix(".log").open("wb") as log:
            subprocess.run(
                [*line, *(only or ["tests"])],
                cwd=directory,
                env=self._environment(suite, mode),
                stdout=log,
                stderr=subprocess.STDOUT,
                timeout=SECONDS,
                check=False,
            )
        seconds = time.monotonic() - began
        if not results.exists():
            raise SystemExit(f"{suite.name} did not run:\n{results.with_suffix('.log').read_text('utf-8', 'replace')}")
        return outcomes(results), seconds

    def _environment(self, suite: Suite, mode: str) -> dict[str, str]:
        off = {point.name for point in entry_points(group="opentelemetry_instrumentor")}
        if mode == "with":
            off.discard(OURS)
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "PYTEST"))}
        return kept | {
            "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(HERE.parent),
            "PYTHONDONTWRITEBYTECODE": "1",
            "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": ",".join(sorted(off)),
            "OTEL_TRACES_EXPORTER": "none",
            "OTEL_METRICS_EXPORTER": "none",
            "OTEL_LOGS_EXPORTER": "none",
            "OTEL_PYTHON_JWT_AUDIT_SPOOL": str(self.root / "spools" / suite.name),
        }

    def compare(self, suite: Suite) -> tuple[list[str], dict[str, tuple[str, str]]]:
        """A row of the table, and the tests whose outcomes differ: without us and with us."""
        directory = self.unpack(suite)
        without, seconds = self.run(suite, directory, with_us=False)
        with_us, more = self.run(suite, directory, with_us=True)
        if not without:
            return [suite.archive, "no tests are in its archive"], {}
        found = differences(without, with_us)
        for _ in range(AGAIN):
            if found:
                files = sorted({test.partition("::")[0] for test in found})
                again = [self.run(suite, directory, with_us=one, only=files)[0] for one in (False, True)]
                found = {test: pair for test, pair in differences(*again).items() if test in found}
        count = Counter(without.values())
        failed = count["failure"] + count["error"]
        numbers = (len(without), count["passed"], failed, count["skipped"], len(found))
        return [suite.archive, *map(str, numbers), f"{seconds:.1f}", f"{more:.1f}"], found


def outcomes(results: Path) -> Outcomes:
    """What a JUnit file says of each test, by the file it stands in and its name; the worst of its parts."""
    found: Outcomes = {}
    for case in ET.parse(results).iter("testcase"):
        kinds = [child.tag for child in case if child.tag in ("failure", "error", "skipped")]
        parts = case.get("classname", "").split(".")
        while parts and not parts[-1].startswith("test_"):
            parts.pop()
        name = f"{'/'.join(parts)}.py::{case.get('classname')}::{case.get('name')}"
        found[name] = max(found.get(name, ""), kinds[0] if kinds else "passed", key=_badness)
    return found


def _badness(outcome: str) -> int:
    return ("", "passed", "skipped", "failure", "error").index(outcome)


def differences(without: Outcomes, with_us: Outcomes) -> dict[str, tuple[str, str]]:
    """The tests whose outcomes are not the same, or that only one of the runs has."""
    names = sorted(without.keys() | with_us.keys())
    pairs = {name: (without.get(name, "absent"), with_us.get(name, "absent")) for name in names}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def main() -> int:
    given = tomli.loads((HERE / "suites.toml").read_text("utf-8"))["suite"]
    wanted = sys.argv[2:]
    suites = [Suite(one["archive"], one["sha256"], tuple(one.get("arguments", ()))) for one in given]
    names = [suite.name for suite in suites]
    chosen = {name for part in wanted for name in names if name == part or (part not in names and part in name)}
    runner = Runner(Path(sys.argv[1]).resolve())
    shutil.rmtree(runner.root / "spools", ignore_errors=True)
    print(f"{HEADS[0]:46}" + "".join(f"{head:>11}" for head in HEADS[1:]), flush=True)
    found: dict[str, tuple[str, str]] = {}
    for suite in suites:
        if wanted and suite.name not in chosen:
            continue
        row, differing = runner.compare(suite)
        found |= {f"{suite.name} {test}": pair for test, pair in differing.items()}
        print(f"{row[0]:46}" + "".join(f"{cell:>11}" for cell in row[1:]), flush=True)
    for test, (without, with_us) in found.items():
        print(f"{test}: {without} without us, {with_us} with us")
    return 1 if found else 0


if __name__ == "__main__":
    raise SystemExit(main())
