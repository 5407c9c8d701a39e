"""A run with trees inside of trees, as a program: executors, and a way to run or resume them.

    python nested.py run|resume

`APFLOW_DATABASE_URL` names the database. Each item writes a line to `items.log` when it starts.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

from apflow.core import BaseTask, TaskExecutor, create_session, executor_register, recover

WIDTH, DEPTH, ITEMS = 2, 2, 3
TASKS, TREES = 1 + (1 + WIDTH) + WIDTH * (1 + ITEMS), 2 + WIDTH  # of the whole run
LOG = Path("items.log")


@executor_register()
class NestedItem(BaseTask):
    """One piece of work."""

    id = "nested_item"

    async def execute(self, inputs: dict[str, Any]) -> Any:
        _note(f"{self.task_id}\n")
        await asyncio.sleep(float(os.environ.get("ITEM_SECONDS", "0.01")))
        return inputs["n"]


@executor_register()
class Nesting(BaseTask):
    """Runs a tree: below the last level, of items. One of the two ways is `run_child`, the other by hand."""

    id = "nesting"

    async def execute(self, inputs: dict[str, Any]) -> Any:
        left = inputs["left"]
        if left == 0:
            tasks = under_a_group("nested_item", [{"n": n, "of": inputs["of"]} for n in range(ITEMS)])
            return await TaskExecutor().execute_tasks(tasks, db_session=create_session())
        below = [{"left": left - 1, "of": f"{inputs['of']}/{n}"} for n in range(WIDTH)]
        return await self.run_child(under_a_group("nesting", below), key="below")


def _note(line: str) -> None:
    with LOG.open("a") as log:
        log.write(line)


def under_a_group(executor: str, inputs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the array of a tree with one task for each of these inputs."""
    tasks = [
        {"id": str(n), "name": executor, "parent_id": "all", "inputs": each} for n, each in enumerate(inputs)
    ]
    return [{"id": "all", "name": "all"}, *tasks]


async def main(what: str) -> None:
    """Run the tree, or finish the run of a dead process."""
    db = create_session()
    if what == "resume":
        await recover(db)
        return
    print("started", flush=True)
    await TaskExecutor().execute_tasks(
        [{"name": "nesting", "inputs": {"left": DEPTH - 1, "of": "top"}}], db_session=db
    )


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
