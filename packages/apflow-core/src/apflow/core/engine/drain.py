"""Giving up a tree that runs, because its process is to end: somebody else shall go on with it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from apflow.core.engine.attempt import RunContext
from apflow.core.engine.call_admission import CallLimiter
from apflow.core.model.status import TaskStatus
from apflow.core.model.task import Task
from apflow.core.planning.change_set import ChangeSet
from apflow.core.planning.outcome import interrupted


class DrainedRun(Protocol):
    """What a drain needs of the run of a tree."""

    root_id: str
    by_id: dict[str, Task]
    calls: CallLimiter

    def tell(self, happened: Callable[[ChangeSet], object]) -> None:
        """Let the next turn begin with this."""


class Drain:
    """The end of a run that leaves tasks to others: running code may end, for a while, and is ended then."""

    def __init__(self, run: DrainedRun, bench: RunContext) -> None:
        self._run = run
        self._bench = bench
        self._interrupted: list[str] = []  # ids of tasks whose code was ended

    async def end_code(self, seconds: float) -> None:
        """Wait for the code that runs; end what takes longer, and let go of what does not even end then."""
        await self._wait(seconds)
        for attempt in list(self._run.calls.running.values()):
            attempt.end("the process is shutting down")
        await self._wait(self._bench.settings.cancel_grace)
        self._run.tell(lambda _: self._let_go())

    async def _wait(self, seconds: float) -> None:
        waiters = [each.waiter for each in self._run.calls.running.values() if each.waiter is not None]
        if waiters:
            await asyncio.wait(waiters, timeout=seconds)

    def _let_go(self) -> None:
        running = self._run.calls.running
        for task_id in [each for each, attempt in running.items() if attempt.outcome is None]:
            del running[task_id]
            self._interrupted.append(task_id)

    def give_up(self, batch: ChangeSet) -> None:
        """Write back what was interrupted, and that nobody owns the run."""
        for task in [self._run.by_id[each] for each in self._interrupted if each in self._run.by_id]:
            if task.status is not TaskStatus.IN_PROGRESS or task.cancel_requested_at is not None:
                continue
            if self._bench.effect(task) == "once":
                batch.end(task, interrupted("Its process was shut down during the call"))
            else:
                batch.interrupt(task, counts=False)
        batch.put(self._run.by_id[self._run.root_id], {}, {"run_owner": None})
