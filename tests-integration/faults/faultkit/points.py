"""The named points of a task's life, and a store that stops at one."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from apflow.core.model.event import FINAL, TaskEvent
from apflow.core.model.status import TaskStatus
from apflow.core.model.task import Json, Task
from apflow.core.store.base import Change, Record, TaskQuery, TaskStore, Transition, TransitionResult
from faultkit.trees import LAST, RETRYING, TARGET


class Stop:
    """Where a worker stops: it notifies the parent through a pipe and waits to be killed."""

    def __init__(self, point: str | None, pipe: int) -> None:
        self.point = point
        self._pipe = pipe

    def say(self, word: str) -> None:
        if self._pipe >= 0:  # else there is no listener
            os.write(self._pipe, f"{word}\n".encode())

    def at(self, point: str) -> None:
        """Go no further if this is the point: no thread of the event loop moves on."""
        if point == self.point:
            self.say("stopped")
            os.read(os.pipe()[0], 1)


@dataclass(frozen=True)
class Write:
    """A point before or after a change is written."""

    is_after: bool
    matches: Callable[[Change], bool]


def moves_to(task_id: str, status: TaskStatus) -> Callable[[Change], bool]:
    return lambda change: any(
        move.task_id == task_id and move.sets.get("status") == status for move in change.moves
    )


def starts(task_id: str) -> Callable[[Change], bool]:
    def is_start(move: Transition) -> bool:
        is_pending = move.expects.get("status") == TaskStatus.PENDING
        return move.task_id == task_id and is_pending and move.sets.get("status") == TaskStatus.IN_PROGRESS

    return lambda change: any(is_start(move) for move in change.moves)


def sets(task_id: str | None, field: str) -> Callable[[Change], bool]:
    return lambda change: any(
        move.task_id == (task_id or move.task_id) and move.sets.get(field) is not None
        for move in change.moves
    )


def ends_the_tree(change: Change) -> bool:
    return any(event.type in FINAL for move in change.moves for event in move.events)


# Points at which the store stops. The others are in the worker: created, called, hooked, tree_hooked.
WRITES: Mapping[str, Write] = {
    "run_requested": Write(is_after=True, matches=sets(None, "run_requested_at")),
    "in_progress_before_call": Write(is_after=True, matches=starts(TARGET)),
    "returned_not_committed": Write(is_after=False, matches=moves_to(TARGET, TaskStatus.COMPLETED)),
    "completed_before_its_hook": Write(is_after=True, matches=moves_to(TARGET, TaskStatus.COMPLETED)),
    "waiting_for_a_retry": Write(is_after=True, matches=sets(RETRYING, "not_before")),
    "cancel_requested": Write(is_after=True, matches=sets(TARGET, "cancel_requested_at")),
    "last_child_done": Write(is_after=True, matches=moves_to(LAST, TaskStatus.COMPLETED)),
    "tree_ended_before_its_final_event": Write(is_after=False, matches=ends_the_tree),
    "final_event_before_its_hook": Write(is_after=True, matches=ends_the_tree),
}


class StoppingStore(TaskStore):
    """A store that stops before or after the change that is its point."""

    def __init__(self, inner: TaskStore, stop: Stop) -> None:
        self._inner = inner
        self._stop = stop
        self._write = WRITES.get(stop.point or "")
        self.url = inner.url
        self.capabilities = inner.capabilities

    async def write(self, change: Change) -> TransitionResult:
        is_here = self._write is not None and self._write.matches(change)
        if is_here and self._write and not self._write.is_after:
            self._stop.at(self._stop.point or "")
        moved = await self._inner.write(change)
        if is_here:
            self._stop.at(self._stop.point or "")
        return moved

    async def get(self, ids: Sequence[str]) -> dict[str, Task]:
        return await self._inner.get(ids)

    async def tree(self, root_id: str) -> list[Task]:
        return await self._inner.tree(root_id)

    async def find(self, query: TaskQuery) -> list[Task]:
        return await self._inner.find(query)

    async def count(self, query: TaskQuery) -> dict[TaskStatus, int]:
        return await self._inner.count(query)

    async def events(self, root_id: str, after: int = 0, limit: int | None = None) -> list[TaskEvent]:
        return await self._inner.events(root_id, after, limit)

    async def put_record(
        self, kind: str, key: str, value: Json, *, version: int | None = None
    ) -> Record | None:
        return await self._inner.put_record(kind, key, value, version=version)

    async def records(self, kind: str, *, prefix: str = "", limit: int | None = None) -> list[Record]:
        return await self._inner.records(kind, prefix=prefix, limit=limit)

    async def remove_record(self, kind: str, key: str, *, version: int | None = None) -> bool:
        return await self._inner.remove_record(kind, key, version=version)

    async def close(self) -> None:
        await self._inner.close()
        self.is_closed = True
