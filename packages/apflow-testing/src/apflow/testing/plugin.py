"""Fixtures: `store`, an empty store in memory, and `clock`, which tests advance."""

from __future__ import annotations

import pytest

from apflow.core.store.base import TaskStore
from apflow.core.store.memory import MemoryStore
from apflow.testing.clock import FakeClock


@pytest.fixture
def store() -> TaskStore:
    """Return an empty store in memory."""
    return MemoryStore()


@pytest.fixture
def clock() -> FakeClock:
    """Return a clock that does not move until it is advanced."""
    return FakeClock()
