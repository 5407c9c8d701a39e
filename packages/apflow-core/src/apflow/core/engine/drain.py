"""Giving up a tree that runs, because its process is to end: somebody else shall go on with it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from apflow.core.engine.attempt import Bench
from apflow.core.engine.call_admission import Calls
from apflow.core.model.status import TaskStatus
from apflow.core.model.task import Task
from apflow.core.planning.batch import Batch
from apflow.core.planning.outcome import interrupted


class DrainedRun(Protocol):
    """What a drain needs of the run of a tree."""

    root_id: str
    by_id: dict[str, Task]
    calls: Calls

    def tell(self, happened: Callable[[Batch], object]) -> None:
        """Let the next turn begin with this."""


class Drain:
    """The end of a run that leaves tasks to others: running code may end, for a while, and is ended then."""

    def __init__(self, run: DrainedRun, bench: Bench) -> None:
        self._run = run
        self._bench = bench
        # Ids of tasks whose code was ended or has not begun -> whether it has begun.
        self._interrupted: dict[str, bool] = {}

    async def end_code(self, seconds: float) -> None:
        """Wait for the code that runs; end what takes longer, and let go of what does not even end then."""
        await self._wait(seconds)
        for attempt in list(self._run.calls.running.values()):
            attempt.end("the process is shutting down")
        await self._wait(self._bench.settings.cancel_grace)
        self._run.tell(lambda _: self._let_go())

    async def _wait(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        until = loop.time() + seconds
        running = self._run.calls.running
        while any(not attempt.has_begun for attempt in running.values()) and loop.time() < until:  # noqa: ASYNC110
            await asyncio.sleep(0)  # calls of many tasks begin over many turns of the loop
        waiters = [attempt.waiter for attempt in running.values() if attempt.waiter is not None]
        if waiters:
            await asyncio.wait(waiters, timeout=max(0.0, until - loop.time()))

    def _let_go(self) -> None:
        running = self._run.calls.running
        for task_id, attempt in list(running.items()):
            if attempt.outcome is None:
                del running[task_id]
                self._interrupted[task_id] = attempt.was_called

    def give_up(self, batch: Batch) -> None:
        """Write back what was interrupted, and that nobody owns the run."""
        for task in [self._run.by_id[each] for each in self._interrupted if each in self._run.by_id]:
            if task.status is not TaskStatus.IN_PROGRESS or task.cancel_requested_at is not None:
                continue
            if self._interrupted[task.id] and self._bench.effect(task) == "once":
                batch.end(task, interrupted("Its process was shut down during the call"))
            else:
                batch.interrupt(task, counts=False)
        batch.put(self._run.by_id[self._run.root_id], {}, {"run_owner": None})
