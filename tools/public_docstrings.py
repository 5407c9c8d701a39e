"""Check that docstrings of the public API say what signatures do not.

Public are the names of `apflow.core.__all__`, and the names that Python blocks of the documents import. A
docstring must name

- each error that the function raises, itself or in a private function of its module;
- each parameter whose annotation leaves open what it means: JSON, functions, floats, and what may be None.

The docstring of a class counts for its methods, and the one of an overridden method for the overriding one. A
docstring that says "see `X`" is not checked: `X` is.

hatch run dev:python tools/public_docstrings.py
"""

from __future__ import annotations

import argparse
import ast
import inspect
import re
import sys
import textwrap
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

from repository import ROOT, report

BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
UNCLEAR = re.compile(r"\b(Any|Json|dict|Mapping|Callable|float|None)\b")
DELEGATES = re.compile(r"\b([Ss]ee|Do what) `")
ERROR = re.compile(r"^[A-Z]\w*(Error|Exception|Exit|Timeout)$")
# CrewAI needs an environment with other versions.
SKIPPED = ("apflow.executor.crewai", "aipartnerupflow")
# What Python and its libraries call.
PROTOCOL = re.compile(r"^__(?!init__)\w+__$|^_[^_]|^_$")
Definition = ast.FunctionDef | ast.AsyncFunctionDef


def documented_names() -> set[tuple[str, str]]:
    """Return modules and names that Python blocks of the documents import from apflow."""
    found: set[tuple[str, str]] = set()
    pages = [*ROOT.glob("docs/**/*.md"), *ROOT.glob("packages/*/README.md"), ROOT / "README.md"]
    for page in pages:
        for block in BLOCK.findall(page.read_text(encoding="utf-8")):
            try:
                tree = ast.parse(block)
            except SyntaxError:  # a part of a program
                continue
            for node in ast.walk(tree):
                if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("apflow."):
                    found |= {(node.module or "", alias.name) for alias in node.names}
    return found


def public_objects() -> Iterator[tuple[str, Any]]:
    """Yield the public classes and functions of apflow, each once, with their names."""
    core = import_module("apflow.core")
    names = {("apflow.core", name) for name in core.__all__} | documented_names()
    seen: set[int] = set()
    for module, name in sorted(names):
        if module.startswith(SKIPPED):
            continue
        value = getattr(import_module(module), name)
        home: object = getattr(value, "__module__", None)
        is_ours = isinstance(home, str) and home.startswith("apflow.")
        if is_ours and id(value) not in seen and isinstance(value, type | FunctionType):
            seen.add(id(value))
            yield f"{home}.{value.__qualname__}", value


def functions_of(name: str, value: Any) -> Iterator[tuple[str, FunctionType, str]]:
    """Yield the public functions of an object, each with the docstrings that count for it."""
    if isinstance(value, FunctionType):
        yield name, value, value.__doc__ or ""
        return
    for attribute in dir(value):
        given: Any = inspect.getattr_static(value, attribute)
        function: Any = getattr(given, "__func__", given)
        if not isinstance(function, FunctionType) or PROTOCOL.match(attribute):
            continue
        is_written = Path(function.__code__.co_filename).is_file()  # not made by `dataclass`
        if function.__module__.startswith("apflow.") and is_written:
            above = [getattr(each, attribute, None) for each in value.__mro__]
            classes = [each for each in value.__mro__ if each.__module__.startswith("apflow.")]
            texts = [getattr(each, "__doc__", None) for each in (*classes, *above)]
            yield f"{name}.{attribute}", function, "\n".join(text for text in texts if text)


def problems() -> list[str]:
    """Return what docstrings do not say."""
    found: dict[str, None] = {}
    for name, value in public_objects():
        for place, function, text in functions_of(name, value):
            if not text.strip():
                found[f"{place}: has no docstring"] = None
                continue
            if DELEGATES.search(function.__doc__ or ""):
                continue
            for parameter in unclear_parameters(function):
                if not re.search(rf"\b{re.escape(parameter)}\b", text):
                    found[f"{place}: the docstring does not say what {parameter!r} is"] = None
            for error in raised_by(function):
                if error not in text:
                    found[f"{place}: the docstring does not name {error}, which it raises"] = None
    return list(found)


def unclear_parameters(function: FunctionType) -> Iterator[str]:
    """Yield the parameters whose annotations leave open what they mean."""
    for parameter in inspect.signature(function).parameters.values():
        annotation = str(parameter.annotation)
        is_described = "Field(" in annotation and "description" in annotation
        if parameter.name not in ("self", "cls") and not is_described and UNCLEAR.search(annotation):
            yield parameter.name


def raised_by(function: FunctionType) -> set[str]:
    """Return the names of the errors that a function raises, itself or in private functions of its module."""
    module = sys.modules[function.__module__]
    definition = ast.parse(textwrap.dedent(inspect.getsource(function))).body[0]
    found: set[str] = set()
    waiting: list[ast.AST] = [definition]
    visited: set[str] = set()
    while waiting:
        node = waiting.pop()
        nodes = list(own_nodes(node))
        caught = {error for each in nodes for error in caught_by(each)}
        for each in nodes:
            if isinstance(each, ast.Raise) and (error := name_of(each.exc)) and ERROR.match(error):
                found |= {error} - caught
            if isinstance(each, ast.Call) and (called := name_of(each.func)) not in visited:
                visited.add(called)
                waiting += private_functions(module).get(called, [])
    return found


def own_nodes(node: ast.AST) -> Iterator[ast.AST]:
    """Yield the nodes of a function, without those of functions inside it, which are called later."""
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, Definition | ast.Lambda):
            yield child
            yield from own_nodes(child)


def caught_by(node: ast.AST) -> Iterator[str]:
    """Yield the names of the errors that a handler catches."""
    if isinstance(node, ast.ExceptHandler) and node.type is not None:
        kinds = node.type.elts if isinstance(node.type, ast.Tuple) else [node.type]
        yield from (name_of(kind) for kind in kinds)


def name_of(node: ast.AST | None) -> str:
    """Return the last name of an expression: `a` of `x.a(...)`; empty if there is none."""
    if isinstance(node, ast.Call):
        return name_of(node.func)
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


@cache
def private_functions(module: ModuleType) -> dict[str, list[ast.AST]]:
    """Return the private functions and methods of a module by their names."""
    path = Path(inspect.getfile(module))
    found: dict[str, list[ast.AST]] = {}
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, Definition) and node.name.startswith("_") and not node.name.startswith("__"):
            found.setdefault(node.name, []).append(node)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="the same as without it")
    parser.parse_args()
    return report(problems(), "Complete these docstrings: shapes, units, defaults, errors raised.")


if __name__ == "__main__":
    sys.exit(main())
