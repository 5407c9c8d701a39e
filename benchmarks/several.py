"""Rows about PostgreSQL: one process, several processes, and a tree on its way from one to the other."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from statistics import median, quantiles
from time import perf_counter

from apflow.core import (
    TaskCreator,
    TaskExecutor,
    TaskManager,
    TaskQuery,
    TaskStatus,
    create_session,
    submit,
)
from apflow.core.service.task_service import TaskService
from apflow.core.settings import overridden_defaults
from apflow.core.store.base import TaskStore
from apflow.testing.postgres import a_database
from apflow.testing.postgresserver import a_server
from benchmarks import trees
from benchmarks.floor import push_in_batches
from benchmarks.line import Line
from benchmarks.running import create_and_run_watched

DURABLE = "max_connections = 100\n"  # and all else as PostgreSQL is delivered: every commit is on disk
POLL = 0.01  # seconds between looks whether trees have ended


@contextmanager
def fresh_server() -> Generator[str]:
    """Give the URL of a new PostgreSQL server, which ends after."""
    with a_server(settings=DURABLE) as server:
        yield server.url()


@asynccontextmanager
async def fresh_database(server: str) -> AsyncGenerator[TaskStore]:
    """Give a store on a new database, opened before and dropped after."""
    with a_database(server) as url:
        async with create_session(url) as store:
            await store.get(["opens the database"])
            yield store


@contextmanager
def workers(count: int, url: str) -> Generator[None]:
    """Run `count` workers on a database, each in a separate process."""
    command = [sys.executable, "-m", "apflow.cli", "worker", "--import", "benchmarks.trees"]
    environment = os.environ | {"APFLOW_DATABASE_URL": url}
    running = [
        subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) for _ in range(count)
    ]
    try:
        for worker in running:
            assert worker.stderr is not None
            assert worker.stderr.readline().startswith("Running")
        yield
    finally:
        for worker in running:
            worker.terminate()
        for worker in running:
            worker.communicate(timeout=60)


def fan_out(count: int) -> list[Line]:
    """Measure tasks per second of a fan-out in one process, hooks and events on."""

    async def measure(server: str) -> Line:
        array = trees.fan_out(count)
        floor: list[float] = []
        engine: list[float] = []
        for _ in range(5):
            async with fresh_database(server) as store:
                floor.append(await push_in_batches(store, array))
            async with fresh_database(server) as store:
                engine.append(await create_and_run_watched(store, array))
        about = f"{count:,} no-op tasks and an aggregate on PostgreSQL; floor: the store's own batches"
        name = f"postgres_fan_out_{count}"
        return Line(name, len(array) / min(engine), len(array) / min(floor), "tasks/s", about)

    with fresh_server() as server:
        return [asyncio.run(measure(server))]


def processes(count: int, number: int) -> list[Line]:
    """Measure tasks per second of many trees, run by several workers and by one."""

    async def measure(server: str, running: int) -> float:
        async with fresh_database(server) as store:
            roots = [await _stored_tree(store, at) for at in range(number)]
            with workers(running, store.url):
                begin = perf_counter()
                await asyncio.gather(*(submit(store, root) for root in roots))
                await until_ended(store, roots)
                return perf_counter() - begin

    with fresh_server() as server:
        several, one = (asyncio.run(measure(server, running)) for running in (count, 1))
    tasks = number * 101
    about = f"{number} trees of 101 no-op tasks, run by {count} workers on PostgreSQL; floor: by one"
    return [Line(f"postgres_{count}_workers", tasks / several, tasks / one, "tasks/s", about)]


async def _stored_tree(store: TaskStore, at: int) -> str:
    array = [{"name": f"root {at}", "schemas": {"method": trees.NOTHING}}]
    array += [
        {"name": f"leaf {n}", "parent_id": f"root {at}", "schemas": {"method": trees.NOTHING}}
        for n in range(100)
    ]
    return (await TaskCreator(store).create_task_tree_from_array(array)).task.id


async def until_ended(store: TaskStore, roots: list[str]) -> None:
    """Wait until trees have ended, which must have completed."""
    while True:
        if not await store.count(TaskQuery(root_only=True, is_requested=True)):
            break
        await asyncio.sleep(POLL)
    ended = await store.get(roots)
    assert all(root.status is TaskStatus.COMPLETED for root in ended.values())


def submitting(count: int) -> list[Line]:
    """Measure the time from a submission in one process to the call of the executor in another."""

    async def measure(server: str) -> list[Line]:
        times: list[float] = []
        async with fresh_database(server) as store:
            with workers(1, store.url):
                service = TaskService(store)
                for _ in range(count):
                    tree = await service.submit([{"name": "when", "schemas": {"method": trees.WHEN}}])
                    submitted = trees.now()
                    await until_ended(store, [tree["id"]])
                    called = (await store.get([tree["id"]]))[tree["id"]].result["at"]
                    times.append(max(0.0, called - submitted) * 1000)
        about = f"from a submission's return to the executor's call in another process, of {count}"
        return [
            Line("submit_p50", median(times), 10, "ms", f"median {about}; floor: what is asked for"),
            Line("submit_p99", quantiles(times, n=100)[-1], 50, "ms", f"99th percentile {about}"),
        ]

    with fresh_server() as server:
        return asyncio.run(measure(server))


def placing(count: int) -> list[Line]:
    """Measure calls that another process makes: a fan-out, and how long one takes to begin and to end."""

    async def measure(server: str) -> list[Line]:
        async with fresh_database(server) as store:
            with workers(1, store.url), overridden_defaults(runner="workers"):
                array = trees.fan_out(count)
                begin = perf_counter()
                outcome = await TaskExecutor().execute_tasks(array, db_session=store)
                rate = count / (perf_counter() - begin)
                assert outcome["status"] == "completed"
                times = [await _until_called(store) for _ in range(min(count, 200))]
                ends = [await _until_cancelled(store) for _ in range(min(count, 100))]
        about = f"{count:,} no-op calls that another process makes, placed over PostgreSQL"
        begins = "from the execution of a tree of one task to the call of its executor in another process"
        return [
            Line("placed_calls", rate, 500, "tasks/s", f"{about}; floor: what is asked for"),
            Line("placed_p50", median(times), 20, "ms", f"median {begins}; floor: what is asked for"),
            Line(
                "placed_cancel_p99",
                quantiles(ends, n=100)[-1],
                500,
                "ms",
                "99th percentile until a call that runs in another process is cancelled, and its code has "
                "ended; floor: what is asked for",
            ),
        ]

    with fresh_server() as server:
        return asyncio.run(measure(server))


async def _until_called(store: TaskStore) -> float:
    """Run a tree of one task, and return the milliseconds until its executor is called elsewhere."""
    begin = trees.now()
    outcome = await TaskExecutor().execute_tasks(
        [{"name": "when", "schemas": {"method": trees.WHEN}}], db_session=store
    )
    return (outcome["result"]["at"] - begin) * 1000


async def _until_cancelled(store: TaskStore) -> float:
    """Run a tree of one task that sleeps elsewhere; return the milliseconds that its cancellation takes."""
    assert store.call_exchange is not None
    array = [{"name": "sleep", "schemas": {"method": trees.SLEEP}, "inputs": {"seconds": 60.0}}]
    node = await TaskCreator(store).create_task_tree_from_array(array)
    manager = TaskManager(store)
    running = asyncio.create_task(manager.distribute_task_tree(node))
    while True:
        call = await store.call_exchange.waiting(node.task.id)
        if call is not None and call.worker is not None:
            break
        await asyncio.sleep(POLL)
    await asyncio.sleep(POLL)
    begin = perf_counter()
    answer = await manager.cancel_task(node.task.id)
    seconds = perf_counter() - begin
    assert answer["status"] == "cancelled"
    await running
    return seconds * 1000
