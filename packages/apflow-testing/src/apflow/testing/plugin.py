"""Fixtures: `trees`, which runs trees of tasks, `store`, an empty store in memory, and `clock`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from apflow.testing.clock import FakeClock

if TYPE_CHECKING:  # imported by the fixtures: pytest loads this module at every start
    from apflow.core.store.base import TaskStore
    from apflow.testing.trees import Trees


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
