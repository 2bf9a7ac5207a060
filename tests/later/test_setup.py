"""The set-up of a fresh clone, with the pip that each Python brings, when everything pinned has a newer release."""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import subprocess
import zipfile
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PINS = ROOT / "requirements" / "dev.txt"
PRODUCT = "opentelemetry-instrumentation-jwt-audit"
NEWER = "9999"
SECONDS = 600.0
"""How long one step may take on a busy machine."""

# In the new environment: what the pins ask for there, what is there, and which pip came with Python.
INSTALLED = """
import ensurepip, importlib.metadata, json, re, sys
from packaging.requirements import Requirement
def canonical(name): return re.sub("[-_.]+", "-", name).lower()
lines = [line.split(" \\\\")[0] for line in open("requirements/dev.txt") if re.match("[a-zA-Z0-9]", line)]
asked = [one for one in map(Requirement, lines) if one.marker is None or one.marker.evaluate()]
print(json.dumps({
    "pinned": {canonical(one.name): str(one.specifier)[2:] for one in asked},
    "installed": {canonical(one.metadata["Name"]): one.version for one in importlib.metadata.distributions()},
    "pip": ensurepip.version(),
}))
"""

pytestmark = pytest.mark.timeout(4 * SECONDS)


def interpreter(minor: int) -> Path:
    """A Python 3.``minor`` of this machine that can make virtual environments; skips the test where there is none."""
    name = f"python3.{minor}"
    versions = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    candidates = [shutil.which(name), *sorted(versions.glob(f"3.{minor}.*/bin/{name}"))]
    for candidate in filter(None, candidates):
        line = [str(candidate), "-c", "import ensurepip, sys, venv; print(sys.executable)"]
        found = subprocess.run(line, capture_output=True, text=True, check=False)  # a shim may be of no version
        if found.returncode == 0:
            return Path(found.stdout.strip())
    pytest.skip(f"{name} is not here: not shown: that the set-up works with it and its pip")


def download(python: Path, minor: int, scratch: Path) -> Path:
    """Directory with the pinned wheels, this Python's among them; kept in the user's cache, once for all clones."""
    kept = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "jwt-audit" / "wheels"
    kept.mkdir(parents=True, exist_ok=True)
    complete = kept / f"complete-3.{minor}-{sha256(PINS.read_bytes()).hexdigest()[:16]}"
    with (kept / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not complete.exists():
            subprocess.run([python, "-m", "venv", scratch], check=True)
            line = [str(scratch / "bin" / "python"), "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
            line += ["--no-deps", "--require-hashes", "--only-binary", ":all:", "--dest", str(kept)]
            subprocess.run([*line, "--requirement", str(PINS)], check=True, timeout=SECONDS)
            complete.touch()
    return kept


def offer_newer(wheels: Path, target: Path) -> None:
    """Write a newer release of every project among ``wheels``, and of our own: its metadata under a higher version."""
    names = {}
    for wheel in sorted(wheels.glob("*.whl")):
        with zipfile.ZipFile(wheel) as archive:
            (path,) = [name for name in archive.namelist() if re.fullmatch(r"[^/]+\.dist-info/METADATA", name)]
            names[wheel.name.split("-")[0]] = archive.read(path)
    names[PRODUCT.replace("-", "_")] = f"Metadata-Version: 2.1\nName: {PRODUCT}\nVersion: 0\n".encode()
    for name, metadata in names.items():
        newer = re.sub(rb"(?m)^Version: .*$", f"Version: {NEWER}".encode(), metadata, count=1)
        folder = f"{name}-{NEWER}.dist-info"
        with zipfile.ZipFile(target / f"{name}-{NEWER}-py3-none-any.whl", "w") as archive:
            archive.writestr(f"{folder}/METADATA", newer)
            archive.writestr(f"{folder}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
            archive.writestr(f"{folder}/RECORD", "")


def clone(target: Path) -> None:
    """What a commit of this working tree would hold, committed in a repository of its own."""
    line = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(line, cwd=ROOT, capture_output=True, check=True)
    for name in filter(None, listed.stdout.decode().split("\0")):
        if (ROOT / name).exists():  # not removed since the last commit
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, target / name)
    who = ["-c", "user.name=test", "-c", "user.email=test@example.com"]
    for command in (["init", "-q"], ["add", "-A"], [*who, "commit", "-q", "-m", "all"]):
        subprocess.run(["git", *command], cwd=target, check=True)


def running_from(directory: Path) -> Iterator[str]:
    """The command lines of processes that were started from ``directory``."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            line = (process / "cmdline").read_bytes()
        except OSError:
            continue  # it has ended
        if str(directory).encode() in line:
            yield line.replace(b"\0", b" ").decode()


@pytest.mark.parametrize("minor", range(10, 15))
def test_a_fresh_clone_takes_what_is_pinned(tmp_path: Path, minor: int) -> None:
    """`make demo` and `make test`, twice, with no index but files on this disk; and nothing is left behind."""
    python = interpreter(minor)
    wheels = download(python, minor, tmp_path / "downloading")
    for name in ("newer", "bin", "clone"):
        (tmp_path / name).mkdir()
    offer_newer(wheels, tmp_path / "newer")
    clone(tmp_path / "clone")
    (tmp_path / "bin" / "python3").symlink_to(python)  # the first that the Makefile looks for
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PIP_", "PYTHON", "PYTEST", "COV_", "MAKE", "MFLAGS", "VIRTUAL_ENV"))
    } | {
        "PATH": f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": f"{wheels} {tmp_path / 'newer'}",
    }

    def make(*arguments: str) -> str:
        line = ["make", "--no-print-directory", *arguments]
        done = subprocess.run(
            line,
            cwd=tmp_path / "clone",
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        assert done.returncode == 0, done.stdout[-5000:]
        return done.stdout

    assert f"Setting up .venv with Python 3.{minor}." in make("demo")
    assert "Setting up" not in make("demo")
    for _ in range(2):
        assert " passed" in make("test", "PYTEST=-q tests/vectors")

    line = [str(tmp_path / "clone" / ".venv" / "bin" / "python"), "-c", INSTALLED]
    found = json.loads(subprocess.run(line, cwd=tmp_path / "clone", capture_output=True, check=True).stdout)
    found["installed"].pop("setuptools", None)  # up to Python 3.11, ensurepip brings it too
    own = {"pip": found["pip"], PRODUCT: found["installed"][PRODUCT]}
    assert found["installed"] == found["pinned"] | own
    assert NEWER not in found["installed"].values()

    status = ["git", "status", "--porcelain"]
    assert subprocess.run(status, cwd=tmp_path / "clone", capture_output=True, check=True).stdout == b""
    assert list(running_from(tmp_path)) == []
