"""Rows about calls on a Dask cluster, beside the same coroutines given to Dask itself."""

from __future__ import annotations

import asyncio
from time import perf_counter
from typing import Any, Final

from distributed import Client

from apflow.core import TaskCreator, TaskManager
from apflow.core.settings import get_settings, overridden_defaults
from apflow.runner.dask import DaskRunner
from apflow.runner.dask.cluster import address_of, close_local_clusters
from benchmarks import trees
from benchmarks.files import fresh_store
from benchmarks.line import Line

ROUNDS: Final = 5
THREADS: Final = 500  # calls that each worker makes at once


async def nothing(number: int) -> dict[str, Any]:
    """Return at once."""
    return {"done": number >= 0}


async def sleeping(number: int, seconds: float) -> dict[str, Any]:
    """Wait on the event loop of the worker."""
    await asyncio.sleep(seconds)
    return {"done": number >= 0}


async def measure(address: str, array: list[dict[str, Any]], seconds: float) -> tuple[float, float]:
    """Return the seconds of calls by apflow on DuckDB, and by Dask itself: the best of each, by turns.

    Args:
        array: a root that needs no call, and the tasks.
        seconds: that each call sleeps.
    """
    count = len(array) - 1
    ours: list[float] = []
    theirs: list[float] = []
    runner = DaskRunner()
    try:
        async with Client(address, asynchronous=True, set_as_default=False) as client:
            for at in range(ROUNDS):
                async with fresh_store() as store:
                    tree = await TaskCreator(store).create_task_tree_from_array(array)
                    begin = perf_counter()
                    await TaskManager(store, runner=runner).distribute_task_tree(tree)
                    ours.append(perf_counter() - begin)
                    assert tree["status"] == "completed"
                numbers = range(at * count, (at + 1) * count)
                begin = perf_counter()
                if seconds:
                    made = client.map(sleeping, numbers, [seconds] * count, pure=False)
                else:
                    made = client.map(nothing, numbers, pure=False)
                await client.gather(made)
                theirs.append(perf_counter() - begin)
    finally:
        await runner.close()
    return min(ours), min(theirs)


def calls(count: int) -> list[Line]:
    """Measure calls that two workers of Dask make."""
    root = {"id": "root", "name": "root"}
    nothing_array = [root, *trees.group(count)[1:]]
    sleep_array = [root, *trees.fan_out(count // 2, trees.SLEEP, {"seconds": 0.1})[1:]]
    with overridden_defaults(dask_workers=2, dask_threads=THREADS, max_concurrency=count):
        address = address_of(get_settings())
        try:
            with overridden_defaults(dask_address=address):
                none = asyncio.run(measure(address, nothing_array, 0.0))
                slept = asyncio.run(measure(address, sleep_array, 0.1))
        finally:
            close_local_clusters()
    about = "on two workers of Dask, each a durable task; floor: the same coroutines by Dask itself"
    return [
        Line(f"dask_{count}", *none, "s", f"{count:,} no-op calls {about}"),
        Line("dask_sleep", *slept, "s", f"{count // 2:,} calls that sleep 0.1 s {about}"),
    ]
