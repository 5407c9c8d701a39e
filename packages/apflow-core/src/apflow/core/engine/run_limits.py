"""The places of limits that the tasks of one run hold or wait for."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextvars import Context
from dataclasses import dataclass
from itertools import islice
from time import time
from typing import Any, Final

from apflow.core.concurrency.exit_fence import create_unfenced
from apflow.core.engine.limit_queue import LimitQueue, desk_of
from apflow.core.engine.nesting import NestingContext
from apflow.core.engine.store_retry import Patience
from apflow.core.model.limit import Claim, Limit, LimitAccount, Rule, account_key, arrival_seconds
from apflow.core.model.status import TERMINAL
from apflow.core.model.task import Task
from apflow.core.store.base import TaskStore

logger = logging.getLogger(__name__)

CLOSE_SECONDS: Final = 5.0  # for the last changes of accounts


@dataclass(slots=True)
class _Call:
    """A call that holds a place."""

    line: LimitLine
    rule: Rule
    has_begun: bool = False
    timer: asyncio.TimerHandle | None = None  # until the call has arrived at its peer


class LimitLine:
    """The tasks of one run that wait for one limit. A `Waiter`, and what `CallLimiter` waits for."""

    def __init__(self, limits: RunLimits, key: str) -> None:
        self.key = key
        self.store = limits.store
        self.owner = limits.owner
        self._limits = limits
        self.queue: LimitQueue = desk_of(limits.store).queue(key)
        self.tickets: dict[str, None] = {}  # tasks that have a place and are not started yet

    def wait(self, by: Callable[[], None]) -> None:
        """Ask for places; `by` is called when there are some."""
        del by  # it is the same for all of a run
        if self._limits.may_ask():
            self.queue.join(self)

    def leave(self, by: Callable[[], None]) -> None:
        """Stop asking."""
        del by
        self.queue.leave(self)

    def claims(self) -> Sequence[Claim]:
        """Return the tasks that want a place, in order, as many as could start."""
        return self._limits.claims(self)

    def take(self, task_id: str) -> bool:
        """Take a place for a task, and make its run take a turn."""
        self.tickets[task_id] = None
        self._limits.when_free()
        return True

    async def patiently(self, work: Callable[[], Awaitable[Any]]) -> Any:
        """Repeat an operation of the store while the store is unavailable."""
        return await self._limits.patiently(work)

    def change(self, change: Callable[[LimitAccount], object]) -> None:
        """Change the account in the background; the run ends only after that."""
        self._limits.keep(self.queue.change(self, change))


class RunLimits:
    """The limits of the tasks of one run.

    Args:
        held: returns the ready tasks that wait for places, by what they wait for.
        capacity: returns how many tasks of the run could start if their limits allow it.
        may_ask: whether the run is requested durably. The places of a run that is not would count as those
            of a dead process.
        when_free: called when a task has got a place.
    """

    def __init__(
        self,
        nesting: NestingContext,
        held: Callable[[], Iterable[deque[Task]]],
        capacity: Callable[[], int],
        may_ask: Callable[[], bool],
        when_free: Callable[[], None],
    ) -> None:
        self._nesting, self._held, self._capacity = nesting, held, capacity
        self.may_ask, self.when_free = may_ask, when_free
        self._lines: dict[str, LimitLine] = {}
        self._calls: dict[str, _Call] = {}  # by id of the task
        self._changes: set[asyncio.Task[None]] = set()
        self.patiently = Patience("A limit", nesting.patience)

    @property
    def store(self) -> TaskStore:
        """The store of the run."""
        return self._nesting.driver.store

    @property
    def owner(self) -> str | None:
        """The owner of the run."""
        return self._nesting.owner

    def take(self, task: Task) -> LimitLine | None:
        """Use the place that a task has got; return what it waits for otherwise."""
        limit = Limit.of_task(task)
        if limit is None:
            return None
        key = account_key(task.user_id, limit.key)
        line = self._lines.get(key)
        if line is None:
            line = self._lines[key] = LimitLine(self, key)
        if line.tickets.pop(task.id, task.id) is not None:
            return line
        self._calls[task.id] = _Call(line, limit.rule)
        return None

    def claims(self, line: LimitLine) -> list[Claim]:
        """Return the held tasks that want a place of a limit, in order, as many as could start."""
        tickets = sum(len(each.tickets) for each in self._lines.values())
        return list(islice(self._waiting_for(line), max(0, self._capacity() - tickets)))

    def _waiting_for(self, line: LimitLine) -> Iterable[Claim]:
        for tasks in self._held():
            for task in tasks:
                limit = Limit.of_task(task)
                is_same = limit is not None and account_key(task.user_id, limit.key) == line.key
                if limit is None or not is_same:
                    if task.interruptions:
                        continue  # tasks that are isolated wait together, whatever their limits
                    break
                if task.status not in TERMINAL and task.id not in line.tickets:
                    yield Claim(task.id, task.root_id, limit.rule)

    def begin(self, task: Task) -> None:
        """Count the start of a task when its call, which begins now, has arrived at its peer."""
        call = self._calls.get(task.id)
        if call is None:
            return
        call.has_begun = True
        if call.rule.seconds is not None:
            seconds = arrival_seconds(call.rule)
            call.timer = self._nesting.loop.call_later(seconds, self._settle, task.id, call.line)

    def _settle(self, task_id: str, line: LimitLine) -> None:
        line.change(lambda account: account.settle(task_id, self.owner, time()))

    def end(self, task: Task) -> None:
        """Free the place of a task whose call has ended or was not made."""
        call = self._calls.pop(task.id, None)
        if call is not None:
            self._free(task.id, call)

    def _free(self, task_id: str, call: _Call) -> None:
        if call.timer is not None:
            call.timer.cancel()
        if call.has_begun:
            call.line.change(lambda account: account.release(task_id, self.owner, time()))
        else:
            self._give_back(call.line, task_id)

    def _give_back(self, line: LimitLine, task_id: str) -> None:
        line.change(lambda account: account.give_back(task_id, self.owner))

    def return_tickets(self) -> None:
        """Return the places of tasks that could not be started."""
        for line in self._lines.values():
            tickets, line.tickets = list(line.tickets), {}
            for task_id in tickets:
                self._give_back(line, task_id)

    def stop(self) -> None:
        """Wait for no more places."""
        for line in self._lines.values():
            line.queue.leave(line)
        self.return_tickets()

    def close(self) -> None:
        """Return all places."""
        self.stop()
        while self._calls:
            self._free(*self._calls.popitem())

    async def settle(self) -> None:
        """Wait, for a limited time, until all changes are durable."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_SECONDS):
                for line in self._lines.values():
                    await line.queue.left()
                if self._changes:
                    await asyncio.wait(set(self._changes))

    def keep(self, change: Awaitable[None]) -> None:
        """Carry out a change of an account in the background."""
        loop = asyncio.get_running_loop()

        async def carry_out() -> None:
            try:
                await change
            except Exception as error:  # noqa: BLE001 - the places are free when the run has ended
                logger.warning("A place of a limit could not be returned: %s", error)

        work = create_unfenced(
            lambda: loop.create_task(carry_out(), name="apflow:limit:change", context=Context())
        )
        self._changes.add(work)
        work.add_done_callback(self._changes.discard)
