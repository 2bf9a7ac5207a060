"""The documentation names everything that is there, and nothing that is not."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import get_args

import click
import pytest
from click.testing import CliRunner

from jwt_audit import attributes as attr
from jwt_audit.cli.main import main
from jwt_audit.evidence.verdict import Kind
from jwt_audit.evidence.verify import STRICT_KINDS
from jwt_audit.settings.config import SETTINGS
from jwt_audit.settings.environment import load
from jwt_audit.settings.variables import PREFIX

ROOT = Path(__file__).resolve().parents[2]
SECTIONS = ("docs", "examples", "collector-config", "changelog.d")
PAGES = sorted([ROOT / "README.md", *(path for name in SECTIONS for path in (ROOT / name).rglob("*.md"))])
VARIABLES = {f"{PREFIX}{name.upper()}": setting for name, setting in SETTINGS.items()}


def text(*paths: Path) -> str:
    return "\n".join(path.read_text("utf-8") for path in paths)


def rows(page: str) -> dict[str, list[str]]:
    """The rows of a page's tables by what stands first in them, without its backticks."""
    found = {}
    for line in (ROOT / page).read_text("utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if line.startswith("| `"):
            found[cells[0].strip("`")] = cells[1:]
    return found


def commands() -> dict[str, click.Command]:
    """What `jwt-audit` can be told to do, groups written out."""

    def walk(group: click.Group, before: str) -> Iterator[tuple[str, click.Command]]:
        context = click.Context(group)
        for name in group.list_commands(context):
            command = group.get_command(context, name)
            assert command is not None
            if isinstance(command, click.Group):
                yield from walk(command, f"{before}{name} ")
            elif not command.hidden:
                yield f"{before}{name}", command

    module = import_module("jwt_audit.cli.main")
    groups = [value for value in vars(module).values() if isinstance(value, click.Group)]
    assert groups, "jwt_audit.cli.main has no click group"
    return {name: command for group in groups for name, command in walk(group, "")}


def chapters() -> dict[str, str]:
    """The chapters of docs/commands.md by the command that they are about."""
    whole = (ROOT / "docs" / "commands.md").read_text("utf-8")
    _, *parts = re.split(r"^## jwt-audit (.+)$", whole, flags=re.MULTILINE)
    return dict(zip(parts[::2], parts[1::2], strict=True))


def test_each_variable_is_documented_and_none_that_is_not_there() -> None:
    """The table of docs/configuration.md is the list of settings."""
    documented = {name for name in rows("docs/configuration.md") if name.startswith(PREFIX)}
    assert documented == set(VARIABLES)


@pytest.mark.parametrize("variable", sorted(VARIABLES))
def test_the_documented_default_is_the_default(variable: str) -> None:
    """What the table gives as default, written into the variable, changes nothing."""
    setting = VARIABLES[variable]
    default = rows("docs/configuration.md")[variable][0]
    if not default.startswith("`"):
        assert setting.field in ("spool", "endpoint", "headers") or setting.default in (None, ())
        return
    loaded, problems = load({variable: default.strip("`")})
    assert problems == []
    assert loaded == load({})[0]


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_each_variable_that_a_page_names_exists(page: Path) -> None:
    """A misspelt variable in an example would be refused at start."""
    named = set(re.findall(rf"{PREFIX}[A-Z][A-Z_]*[A-Z]", text(page)))
    assert named - set(VARIABLES) == set()


def test_each_command_is_documented_and_none_that_is_not_there() -> None:
    """Every `jwt-audit COMMAND` of the pages is a command, and every command is on a page."""
    known = set(commands())
    named = set()
    for words in re.findall(r"\bjwt-audit ([a-z][a-z\-]*(?: [a-z][a-z\-]*)?)", text(*PAGES)):
        named.add(words if words in known else words.partition(" ")[0])
    assert named == known


def test_each_command_has_its_chapter() -> None:
    """And a line in the list at the top of the page."""
    assert set(chapters()) == set(commands())
    listed = re.findall(r"^\| \[([a-z ]+)\]\(#jwt-audit-", text(ROOT / "docs/commands.md"), re.MULTILINE)
    assert set(listed) == set(commands())


@pytest.mark.parametrize("name", sorted(commands()))
def test_each_option_is_documented_and_none_that_is_not_there(name: str) -> None:
    """With an example of the command, and what its exit status says."""
    chapter = chapters()[name]
    options = [one for one in commands()[name].params if isinstance(one, click.Option)]
    documented = re.findall(r"^\| `(.+?)` \|", chapter, re.MULTILINE)
    named = {word for row in documented for word in re.findall(r"(?<![\w\-])--?[a-z][a-z\-]*", row)}
    assert named == {word for one in options for word in (*one.opts, *one.secondary_opts)}
    assert f"jwt-audit {name}" in chapter.partition("\n```\n")[2].partition("```")[0]
    assert re.search(r"^\| exit status \|", chapter, re.MULTILINE)
    shown = {word for one in options for word in (one.opts[-1],)}
    assert {word for word in re.findall(r"--[a-z][a-z\-]*", chapter) if word not in ("--help", "--version")} <= shown


@pytest.mark.parametrize("name", sorted(commands()))
def test_the_help_tells_the_same_exit_statuses(name: str) -> None:
    """And fits into a terminal of 80 columns."""
    shown = CliRunner().invoke(main, [*name.split(), "--help"], terminal_width=80).output
    statuses = re.findall(r"^ +(?:Exit status )?(\d+)  \S", shown, re.MULTILINE)
    assert statuses == re.findall(r"^\| (\d+) \|", chapters()[name], re.MULTILINE)
    assert [line for line in shown.splitlines() if len(line) > 80] == []


def test_each_event_is_documented_and_none_that_is_not_there() -> None:
    """The events of docs/format.md are those that are written."""
    events = {value for name, value in vars(attr).items() if name.startswith("EVENT_")}
    documented = set(re.findall(r"^\| `([a-z.]+)` \| event \|", text(ROOT / "docs/format.md"), re.MULTILINE))
    assert documented == events


def test_each_attribute_is_documented_and_none_that_is_not_there() -> None:
    """The attributes of docs/format.md are those of records, spans and logs."""
    names = {
        value
        for name, value in vars(attr).items()
        if name.isupper() and isinstance(value, str) and not name.startswith("EVENT_") and not value.endswith(".")
    }
    documented = {name for name, cells in rows("docs/format.md").items() if "." in name and cells[0] != "event"}
    assert documented == names


def test_each_finding_of_a_verification_is_documented_and_none_that_is_not_there() -> None:
    """docs/verification.md says of each kind what it means, and which of the notes are problems with --strict."""
    found = rows("docs/verification.md")
    documented = {
        name for name, cells in found.items() if len(cells) == 2 and name not in {"valid", "invalid", "incomplete"}
    }
    assert documented == set(get_args(Kind))
    assert {name for name, cells in found.items() if cells[-1] == "yes"} == STRICT_KINDS


def test_each_finding_can_be_found() -> None:
    """No kind is documented that no rule gives."""
    rules = text(*(ROOT / "src/jwt_audit/evidence").glob("*.py"), *(ROOT / "src/jwt_audit/sources").glob("*.py"))
    assert [kind for kind in get_args(Kind) if rules.count(f'"{kind}"') < 2] == []


def headings(page: Path) -> set[str]:
    """The anchors of a page's headings, as forges make them."""
    found = re.findall(r"^#+ (.+)$", text(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in found}


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_each_link_leads_somewhere(page: Path) -> None:
    """Relative links name files that are there, and headings that are in them."""
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", text(page)):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        there = page.parent / name if name else page
        if not there.exists() or (anchor and anchor not in headings(there)):
            broken.append(link)
    assert broken == []


def test_each_module_has_its_place_in_the_architecture() -> None:
    """The table of docs/architecture.md names each module of the two packages, and none that is not there."""
    page = text(ROOT / "docs" / "architecture.md").partition("## Modules")[2].partition("\n## ")[0]
    named = {name for row in re.findall(r"^\| (`.+?) \|", page, re.MULTILINE) for name in re.findall(r"`(.+?)`", row)}
    known = {"opentelemetry.instrumentation.jwt_audit"}
    for package, whole in (("jwt_audit", "jwt_audit."), ("opentelemetry/instrumentation/jwt_audit", "….")):
        there = [path for path in (ROOT / "src" / package).iterdir() if path.is_dir() or path.suffix == ".py"]
        known |= {f"{whole}{path.stem}" for path in there if not path.name.startswith("__")}
    assert {f"jwt_audit{name}" if name.startswith(".") else name for name in named} == known


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_table_is_torn(page: Path) -> None:
    """Rows that no header stands above are shown as they are typed."""
    before = ""
    for line, following in pairwise([*text(page).splitlines(), ""]):
        if line.startswith("|") and not before.startswith("|"):
            assert re.match(r"\|[ :\-|]+\|$", following), line
        before = line


def test_each_make_target_that_a_page_names_exists() -> None:
    """`make demo` and its like can be typed as they stand."""
    targets = set(re.findall(r"^([a-z]+):.*##", text(ROOT / "Makefile"), re.MULTILINE))
    named = set(re.findall(r"`make ([a-z]+)`|^make ([a-z]+)$", text(*PAGES), re.MULTILINE))
    assert {first or second for first, second in named} <= targets
    assert {"demo", "test", "lint", "bench", "clean", "help"} <= targets


def test_each_decision_is_listed() -> None:
    """docs/decisions/README.md leads to every decision, in their order, and each has the same parts."""
    directory = ROOT / "docs" / "decisions"
    files = {path.name for path in directory.glob("[0-9]*.md")}
    assert len(files) > 5
    assert sorted(files) == re.findall(r"\]\((\d{4}-[^)]+)\)", text(directory / "README.md"))
    for name in sorted(files):
        found = re.findall(r"^## (.+)$", text(directory / name), re.MULTILINE)
        assert found == ["Context", "Decision", "Rejected", "Consequence"], name


def test_no_page_is_empty() -> None:
    """Every page begins with a heading of the first rank; the changelog's fragments are no pages."""
    pages = [page for page in PAGES if not page.name.startswith("+")]
    assert [page for page in pages if not text(page).startswith("# ")] == []
