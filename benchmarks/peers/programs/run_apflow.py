"""apflow, on a DuckDB file."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

from shapes import timed

from apflow.core import BaseTask, TaskExecutor, create_session, executor_register
from apflow.core.engine.gc_tuning import tune_process

RUNS = itertools.count()


@executor_register()
class Nothing(BaseTask):
    """Returns at once."""

    id = "nothing"

    async def execute(self, inputs: dict[str, Any]) -> int:  # noqa: ARG002
        """Return a small result."""
        return 1


def tasks_of(shape: str, size: int) -> list[dict[str, Any]]:
    """Return a shape as an array of tasks; the last task of each is the root."""
    run = next(RUNS)
    ids = [f"{run}-{number}" for number in range(size + (shape == "fan"))]
    *below, root = ids
    tasks: list[dict[str, Any]] = [{"id": each, "name": "nothing"} for each in ids]
    for number, task in enumerate(tasks):
        if task["id"] != root:
            task["parent_id"] = root
        if shape == "chain" and number:
            task["dependencies"] = [ids[number - 1]]
    if shape == "fan":
        tasks[-1]["dependencies"] = below
    return tasks


def run(shape: str, size: int) -> int:
    """Store a tree and run it."""
    db = create_session("duckdb:///apflow.duckdb")
    tasks = tasks_of(shape, size)
    outcome = asyncio.run(TaskExecutor().execute_tasks(tasks, db_session=db))
    return len(tasks) if outcome["status"] == "completed" else 0  # the root ends after all the others


tune_process()
timed("apflow-core", run)
