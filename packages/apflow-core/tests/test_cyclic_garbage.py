"""What a task leaves behind is freed at once: nothing of it waits for the garbage collector."""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from apflow.core import BaseTask, MemoryStore, TaskCreator, TaskManager, executor_register, get_registry

FEW, MANY = 5, 205  # a run itself leaves some hundred objects, or those of the run before are found with it
logger = logging.getLogger(__name__)


class Quick(BaseTask):
    id = "quick"

    async def execute(self, inputs: dict[str, Any]) -> Any:
        return {}


class Waits(BaseTask):
    id = "waits"

    async def execute(self, inputs: dict[str, Any]) -> Any:
        await asyncio.sleep(0.001)
        return {}


class Blocks(BaseTask):
    id = "blocks"

    def execute(self, inputs: dict[str, Any]) -> Any:
        return {}


class Fails(BaseTask):
    id = "fails"

    async def execute(self, inputs: dict[str, Any]) -> Any:
        raise ValueError("it fails")


class BlocksAndFails(BaseTask):
    id = "blocks_and_fails"

    def execute(self, inputs: dict[str, Any]) -> Any:
        raise ValueError("it fails")


class Logs(BaseTask):
    id = "logs"

    async def execute(self, inputs: dict[str, Any]) -> Any:
        logger.warning("a record")
        self.log("a line")
        return {}


class Reports(BaseTask):
    id = "reports"

    async def execute(self, inputs: dict[str, Any]) -> Any:
        await self.report_progress(0.5, "half of it")
        return {}


class Swallows(BaseTask):
    id = "swallows"

    async def execute(self, inputs: dict[str, Any]) -> Any:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            return {}


EXECUTORS = (Quick, Waits, Blocks, Fails, BlocksAndFails, Logs, Reports, Swallows)
CASES: dict[str, dict[str, Any]] = {
    **{kind.id: {"params": {"executor_id": kind.id}} for kind in EXECUTORS if kind is not Swallows},
    "in time": {"params": {"executor_id": "waits"}, "policy": {"timeout": 60}},
    "too late": {"params": {"executor_id": "waits"}, "policy": {"timeout": 0.0001}},
    "swallows its timeout": {"params": {"executor_id": "swallows"}, "policy": {"timeout": 0.01}},
    "retried": {
        "params": {"executor_id": "fails"},
        "policy": {"retry": {"max_attempts": 2, "delay": 0.001}},
    },
}


@pytest.fixture(autouse=True)
def executors() -> Iterator[None]:
    for kind in EXECUTORS:
        executor_register(kind, override=True)
    yield
    for kind in EXECUTORS:
        get_registry().unregister(kind.id)


async def collected_after(count: int, task: dict[str, Any]) -> int:
    """Run a tree of so many tasks, and return how many objects only the collector could free."""
    db = MemoryStore()
    array = [{"id": "root", "name": "root", "params": {"executor_id": "quick"}}]
    array += [{"id": f"t{n}", "name": f"t{n}", "parent_id": "root", **task} for n in range(count)]
    tree = await TaskCreator(db).create_task_tree_from_array(array)
    gc.collect()
    gc.disable()
    try:
        await TaskManager(db).distribute_task_tree(tree)
        return gc.collect()
    finally:
        gc.enable()


@pytest.mark.parametrize("case", CASES)
async def test_a_task_leaves_no_cyclic_garbage(case: str) -> None:
    await collected_after(FEW, CASES[case])  # imports and caches
    few, many = await collected_after(FEW, CASES[case]), await collected_after(MANY, CASES[case])
    assert (many - few) / (MANY - FEW) < 2, "objects per task that only the garbage collector frees"
