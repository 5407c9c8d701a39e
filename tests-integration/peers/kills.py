"""Trees whose calls run in other processes, of which one after the other is killed."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

from peers.marks import Ended, MarksOnce, calls, lines_of

from apflow.core.engine.remote_call import MAX_LOSSES
from apflow.core.model.task import Task

KILLS = 50
MAX_TREES = 100


async def run_while_killing(
    folder: Path,
    running: Callable[[list[dict[str, Any]]], AbstractAsyncContextManager[Ended]],
    kill: Callable[[], object],
    *,
    loses_only_begun: bool,
    **more: Any,
) -> None:
    """Run trees until `KILLS` workers were killed; check that nothing is lost, and nothing is done twice.

    Args:
        folder: where the calls write when they begin and end.
        running: runs a tree.
        kill: kills a worker, and starts another one; called in a thread.
        loses_only_begun: whether a call is given to a worker only when it begins there. Dask gives workers
            calls in advance, and loses those with the worker, too.
        more: further fields of each task.
    """
    kills = 0
    for number in range(MAX_TREES):
        array = calls(folder, 40, 0.5, **more)
        array += [
            {**each, "id": f"{each['id']}-once", "params": {"executor_id": MarksOnce.id}}
            for each in array[1:]
        ]
        for each in array[1:]:
            each["inputs"] = each["inputs"] | {"name": f"{number}-{each['id']}"}
        async with running(array) as ended:
            ending = asyncio.ensure_future(ended())
            while not ending.done() and kills < KILLS:
                await asyncio.wait([ending], timeout=random.uniform(0.2, 1.5))
                await asyncio.to_thread(kill)
                kills += 1
            tasks = await ending
        check(number, tasks, lines_of(folder), loses_only_begun=loses_only_begun)
        if kills == KILLS:
            break
    assert kills == KILLS


def check(
    number: int, tasks: Mapping[str, Task], found: Mapping[str, list[str]], *, loses_only_begun: bool
) -> None:
    """Check that each task has ended, and that what may not happen twice happened at most once."""
    for key, task in tasks.items():
        if key == "root":
            continue
        lines = found.get(f"{number}-{key}", [])
        begun = [line for line in lines if line.startswith("began")]
        if task.status == "completed":
            assert lines[-1] == "ended", (key, lines)
        else:
            assert task.result["error_type"] == "Interrupted", task.error
        if task.executor == MarksOnce.id:
            assert len(begun) <= 1, (key, lines)
        elif loses_only_begun:
            assert task.status == "completed" or len(begun) == MAX_LOSSES, (key, lines)
        else:
            assert len(begun) <= MAX_LOSSES, (key, lines)
