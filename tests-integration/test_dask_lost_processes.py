"""Workers, schedulers and owners that end in the middle of calls on a Dask cluster."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from peers.dask_clusters import HERE, Cluster
from peers.kills import run_while_killing
from peers.marks import (
    WITHIN,
    Ended,
    Marks,
    MarksOnce,
    busiest,
    calls,
    lines_of,
    registered_marks,
    running,
    until_begun,
)

from apflow.core import MemoryStore
from apflow.core.settings import overridden_defaults
from apflow.runner.dask import DaskRunner


@pytest.fixture(autouse=True)
def executors() -> Iterator[None]:
    with registered_marks():
        yield


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "marks"
    made.mkdir()
    return made


@contextlib.asynccontextmanager
async def on_cluster(address: str, array: list[dict[str, Any]], **settings: Any) -> AsyncIterator[Ended]:
    """Run a tree on a cluster; yield a function that returns its tasks at the end, by key."""
    with overridden_defaults(dask_address=address, **{"dask_wait": 60.0, "cancel_grace": 1.0} | settings):
        runner = DaskRunner()
        try:
            async with running(MemoryStore(), array, runner) as ended:
                yield ended
        finally:
            await runner.close()


async def test_calls_of_a_killed_worker_run_again(tmp_path: Path, folder: Path):
    with Cluster(tmp_path) as cluster:
        async with on_cluster(cluster.address, calls(folder, 20, 2.0)) as ended:
            killed = busiest(await until_begun(folder, 20))
            cluster.kill_worker(killed)
            tasks = await ended()
    assert {task.error for task in tasks.values()} == {None}
    begun = lines_of(folder)
    assert any(f"began {killed}" in lines for lines in begun.values())
    assert all(lines[-1] == "ended" for lines in begun.values())


@pytest.mark.faults
async def test_calls_of_effect_once_are_not_made_again(tmp_path: Path, folder: Path):
    with Cluster(tmp_path) as cluster:
        async with on_cluster(cluster.address, calls(folder, 20, 2.0, MarksOnce)) as ended:
            killed = busiest(await until_begun(folder, 20))
            cluster.kill_worker(killed)
            tasks = await ended()
    begun = lines_of(folder)
    hit = {name for name, lines in begun.items() if f"began {killed}" in lines}
    assert hit
    for name, lines in begun.items():
        assert len([line for line in lines if line.startswith("began")]) == 1, name
        if name in hit:
            assert tasks[name].result["error_type"] == "Interrupted"
            assert "the worker has ended" in str(tasks[name].error)
        else:
            assert tasks[name].status == "completed"


def stand_still_until_ended(folder: Path) -> None:
    """Block the event loop of the owner until a call has ended, and the scheduler has its end."""
    while len(lines_of(folder)["t0"]) < 2:
        time.sleep(0.01)
    time.sleep(1.0)


@pytest.mark.parametrize("executor", [Marks, MarksOnce], ids=lambda each: each.id)
async def test_a_call_whose_result_is_lost_with_its_worker_is_lost(
    tmp_path: Path, folder: Path, executor: type[Marks], caplog: pytest.LogCaptureFixture
):
    """The worker ends when its call has ended, and before the owner has fetched the result."""
    with Cluster(tmp_path) as cluster:
        async with on_cluster(cluster.address, calls(folder, 1, 1.0, executor)) as ended:
            [[began]] = (await until_begun(folder, 1)).values()
            stand_still_until_ended(folder)
            cluster.kill_worker(int(began.removeprefix("began ")))
            tasks = await ended()
    lines = lines_of(folder)["t0"]
    if executor is MarksOnce:
        assert tasks["t0"].result["error_type"] == "Interrupted"
        assert len(lines) == 2
    else:  # made again by the owner, and not by the scheduler
        assert tasks["t0"].status == "completed"
        assert len(lines) == 4
        assert "It is called again" in caplog.text


@pytest.mark.faults
async def test_fifty_kills_of_workers_lose_nothing_and_double_nothing(tmp_path: Path, folder: Path):
    """20 calls run at once, and one worker of three is killed every second or so."""
    with Cluster(tmp_path, workers=3, threads=7) as cluster:
        await run_while_killing(
            folder,
            lambda array: on_cluster(cluster.address, array),
            lambda: cluster.kill_worker(random.choice(cluster.processes).pid),
            loses_only_begun=False,
        )


@pytest.mark.faults
async def test_a_lost_scheduler_is_reached_again(tmp_path: Path, folder: Path):
    with Cluster(tmp_path) as cluster:
        async with on_cluster(cluster.address, calls(folder, 10, 3.0)) as ended:
            await until_begun(folder, 10)
            cluster.kill_scheduler()
            await asyncio.to_thread(cluster.start_scheduler)
            cluster.start_worker()
            tasks = await ended()
    assert {task.error for task in tasks.values()} == {None}


async def test_calls_wait_for_a_worker_together(tmp_path: Path, folder: Path):
    count, wait = 20, 2.0
    begun = time.monotonic()
    with Cluster(tmp_path, workers=0) as cluster:
        async with on_cluster(cluster.address, calls(folder, count, 0.0), dask_wait=wait) as ended:
            tasks = await ended()
    assert {tasks[f"t{n}"].result["error_type"] for n in range(count)} == {"RunnerUnavailable"}
    assert time.monotonic() - begun < count * wait  # one after the other, they would take longer


async def test_a_scheduler_that_cannot_be_reached_fails_the_task_and_says_so(folder: Path):
    async with on_cluster("tcp://127.0.0.1:9", calls(folder, 1, 0.0), dask_wait=1.0) as ended:
        task = (await ended())["t0"]
    assert task.result["error_type"] == "RunnerUnavailable"
    assert "tcp://127.0.0.1:9" in str(task.error)
    assert "APFLOW_DASK_WAIT" in str(task.error)


@pytest.mark.faults
async def test_a_scheduler_that_repeats_calls_itself_is_refused(tmp_path: Path, folder: Path):
    with Cluster(tmp_path, workers=1, allowed_failures=3) as cluster:
        async with on_cluster(cluster.address, calls(folder, 1, 0.0)) as ended:
            task = (await ended())["t0"]
    assert task.result["error_type"] == "RunnerUnavailable"
    assert "ALLOWED_FAILURES=0" in str(task.error)
    assert lines_of(folder) == {}


OWNER = """
import asyncio, sys
sys.path.insert(0, {here!r})
from peers.marks import Marks
from apflow.core import MemoryStore, TaskCreator, TaskManager, executor_register
from apflow.runner.dask import DaskRunner
executor_register(Marks)

async def main():
    db = MemoryStore()
    node = await TaskCreator(db).create_task_tree_from_array({array!r})
    await TaskManager(db, runner=DaskRunner()).distribute_task_tree(node)

asyncio.run(main())
"""


@pytest.mark.faults
async def test_calls_of_a_killed_owner_end(tmp_path: Path, folder: Path):
    """They end, and do not run on beside the process that takes the tree over."""
    code = OWNER.format(here=str(HERE), array=calls(folder, 5, 600.0))
    with Cluster(tmp_path) as cluster:
        environment = {**os.environ, "APFLOW_DASK_ADDRESS": cluster.address}
        owner = subprocess.Popen([sys.executable, "-c", code], env=environment, cwd=tmp_path)  # noqa: ASYNC220
        try:
            async with asyncio.timeout(WITHIN):
                await until_begun(folder, 5)
                owner.send_signal(signal.SIGKILL)
                while not all(lines[-1] == "cancelled" for lines in lines_of(folder).values()):  # noqa: ASYNC110
                    await asyncio.sleep(0.1)
        finally:
            owner.kill()
            owner.wait()
