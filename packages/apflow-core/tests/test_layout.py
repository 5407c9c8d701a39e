"""The packages of the core: what each may contain, and the module paths that the documentation names."""

from __future__ import annotations

import ast
import re
from importlib import import_module
from pathlib import Path

import pytest

import apflow.core

CORE = Path(apflow.core.__file__).parent
PACKAGES = sorted(each.parent for each in CORE.glob("*/__init__.py"))
PURE = ("model", "payload", "planning")


@pytest.mark.parametrize("package", PACKAGES, ids=lambda each: each.name)
def test_a_package_says_what_it_holds_in_three_sentences_or_fewer(package: Path):
    tree = ast.parse((package / "__init__.py").read_text())
    text = ast.get_docstring(tree) or ""
    assert 1 <= text.replace(".\n", ". ").count(". ") + text.endswith(".") <= 3, text


@pytest.mark.parametrize(
    "package", [each for each in PACKAGES if each.name != "service"], ids=lambda each: each.name
)
def test_a_package_imports_nothing_by_itself(package: Path):
    assert len(ast.parse((package / "__init__.py").read_text()).body) == 1


@pytest.mark.parametrize(
    "module", [each for name in PURE for each in (CORE / name).glob("*.py")], ids=lambda each: each.name
)
def test_what_decides_does_not_await(module: Path):
    nodes = ast.walk(ast.parse(module.read_text()))
    assert not [each.lineno for each in nodes if isinstance(each, ast.AsyncFunctionDef | ast.Await)]


@pytest.mark.parametrize(
    ("module", "names"),
    [
        ("apflow.core.builder", ["TaskBuilder", "result_of"]),
        ("apflow.core.errors", ["ApflowError", "ValidationError"]),
        ("apflow.core.executor", ["BaseTask", "ExecutableTask"]),
        ("apflow.core.manager", ["TaskManager"]),
        ("apflow.core.plugins", ["PluginInfo"]),
        ("apflow.core.service", ["TaskService"]),
        ("apflow.core.settings", ["Settings", "get_settings"]),
        ("apflow.core.states", ["MOVES", "TaskStatus"]),
        ("apflow.core.task_executor", ["TaskExecutor"]),
    ],
)
def test_a_documented_module_has_its_names(module: str, names: list[str]):
    assert [each for each in names if not hasattr(import_module(module), each)] == []


def test_every_public_name_is_found():
    assert [each for each in apflow.core.__all__ if not hasattr(apflow.core, each)] == []


ROOT = CORE.parents[4]
PAGE = ROOT / "docs/explanation/architecture.md"


@pytest.mark.parametrize(
    "name", sorted(set(re.findall(r"`(apflow\.(?:core|server|cli)\.[a-z_.]+)`", PAGE.read_text())))
)
def test_a_module_that_the_architecture_page_names_exists(name: str):
    path = ROOT / f"packages/apflow-{name.split('.')[1]}/src" / name.replace(".", "/")
    assert path.is_dir() or path.with_suffix(".py").is_file()


def test_the_architecture_page_names_every_package_of_the_core():
    assert [each.name for each in PACKAGES if f"`apflow.core.{each.name}`" not in PAGE.read_text()] == []
