"""Rows about calls over the network: what the engine and the store add to a call."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from time import perf_counter

import httpx

from apflow.core import TaskCreator, TaskManager
from benchmarks import trees
from benchmarks.files import fresh_store
from benchmarks.line import Line

AT_ONCE = 50


@contextmanager
def server() -> Generator[str]:
    """Yield the URL of a web server in a separate process."""
    command = [sys.executable, "-m", "benchmarks.webserver"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


async def bare(url: str, count: int) -> float:
    """Call with httpx alone, as many at once; return the seconds."""
    slots = asyncio.Semaphore(AT_ONCE)
    limits = httpx.Limits(max_connections=AT_ONCE, max_keepalive_connections=AT_ONCE)
    async with httpx.AsyncClient(limits=limits, timeout=30) as client:

        async def call() -> None:
            async with slots:
                response = await client.get(url)
                assert response.json() == {"done": True}

        begin = perf_counter()
        await asyncio.gather(*(call() for _ in range(count)))
        return perf_counter() - begin


async def tasks(url: str, count: int) -> float:
    """Run a tree of so many calls on a DuckDB file; return the seconds of the run."""
    async with fresh_store() as store:
        array = trees.fan_out(count, "rest_executor", {"url": url})
        tree = await TaskCreator(store).create_task_tree_from_array(array)
        begin = perf_counter()
        await TaskManager(store, max_concurrency=AT_ONCE).distribute_task_tree(tree)
        elapsed = perf_counter() - begin
        assert tree["status"] == "completed"
        return elapsed


def calling(count: int) -> list[Line]:
    """Measure calls of a web service on loopback."""

    async def measure(url: str) -> Line:
        floors: list[float] = []
        engines: list[float] = []
        for _ in range(5):
            floors.append(await bare(url, count))
            engines.append(await tasks(url, count))
        about = f"one of {count} stored calls of a web service, {AT_ONCE} at once; floor: the same by httpx"
        return Line("rest", min(engines) / count * 1000, min(floors) / count * 1000, "ms", about)

    with server() as url:
        return [asyncio.run(measure(url))]
