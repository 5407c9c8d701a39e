"""The shared store: one PostgreSQL, several processes."""

from apflow.storage.postgres.store import PostgresStore, create_store

__all__ = ["PostgresStore", "create_store"]
