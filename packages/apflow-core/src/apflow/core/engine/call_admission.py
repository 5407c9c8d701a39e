"""Limits the executor calls of one run, and holds ready tasks that wait for a place."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from typing import Final, Protocol

from apflow.core.concurrency.containment import call_contained
from apflow.core.concurrency.fair_semaphore import (
    FairSemaphore,
    Wake,
    executor_semaphore,
    isolation_semaphore,
)
from apflow.core.engine.cache_lookup import CacheLookups
from apflow.core.engine.run_context import RunContext
from apflow.core.engine.run_limits import RunLimits
from apflow.core.model.limit import Limit
from apflow.core.model.status import TERMINAL
from apflow.core.model.task import Task
from apflow.core.planning.plan import Plan

LOOKUP: Final = ":lookup"  # the key of held tasks whose results may be cached
ISOLATED: Final = ":isolated"  # the key of held tasks that must be isolated; no executor has this id
MIN_ISOLATION_SECONDS = 1.0


class Lacking(Protocol):
    """What has no free place for a task: a semaphore, or a limit that is counted in the store."""

    def wait(self, by: Wake) -> None:
        """Request a call of `by` when there may be a place."""
        ...

    def leave(self, by: Wake) -> None:
        """Withdraw the request."""
        ...


class CallLimiter:
    """Limits the calls of one run by the limits of the process, of the run, of each executor and of tasks.

    A task whose policy has a limit starts when it has a place of the limit, too. It holds no other place
    while it waits for it.

    Tasks whose process died during their call are isolated: a process runs only one of them at a time. If
    that task ends the process again, only this task is interrupted a second time.

    Args:
        slots: the places of the process.
        limit: maximum number of concurrent calls of this run; None: the limit of the process.
        when_free: called from any thread when a requested place may be free.
        is_requested: whether the run is requested durably.
    """

    def __init__(
        self,
        context: RunContext,
        slots: FairSemaphore,
        limit: int | None,
        when_free: Callable[[], None],
        is_requested: Callable[[], bool],
    ) -> None:
        self._context = context
        self._slots = slots
        self._limit = slots.limit if limit is None else limit
        self._when_free = when_free
        self._is_requested = is_requested
        self._taken = 0  # places that this run holds, for present and admitted calls
        self._is_waiting = False  # for places of the process
        self._executors: dict[str, FairSemaphore | None] = {}  # by id; None: without a limit
        self._own: dict[str, FairSemaphore] = {}  # task id -> of which executor it holds a place
        # What they need (see `_key_of`) -> ready tasks that wait for one of its places.
        self.held: dict[str, deque[Task]] = {}
        self._waits: dict[str, Lacking] = {}  # the same keys -> where the run waits for the first of them
        self._found = 0  # free places that the last turn found
        self._limits: RunLimits | None = None  # from the first task on that has a limit
        self._cache = CacheLookups(context, when_free)
        self._without_place: set[str] = set()  # tasks whose attempts have no place: their results are cached
        self._isolated: dict[str, asyncio.TimerHandle] = {}  # task id -> the end of its isolation
        # Task id -> the call that has lent its places while it waits for another tree.
        self._lent: dict[str, object] = {}
        self._returning: dict[Wake, None] = {}  # such calls that wait for a place of this run

    def admit(self, plan: Plan, tasks: Mapping[str, Task]) -> list[Task]:
        """Return ready tasks that may start: they have their places, or their results are cached.

        While others have to wait, `when_free` is called when there may be a place for them.

        Args:
            plan: gives the tasks that are ready now. Those that lack a place are held.
            tasks: the tasks of the run, by id.
        """
        ready = plan.count_ready()
        if not ready and not self.held:
            self.want_no_place()
            return []
        hits = self._take_hits()
        wanted = ready + sum(map(len, self.held.values()))
        places = self._take_places(wanted)
        starting = self._take_held(places)
        while len(starting) < places and (ids := plan.take_ready(places - len(starting))):
            open_tasks = [tasks[each] for each in ids if tasks[each].status not in TERMINAL]
            starting += [task for task in open_tasks if self._may_start(task)]
        self.return_places(places - len(starting))
        if len(starting) == places < wanted and (self.held or plan.count_ready()):
            self._wait_for_place()
        return hits + starting

    def _take_places(self, wanted: int) -> int:
        """Acquire places of the process, `wanted` at most, and return their number."""
        wanted = min(wanted, self._wanted())
        self._found = self._slots.take(wanted, self._when_free) if wanted > 0 else 0
        self._taken += self._found
        return self._found

    def return_places(self, count: int) -> None:
        """Return places that were not needed."""
        if count:
            self._taken -= count
            self._slots.give_back(count)
            if self._returning:
                for wake in list(self._returning)[: max(0, self._limit - self._taken)]:
                    wake()

    def _wait_for_place(self) -> None:
        """Request a call of `when_free` when another run frees a place; own calls report their end anyway."""
        if self._wanted() > 0:
            self._is_waiting = True
            self._slots.wait(self._when_free)
        else:
            self._stop_waiting()

    def _stop_waiting(self) -> None:
        if self._is_waiting:
            self._is_waiting = False
            self._slots.leave(self._when_free)

    def _wanted(self) -> int:
        """Return how many more calls the run may start: calls that want a place back come first."""
        return self._limit - self._taken - len(self._returning)

    def want_no_place(self) -> None:
        """Withdraw the request for a place, so that other runs get it."""
        self._stop_waiting()
        if self._limits is not None:
            self._limits.stop()

    def _capacity(self) -> int:
        """Return how many tasks could start now if their limits allow it."""
        return min(self._wanted(), self._found)

    def _held_for_places(self) -> list[deque[Task]]:
        return [tasks for key, tasks in self.held.items() if key != LOOKUP]

    def _may_start(self, task: Task) -> bool:
        """Take the places that a task needs; if there are none, hold the task and return False.

        A task whose result may be cached is held until that is known.
        """
        if "cache" in task.policy and self._cache.wants(task):
            self._cache.begin(task)
            self.held.setdefault(LOOKUP, deque()).append(task)
            return False
        key = _key_of(task)
        if key in self.held:
            self.held[key].append(task)
            return False
        lacking = self._take_own(task)
        if lacking is not None:
            self.held[key] = deque([task])
            self._wait_own(key, lacking)
        return lacking is None

    def _take_hits(self) -> list[Task]:
        """Return held tasks whose results are cached: they need no place. Those without wait for places."""
        hits: list[Task] = []
        waiting = self.held.pop(LOOKUP, deque[Task]())
        for _ in range(len(waiting)):
            task = waiting.popleft()
            if task.status in TERMINAL:
                continue
            lookup = self._cache.take(task.id)
            if lookup is None:
                waiting.append(task)
            elif lookup.found is not None:
                self._context.cached[task.id] = lookup.found
                self._without_place.add(task.id)
                hits.append(task)
            else:
                self._context.cached.pop(task.id, None)
                self.held.setdefault(_key_of(task), deque()).append(task)
        if waiting:
            self.held[LOOKUP] = waiting
        return hits

    def _take_held(self, count: int) -> list[Task]:
        """Return up to `count` tasks that were held and now have the places that they need."""
        taken: list[Task] = []
        for key, tasks in sorted(self.held.items(), key=lambda item: item[0] != ISOLATED):
            if key == LOOKUP:
                continue
            while tasks and len(taken) < count:
                first = tasks[0]
                if first.status in TERMINAL:
                    tasks.popleft()
                elif (lacking := self._take_own(first)) is None:
                    taken.append(tasks.popleft())
                else:
                    self._wait_own(key, lacking)
                    break
            else:
                self._leave_own(key)  # its tasks have their places, or they wait for one of the process
            if not tasks:
                del self.held[key]
        if self._limits is not None:
            self._limits.return_tickets()
        return taken

    def _take_own(self, task: Task) -> Lacking | None:
        """Take the places that the task needs besides one of the process; return what is full."""
        if task.interruptions == 0:
            return self._take_limited(task)
        if not isolation_semaphore().take(1, self._when_free):
            return isolation_semaphore()
        lacking = self._take_limited(task)
        if lacking is not None:
            isolation_semaphore().give_back()
            return lacking
        seconds = _isolation_seconds(task, self._context.settings.isolation_seconds)
        self._isolated[task.id] = self._context.loop.call_later(seconds, self._end_isolation, task.id)
        return None

    def _take_limited(self, task: Task) -> Lacking | None:
        """Take a place of the executor, and one of the limit of the task; return what is full."""
        own = self._places_of_executor(task.executor)
        if own is not None and not own.take(1, self._when_free):
            return own
        line = self._take_limit(task) if task.policy.get("limit") else None
        if own is not None and line is not None:
            own.give_back()
        elif own is not None:
            self._own[task.id] = own
        return line

    def _take_limit(self, task: Task) -> Lacking | None:
        """Use the place of its limit that a task has got; return what it waits for otherwise."""
        if self._limits is None:
            self._limits = RunLimits(
                self._context.nesting,
                self._held_for_places,
                self._capacity,
                self._is_requested,
                self._when_free,
            )
        return self._limits.take(task)

    def _wait_own(self, key: str, lacking: Lacking) -> None:
        """Request a call of `when_free` when a place that the first of the held tasks lacks may be free."""
        before = self._waits.get(key)
        self._waits[key] = lacking
        if before is not None and before is not lacking:
            self._leave_unless_used(before)
        lacking.wait(self._when_free)

    def _leave_own(self, key: str) -> None:
        """Stop waiting for the places that held tasks need."""
        before = self._waits.pop(key, None)
        if before is not None:
            self._leave_unless_used(before)

    def _leave_unless_used(self, lacking: Lacking) -> None:
        if all(each is not lacking for each in self._waits.values()):
            lacking.leave(self._when_free)

    def _end_isolation(self, task_id: str) -> None:
        """Allow the next isolated task to start, because this one has ended or has run longer than before."""
        end = self._isolated.pop(task_id, None)
        if end is not None:
            end.cancel()
            isolation_semaphore().give_back()

    def forget_held(self) -> None:
        """Discard all held tasks, because the tree was read again."""
        self.held = {}
        if self._cache.lookups:
            self._cache.forget()
        for key in list(self._waits):
            self._leave_own(key)
        if self._limits is not None:
            self._limits.stop()

    def dismiss(self, task: Task) -> None:
        """Return the places of a call that has ended or was not made."""
        if task.id in self._without_place:
            self._without_place.discard(task.id)
            return
        if self._limits is not None:
            self._limits.end(task)
        if self._lent.pop(task.id, None) is None:
            self._give_back(task)

    def begin(self, task: Task) -> None:
        """Record that the call of a task with a limit begins now."""
        if self._limits is not None:
            self._limits.begin(task)

    def lend(self, task: Task, to: object) -> None:
        """Return the places of a call, except that of its limit, while it waits for another tree.

        Args:
            to: identifies the call, because an abandoned call may continue beside the next one of the task.
        """
        if task.id not in self._lent:
            self._lent[task.id] = to
            self._give_back(task)
            self._when_free()  # the run does not wait for a place while it has reached its own limit

    async def take_back(self, task: Task, to: object, is_wanted: Callable[[], bool]) -> None:
        """Wait until the places that a call has lent are free, and take them.

        Args:
            is_wanted: whether the call still needs the places; it may wait for the next tree by now.
        """
        loop, is_free = asyncio.get_running_loop(), asyncio.Event()

        def wake() -> None:
            loop.call_soon_threadsafe(is_free.set)

        waits_at: FairSemaphore | None = None
        try:
            while self._lent.get(task.id) is to and is_wanted():
                is_free.clear()
                lacking = self._take_again(task, wake)
                if lacking is None:
                    del self._lent[task.id]
                    return
                if waits_at is not None and waits_at is not lacking:
                    waits_at.leave(wake)
                if isinstance(lacking, FairSemaphore):
                    waits_at = lacking
                    lacking.wait(wake)
                await is_free.wait()
        finally:
            if self._returning.pop(wake, wake) is None:
                self._when_free()  # the place is no longer kept for this call
            if waits_at is not None:
                waits_at.leave(wake)

    def _take_again(self, task: Task, wake: Wake) -> FairSemaphore | CallLimiter | None:
        """Take the places of a call that has lent them; return what has no free place."""
        if self._taken >= self._limit:
            self._returning.setdefault(wake)
            return self
        if not self._slots.take(1, wake):
            return self._slots
        own = self._places_of_executor(task.executor)
        if own is not None:
            if not own.take(1, wake):
                self._slots.give_back()
                return own
            self._own[task.id] = own
        self._returning.pop(wake, None)
        self._taken += 1
        return None

    def _give_back(self, task: Task) -> None:
        if self._isolated:
            self._end_isolation(task.id)
        if own := self._own.pop(task.id, None):
            own.give_back()
        self.return_places(1)

    async def close(self) -> None:
        """Return all places, and wait, for a limited time, until those of limits are returned durably.

        A failed run holds places of calls that it never makes.
        """
        self.forget_held()
        self.want_no_place()
        for task_id in list(self._isolated):
            self._end_isolation(task_id)
        self.return_places(self._taken)
        for own in self._own.values():
            own.give_back()
        self._own.clear()
        self._lent.clear()
        if self._limits is not None:
            self._limits.close()
            await self._limits.settle()

    def _places_of_executor(self, executor_id: str | None) -> FairSemaphore | None:
        """Return the places of an executor in this process; None if it has no limit."""
        if executor_id is None:
            return None
        if executor_id not in self._executors:
            try:
                limit = call_contained(lambda: self._context.entry(executor_id).max_concurrency)
            except Exception:  # noqa: BLE001 - what cannot be loaded fails when it is called
                return None
            places = None if limit is None else executor_semaphore(executor_id, limit)
            self._executors[executor_id] = places
        return self._executors[executor_id]


def _key_of(task: Task) -> str:
    """Return what a held task needs: tasks with the same key wait for each other."""
    if task.interruptions > 0:
        return ISOLATED
    if task.policy.get("limit"):
        return f"{task.executor} :limit {Limit.of_task(task)}"
    return str(task.executor)


def _isolation_seconds(task: Task, most: float) -> float:
    """Return the isolation time of a task: longer than it ran before its process died, up to a maximum.

    The maximum is necessary because a task may wait for a task of another tree that must also be isolated.
    """
    ran = 0.0
    if task.started_at is not None and task.updated_at is not None:
        ran = (task.updated_at - task.started_at).total_seconds()  # until its interruption was detected
    return min(most, max(MIN_ISOLATION_SECONDS, 1.5 * ran))
