"""What a batch of changes comes to: who wins, and what is written for it. Pure, no SQL.

One process holds the file and one thread writes, so this thread's copy of a row is always current.
Moves are decided here, on the cached rows, and only the outcome is written to the database: no statement
has a condition to check, and several changes of a row in one batch become one.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from operator import attrgetter
from typing import Any, NamedTuple

from apflow.core.errors import ApflowError, IdTakenError, MoveLostError
from apflow.core.model.attempt import TaskAttempt
from apflow.core.model.custom_columns import custom_fields
from apflow.core.model.event import TaskEvent
from apflow.core.model.status import TaskStatus
from apflow.core.model.task import Json, Task
from apflow.core.store.base import Change, Transition, TransitionResult
from apflow.core.store.rules import check_names, created_event, repeated

# The columns that moves expect something of. Others are read from the database when a move names them.
GUARDS = (
    "status",
    "owner",
    "attempts",
    "generation",
    "interruptions",
    "executor",
    "parent_id",
    "has_children",
    "has_copy",
    "cancel_requested_at",
    "not_before",
    "run_requested_at",
    "run_owner",
    "run_ended_at",
)
_IS_GUARD = frozenset(GUARDS)
_PLACE = {name: at for at, name in enumerate(GUARDS)}


EVER = datetime(1, 1, 1)  # noqa: DTZ001  before every time; times are stored without a zone
Guards = tuple[Json, ...]  # one value for each of GUARDS; rows that are alike share one


class Row:
    """What is known of a row: its number, its tree, the guards, and columns that were asked for once.

    `has_references`: whether its columns may refer to values that the store keeps outside the row.
    """

    __slots__ = ("guards", "has_references", "number", "others", "root_id")

    def __init__(self, number: int, root_id: str, guards: Guards, *, has_references: bool = False) -> None:
        self.number, self.root_id, self.guards = number, root_id, guards
        self.has_references = has_references
        self.others: dict[str, Json] | None = None

    def guard(self, name: str) -> Json:
        """Return one of the guards."""
        return self.guards[_PLACE[name]]

    def set_guards(self, sets: Mapping[str, Json]) -> None:
        """Change those guards that are named among what is set."""
        guards = list(self.guards)
        for name, value in sets.items():
            place = _PLACE.get(name)
            if place is not None:
                guards[place] = value
        self.guards = tuple(guards)


@dataclass(slots=True)
class Tree:
    """The counters of a tree."""

    position: int = 0  # the next task's
    sequence: int = 0  # the last event's
    first_number: int | None = 0  # a number that no row is below; None: it has no row
    stored_since: datetime | None = EVER  # a time that no event was stored before; None: it has no event

    @classmethod
    def empty(cls) -> Tree:
        """Return the counters of a tree that has neither rows nor events."""
        return cls(first_number=None, stored_since=None)

    def include(self, number: int) -> None:
        """Record that a row belongs to the tree."""
        self.first_number = number if self.first_number is None else min(self.first_number, number)


class Added(NamedTuple):
    """A task to be inserted, with what it gets on the way. It stands for its event, too."""

    task: Task
    number: int
    position: int
    sequence: int  # of the event


@dataclass(slots=True)
class Writes:
    """The rows to write for a batch, each once."""

    added: dict[str, Added] = field(default_factory=dict[str, Added])
    sets: dict[str, dict[str, Json]] = field(default_factory=dict[str, dict[str, Json]])
    removed: dict[str, int] = field(default_factory=dict[str, int])  # id -> number of the row
    ended: list[str] = field(default_factory=list[str])  # roots that were removed
    reduced: set[str] = field(default_factory=set[str])  # roots of other tasks that were removed
    events: dict[str, list[TaskEvent | Added]] = field(default_factory=dict[str, list[TaskEvent | Added]])
    attempts: dict[str, list[TaskAttempt]] = field(default_factory=dict[str, list[TaskAttempt]])  # by task id

    def __bool__(self) -> bool:
        return bool(self.added or self.sets or self.removed or self.events or self.ended or self.attempts)

    def events_of(self, root_id: str, now: datetime) -> Iterator[TaskEvent]:
        """Give the events of a tree. Those of creation are made one by one: a tree has many."""
        for each in self.events[root_id]:
            if isinstance(each, Added):
                event = created_event(each.task, now)
                event.sequence = each.sequence
                yield event
            else:
                yield each


class Needs(NamedTuple):
    """What a batch must know before it can be decided."""

    rows: set[str]  # ids
    trees: set[str]  # ids of roots
    values: dict[str, list[str]]  # columns beyond the guards -> ids


class Ledger:
    """The known rows and counters, and the deciding of batches on them.

    A batch goes through `needs`, the `learn_*` of what is missing, `decide`, and then `keep` or `forget`.
    Only the writer's thread may call these; `first_number` and `stored_since` are for everyone.
    """

    def __init__(self, next_number: int, max_rows: int = 250_000) -> None:
        self._rows: dict[str, Row | None] = {}  # None: known not to exist
        self._trees: dict[str, Tree] = {}
        self._next_number = next_number
        self._max_rows = max_rows

    def needs(self, changes: Iterable[Change]) -> Needs:
        """Return what these changes ask for and is not known yet."""
        needs = Needs(set(), set(), {})
        rows, trees = self._rows, self._trees
        for change in changes:
            for move in change.moves:
                if move.task_id not in rows:
                    needs.rows.add(move.task_id)
                for event in move.events:
                    if event.root_task_id not in trees:
                        needs.trees.add(event.root_task_id)
                if "root_id" in move.sets and move.sets["root_id"] not in trees:
                    needs.trees.add(move.sets["root_id"])
                if not _IS_GUARD.issuperset(move.expects):
                    self._need_values(move, needs.values)
            if change.add:
                self._need_added(change, needs)
            needs.rows.update(each for each in change.remove if each not in rows)
        return needs

    def _need_added(self, change: Change, needs: Needs) -> None:
        rows = self._rows
        if change.has_new_ids:
            for task in change.add:
                rows.setdefault(task.id, None)
        named = {task.id for task in change.add} | {task.parent_id for task in change.add}
        needs.rows.update(each for each in named if each is not None and each not in rows)
        needs.trees.update({task.root_id for task in change.add}.difference(self._trees))

    def _need_values(self, move: Transition, values: dict[str, list[str]]) -> None:
        row = self._rows.get(move.task_id)
        known: Collection[str] = row.others if row is not None and row.others else ()
        for name in move.expects.keys() - _IS_GUARD:
            if name not in known:
                values.setdefault(name, []).append(move.task_id)

    def is_known_missing(self, task_id: str) -> bool:
        """Return whether it is known that no task of this id is stored."""
        return task_id in self._rows and self._rows[task_id] is None

    def learn_rows(self, asked: Iterable[str], found: Mapping[str, Row]) -> None:
        """Record rows as stored in the database. Ids that were requested but not found do not exist."""
        for task_id in asked:
            self._rows[task_id] = found.get(task_id)

    def learn_tree(self, root_id: str, tree: Tree) -> None:
        """Record the counters of a tree."""
        self._trees[root_id] = tree

    def learn_values(self, name: str, values: Mapping[str, Json]) -> None:
        """Record the values of a column other than the guards."""
        for task_id, value in values.items():
            row = self._rows.get(task_id)
            if row is not None:
                row.others = {**(row.others or {}), name: value}

    def decide(self, changes: Sequence[Change]) -> tuple[list[TransitionResult | BaseException], Writes]:
        """Apply changes in order to what is known; return the outcome of each, and what to write.

        Fewer outcomes than changes: the next one adds an id that was removed just now, which requires a
        separate transaction.
        """
        writes = Writes()
        outcomes: list[TransitionResult | BaseException] = []
        for change in changes:
            if writes.removed and any(task.id in writes.removed for task in change.add):
                break
            try:
                outcomes.append(self._decide(change, writes))
            except ApflowError as refused:  # before it changed anything
                outcomes.append(refused)
        return outcomes, writes

    def keep(self, writes: Writes) -> None:
        """Record that a batch is durable, and drop rows that are unlikely to change again."""
        for task_id in writes.sets:
            row = self._rows.get(task_id)
            if row is None:
                continue
            if TaskStatus.is_terminal(row.guard("status")) and task_id != row.root_id:
                del self._rows[task_id]
            elif task_id in writes.added:
                row.others = None
        for task_id in writes.removed:
            self._rows.pop(task_id, None)
        for root_id in writes.ended:
            row = self._rows.get(root_id)
            if row is None or row.root_id != root_id:  # else it was added again
                self._trees.pop(root_id, None)
        for known in (self._rows, self._trees):
            limit(known, self._max_rows)

    def forget(self) -> None:
        """Drop the cached state after a failed batch: it is ahead of the database, and is read again."""
        self._rows.clear()
        self._trees.clear()

    def first_number(self, root_id: str) -> int:
        """Return a number that no row of a tree is below; 0 for an unknown tree.

        If it becomes lower while rows are read, rows may have joined the tree from another one.
        """
        tree = self._trees.get(root_id)
        return 0 if tree is None else tree.first_number or 0

    def stored_since(self, root_id: str) -> datetime:
        """Return a time, without a zone, that no event of a tree was stored before; `EVER` if it is unknown.

        If it becomes earlier while events are read, the clock was set back.
        """
        tree = self._trees.get(root_id)
        return EVER if tree is None or tree.stored_since is None else tree.stored_since

    def note_stored_at(self, writes: Writes, now: datetime) -> None:
        """Record when the events of a batch are stored, a time without a zone. Called before they are."""
        for root_id in writes.events:
            tree = self._trees[root_id]
            tree.stored_since = now if tree.stored_since is None else min(tree.stored_since, now)

    def row(self, task_id: str) -> Row | None:
        """Return a known row as the batch leaves it, None where there is none."""
        return self._rows[task_id]

    def tree(self, root_id: str) -> Tree:
        """Return the counters of a known tree, as the batch leaves them."""
        return self._trees[root_id]

    def _decide(self, change: Change, writes: Writes) -> TransitionResult:
        check_names(change)
        added = {task.id: task for task in change.add}
        if added:
            taken = [task_id for task_id in added if self._rows[task_id] is not None]
            taken += repeated(change.add)
            if taken:
                raise IdTakenError(taken)
        lost = {at for at, move in enumerate(change.moves) if not self._wins(move, added, writes)}
        if lost and change.is_strict:
            raise MoveLostError([change.moves[at].task_id for at in sorted(lost)])
        if added:
            self._add(change.add, writes)
        moved: TransitionResult = [
            None if at in lost else self._apply(move, writes) for at, move in enumerate(change.moves)
        ]
        for task_id in change.remove:
            self._remove(task_id, writes)
        return moved

    def _wins(self, move: Transition, added: Mapping[str, Task], writes: Writes) -> bool:
        row = self._rows[move.task_id]
        if row is None:
            task = added.get(move.task_id)
            return task is not None and all(
                _field(task, name) == value for name, value in move.expects.items()
            )
        for name, value in move.expects.items():
            if name in _IS_GUARD:
                if row.guards[_PLACE[name]] != value:
                    return False
            elif self._value(move.task_id, row, name, writes) != value:
                return False
        return True

    def _value(self, task_id: str, row: Row, name: str, writes: Writes) -> Json:
        """Return a column beyond the guards, as it was learnt, or as this batch writes it."""
        if row.others is not None and name in row.others:
            return row.others[name]
        return _field(writes.added[task_id].task, name)

    def _add(self, tasks: Sequence[Task], writes: Writes) -> None:
        alike: dict[Guards, Guards] = {}
        for task in tasks:
            tree = self._trees[task.root_id]
            position = task.position if task.position >= 0 else tree.position
            tree.position = max(tree.position, position + 1)
            tree.sequence += 1
            tree.include(self._next_number)
            guards: Guards = _guards_of(task)
            self._rows[task.id] = Row(self._next_number, task.root_id, alike.setdefault(guards, guards))
            added = writes.added[task.id] = Added(task, self._next_number, position, tree.sequence)
            writes.events.setdefault(task.root_id, []).append(added)
            self._next_number += 1
        self._mark_parents(tasks, writes)

    def _mark_parents(self, added: Iterable[Task], writes: Writes) -> None:
        for parent_id in {task.parent_id for task in added if task.parent_id is not None}:
            row = self._rows.get(parent_id)
            if row is not None and not row.guard("has_children"):
                self._set(parent_id, row, {"has_children": True}, writes)

    def _apply(self, move: Transition, writes: Writes) -> tuple[TaskEvent, ...]:
        if move.sets:
            row = self._rows[move.task_id]
            assert row is not None  # else the move had lost
            sets = self._rehomed(move, row, writes) if "root_id" in move.sets else move.sets
            self._set(move.task_id, row, sets, writes)
        if move.attempts:
            writes.attempts.setdefault(move.task_id, []).extend(move.attempts)
        for event in move.events:
            self._number(event, writes)
        return move.events

    def _rehomed(self, move: Transition, row: Row, writes: Writes) -> Mapping[str, Json]:
        """Take a task to another tree, as the last in it, and return what is set in its row."""
        if move.task_id == row.root_id:
            self._end_tree(move.task_id, writes)
        row.root_id = move.sets["root_id"]
        tree = self._trees[row.root_id]
        position, tree.position = tree.position, tree.position + 1
        tree.include(row.number)
        return {**move.sets, "position": position, "last_event": 0}

    def _end_tree(self, root_id: str, writes: Writes) -> None:
        writes.ended.append(root_id)
        writes.events.pop(root_id, None)
        self._trees[root_id] = Tree()

    def _set(self, task_id: str, row: Row, sets: Mapping[str, Json], writes: Writes) -> None:
        row.set_guards(sets)
        known = row.others or {}
        if task_id in writes.added:  # what is set now is neither in the database nor in the added task
            known = {**known, **{name: value for name, value in sets.items() if name not in _IS_GUARD}}
        elif known:  # only what was asked for: results may be large
            known = {name: sets.get(name, value) for name, value in known.items()}
        row.others = known or None
        before = writes.sets.get(task_id)
        if before is None:
            writes.sets[task_id] = dict(sets)
        else:
            before.update(sets)

    def _number(self, event: TaskEvent, writes: Writes) -> None:
        root_id = event.root_task_id
        tree = self._trees[root_id]
        event.sequence = tree.sequence = tree.sequence + 1
        writes.events.setdefault(root_id, []).append(event)

    def _remove(self, task_id: str, writes: Writes) -> None:
        row = self._rows[task_id]
        if row is None:
            return
        self._rows[task_id] = None
        writes.sets.pop(task_id, None)
        writes.attempts.pop(task_id, None)
        if writes.added.pop(task_id, None) is None:
            writes.removed[task_id] = row.number
        if task_id == row.root_id:
            self._end_tree(task_id, writes)
        else:
            writes.reduced.add(row.root_id)

    def number_of(self, task_id: str) -> int:
        """Return the number of a known row."""
        row = self._rows[task_id]
        assert row is not None  # asked for what a batch writes only
        return row.number


_guards_of = attrgetter(*GUARDS)


def _field(task: Task, name: str) -> Json:
    custom = custom_fields()
    return task.extra.get(name, custom[name]) if name in custom else getattr(task, name)


def limit(known: dict[str, Any], size: int) -> None:
    """Forget the oldest entries where there are too many, a tenth at a time."""
    if len(known) > size:
        for key in list(islice(known, len(known) - size + size // 10)):
            del known[key]
