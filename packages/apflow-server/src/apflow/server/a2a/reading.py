"""A2A tasks as they are now, and as a stream of updates.

A run depends on none of this: a client that goes away, or reads slowly, delays only its own stream.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager
from typing import Final

from a2a.types.a2a_pb2 import Task as A2ATask
from a2a.types.a2a_pb2 import TaskArtifactUpdateEvent, TaskState, TaskStatusUpdateEvent

from apflow.core.engine.approvals import open_approvals
from apflow.core.events.bus import bus_of
from apflow.core.events.subscription import Subscription
from apflow.core.model.approval import Approval
from apflow.core.model.event import FINAL, TaskEvent
from apflow.core.settings import get_settings
from apflow.server.a2a.approvals import required_status
from apflow.server.a2a.calls import Call
from apflow.server.a2a.executions import Execution
from apflow.server.a2a.projection import TERMINAL, earlier_task, status_update, submitted_task, task_of
from apflow.server.a2a.updates import Updates
from apflow.server.streaming.event_stream import until_closed

INPUT_REQUIRED: Final = TaskState.TASK_STATE_INPUT_REQUIRED
Event = A2ATask | TaskStatusUpdateEvent | TaskArtifactUpdateEvent


async def current_task(call: Call, execution: Execution, *, has_artifacts: bool = True) -> A2ATask:
    """Return an A2A task as it is now.

    Raises:
        NotFoundError: the tree was deleted.
    """
    if not execution.is_latest:
        return earlier_task(execution, has_artifacts=has_artifacts)
    db = call.service.db
    tasks = await db.existing_tree(execution.root.id)
    shown = task_of(execution, tasks, has_artifacts=has_artifacts)
    return await with_approvals(call, execution, shown)


async def with_approvals(call: Call, execution: Execution, task: A2ATask) -> A2ATask:
    """Return a task with the approvals that it waits for: then it requires input."""
    if task.status.state not in TERMINAL:
        approvals = await open_approvals(call.service.db, execution.root.id)
        task.status.CopyFrom(required_status(execution, task.status, approvals))
    return task


async def ended_task(call: Call, execution: Execution) -> A2ATask:
    """Wait until an execution has ended or requires input, and return its task.

    If the server ends before, return its present state.
    """
    async with aclosing(follow(call, execution)) as events:
        async for event in events:
            if isinstance(event, A2ATask | TaskStatusUpdateEvent) and event.status.state == INPUT_REQUIRED:
                break
    return await current_task(call, execution)


async def follow(call: Call, execution: Execution, *, is_new: bool = False) -> AsyncGenerator[Event, None]:
    """Yield the task as it is now, and then its updates, until the execution has ended.

    The updates end earlier if the server ends or the token of the client expires.

    Args:
        is_new: yield the task as it was submitted, and all updates, if this is the first run of the tree.
    """
    db = call.service.db
    if not execution.is_latest:
        yield earlier_task(execution)
        return
    tasks = await db.existing_tree(execution.root.id)
    is_new = is_new and execution.run.after == 0
    snapshot = submitted_task(execution) if is_new else task_of(execution, tasks)
    approvals: list[Approval] = [] if is_new else await open_approvals(db, execution.root.id)
    snapshot.status.CopyFrom(required_status(execution, snapshot.status, approvals))
    yield snapshot
    if snapshot.status.state in TERMINAL:
        return
    asked = [each.task_id for each in approvals]
    updates = Updates(execution, tasks, is_new=is_new, asked=asked)
    last = 0 if is_new else next(each for each in tasks if each.id == execution.root.id).last_event
    with call.streams.opened("a2a", call.caller):
        async with _batches(call, execution, last) as batches:
            async for batch in batches:
                for event in batch:
                    for update in updates.of(event):
                        yield update
                    if event.type in FINAL:
                        return
    now = await current_task(call, execution, has_artifacts=False)
    if now.status.state in TERMINAL:
        yield status_update(execution, now.status)


@asynccontextmanager
async def _batches(
    call: Call, execution: Execution, last: int
) -> AsyncGenerator[AsyncGenerator[list[TaskEvent], None], None]:
    """Subscribe to the events after one with a sequence number, while the client may listen."""
    db, size = call.service.db, get_settings().event_queue_size
    subscription = Subscription(bus_of(db), db, execution.root.id, after=last, size=size)
    stopping = asyncio.create_task(_stop(call, subscription), name="apflow:a2a:stop")
    try:
        async with aclosing(subscription.batches()) as batches:
            yield batches
    finally:
        stopping.cancel()


async def _stop(call: Call, subscription: Subscription) -> None:
    """End a subscription when the server ends, or when the token of the client has expired."""
    await until_closed(call.drain, call.caller)
    subscription.stop()
