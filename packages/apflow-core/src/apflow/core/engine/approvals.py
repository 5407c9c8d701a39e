"""Approvals: a task asks and waits, and a caller in any process decides.

What waits is a record, so the question and its deadline outlive the process. The task waits in the process
that runs its tree: a decision is a stored event, whose notice wakes that process, and in case a notice is
lost, the process also reads the record, less and less often.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Any, Final, TypeVar

from apflow.core.concurrency.completion import finish
from apflow.core.concurrency.loop_call import call_in_loop
from apflow.core.concurrency.timed_wait import wait_up_to
from apflow.core.engine.approval_store import (
    add_approval,
    add_decision,
    approval_of,
    decision_of,
    note_announced,
    remove_waiting,
    waiting_approvals,
)
from apflow.core.engine.nesting import NestingContext
from apflow.core.engine.store_retry import Patience
from apflow.core.engine.waiting_trees import waiting_in
from apflow.core.errors import ConflictError, MoveLostError, StoreOutcomeUnknownError
from apflow.core.events.bus import bus_of
from apflow.core.model.approval import Approval, ApprovalRequest, Decision
from apflow.core.model.event import EventType, TaskEvent
from apflow.core.model.status import TERMINAL
from apflow.core.model.task import Task, to_json, utc_now
from apflow.core.payload.approval import check_request, default_decision, describe_decision
from apflow.core.payload.json_value import copy_json
from apflow.core.payload.secrets import redact
from apflow.core.planning.run_state import Cancellation
from apflow.core.store.base import Change, Notice, NoticeKind, TaskStore, Transition, TransitionResult

logger = logging.getLogger(__name__)

T = TypeVar("T")

MIN_POLL_SECONDS: Final = 1.0  # between reads of the record on a store that other processes write
MAX_POLL_SECONDS: Final = 30.0
MAX_REST_SECONDS: Final = 3600.0  # between looks at the clock, which may be set
ANNOUNCE_SECONDS: Final = 5.0  # that a process has to store the event of its decision, before this one does


class TaskApproval:
    """The approval of one attempt of a task.

    Args:
        without_place: returns a context in which the task holds no place among the executor calls.
        park: ends the attempt if the process shuts down.
        secrets: of the attempt; they are masked in what is stored.
    """

    def __init__(
        self,
        context: NestingContext,
        task: Task,
        cancellation: Cancellation,
        without_place: Callable[[], AbstractAsyncContextManager[None]],
        park: Callable[[], Awaitable[Any]],
        secrets: Sequence[str],
    ) -> None:
        self._context, self._task, self._cancellation = context, task, cancellation
        self._without_place, self._park, self._secrets = without_place, park, secrets
        self._store = context.driver.store
        self._patiently = Patience(f"Task {task.id}", context.patience)
        self._waker = _Waker(task.root_id)

    def wake(self) -> None:
        """Look at once, from any thread."""
        self._waker.wake()

    async def ask(self, request: ApprovalRequest) -> Approval:
        """Ask, unless the same execution of the task has asked before, and wait for the decision."""
        approval = await self._surely(partial(approval_of, self._store, self._task))
        if approval is None:
            approval = await self._add(request)
        if approval.decision is None:
            if not approval.is_announced:
                await self._announce(approval)
            with waiting_in(self._store, approval.root_id):
                async with self._without_place():
                    approval = await self._decided(approval)
        else:
            approval = await self._announced(approval)
        await self._surely(partial(remove_waiting, self._store, approval))
        return approval

    async def _add(self, request: ApprovalRequest) -> Approval:
        check_request(request)
        task = self._task
        shown = replace(
            request,
            question=redact(request.question, self._secrets),
            data=redact(copy_json(request.data), self._secrets),
            form=redact(copy_json(request.form), self._secrets),
        )
        approval = Approval(
            task_id=task.id,
            root_id=task.root_id,
            generation=task.generation,
            name=task.name,
            user_id=task.user_id,
            request=shown,
            asked_at=utc_now(),
        )
        await self._surely(partial(add_approval, self._store, approval))
        return await self._surely(partial(approval_of, self._store, task)) or approval

    async def _decided(self, approval: Approval) -> Approval:
        """Wait for the decision, at most until the deadline."""
        bus = bus_of(self._store)
        self._waker.begin()
        bus.subscribe(self._waker)
        try:
            pause = MIN_POLL_SECONDS
            while True:
                found = await self._surely(partial(decision_of, self._store, approval))
                if found is not None:
                    return await self._announced(found)
                if approval.is_over(utc_now()):
                    return await self._decide_by_default(approval)
                if self._context.is_draining:
                    await self._park()
                await self._waker.wait(self._rest(approval, pause))
                pause = min(MAX_POLL_SECONDS, pause * 2)
        except asyncio.CancelledError:
            if self._cancellation.is_requested:
                await finish(remove_waiting(self._store, approval), "apflow:approval")
            raise
        finally:
            bus.unsubscribe(self._waker)

    def _rest(self, approval: Approval, pause: float) -> float:
        """Return the seconds until the next look, if nothing wakes the task before."""
        rest = pause if self._store.capabilities.is_shared else MAX_REST_SECONDS
        deadline = approval.deadline
        return rest if deadline is None else min(rest, max(0.0, (deadline - utc_now()).total_seconds()))

    async def _decide_by_default(self, approval: Approval) -> Approval:
        decision = default_decision(approval.request, utc_now())
        stands = await self._surely(partial(add_decision, self._store, approval.decided(decision)))
        return await self._announced(stands)

    async def _announced(self, approval: Approval) -> Approval:
        """Store the event of a decision, unless the process that has decided does so now."""
        decision = approval.decision
        if approval.is_announced or decision is None:
            return approval
        if not decision.is_timeout:
            until = asyncio.get_running_loop().time() + ANNOUNCE_SECONDS
            pause = 0.02
            while asyncio.get_running_loop().time() < until:
                await asyncio.sleep(pause)
                found = await self._surely(partial(decision_of, self._store, approval))
                if found is None or found.is_announced:
                    return found or approval
                pause = min(1.0, pause * 2)
        await self._announce(approval)
        return approval

    async def _announce(self, approval: Approval) -> None:
        try:
            result = await self._patiently(partial(_store_event, self._store, approval, self._task))
            self._context.publish_stored(result)
        except StoreOutcomeUnknownError as error:
            logger.warning("An event of the approval of task %s may be lost: %s", self._task.id, error)
        await self._surely(partial(note_announced, self._store, approval))

    async def _surely(self, operation: Callable[[], Awaitable[T]]) -> T:
        """Repeat an operation, which has no further effect, until its outcome is known."""
        while True:
            try:
                return await self._patiently(operation)
            except StoreOutcomeUnknownError:
                await asyncio.sleep(MIN_POLL_SECONDS)


class _Waker:
    """A subscriber to the events of a tree that wakes the task whose approval was decided.

    Other events do not wake it: they may be many.
    """

    def __init__(self, root_id: str) -> None:
        self.root_id = root_id
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_woken = asyncio.Event()

    def begin(self) -> None:
        self._loop = asyncio.get_running_loop()

    def begin_at(self, number: int) -> None:
        del number

    def enqueue(self, *events: TaskEvent) -> None:
        if any(each.type is EventType.APPROVAL_DECIDED for each in events):
            self.wake()

    def look(self) -> None:
        self.wake()  # another process has stored an event

    def wake(self) -> None:
        if self._loop is not None:
            call_in_loop(self._loop, self._is_woken.set)

    async def wait(self, seconds: float) -> None:
        await wait_up_to(seconds, self._is_woken)
        self._is_woken.clear()


async def open_approvals(db: TaskStore, root_id: str | None = None) -> list[Approval]:
    """Return the approvals that wait for a decision, of one tree or of all trees."""
    found = await waiting_approvals(db, root_id)
    tasks = await db.get([each.task_id for each in found]) if found else {}
    now = utc_now()
    return [
        each for each in found if each.task_id in tasks and why_closed(tasks[each.task_id], each, now) is None
    ]


def why_closed(task: Task, approval: Approval, now: datetime) -> str | None:
    """Return why an approval cannot be decided now; None if it can."""
    if approval.decision is not None:
        return describe_decision(approval)
    if task.generation != approval.generation:
        return "Its task was executed again since."
    if task.status in TERMINAL:
        return f"Its task has ended: it is {task.status}."
    if task.cancel_requested_at is not None:
        return "The cancellation of its task is requested."
    if approval.is_over(now):
        return f"Its time was over at {to_json(approval.deadline)}."
    return None


async def decide(db: TaskStore, task: Task, approval: Approval, decision: Decision) -> Approval | None:
    """Store a decision and its event, and wake the task; None if another one was first.

    Raises:
        ConflictError: the task was executed again, or deleted, meanwhile.
        StoreError: the store cannot write. The decision may be stored.
    """
    bus = bus_of(db)
    if not approval.is_announced:  # the process that asked has died before it stored the event
        bus.publish(*await _announce(db, approval, task))
    try:
        stands = await add_decision(db, approval.decided(decision))
        if stands.decision != decision:
            return None
        bus.publish(*await _announce(db, stands, task))
    except ConflictError:  # the task was executed again, or deleted, meanwhile
        pass
    finally:
        bus.receive(Notice(NoticeKind.EVENTS, task.root_id))  # wakes the task, also if the store has failed
    return approval.decided(decision)


async def _announce(db: TaskStore, approval: Approval, task: Task) -> list[TaskEvent]:
    """Store the event of a question or of a decision, and note that it is stored."""
    result = await _store_event(db, approval, task)
    await note_announced(db, approval)
    return [each for events in result for each in events or ()]


async def _store_event(db: TaskStore, approval: Approval, task: Task) -> TransitionResult:
    expects = {"generation": approval.generation}
    move = Transition(task.id, task.root_id, expects, {}, (_event(approval, task),))
    try:
        return await db.write(Change(moves=[move], is_strict=True))
    except MoveLostError as error:
        raise ConflictError(f"Task {task.id!r} was executed again meanwhile.") from error


def _event(approval: Approval, task: Task) -> TaskEvent:
    decision = approval.decision
    if decision is None:
        kind, message = EventType.APPROVAL_REQUESTED, approval.request.question
        data = approval.question_json()
    else:
        kind, message = EventType.APPROVAL_DECIDED, describe_decision(approval)
        data = decision.to_json()
    return TaskEvent(
        type=kind,
        task_id=task.id,
        key=task.key,
        root_task_id=task.root_id,
        timestamp=utc_now(),
        message=message,
        data=data,
    )
