"""Tasks in memory: the reference for what a store does.

It copies on the way in and on the way out, so that callers never share an object with it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields, replace
from datetime import datetime
from itertools import islice
from operator import attrgetter
from typing import Any, NamedTuple

from apflow.core.errors import IdTakenError, InvalidInputError, MoveLostError, StoreError
from apflow.core.model.attempt import TaskAttempt
from apflow.core.model.custom_columns import COLUMNS, custom_fields
from apflow.core.model.event import TaskEvent
from apflow.core.model.log import LogChunk, LogLine, LogQuery, lines_of
from apflow.core.model.status import TaskStatus
from apflow.core.model.task import Json, Task, utc_now
from apflow.core.model.usage import RecentCalls, UsageEntry, UsageQuery, UsageSum, sum_up
from apflow.core.payload.json_value import CONTAINERS, copy_json, loads
from apflow.core.process.identity import ForkGuard, ForkLock
from apflow.core.store.base import (
    NULLABLE_TIMES,
    ORDERS,
    Capabilities,
    Change,
    Record,
    TaskQuery,
    TaskStore,
    Transition,
    TransitionResult,
    last_time,
)
from apflow.core.store.rules import (
    check_names,
    check_record,
    check_records,
    created_event,
    record_text,
    repeated,
)


class MemoryStore(TaskStore):
    """A store that ends with its process."""

    capabilities = Capabilities(has_attempts=True, has_usage=True)

    def __init__(self, url: str = "memory://") -> None:
        self.url = url
        self.is_closed = False
        self._guard = ForkGuard(url)
        self._lock = ForkLock()  # held by every operation; none waits while it holds it
        self._tasks: dict[str, Task] = {}
        self._trees: dict[str, dict[str, None]] = {}  # root id -> ids of its tasks, as added
        self._positions: dict[str, int] = {}  # root id -> the next position
        self._events: dict[str, list[_EventRow]] = {}
        self._sequences: dict[str, int] = {}  # root id -> number of its last event
        self._attempts: dict[str, list[TaskAttempt]] = {}  # by task id
        self._logs: dict[str, list[tuple[int, LogChunk]]] = {}  # root id -> numbered chunks, in order
        self._chunks = 0  # number of the last chunk
        # By task and model, with the time of the last call.
        self._usage: dict[tuple[str, str], tuple[UsageEntry, datetime]] = {}
        self._counted = RecentCalls()
        self._records: dict[tuple[str, str], tuple[str, int]] = {}  # kind, key -> JSON text, version

    async def write(self, change: Change) -> TransitionResult:
        with self._opened():
            check_names(change)
            custom = custom_fields()
            added = {task.id: task for task in change.add}
            if len(added) < len(change.add) or not added.keys().isdisjoint(self._tasks):
                taken = [task_id for task_id in added if task_id in self._tasks]
                raise IdTakenError(taken + repeated(change.add))
            lost = self._lost(change.moves, added, custom)
            if lost and change.is_strict:
                raise MoveLostError([change.moves[at].task_id for at in sorted(lost)])
            if change.add:
                self._add(change.add, custom)
            moved: TransitionResult = [
                None if at in lost else self._apply(move, custom) for at, move in enumerate(change.moves)
            ]
            for task_id in change.remove:
                self._remove(task_id)
            return moved

    async def get(self, ids: Sequence[str]) -> dict[str, Task]:
        with self._opened():
            return {
                task.id: task
                for task in self._copies_out([self._tasks[each] for each in ids if each in self._tasks])
            }

    async def tree(self, root_id: str) -> list[Task]:
        with self._opened():
            tasks = [self._tasks[task_id] for task_id in self._trees.get(root_id, ())]
            tasks.sort(key=_among_ties)
            return self._copies_out(tasks)

    async def find(self, query: TaskQuery) -> list[Task]:
        order, is_reversed = _order(query.order), query.order.startswith("-")
        with self._opened():
            found = [task for task in self._candidates(query) if _matches(task, query)]
            if query.after is not None:
                found = [task for task in found if _follows(task, query.after, order, is_reversed)]
            found.sort(key=_among_ties)
            found.sort(key=order, reverse=is_reversed)
            end = None if query.limit is None else query.offset + query.limit
            return self._copies_out(found[query.offset : end])

    async def count(self, query: TaskQuery) -> dict[TaskStatus, int]:
        counts: dict[TaskStatus, int] = {}
        with self._opened():
            for task in self._candidates(query):
                if _matches(task, query):
                    counts[task.status] = counts.get(task.status, 0) + 1
        return counts

    async def events(self, root_id: str, after: int = 0, limit: int | None = None) -> list[TaskEvent]:
        with self._opened():
            found = [row for row in self._events.get(root_id, ()) if row.sequence > after]
            return [row.event() for row in found[:limit]]

    async def attempts(self, task_id: str) -> list[TaskAttempt]:
        with self._opened():
            return sorted(self._attempts.get(task_id, ()), key=lambda attempt: attempt.number)

    async def add_logs(self, chunks: Sequence[LogChunk]) -> None:
        with self._opened():
            for chunk in chunks:
                self._chunks += 1
                kept = replace(chunk, entries=tuple(chunk.entries))
                self._logs.setdefault(chunk.root_task_id, []).append((self._chunks, kept))

    async def logs(self, query: LogQuery) -> list[LogLine]:
        with self._opened():
            chunks = list(self._logs.get(query.root_task_id, ()))
        wanted = None if query.task_ids is None else set(query.task_ids)
        found = (
            line
            for number, chunk in chunks
            if (wanted is None or chunk.task_id in wanted) and query.attempt in (None, chunk.attempt)
            for line in lines_of(chunk, number, query)
        )
        return list(islice(found, query.limit))

    async def add_usage(self, entries: Sequence[UsageEntry]) -> None:
        with self._opened():
            for entry in entries:
                if self._counted.has(entry.call_id):
                    continue
                self._counted.note(entry.call_id)
                place = entry.task_id, entry.model
                if place in self._usage:
                    entry = replace(entry, totals=self._usage[place][0].totals + entry.totals)
                self._usage[place] = entry, self.now()

    async def usage(self, query: UsageQuery) -> list[UsageSum]:
        with self._opened():
            found = [entry for entry, at in self._usage.values() if _is_used(entry, at, query)]
        return sum_up(found, query.group_by)

    async def put_record(
        self, kind: str, key: str, value: Json, *, version: int | None = None
    ) -> Record | None:
        check_record(kind, key, version)
        plain, text = record_text(value)
        with self._opened():
            _, found = self._records.get((kind, key), ("", 0))
            if version is not None and version != found:
                return None
            self._records[kind, key] = text, found + 1
            return Record(kind, key, plain, found + 1)

    async def records(self, kind: str, *, prefix: str = "", limit: int | None = None) -> list[Record]:
        check_records(kind, prefix, limit)
        with self._opened():
            found = [
                (key, *stored)
                for (each_kind, key), stored in self._records.items()
                if each_kind == kind and key.startswith(prefix)
            ]
        found.sort()  # characters sort as their UTF-8 does
        return [Record(kind, key, loads(text), version) for key, text, version in found[:limit]]

    async def remove_record(self, kind: str, key: str, *, version: int | None = None) -> bool:
        check_record(kind, key, version)
        with self._opened():
            _, found = self._records.get((kind, key), ("", 0))
            if not found or (version is not None and version != found):
                return False
            del self._records[kind, key]
            return True

    @property
    def is_forked(self) -> bool:
        return self._guard.is_forked

    async def close(self) -> None:
        self.is_closed = True

    def now(self) -> datetime:
        """Return the time of a change. A store that repeats its changes returns the time that they had."""
        return utc_now()

    def _opened(self) -> threading.Lock:
        """Return the lock for one operation."""
        self._guard.check()
        if self.is_closed:
            raise StoreError(f"The store {self.url} is closed.")
        return self._lock.lock

    def _lost(
        self, moves: Sequence[Transition], added: Mapping[str, Task], custom: Mapping[str, Json]
    ) -> set[int]:
        """Return which moves lose, as indexes."""
        return {
            at
            for at, move in enumerate(moves)
            if not _wins(move, self._tasks.get(move.task_id) or added.get(move.task_id), custom)
        }

    def _add(self, tasks: Sequence[Task], custom: Mapping[str, Json]) -> None:
        now = self.now()
        for task in tasks:
            next_position = self._positions.get(task.root_id, 0)
            stored = _copy_task(task, custom)
            stored.position = task.position if task.position >= 0 else next_position
            stored.created_at = task.created_at or now
            stored.updated_at = task.updated_at or stored.created_at
            self._tasks[task.id] = stored
            self._trees.setdefault(task.root_id, {})[task.id] = None
            self._positions[task.root_id] = max(next_position, stored.position + 1)
            self._number(created_event(stored, now))
        for parent_id in {task.parent_id for task in tasks}:
            if parent_id in self._tasks:
                self._tasks[parent_id].has_children = True

    def _apply(self, move: Transition, custom: Mapping[str, Json]) -> tuple[TaskEvent, ...]:
        task = self._tasks[move.task_id]
        if "root_id" in move.sets:
            self._leave(task)
            task.position = self._positions.get(move.sets["root_id"], 0)
            self._positions[move.sets["root_id"]] = task.position + 1
            self._trees.setdefault(move.sets["root_id"], {})[task.id] = None
        for name, value in move.sets.items():
            copied = _copied(value)
            if name == "status":
                task.status = TaskStatus(value)
            elif name in custom:
                task.extra[name] = copied
            else:
                setattr(task, name, copied)
        if move.attempts:
            self._attempts.setdefault(task.id, []).extend(move.attempts)
        return tuple([self._number(event) for event in move.events])

    def _number(self, event: TaskEvent) -> TaskEvent:
        root_id = event.root_task_id
        event.sequence = self._sequences[root_id] = self._sequences.get(root_id, 0) + 1
        row = _EventRow(event.sequence, _event_values(event), _copied(event.data), _copied(event.result))
        self._events.setdefault(root_id, []).append(row)
        return event

    def _remove(self, task_id: str) -> None:
        task = self._tasks.pop(task_id, None)
        self._attempts.pop(task_id, None)
        if task is None:
            return
        self._leave(task)
        chunks = self._logs.pop(task.root_id, [])
        if task.id != task.root_id and chunks:
            self._logs[task.root_id] = [each for each in chunks if each[1].task_id != task_id]

    def _leave(self, task: Task) -> None:
        """Take a task out of its tree, whose events and counters go with the root."""
        del self._trees[task.root_id][task.id]
        if not self._trees[task.root_id]:
            del self._trees[task.root_id]
        if task.id == task.root_id:
            self._events.pop(task.id, None)
            self._sequences.pop(task.id, None)
            self._positions.pop(task.id, None)

    def _candidates(self, query: TaskQuery) -> Iterable[Task]:
        if query.ids is not None:
            return [self._tasks[each] for each in dict.fromkeys(query.ids) if each in self._tasks]
        if query.root_id is not None:
            return [self._tasks[each] for each in self._trees.get(query.root_id, ())]
        return self._tasks.values()

    def _copies_out(self, tasks: Iterable[Task]) -> list[Task]:
        custom = custom_fields()
        copies = [_copy_task(task, custom) for task in tasks]
        for task in copies:
            if task.id == task.root_id:
                task.last_event = self._sequences.get(task.id, 0)
        return copies


def _copy_task(task: Task, custom: Mapping[str, Json]) -> Task:
    values = {name: getattr(task, name) for name in COLUMNS}
    values["extra"] = {**custom, **task.extra}
    containers = {name: value for name, value in values.items() if type(value) in CONTAINERS}
    return Task(**{**values, **copy_json(containers)})


def _copied(value: Json) -> Json:
    return copy_json(value) if type(value) in CONTAINERS else value


_EVENT_FIELDS = tuple(each.name for each in fields(TaskEvent) if each.name not in ("data", "result"))
_event_values = attrgetter(*_EVENT_FIELDS)


class _EventRow(NamedTuple):
    """A stored event."""

    sequence: int
    values: tuple[Any, ...]  # of `_EVENT_FIELDS`
    data: Json
    result: Json

    def event(self) -> TaskEvent:
        values = dict(zip(_EVENT_FIELDS, self.values, strict=True))
        return TaskEvent(**values, data=_copied(self.data), result=_copied(self.result))


def _has(task: Task, fields: Mapping[str, Json], custom: Mapping[str, Json]) -> bool:
    """Return whether a task has these values; a custom column that it lacks has its default."""
    for name, value in fields.items():
        found = task.extra.get(name, custom[name]) if name in custom else getattr(task, name)
        if found != value:
            return False
    return True


def _wins(move: Transition, task: Task | None, custom: Mapping[str, Json]) -> bool:
    return task is not None and _has(task, move.expects, custom)


def _order(name: str) -> Callable[[Task], Any]:
    """Return the function that gives what an order compares."""
    if name not in ORDERS:
        raise InvalidInputError(f"Tasks cannot be ordered by {name!r}; by {', '.join(ORDERS)}.")
    fields, _ = ORDERS[name]
    null = last_time(name)

    def key(task: Task) -> Any:
        values = [getattr(task, field) for field in fields]
        return [
            null if value is None and field in NULLABLE_TIMES else value
            for field, value in zip(fields, values, strict=True)
        ]

    return key


def _among_ties(task: Task) -> tuple[int, str]:
    return task.position, task.id


def _follows(task: Task, other: Task, order: Callable[[Task], Any], is_reversed: bool) -> bool:
    mine, others = order(task), order(other)
    if mine == others:
        return _among_ties(task) > _among_ties(other)
    return (mine > others) is not is_reversed


def _matches(task: Task, query: TaskQuery) -> bool:
    """Return whether a task fulfils the conditions that `_candidates` has not looked at."""
    assert task.created_at is not None  # given when it was added
    return (
        (query.id_prefix is None or task.id.startswith(query.id_prefix))
        and _is_any(query.user_id, task.user_id)
        and (query.status is None or task.status in _statuses(query.status))
        and _is_any(query.name, task.name)
        and (query.label is None or query.label in (task.label or ""))
        and set(query.tags).issubset(task.tags)
        and _is_any(query.key, task.key)
        and (not query.root_only or task.id == task.root_id)
        and _is_any(query.root_id, task.root_id)
        and _is_any(query.parent_id, task.parent_id)
        and _is_any(query.original_task_id, task.original_task_id)
        and _is_any(query.cache_key, task.cache_key)
        and (query.created_after is None or task.created_at > query.created_after)
        and (query.created_before is None or task.created_at < query.created_before)
        and (query.completed_after is None or _is_after(task.completed_at, query.completed_after))
        and (query.completed_before is None or _is_before(task.completed_at, query.completed_before))
        and _is_any(query.executor, task.executor)
        and _is_any(query.is_spawned, task.spawned_by is not None)
        and _is_any(query.is_requested, task.run_requested_at is not None)
        and _has(task, query.custom, custom_fields())
    )


def _is_used(entry: UsageEntry, at: datetime, query: UsageQuery) -> bool:
    """Return whether a query of usage wants an entry whose last call was at a time."""
    return (
        (query.top_ids is None or entry.top_id in query.top_ids)
        and (query.root_ids is None or entry.root_id in query.root_ids)
        and (query.task_ids is None or entry.task_id in query.task_ids)
        and _is_any(query.user_id, entry.user_id)
        and (query.since is None or at > query.since)
    )


def _is_after(at: datetime | None, start: datetime) -> bool:
    return at is not None and at > start


def _is_before(at: datetime | None, end: datetime) -> bool:
    return at is not None and at < end


def _is_any(wanted: Json, value: Json) -> bool:
    return wanted is None or wanted == value


def _statuses(status: TaskStatus | Sequence[TaskStatus]) -> Sequence[TaskStatus]:
    return [status] if isinstance(status, str) else status
