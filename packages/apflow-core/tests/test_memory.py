"""The store in memory keeps the contract, as every other one does."""

from pathlib import Path

from apflow.core.memory import MemoryStore
from apflow.core.store import TaskStore
from apflow.testing.store import StoreContract


class TestMemoryStore(StoreContract):
    def make_store(self, folder: Path) -> TaskStore:
        return MemoryStore(f"memory://{folder}")
