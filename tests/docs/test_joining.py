"""What people need to join the project: valid workflows, pages that name what is there, links on a package index."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
ACTIONLINT = "github.com/rhysd/actionlint/cmd/actionlint@v1.7.12"


def test_the_workflows_pass_actionlint() -> None:
    """Each workflow is valid: syntax, expressions, names of contexts, shell scripts."""
    if shutil.which("go") is None:
        pytest.skip("Go is not installed: it was not shown that actionlint accepts the workflows")
    done = subprocess.run(
        ["go", "run", ACTIONLINT, *map(str, WORKFLOWS)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if done.returncode and "dial tcp" in done.stderr:
        pytest.skip("actionlint could not be had: it was not shown that it accepts the workflows")
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_actions_are_pinned_and_tokens_are_narrow(path: Path) -> None:
    """An action is named by its commit, since a tag can be moved; a workflow may read the repository and no more."""
    text = path.read_text("utf-8")
    used = re.findall(r"uses: (\S+)", text)
    assert used
    assert [one for one in used if not re.fullmatch(r"[\w./-]+@[0-9a-f]{40}", one)] == []
    assert yaml.safe_load(text)["permissions"] == {"contents": "read"}


def test_the_workflows_cover_the_pythons_of_the_classifiers() -> None:
    """What the package says that it runs on is what the checks run on."""
    classified = re.findall(r"Python :: (3\.\d+)\"", (ROOT / "pyproject.toml").read_text("utf-8"))
    checks = yaml.safe_load((ROOT / ".github/workflows/checks.yml").read_text("utf-8"))
    assert checks["jobs"]["unit"]["strategy"]["matrix"]["python"] == classified


@pytest.mark.parametrize("name", ["CONTRIBUTING.md", "SECURITY.md", ".github/CODEOWNERS"])
def test_what_a_page_names_is_there(name: str) -> None:
    """Paths in back quotes, link targets and owned paths exist."""
    text = (ROOT / name).read_text("utf-8")
    named = re.findall(r"`((?:src|tests|docs|hooks)/[\w./-]+)`", text)
    named += [link.partition("#")[0] for link in re.findall(r"\]\((?!https?:)([^)]+)\)", text)]
    named += re.findall(r"^/(\S+)", text, re.MULTILINE)
    assert named
    roots = (ROOT, ROOT / "src/opentelemetry/instrumentation/jwt_audit", ROOT / "src/jwt_audit")
    assert [one for one in named if not any((root / one).exists() for root in roots)] == []


def test_the_package_index_shows_links_that_work() -> None:
    """README.md is shown alone there: the build makes its relative links name the repository."""
    project = (ROOT / "pyproject.toml").read_text("utf-8")
    pattern = re.search(r"pattern = '(.*)'", project)
    assert pattern is not None
    found = re.findall(pattern[1].replace("\\\\", "\\"), (ROOT / "README.md").read_text("utf-8"))
    assert "docs/stacks.md" in found
    assert [one for one in found if not (ROOT / one.partition("#")[0]).exists()] == []
