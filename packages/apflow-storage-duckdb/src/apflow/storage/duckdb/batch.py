"""What group commits write, as rows. Batches that wait can be written together.

A batch is complete: writing it needs nothing of the ledger, which may be ahead of the database meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from apflow.core.model.attempt import TaskAttempt
from apflow.core.model.event import TaskEvent
from apflow.core.model.task import Json, Task
from apflow.core.store.rules import created_event
from apflow.storage.sql.columns import naive
from apflow.storage.sql.ledger import Added, Row, Writes
from apflow.storage.sql.pages import Fields, fields_of


class StoredRow(NamedTuple):
    """A row of a task that is in the database before a batch.

    Attributes:
        has_references: whether its columns may refer to values outside the row.
    """

    number: int
    has_references: bool


@dataclass(slots=True)
class Batch:
    """The rows to write, each once."""

    now: datetime  # the time of the changes
    number: int = 0  # of the record in the journal; 0 if there is none
    added: dict[str, Added] = field(default_factory=dict[str, Added])
    sets: dict[str, dict[str, Json]] = field(default_factory=dict[str, dict[str, Json]])
    rows: dict[str, StoredRow] = field(default_factory=dict[str, StoredRow])  # of `sets`, without those added
    removed: dict[str, int] = field(default_factory=dict[str, int])  # id -> number of the row
    ended: list[str] = field(default_factory=list[str])  # roots that were removed
    reduced: set[str] = field(default_factory=set[str])  # roots of other tasks that were removed
    # By root id, in order, in parts. A part may be a generator: a large tree has many events.
    events: dict[str, list[Iterable[Fields]]] = field(default_factory=dict[str, list[Iterable[Fields]]])
    last_events: dict[str, int] = field(default_factory=dict[str, int])  # the number of the last of `events`
    stored_at: dict[str, datetime] = field(default_factory=dict[str, datetime])  # of `events`, without a zone
    attempts: dict[str, list[TaskAttempt]] = field(default_factory=dict[str, list[TaskAttempt]])  # by task id

    @property
    def size(self) -> int:
        """The number of rows, about."""
        return len(self.added) + len(self.sets) + len(self.removed) + len(self.events)

    def ids(self) -> set[str]:
        """Return the ids of all tasks and roots that the batch is about."""
        joined = (
            sets["root_id"] for sets in self.sets.values() if "root_id" in sets
        )  # the new trees of tasks
        return {*self.added, *self.sets, *self.removed, *self.ended, *self.events, *self.attempts, *joined}

    def settle_events(self) -> None:
        """Make lists of the events, which can then be read repeatedly."""
        for root_id, parts in self.events.items():
            self.events[root_id] = [list(part) for part in parts]

    def include(self, later: Batch) -> None:
        """Add what a later batch writes: the result has the effect of one after the other.

        The later one must not add an id that this one removes: that takes two transactions.
        """
        for root_id in later.ended:
            for each in (self.events, self.last_events, self.stored_at):
                each.pop(root_id, None)
        for task_id, number in later.removed.items():
            self.sets.pop(task_id, None)
            self.attempts.pop(task_id, None)
            if self.added.pop(task_id, None) is None:
                self.removed[task_id] = number
        for task_id, row in later.rows.items():
            if task_id not in self.added:
                before = self.rows.get(task_id, row)
                self.rows[task_id] = StoredRow(row.number, before.has_references or row.has_references)
        for task_id, sets in later.sets.items():
            self.sets.setdefault(task_id, {}).update(sets)
        self.number = later.number
        self.added |= later.added
        self.ended += [each for each in later.ended if each not in self.ended]
        self.reduced |= later.reduced
        for root_id, parts in later.events.items():
            self.events.setdefault(root_id, []).extend(parts)
            stored_at = later.stored_at[root_id]
            self.stored_at[root_id] = min(stored_at, self.stored_at.get(root_id, stored_at))
        self.last_events |= later.last_events
        for task_id, attempts in later.attempts.items():
            self.attempts.setdefault(task_id, []).extend(attempts)

    def may_include(self, later: Batch) -> bool:
        """Return whether a later batch can be written in the same transaction."""
        return self.removed.keys().isdisjoint(later.added)


def batch_of(writes: Writes, row: Callable[[str], Row | None], now: datetime) -> Batch:
    """Return the batch of what a group commit writes.

    Args:
        row: returns the row of a task as the ledger has it.
    """
    batch = Batch(
        now,
        added=writes.added,
        sets=writes.sets,
        removed=writes.removed,
        ended=writes.ended,
        reduced=writes.reduced,
        attempts=writes.attempts,
    )
    for task_id in writes.sets:
        found = row(task_id)
        if task_id not in writes.added and found is not None:
            batch.rows[task_id] = StoredRow(found.number, found.has_references)
    for root_id, events in writes.events.items():
        batch.events[root_id] = [fields_of(_made(events, now))]
        batch.last_events[root_id] = events[-1].sequence
        batch.stored_at[root_id] = naive(now)
    return batch


def _made(events: Iterable[TaskEvent | Added], now: datetime) -> Iterator[TaskEvent]:
    for each in events:
        if isinstance(each, Added):
            event = created_event(each.task, now)
            event.sequence = each.sequence
            yield event
        else:
            yield each


def together(batches: Iterable[Batch], max_rows: int) -> Iterator[Batch]:
    """Yield batches with the effect of the given ones in order: as few as possible, each of limited size.

    The given batches are changed.
    """
    current: Batch | None = None
    for batch in batches:
        if current is None:
            current = batch
        elif current.size < max_rows and current.may_include(batch):
            current.include(batch)
        else:
            yield current
            current = batch
    if current is not None:
        yield current


def added_by(batches: Sequence[Batch]) -> dict[str, Task]:
    """Return the tasks that batches add, as they are after all of them, by id. The tasks are changed.

    Empty if a task joins another tree, or if an id is used again.
    """
    first, *later = batches
    for batch in later:
        if not first.may_include(batch):
            return {}
        first.include(batch)
    if any("root_id" in sets for sets in first.sets.values()):
        return {}
    tasks: dict[str, Task] = {}
    for task, _, position, _ in first.added.values():
        task.position = position
        for name, value in first.sets.get(task.id, {}).items():
            setattr(task, name, value)
        if task.id == task.root_id:
            task.last_event = first.last_events.get(task.id, 0)
        tasks[task.id] = task
    return tasks
