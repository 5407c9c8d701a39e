"""The DuckDB store keeps the contract of stores, in a file and in memory."""

from pathlib import Path

from apflow.core.store.base import TaskStore
from apflow.storage.duckdb import DuckDBStore
from apflow.testing.store import StoreContract


class TestDuckDBFile(StoreContract):
    def make_store(self, folder: Path) -> TaskStore:
        return DuckDBStore(f"duckdb:///{folder}/tasks.duckdb")


class TestDuckDBMemory(StoreContract):
    def make_store(self, folder: Path) -> TaskStore:
        return DuckDBStore("duckdb:///:memory:")
