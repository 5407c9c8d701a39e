"""The embedded store: one DuckDB file, one process."""

from apflow.storage.duckdb.store import DuckDBStore, create_store

__all__ = ["DuckDBStore", "create_store"]
