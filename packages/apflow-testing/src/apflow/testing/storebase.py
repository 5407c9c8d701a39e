"""What the parts of the contract of a store share: how a store is made, and made empty."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from apflow.core.store.base import TaskStore


class StoreMaker(ABC):
    """Makes the store under test."""

    @abstractmethod
    def make_store(self, folder: Path) -> TaskStore:
        """Return a store that keeps its data in `folder`: the same data for the same folder."""

    @pytest_asyncio.fixture
    async def store(self, tmp_path: Path) -> AsyncIterator[TaskStore]:
        """Give an empty store, closed after the test."""
        store = self.make_store(tmp_path)
        yield store
        await store.close()

    @pytest_asyncio.fixture
    async def two(self, tmp_path: Path) -> AsyncIterator[tuple[TaskStore, TaskStore]]:
        """Give two stores of the same data."""
        first = self.make_store(tmp_path)
        if not first.capabilities.is_shared:
            pytest.skip("the store admits one process")
        second = self.make_store(tmp_path)
        yield first, second
        await first.close()
        await second.close()
