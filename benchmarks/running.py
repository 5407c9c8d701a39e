"""Rows about running trees: throughput, chains, latency, waiting tasks."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from statistics import median, quantiles
from time import perf_counter

from apflow.core import TaskCreator, TaskManager, TaskTreeNode
from apflow.core.model.task import Json, Task
from apflow.core.settings import get_settings
from apflow.core.store.base import TaskStore
from benchmarks import trees
from benchmarks.files import fresh_store
from benchmarks.floor import completed, plain_tasks, push_in_batches, push_in_sequence, started
from benchmarks.line import Line

Array = Sequence[dict[str, Json]]
Timed = Callable[[TaskStore, Array], Awaitable[float]]


async def before(task: Task) -> None:
    """Stand for a user's pre-hook."""


async def after(task: Task, inputs: Json, result: Json) -> None:
    """Stand for a user's post-hook."""


async def created(store: TaskStore, array: Array) -> TaskTreeNode:
    """Store the tree of an array."""
    return await TaskCreator(store).create_task_tree_from_array(list(array))


async def run_watched(store: TaskStore, tree: TaskTreeNode) -> float:
    """Run a tree with hooks and a subscriber; return the seconds of the run itself."""
    manager = TaskManager(store, pre_hooks=[before], post_hooks=[after])
    seen = 0

    async def watch() -> None:
        nonlocal seen
        async for _ in manager.subscribe(tree.task.id):
            seen += 1

    async with asyncio.TaskGroup() as group:
        group.create_task(watch(), name="benchmark:watch")
        await asyncio.sleep(0)
        begin = perf_counter()
        await manager.distribute_task_tree(tree)
        elapsed = perf_counter() - begin
    assert tree["status"] == "completed"
    assert seen > 0
    return elapsed


async def create_and_run_watched(store: TaskStore, array: Array) -> float:
    """Store a tree, run it with hooks and a subscriber; return the seconds of the run itself."""
    return await run_watched(store, await created(store, array))


async def create_and_run(store: TaskStore, array: Array) -> float:
    """Store a tree, run it without hooks; return the seconds of the run itself."""
    tree = await created(store, array)
    begin = perf_counter()
    await TaskManager(store).distribute_task_tree(tree)
    elapsed = perf_counter() - begin
    assert tree["status"] == "completed"
    return elapsed


async def best(timed: Timed, array: Array, repeats: int) -> float:
    """Return the shortest of some runs, each on a new file."""
    times: list[float] = []
    for _ in range(repeats):
        async with fresh_store() as store:
            times.append(await timed(store, array))
    return min(times)


def fan_out(count: int) -> list[Line]:
    """Measure tasks per second of a fan-out, hooks and events on."""

    async def measure() -> Line:
        repeats = max(1, min(5, 5000 // count))
        array = trees.fan_out(count)
        floor = await best(push_in_batches, array, repeats)
        engine = await best(create_and_run_watched, array, repeats)
        about = f"{count:,} no-op tasks and an aggregate, hooks and events on; floor: the store's own batches"
        return Line(f"fan_out_{count}", len(array) / engine, len(array) / floor, "tasks/s", about)

    return [asyncio.run(measure())]


async def create_and_run_whole(store: TaskStore, array: Array) -> float:
    """Store a tree and run it; return the seconds of both."""
    begin = perf_counter()
    tree = await created(store, array)
    await TaskManager(store).distribute_task_tree(tree)
    elapsed = perf_counter() - begin
    assert tree["status"] == "completed"
    return elapsed


def for_each(count: int) -> list[Line]:
    """Measure what an element of a list costs, from the array to the end of the run."""

    async def measure() -> Line:
        times: list[float] = []
        floors: list[float] = []
        for _ in range(max(1, min(5, 50_000 // count))):  # in turn: other work on the machine affects both
            async with fresh_store() as store:
                floors.append(await create_and_run_whole(store, trees.listed(count)))
            async with fresh_store() as store:
                times.append(await create_and_run_whole(store, trees.for_each(count)))
        about = f"one of {count:,} elements, created and run; floor: the same tasks in the array"
        name = f"for_each_{count}"
        return Line(name, min(times) / count * 1000, min(floors) / count * 1000, "ms", about)

    return [asyncio.run(measure())]


def chain(count: int) -> list[Line]:
    """Measure one step of a chain."""

    async def measure() -> Line:
        array = trees.chain(count)
        repeats = max(1, min(5, 1000 // count))
        floor = await best(push_in_sequence, array, repeats)
        engine = await best(create_and_run, array, repeats)
        about = f"one step of a chain of {count:,}; floor: the store's own commit of a completion and a start"
        return Line(f"chain_{count}", engine / count * 1000, floor / count * 1000, "ms", about)

    return [asyncio.run(measure())]


def latency(count: int) -> list[Line]:
    """Measure a tree of one task from the call to its return, many times, one after the other."""

    async def measure() -> list[Line]:
        async with fresh_store() as store:
            engine = [await create_and_run(store, trees.single()) for _ in range(count)]
        async with fresh_store() as store:
            floor = [await start_and_complete(store, f"single-{n}") for n in range(count)]
        about = f"of {count} one-task trees; floor: one commit that starts it, one that completes it"
        return [
            Line("latency_p50", median(engine) * 1000, median(floor) * 1000, "ms", f"median {about}"),
            Line("latency_p95", p95(engine) * 1000, p95(floor) * 1000, "ms", f"95th percentile {about}"),
        ]

    return asyncio.run(measure())


async def start_and_complete(store: TaskStore, task_id: str) -> float:
    """Store a task, then start and complete it in a commit each; return the seconds of the two commits."""
    task = plain_tasks([{"id": task_id, "name": "single"}])[0]
    await store.add([task])
    begin = perf_counter()
    await store.move([started(task)])
    await store.move([completed(task)])
    return perf_counter() - begin


def p95(times: Sequence[float]) -> float:
    """Return the time that 95 of 100 do not exceed."""
    return quantiles(times, n=20)[-1]


def sleeping(count: int, seconds: float) -> list[Line]:
    """Measure tasks that wait, which should wait together."""

    async def measure() -> Line:
        slots = asyncio.Semaphore(get_settings().max_concurrency)

        async def sleep() -> None:
            async with slots:
                await asyncio.sleep(seconds)

        begin = perf_counter()
        await asyncio.gather(*(sleep() for _ in range(count)))
        floor = perf_counter() - begin
        engine = await best(create_and_run, trees.fan_out(count, trees.SLEEP, {"seconds": seconds}), 3)
        about = f"{count} tasks of asyncio.sleep({seconds}); floor: asyncio alone, as many at once"
        return Line(f"sleep_{count}", engine * 1000, floor * 1000, "ms", about)

    return [asyncio.run(measure())]


def logging_tasks(count: int, lines: int) -> list[Line]:
    """Measure tasks per second of a fan-out of tasks that log, against the same of tasks that do not."""

    async def measure() -> Line:
        repeats = max(1, min(5, 5000 // count))
        silent = trees.fan_out(count)
        talking = trees.fan_out(count, trees.LOG, {"lines": lines})
        floor = await best(create_and_run_watched, silent, repeats)
        engine = await best(create_and_run_watched, talking, repeats)
        about = f"{count:,} tasks that log {lines} lines each; floor: tasks that log nothing"
        return Line(f"logging_{count}", len(talking) / engine, len(silent) / floor, "tasks/s", about)

    return [asyncio.run(measure())]
