"""Where the spool is that no setting names: somewhere that can be written, and the operator knows where."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from jwt_audit.errors import SpoolError
from jwt_audit.settings import default_spool as module
from jwt_audit.settings.default_spool import can_be_written, default_spool
from jwt_audit.spool.spool import Spool

NAMED = {"OTEL_SERVICE_NAME": "orders"}
FIND = """
import os, sys
from jwt_audit.settings.environment import load
from jwt_audit.spool.spool import Spool
import pwd, jwt_audit.settings.issuer_file
# Before the rights are given up: this Python may lie in a closed place
os.setgroups([]), os.setgid(int(sys.argv[1])), os.setuid(int(sys.argv[1]))
config, problems = load()
assert problems == [], problems
Spool(config.spool)
print(config.spool, *config.notes, sep="\\n")
"""


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A system directory that is not there, and a shared one."""
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o1777)
    monkeypatch.setattr(module, "_SYSTEM", Path("/dev/null"))
    monkeypatch.setattr(module, "_TEMPORARY", (shared,))
    return shared


def test_the_state_directory_comes_first(tmp_path: Path) -> None:
    """By its variable, else below the home; nothing is said, and nothing is made."""
    home = {"HOME": str(tmp_path)}
    assert default_spool(NAMED | home) == (tmp_path / ".local/state/jwt-audit/orders", ())
    named = NAMED | home | {"XDG_STATE_HOME": str(tmp_path / "state")}
    assert default_spool(named) == (tmp_path / "state/jwt-audit/orders", ())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("home", ["/dev/null", "/dev/null/home", "relative"])
def test_where_there_is_no_home_it_is_told(temporary: Path, home: str) -> None:
    """A read-only home, a file in its place, none: a directory of the user's own, with a word on what to do."""
    path, notes = default_spool(NAMED | {"HOME": home})
    assert path == temporary / f"jwt-audit-{os.geteuid()}" / "orders"
    (note,) = notes
    assert note.startswith("OTEL_PYTHON_JWT_AUDIT_SPOOL: is not set, and ")
    assert str(path) in note


def test_services_without_a_name_are_told_that_they_share(tmp_path: Path) -> None:
    """Where, and what to set."""
    path, notes = default_spool({"HOME": str(tmp_path)})
    assert path.name == "unknown_service"
    (note,) = notes
    assert note.startswith("OTEL_SERVICE_NAME: is not set; records go to ")
    assert str(path) in note


def test_what_was_made_by_somebody_else_is_not_used(temporary: Path) -> None:
    """In a shared directory anybody can be first, and would read and replace what is written there."""
    theirs = temporary / "jwt-audit-0"
    theirs.mkdir()
    Spool(theirs / "ours")
    if os.geteuid() != 0:
        pytest.skip("only root can give a directory to somebody else")
    os.chown(theirs, 12345, 12345)
    with pytest.raises(SpoolError, match=r"is not safe: .*jwt-audit-0 was made by another user \(uid 12345\)"):
        Spool(theirs / "ours")


def test_what_can_be_written_is_asked_without_writing(tmp_path: Path) -> None:
    """Of the nearest directory that is there."""
    assert can_be_written(tmp_path / "a" / "b")
    assert not can_be_written(Path("/dev/null/b"))
    (tmp_path / "file").touch()
    assert not can_be_written(tmp_path / "file" / "b")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
@pytest.mark.parametrize("user", [65534, 54321], ids=["nobody", "a uid without a name"])
@pytest.mark.parametrize("home", [None, "/", "/proc"], ids=["unset", "root", "read-only"])
def test_a_user_without_a_home_has_a_spool(user: int, home: str | None) -> None:
    """As in a container: the process finds a place, makes it, and says where and why."""
    environ = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": os.pathsep.join(sys.path),
        "OTEL_SERVICE_NAME": f"test-{os.getpid()}",
    }
    if home is not None:
        environ["HOME"] = home
    line = [sys.executable, "-c", FIND, str(user)]
    found = subprocess.run(line, env=environ, cwd="/", capture_output=True, text=True, timeout=60, check=False)
    assert found.returncode == 0, found.stderr
    path, *notes = found.stdout.splitlines()
    assert Path(path).parent.name == f"jwt-audit-{user}"
    assert len(notes) == 1
    assert Path(path).stat().st_uid == user
    shutil.rmtree(path)
    if not any(Path(path).parent.iterdir()):
        Path(path).parent.rmdir()
