"""The run of one tree: the loop around `Plan`.

Each turn takes what has happened, lets the plan decide, and writes all that follows in one change; only
when that is durable is it told, and are executors called. A busy tree writes few, large changes, one after
the other: while one is being written, the executors are called that the one before has started. A chain
costs one change for each step.
"""

from __future__ import annotations

import asyncio
import logging
import random
import threading
from collections import deque
from collections.abc import Callable, Iterable
from datetime import datetime
from functools import partial
from typing import Any

from apflow.core.concurrency import eager_tasks
from apflow.core.concurrency.containment import CodeTasks
from apflow.core.concurrency.fair_semaphore import Slots
from apflow.core.engine.attempt import Attempt, RunContext
from apflow.core.engine.call_admission import CallLimiter
from apflow.core.engine.cancellation import Cancellations, CancelRequest
from apflow.core.engine.drain import Drain
from apflow.core.engine.late_results import Hold
from apflow.core.engine.store_retry import CALLERS_PATIENCE, Patience, Stall
from apflow.core.errors import ConflictError, OwnerLostError
from apflow.core.events.bus import EventBus
from apflow.core.model.event import EventType, TaskEvent
from apflow.core.model.status import TERMINAL, TaskStatus
from apflow.core.model.task import GROUP, Json, Policy, Task, utc_now
from apflow.core.model.tree import TreeSummary, tree_status
from apflow.core.planning.change_set import TREE_ENDED, ChangeSet
from apflow.core.planning.derived_outcome import outcome_of
from apflow.core.planning.outcome import Outcome, failed, may_retry
from apflow.core.planning.plan import DerivedOutcome, Plan
from apflow.core.planning.run_start import in_scope
from apflow.core.store.base import TaskStore, TransitionResult

logger = logging.getLogger(__name__)

PENDING, IN_PROGRESS = TaskStatus.PENDING, TaskStatus.IN_PROGRESS
COMPLETED, FAILED, CANCELLED = TaskStatus.COMPLETED, TaskStatus.FAILED, TaskStatus.CANCELLED
MAX_CONFLICTS = 20  # in a row: then somebody else keeps changing the tree, and the run gives up

Happened = Callable[[ChangeSet], object]


class TreeRun:
    """A run of (a part of) one tree, driven by one coroutine.

    Args:
        tasks: the whole stored tree in order of position, with `executor` decided.
        scope: ids that this run may start; None for all.
        first: the moves that request the run; written with the first starts, where no task goes back.
        limit: executor calls at once; None for the process's limit.
        is_closing: nobody owns the tree: only write down what a cancellation ends, and start nothing.
        patience: seconds for which a write is repeated while the store is unavailable; None: without end.
    """

    def __init__(
        self,
        store: TaskStore,
        bench: RunContext,
        bus: EventBus,
        slots: Slots,
        *,
        tasks: list[Task],
        scope: list[str] | None,
        first: ChangeSet,
        limit: int | None = None,
        is_closing: bool = False,
        patience: float | None = CALLERS_PATIENCE,
    ) -> None:
        self.root_id = first.root_id
        self.tasks: list[Task] = []
        self.by_id: dict[str, Task] = {}
        self.children: dict[str, list[str]] = {}
        self.scope = scope
        self.summary: TreeSummary | None = None  # once the end of the run is durable
        self.retrying: set[str] = set()  # waiting for the next attempt
        self.hooking: set[str] = set()  # ended and durable, their post-hooks running
        self.is_closing = is_closing
        self.calls = CallLimiter(bench, slots, limit, self._wake_from_elsewhere)
        self._cancellations = Cancellations(self)
        self._store = store
        self._bench = bench
        self._bus = bus
        self._patiently = Patience(
            f"Tree {self.root_id}", patience, report=self._tell_stall, check=self._check_lost
        )
        self._owner = first.owner
        self._fence = first.fence or {"run_owner": first.owner}
        self._first: ChangeSet | None = first
        self._durable: list[tuple[ChangeSet, TransitionResult]] = []  # written, and not yet carried out
        self._last_number = 0  # of the last stored event that was told, or is older than this run
        self._conflicts = 0
        # Calls and post-hooks that start after the events which lead to them are published.
        self._to_run: deque[eager_tasks.Named] = deque()
        self._inbox: deque[Happened] = deque()
        self._rulings: deque[DerivedOutcome] = deque()
        self._wake = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._thread_id = threading.get_ident()
        self._is_called = False  # another thread has called, and the loop has not come to it
        self.has_begun = False  # its request is durable
        self._has_to_look = False  # another process has changed the tree
        self.hold = Hold()  # what is known of a time when no thread of this process ran
        self._is_lost = False  # another process may own the tree now
        self._drain: Drain | None = None  # nothing more is started, and the tree is given up
        self.is_ending = False  # the end of the run is written, or being written
        self._is_over = False
        self._code = CodeTasks(self._fail)  # what runs users' code: calls and post-hooks
        bench.join(
            self.by_id,
            self._publish_live,
            self._note_progress,
            self._attempt_ended,
            self._code,
        )
        # Id of a task that waits for a retry -> the stored time, and when that is by the loop's clock.
        self._due: dict[str, tuple[datetime, float]] = {}
        self._take_tree(tasks)
        root = self.by_id[self.root_id]
        self.requested_at = root.run_requested_at  # which run of the tree this is; cleared with the end
        self._last_number = root.last_event

    # --- what others tell the run ------------------------------------------------------------------

    def tell(self, happened: Happened) -> None:
        """Let the next turn begin with this."""
        self._inbox.append(happened)
        self._wake.set()

    def cancel(self, request: CancelRequest) -> None:
        """Take up a request to cancel in the next turn. From any event loop."""
        if asyncio.get_running_loop() is self._loop:
            self._cancellations.add(request)
            self._wake.set()
        else:
            self._call_on_loop(lambda: self.cancel(request))

    def look(self) -> None:
        """Read the tree again in the next turn: another process has changed it. From any thread."""
        self._has_to_look = True
        self._wake_from_elsewhere()

    def look_at(self, root_id: str) -> None:
        """Look, if that is the tree of this run. From any thread."""
        if root_id == self.root_id:
            self.look()

    def lose(self) -> None:
        """Stop all work and write nothing more: another process may own the tree. From any thread."""
        self._is_lost = True
        self._call_on_loop(self._patiently.hurry)
        self._wake_from_elsewhere()
        # At once, because the run itself may wait for the store. Code that was delayed may end first.
        grace = self.hold.grace if self.hold.was_held() else 0.0
        self._call_on_loop(lambda: self._loop.call_later(grace, self._end_code))

    def current_task(self) -> asyncio.Task[Any] | None:
        """Return what the event loop of the run executes now. From any thread."""
        return asyncio.current_task(self._loop)

    def _end_code(self) -> None:
        for attempt in list(self.calls.running.values()):
            attempt.end("another process may own the tree")

    def drain(self, seconds: float) -> None:
        """Start nothing more, let code end within so many seconds, end what is left, give the tree up."""
        self._call_on_loop(lambda: self._patiently.limit(seconds))  # a store that cannot write delays no end
        self._call_on_loop(lambda: self.tell(lambda _: self._begin_drain(seconds)))

    def refuse(self, task_ids: Iterable[str], message: str) -> None:
        """Fail tasks that no run could ever end (`TreeInvalid`), in the next turn."""
        self.tell(lambda batch: self._fail_all(task_ids, message, batch))

    def _fail(self, error: BaseException) -> None:
        """End the run with an error of apflow's own, in the next turn."""

        def fail(_: ChangeSet) -> None:
            raise error

        self.tell(fail)

    def _note_progress(self, task_id: str, fraction: float) -> None:
        self.tell(lambda batch: self._take_progress(task_id, fraction, batch))

    def _publish_live(self, event: TaskEvent) -> None:
        event.sequence = self._last_number
        self._bus.publish(event)
        self._store.announce(event)

    def _wake_from_elsewhere(self) -> None:
        if threading.get_ident() == self._thread_id:
            self._wake.set()
        elif not self._is_called:  # a call from another thread costs a system call
            self._is_called = True
            self._call_on_loop(self._take_call)

    def _take_call(self) -> None:
        self._is_called = False
        self._wake.set()

    def _call_on_loop(self, act: Callable[[], object]) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(act)

    # --- the loop ----------------------------------------------------------------------------------

    async def drive(self) -> None:
        """Run until every task in scope has ended and the end is durable.

        Raises:
            OwnerLostError: another process owns the tree, or may own it by now. Its code has been ended.
            StoreError: the store failed; the tree stays as it is, for `recover`.
        """
        try:
            with self._bus.publishing(self.root_id, lambda: self._last_number):
                async with asyncio.TaskGroup() as self.group:
                    try:
                        await self._turns()
                    finally:
                        await self._code.end(self._bench.settings.cancel_grace)
        except BaseExceptionGroup as group:
            raise group.exceptions[0] from None
        finally:
            self._cancellations.close()
            self.calls.close()

    async def _turns(self) -> None:
        """Take turns until the run is over."""
        try:
            while not self._is_over:
                await self._turn()
        except OwnerLostError:
            if self.hold.was_held():  # code that was delayed may end: its result may be the first
                waiters = [each.waiter for each in self.calls.running.values() if each.waiter is not None]
                if waiters:
                    await asyncio.wait(waiters, timeout=self.hold.grace)
            raise

    async def _turn(self) -> None:
        self._wake.clear()
        self._check_lost()
        first, self._first = self._first, None
        if self._has_to_look and first is None:
            await self._look()
        batch = first or ChangeSet(self.root_id, self._owner, utc_now(), self._fence)
        if any("status" in move.sets for move in batch.moves.values()):
            await self._write(batch)  # what goes back must be durable before it starts
            self._carry_out()
            return
        if self._cancellations.has_new:
            self._carry_out()  # what has been started must be there to be cancelled
            if self._is_over:
                return  # it was the end of the run: nothing is left to cancel
        self._fill(batch)
        is_beginning = first is not None and bool(batch.moves)  # the end of a run is no part of that
        if not (is_beginning or self._rulings or self._is_at_work or self.is_ending):
            self._close(batch)
        if batch.moves:
            await self._write_and_carry_out(batch)
        elif self._durable:
            self._carry_out()
        elif not self._rulings:
            await self._rest()

    def _close(self, batch: ChangeSet) -> None:
        """Put into the batch that the run ends, or that it is left to others, where either is so."""
        if self._plan.is_done:
            self._end(batch)
        elif self._drain is not None and not self._durable:
            self._drain.give_up(batch)
            self.is_ending = True
            batch.then.append(self._leave)
            batch.undo.append(self._take_back_end)

    def _begin_drain(self, seconds: float) -> None:
        if self._drain is None:
            self._carry_out()  # what has been started must be there to be waited for
            self._drain = Drain(self, self._bench)
            self.calls.want_no_place()
            self.group.create_task(self._drain.end_code(seconds), name=f"apflow:drain:{self.root_id}")

    def _leave(self) -> None:
        self._is_over = True

    def _fill(self, batch: ChangeSet) -> None:
        """Put into the batch all that follows from what has happened."""
        for _ in range(len(self._inbox)):
            self._inbox.popleft()(batch)
        self._cancellations.take(batch)
        self._take_rulings(batch)
        if not self._rulings and not self.is_closing and self._drain is None:
            self._take_ready(batch)

    async def _write_and_carry_out(self, batch: ChangeSet) -> None:
        """Write a batch and, meanwhile, do what the one before has made durable."""
        if not self._durable:
            await self._write(batch)
            return
        writing = self.group.create_task(self._write(batch), name=f"apflow:write:{self.root_id}")
        await asyncio.sleep(0)
        self._carry_out()
        await writing

    async def _write(self, batch: ChangeSet) -> None:
        change = batch.change()
        try:
            moved = await self._patiently(lambda: self._store.write(change))
        except ConflictError as error:
            await self._read_again(batch, error)
            return
        self._conflicts = 0
        self.has_begun = True
        self._durable.append((batch, moved))

    def _check_lost(self) -> None:
        if self._is_lost and not self.is_ending:
            raise OwnerLostError(self.root_id)

    def _tell_stall(self, stall: Stall) -> None:
        """Tell subscribers that the run waits for the store."""
        message = (
            f"The run waits: {stall.reason}. It goes on by itself when the database can be written again."
        )
        self._publish_live(
            TaskEvent(
                type=EventType.LOG,
                task_id=self.root_id,
                root_task_id=self.root_id,
                timestamp=utc_now(),
                message=message,
                data={"store": "unavailable", "reason": stall.reason, "seconds": round(stall.seconds, 1)},
            )
        )

    def _carry_out(self) -> None:
        """Tell what is durable now, and do what was waiting for that."""
        durable, self._durable = self._durable, []
        for batch, moved in durable:
            self._publish(moved)
            for act in batch.then:
                act()
        if self._to_run:
            eager_tasks.start(self._code, self._to_run)
            self._to_run = deque[eager_tasks.Named]()
        if durable:
            self._cancellations.answer()

    def _publish(self, moved: TransitionResult) -> None:
        for events in reversed(moved):
            if events:
                self._last_number = events[-1].sequence
                break
        if self._bus.has_subscribers(self.root_id):
            self._bus.publish(*(event for events in moved for event in events or ()))

    @property
    def _is_at_work(self) -> bool:
        """Whether code of executors or post-hooks has not ended."""
        return bool(self.calls.running or self.hooking)

    async def _rest(self) -> None:
        """Wait until something happens; find out where nothing ever will."""
        if self._inbox or self._cancellations.has_new:
            return
        if self.is_closing:
            self._is_over = True
            return
        busy = self._is_at_work or self.retrying or self.calls.has_held or self._drain is not None
        if not busy and not self._plan.has_ready() and not self._plan.is_done:
            stuck = self._plan.stuck()
            logger.error("Tasks of tree %s wait for something that cannot end: %s", self.root_id, stuck[:5])
            self.refuse(stuck, "It waits for a task that can never end")
        await self._wake.wait()

    # --- what is decided in a turn -----------------------------------------------------------------

    def finish(self, task_id: str, status: TaskStatus) -> None:
        """Let the plan know that a task has ended."""
        self._plan.finish(task_id, status)

    def end_group_as_cancelled(self, task_id: str) -> None:
        """Let the plan know that a started group will end as cancelled."""
        self._plan.request_cancel(task_id)

    def _take_rulings(self, batch: ChangeSet) -> None:
        """Write down what follows from what has ended; a second move of one task waits for its turn."""
        self._rulings.extend(self._plan.take_rulings())
        while self._rulings and not batch.changes_status(self._rulings[0].task_id):
            self._rule(self._rulings.popleft(), batch)

    def _rule(self, ruling: DerivedOutcome, batch: ChangeSet) -> None:
        task = self.by_id[ruling.task_id]
        if task.status in TERMINAL:
            return  # it was cancelled before its turn came
        if self.is_closing and task.status is PENDING and ruling.status in (IN_PROGRESS, COMPLETED):
            return
        if ruling.status is IN_PROGRESS:
            batch.start_group(task)
        elif task.status is IN_PROGRESS:
            batch.end(task, outcome_of(ruling, self.by_id, self.children))
        else:
            batch.end_unstarted(task, outcome_of(ruling, self.by_id, self.children))

    def _take_ready(self, batch: ChangeSet) -> None:
        """Start what is ready, as far as there are places."""
        if not self._plan.has_ready() and not self.calls.has_held:
            self.calls.want_no_place()
            return
        places = self.calls.take_places()
        starting = self.calls.take_held(places)
        while len(starting) < places and self._plan.has_ready():
            ready = self._plan.take_ready(places - len(starting))
            tasks = [self.by_id[each] for each in ready]
            starting += [task for task in tasks if task.status not in TERMINAL and self.calls.admit(task)]
        for task in starting:
            self._start(task, batch)
        self.calls.return_places(places - len(starting))
        if self._plan.has_ready() or (self.calls.has_held and len(starting) == places):
            self.calls.wait_for_place()

    def _start(self, task: Task, batch: ChangeSet) -> None:
        if task.status is IN_PROGRESS:
            self.retrying.discard(task.id)
            batch.try_again(task)
        else:
            batch.start(task)
        batch.then.append(partial(self._launch, task))
        batch.undo.append(partial(self.calls.dismiss, task))

    def _end(self, batch: ChangeSet) -> None:
        """Write the end of the run: in the change of its last task, unless that is written already."""
        root = self.by_id[self.root_id]
        has_more = root.run_ended_at is not None or not all(map(self._has_ended, self.tasks))
        if self.is_closing and has_more:
            return  # a run that has ended has its end already
        summary = self._summarise()
        sets: dict[str, Json] = {"run_ended_at": batch.now}
        if not self._bench.hooks.tree:  # nobody is to be told: the request is done with
            sets |= {"run_requested_at": None, "run_owner": None}
        event = batch.event(TREE_ENDED.get(summary.status, EventType.TREE_COMPLETED), root)
        event.status, event.progress = summary.status, summary.progress
        event.result, event.error = summary.result, summary.error
        batch.put(root, {"run_owner": root.run_owner, "run_ended_at": None}, sets, event)
        self.is_ending = True
        batch.then.append(lambda: self._finish(summary))
        batch.undo.append(self._take_back_end)

    def _finish(self, summary: TreeSummary) -> None:
        self.summary = summary
        self._is_over = True

    def _take_back_end(self) -> None:
        self.is_ending = False

    def _has_ended(self, task: Task) -> bool:
        return task.status in TERMINAL or (self.scope is not None and task.id not in self.scope)

    def _summarise(self) -> TreeSummary:
        whole = tree_status(self.tasks, self.root_id)
        if whole.status in TERMINAL or self.scope is None:
            return whole
        part = in_scope(self.tasks, self.scope)
        return tree_status(part, part[0].id) if part else whole

    def _fail_all(self, task_ids: Iterable[str], message: str, batch: ChangeSet) -> None:
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
        attempt = self.calls.running[task.id] = Attempt(self._bench, task)
        self._to_run.append((f"apflow:{task.id}", attempt.run))

    def _attempt_ended(self, attempt: Attempt) -> None:
        if self.hold.is_held():
            self.hold.suspects.append(attempt.task)
        self.calls.dismiss(attempt.task)
        self._hand_in(attempt)

    def _hand_in(self, attempt: Attempt) -> None:
        """Let the next turn take the outcome of an attempt; there is none where the run is being ended."""
        if attempt.outcome is not None:
            self.tell(partial(self._take_outcome, attempt))

    def _take_outcome(self, attempt: Attempt, batch: ChangeSet) -> None:
        task, outcome = attempt.task, attempt.outcome
        if self.calls.running.get(task.id) is not attempt or outcome is None:
            return  # it was given up
        if batch.changes_status(task.id):
            self._inbox.append(partial(self._take_outcome, attempt))
            return
        if task.cancel_requested_at is not None and outcome.status is not CANCELLED:
            outcome = attempt.cancelled(outcome)
        del self.calls.running[task.id]
        batch.undo.append(partial(self._take_back, attempt))
        if outcome.status is FAILED and self._retry(task, outcome, batch):
            return
        batch.end(task, outcome)
        if self._bench.hooks.has_post and attempt.was_called:
            self.hooking.add(task.id)
            batch.then.append(partial(self._call_post_hooks, attempt, outcome))
        else:
            self._plan.finish(task.id, outcome.status)

    def _take_back(self, attempt: Attempt) -> None:
        """Have an attempt again whose outcome could not be written."""
        self.calls.running[attempt.task.id] = attempt
        self.retrying.discard(attempt.task.id)
        self.hooking.discard(attempt.task.id)

    def _retry(self, task: Task, outcome: Outcome, batch: ChangeSet) -> bool:
        policy = Policy.from_json(task.policy)
        if not may_retry(outcome, policy, task.attempts, self._bench.effect(task)):
            return False
        seconds = policy.retry.wait(task.attempts)
        if policy.retry.jitter:
            seconds *= random.uniform(0.5, 1.0)  # noqa: S311 - spreads retries, guards nothing
        batch.wait(task, seconds, outcome)
        self._plan.wait(task.id)
        self.retrying.add(task.id)
        self._due[task.id] = task.not_before or batch.now, self._loop.time() + seconds
        batch.then.append(lambda: self._put_back_later(task, seconds))
        return True

    def _put_back_later(self, task: Task, seconds: float) -> None:
        plan, generation = self._plan, task.generation

        def put_back(_: ChangeSet) -> None:
            is_current = self._plan is plan and self.by_id[task.id].generation == generation
            if is_current and task.id in self.retrying:
                plan.put_back(task.id)

        self._loop.call_later(max(0.0, seconds), self.tell, put_back)

    def _call_post_hooks(self, attempt: Attempt, outcome: Outcome) -> None:
        name = f"apflow:post-hooks:{attempt.task.id}"
        self._to_run.append((name, partial(self._post_hooks, attempt, outcome)))

    async def _post_hooks(self, attempt: Attempt, outcome: Outcome, _: asyncio.Task[Any]) -> None:
        shown = attempt.task.copy()
        shown.inputs = attempt.inputs
        is_ended = self._bench.is_over
        await self._bench.hooks.run_post(shown, attempt.inputs, outcome.result, is_ended)
        self.tell(partial(self._post_hooks_ended, attempt.task.id, outcome.status))

    def _post_hooks_ended(self, task_id: str, status: TaskStatus, _: ChangeSet) -> None:
        self.hooking.discard(task_id)
        self._plan.finish(task_id, status)

    def _take_progress(self, task_id: str, fraction: float, batch: ChangeSet) -> None:
        task = self.by_id[task_id]
        if task_id in self.calls.running and task.status is IN_PROGRESS and task_id not in batch.moves:
            batch.progress(task, fraction)

    # --- the stored tree ---------------------------------------------------------------------------

    def _take_tree(self, tasks: Iterable[Task]) -> None:
        """Take the tree as it is stored."""
        self.tasks[:] = tasks
        self.by_id.clear()
        self.by_id.update((task.id, task) for task in self.tasks)
        self.children.clear()
        for task in self.tasks:
            if task.parent_id is not None:
                self.children.setdefault(task.parent_id, []).append(task.id)
        for attempt in list(self.calls.running.values()):
            self._match(attempt, self.by_id.get(attempt.task.id))
        self._rulings.clear()
        self._plan = Plan(self.tasks, self.scope)
        if not self.is_closing:
            self._hold_what_waits()

    def _hold_what_waits(self) -> None:
        """Hold back what waits for its retry until the time that is stored."""
        now = utc_now()
        self.retrying.clear()
        for task in self.tasks:
            is_left = (
                task.status is IN_PROGRESS and task.executor != GROUP and task.id not in self.calls.running
            )
            is_waiting = task.status is PENDING and task.not_before is not None and task.not_before > now
            if is_left or is_waiting:
                self._plan.wait(task.id)
                self.retrying.add(task.id)
                self._put_back_later(task, self._time_until_retry(task, now))

    def _time_until_retry(self, task: Task, now: datetime) -> float:
        """Return the seconds that a task still waits for its next attempt.

        The stored time is that of a wall clock, which may have been set back since: no wait is longer than
        the longest one of the task's policy, and reading the tree again does not begin it anew.
        """
        if task.not_before is None:
            return 0.0
        longest = Policy.from_json(task.policy).retry.wait(max(1, task.attempts))
        seconds = min(longest, (task.not_before - now).total_seconds())
        known, due = self._due.get(task.id, (None, 0.0))
        if known == task.not_before:
            return due - self._loop.time()
        self._due[task.id] = task.not_before, self._loop.time() + seconds
        return seconds

    async def _read_again(self, batch: ChangeSet, error: ConflictError) -> None:
        """A change was refused: somebody else changed the tree."""
        self._conflicts += 1
        logger.info("Tree %s was changed by somebody else; reading it again: %s", self.root_id, error)
        stored = await self._patiently(lambda: self._store.tree(self.root_id))
        if not stored or self._conflicts > MAX_CONFLICTS:
            raise error
        try:
            self._check_owner(stored)
        except OwnerLostError:
            for act in batch.undo:  # attempts whose outcome was not written are there again
                act()
            raise
        self._carry_out()
        for act in batch.undo:
            act()
        self._take_stored(stored)

    async def _look(self) -> None:
        """Take up what another process has written into the tree: cancellations above all."""
        self._has_to_look = False
        stored = await self._patiently(lambda: self._store.tree(self.root_id))
        self._check_owner(stored)
        self._carry_out()
        self._take_stored(stored)

    def _check_owner(self, stored: Iterable[Task]) -> None:
        root = next((task for task in stored if task.id == self.root_id), None)
        if root is None or any(getattr(root, name) != value for name, value in self._fence.items()):
            raise OwnerLostError(self.root_id)

    def _take_stored(self, stored: Iterable[Task]) -> None:
        """Go on from the tree as it is stored."""
        self.calls.forget_held()
        self._take_tree(stored)
        self._cancellations.take_again()
        for task in self.tasks:
            is_left = task.status is IN_PROGRESS and task.id not in self.calls.running
            if is_left and task.cancel_requested_at is not None and task.executor != GROUP:
                self.cancel(CancelRequest([task.id], task.error, is_forced=False))
        self._wake.set()

    def _match(self, attempt: Attempt, stored: Task | None) -> None:
        """Keep an attempt whose task is as it was when it was started; give up any other."""
        left = None if stored is None else (stored.status, stored.owner, stored.attempts, stored.generation)
        if stored is None or left != (IN_PROGRESS, self._owner, attempt.number, attempt.generation):
            del self.calls.running[attempt.task.id]
            attempt.end("the task was changed by somebody else")
            return
        attempt.task = stored
        if stored.cancel_requested_at is not None and not attempt.is_cancelled:
            attempt.cancellation.is_requested = True
            attempt.message = stored.error
            self.cancel_call(attempt, is_forced=False)
        self._hand_in(attempt)

    def cancel_call(self, attempt: Attempt, *, is_forced: bool) -> None:
        """Let the code of an attempt end."""
        self.group.create_task(attempt.cancel(is_forced=is_forced), name=f"apflow:cancel:{attempt.task.id}")
