"""Several processes on one PostgreSQL: each tree has one owner, and all processes get its events."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from apflow.core import EventType, TaskManager, TaskStatus, create_session, submit
from apflow.core.errors import AlreadyRunningError
from apflow.core.model.task import Json, Task
from apflow.core.service.task_service import TaskService
from apflow.core.store.base import TaskStore

LEASE = 2.0  # seconds
EXECUTORS = '''
import asyncio
import os
from apflow.core import BaseTask, executor_register


def note(task, what):
    """Add a line to the history that all processes share."""
    with open(os.environ["HISTORY"], "a") as file:
        file.write(f"{what} {task.task_id} {os.getpid()} {task.attempts}\\n")


@executor_register()
class Quick(BaseTask):
    id = "quick"

    async def execute(self, inputs):
        note(self, "quick")
        return {"pid": os.getpid(), "key": self.idempotency_key}


@executor_register()
class Hold(BaseTask):
    """Runs until there is a file with the task's name."""

    id = "hold"

    async def execute(self, inputs):
        note(self, "begin")
        await self.report_progress(0.5, "half of it")
        try:
            while not os.path.exists(os.path.join(os.environ["GATES"], self.task_id)):
                await asyncio.sleep(0.01)
            note(self, "end")
        except asyncio.CancelledError:
            note(self, "cancelled")
            raise
        return {"pid": os.getpid()}
'''


class Processes:
    """Workers on one database, and what they wrote down."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder, self.url = folder, url
        self.history = folder / "history"
        (folder / "gates").mkdir()
        (folder / "works.py").write_text(EXECUTORS)
        self._running: list[subprocess.Popen[str]] = []

    def start(self, **settings: str) -> subprocess.Popen[str]:
        """Start a worker and wait until it takes work."""
        own = {
            "APFLOW_DATABASE_URL": self.url,
            "APFLOW_LEASE_SECONDS": str(LEASE),
            "HISTORY": str(self.history),
            "GATES": str(self.folder / "gates"),
            "HOME": str(self.folder),
        }
        kept = {name: value for name, value in os.environ.items() if not name.startswith("APFLOW_")}
        worker = subprocess.Popen(
            [sys.executable, "-m", "apflow.cli", "worker", "--import", "works"],
            env=kept | own | settings,
            cwd=self.folder,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._running.append(worker)
        assert worker.stderr is not None
        assert worker.stderr.readline().startswith("Running")
        return worker

    def lines(self, what: str = "") -> list[list[str]]:
        """Return what the executors wrote down, word by word."""
        text = self.history.read_text() if self.history.exists() else ""
        return [line.split() for line in text.splitlines() if line.startswith(what)]

    async def until(self, what: str, count: int = 1) -> list[list[str]]:
        """Wait until executors have written so many lines of a kind."""
        async with asyncio.timeout(30):
            while True:
                if len(found := self.lines(what)) >= count:
                    return found
                await asyncio.sleep(0.01)

    def open(self, task_id: str) -> None:
        """Release a `hold`."""
        (self.folder / "gates" / task_id).touch()

    def close(self) -> None:
        for worker in self._running:
            worker.send_signal(signal.SIGCONT)
            worker.kill()
            worker.communicate()


@pytest.fixture
def processes(tmp_path: Path, postgres_url: str) -> Iterator[Processes]:
    made = Processes(tmp_path, postgres_url)
    yield made
    made.close()


@pytest.fixture
async def db(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[TaskStore]:
    from apflow.core.settings import reset_settings

    monkeypatch.setenv("APFLOW_LEASE_SECONDS", str(LEASE))
    reset_settings()
    async with create_session(postgres_url) as store:
        yield store
    reset_settings()


@contextmanager
def stopped(worker: subprocess.Popen[str]) -> Iterator[None]:
    """Hold a process up, as a machine that swaps does."""
    worker.send_signal(signal.SIGSTOP)
    yield
    worker.send_signal(signal.SIGCONT)


def tree(*children: tuple[str, str], root: str = "quick", **more: Json) -> list[dict[str, Json]]:
    array = [{"id": "r", "name": "r", "schemas": {"method": root}, **more}]
    array += [
        {"id": name, "name": name, "parent_id": "r", "schemas": {"method": executor}}
        for name, executor in children
    ]
    array[0]["dependencies"] = [name for name, _ in children]
    return array


async def task(db: TaskStore, task_id: str) -> Task:
    return (await db.get([task_id]))[task_id]


async def until_ended(db: TaskStore, task_id: str = "r") -> Task:
    async with asyncio.timeout(60):
        while True:
            if TaskStatus.is_terminal((found := await task(db, task_id)).status):
                return found
            await asyncio.sleep(0.01)


async def test_what_one_process_submits_another_runs(db: TaskStore, processes: Processes):
    worker = processes.start()
    await TaskService(db).submit(tree(("a", "quick")))
    ended = await until_ended(db)
    assert ended.result == {"pid": worker.pid, "key": "r:0"}


async def test_events_of_a_run_elsewhere_are_heard_in_order_with_live_ones_and_the_final_one(
    db: TaskStore, processes: Processes
):
    processes.start()
    await TaskService(db).create(tree(("a", "hold")))
    heard: list[Any] = []

    async def watch() -> None:
        async for event in TaskManager(db).subscribe("r", 0):
            heard.append(event)
            if event.type is EventType.PROGRESS:
                processes.open("a")

    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        group.create_task(watch())
        assert await submit(db, "r")
    kinds = [event.type for event in heard if event.type is not EventType.TASK_CREATED]
    assert kinds == [
        EventType.TREE_STARTED,
        EventType.TASK_STARTED,
        EventType.PROGRESS,
        EventType.TASK_COMPLETED,
        EventType.TASK_STARTED,
        EventType.TASK_COMPLETED,
        EventType.TREE_COMPLETED,
    ]
    stored = [event.sequence for event in heard if event.type is not EventType.PROGRESS]
    assert stored == list(range(1, len(stored) + 1))


async def test_a_cancellation_reaches_the_code_in_another_process(db: TaskStore, processes: Processes):
    processes.start()
    await TaskService(db).submit(tree(("a", "hold"), ("b", "hold")))
    await processes.until("begin", 2)
    answer = await TaskManager(db).cancel_task("a", "no more")
    assert answer["status"] == "cancelled"
    assert [line[1] for line in processes.lines("cancelled")] == ["a"]
    processes.open("b")
    assert (await until_ended(db, "b")).status == "completed"
    assert (await until_ended(db)).status == "cancelled"
    assert (await task(db, "a")).error == "no more"


async def test_a_tree_that_another_process_runs_cannot_be_run_here(db: TaskStore, processes: Processes):
    processes.start()
    await TaskService(db).submit(tree(("a", "hold")))
    await processes.until("begin")
    with pytest.raises(AlreadyRunningError):
        await TaskService(db).execute("r")
    processes.open("a")
    assert (await until_ended(db)).status == "completed"
    assert len(processes.lines("begin")) == 1


async def test_after_a_kill_another_process_goes_on_and_runs_nothing_twice(
    db: TaskStore, processes: Processes
):
    first = processes.start()
    await TaskService(db).submit(tree(("done", "quick"), ("cut", "hold")))
    await processes.until("begin")
    await processes.until("quick")
    await until_ended(db, "done")
    second = processes.start()
    first.kill()
    async with asyncio.timeout(LEASE + 30):
        await processes.until("begin", 2)
    processes.open("cut")
    ended = await until_ended(db)
    assert ended.result["pid"] == second.pid
    assert sorted(line[1] for line in processes.lines("quick")) == ["done", "r"]
    cut = await task(db, "cut")
    assert (cut.status, cut.attempts, cut.interruptions) == ("completed", 1, 1)


async def test_a_process_that_was_held_up_beyond_its_lease_has_lost_its_tree(
    db: TaskStore, processes: Processes
):
    first = processes.start()
    await TaskService(db).submit(tree(("a", "hold")))
    await processes.until("begin")
    second = processes.start()
    with stopped(first):
        await processes.until("begin", 2)
    await processes.until("cancelled")  # the first ends its code when it wakes
    processes.open("a")
    ended = await until_ended(db)
    assert ended.result["pid"] == second.pid
    assert [line[2] for line in processes.lines("cancelled")] == [str(first.pid)]
    assert [line[2] for line in processes.lines("end")] == [str(second.pid)]
    completed = [e for e in await db.events("r") if e.type is EventType.TASK_COMPLETED]
    assert sorted(event.task_id for event in completed) == ["a", "r"]


async def test_what_a_drained_process_gives_up_another_takes_at_once(db: TaskStore, processes: Processes):
    first = processes.start(APFLOW_SHUTDOWN_TIMEOUT="0", APFLOW_LEASE_SECONDS="600")
    await TaskService(db).submit(tree(("a", "hold")))
    await processes.until("begin")
    second = processes.start(APFLOW_LEASE_SECONDS="600")
    first.terminate()
    await processes.until("begin", 2)  # long before the lease would have been over
    assert await asyncio.to_thread(first.wait, 30) == 0
    processes.open("a")
    assert (await until_ended(db)).result["pid"] == second.pid
    assert (await task(db, "a")).interruptions == 0


async def test_cancelling_a_tree_whose_owner_died_ends_it_at_once(db: TaskStore, processes: Processes):
    first = processes.start()
    await TaskService(db).submit(tree(("a", "hold")))
    await processes.until("begin")
    first.kill()
    answer = await TaskManager(db).cancel_task("r")
    assert answer["status"] == "cancelled"
    root = await task(db, "r")
    assert (root.status, root.run_requested_at) == ("cancelled", None)
    assert (await db.events("r"))[-1].type is EventType.TREE_CANCELLED


async def test_many_trees_are_shared_and_each_runs_once(db: TaskStore, processes: Processes):
    for _ in range(3):
        processes.start()
    service = TaskService(db)
    array = [{"name": f"t{at}", "schemas": {"method": "quick"}} for at in range(40)]
    roots = await asyncio.gather(*(service.submit([each]) for each in array))
    for root in roots:
        await until_ended(db, root["id"])
    ran = [line[1] for line in processes.lines("quick")]
    assert sorted(ran) == sorted(root["id"] for root in roots)
