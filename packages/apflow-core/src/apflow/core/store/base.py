"""What a store must offer: a few transactional operations on tasks.

All changes go through `write`: a `Change` is one all-or-nothing unit of added tasks, transitions and removed
tasks. A `Transition` is a conditional change of one task, stored together with its events. Of two writers of
one task, one succeeds and the other gets an error.

Beside the tasks it keeps what their code has logged, and records: small JSON documents of interfaces, such as
the webhooks of a server.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from apflow.core.errors import (
    IllegalMoveError,
    InvalidInputError,
    NotFoundError,
    StoreUnavailableError,
)
from apflow.core.model.attempt import TaskAttempt
from apflow.core.model.event import TaskEvent
from apflow.core.model.log import LogChunk, LogLine, LogQuery
from apflow.core.model.sql_query import SqlQuery, SqlResult
from apflow.core.model.statistics import StatisticsField, TaskStatistics, TimedTask, slowest, summarize
from apflow.core.model.status import TRANSITIONS, TaskStatus
from apflow.core.model.tally import TreeTally, tally_of
from apflow.core.model.task import Json, Task
from apflow.core.model.usage import UsageEntry, UsageQuery, UsageSum

if TYPE_CHECKING:  # few processes export, or place calls
    from apflow.core.store.calls import CallExchange
    from apflow.core.store.transfer import ExportReader, ExportWriter


@dataclass(slots=True)
class Transition:
    """A conditional change of one task.

    It wins when the row exists and every field named in `expects` has that value (None matches null).
    Then the fields of `sets` are written, and `events` are stored, numbered. A move with empty `sets` only
    checks (and, where a store admits several processes, locks the row).

    `attempts` are records of ended attempts of the task, which are stored, too.

    A move that sets `root_id` takes the task to another tree, as the last in it, whatever its position was;
    `root_id` of the move is the tree that it leaves, and its events belong to the one that it joins. The
    events of a tree go with its root.
    """

    task_id: str
    root_id: str
    expects: Mapping[str, Json]  # always names "status" where `sets` does
    sets: Mapping[str, Json]
    events: tuple[TaskEvent, ...] = ()
    attempts: tuple[TaskAttempt, ...] = ()

    def __post_init__(self) -> None:
        new = self.sets.get("status")
        if new is not None and new not in TRANSITIONS[self.expects["status"]]:
            raise IllegalMoveError(self.task_id, self.expects["status"], new)


Move = Transition  # the name of version 0.1.0


@dataclass(slots=True)
class Change:
    """What is written in one transaction.

    No two moves of one change name the same task. Where `is_strict`, a lost move refuses the whole
    change with `ConflictError`; else lost moves are left out and the rest is written.

    `has_new_ids`: whether the ids of the added tasks have just been generated, so that a store does not
    have to look for them.
    """

    add: Sequence[Task] = ()
    moves: Sequence[Transition] = ()
    remove: Sequence[str] = ()
    is_strict: bool = False
    has_new_ids: bool = False


# For each move of a change, in order: its events as stored, with their numbers; None if it lost.
TransitionResult = list[tuple[TaskEvent, ...] | None]


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a store can do beyond the contract; contract tests and the engine ask these, never its name."""

    is_durable: bool = False  # what was written is there after kill -9
    is_shared: bool = False  # several processes may use it at once
    has_attempts: bool = False  # it keeps the records of attempts
    has_usage: bool = False  # it keeps what the calls of language models used
    has_sql: bool = False  # it answers queries in SQL, where DuckDB is installed
    has_custom_columns: bool = False  # columns of a TaskModel subclass become columns of the table


class JournalState(NamedTuple):
    """What the journal of a store has and its database does not have yet."""

    records: int
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskQuery:
    """Which tasks to find. None means: any. All conditions must hold."""

    ids: Sequence[str] | None = None
    id_prefix: str | None = None  # with which the id begins
    user_id: str | None = None
    status: TaskStatus | Sequence[TaskStatus] | None = None
    name: str | None = None
    label: str | None = None  # which the label contains
    tags: Sequence[str] = ()  # all of which the task has
    key: str | None = None
    root_only: bool = False
    root_id: str | None = None
    parent_id: str | None = None
    original_task_id: str | None = None
    created_after: datetime | None = None  # exclusive
    created_before: datetime | None = None  # exclusive
    completed_after: datetime | None = None  # exclusive; only tasks that have ended
    completed_before: datetime | None = None  # exclusive; only tasks that have ended
    executor: str | None = None  # that was decided to run the task
    cache_key: str | None = None
    is_spawned: bool | None = None  # roots of trees that a task of another tree started
    is_requested: bool | None = None  # roots of which a run is requested (run_requested_at is set)
    custom: Mapping[str, Json] = field(default_factory=dict[str, Json])  # custom columns, by equality
    limit: int | None = None
    offset: int = 0
    after: Task | None = None  # only what follows this task in the order, whether or not it matches
    # One of `ORDERS`; ties by position, then id, so that pages never overlap.
    order: str = "created_at"


# The orders of queries: the fields that are compared before the ties, and whether the first of them falls
# (then the order has only one). Tasks whose time is null come last, in both directions.
ORDERS: Mapping[str, tuple[tuple[str, ...], bool]] = {
    "created_at": (("created_at",), False),
    "-created_at": (("created_at",), True),
    "started_at": (("started_at",), False),
    "-started_at": (("started_at",), True),
    "updated_at": (("updated_at",), False),
    "-updated_at": (("updated_at",), True),
    "completed_at": (("completed_at",), False),
    "-completed_at": (("completed_at",), True),
    "priority": (("priority", "created_at"), False),
    "name": (("name",), False),
    "-name": (("name",), True),
}
NULLABLE_TIMES = frozenset({"started_at", "updated_at", "completed_at"})


def last_time(order: str) -> datetime:
    """Return the time that a null time counts as in an order, so that it comes last."""
    # Not the least time of Python: asyncpg 0.32 sends that as -infinity.
    return datetime(1900, 1, 1, tzinfo=UTC) if ORDERS[order][1] else datetime(9999, 12, 31, tzinfo=UTC)


class NoticeKind(StrEnum):
    """What another process reports of a tree. Each notice only makes its receiver poll sooner."""

    EVENTS = "events"  # it has new stored events
    LIVE = "live"  # a live event, which is stored nowhere
    REQUESTED = "requested"  # a run was requested, and has no owner yet
    SUBMITTED = "submitted"  # the same, by this process; it is not sent to others
    # The cancellation of a started task was requested, or a task was ended by a late result: its owner looks.
    CANCEL = "cancel"


class Notice(NamedTuple):
    """What another process did to a tree."""

    kind: NoticeKind
    root_id: str
    event: TaskEvent | None = None  # a live one


class Record(NamedTuple):
    """A small JSON document that is kept beside the tasks."""

    kind: str  # what it is: "webhook"
    key: str  # unique within its kind
    value: Json
    version: int  # 1 at first, raised by each change; one that was removed begins at 1 again


class TaskStore(ABC):
    """Tasks, kept. Opens lazily at the first operation; bound to no event loop; safe from several threads.

    Each operation raises `StoreError` if the store is closed, or cannot do its work.
    """

    url: str
    capabilities: Capabilities
    file: Path | None = None  # that one process at a time may open, if the store is one; an absolute path
    is_closed: bool = False  # set by close(); a closed store is not given out again
    tables_version: int | None = None  # the version of its tables, if they have versions
    call_exchange: CallExchange | None = None  # passes calls between processes, if the store is shared
    needs_token: bool = False  # this process serves it to callers with tokens: its Unix socket refuses
    # Returns an address at which a browser of this user finds the page of this process, if it has one.
    page_address: Callable[[], str] | None = None

    @property
    def trouble(self) -> StoreUnavailableError | None:
        """Why writes fail, while the store cannot write for the moment; None otherwise."""
        return None

    @property
    def wrote_at(self) -> float:
        """When a write last succeeded, by the monotonic clock."""
        return float("-inf")

    @property
    def is_forked(self) -> bool:
        """Whether the process that this one was forked from has opened the store, which is of no use here."""
        return False

    @abstractmethod
    async def write(self, change: Change) -> TransitionResult:
        """Write one change, all or nothing, and return the results of its transitions.

        An added task whose `position` is -1 gets the next number of its tree. Each added task stores a
        `task_created` event. A parent named by an added task gets `has_children`.

        Raises:
            IdTakenError: a task of an added id exists; nothing is written.
            MoveLostError: the change is strict and a move lost; nothing is written.
            StoreUnavailableError: the store cannot write for the moment, or it cannot be reached.
        """

    @abstractmethod
    async def get(self, ids: Sequence[str]) -> dict[str, Task]:
        """Return the tasks of these ids that exist, by id. Reading never waits behind writing.

        The `last_event` of a root is consistent with its row, here and in `tree`: a reader that continues
        from that number misses no event, and gets none that the row already reflects.
        """

    @abstractmethod
    async def tree(self, root_id: str) -> list[Task]:
        """Return all tasks of a tree in order of position; [] if there is none."""

    @abstractmethod
    async def find(self, query: TaskQuery) -> list[Task]:
        """Return the tasks that match, in the query's order.

        Raises:
            InvalidInputError: the order is not one of `ORDERS`.
        """

    @abstractmethod
    async def count(self, query: TaskQuery) -> dict[TaskStatus, int]:
        """Return how many tasks match, by status; limit, offset, after and order are ignored. No zeros."""

    async def tallies(self, root_ids: Sequence[str]) -> dict[str, TreeTally]:
        """Return how many tasks of these trees have which status, by root id. Unknown trees are left out.

        Unless overridden, each tree is read.
        """
        trees = {root_id: await self.tree(root_id) for root_id in dict.fromkeys(root_ids)}
        return {root_id: tally_of(tasks) for root_id, tasks in trees.items() if tasks}

    @abstractmethod
    async def events(self, root_id: str, after: int = 0, limit: int | None = None) -> list[TaskEvent]:
        """Return the stored events of a tree with a number above `after`, in order.

        Args:
            limit: the maximum number of events; None for all.
        """

    async def attempts(self, task_id: str) -> list[TaskAttempt]:
        """Return the stored records of a task's attempts in order of their numbers.

        A number may have several records (see `all_attempts`). They are removed with the task. A store that
        does not keep them returns an empty list.
        """
        del task_id
        return []

    @abstractmethod
    async def put_record(
        self, kind: str, key: str, value: Json, *, version: int | None = None
    ) -> Record | None:
        """Store a record, durably, and return it as it is stored; None where another writer came first.

        In the value, U+0000 and lone surrogates become U+FFFD, as everywhere in tasks.

        Args:
            version: what it must have now, else nothing is written; 0: it must not exist; None: whatever.

        Raises:
            InvalidInputError: the value is not JSON, or more than 1 MiB of it; `kind` or `key` is empty,
                longer than 1000 bytes, or holds what cannot be stored.
        """

    @abstractmethod
    async def records(self, kind: str, *, prefix: str = "", limit: int | None = None) -> list[Record]:
        """Return the records of a kind whose keys begin with `prefix`, in order of the bytes of their keys.

        Args:
            limit: the maximum number of records; None for all.

        Raises:
            InvalidInputError: `kind` or `prefix` could be of no record.
        """

    @abstractmethod
    async def remove_record(self, kind: str, key: str, *, version: int | None = None) -> bool:
        """Remove a record, durably, and say whether it was there.

        Args:
            version: what it must have now, else it stays; None: whatever.

        Raises:
            InvalidInputError: `kind` or `key` could be of no record.
        """

    async def add_logs(self, chunks: Sequence[LogChunk]) -> None:
        """Store lines that tasks have logged, in order, in one transaction that changes no task.

        The lines of a task are deleted with the task, and after the retention time of events. Unless
        overridden, lines are dropped.

        Raises:
            StoreUnavailableError: the store cannot write for the moment; nothing is stored.
        """
        del chunks

    async def logs(self, query: LogQuery) -> list[LogLine]:
        """Return stored lines of one tree, in order of their numbers. Unless overridden, there are none.

        The numbers of the lines of one attempt ascend in the order in which they were added.
        """
        del query
        return []

    async def add_usage(self, entries: Sequence[UsageEntry]) -> None:
        """Add what the calls of models used to the account, durably. Entries of one task and model add up.

        An entry whose `call_id` was added before is skipped, so the same entries may be given again after an
        error. The account keeps the usage of tasks that are deleted. Unless overridden, it is dropped.

        Raises:
            StoreUnavailableError: the store cannot write for the moment, or its answer was lost. Repeat it.
        """
        del entries

    async def usage(self, query: UsageQuery) -> list[UsageSum]:
        """Return sums of the account, in order of the fields that they are grouped by. No empty sums.

        Unless overridden, there are none.
        """
        del query
        return []

    async def statistics(
        self, query: TaskQuery, group_by: StatisticsField | None = None, limit: int | None = None
    ) -> list[TaskStatistics]:
        """Return figures of the tasks that match and have ended, without groups, which run nothing.

        Unless overridden, the tasks are read.

        Args:
            query: limit, offset, after and order are ignored.
            group_by: figures for each value of this field; None: of all tasks, or nothing without tasks.
            limit: the maximum number of groups, those with the most tasks first.
        """
        tasks = await self.find(replace(query, limit=None, offset=0, after=None, order="created_at"))
        sums = await self.usage(UsageQuery(group_by=("task_id",)))
        usage = {each.task_id: each.totals for each in sums if each.task_id is not None}
        return summarize(tasks, usage, group_by, limit)

    async def slowest(self, query: TaskQuery, limit: int) -> list[TimedTask]:
        """Return the tasks that match and ran longest, as `statistics` counts tasks and durations.

        Unless overridden, the tasks are read.
        """
        tasks = await self.find(replace(query, limit=None, offset=0, after=None, order="created_at"))
        return slowest(tasks, limit)

    async def query(self, query: SqlQuery) -> SqlResult:
        """Answer a query in SQL over the views of `apflow.storage.sql.query_views`.

        It must not slow down writers, nor read or change anything but these views. Cancelling stops it.

        Raises:
            InvalidInputError: the SQL is invalid or does more than to read, a limit is exceeded, or the store
                cannot be queried.
            StoreError: the database cannot be read.
        """
        del query
        raise InvalidInputError(f"{self.url} cannot be queried: only DuckDB and PostgreSQL databases can.")

    async def renew(self, owner: str, root_ids: Sequence[str]) -> dict[str, bool]:
        """Prolong the leases of an owner's trees, whatever the caller's event loop or pool is busy with.

        A lease belongs to `run_owner`: a shared store sets `lease_until` whenever a move sets that. A store
        of one process knows no leases.

        Returns:
            the trees that are still the owner's, and whether a started task in it must be cancelled.
        """
        del owner, root_ids
        return {}

    async def unowned(self, owner: str, limit: int, root_ids: Sequence[str] | None = None) -> Sequence[Task]:
        """Return roots of which a run is requested and that no living process owns, most urgent first.

        Args:
            owner: who asks. On a store of one process every other owner is dead.
            limit: how many roots at most.
            root_ids: among which to look; None for all.
        """
        asked = await self.find(TaskQuery(ids=root_ids, root_only=True, is_requested=True, order="priority"))
        return [root for root in asked if root.run_owner != owner][:limit]

    async def reserve(self, owner: str, limit: int, without: Collection[str] = ()) -> Sequence[Task]:
        """Return roots as `unowned` does, and keep everybody else from reserving them for a moment.

        That is a lease without an owner: who takes the run expects `lease_until` as it is returned here. So
        of many processes that look for work, each finds other work.

        Args:
            without: ids of roots that are not wanted.
        """
        found = await self.unowned(owner, limit + len(without))
        return [root for root in found if root.id not in without][:limit]

    def listen(self, on_notice: Callable[[Notice], object]) -> None:
        """Call `on_notice`, from a thread of the store, with what other processes do, until the store closes.

        A notice may be lost: a listener must also poll.
        """
        del on_notice

    def announce(self, event: TaskEvent) -> None:
        """Send a live event to other processes. Never waits, and never fails."""
        del event

    def figures(self) -> Mapping[str, int]:
        """Return counters of the store's work, for monitoring.

        Where many changes ride in one commit: `commits`, and the `changes` that were in them.
        """
        return {}

    async def backup(self, path: Path) -> None:
        """Write a consistent copy of the database to a new file, while the database is in use.

        Args:
            path: the file, which must not exist. It appears when it is complete.

        Raises:
            InvalidInputError: the file exists, cannot be written, or the database is not a file.
            StoreError: the database cannot be read, or the disk is full.
        """
        del path
        raise InvalidInputError(
            f"{self.url} is not a database file that can be copied. Use `apflow db export FILE`, or the "
            "tool of the database: pg_dump for PostgreSQL."
        )

    def journal(self) -> JournalState | None:
        """Return what the journal has and the database does not have yet; None if there is no journal."""
        return None

    async def checkpoint(self) -> tuple[int, int]:
        """Apply the journal, and write the write-ahead log into the file of the database.

        Unless overridden, there is nothing to do.

        Returns:
            the number of records of the journal that were applied for it, and the size of the file in bytes.

        Raises:
            StoreError: the database cannot be written, or the disk is full. Nothing is lost.
        """
        return 0, 0

    async def vacuum(self) -> tuple[int, int]:
        """Return the space of deleted rows to the system, or make it available to new ones.

        Unless overridden, there is nothing to do, as in a store in memory.

        Returns:
            the size of the database before and after, in bytes; 0 for what is not on a disk.

        Raises:
            InvalidInputError: the file of the database cannot be replaced.
            StoreError: the database cannot be read, or the disk is full. The database is as it was.
        """
        return 0, 0

    async def discard_journal(self) -> Path | None:
        """Open a database without its journal if that is lost or damaged, or belongs to another file.

        For a store that is not open yet. Changes that only the journal has are missing then. A journal that
        can be applied is applied. Unless overridden, there is nothing to do: the store has no journal.

        Returns:
            where the discarded journal is kept; None if none was discarded.

        Raises:
            StoreError: the database cannot be opened.
        """
        return None

    async def export_to(self, writer: ExportWriter) -> None:
        """Write everything that the database contains, as of one moment.

        Raises:
            InvalidInputError: the store cannot be exported, or a custom column has a type that cannot be.
            OSError: the file of the export cannot be written.
            StoreError: the database cannot be read.
        """
        del writer
        raise InvalidInputError(f"{self.url} cannot be exported: only DuckDB and PostgreSQL databases can.")

    async def import_from(self, reader: ExportReader) -> None:
        """Add everything that an export contains, in one transaction: all of it or nothing.

        Raises:
            InvalidInputError: the export is invalid or incomplete, or the store cannot import.
            ConflictError: a task or a record of the export exists already.
            StoreError: the database cannot be written.
        """
        del reader
        raise InvalidInputError(f"{self.url} cannot import: only DuckDB and PostgreSQL databases can.")

    @abstractmethod
    async def close(self) -> None:
        """Finish what is written and let go of the database. Closing twice does no harm."""

    async def record(self, kind: str, key: str) -> Record | None:
        """Return the record with exactly this key; None if there is none.

        Raises:
            InvalidInputError: `kind` or `key` could be of no record.
        """
        found = await self.records(kind, prefix=key, limit=1)
        return found[0] if found and found[0].key == key else None

    async def existing_tree(self, root_id: str, *task_ids: str) -> list[Task]:
        """Return a tree that was there a moment ago, with these tasks in it.

        Raises:
            NotFoundError: it, or one of them, has been deleted meanwhile.
        """
        tasks = await self.tree(root_id)
        for each in (root_id, *task_ids):
            if not any(task.id == each for task in tasks):
                raise NotFoundError(each)
        return tasks

    async def add(
        self, tasks: Sequence[Task], *, provided: Sequence[Transition] = (), has_new_ids: bool = False
    ) -> None:
        """Add tasks in one transaction, provided that every move of `provided` wins.

        Args:
            has_new_ids: whether the ids have just been generated; see `Change`.

        Raises:
            IdTakenError: an id is taken; nothing is written.
            ConflictError: a move of `provided` lost; nothing is written.
        """
        await self.write(Change(tasks, provided, is_strict=True, has_new_ids=has_new_ids))

    async def move(self, moves: Sequence[Transition]) -> TransitionResult:
        """Apply moves in one transaction and return, for each, its stored events or None if it lost."""
        return await self.write(Change(moves=moves))

    async def remove(self, ids: Sequence[str], *, provided: Sequence[Transition] = ()) -> None:
        """Remove tasks in one transaction, provided that every move of `provided` wins.

        The events of a tree go with its root. Raises `ConflictError` if a move lost.
        """
        await self.write(Change(moves=provided, remove=ids, is_strict=True))

    async def __aenter__(self) -> TaskStore:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()
