"""A2A tasks as they are now, and as a stream of updates.

A run depends on none of this: a client that goes away, or reads slowly, delays only its own stream.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager

from a2a.types.a2a_pb2 import Task as A2ATask
from a2a.types.a2a_pb2 import TaskArtifactUpdateEvent, TaskStatusUpdateEvent

from apflow.core.events.bus import bus_of
from apflow.core.events.subscription import Subscription
from apflow.core.model.event import FINAL, TaskEvent
from apflow.core.settings import get_settings
from apflow.server.a2a.calls import Call
from apflow.server.a2a.executions import Execution
from apflow.server.a2a.projection import TERMINAL, earlier_task, status_update, submitted_task, task_of
from apflow.server.a2a.updates import Updates
from apflow.server.streaming.event_stream import until_closed

Event = A2ATask | TaskStatusUpdateEvent | TaskArtifactUpdateEvent


async def current_task(call: Call, execution: Execution, *, has_artifacts: bool = True) -> A2ATask:
    """Return an A2A task as it is now.

    Raises:
        NotFoundError: the tree was deleted.
    """
    if not execution.is_latest:
        return earlier_task(execution, has_artifacts=has_artifacts)
    tasks = await call.service.db.existing_tree(execution.root.id)
    return task_of(execution, tasks, has_artifacts=has_artifacts)


async def ended_task(call: Call, execution: Execution) -> A2ATask:
    """Wait until an execution has ended, and return its task; or as it is when the server ends."""
    async with aclosing(follow(call, execution)) as events:
        async for _ in events:
            pass
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
    yield snapshot
    if snapshot.status.state in TERMINAL:
        return
    updates = Updates(execution, tasks, is_new=is_new)
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
