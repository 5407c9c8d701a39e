"""The run of one tree: the loop around `RunMachine`.

Everything that happens is posted as an event (`run_events`). Each turn passes the events to the machine and
writes the resulting transitions as one change. Only after the change is durable does the run publish its
events and carry out its instructions, such as calling executors and scheduling retries. While it writes one
change, it calls the executors that the previous change started. A chain of tasks costs one change per step.

At level DEBUG, the run logs its events, phases and transitions in order.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Iterable
from functools import partial
from typing import Any, cast

from apflow.core.capture.installation import install as install_capture
from apflow.core.concurrency.fair_semaphore import FairSemaphore
from apflow.core.engine import drain
from apflow.core.engine.attempt import Attempt
from apflow.core.engine.call_admission import CallLimiter
from apflow.core.engine.cancellation import Cancellations, CancelRequest
from apflow.core.engine.deadline_timer import DeadlineTimer
from apflow.core.engine.late_results import Hold
from apflow.core.engine.mailbox import Mailbox
from apflow.core.engine.placement import is_known_for
from apflow.core.engine.retry_timers import RetryTimers
from apflow.core.engine.run_code import RunCode
from apflow.core.engine.run_context import RunContext
from apflow.core.engine.run_publisher import RunPublisher
from apflow.core.engine.store_retry import CALLER_TIMEOUT_SECONDS, Patience
from apflow.core.errors import ConflictError, OwnerLostError
from apflow.core.events.bus import EventBus
from apflow.core.events.log_writer import log_writer_of
from apflow.core.model.status import TaskStatus
from apflow.core.model.task import GROUP, Task, utc_now
from apflow.core.model.tree import TreeSummary
from apflow.core.planning.change_set import ChangeSet
from apflow.core.planning.fan_out import FanOutLimits
from apflow.core.planning.run_events import (
    CancelAgain,
    CancelCall,
    DrainRequested,
    EndRun,
    Instruction,
    OwnershipLost,
    ProgressReported,
    RestoreCall,
    RestorePhase,
    ReturnPlaces,
    RunEvent,
    RunPostHooks,
    ScheduleRetry,
    StartCalls,
    TasksAdmitted,
    TasksRefused,
    TreeChanged,
)
from apflow.core.planning.run_machine import RunMachine
from apflow.core.planning.run_state import RunPhase, RunState
from apflow.core.store.base import TaskStore, TransitionResult

logger = logging.getLogger(__name__)

PENDING, IN_PROGRESS = TaskStatus.PENDING, TaskStatus.IN_PROGRESS
CANCELLED = TaskStatus.CANCELLED
MAX_CONFLICTS = 20  # consecutive conflicts after which the run fails


class TreeRun:
    """A run of (a part of) one tree, driven by one coroutine.

    Args:
        tasks: the whole stored tree in order of position, with `executor` decided.
        scope: ids that this run may start; None for all.
        first: the transitions that request the run. If no task is reset, they are written with the first
            starts.
        limit: maximum number of concurrent executor calls; None for the limit of the process.
        is_closing: no process owns the tree: only write cancellations, and start no tasks.
        patience: seconds for which a write is repeated while the store is unavailable; None: no limit.
    """

    def __init__(
        self,
        store: TaskStore,
        context: RunContext,
        bus: EventBus,
        slots: FairSemaphore,
        *,
        tasks: list[Task],
        scope: list[str] | None,
        first: ChangeSet,
        limit: int | None = None,
        is_closing: bool = False,
        patience: float | None = CALLER_TIMEOUT_SECONDS,
    ) -> None:
        self.root_id = first.root_id
        phase = RunPhase.CLOSING if is_closing else RunPhase.STARTING
        self.state = RunState[Attempt](self.root_id, first.owner, scope, phase)
        self._machine = RunMachine(
            self.state,
            effect=context.effect,
            has_post_hooks=context.hooks.has_post,
            has_tree_hooks=bool(context.hooks.tree),
            fan_out=FanOutLimits(
                max_tasks=context.settings.max_tasks,
                max_result_bytes=context.settings.max_result_bytes,
                max_referenced_bytes=context.settings.max_referenced_bytes,
                is_known=is_known_for(store),
            ),
        )
        self._mailbox = Mailbox()
        self._calls = CallLimiter(
            context, slots, limit, self._mailbox.wake, lambda: self.state.changes_written > 0
        )
        self._cancellations = Cancellations(self.state)
        self._timers = RetryTimers(self._mailbox)
        self._deadline = DeadlineTimer(self._mailbox)
        self._store = store
        self._context = context
        self._bus = bus
        self._logs = log_writer_of(store)
        self._code = RunCode(self.state, context, self._calls, self._mailbox, self._logs)
        self._publisher = RunPublisher(self.state, bus, store)
        self._patiently = Patience(
            f"Tree {self.root_id}",
            patience,
            report=self._publisher.publish_stall,
            check=self._check_lost,
        )
        self._fence = first.fence or {"run_owner": first.owner}
        self._request: ChangeSet | None = first  # until the first turn writes it
        self._durable: list[tuple[ChangeSet, TransitionResult]] = []  # written and not carried out yet
        self._conflicts = 0
        self._is_traced = logger.isEnabledFor(logging.DEBUG)
        context.join(
            self.state.by_id,
            self._publisher.publish_live,
            self._note_progress,
            self._code.tasks,
            lambda: self.state.last_number,
            self._logs,
        )
        if context.log_limits is not None:
            install_capture()
        context.nesting.join(
            first.owner,
            self.state.by_id,
            self._calls,
            self._code.end_attempt,
            context.is_over,
            context.effect,
            self._publisher.publish_stored,
        )
        self._take_tree(tasks)
        root = self.by_id[self.root_id]
        self.requested_at = root.run_requested_at  # identifies this run of the tree; the end clears it
        self.state.last_number = root.last_event

    @property
    def hold(self) -> Hold:
        """The last period in which no thread of this process ran."""
        return self._code.hold

    @hold.setter
    def hold(self, hold: Hold) -> None:
        self._code.hold = hold

    @property
    def tasks(self) -> list[Task]:
        """The tasks of the tree, in order of position."""
        return self.state.tasks

    @property
    def by_id(self) -> dict[str, Task]:
        """The tasks of the tree."""
        return self.state.by_id

    @property
    def summary(self) -> TreeSummary | None:
        """The summary of the run, after its end is durable."""
        return self.state.summary

    @property
    def has_begun(self) -> bool:
        """Whether the request of the run is durable."""
        return self.state.changes_written > 0

    @property
    def first_moves(self) -> Collection[str]:
        """The ids of the tasks that the request of the run changes, until it is written."""
        return self._request.moves if self._request is not None else ()

    @property
    def is_ending(self) -> bool:
        """Whether the end of the run is written or being written."""
        return self.state.phase in (RunPhase.ENDING, RunPhase.OVER)

    # --- calls from other components ----------------------------------------------------------------

    def cancel(self, request: CancelRequest) -> None:
        """Handle a cancel request in the next turn. May be called from any event loop."""
        if asyncio.get_running_loop() is self._mailbox.loop:
            self._cancellations.add(request)
            self._mailbox.wake()
        else:
            self._mailbox.call(lambda: self.cancel(request))

    def look(self) -> None:
        """Read the tree again in the next turn, because another process has changed it. Thread-safe."""
        self._mailbox.signal(TreeChanged())

    def look_at(self, root_id: str) -> None:
        """Call `look` if this is the tree of this run. Thread-safe."""
        if root_id == self.root_id:
            self.look()

    def lose(self) -> None:
        """Stop all work and write nothing more, because another process may own the tree. Thread-safe."""
        self._mailbox.call(self._patiently.hurry)
        self._mailbox.signal(OwnershipLost())
        reason = "another process may own the tree"
        # Immediately, because the run itself may wait for the store. Delayed code may end first.
        grace = self.hold.grace if self.hold.was_held() else 0.0
        self._mailbox.call(lambda: self._mailbox.loop.call_later(grace, self._code.end_all, reason))

    def drain(self, seconds: float) -> None:
        """Start no more tasks, end code that runs for longer than `seconds`, and release the tree."""
        self._mailbox.call(
            lambda: self._patiently.limit(seconds)
        )  # an unavailable store must not delay the end
        self._mailbox.call(lambda: self._mailbox.post(DrainRequested(seconds)))

    def refuse(self, task_ids: Iterable[str], message: str) -> None:
        """Fail tasks that no run can end (`TreeInvalid`), in the next turn."""
        self._mailbox.post(TasksRefused(list(task_ids), message))

    def current_task(self) -> asyncio.Task[Any] | None:
        """Return the asyncio task that the event loop of the run executes now. Thread-safe."""
        return asyncio.current_task(self._mailbox.loop)

    def _note_progress(self, task_id: str, fraction: float) -> None:
        self._mailbox.post(ProgressReported(task_id, fraction))

    # --- the loop ----------------------------------------------------------------------------------

    async def drive(self) -> None:
        """Run until every task in scope has ended and the end is durable.

        Raises:
            OwnerLostError: another process owns the tree or may own it. The code of this run has been ended.
            StoreError: the store failed; the run stays requested, and `recover` can finish it.
        """
        try:
            with self._bus.publishing(self.root_id, lambda: self.state.last_number):
                async with asyncio.TaskGroup() as self._group:
                    try:
                        await self._turns()
                    finally:
                        await self._code.tasks.end(self._context.settings.cancel_grace)
                        await self._logs.settle()
        except BaseExceptionGroup as group:
            raise group.exceptions[0] from None
        finally:
            self._deadline.stop()
            self._cancellations.close()
            self.state.plan.discard()
            await self._calls.close()

    async def _turns(self) -> None:
        """Take turns until the run is over."""
        try:
            while self.state.phase is not RunPhase.OVER:
                await self._turn()
        except OwnerLostError:
            await self._code.wait_for_delayed()
            raise

    async def _turn(self) -> None:
        self._mailbox.woken.clear()
        request, self._request = self._request, None
        if self._mailbox.signals:
            self._check_lost()
            if request is None and TreeChanged in self._mailbox.signals and not self.is_ending:
                await self._look()
        if request is not None and any("status" in move.sets for move in request.moves.values()):
            await self._write(request)  # the reset of a task must be durable before the task starts
            self._carry_out()
            return
        changes = request or ChangeSet(self.root_id, self.state.owner, utc_now(), self._fence)
        if self._cancellations.new:
            self._carry_out()  # started calls must exist before they can be cancelled
            if self.state.phase is RunPhase.OVER:
                return  # the change ended the run: there is nothing to cancel
        self._fill(changes)
        if request is None or not changes.moves:  # the end of a run is not written with its request
            self._machine.close(changes, is_carried_out=not self._durable)
        if changes.moves:
            await self._write_and_carry_out(changes)
        elif self._durable:
            self._carry_out()
        elif self.state.is_settled:
            await self._rest()
        else:
            await asyncio.sleep(0)  # conditions remain: other trees take turns between them

    def _fill(self, changes: ChangeSet) -> None:
        """Add all transitions that follow from the events to the changes."""
        events = self._mailbox.events
        for _ in range(len(events)):
            event = events.popleft()
            if type(event) is DrainRequested:
                self._begin_drain(event)
            elif not self._machine.handle(event, changes):
                events.append(event)
                continue
            if self._is_traced:
                logger.debug("Tree %s: event %s", self.root_id, event)
        if self._cancellations.new:
            self._take_cancellations(changes)
        self._machine.derive(changes)
        if self.state.may_start:
            self._start_ready(changes)

    def _take_cancellations(self, changes: ChangeSet) -> None:
        for request in self._cancellations.take_new():
            event = request.event()
            request.open_ids = self._machine.cancel(event, changes)
            if self._is_traced:
                logger.debug("Tree %s: event %s", self.root_id, event)
        self._cancellations.answer(changes)

    def _start_ready(self, changes: ChangeSet) -> None:
        """Start ready tasks while there are free places."""
        starting = self._calls.admit(self.state.plan, self.by_id)
        if starting:
            event = TasksAdmitted([task.id for task in starting])
            self._machine.handle(event, changes)
            if self._is_traced:
                logger.debug("Tree %s: event %s", self.root_id, event)

    def _begin_drain(self, event: DrainRequested) -> None:
        if self.state.phase not in (RunPhase.STARTING, RunPhase.RUNNING):
            return  # the run is ending or already draining
        self._carry_out()  # started calls must exist before the drain waits for them
        self.state.enter(RunPhase.DRAINING)
        self._calls.want_no_place()
        ending = drain.end_code(self.state, self._mailbox, event.seconds, self._context.settings.cancel_grace)
        self._group.create_task(ending, name=f"apflow:drain:{self.root_id}")
        self._context.nesting.is_draining = True
        trees = drain.drain_child_trees(self.state, event.seconds)
        self._group.create_task(trees, name=f"apflow:drain-trees:{self.root_id}")

    async def _rest(self) -> None:
        """Wait until something happens; detect when nothing can happen any more."""
        state = self.state
        if self._mailbox.events or self._cancellations.new:
            return
        if state.is_closing:
            state.enter(RunPhase.OVER)
            return
        is_busy = state.is_at_work or state.retrying or self._calls.held or state.plan.count_ready()
        if not (is_busy or state.phase is RunPhase.DRAINING or state.plan.is_done):
            stuck = state.plan.stuck()
            logger.error("Tasks of tree %s wait for something that cannot end: %s", self.root_id, stuck[:5])
            self.refuse(stuck, "It waits for a task that can never end")
        await self._mailbox.wait()

    # --- writing changes and carrying them out ------------------------------------------------------

    async def _write_and_carry_out(self, changes: ChangeSet) -> None:
        """Write changes and, meanwhile, carry out the previous, durable changes.

        If nothing has happened meanwhile, the next turn would write nothing: then these changes are carried
        out, too, and if only running code can end the wait, no turn is taken until then.
        """
        if self._durable:
            writing = self._group.create_task(self._write(changes), name=f"apflow:write:{self.root_id}")
            await asyncio.sleep(0)
            self._carry_out()
            await writing
        else:
            await self._write(changes)
        if self._mailbox.woken.is_set():
            return
        self._carry_out()
        if self.state.is_at_work and self.state.is_settled and not self._calls.held:
            await self._mailbox.wait()

    async def _write(self, changes: ChangeSet) -> None:
        change = changes.change()
        if self._is_traced:
            for line in changes.describe():
                logger.debug("Tree %s: writes %s", self.root_id, line)
        try:
            result = await self._patiently(partial(self._store.write, change))
        except ConflictError as error:
            await self._read_again(changes, error)
            return
        self._conflicts = 0
        self.state.changes_written += 1
        if self.state.phase is RunPhase.STARTING:
            self.state.enter(RunPhase.RUNNING)
        self._durable.append((changes, result))

    def _check_lost(self) -> None:
        if OwnershipLost in self._mailbox.signals and not self.is_ending:
            if self.state.phase is not RunPhase.LOST:
                self.state.enter(RunPhase.LOST)
            raise OwnerLostError(self.root_id)

    def _carry_out(self) -> None:
        """Publish the events of durable changes and carry out their instructions."""
        durable, self._durable = self._durable, []
        for changes, result in durable:
            self._publisher.publish_stored(result)
            for instruction in changes.then:
                self._do(instruction)
        self._code.start()
        if durable:
            self._cancellations.answer()

    def _do(self, instruction: Instruction) -> None:
        match instruction:
            case StartCalls(task_ids):
                for task_id in task_ids:
                    self._code.add_call(task_id)
            case RunPostHooks(task_id, outcome):
                self._code.add_post_hooks(task_id, outcome)
            case ScheduleRetry(task_id, seconds):
                self._timers.schedule(self.by_id[task_id], seconds, self.state.reading)
            case CancelCall(task_id, is_forced):
                running = self.state.running.get(task_id)
                if running is not None:
                    self._cancel_call(running, is_forced=is_forced)
            case CancelAgain(event):
                self.cancel(
                    CancelRequest(list(event.task_ids), event.message, event.is_forced, event.is_repeated)
                )
            case EndRun(summary):
                self.state.summary = summary
                self.state.enter(RunPhase.OVER)
            case _:
                raise TypeError(
                    f"{instruction} undoes a rejected change and cannot follow from a durable one."
                )

    def _undo(self, changes: ChangeSet) -> None:
        """Undo the decisions of rejected changes."""
        for instruction in changes.undo:
            match instruction:
                case ReturnPlaces(task_ids):
                    for task_id in task_ids:
                        self._calls.dismiss(self.by_id[task_id])
                case RestoreCall(call):
                    self._machine.restore(cast(Attempt, call))
                case RestorePhase(phase):
                    self.state.enter(phase)
                case _:
                    raise TypeError(
                        f"{instruction} follows from a durable change and cannot undo a rejected one."
                    )

    def _cancel_call(self, attempt: Attempt, *, is_forced: bool) -> None:
        """End the code of an attempt."""
        self._group.create_task(attempt.cancel(is_forced=is_forced), name=f"apflow:cancel:{attempt.task.id}")

    # --- the stored tree ---------------------------------------------------------------------------

    def _take_tree(self, tasks: Iterable[Task]) -> None:
        """Replace the tasks by the stored tree."""
        self.state.take_tree(tasks)
        for attempt in list(self.state.running.values()):
            self._match(attempt, self.by_id.get(attempt.task.id))
        if not self.state.is_closing:
            now = utc_now()
            for task in self._machine.hold_waiting(now):
                self._timers.schedule(task, self._timers.seconds_until(task, now), self.state.reading)
            root = self.by_id[self.root_id]
            if root.policy.get("deadline") is not None:
                self._deadline.schedule(root, now)

    async def _read_again(self, changes: ChangeSet, error: ConflictError) -> None:
        """Continue from the stored tree after changes were rejected: another process has changed it."""
        self._conflicts += 1
        logger.info("Tree %s was changed by another process; reading it again: %s", self.root_id, error)
        stored = await self._patiently(lambda: self._store.tree(self.root_id))
        if not stored or self._conflicts > MAX_CONFLICTS:
            raise error
        try:
            self._check_owner(stored)
        except OwnerLostError:
            self._undo(changes)  # restores attempts whose outcome was not written
            raise
        self._carry_out()
        self._undo(changes)
        self._take_stored(stored)

    async def _look(self) -> None:
        """Apply changes that another process has written into the tree, mainly cancellations."""
        event = cast(RunEvent, self._mailbox.take_signal(TreeChanged))
        if self._is_traced:
            logger.debug("Tree %s: event %s", self.root_id, event)
        stored = await self._patiently(lambda: self._store.tree(self.root_id))
        self._check_owner(stored)
        self._carry_out()
        self._take_stored(stored)

    def _check_owner(self, stored: Iterable[Task]) -> None:
        root = next((task for task in stored if task.id == self.root_id), None)
        if root is None or any(getattr(root, name) != value for name, value in self._fence.items()):
            raise OwnerLostError(self.root_id)

    def _take_stored(self, stored: Iterable[Task]) -> None:
        """Continue from the stored tree."""
        self._calls.forget_held()
        self._take_tree(stored)
        self._cancellations.take_again()
        for task in self.tasks:
            is_left = task.status is IN_PROGRESS and task.id not in self.state.running
            if is_left and task.cancel_requested_at is not None and task.executor != GROUP:
                self.cancel(CancelRequest([task.id], task.error, is_forced=False, is_repeated=True))
        self._mailbox.wake()

    def _match(self, attempt: Attempt, stored: Task | None) -> None:
        """Keep an attempt if its stored task is the one it started with; otherwise abandon it."""
        left = None if stored is None else (stored.status, stored.owner, stored.attempts, stored.generation)
        if stored is None or left != (IN_PROGRESS, self.state.owner, attempt.number, attempt.generation):
            del self.state.running[attempt.task.id]
            attempt.end("the task was changed by another process")
            return
        attempt.task = stored
        if stored.cancel_requested_at is not None and not attempt.is_cancelled:
            attempt.request_cancel(stored.error)
            self._cancel_call(attempt, is_forced=False)
        self._code.post_end(attempt)
