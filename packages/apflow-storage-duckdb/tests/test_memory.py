"""A database that reaches its memory limit: DuckDB may invalidate it, and no acknowledged change is lost."""

from __future__ import annotations

import asyncio
import os
import time
from contextlib import suppress
from pathlib import Path

from apflow.core import TaskQuery
from apflow.core.errors import StoreError
from apflow.core.model.task import Json
from apflow.storage.duckdb import DuckDBStore
from apflow.testing.building import a_tree

SECONDS, TREES = 5.0, 20  # whichever comes first, of each writer


async def test_what_was_acknowledged_outlasts_a_memory_limit_that_is_reached(tmp_path: Path):
    acknowledged: dict[str, dict[str, Json]] = {}
    until = time.monotonic() + SECONDS
    async with DuckDBStore(f"duckdb:///{tmp_path}/tasks.duckdb", memory_limit="80MB") as store:

        async def write(writer: int) -> None:
            for at in range(TREES):
                tree = a_tree(f"r{writer}-{at}", *(f"r{writer}-{at}-{child}" for child in range(3)))
                for task in tree:
                    task.inputs = {"text": os.urandom(500_000).hex()}
                with suppress(StoreError):
                    await store.add(tree)
                    acknowledged[tree[0].id] = {task.id: task.inputs for task in tree}
                if time.monotonic() > until:
                    return

        async def read() -> None:
            while time.monotonic() < until:
                with suppress(StoreError):
                    await store.find(TaskQuery(limit=20))

        await asyncio.gather(*(write(each) for each in range(4)), read(), read())
    assert acknowledged
    async with DuckDBStore(f"duckdb:///{tmp_path}/tasks.duckdb", memory_limit="2GB") as store:
        for root_id, inputs in acknowledged.items():
            assert {task.id: task.inputs for task in await store.tree(root_id)} == inputs
