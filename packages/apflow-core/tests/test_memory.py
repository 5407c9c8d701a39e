"""The store in memory keeps the contract, as every other one does."""

from pathlib import Path

from apflow.core.store.base import TaskStore
from apflow.core.store.memory import MemoryStore
from apflow.testing.store import StoreContract


class TestMemoryStore(StoreContract):
    def make_store(self, folder: Path) -> TaskStore:
        return MemoryStore(f"memory://{folder}")
