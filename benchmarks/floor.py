"""The floor of the throughput rows: the same durable changes, pushed through the store's own `move`.

There is no engine: no plan, no inputs, no executor, no hook, no subscriber.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from time import perf_counter

from apflow.core.model.event import EventType, TaskEvent
from apflow.core.model.status import TaskStatus
from apflow.core.model.task import Json, Task, utc_now
from apflow.core.settings import get_settings
from apflow.core.store.base import TaskStore, Transition

OWNER = "floor"


def plain_tasks(array: Sequence[dict[str, Json]]) -> list[Task]:
    """Return the tasks of an array as the store takes them."""
    root_id = array[0]["id"]
    return [
        Task(
            id=each["id"],
            name=each["name"],
            root_id=root_id,
            parent_id=each.get("parent_id"),
            dependencies=each.get("dependencies", []),
            inputs=each.get("inputs", {}),
            schemas=each.get("schemas", {}),
            created_at=utc_now(),
            updated_at=utc_now(),
        )
        for each in array
    ]


def started(task: Task) -> Transition:
    """Return the move that starts a task, with its event."""
    now = utc_now()
    return Transition(
        task_id=task.id,
        root_id=task.root_id,
        expects={"status": TaskStatus.PENDING, "generation": 0},
        sets={
            "status": TaskStatus.IN_PROGRESS,
            "owner": OWNER,
            "attempts": 1,
            "started_at": now,
            "updated_at": now,
        },
        events=(event(EventType.TASK_STARTED, task, TaskStatus.IN_PROGRESS, None),),
    )


def completed(task: Task) -> Transition:
    """Return the move that completes a task, with its event."""
    now = utc_now()
    result = {"done": True}
    return Transition(
        task_id=task.id,
        root_id=task.root_id,
        expects={"status": TaskStatus.IN_PROGRESS, "owner": OWNER, "attempts": 1, "generation": 0},
        sets={
            "status": TaskStatus.COMPLETED,
            "result": result,
            "progress": 1.0,
            "completed_at": now,
            "updated_at": now,
        },
        events=(event(EventType.TASK_COMPLETED, task, TaskStatus.COMPLETED, result),),
    )


def event(kind: EventType, task: Task, status: TaskStatus, result: Json) -> TaskEvent:
    """Return the event that a change of state stores."""
    return TaskEvent(
        type=kind,
        task_id=task.id,
        root_task_id=task.root_id,
        timestamp=utc_now(),
        status=status,
        result=result,
    )


def batches(tasks: Sequence[Task]) -> Iterator[Sequence[Task]]:
    """Yield the tasks in batches of as many as may run at once."""
    size = get_settings().max_concurrency
    for start in range(0, len(tasks), size):
        yield tasks[start : start + size]


async def push_in_batches(store: TaskStore, array: Sequence[dict[str, Json]]) -> float:
    """Start and complete every task in batches and return the seconds that it took."""
    tasks = plain_tasks(array)
    await store.add(tasks)
    begin = perf_counter()
    for batch in batches(tasks):
        assert None not in await store.move([started(task) for task in batch])
        assert None not in await store.move([completed(task) for task in batch])
    return perf_counter() - begin


async def push_in_sequence(store: TaskStore, array: Sequence[dict[str, Json]]) -> float:
    """Take a chain's steps, one commit each: complete a task and start the next."""
    tasks = plain_tasks(array)
    await store.add(tasks)
    begin = perf_counter()
    await store.move([started(tasks[0])])
    for before, after in pairwise(tasks):
        assert None not in await store.move([completed(before), started(after)])
    await store.move([completed(tasks[-1])])
    return perf_counter() - begin
