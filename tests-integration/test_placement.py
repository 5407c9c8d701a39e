"""Calls that the process which runs a tree cannot make, or must not make: workers of its database do."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import pytest
from peers.kills import run_while_killing
from peers.marks import (
    WITHIN,
    MarksOnce,
    busiest,
    calls,
    lines_of,
    pids,
    registered_marks,
    running,
    until_begun,
)
from peers.placed_workers import HERE, PlacedWorkers

from apflow.core import (
    MemoryStore,
    TaskCreator,
    TaskManager,
    create_session,
)
from apflow.core.errors import SettingsError
from apflow.core.service.task_service import TaskService
from apflow.core.settings import overridden_defaults
from apflow.core.store.base import TaskStore
from apflow.testing.postgres import a_database, target_of, through
from apflow.testing.postgresserver import a_server
from apflow.testing.proxy import a_proxy

LEASE = 3.0


@pytest.fixture(autouse=True)
def executors() -> Iterator[None]:
    with registered_marks(), overridden_defaults(lease_seconds=LEASE, cancel_grace=1.0):
        yield


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "marks"
    made.mkdir()
    return made


@pytest.fixture
def workers(tmp_path: Path, postgres_url: str) -> Iterator[PlacedWorkers]:
    with PlacedWorkers(tmp_path, postgres_url) as workers:
        yield workers


async def until_alive(db: TaskStore, count: int) -> None:
    """Wait until so many workers make calls."""
    assert db.call_exchange is not None
    async with asyncio.timeout(30):
        while len(await db.call_exchange.workers()) < count:  # noqa: ASYNC110 - other processes
            await asyncio.sleep(0.05)


async def until_said(db: TaskStore, task_id: str, text: str) -> Mapping[str, Any]:
    """Wait until `why` says something of a task."""
    async with asyncio.timeout(30):
        while True:
            found = await TaskService(db).why(task_id)
            if any(text in reason for reason in found["reasons"]):
                return found
            await asyncio.sleep(0.1)


async def test_a_call_is_made_where_its_resources_are(
    workers: PlacedWorkers, folder: Path, postgres_url: str
):
    workers.start()
    offering = workers.start("--resources", "gpu=2", "--label", "zone=eu")
    needs = {"resources": {"gpu": 1, "zone": "eu"}}
    async with create_session(postgres_url) as db, running(db, calls(folder, 3, 0.2, **needs)) as ended:
        tasks = await ended()
        listed = await TaskService(db).workers()
    assert {task.error for task in tasks.values()} == {None}
    assert {task.result["pid"] for key, task in tasks.items() if key != "root"} == {offering.pid}
    offers = {each["pid"]: (each["resources"], each["labels"]) for each in listed}
    assert offers[offering.pid] == ({"gpu": 2.0}, {"zone": "eu"})


async def test_a_task_that_no_worker_can_take_says_what_is_missing(
    workers: PlacedWorkers, folder: Path, postgres_url: str
):
    array = calls(folder, 1, 0.0, resources={"gpu": 2})
    async with create_session(postgres_url) as db, running(db, array) as ended:
        task_id = "t0"
        found = await until_said(db, task_id, "No worker is alive")
        assert "apflow workers" in found["advice"]
        workers.start("--resources", "gpu=1")
        await until_said(db, task_id, "No live worker that has the executor 'marks' offers gpu 2.")
        able = workers.start("--resources", "gpu=4")
        assert (await ended())[task_id].result == {"pid": able.pid}


async def test_amounts_limit_the_calls_of_a_worker(workers: PlacedWorkers, folder: Path, postgres_url: str):
    workers.start("--resources", "gpu=2")
    array = calls(folder, 6, 0.3, resources={"gpu": 1})
    most = 0
    async with create_session(postgres_url) as db, running(db, array) as ended:
        ending = asyncio.ensure_future(ended())
        while not ending.done():
            found = lines_of(folder)
            most = max(most, sum(lines[-1].startswith("began") for lines in found.values() if lines))
            await asyncio.sleep(0.01)
        assert {task.error for task in (await ending).values()} == {None}
    assert most == 2


async def test_an_executor_that_only_a_worker_has_is_called_there(
    workers: PlacedWorkers, folder: Path, postgres_url: str
):
    worker = workers.start("--import", "peers.marks_of_worker")
    array = calls(folder, 2, 0.0)
    for each in array[1:]:
        each["params"] = {"executor_id": "marks_of_worker"}
    async with create_session(postgres_url) as db:
        await until_alive(db, 1)
        async with running(db, array) as ended:
            tasks = await ended()
    assert [tasks[key].result for key in ("t0", "t1")] == [{"pid": worker.pid}] * 2


async def test_the_runner_of_workers_makes_every_call_that_it_can(
    workers: PlacedWorkers, folder: Path, postgres_url: str
):
    own = [workers.start().pid, workers.start().pid]
    with overridden_defaults(runner="workers"):
        async with create_session(postgres_url) as db, running(db, calls(folder, 20, 0.2)) as ended:
            tasks = await ended()
    assert {task.error for task in tasks.values()} == {None}
    assert set(pids(lines_of(folder))) <= set(own)


async def test_the_runner_of_workers_needs_a_database_of_several_processes(folder: Path):
    with overridden_defaults(runner="workers"):
        async with MemoryStore() as db:
            node = await TaskCreator(db).create_task_tree_from_array(calls(folder, 1, 0.0))
            with pytest.raises(SettingsError, match="PostgreSQL"):
                await TaskManager(db).distribute_task_tree(node)


async def test_calls_of_a_killed_worker_run_again(workers: PlacedWorkers, folder: Path, postgres_url: str):
    for _ in range(2):
        workers.start("--resources", "gpu=20")
    array = calls(folder, 20, 1.0, resources={"gpu": 1})
    async with create_session(postgres_url) as db, running(db, array) as ended:
        killed = busiest(await until_begun(folder, 20))
        workers.kill(killed)
        tasks = await ended()
    assert {task.error for task in tasks.values()} == {None}
    found = lines_of(folder)
    assert any(f"began {killed}" in lines for lines in found.values())
    assert all(lines[-1] == "ended" for lines in found.values())


@pytest.mark.faults
async def test_calls_of_effect_once_are_not_made_again(
    workers: PlacedWorkers, folder: Path, postgres_url: str
):
    for _ in range(2):
        workers.start("--resources", "gpu=20")
    array = calls(folder, 20, 2.0, MarksOnce, resources={"gpu": 1})
    async with create_session(postgres_url) as db, running(db, array) as ended:
        killed = busiest(await until_begun(folder, 20))
        workers.kill(killed)
        tasks = await ended()
    hit = {name for name, lines in lines_of(folder).items() if f"began {killed}" in lines}
    assert hit
    for name, lines in lines_of(folder).items():
        assert len([line for line in lines if line.startswith("began")]) == 1, name
        if name in hit:
            assert tasks[name].result["error_type"] == "Interrupted"
        else:
            assert tasks[name].status == "completed"


async def test_a_worker_that_is_asked_to_end_finishes_its_calls(
    workers: PlacedWorkers, folder: Path, postgres_url: str
):
    worker = workers.start("--resources", "gpu=5")
    array = calls(folder, 5, 1.0, MarksOnce, resources={"gpu": 1})
    async with create_session(postgres_url) as db, running(db, array) as ended:
        await until_begun(folder, 5)
        worker.send_signal(signal.SIGTERM)
        tasks = await ended()
    assert {task.error for task in tasks.values()} == {None}
    assert await asyncio.to_thread(worker.wait, 30) == 0


async def test_a_cancellation_ends_the_code_on_the_worker(
    workers: PlacedWorkers, folder: Path, postgres_url: str
):
    workers.start("--resources", "gpu=5")
    array = calls(folder, 5, 600.0, resources={"gpu": 1})
    async with create_session(postgres_url) as db, running(db, array) as ended:
        await until_begun(folder, 5)
        answer = await TaskManager(db).cancel_task("root")
        assert answer["status"] == "cancelled"
        await ended()
    assert all(lines[-1] == "cancelled" for lines in lines_of(folder).values())


OWNER = """
import asyncio, sys
sys.path.insert(0, {here!r})
from peers.marks import Marks
from apflow.core import TaskExecutor, create_session, executor_register
executor_register(Marks)

async def main():
    async with create_session({url!r}) as db:
        await TaskExecutor().execute_tasks({array!r}, db_session=db)

asyncio.run(main())
"""


async def test_calls_of_a_killed_owner_end(
    tmp_path: Path, workers: PlacedWorkers, folder: Path, postgres_url: str
):
    """They end, and do not run on beside the process that takes the tree over."""
    code = OWNER.format(here=str(HERE), url=postgres_url, array=calls(folder, 5, 600.0, resources={"gpu": 1}))
    workers.start("--resources", "gpu=5")
    environment = {**os.environ, "APFLOW_LEASE_SECONDS": str(LEASE)}
    owner = subprocess.Popen([sys.executable, "-c", code], env=environment, cwd=tmp_path)  # noqa: ASYNC220
    try:
        async with asyncio.timeout(WITHIN):
            await until_begun(folder, 5)
            owner.send_signal(signal.SIGKILL)
            while not all("cancelled" in lines for lines in lines_of(folder).values()):  # noqa: ASYNC110
                await asyncio.sleep(0.1)
    finally:
        owner.kill()
        owner.wait()


@pytest.mark.faults
async def test_the_calls_of_a_worker_behind_a_cut_network_end_there_and_are_made_elsewhere(
    tmp_path: Path, workers: PlacedWorkers, folder: Path, postgres_url: str
):
    """A partition of 30 s: the worker ends its code when its lease is over, and works again after it."""
    with a_proxy(target_of(postgres_url)) as proxy:
        apart = tmp_path / "apart"
        apart.mkdir()
        with PlacedWorkers(apart, through(proxy.port, postgres_url)) as behind:
            cut = behind.start("--resources", "gpu=5", "--label", "network=cut")
            async with create_session(postgres_url) as db:
                array = calls(folder, 5, 10.0, resources={"gpu": 1})
                async with running(db, array) as ended:
                    await until_begun(folder, 5)
                    proxy.stall()
                    stalled_at = asyncio.get_running_loop().time()
                    other = workers.start("--resources", "gpu=5")
                    tasks = await ended()
                    found = lines_of(folder)
                    await asyncio.sleep(stalled_at + 30.0 - asyncio.get_running_loop().time())
                    proxy.pass_on()
                assert {task.error for task in tasks.values()} == {None}
                for lines in found.values():
                    assert lines == [f"began {cut.pid}", "cancelled", f"began {other.pid}", "ended"]
                array = calls(folder, 1, 0.0, resources={"network": "cut"})
                array[1]["inputs"]["name"] = "again"
                async with running(db, array) as ended:
                    assert (await ended())["t0"].result == {"pid": cut.pid}


@pytest.mark.faults
async def test_fifty_kills_of_workers_lose_nothing_and_double_nothing(
    workers: PlacedWorkers, folder: Path, postgres_url: str
):
    """20 calls run at once, and one worker of three is killed every second or so."""
    for _ in range(3):
        workers.start("--resources", "gpu=7")

    def kill() -> None:
        workers.kill(random.choice(workers.processes).pid)
        workers.start("--resources", "gpu=7")

    async with create_session(postgres_url) as db:
        await run_while_killing(
            folder,
            lambda array: running(db, array),
            kill,
            loses_only_begun=True,
            resources={"gpu": 1},
        )


@pytest.mark.faults
@pytest.mark.parametrize("mode", ["fast", "immediate"])
async def test_a_server_that_restarts_delays_calls(
    tmp_path: Path, folder: Path, mode: Literal["fast", "immediate"]
):
    """A server that crashes loses the calls that run: they end, and are made again."""
    with a_server() as server, a_database(server.url()) as url, PlacedWorkers(tmp_path, url) as workers:
        workers.start("--resources", "gpu=5")
        array = calls(folder, 15, 2.0, resources={"gpu": 1})
        async with create_session(url) as db, running(db, array) as ended:
            await until_begun(folder, 5)
            await asyncio.to_thread(server.restart, mode)
            tasks = await ended()
    assert {task.error for task in tasks.values()} == {None}
    found = lines_of(folder)
    assert all(lines[-1] == "ended" for lines in found.values())
    made_again = [name for name, lines in found.items() if len(lines) > 2]
    assert (made_again != []) == (mode == "immediate")
