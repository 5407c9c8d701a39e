"""Writing batches of changes, each in one transaction that locks, decides and writes; and records."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import NamedTuple, TypeVar

from asyncpg import Record

from apflow.core.errors import StoreError, StoreOutcomeUnknownError, StoreUnavailableError
from apflow.core.model.task import Json, utc_now
from apflow.core.model.usage import RecentCalls
from apflow.core.store.base import Change, Notice, TransitionResult
from apflow.core.store.group_commit import ChangeResult
from apflow.storage.postgres import statements
from apflow.storage.postgres.driver import Connection
from apflow.storage.postgres.failure import explain, is_connection_lost, is_of_a_change
from apflow.storage.postgres.notices import notices_of
from apflow.storage.postgres.server import Link, Server
from apflow.storage.sql import attempts, logs
from apflow.storage.sql.columnar import columns_of_added
from apflow.storage.sql.columns import BASE, Kind, TaskColumn, decode, encoder, naive
from apflow.storage.sql.ledger import GUARDS, Ledger, Needs, Row, Tree, Writes
from apflow.storage.sql.pages import pages
from apflow.storage.sql.queries import Statement

logger = logging.getLogger(__name__)

T = TypeVar("T")
Mark = tuple[str, int]  # a writer, and the number of its batch
MAX_ROWS = 10_000  # of one statement: what it holds in memory stays small
PRUNE_EVERY = timedelta(days=1)

_KINDS = {column.name: column.kind for column in BASE}
# The guards that are times; all others are stored unchanged.
_TIMES = [at for at, name in enumerate(GUARDS) if _KINDS[name] is Kind.TIME]
_FIRST = 5 + len(GUARDS)  # of a locked row: where the columns beyond the guards begin
_NEXT_POSITION = TaskColumn("next_position", "INTEGER")


class Decided(NamedTuple):
    """The outcomes of the first changes of a batch, and what was written for them."""

    outcomes: list[TransitionResult | BaseException]
    writes: Writes
    notices: list[Notice]  # for other processes


class Writer:
    """Commits batches of changes, and records, one after the other.

    `on_commit` is called after each commit with the notices for other processes.
    """

    def __init__(
        self,
        server: Server,
        lease: timedelta,
        event_retention: timedelta | None,
        on_commit: Callable[[list[Notice]], object],
    ) -> None:
        self._server = server
        self._link = Link(server)
        self._lease = lease
        self._retention = event_retention
        self._prune_at = utc_now()
        self._on_commit = on_commit
        self._id = secrets.token_hex(8)  # of its row in the database
        # Usage has a separate row: other batches may follow one whose outcome is unknown.
        self._usage_id = f"{self._id}:usage"
        self._batch = 0
        self._counted = RecentCalls()
        self._unsure: tuple[str, Mark] | None = None  # the call whose usage may be written or not

    async def commit(self, changes: Sequence[Change]) -> list[ChangeResult]:
        """Write a batch, and return the outcome of each change.

        A batch that fails because of its data is repeated change by change, so that only the writer of the
        invalid change gets the error.
        """
        outcomes: list[ChangeResult] = []
        while len(outcomes) < len(changes):
            rest = changes[len(outcomes) :]
            try:
                decided = await self._server.patiently(partial(self._once, rest))
            except Exception as error:  # noqa: BLE001 - returned to the writers
                if len(rest) > 1 and is_of_a_change(error):
                    return outcomes + [each for change in rest for each in await self.commit([change])]
                return outcomes + [explain(error, self._server.url)] * len(rest)
            outcomes += decided.outcomes
            self._on_commit(decided.notices)
        return outcomes

    async def write_record(self, statement: Statement) -> int | None:
        """Write a record or log lines, once, and return the first value that the statement returns."""
        async with self._server.translating_errors():
            return await self._server.patiently(
                lambda: self._in_transaction(partial(_execute, statement), self._id)
            )

    async def add_usage(self, call_id: str | None, statement: Statement) -> None:
        """Add what a call of a model used, unless it was added before.

        Raises:
            StoreUnavailableError: nothing is written, or the outcome is unknown. Repeat it: the next addition
                finds out first.
            StoreOutcomeUnknownError: the same, for an entry without the id of a call.
        """
        async with self._server.translating_errors():
            await self._learn_of_usage()
            if self._counted.has(call_id):
                return
            try:
                await self._server.patiently(
                    lambda: self._in_transaction(partial(_execute, statement), self._usage_id)
                )
            except StoreOutcomeUnknownError as error:
                if call_id is None:
                    raise
                self._unsure = call_id, (self._usage_id, self._batch)
                detail = (
                    "was lost before it reported whether usage is written. It is asked, and usage is added."
                )
                raise StoreUnavailableError(
                    error.url, "the database server cannot be reached", detail
                ) from error
            self._counted.note(call_id)

    async def _learn_of_usage(self) -> None:
        """Find out whether the last usage was written, if that is unknown."""
        if self._unsure is None:
            return
        call_id, mark = self._unsure
        if await self._server.patiently(lambda: self._is_committed(mark)):
            self._counted.note(call_id)
        self._unsure = None

    async def close(self) -> None:
        """Let go of the connection."""
        await self._link.close()

    async def _once(self, changes: Sequence[Change]) -> Decided:
        """Write the first of these changes, as many as one transaction takes, in one transaction."""

        async def work(connection: Connection, mark: Mark) -> Decided:
            roots = await _roots(connection, changes)
            transaction = Transaction(connection, self._server.columns, self._lease, mark)
            decided = await transaction.decide(changes, roots)
            if decided.writes:
                await transaction.write(decided.writes)
            return decided

        return await self._in_transaction(work, self._id)

    async def _in_transaction(self, work: Callable[[Connection, Mark], Awaitable[T]], writer: str) -> T:
        """Do work in one transaction, again where its COMMIT is found not to have arrived.

        The work notes its mark, which has the id `writer`, before it writes.
        """
        async with self._link.connection() as connection:
            await self._prune(connection)
            await connection.execute(statements.BEGIN)
            try:
                self._batch += 1
                mark = writer, self._batch
                done = await work(connection, mark)
            except BaseException as error:
                if not is_connection_lost(error):
                    await connection.execute("ROLLBACK")
                raise
            try:
                await connection.execute("COMMIT")
            except Exception as error:
                if not is_connection_lost(error):
                    raise
                logger.warning("%s: no answer to a COMMIT: %s", self._server.url, error)
                connection.terminate()
            else:
                return done
        if await self._was_committed(mark):
            return done
        return await self._in_transaction(work, writer)

    async def _was_committed(self, mark: Mark) -> bool:
        """Return whether a batch was committed whose COMMIT was not acknowledged.

        Raises:
            StoreOutcomeUnknownError: the outcome is unknown. The batch must not be repeated.
        """
        try:
            return await self._server.patiently(lambda: self._is_committed(mark))
        except Exception as error:
            url = self._server.url
            raise StoreOutcomeUnknownError(url, explain(error, url)) from error

    async def _is_committed(self, mark: Mark) -> bool:
        """Ask whether the last batch of a writer that is there is this one.

        The number of the transaction would not show it: a server that was killed forgets numbers that were
        not on disk, and gives them to others.
        """
        async with self._link.connection() as connection:
            writer, batch = mark
            return bool(await connection.fetchval(statements.LAST_BATCH, writer) == batch)

    async def _prune(self, connection: Connection) -> None:
        """Remove, once a day, events and log lines that are too old, and the marks of writers that are gone.

        The roots keep the number of their last event. No change depends on the success of this.
        """
        if utc_now() < self._prune_at:
            return
        self._prune_at = utc_now() + PRUNE_EVERY
        try:
            await connection.execute(statements.DELETE_OLD_WRITERS)
            if self._retention is not None:
                before = naive(utc_now() - self._retention)
                await connection.execute(statements.DELETE_OLD_EVENTS, before)
                await connection.execute(logs.DELETE_OLD, before)
        except Exception as error:
            if is_connection_lost(error):
                raise
            logger.warning("%s: old events are kept until tomorrow: %s", self._server.url, error)


class Transaction:
    """The inside of one transaction."""

    def __init__(
        self,
        connection: Connection,
        columns: Sequence[TaskColumn],
        lease: timedelta,
        mark: Mark,
    ) -> None:
        self._connection = connection
        self._columns = {column.name: column for column in (*columns, _NEXT_POSITION)}
        self._lease = lease
        self._now = utc_now()
        self._ledger = Ledger(0)
        self._trees: dict[str, Tree] = {}  # their counters as they are stored
        self._sequences: dict[str, int] = {}  # of trees whose root has no other change
        self._mark = mark

    async def decide(self, changes: Sequence[Change], roots: set[str]) -> Decided:
        """Lock what these changes name, roots first, and say what they come to."""
        ledger = self._ledger
        needs = ledger.needs(changes)
        names = tuple(sorted(name for name in needs.values if name in self._columns))
        found = await self._connection.fetch(
            statements.lock(names), list(roots), list(needs.rows | roots), *self._mark
        )
        rows = [row for row in found if row[1] is not None]
        ledger.learn_rows(needs.rows | roots, {row[1]: _row(row) for row in rows})
        for at, name in enumerate(names, start=_FIRST):
            kind = self._columns[name].kind
            ledger.learn_values(name, {row[1]: decode(kind, row[at]) for row in rows})
        await self._learn_trees(needs, changes, {row[1]: Tree(row[4], row[3]) for row in rows})
        await self._give_leases(changes)
        outcomes, writes = ledger.decide(changes)
        return Decided(outcomes, writes, notices_of(writes, ledger))

    async def write(self, writes: Writes) -> None:
        """Write what was decided."""
        self._count(writes)
        if writes.removed:
            await self._connection.execute(statements.DELETE, list(writes.removed))
            await self._connection.execute(attempts.DELETE, list(writes.removed))
        if writes.ended:
            await self._connection.execute(statements.DELETE_EVENTS, writes.ended)
            await self._connection.execute(logs.DELETE_OF_TREES, writes.ended)
        if writes.reduced:
            removed = list(writes.reduced), list(writes.removed)
            await self._connection.execute(logs.DELETE_OF_TASKS, *removed)
        await self._insert_tasks(writes)
        await self._update_tasks(writes)
        await self._insert_events(writes)
        if writes.attempts:
            columns = attempts.columns_of_attempts(writes.attempts)
            await self._connection.execute(statements.INSERT_ATTEMPTS, *columns)

    def _count(self, writes: Writes) -> None:
        """Write the advanced counters of trees, on the root if there is one."""
        for root_id, before in self._trees.items():
            after = self._ledger.tree(root_id)
            if after != before and not self._ledger.is_known_missing(root_id):
                if after.position != before.position:
                    writes.sets.setdefault(root_id, {})["next_position"] = after.position
                if root_id in writes.sets or root_id in writes.added:  # the row is written anyway
                    writes.sets.setdefault(root_id, {})["last_event"] = after.sequence
                else:
                    self._sequences[root_id] = after.sequence

    async def _learn_trees(self, needs: Needs, changes: Sequence[Change], stored: dict[str, Tree]) -> None:
        """Learn the counters of trees. The root holds them; a new tree begins at nothing."""
        new = {task.id for change in changes for task in change.add if task.id == task.root_id}
        trees = {root_id: stored.get(root_id) or Tree() for root_id in needs.trees}
        rootless = [root_id for root_id in trees if root_id not in stored and root_id not in new]
        if rootless:
            for root_id, sequence in await self._connection.fetch(statements.SEQUENCES, rootless):
                trees[root_id].sequence = sequence
            for root_id, position in await self._connection.fetch(statements.POSITIONS, rootless):
                trees[root_id].position = position
        for root_id, tree in trees.items():
            self._ledger.learn_tree(root_id, replace(tree))
        self._trees = trees

    async def _give_leases(self, changes: Sequence[Change]) -> None:
        """Set the lease of each new owner of a run, by the database's clock."""
        taking = [move for change in changes for move in change.moves if "run_owner" in move.sets]
        if not taking:
            return
        until: datetime | None = None
        if any(move.sets["run_owner"] is not None for move in taking):
            until = await self._connection.fetchval(statements.LEASE_UNTIL, self._lease)
            assert until is not None  # a sum of two values
            until = until.replace(tzinfo=UTC)
        for move in taking:
            is_taken = move.sets["run_owner"] is not None
            move.sets = {**move.sets, "lease_until": until if is_taken else None}

    async def _insert_tasks(self, writes: Writes) -> None:
        added = list(writes.added.values())
        sets = {task_id: writes.sets.pop(task_id) for task_id in writes.added if task_id in writes.sets}
        for start in range(0, len(added), MAX_ROWS):
            taken = added[start : start + MAX_ROWS]
            columns = [
                column
                for column in columns_of_added(taken, sets, list(self._columns.values()), self._now)
                if column.slot.name != "row_number"  # the database counts them
            ]
            text = statements.insert(tuple(column.slot for column in columns))
            await self._connection.execute(text, *(column.value for column in columns))

    async def _update_tasks(self, writes: Writes) -> None:
        """Change rows, those alike in one statement."""
        groups: dict[tuple[str, ...], list[str]] = {}
        for task_id, sets in writes.sets.items():
            groups.setdefault(tuple(sets), []).append(task_id)
        for names, ids in groups.items():
            columns = tuple(self._columns[name] for name in names)
            lists = [
                _stored(column.kind, [writes.sets[each][column.name] for each in ids]) for column in columns
            ]
            if len(ids) == 1:
                values = [values[0] for values in lists]
                command_tag = await self._connection.execute(statements.update_one(columns), ids[0], *values)
            else:
                command_tag = await self._connection.execute(statements.update(columns), ids, *lists)
            _expect(command_tag, len(ids))

    async def _insert_events(self, writes: Writes) -> None:
        rows = [
            page for root_id in writes.events for page in pages(root_id, writes.events_of(root_id, self._now))
        ]
        if rows:
            columns = [list(column) for column in zip(*rows, strict=True)]
            counted = list(self._sequences), list(self._sequences.values())
            await self._connection.execute(statements.INSERT_PAGES, *columns, naive(self._now), *counted)


async def _execute(statement: Statement, connection: Connection, mark: Mark) -> int | None:
    """Execute a statement in a transaction, and return the first value that it returns."""
    await connection.execute(statements.MARK, *mark)
    value: int | None = await connection.fetchval(statement.text, *statement.parameters)
    return value


async def _roots(connection: Connection, changes: Sequence[Change]) -> set[str]:
    """Return the roots of all trees that changes touch: also those that tasks leave or join."""
    roots: set[str] = set()
    removed: list[str] = []
    for change in changes:
        roots.update(move.root_id for move in change.moves)
        roots.update(move.sets["root_id"] for move in change.moves if "root_id" in move.sets)
        roots.update(task.root_id for task in change.add)
        removed += change.remove
    if removed:
        roots.update(row[0] for row in await connection.fetch(statements.ROOTS_OF, removed))
    return roots


def _row(row: Record) -> Row:
    guards = list(row[5:_FIRST])
    for at in _TIMES:
        if guards[at] is not None:
            guards[at] = guards[at].replace(tzinfo=UTC)
    return Row(0, row[2], tuple(guards))


def _stored(kind: Kind, values: list[Json]) -> list[Json]:
    to_sql = encoder(kind)
    return values if to_sql is None else [None if value is None else to_sql(value) for value in values]


def _expect(command_tag: str, rows: int) -> None:
    """Raise unless a statement changed that many rows: they were locked, so they are there."""
    if command_tag != f"UPDATE {rows}":
        raise StoreError(f"{command_tag} rows, not {rows}: another program changes the tables.")
