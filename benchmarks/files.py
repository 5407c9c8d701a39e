"""Stores on fresh DuckDB files."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

from apflow.core import create_session
from apflow.core.store.base import TaskStore


@asynccontextmanager
async def fresh_store() -> AsyncGenerator[TaskStore]:
    """Give a store on a new DuckDB file, which is opened before and removed after."""
    with tempfile.TemporaryDirectory(prefix="apflow-benchmark-") as folder:
        store = create_session(f"duckdb:///{Path(folder) / 'benchmark.duckdb'}")
        try:
            await store.get(["opens the file"])
            yield store
        finally:
            await store.close()
