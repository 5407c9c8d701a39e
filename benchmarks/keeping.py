"""Rows about creating, loading and listing."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from time import perf_counter

from apflow.core import TaskCreator, TaskManager
from apflow.core.store.base import TaskQuery
from benchmarks import trees
from benchmarks.files import fresh_store
from benchmarks.floor import plain_tasks
from benchmarks.line import Line


async def timed(work: Callable[[], Awaitable[object]], repeats: int = 5) -> float:
    """Return the shortest of some calls, in seconds."""
    times: list[float] = []
    for _ in range(repeats):
        begin = perf_counter()
        await work()
        times.append(perf_counter() - begin)
    return min(times)


def creating(count: int) -> list[Line]:
    """Measure how long it takes to create a tree from an array."""

    async def measure() -> Line:
        array = trees.fan_out(count - 1)
        tasks = plain_tasks(array)
        async with fresh_store() as store:
            floor = await timed(lambda: store.add(tasks), 1)
        async with fresh_store() as store:
            engine = await timed(lambda: TaskCreator(store).create_task_tree_from_array(array), 1)
        about = f"a tree of {count:,} tasks from an array; floor: the store's own transaction"
        return Line(f"create_{count}", engine * 1000, floor * 1000, "ms", about)

    return [asyncio.run(measure())]


def loading(count: int) -> list[Line]:
    """Measure reading a whole tree, and a page of a list beside it."""

    async def measure() -> list[Line]:
        async with fresh_store() as store:
            await TaskCreator(store).create_task_tree_from_array(trees.fan_out(count - 1))
            repository = TaskManager(store).task_repository
            root = await repository.get_task_by_id("root")
            assert root is not None
            tree = await timed(lambda: repository.build_task_tree(root))
            rows = await timed(lambda: store.tree("root"))
            page = await timed(lambda: repository.list_tasks(limit=100))
            found = await timed(lambda: store.find(TaskQuery(limit=100)))
        return [
            Line(
                f"load_{count}",
                tree * 1000,
                rows * 1000,
                "ms",
                f"a tree of {count:,}; floor: the store's rows",
            ),
            Line(
                f"list_{count}",
                page * 1000,
                found * 1000,
                "ms",
                f"100 of {count:,}; floor: the store's own query",
            ),
        ]

    return asyncio.run(measure())
