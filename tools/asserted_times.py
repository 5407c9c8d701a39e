"""Check that no test asserts how long something takes.

A bound in seconds fails on a busy machine, or says nothing. A test compares with a floor that it measures in
the same run, counts calls or steps, or looks at the order of events. Against a hang, it uses a timeout:
`asyncio.timeout`, `pytest.mark.timeout`, the `timeout` of a call. Lower bounds are accepted: time also passes
on busy machines.

hatch run dev:python tools/asserted_times.py --check
"""

from __future__ import annotations

import argparse
import ast
import sys
from collections.abc import Iterator
from pathlib import Path

from repository import ROOT, report

CLOCKS = ("monotonic", "perf_counter", "process_time", "thread_time", "time")
UPPER = (ast.Lt, ast.LtE)
ADVICE = "Compare with a floor of the same run, count, or use a timeout against a hang."


def tests() -> Iterator[Path]:
    """Yield the files that have tests."""
    for folder in (*sorted(ROOT.glob("packages/*/tests")), ROOT / "tests-integration"):
        yield from sorted(folder.rglob("test_*.py"))


def faults(source: str, path: Path) -> Iterator[str]:
    """Yield a line for each assertion of an upper bound on a time."""
    for function in ast.walk(ast.parse(source)):
        if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        names = {
            target.id
            for each in own_nodes(function)
            if isinstance(each, ast.Assign) and is_duration(each.value, set())
            for target in each.targets
            if isinstance(target, ast.Name)
        }
        for each in own_nodes(function):
            if isinstance(each, ast.Assert) and asserts_time(each.test, names):
                yield f"{path}:{each.lineno}: {function.name} asserts how long something takes."


def own_nodes(function: ast.AST) -> Iterator[ast.AST]:
    """Yield the nodes of a function, without those of functions inside of it."""
    waiting = list(ast.iter_child_nodes(function))
    while waiting:
        node = waiting.pop()
        yield node
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            waiting.extend(ast.iter_child_nodes(node))


def asserts_time(test: ast.expr, names: set[str]) -> bool:
    """Return whether an expression gives a time an upper bound that was not measured."""
    for node in ast.walk(test):
        if isinstance(node, ast.Compare) and len(node.ops) == 1:
            left, right = node.left, node.comparators[0]
            small, large = (left, right) if isinstance(node.ops[0], UPPER) else (right, left)
            is_bound = isinstance(node.ops[0], (*UPPER, ast.Gt, ast.GtE))
            if is_bound and is_duration(small, names) and is_fixed(large):
                return True
    return False


def is_duration(node: ast.expr, names: set[str]) -> bool:
    """Return whether an expression is what has passed on a clock since a moment."""
    if isinstance(node, ast.Name):
        return node.id in names
    if not isinstance(node, ast.BinOp) or not isinstance(node.op, ast.Sub):
        return False
    clock = node.left
    name = clock.func if isinstance(clock, ast.Call) else None
    return (isinstance(name, ast.Attribute) and name.attr in CLOCKS) or (
        isinstance(name, ast.Name) and name.id in CLOCKS
    )


def is_fixed(node: ast.expr) -> bool:
    """Return whether an expression is made of numbers and constants only."""
    for part in ast.walk(node):
        if isinstance(part, ast.Call) or (isinstance(part, ast.Name) and not part.id.isupper()):
            return False
    return True


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="the same as without it")
    parser.parse_args()
    found = [line for path in tests() for line in faults(path.read_text("utf-8"), path.relative_to(ROOT))]
    return report(found, ADVICE)


if __name__ == "__main__":
    sys.exit(main())
