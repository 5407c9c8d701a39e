"""Approvals: a task asks and waits, and a caller in any process decides.

What waits is a record, so the question and its deadline outlive the process. The task waits in the process
that runs its tree: a decision is a stored event, whose notice wakes that process, and in case a notice is
lost, the process also reads the record, less and less often.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Any, Final

from apflow.core.concurrency.completion import finish
from apflow.core.concurrency.loop_call import call_in_loop
from apflow.core.concurrency.timed_wait import wait_up_to
from apflow.core.engine.approval_events import store_event
from apflow.core.engine.approval_store import (
    add_approval,
    add_decision,
    approval_of,
    decision_of,
    note_announced,
    remove_waiting,
    waiting_approvals,
    waiting_of,
)
from apflow.core.engine.nesting import NestingContext
from apflow.core.engine.store_retry import Patience
from apflow.core.engine.waiting_trees import waiting_in
from apflow.core.errors import ConflictError
from apflow.core.events.bus import bus_of
from apflow.core.model.approval import Approval, ApprovalRequest, Decision
from apflow.core.model.event import EventType, TaskEvent
from apflow.core.model.status import TERMINAL
from apflow.core.model.task import Task, to_json, utc_now
from apflow.core.payload.approval import check_request, default_decision, describe_decision
from apflow.core.payload.json_value import copy_json
from apflow.core.payload.secrets import redact
from apflow.core.planning.run_state import Cancellation
from apflow.core.store.base import Notice, NoticeKind, TaskStore, TransitionResult

MIN_POLL_SECONDS: Final = 1.0  # between reads of the record on a store that other processes write
MAX_POLL_SECONDS: Final = 30.0
MAX_REST_SECONDS: Final = 3600.0  # between looks at the clock, which may be set
ANNOUNCE_SECONDS: Final = 5.0  # that a process has to store its event, before another one does


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
        self._surely = Patience(f"Task {task.id}", context.patience).surely
        self._waker = _Waker(task.root_id)

    def wake(self) -> None:
        """Look at once, from any thread."""
        self._waker.wake()

    async def ask(self, request: ApprovalRequest) -> Approval:
        """Ask, unless the same execution of the task has asked before, and wait for the decision."""
        approval = await self._surely(partial(approval_of, self._store, self._task))
        is_first = False
        if approval is None:
            approval, is_first = await self._add(request)
        if approval.decision is None:
            if not approval.is_announced:
                await self._announce(approval, is_first=is_first)
            with waiting_in(self._store, approval.root_id):
                async with self._without_place():
                    approval = await self._decided(approval)
        else:
            approval = await self._announced(approval)
        await self._surely(partial(remove_waiting, self._store, approval))
        return approval

    async def _add(self, request: ApprovalRequest) -> tuple[Approval, bool]:
        """Store what is asked; return it, and whether this has stored it for the first time."""
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
        is_first = await self._surely(partial(add_approval, self._store, approval))
        return await self._surely(partial(approval_of, self._store, task)) or approval, is_first

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
        return await self._announced(stands, is_first=stands.decision == decision)

    async def _announced(self, approval: Approval, *, is_first: bool = False) -> Approval:
        """Store the event of a decision, unless the process that has decided does so now."""
        decision = approval.decision
        if approval.is_announced or decision is None:
            return approval
        read = partial(self._surely, partial(decision_of, self._store, approval))
        if decision.is_timeout or not await _is_announced_soon(read):
            await self._announce(approval, is_first=is_first)
        return approval

    async def _announce(self, approval: Approval, *, is_first: bool) -> None:
        may_be_stored = not is_first

        async def store() -> TransitionResult:
            nonlocal may_be_stored
            is_first_try, may_be_stored = not may_be_stored, True
            return await store_event(self._store, approval, self._task, is_first=is_first_try, is_runner=True)

        self._context.publish_stored(await self._surely(store))
        await self._surely(partial(note_announced, self._store, approval))


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
    if not approval.is_announced and not await _is_announced_soon(partial(waiting_of, db, approval)):
        bus.publish(*await _announce(db, approval, task, is_first=False))
    try:
        stands = await add_decision(db, approval.decided(decision))
        if stands.decision != decision:
            return None
        bus.publish(*await _announce(db, stands, task, is_first=True))
    except ConflictError:  # the task was executed again, or deleted, meanwhile
        pass
    finally:
        bus.receive(Notice(NoticeKind.EVENTS, task.root_id))  # wakes the task, also if the store has failed
    return approval.decided(decision)


async def _announce(db: TaskStore, approval: Approval, task: Task, *, is_first: bool) -> list[TaskEvent]:
    """Store the event of a question or of a decision once, and note that it is stored."""
    result = await store_event(db, approval, task, is_first=is_first)
    await note_announced(db, approval)
    return [each for events in result for each in events or ()]


async def _is_announced_soon(read: Callable[[], Awaitable[Approval | None]]) -> bool:
    """Wait for another process, which stores the event now; return False if it has died.

    Args:
        read: returns the approval as it is stored; None if it was removed.
    """
    loop, pause = asyncio.get_running_loop(), 0.02
    until = loop.time() + ANNOUNCE_SECONDS
    while loop.time() < until:
        await asyncio.sleep(pause)
        found = await read()
        if found is None or found.is_announced:
            return True
        pause = min(1.0, pause * 2)
    return False
