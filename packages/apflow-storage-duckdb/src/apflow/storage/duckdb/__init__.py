"""The embedded store: one DuckDB file, used by one process at a time."""

from apflow.storage.duckdb.store import DuckDBStore, create_store

__all__ = ["DuckDBStore", "create_store"]
