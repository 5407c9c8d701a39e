"""Writes batches to the DuckDB file: one statement for each table and combination of columns."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from typing import Any

import duckdb

from apflow.core.errors import StoreError
from apflow.storage.duckdb import statements
from apflow.storage.duckdb.batch import Batch
from apflow.storage.duckdb.large_values import (
    COLUMNS,
    DELETE_OF_TREES,
    LAST_VALUE,
    Run,
    ValueWriter,
    delete_unreferenced,
    referenced,
)
from apflow.storage.sql import logs
from apflow.storage.sql.attempts import SLOTS, columns_of_attempts
from apflow.storage.sql.columnar import Column, Slot, columns_of_added, columns_of_sets
from apflow.storage.sql.columns import ATTEMPTS, EVENTS, TaskColumn
from apflow.storage.sql.pages import pages_of

MAX_ROWS = 10_000  # of one INSERT, to limit its memory
MAX_PAGES = 10  # of events, likewise


class RowWriter:
    """Writes in the transaction of one connection. Only one thread may use it at a time."""

    def __init__(self, run: Run, trim: Callable[[], object] = lambda: None) -> None:
        self.run = run
        self._trim = trim  # called between parts of a large batch
        [[last]] = run(LAST_VALUE, []).fetchall()
        self.values = ValueWriter(last)

    def write(self, batch: Batch, columns: Sequence[TaskColumn]) -> set[str]:
        """Write a batch; return the ids of tasks whose rows may refer to large values now.

        Args:
            columns: the columns of the table of tasks.

        Raises:
            duckdb.Error: a statement fails; the transaction must be rolled back.
            StoreError: rows of the batch are not in the database.
        """
        self.values.clear()  # of a batch that failed
        referring: set[str] = set()
        unused = referenced(COLUMNS, list(batch.removed.values()), self.run)
        self._insert_tasks(batch, columns, referring)
        unused |= self._update_tasks(batch, columns, referring)
        if batch.removed:
            _expect(self.run(statements.DELETE, [list(batch.removed.values())]), batch.removed)
            self.run(statements.delete_attempts(batch.removed), [list(batch.removed)])
        delete_unreferenced(unused, self.run)
        if batch.ended:
            self.run(DELETE_OF_TREES, [batch.ended])
            self.run(statements.DELETE_EVENTS, [batch.ended])
            self.run(logs.DELETE_OF_TREES, [batch.ended])
        if batch.reduced:
            self.run(logs.DELETE_OF_TASKS, [list(batch.reduced), list(batch.removed)])
        self._insert_events(batch)
        if batch.attempts:
            self.run(_INSERT_ATTEMPTS, columns_of_attempts(batch.attempts))
        self.values.insert(self.run)
        return referring

    def _insert_tasks(self, batch: Batch, columns: Sequence[TaskColumn], referring: set[str]) -> None:
        added = list(batch.added.values())
        sets = {task_id: batch.sets[task_id] for task_id in batch.added if task_id in batch.sets}
        for start in range(0, len(added), MAX_ROWS):
            rows = added[start : start + MAX_ROWS]
            found = self._inline(
                columns_of_added(rows, sets, columns, batch.now), [each.task.id for each in rows], referring
            )
            self.run(statements.insert(_slots(found)), [column.value for column in found])
            if len(added) > MAX_ROWS:
                self._trim()

    def _inline(self, columns: Iterable[Column], ids: Iterable[str], referring: set[str]) -> list[Column]:
        """Return columns with references instead of large values, and record which rows may have them."""
        last = self.values.last_number
        inlined = [self.values.column(column) for column in columns]
        if self.values.last_number != last:
            referring.update(ids)
        return inlined

    def _update_tasks(self, batch: Batch, columns: Sequence[TaskColumn], referring: set[str]) -> set[int]:
        """Change rows, similar ones in one statement. Return the values that they referred to."""
        unused: set[int] = set()
        groups: dict[tuple[str, ...], list[str]] = {}
        for task_id, sets in batch.sets.items():
            if task_id not in batch.added:
                groups.setdefault(tuple(sets), []).append(task_id)
        by_name = {column.name: column for column in columns}
        for names, ids in groups.items():
            numbers = [batch.rows[task_id].number for task_id in ids]
            old = [batch.rows[task_id].number for task_id in ids if batch.rows[task_id].has_references]
            unused |= referenced(names, old, self.run)
            found = self._inline(
                columns_of_sets([batch.sets[task_id] for task_id in ids], [by_name[each] for each in names]),
                ids,
                referring,
            )
            values = [column.value for column in found]
            if len(ids) == 1:
                result = self.run(statements.update_one(names), [*values, ids[0]])
            else:
                result = self.run(statements.update(_slots(found)), [*values, numbers])
            _expect(result, ids)
        return unused

    def _insert_events(self, batch: Batch) -> None:
        found = (
            (*page._replace(body=self.values.inline(page.body)), batch.stored_at[root_id])
            for root_id, parts in batch.events.items()
            for page in pages_of(root_id, chain.from_iterable(parts))
        )
        while rows := list(islice(found, MAX_PAGES)):
            if len(rows) == 1:
                self.run(_INSERT_PAGE, rows[0])
            else:
                self.run(_INSERT_PAGES, list(_transposed(rows)))


def _slots(columns: Iterable[Column]) -> tuple[Slot, ...]:
    return tuple(column.slot for column in columns)


def _expect(result: duckdb.DuckDBPyConnection, rows: Sequence[object] | Mapping[str, int]) -> None:
    """Raise unless a statement changed exactly these rows: otherwise the ledger would be wrong."""
    [[found]] = result.fetchall()
    if found != len(rows):
        raise StoreError(
            f"{found} of {len(rows)} rows exist in the database: another program has changed the file. "
            "Make no changes to it while apflow has it open."
        )


def _transposed(rows: Sequence[Sequence[Any]]) -> Iterator[list[Any]]:
    return (list(column) for column in zip(*rows, strict=True))


_PAGE_TYPES = (
    ("root_id", "VARCHAR"), ("first_sequence", "BIGINT"), ("last_sequence", "BIGINT"), ("body", "VARCHAR"),
    ("stored_at", "TIMESTAMP"),
)  # fmt: skip
_INSERT_PAGE = statements.insert(tuple(Slot(*each, True) for each in _PAGE_TYPES), EVENTS)
_INSERT_PAGES = statements.insert(tuple(Slot(*each, False) for each in _PAGE_TYPES), EVENTS)
_INSERT_ATTEMPTS = statements.insert(SLOTS, ATTEMPTS)
