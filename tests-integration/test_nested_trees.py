"""Trees inside of trees, in real processes: interrupted, killed, drained and continued by another process."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from peers import nested

from apflow.core import TaskCreator, TaskQuery, create_session, get_registry
from apflow.core import submit as apflow_submit
from apflow.core.model.task import Task

PROGRAM = Path(nested.__file__)
SEED = int(os.environ.get("APFLOW_FAULT_SEED", "2026"))
LIMIT_SECONDS = 60.0
TASKS = [{"name": "nesting", "inputs": {"left": nested.DEPTH - 1, "of": "top"}}]
OPTIONS = ("--import", "nested", "--tasks", json.dumps(TASKS))

# Importing the program registers its executors, which other tests should not see.
for executor in (nested.Nesting, nested.NestedItem):
    get_registry().unregister(executor.id)


class Runs:
    """Processes that run one database in one folder."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder, self.url = folder, url
        (folder / "nested.py").write_text(PROGRAM.read_text())
        kept = {name: value for name, value in os.environ.items() if not name.startswith("APFLOW_")}
        given = {"APFLOW_DATABASE_URL": url, "APFLOW_LEASE_SECONDS": "2", "PYTHONPATH": str(folder)}
        self.environment = kept | given | {"APFLOW_CANCEL_GRACE": "2", "APFLOW_SHUTDOWN_TIMEOUT": "1"}

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen[bytes]:
        command = arguments if arguments[0] == "-m" else ("nested.py", *arguments)
        return subprocess.Popen(
            [sys.executable, *command],
            cwd=self.folder,
            env=self.environment | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def end(self, process: subprocess.Popen[bytes]) -> str:
        """Wait for the end of a process and return what it wrote as errors."""
        _, errors = process.communicate(timeout=LIMIT_SECONDS)
        return errors.decode()

    def tasks(self) -> list[Task]:
        """Return all stored tasks."""

        async def read() -> list[Task]:
            async with create_session(self.url) as db:
                return await db.find(TaskQuery())

        return asyncio.run(read())

    def until(self, condition: Callable[[], bool]) -> None:
        limit = time.monotonic() + LIMIT_SECONDS
        while not condition():
            assert time.monotonic() < limit, "the condition does not come true"
            time.sleep(0.02)

    def calls(self) -> Counter[str]:
        """Return how often each item was called."""
        log = self.folder / "items.log"
        return Counter(log.read_text().split() if log.exists() else [])


@pytest.fixture
def runs(tmp_path: Path) -> Runs:
    return Runs(tmp_path, f"duckdb:///{tmp_path}/t.duckdb")


def statuses(tasks: list[Task]) -> Counter[str]:
    return Counter(str(task.status) for task in tasks)


def check_whole_run(tasks: list[Task]) -> None:
    """Check that everything completed, and that nothing was created twice."""
    assert statuses(tasks) == {"completed": nested.TASKS}
    by_id = {task.id: task for task in tasks}
    children = [task for task in tasks if task.id == task.root_id and task.spawned_by is not None]
    assert len(children) == nested.TREES - 1
    for child in children:
        assert by_id[str(child.spawned_by)].to_dict()["child_trees"] == [child.id]
    assert [task for task in tasks if task.run_requested_at is not None] == []


def check_calls(runs: Runs, before: list[Task], after: list[Task]) -> None:
    """Check that each item ran once, except for those that were in progress when their process died."""
    of_items = {task.id for task in after if task.name == "nested_item"}
    interrupted = {task.id for task in before if task.status == "in_progress"}
    calls = runs.calls()
    assert set(calls) == of_items
    assert {each for each, count in calls.items() if count > 1} <= interrupted
    assert all(task.attempts == 1 for task in after if task.id in of_items)


@pytest.mark.parametrize("concurrency", ["1", "256"])
def test_three_levels_end_in_a_process_with_these_places(runs: Runs, concurrency: str) -> None:
    process = runs.start("run", APFLOW_MAX_CONCURRENCY=concurrency)
    assert runs.end(process) == ""
    after = runs.tasks()
    check_whole_run(after)
    check_calls(runs, [], after)


@pytest.mark.parametrize("rounds", [5, pytest.param(100, marks=pytest.mark.faults)])
def test_after_an_interrupt_nothing_is_in_progress(tmp_path: Path, rounds: int) -> None:
    chance = random.Random(SEED)
    moments: Counter[str] = Counter()
    for number in range(rounds):
        folder = tmp_path / str(number)
        folder.mkdir()
        runs = Runs(folder, f"duckdb:///{folder}/t.duckdb")
        process = runs.start(
            "run", APFLOW_MAX_CONCURRENCY=chance.choice(["1", "2", "256"]), ITEM_SECONDS="0.1"
        )
        assert process.stdout is not None
        assert process.stdout.readline() == b"started\n"
        time.sleep(chance.uniform(0, 1.2))
        process.send_signal(signal.SIGINT)
        errors = runs.end(process)
        tasks = runs.tasks() if (folder / "t.duckdb").exists() else []
        found = statuses(tasks)
        moments.update(found)
        assert found["in_progress"] == 0, errors
        roots = [task for task in tasks if task.id == task.root_id]
        assert [root.id for root in roots if root.run_requested_at is not None] == []
        left = [root.id for root in roots if root.spawned_by is not None and root.status == "pending"]
        assert left == [], errors
    assert moments["cancelled"]


@pytest.mark.parametrize("rounds", [4, pytest.param(30, marks=pytest.mark.faults)])
def test_after_a_kill_each_item_runs_once(tmp_path: Path, rounds: int) -> None:
    chance = random.Random(SEED)
    for number in range(rounds):
        folder = tmp_path / str(number)
        folder.mkdir()
        runs = Runs(folder, f"duckdb:///{folder}/t.duckdb")
        concurrency = chance.choice(["1", "2", "256"])
        process = runs.start("run", APFLOW_MAX_CONCURRENCY=concurrency, ITEM_SECONDS="0.1")
        wanted = chance.randrange(1, 6)
        runs.until(lambda: sum(runs.calls().values()) >= wanted)  # noqa: B023 - called at once
        time.sleep(chance.uniform(0, 0.1))
        process.kill()
        runs.end(process)
        before = runs.tasks()
        assert runs.end(runs.start("resume", APFLOW_MAX_CONCURRENCY=concurrency)) == ""
        after = runs.tasks()
        check_whole_run(after)
        check_calls(runs, before, after)


def submit(runs: Runs) -> None:
    """Store the run for a worker."""

    async def write() -> None:
        async with create_session(runs.url) as db:
            await apflow_submit(db, (await TaskCreator(db).create_task_tree_from_array(TASKS)).task.id)

    asyncio.run(write())


def worker(runs: Runs) -> subprocess.Popen[bytes]:
    command = ("-m", "apflow.cli", "worker", "--import", "nested")
    return runs.start(*command, APFLOW_MAX_CONCURRENCY="1", ITEM_SECONDS="0.2")


@pytest.mark.parametrize("storage", ["duckdb", "postgres"])
def test_a_worker_that_is_shut_down_puts_all_levels_back(
    tmp_path: Path, request: pytest.FixtureRequest, storage: str
) -> None:
    is_shared = storage == "postgres"
    url = request.getfixturevalue("postgres_url") if is_shared else f"duckdb:///{tmp_path}/t.duckdb"
    runs = Runs(tmp_path, url)
    submit(runs)
    process = worker(runs)
    runs.until(lambda: sum(runs.calls().values()) >= 2)
    process.send_signal(signal.SIGTERM)
    errors = runs.end(process)
    before = runs.tasks()
    assert process.returncode == 0, errors
    started = [task for task in before if task.status == "in_progress" and task.executor != ":group"]
    assert started == [], errors
    roots = [task for task in before if task.id == task.root_id]
    assert [task for task in roots if task.run_owner is not None] == []
    assert any(task.run_requested_at is not None for task in roots if task.spawned_by is not None)
    assert all(task.interruptions == 0 for task in before)
    runs.end(runs.start("resume"))
    after = runs.tasks()
    check_whole_run(after)
    assert max(runs.calls().values()) <= 2


def test_another_worker_continues_all_levels_of_a_killed_one(tmp_path: Path, postgres_url: str) -> None:
    runs = Runs(tmp_path, postgres_url)
    submit(runs)
    workers = [worker(runs), worker(runs)]
    runs.until(lambda: sum(runs.calls().values()) >= 2)
    owners = {task.run_owner for task in runs.tasks() if task.run_owner}
    assert len(owners) == 1  # one process runs all levels
    pid = int(str(owners.pop()).split(":")[1])
    killed = next(each for each in workers if each.pid == pid)
    killed.kill()
    runs.end(killed)
    before = runs.tasks()
    runs.until(lambda: statuses(runs.tasks()) == {"completed": nested.TASKS})
    other = next(each for each in workers if each.pid != pid)
    other.send_signal(signal.SIGTERM)
    runs.end(other)
    after = runs.tasks()
    check_whole_run(after)
    check_calls(runs, before, after)
