"""The run of one tree: the loop around `Plan`.

Each turn takes what has happened, lets the plan decide, and writes all that follows in one change; only
then is it told and are executors called. What happens meanwhile waits for the next turn, so a busy tree
writes few, large changes, and a chain costs one change for each step.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from dataclasses import dataclass, field

from apflow.core.attempt import Attempt, Bench
from apflow.core.cycle import find_cycle
from apflow.core.errors import AlreadyRunningError, ConflictError
from apflow.core.eventbus import EventBus
from apflow.core.events import EventType, TaskEvent
from apflow.core.moves import TREE_ENDED, Batch
from apflow.core.outcome import Outcome, failed, may_retry
from apflow.core.plan import Plan, Ruling
from apflow.core.slots import Slots, executor_slots
from apflow.core.states import TERMINAL, TaskStatus
from apflow.core.store import Moved, TaskStore
from apflow.core.task import GROUP, Json, Policy, Task, utc_now
from apflow.core.tree import TreeSummary, tree_status

logger = logging.getLogger(__name__)

PENDING, IN_PROGRESS = TaskStatus.PENDING, TaskStatus.IN_PROGRESS
COMPLETED, FAILED, CANCELLED = TaskStatus.COMPLETED, TaskStatus.FAILED, TaskStatus.CANCELLED
MAX_CONFLICTS = 20  # in a row: then somebody else keeps changing the tree, and the run gives up


@dataclass(eq=False)
class CancelRequest:
    """Somebody wants tasks of this tree cancelled; `done` is told the ids when all have ended."""

    task_ids: list[str]
    message: str | None
    is_forced: bool
    done: Future[list[str]] = field(default_factory=Future[list[str]])
    waits_for: set[str] | None = None  # None: not taken up yet


class TreeRun:
    """A run of (a part of) one tree, driven by one coroutine.

    Args:
        tasks: the whole stored tree in order of position, with `executor` decided.
        scope: ids that this run may start; None for all.
        first: the moves that request the run; written with the first starts, where no task goes back.
        is_closing: nobody owns the tree: only write down what a cancellation ends, and start nothing.
    """

    def __init__(
        self,
        store: TaskStore,
        bench: Bench,
        bus: EventBus,
        slots: Slots,
        *,
        tasks: list[Task],
        scope: list[str] | None,
        first: Batch,
        limit: int | None = None,
        is_closing: bool = False,
    ) -> None:
        self.root_id = first.root_id
        self.tasks = tasks
        self.by_id: dict[str, Task] = {}
        self.scope = scope
        self._store = store
        self._bench = bench
        bench.join(self.by_id, self.publish_live, self.note_progress)
        self._bus = bus
        self._slots = slots
        self._limit = limit
        self._owner = first.owner
        self._first: Batch | None = first
        self._is_closing = is_closing
        self._last_number = 0  # of the last stored event that this run knows of
        self._conflicts = 0
        self._attempts: dict[str, Attempt] = {}  # running now
        self._ending: list[Attempt] = []  # ended, written in this turn
        self._retrying: set[str] = set()  # waiting for the next attempt
        self._hooking: set[str] = set()  # ended and durable, their post-hooks running
        self._held: dict[str, deque[str]] = {}  # ready, their executor at its own limit
        self._inbox: deque[Callable[[Batch], object]] = deque()
        self._after: list[Callable[[], object]] = []  # what this turn does once its change is durable
        self._started: list[Task] = []  # in this turn
        self._rulings: deque[Ruling] = deque()
        self._cancels: list[CancelRequest] = []
        self._wake = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._is_over = False
        self.summary: TreeSummary | None = None
        self._rebuild(list(tasks))
        self._hold_what_waits()

    # --- what others tell the run; from any thread -------------------------------------------------

    def tell(self, happened: Callable[[Batch], object]) -> None:
        """Let the next turn begin with this."""
        self._inbox.append(happened)
        self._wake.set()

    def cancel(self, request: CancelRequest) -> None:
        """Take up a request to cancel, in the next turn."""
        if asyncio.get_running_loop() is self._loop:
            self.tell(lambda batch: self._take_cancel(request, batch))
        else:
            self._call_threadsafe(lambda: self.cancel(request))

    def note_progress(self, task_id: str, fraction: float) -> None:
        """Let the task's row show how far it is."""
        self.tell(lambda batch: self._take_progress(task_id, fraction, batch))

    # --- the loop ----------------------------------------------------------------------------------

    async def drive(self) -> None:
        """Run until every task in scope has ended and the end is durable.

        Raises:
            StoreError: the store failed; the tree stays as it is, for `recover`.
        """
        try:
            async with asyncio.TaskGroup() as self._group:
                while not self._is_over:
                    await self._turn()
        except BaseExceptionGroup as group:
            raise group.exceptions[0] from None
        finally:
            for request in self._cancels:
                if not request.done.done():
                    request.done.set_result(request.task_ids)

    async def _turn(self) -> None:
        self._wake.clear()
        is_first = self._first is not None
        batch, self._first = self._first or Batch(self.root_id, self._owner, utc_now()), None
        if any("status" in move.sets for move in batch.moves.values()):
            await self._write(batch)  # what goes back must be durable before it starts
            return
        for _ in range(len(self._inbox)):
            self._inbox.popleft()(batch)
        self._take_rulings(batch)
        if not self._rulings and not self._is_closing:
            self._take_ready(batch)
        is_done = self._plan.is_done and not (self._rulings or self._attempts or self._hooking)
        if is_done and not (is_first and batch.moves):  # the end of a run is no part of its beginning
            self._end(batch)
        if batch.moves:
            await self._write(batch)
        elif self._is_closing and not self._rulings and not self._inbox:
            self._is_over = True
        elif not self._rulings:
            self._fail_what_is_stuck(batch)
            if not self._inbox:
                await self._wake.wait()

    async def _write(self, batch: Batch) -> None:
        change = batch.change()
        try:
            moved = await self._store.write(change)
        except ConflictError as error:
            await self._read_again(error)
            return
        self._conflicts = 0
        self._ending.clear()
        self._publish(moved)
        started, self._started = self._started, []
        for task in started:
            self._launch(task)
        after, self._after = self._after, []
        for act in after:
            act()
        if self._cancels:
            self._answer_cancels()

    def _publish(self, moved: Moved) -> None:
        for events in reversed(moved):
            if events:
                self._last_number = events[-1].sequence
                break
        if self._bus.has_subscribers(self.root_id):
            for events in moved:
                for event in events or ():
                    self._bus.publish(event)

    def publish_live(self, event: TaskEvent) -> None:
        """Tell subscribers of progress or a log line, which are not stored."""
        event.sequence = self._last_number
        self._bus.publish(event)

    # --- what is decided in a turn -----------------------------------------------------------------

    def _take_rulings(self, batch: Batch) -> None:
        """Write down what follows from what has ended; a second move of one task waits for its turn."""
        self._rulings.extend(self._plan.take_rulings())
        while self._rulings and not batch.changes_status(self._rulings[0].task_id):
            self._rule(self._rulings.popleft(), batch)

    def _rule(self, ruling: Ruling, batch: Batch) -> None:
        task = self.by_id[ruling.task_id]
        if task.status in TERMINAL:
            return  # it was cancelled before its turn came
        if self._is_closing and task.status is PENDING and ruling.status in (IN_PROGRESS, COMPLETED):
            return
        if ruling.status is IN_PROGRESS:
            batch.start_group(task)
            return
        outcome = self._outcome_of(ruling, task)
        if task.status is IN_PROGRESS:
            batch.end(task, outcome)
        else:
            batch.end_unstarted(task, outcome)

    def _outcome_of(self, ruling: Ruling, task: Task) -> Outcome:
        cause = self.by_id.get(ruling.cause) if ruling.cause else None
        is_group_end = task.executor == GROUP and task.status is IN_PROGRESS
        if ruling.status is FAILED:
            first = f"task {cause.name!r} ({cause.id})" if cause else "a task"
            if is_group_end:
                failure = failed("ChildFailed", f"{first} in this group failed first", failed_task_id=ruling.cause)
                return self._with_children(task, failure)
            message = f"It needs {first}, which failed"
            return failed("DependencyFailed", message, failed_task_id=ruling.cause)
        if is_group_end:
            message = "Cancelled." if ruling.status is CANCELLED else None
            return self._with_children(task, Outcome(ruling.status, None, message, None))
        name = cause.name if cause else "a task"
        return Outcome(CANCELLED, None, f"Cancelled, because task {name!r}, which it needs, was cancelled.", None)

    def _with_children(self, group: Task, outcome: Outcome) -> Outcome:
        children = {each: str(self.by_id[each].status) for each in self._children.get(group.id, ())}
        result = {**(outcome.result or {}), "children": children}
        return Outcome(outcome.status, result, outcome.error, outcome.error_type)

    def _take_ready(self, batch: Batch) -> None:
        """Start what is ready, as far as there are places."""
        if not self._plan.has_ready():
            return
        wanted = self._slots.limit if self._limit is None else self._limit - len(self._attempts)
        places = self._slots.take(wanted)
        ready = self._plan.take_ready(places)
        used = 0
        for task_id in ready:
            used += self._start(self.by_id[task_id], batch)
        if used < places:
            self._slots.give_back(places - used)
        if self._plan.has_ready():
            self._slots.call_when_free(self._wake_from_elsewhere)

    def _start(self, task: Task, batch: Batch) -> bool:
        """Put the start of a task into the batch, unless its executor is at its own limit."""
        limit = self._executor_limit(task)
        if limit is not None:
            own = executor_slots(str(task.executor), limit)
            if not own.take(1):
                self._held.setdefault(str(task.executor), deque()).append(task.id)
                own.call_when_free(self._release_held_from_elsewhere)
                return False
        if task.status is IN_PROGRESS:
            self._retrying.discard(task.id)
            batch.try_again(task)
        else:
            batch.start(task)
        self._started.append(task)
        return True

    def _executor_limit(self, task: Task) -> int | None:
        if task.executor is None:
            return None
        try:
            return self._bench.entry(task.executor).max_concurrency
        except Exception:  # noqa: BLE001 - what cannot be loaded fails when it is called
            return None

    def _end(self, batch: Batch) -> None:
        """Write the end of the run: in the change of its last task, unless that is durable already."""
        root = self.by_id[self.root_id]
        self._is_over = self._is_closing
        if self._is_closing and not all(self._has_ended(task) for task in self.tasks):
            return
        self.summary = summary = self._summarise()
        kind = TREE_ENDED.get(summary.status, EventType.TREE_COMPLETED)
        sets: dict[str, Json] = {"run_ended_at": batch.now}
        has_hooks = bool(self._bench.hooks.tree)
        if not has_hooks:
            sets |= {"run_requested_at": None, "run_owner": None}
        event = TaskEvent(
            type=kind,
            task_id=root.id,
            root_task_id=root.id,
            timestamp=batch.now,
            status=summary.status,
            progress=summary.progress,
            result=summary.result,
            error=summary.error,
        )
        batch.put(root, {"run_owner": root.run_owner, "run_ended_at": None}, sets, event)
        self._after.append(self._finish)

    def _finish(self) -> None:
        self._is_over = True

    def _has_ended(self, task: Task) -> bool:
        return task.status in TERMINAL or (self.scope is not None and task.id not in self.scope)

    def _summarise(self) -> TreeSummary:
        whole = tree_status(self.tasks, self.root_id)
        if whole.status in TERMINAL or self.scope is None:
            return whole
        within = set(self.scope)
        part = [task for task in self.tasks if task.id in within]
        return tree_status(part, part[0].id) if part else whole

    def _fail_what_is_stuck(self, batch: Batch) -> None:
        """Fail what waits for ever: nothing runs, nothing is ready, and still not all has ended."""
        if self._attempts or self._retrying or self._hooking or self._inbox or self._held:
            return
        if self._plan.has_ready() or self._plan.is_done:
            return
        stuck = self._plan.stuck()
        logger.error("Tasks of tree %s wait for something that can never end: %s", self.root_id, stuck[:5])
        self.refuse(stuck, "It waits for a task that can never end")

    def refuse(self, task_ids: Iterable[str], message: str) -> None:
        """Fail tasks that no run could ever end (`TreeInvalid`), in the next turn."""
        self.tell(lambda batch: self._fail_all(task_ids, message, batch))

    def _fail_all(self, task_ids: Iterable[str], message: str, batch: Batch) -> None:
        for task_id in task_ids:
            task = self.by_id[task_id]
            if task.status in TERMINAL:
                continue
            outcome = failed("TreeInvalid", message)
            if task.status is IN_PROGRESS:
                batch.end(task, outcome)
            else:
                batch.end_unstarted(task, outcome)
            self._plan.finish(task_id, FAILED)
        self._plan.take_rulings()

    # --- calls of executors ------------------------------------------------------------------------

    def _launch(self, task: Task) -> None:
        attempt = self._attempts[task.id] = Attempt(self._bench, task)
        attempt.waiter = self._group.create_task(attempt.run(), name=f"apflow:{task.id}")
        attempt.waiter.add_done_callback(lambda waiter: self._attempt_ended(attempt, waiter))

    def _attempt_ended(self, attempt: Attempt, waiter: asyncio.Task[Outcome]) -> None:
        self._give_back(attempt.task)
        if self._attempts.get(attempt.task.id) is not attempt:
            return  # given up: what it says counts no more
        if not waiter.cancelled():
            outcome = waiter.result()
        elif attempt.is_cancelled:
            outcome = attempt.cancelled()
        else:
            return  # the run itself is being ended
        self.tell(lambda batch: self._take_outcome(attempt, outcome, batch))

    def _give_back(self, task: Task) -> None:
        """Give back the places that a started task took."""
        limit = self._executor_limit(task)
        if limit is not None:
            executor_slots(str(task.executor), limit).give_back()
        self._slots.give_back()

    def _take_outcome(self, attempt: Attempt, outcome: Outcome, batch: Batch) -> None:
        task = attempt.task
        if self._attempts.get(task.id) is not attempt:
            return
        if batch.changes_status(task.id):
            self._inbox.append(lambda later: self._take_outcome(attempt, outcome, later))
            return
        if task.cancel_requested_at is not None and outcome.status is not CANCELLED:
            outcome = attempt.cancelled(outcome)
        del self._attempts[task.id]
        self._ending.append(attempt)
        if outcome.status is FAILED and self._retry(task, outcome, batch):
            return
        batch.end(task, outcome)
        if self._bench.hooks.has_post:
            self._hooking.add(task.id)
            self._after.append(lambda: self._call_post_hooks(attempt, outcome))
        else:
            self._plan.finish(task.id, outcome.status)

    def _retry(self, task: Task, outcome: Outcome, batch: Batch) -> bool:
        policy = Policy.from_json(task.policy)
        if not may_retry(outcome, policy, task.attempts, self._bench.effect(task)):
            return False
        seconds = policy.retry.wait(task.attempts)
        if policy.retry.jitter:
            seconds *= random.uniform(0.5, 1.0)  # noqa: S311 - spreads retries, guards nothing
        batch.wait(task, seconds, outcome)
        self._plan.wait(task.id)
        self._retrying.add(task.id)
        generation = task.generation
        self._after.append(lambda: self._call_later(seconds, task, generation))
        return True

    def _call_later(self, seconds: float, task: Task, generation: int) -> None:
        def put_back(_: Batch) -> None:
            if task.id in self._retrying and self.by_id[task.id].generation == generation:
                self._plan.put_back(task.id)

        self._loop.call_later(seconds, self.tell, put_back)

    def _call_post_hooks(self, attempt: Attempt, outcome: Outcome) -> None:
        async def call() -> None:
            shown = attempt.task.copy()
            shown.inputs = attempt.inputs
            await self._bench.hooks.run_post(shown, attempt.inputs, outcome.result)
            self.tell(done)

        def done(_: Batch) -> None:
            self._hooking.discard(attempt.task.id)
            self._plan.finish(attempt.task.id, outcome.status)

        self._group.create_task(call(), name=f"apflow:post-hooks:{attempt.task.id}")

    def _take_progress(self, task_id: str, fraction: float, batch: Batch) -> None:
        task = self.by_id[task_id]
        if task_id in self._attempts and task.status is IN_PROGRESS and task_id not in batch.moves:
            batch.progress(task, fraction)

    def _wake_from_elsewhere(self) -> None:
        self._call_threadsafe(self._wake.set)

    def _release_held_from_elsewhere(self) -> None:
        self._call_threadsafe(lambda: self.tell(self._take_held))

    def _call_threadsafe(self, act: Callable[[], object]) -> None:
        """Do something on the run's own event loop, unless that has ended."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(act)

    def _take_held(self, batch: Batch) -> None:
        """Try again what was held back by its executor's own limit."""
        held, self._held = self._held, {}
        for waiting in held.values():
            for task_id in waiting:
                if self.by_id[task_id].status in TERMINAL:
                    continue
                if not self._slots.take(1):
                    self._held.setdefault(str(self.by_id[task_id].executor), deque()).append(task_id)
                    self._slots.call_when_free(self._release_held_from_elsewhere)
                elif not self._start(self.by_id[task_id], batch):
                    self._slots.give_back()

    # --- cancelling --------------------------------------------------------------------------------

    def _take_cancel(self, request: CancelRequest, batch: Batch) -> None:
        """Cancel at once what does not run, and durably ask for the end of what does."""
        targets = [each for each in self._below(request.task_ids) if self.by_id[each].status not in TERMINAL]
        request.waits_for = set(targets)
        self._cancels.append(request)
        for task_id in request.task_ids if targets else ():
            task = self.by_id[task_id]
            if task.status in TERMINAL and task.cancel_requested_at is None and task_id not in batch.moves:
                batch.request_cancel(task)
        message = request.message or "Cancelled."
        for task_id in targets:
            task = self.by_id[task_id]
            if batch.changes_status(task_id):  # it starts in this very change
                self._after.append(lambda each=task_id: self._cancel_later(request, each))
            elif task.status is PENDING:
                batch.end_unstarted(task, Outcome(CANCELLED, None, message, None), is_requested=True)
                self._plan.finish(task_id, CANCELLED)
            elif task_id in self._retrying:
                self._retrying.discard(task_id)
                batch.end(task, Outcome(CANCELLED, task.result, message, None))
                self._plan.finish(task_id, CANCELLED)
            else:
                self._cancel_started(task, request, batch)
        if not targets:
            self._answer_cancels()

    def _cancel_later(self, request: CancelRequest, task_id: str) -> None:
        again = CancelRequest([task_id], request.message, request.is_forced)
        self.tell(lambda batch: self._take_cancel(again, batch))

    def _cancel_started(self, task: Task, request: CancelRequest, batch: Batch) -> None:
        if task.id in self._hooking:
            return  # it has ended already; only its post-hooks run
        if task.cancel_requested_at is None and (task.executor == GROUP or task.id in self._attempts):
            batch.request_cancel(task)
        if task.executor == GROUP:
            self._plan.request_cancel(task.id)
            return
        attempt = self._attempts.get(task.id)
        if attempt is None:  # nobody runs it
            batch.end(task, Outcome(CANCELLED, None, request.message or "Cancelled.", None))
            self._plan.finish(task.id, CANCELLED)
            return
        attempt.is_cancelled = True
        attempt.message = request.message
        self._after.append(lambda: self._cancel_attempt(attempt, request.is_forced))

    def _cancel_attempt(self, attempt: Attempt, is_forced: bool) -> None:
        self._group.create_task(attempt.cancel(is_forced=is_forced), name=f"apflow:cancel:{attempt.task.id}")

    def _answer_cancels(self) -> None:
        for request in list(self._cancels):
            left = {each for each in request.waits_for or () if self.by_id[each].status not in TERMINAL}
            request.waits_for = left
            if not left:
                self._cancels.remove(request)
                if not request.done.done():
                    request.done.set_result(request.task_ids)

    def _below(self, task_ids: Iterable[str]) -> list[str]:
        """Return these tasks and all below them, each once."""
        found: dict[str, None] = {}
        waiting = list(task_ids)
        while waiting:
            task_id = waiting.pop()
            if task_id not in found and task_id in self.by_id:
                found[task_id] = None
                waiting.extend(self._children.get(task_id, ()))
        return list(found)

    # --- the stored tree ---------------------------------------------------------------------------

    def _rebuild(self, tasks: list[Task]) -> None:
        self.tasks[:] = tasks
        self.by_id.clear()
        self.by_id.update((task.id, task) for task in tasks)
        self._children: dict[str, list[str]] = {}
        for task in tasks:
            if task.parent_id is not None:
                self._children.setdefault(task.parent_id, []).append(task.id)
        self._plan = Plan(tasks, self.scope)

    async def _read_again(self, error: ConflictError) -> None:
        """Somebody else changed the tree: take it as it is stored, and go on from there."""
        self._conflicts += 1
        logger.info("Tree %s was changed by somebody else; reading it again: %s", self.root_id, error)
        stored = await self._store.tree(self.root_id)
        root = next((task for task in stored if task.id == self.root_id), None)
        if root is None or self._conflicts > MAX_CONFLICTS:
            raise error
        if root.run_owner != self._owner and not self._is_closing:
            raise AlreadyRunningError(self.root_id) from error
        self._undo_turn()
        self._rebuild(stored)
        for attempt in list(self._attempts.values()):
            self._match(attempt, self.by_id.get(attempt.task.id))
        self._hold_what_waits()
        requests, self._cancels = self._cancels, []
        for request in requests:
            self.cancel(request)
        self._wake.set()

    def _undo_turn(self) -> None:
        """Forget what the refused change would have done."""
        for task in self._started:
            self._give_back(task)
        for attempt in self._ending:
            self._attempts[attempt.task.id] = attempt
            self._retrying.discard(attempt.task.id)
            self._hooking.discard(attempt.task.id)
        for waiting in (self._started, self._ending, self._after, self._rulings):
            waiting.clear()
        self._held.clear()

    def _match(self, attempt: Attempt, stored: Task | None) -> None:
        """Keep an attempt whose task is as it was when it was started; give up any other."""
        left = None if stored is None else (stored.status, stored.owner, stored.attempts, stored.generation)
        if stored is None or left != (IN_PROGRESS, self._owner, attempt.number, attempt.generation):
            del self._attempts[attempt.task.id]
            attempt.waiter.cancel("the task was changed by somebody else")
            return
        attempt.task = stored
        if stored.cancel_requested_at is not None and not attempt.is_cancelled:
            attempt.is_cancelled = True
            self._cancel_attempt(attempt, is_forced=False)
        if attempt.waiter.done() and not attempt.waiter.cancelled():
            outcome = attempt.waiter.result()
            self.tell(lambda batch: self._take_outcome(attempt, outcome, batch))

    def _hold_what_waits(self) -> None:
        """Hold back what waits for its retry until the time that is stored."""
        now = utc_now()
        for task in self.tasks:
            is_left = task.status is IN_PROGRESS and task.executor != GROUP and task.id not in self._attempts
            is_waiting = task.status is PENDING and task.not_before is not None and task.not_before > now
            if self._is_closing or not (is_left or is_waiting):
                continue
            self._plan.wait(task.id)
            self._retrying.add(task.id)
            seconds = (task.not_before - now).total_seconds() if task.not_before is not None else 0.0
            self._call_later(max(0.0, seconds), task, task.generation)


def invalid_tree(tasks: list[Task]) -> str | None:
    """Say why no run could ever finish this tree, or return None."""
    circle = find_cycle(tasks)
    if not circle:
        return None
    names = {task.id: task.name for task in tasks}
    shown = " -> ".join(f"{names[each]!r}" for each in [*circle[:6], circle[0]])
    return f"These tasks wait for each other: {shown}. Change a dependency, or move a task out of its group"
