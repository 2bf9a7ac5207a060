"""The rules on which the layout rests, held over the imports of every module, lazy ones included."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from support.spools import make_stream

SRC = Path(__file__).resolve().parents[2] / "src"
LIBRARY = "jwt_audit"
INSTRUMENTATION = "opentelemetry.instrumentation.jwt_audit"
HOOKS = f"{INSTRUMENTATION}.hooks"
SETTINGS = f"{LIBRARY}.settings"
ENVIRONMENT = f"{SETTINGS}.environment"
IDENTITY = f"{LIBRARY}.identity"
WEB = {
    "a2wsgi", "aiohttp", "asgiref", "bottle", "django", "falcon", "fastapi", "flask", "granian", "gunicorn",
    "hypercorn", "litestar", "pyramid", "quart", "rest_framework", "starlette", "tornado", "uvicorn", "waitress",
    "werkzeug",
}  # fmt: skip
PURE = (
    f"{LIBRARY}.evidence",
    f"{IDENTITY}.caller",
    f"{IDENTITY}.privacy",
    f"{LIBRARY}.tokens.verify",
    f"{LIBRARY}.tokens.claims",
    f"{LIBRARY}.tokens.mapping",
    f"{LIBRARY}.tokens.explain",
    f"{LIBRARY}.tokens.observed",
    f"{LIBRARY}.ship.answers",
    f"{LIBRARY}.http.exchange",
)
IMPURE = {
    "asyncio", "concurrent", "fcntl", "glob", "http", "io", "logging", "mmap", "multiprocessing", "os", "pathlib",
    "random", "requests", "secrets", "select", "shutil", "signal", "socket", "ssl", "subprocess", "tempfile",
    "threading", "time", "urllib3", "urllib.request", "uuid",
}  # fmt: skip


@dataclass(frozen=True)
class Import:
    """One imported name: the module it comes from, the name in it (None for a whole module), and where it stands."""

    module: str
    name: str | None
    line: int
    lazy: bool
    typing_only: bool


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(SRC).with_suffix("").parts).removesuffix(".__init__")


@cache
def modules() -> dict[str, Path]:
    return {module_name(path): path for path in sorted(SRC.rglob("*.py"))}


def _imports(node: ast.AST, package: str, lazy: bool, typing_only: bool) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            for alias in child.names:
                yield Import(alias.name, None, child.lineno, lazy, typing_only)
        elif isinstance(child, ast.ImportFrom):
            base = package.split(".")[: len(package.split(".")) - child.level + 1] if child.level else []
            origin = ".".join([*base, *([child.module] if child.module else [])])
            for alias in child.names:
                yield Import(origin, alias.name, child.lineno, lazy, typing_only)
        else:
            inside = isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
            guarded = isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test)
            yield from _imports(child, package, lazy or inside, typing_only or guarded)


def imports_in(source: str, module: str, *, is_package: bool) -> list[Import]:
    """Every import of a module's source, and what it names by `import_module("…")`."""
    package = module if is_package else module.rpartition(".")[0]
    tree = ast.parse(source)
    found = list(_imports(tree, package, lazy=False, typing_only=False))
    for node in ast.walk(tree):
        called = node.func if isinstance(node, ast.Call) else None
        word = called.id if isinstance(called, ast.Name) else called.attr if isinstance(called, ast.Attribute) else ""
        if isinstance(node, ast.Call) and word in ("import_module", "__import__") and node.args:
            (first, *_) = node.args
            if isinstance(first, ast.Constant) and isinstance(first.value, str):
                found.append(Import(first.value, None, node.lineno, lazy=True, typing_only=False))
    return found


@cache
def imports(module: str) -> list[Import]:
    path = modules()[module]
    return imports_in(path.read_text("utf-8"), module, is_package=path.name == "__init__.py")


def target(found: Import) -> str:
    """The module that an import loads: ``from . import x`` loads the module ``x`` where there is one."""
    whole = f"{found.module}.{found.name}"
    return whole if whole in modules() else found.module


def within(module: str, *packages: str) -> bool:
    return any(module == package or module.startswith(f"{package}.") for package in packages)


def told(module: str, found: Import) -> str:
    return f"{module}:{found.line} imports {found.module} {found.name or ''}".strip()


def test_every_module_is_looked_at() -> None:
    """The walk finds both packages; otherwise all that follows would hold of nothing."""
    assert f"{LIBRARY}.evidence.canonical" in modules()
    assert INSTRUMENTATION in modules()
    assert f"{LIBRARY}.errors" in {target(found) for found in imports(f"{LIBRARY}.evidence.canonical")}


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("import flask", [("flask", None, False)]),
        ("def f():\n import flask.app as x", [("flask.app", None, True)]),
        ("from .. import errors", [("p", "errors", False)]),
        ("from ..errors import A, B", [("p.errors", "A", False), ("p.errors", "B", False)]),
        ("from . import x", [("p.q", "x", False)]),
        ("class A:\n def m(self):\n  from .x import y", [("p.q.x", "y", True)]),
        ("try:\n import orjson\nexcept ImportError: pass", [("orjson", None, False)]),
        ("def f(): return importlib.import_module('flask')", [("flask", None, True)]),
    ],
)
def test_the_walk_sees_each_form_of_import(source: str, expected: list[tuple[str, str | None, bool]]) -> None:
    """Relative, nested, guarded and lazy imports are all seen, and told from each other."""
    found = imports_in(source, "p.q.m", is_package=False)
    assert [(each.module, each.name, each.lazy) for each in found] == expected


def test_the_library_knows_neither_opentelemetry_nor_a_web_framework() -> None:
    """`jwt_audit` imports no OpenTelemetry but its wire messages, and web frameworks only where data comes in."""
    wrong = []
    for module in modules():
        if not within(module, LIBRARY):
            continue
        for found in imports(module):
            wire = within(found.module, "opentelemetry.proto") and within(
                module, f"{LIBRARY}.sink", f"{LIBRARY}.ship.encode"
            )
            if within(found.module, "opentelemetry") and not wire:
                wrong.append(told(module, found))
            if found.module.partition(".")[0] in WEB and not within(module, f"{LIBRARY}.sink"):
                wrong.append(told(module, found))
    assert wrong == []


def test_the_rules_are_pure() -> None:
    """Evidence, identity, token rules and the table of answers do no I/O and take clock and randomness as arguments."""
    wrong = []
    for module in modules():
        if not within(module, *PURE):
            continue
        tree = ast.parse(modules()[module].read_text("utf-8"))
        for found in imports(module):
            root = found.module.partition(".")[0]
            if root in IMPURE or found.module in IMPURE:
                wrong.append(told(module, found))
        for node in ast.walk(tree):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Name)
                and node.func.id in ("open", "print", "input")
            ):
                wrong.append(f"{module}:{node.lineno} calls {node.func.id}")
            if isinstance(node, ast.Attribute) and node.attr in ("now", "utcnow", "today"):
                wrong.append(f"{module}:{node.lineno} asks the clock")
    assert wrong == []


def test_the_spool_knows_bytes_only() -> None:
    """`spool` imports nothing of the package but errors: what a line says is for others."""
    wrong = [
        told(module, found)
        for module in modules()
        if within(module, f"{LIBRARY}.spool")
        for found in imports(module)
        if within(found.module, LIBRARY) and not within(target(found), f"{LIBRARY}.spool", f"{LIBRARY}.errors")
    ]
    assert wrong == []


def test_only_the_composition_root_and_the_commands_read_the_configuration() -> None:
    """Everything else gets what it needs as arguments: of `settings` it knows the form of an issuer, and names."""
    readers = (f"{INSTRUMENTATION}.pipeline", f"{INSTRUMENTATION}.wiring", f"{LIBRARY}.assembly", f"{LIBRARY}.cli")
    open_to_all = (f"{LIBRARY}.settings.issuer", f"{LIBRARY}.settings.variables")
    wrong = [
        told(module, found)
        for module in modules()
        if not within(module, SETTINGS, *readers)
        for found in imports(module)
        if within(target(found), SETTINGS) and not within(target(found), *open_to_all)
    ]
    assert wrong == []


def test_the_settings_know_no_part_that_they_set() -> None:
    """`settings` imports leaves, and of `identity` what is shown of people; nothing that is made from it."""
    allowed = (SETTINGS, IDENTITY, f"{LIBRARY}.attributes", f"{LIBRARY}.errors", f"{LIBRARY}.http.hosts")
    wrong = [
        told(module, found)
        for module in modules()
        if within(module, SETTINGS)
        for found in imports(module)
        if within(found.module, LIBRARY) and not within(target(found), *allowed)
    ]
    assert wrong == []


def test_identity_knows_leaves_only() -> None:
    """`identity` says who somebody is and what is shown of them, not how that was found."""
    allowed = (IDENTITY, f"{LIBRARY}.anyvalue", f"{LIBRARY}.attributes", f"{LIBRARY}.errors")
    wrong = [
        told(module, found)
        for module in modules()
        if within(module, IDENTITY)
        for found in imports(module)
        if within(found.module, LIBRARY) and not within(target(found), *allowed)
    ]
    assert wrong == []


def test_one_module_alone_reads_the_environment() -> None:
    """None but `settings.environment` names ``os.environ`` or ``os.getenv``."""
    wrong = []
    for module, path in modules().items():
        if module == ENVIRONMENT:
            continue
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            named = node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""
            if named in ("environ", "environb", "getenv") and not _is_wsgi_environ(node):
                wrong.append(f"{module}:{getattr(node, 'lineno', 0)} names {named}")
    assert wrong == []


def _is_wsgi_environ(node: ast.AST) -> bool:
    """A plain variable ``environ`` is a WSGI request's; only ``os.environ`` and its import are the process's."""
    return isinstance(node, ast.Name) or (isinstance(node, ast.Attribute) and not _is_os(node.value))


def _is_os(node: ast.AST) -> bool:
    return isinstance(node, ast.Name) and node.id == "os"


def test_nothing_takes_the_environment_out_of_os() -> None:
    """``from os import environ`` would pass the rule above unseen."""
    wrong = [
        told(module, found)
        for module in modules()
        if module != ENVIRONMENT
        for found in imports(module)
        if found.module == "os" and found.name in ("environ", "environb", "getenv", "*")
    ]
    assert wrong == []


def test_there_is_one_http_client() -> None:
    """Its deadline, proxies and words hold for whatever is fetched or sent."""
    clients = ("urllib3", "http.client", "requests", "httpx", "aiohttp")
    wrong = [
        told(module, found)
        for module in modules()
        if within(module, LIBRARY, INSTRUMENTATION) and not within(module, f"{LIBRARY}.http", HOOKS)
        for found in imports(module)
        if within(found.module, *clients) or (found.module == "urllib.request" and found.name == "urlopen")
    ]
    assert wrong == []


def test_nothing_imports_the_commands() -> None:
    """`cli` is the outermost room."""
    wrong = [
        told(module, found)
        for module in modules()
        if not within(module, f"{LIBRARY}.cli")
        for found in imports(module)
        if within(target(found), f"{LIBRARY}.cli")
    ]
    assert wrong == []


def test_there_is_no_cycle() -> None:
    """No module imports itself by way of others, not even inside a function or for types alone."""
    graph = {
        module: sorted({target(found) for found in imports(module)} & modules().keys() - {module})
        for module in modules()
    }
    assert cycle_in(graph) is None


def package_of(module: str) -> str:
    """The package that ``module`` is in, of those right below the two import packages; else the module itself."""
    root = INSTRUMENTATION if within(module, INSTRUMENTATION) else LIBRARY
    below = module.removeprefix(root).lstrip(".").partition(".")[0]
    return f"{root}.{below}".rstrip(".")


def test_there_is_no_cycle_of_packages() -> None:
    """`hooks` may import `stamp`, or `stamp` may import `hooks`, but not both."""
    graph: dict[str, set[str]] = {package_of(module): set() for module in modules()}
    for module in modules():
        imported = {package_of(target(found)) for found in imports(module) if target(found) in modules()}
        graph[package_of(module)] |= imported - {package_of(module)}
    assert {f"{INSTRUMENTATION}.hooks", f"{INSTRUMENTATION}.stamp", f"{LIBRARY}.tokens"} <= graph.keys()
    assert cycle_in({package: sorted(imported) for package, imported in graph.items()}) is None


def cycle_in(graph: dict[str, list[str]]) -> list[str] | None:
    """A cycle of ``graph``, first and last node the same, or None."""
    done: set[str] = set()

    def follow(node: str, path: list[str]) -> list[str] | None:
        if node in path:
            return [*path[path.index(node) :], node]
        if node in done:
            return None
        for following in graph[node]:
            found = follow(following, [*path, node])
            if found is not None:
                return found
        done.add(node)
        return None

    return next((found for node in graph if (found := follow(node, []))), None)


def test_a_cycle_would_be_seen() -> None:
    """The search itself finds one, and no false one in a diamond."""
    assert cycle_in({"a": ["b"], "b": ["c"], "c": ["b"]}) == ["b", "c", "b"]
    assert cycle_in({"a": ["b", "c"], "b": ["d"], "c": ["d"], "d": []}) is None


def test_hooks_import_frameworks_only_inside_functions() -> None:
    """Loading a hook loads no framework: most processes have few of those that are known."""
    allowed = (
        LIBRARY,
        INSTRUMENTATION,
        "wrapt",
        "opentelemetry.context",
        "opentelemetry.instrumentation.utils",
        "opentelemetry.propagate",
        "opentelemetry.propagators",
        "opentelemetry.sdk",
        "opentelemetry.trace",
    )
    wrong = [
        told(module, found)
        for module in modules()
        if within(module, HOOKS)
        for found in imports(module)
        if not (found.lazy or found.typing_only)
        and found.module.partition(".")[0] not in sys.stdlib_module_names
        and not within(target(found), *allowed)
        and not within(f"{found.module}.{found.name}", *allowed)
    ]
    assert wrong == []


def test_the_command_loads_no_opentelemetry_and_no_web_framework() -> None:
    """Seen in a process of its own: ``jwt-audit`` starts at once, on a laptop that has neither."""
    code = (
        "import sys, jwt_audit.cli.main\n"
        f"roots = {WEB | {'opentelemetry'}!r}\n"
        "print(sorted(name for name in sys.modules if name.partition('.')[0] in roots))"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert shown.stderr == ""
    assert shown.stdout == "[]\n"


def test_a_process_without_keys_of_ours_loads_no_cryptography(tmp_path: Path) -> None:
    """Every Python process of a container is instrumented, pip and shells too: what signs and verifies comes later."""
    script = f"""
import sys
from opentelemetry.instrumentation.jwt_audit import JWTAuditInstrumentor
JWTAuditInstrumentor().instrument(spool={str(tmp_path / "spool")!r})
print(*sorted(name for name in ("cryptography", "jwt", "urllib3", "click") if name in sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_verify_loads_nothing_that_writes_or_delivers(tmp_path: Path) -> None:
    """Seen in a process of its own that verifies a whole spool: an auditor waits for none of that."""
    make_stream(tmp_path, records=3)
    unwanted = [f"{LIBRARY}.{name}" for name in ("recorder", "tick", "spool.spool", "spool.writer", "ship", "http")]
    script = f"""
import sys
from jwt_audit.cli.main import main
try:
    main(["verify", "--json", {str(tmp_path)!r}])
except SystemExit:
    pass
print(*(name for name in {unwanted!r} if name in sys.modules), file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["totals"]["records"] == 5
    assert done.stderr.split() == []
