"""Workers that are killed at any moment start each due time of each schedule once."""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from faultkit.campaigns import CAMPAIGNS
from schedulekit.clock import FastClock

from apflow.core import create_session
from apflow.core.model.event import EventType
from apflow.core.model.task import utc_now
from apflow.core.service.task_service import TaskService
from apflow.core.store.base import TaskQuery, TaskStore
from apflow.testing.postgres import a_database
from apflow.testing.postgresserver import Server

SEED = os.environ.get("APFLOW_FAULT_SEED", "2026")
MINUTE = timedelta(minutes=1)
POLICIES = ("queue", "allow")  # with which every due time is started


class Workers:
    """Processes that start what is due, and that are killed and started again."""

    def __init__(self, folder: Path, url: str, clock: FastClock) -> None:
        self._folder, self._url, self._clock = folder, url, clock
        self._processes: list[subprocess.Popen[str]] = []

    def start(self, slot: int) -> None:
        """Start a worker and wait until it works."""
        environment = os.environ | {
            "APFLOW_LEASE_SECONDS": "2",
            "APFLOW_MAX_INTERRUPTIONS": "1000",
            "PYTHONPATH": str(Path(__file__).parent),
        }
        with (self._folder / f"worker-{slot}.log").open("a") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "schedulekit.worker", self._url, self._clock.to_text()],
                env=environment,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        self._processes[slot : slot + 1] = [process]
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"

    def kill(self, slot: int) -> None:
        """End a worker without a chance to finish anything."""
        self._processes[slot].kill()
        self._processes[slot].communicate()

    def end(self) -> None:
        for each in self._processes:
            each.kill()
            each.communicate()


@contextmanager
def working(folder: Path, url: str, clock: FastClock, count: int) -> Iterator[Workers]:
    workers = Workers(folder, url, clock)
    try:
        for slot in range(count):
            workers.start(slot)
        yield workers
    finally:
        workers.end()


async def create(db: TaskStore, count: int, due: int, begin: datetime) -> Counter[tuple[str, str]]:
    """Create schedules that are due so often, and return each due time, once."""
    expected: Counter[tuple[str, str]] = Counter()
    for at in range(count):
        name = f"s{at}"
        tasks = [
            {"name": name, "inputs": {"at": {"$run": "scheduled_at"}}},
            {"name": "tick", "parent_id": name},
        ]
        first = begin + MINUTE * (1 + at % 3)
        await TaskService(db).create_schedule(
            tasks,
            every="1m",
            start=first,
            end=first + MINUTE * (due - 1),
            catch_up="all",
            overlap=POLICIES[at % len(POLICIES)],
        )
        expected.update((name, (first + MINUTE * number).isoformat()) for number in range(due))
    return expected


async def has_ended(db: TaskStore) -> bool:
    """Return whether nothing is due any more, and all that was started has ended."""
    service = TaskService(db)
    if any(each["status"] != "ended" for each in await service.schedules()):
        return False
    return not (await service.count_running())["count"]


async def campaign(
    url: str, folder: Path, *, schedules: int, due: int, kills: int, seconds: float, limit: float
) -> None:
    """Kill workers while schedules are due, and compare what was started with what was due.

    Args:
        seconds: real time in which all due times come.
        limit: real time within which everything must have ended.
    """
    chance = random.Random(SEED)
    db = create_session(url)
    begin = (utc_now() + timedelta(hours=1)).replace(microsecond=0)  # after the creation of the schedules
    expected = await create(db, schedules, due, begin)
    speed = (due + 3) * MINUTE.total_seconds() / seconds
    clock = FastClock(begin.isoformat(), time.monotonic(), speed, str(folder / "shift"))
    with working(folder, url, clock, 3) as workers:
        for number in range(kills):
            await asyncio.sleep(chance.uniform(0, seconds / kills))
            slot = chance.randrange(3)
            workers.kill(slot)
            if number % 4 == 1:
                clock.set_by(-2 * MINUTE.total_seconds())
            elif number % 4 == 3:
                clock.set_by(3 * MINUTE.total_seconds())
            workers.start(slot)
        clock.set_by((due + 3) * MINUTE.total_seconds())
        async with asyncio.timeout(limit):
            while not await has_ended(db):  # noqa: ASYNC110 - in other processes
                await asyncio.sleep(0.2)
    roots = await db.find(TaskQuery(root_only=True))
    started = Counter((root.name, root.inputs["at"]) for root in roots)
    assert started == expected
    assert {root.status for root in roots} == {"completed"}
    for root in roots:
        events = await db.events(root.id)
        assert [each.type for each in events].count(EventType.TREE_STARTED) == 1
    found = await TaskService(db).schedules()
    assert [each["started_count"] for each in found] == [due] * schedules
    await db.close()
    print(f"{sum(started.values())} due times of {schedules} schedules, {kills} kills: each started once")


async def test_each_due_time_is_started_once_whichever_worker_is_killed(server: Server, tmp_path: Path):
    with a_database(server.url()) as url:
        await campaign(url, tmp_path, schedules=12, due=6, kills=5, seconds=3, limit=120)


@pytest.mark.faults
async def test_each_due_time_of_many_schedules_is_started_once_for_minutes(server: Server, tmp_path: Path):
    """By default 1,000 schedules and 100 kills in ten minutes."""
    size = CAMPAIGNS
    with a_database(server.url()) as url:
        await campaign(
            url, tmp_path, schedules=100 * size, due=10, kills=10 * size, seconds=60 * size, limit=180 * size
        )
