"""Hooks into other people's modules: on the class that defines the place, once, and never to the harm of an import."""

from __future__ import annotations

import importlib
import logging
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from opentelemetry.instrumentation.jwt_audit.hooks.patch import Target, patch_all


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], str]]:
    """Writes a module of this source, to be imported later; its name, never used before."""
    monkeypatch.syspath_prepend(tmp_path)
    names = []

    def write(source: str) -> str:
        name = f"foreign_{uuid.uuid4().hex}"
        (tmp_path / f"{name}.py").write_text(source, "utf-8")
        names.append(name)
        return name

    yield write
    for name in names:
        sys.modules.pop(name, None)


def louder(original: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *args: original(*args) + "!"


def load(name: str) -> ModuleType:
    return importlib.import_module(name)


CHILD_IN_ITS_PLACE = """
class App:
    def call(self): return "called"
class Child(App):
    pass
Child.__module__ = "opentelemetry.instrumentation.something"
Real, App = App, Child
"""


@pytest.mark.parametrize("before", [True, False])
def test_a_place_is_patched_whenever_its_module_is_imported(module: Callable[[str], str], before: bool) -> None:
    """Before or after; twice asked is once patched."""
    name = module("class App:\n def call(self): return 'called'\ndef make(): return 'made'")
    if before:
        load(name)
    places = [Target(name, "App.call", louder, ""), Target(name, "make", louder, "")]
    patch_all(places)
    patch_all(places)
    assert load(name).App().call() == "called!"
    assert load(name).make() == "made!"


def test_what_another_instrumentation_puts_in_a_class_place_hides_nothing(module: Callable[[str], str]) -> None:
    """The class that the module defines is patched, behind the subclass that has its name now."""
    name = module(CHILD_IN_ITS_PLACE)
    patch_all([Target(name, "App.call", louder, "")])
    assert load(name).Real().call() == "called!"
    assert load(name).App().call() == "called!"


def test_what_is_inherited_is_patched_where_it_is_defined(module: Callable[[str], str]) -> None:
    """A method may move to a parent in another version."""
    name = module("class Base:\n def call(self): return 'called'\nclass App(Base): pass")
    patch_all([Target(name, "App.call", louder, "")])
    assert load(name).App().call() == "called!"


@pytest.mark.parametrize("path", ["App.gone", "Gone.call", "App.text.call", "App.text"])
def test_a_place_that_is_not_there_is_told_once(
    module: Callable[[str], str], path: str, caplog: pytest.LogCaptureFixture
) -> None:
    """With what is lost by it; the module is imported all the same, and its other places are patched."""
    name = module("class App:\n text = 'a text'\n def call(self): return 'called'")
    patch_all([Target(name, path, louder, "nobody is louder"), Target(name, "App.call", louder, "")])
    with caplog.at_level(logging.WARNING, "jwt_audit"):
        assert load(name).App().call() == "called!"
        patch_all([Target(name, path, louder, "nobody is louder")])
    assert [record.getMessage() for record in caplog.records] == [
        f"{name} has no {path} in this version: nobody is louder"
    ]


def test_a_failure_of_ours_fails_no_import(module: Callable[[str], str], caplog: pytest.LogCaptureFixture) -> None:
    """It is told; the place stays as it was."""

    def wrong(_: Callable[..., Any]) -> Callable[..., Any]:
        raise ZeroDivisionError

    name = module("def make(): return 'made'")
    patch_all([Target(name, "make", wrong, "")])
    with caplog.at_level(logging.WARNING, "jwt_audit"):
        assert load(name).make() == "made"
    assert "ZeroDivisionError" in caplog.text
