"""Executors that report through files, for tests of calls in other processes."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from apflow.core import BaseTask, TaskCreator, TaskManager, executor_register, get_registry
from apflow.core.extensions.runner import Runner
from apflow.core.model.task import Task
from apflow.core.store.base import TaskStore


class Marks(BaseTask):
    """Appends a line to the file of its task when it begins and when it ends, and waits between."""

    id = "marks"
    name = "Marks"
    description = "Writes down when it begins and when it ends."

    async def execute(self, inputs: dict[str, Any]) -> Any:
        file = Path(inputs["folder"]) / str(inputs["name"])
        _append(file, f"began {os.getpid()}")
        try:
            await asyncio.sleep(inputs.get("seconds", 0.0))
        except asyncio.CancelledError:
            _append(file, "cancelled")
            raise
        _append(file, "ended")
        return {"pid": os.getpid()}


class MarksOnce(Marks):
    """The same, with an effect that must not happen twice."""

    id = "marks_once"
    effect = "once"


def _append(file: Path, line: str) -> None:
    with file.open("a") as opened:
        opened.write(f"{line}\n")


def lines_of(folder: Path) -> dict[str, list[str]]:
    """Return the lines of each file."""
    return {file.name: file.read_text().splitlines() for file in folder.iterdir()}


WITHIN = 120.0  # seconds for one tree on a busy machine

Ended = Callable[[], Awaitable[dict[str, Task]]]


@contextmanager
def registered_marks() -> Generator[None]:
    """Register the executors within the context."""
    for each in (Marks, MarksOnce):
        executor_register(each, override=True)
    try:
        yield
    finally:
        for each in (Marks, MarksOnce):
            get_registry().unregister(each.id)


def calls(
    folder: Path, count: int, seconds: float, executor: type[Marks] = Marks, **more: Any
) -> list[dict[str, Any]]:
    """Return a tree: a root, and tasks that mark when they run."""
    inputs = {"folder": str(folder), "seconds": seconds}
    array: list[dict[str, Any]] = [{"id": "root", "name": "root"}]
    array += [
        {
            "id": f"t{n}",
            "name": "t",
            "parent_id": "root",
            "params": {"executor_id": executor.id},
            "inputs": inputs | {"name": f"t{n}"},
        }
        | more
        for n in range(count)
    ]
    return array


@asynccontextmanager
async def running(
    db: TaskStore, array: list[dict[str, Any]], runner: Runner | None = None
) -> AsyncIterator[Ended]:
    """Run a tree that this process owns; yield a function that returns its tasks at the end, by key."""
    node = await TaskCreator(db).create_task_tree_from_array(array)
    run = asyncio.create_task(TaskManager(db, runner=runner).distribute_task_tree(node))

    async def ended() -> dict[str, Task]:
        await run
        return {task.key: task for task in await db.tree(node.task.id)}

    try:
        async with asyncio.timeout(WITHIN):
            yield ended
    finally:
        run.cancel()
        await asyncio.wait([run])


async def until_begun(folder: Path, count: int) -> dict[str, list[str]]:
    """Wait until so many tasks have begun."""
    while len(found := lines_of(folder)) < count:  # noqa: ASYNC110 - files
        await asyncio.sleep(0.05)
    return found


def pids(found: Mapping[str, list[str]]) -> list[int]:
    """Return the process of each time that a task has begun."""
    return [int(line.split()[1]) for lines in found.values() for line in lines if line.startswith("began")]


def busiest(found: Mapping[str, list[str]]) -> int:
    """Return the process in which most tasks have begun."""
    begun = pids(found)
    return max(begun, key=begun.count)
