"""Fixtures: `trees`, which runs trees of tasks, `store`, an empty store in memory, and `clock`.

A failing test of a contract shows the values of its assertion, and the rule that is broken.
"""

from __future__ import annotations

import sys
from collections.abc import Generator, Iterator
from pkgutil import iter_modules
from typing import TYPE_CHECKING

import pytest

import apflow.testing
from apflow.testing.clock import FakeClock
from apflow.testing.contract_rules import TITLE, explanation

if TYPE_CHECKING:  # imported by the fixtures: pytest loads this module at every start
    from apflow.core.store.base import TaskStore
    from apflow.testing.trees import Trees


# pytest rewrites assertions outside of test files only in modules that are registered before their import.
_MODULES = (f"apflow.testing.{each.name}" for each in iter_modules(apflow.testing.__path__))
pytest.register_assert_rewrite(*(each for each in _MODULES if each not in sys.modules and each != __name__))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add the rule to the report of a test of a contract that fails."""
    report = yield
    if report.failed and isinstance(item, pytest.Function):
        text = explanation(item.obj, item.cls)
        if text is not None:
            report.sections.append((TITLE, text))
    return report


@pytest.fixture
def trees() -> Iterator[Trees]:
    """Run trees of tasks with stubs for executors and a clock that does not wait; see `Trees`."""
    from apflow.testing.trees import Trees

    made = Trees()
    yield made
    made.close()


@pytest.fixture
def store() -> TaskStore:
    """Return an empty store in memory."""
    from apflow.core.store.memory import MemoryStore

    return MemoryStore()


@pytest.fixture
def clock() -> FakeClock:
    """Return a clock that does not move until it is advanced."""
    return FakeClock()
