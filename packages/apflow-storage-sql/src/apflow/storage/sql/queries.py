"""Queries of tasks, in SQL that both DuckDB and PostgreSQL accept.

Parameters are numbered (`$1`), and each list is one parameter, so that the SQL of a query does not depend on
the number of ids.
"""

# ruff: noqa: S608  # only trusted column names are interpolated; values are parameters

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from typing import NamedTuple

from apflow.core.errors import InvalidInputError
from apflow.core.model.status import TaskStatus
from apflow.core.model.tags import fault_of_tag
from apflow.core.model.tally import TreeTally
from apflow.core.model.task import Json, Task
from apflow.core.payload.json_value import clean_text
from apflow.core.store.base import NULLABLE_TIMES, ORDERS, TaskQuery, last_time
from apflow.storage.sql.columns import HAS_ENDED, TASKS, encode, naive, quoted, task_columns
from apflow.storage.sql.rows import task_rows

_TIES = ("position", "id")
LAST_CHARACTER = "\U0010ffff"  # sorts after every other one


# Given a column, the parameter of a list of strings and the length of that list: the condition that the
# column is in the list. The stores differ in what they plan well.
Among = Callable[[str, str, int], str]


def among_unnested(column: str, parameter: str, length: int) -> str:
    """Return a condition that every store understands."""
    del length
    return f"{column} IN (SELECT unnest({parameter}::VARCHAR[]))"


class Statement(NamedTuple):
    """SQL and its parameters."""

    text: str
    parameters: list[Json]


def select_tasks(query: TaskQuery, among: Among = among_unnested) -> Statement:
    """Return the statement that finds the tasks of a query, in its order, all columns of each."""
    if query.order not in ORDERS:
        raise InvalidInputError(f"Tasks cannot be ordered by {query.order!r}; by {', '.join(ORDERS)}.")
    columns, falls = ORDERS[query.order]
    after = [] if query.after is None else [_follows(query.after, query.order)]
    conditions, parameters = conditions_of(query, among, after)
    compared = [_compared(column, query.order) for column in columns]
    order = f"ORDER BY {', '.join(compared)}{' DESC' if falls else ''}, {', '.join(_TIES)}"
    page = ""
    if query.limit is not None:
        parameters.append(query.limit)
        page += f" LIMIT ${len(parameters)}"
    if query.offset:
        parameters.append(query.offset)
        page += f" OFFSET ${len(parameters)}"
    return Statement(f"SELECT {task_rows().selected} FROM {TASKS}{conditions} {order}{page}", parameters)


def select_by_id(ids: Sequence[str], among: Among = among_unnested) -> Statement:
    """Return the statement that reads the tasks of these ids, in any order."""
    known = possible(ids)
    is_one = len(known) == 1  # planned in half the time
    where = "id = $1" if is_one else among("id", "$1", len(known))
    parameter = known[0] if is_one else known
    return Statement(f"SELECT {task_rows().selected} FROM {TASKS} WHERE {where}", [parameter])


def select_tree(root_id: str, first_number: int = 0) -> Statement:
    """Return the statement that reads all tasks of a tree, in any order.

    Args:
        first_number: a number that no row of the tree is below. A store without an index of trees reads only
            the rows from there.
    """
    known = possible([root_id])
    where = "root_id = $1" if known else "FALSE"
    parameters: list[Json] = [*known]
    if known and first_number:
        where += " AND row_number >= $2"
        parameters.append(first_number)
    return Statement(f"SELECT {task_rows().selected} FROM {TASKS} WHERE {where}", parameters)


def count_tasks(query: TaskQuery, among: Among = among_unnested) -> Statement:
    """Return the statement that counts the tasks of a query by status."""
    conditions, parameters = conditions_of(query, among)
    return Statement(f"SELECT status, count(*) FROM {TASKS}{conditions} GROUP BY status", parameters)


def tally_trees(root_ids: Sequence[str], among: Among = among_unnested) -> Statement:
    """Return the statement that tallies trees: root id, status, tasks, their progress, and starts."""
    known = possible(root_ids)
    done = f"sum(CASE WHEN {HAS_ENDED} THEN 1.0 ELSE progress END)"
    columns = f"root_id, status, count(*), CAST({done} AS DOUBLE PRECISION), count(started_at)"
    where = among("root_id", "$1", len(known))
    return Statement(f"SELECT {columns} FROM {TASKS} WHERE {where} GROUP BY root_id, status", [known])


def read_tallies(rows: Iterable[Sequence[Json]]) -> dict[str, TreeTally]:
    """Return the tallies that the rows of `tally_trees` are, by root id."""
    found: dict[str, TreeTally] = {}
    for root_id, name, number, done, started in rows:
        status = TaskStatus(name)
        before = found.get(root_id, TreeTally({}, 0.0, False))
        has_started = before.has_started or started > 0 or TaskStatus.is_active(status)
        found[root_id] = TreeTally({**before.by_status, status: number}, before.done + done, has_started)
    return found


def conditions_of(
    query: TaskQuery, among: Among = among_unnested, more: Sequence[tuple[Json, ...]] = ()
) -> tuple[str, list[Json]]:
    """Return the WHERE clause of a query, empty if it has no condition, and the parameters of the clause.

    Args:
        more: further conditions that must hold: `?` for each parameter, then the parameters.
    """
    terms: list[str] = []
    parameters: list[Json] = []
    for term, *values in chain(_terms(query, among), more):
        first, *rest = term.split("?")
        numbers = range(len(parameters) + 1, len(parameters) + 1 + len(values))
        parameters.extend(values)
        terms.append(first + "".join(f"${number}{part}" for number, part in zip(numbers, rest, strict=True)))
    return (f" WHERE {' AND '.join(terms)}" if terms else ""), parameters


def _terms(query: TaskQuery, among: Among) -> Iterator[tuple[Json, ...]]:
    """Give each condition, `?` for its parameter, and the parameter if it has one."""
    yield from _id_terms(query, among)
    if query.status is not None:
        statuses = _statuses(query.status)
        yield among("status", "?", len(statuses)), statuses
    equal = ("user_id", "name", "root_id", "parent_id", "original_task_id", "executor", "cache_key")
    for name in equal:
        value = getattr(query, name)
        if value is not None:
            yield (f"{name} = ?", value) if possible([value]) else ("FALSE",)
    yield from _search_terms(query)
    yield from _time_terms(query)
    if query.root_only:
        yield ("parent_id IS NULL",)  # few rows are read: both stores keep statistics of it
    if query.is_requested is not None:
        yield (f"run_requested_at IS {'NOT ' if query.is_requested else ''}NULL",)
    if query.is_spawned is not None:
        yield (f"spawned_by IS {'NOT ' if query.is_spawned else ''}NULL",)
    yield from _custom_terms(query)


def _time_terms(query: TaskQuery) -> Iterator[tuple[Json, ...]]:
    if query.created_after is not None:
        yield "created_at > ?", naive(query.created_after)
    if query.created_before is not None:
        yield "created_at < ?", naive(query.created_before)
    if query.completed_after is not None:
        yield "completed_at > ?", naive(query.completed_after)
    if query.completed_before is not None:
        yield "completed_at < ?", naive(query.completed_before)


def _search_terms(query: TaskQuery) -> Iterator[tuple[Json, ...]]:
    if query.label is not None:
        yield ("strpos(label, ?) > 0", query.label) if possible([query.label]) else ("FALSE",)
    for tag in query.tags:
        # Exact, because no tag contains a comma or what JSON escapes.
        yield ("strpos(tags, ?) > 0", f'"{tag}"') if fault_of_tag(tag) is None else ("FALSE",)
    if query.key is not None:
        term = ("(key = ? OR (key IS NULL AND id = ?))", query.key, query.key)
        yield term if possible([query.key]) else ("FALSE",)


def _id_terms(query: TaskQuery, among: Among) -> Iterator[tuple[Json, ...]]:
    if query.ids is not None:
        ids = possible(query.ids)
        yield among("id", "?", len(ids)), ids
    if query.id_prefix is not None:
        # A range, which the index of the primary key serves: ids are compared by their bytes.
        prefix = query.id_prefix
        yield ("(id >= ? AND id < ?)", prefix, prefix + LAST_CHARACTER) if possible([prefix]) else ("FALSE",)


def _compared(column: str, order: str) -> str:
    """Return what an order compares: the column, with a value that comes last in place of NULL."""
    if column not in NULLABLE_TIMES:
        return column
    return f"COALESCE({column}, TIMESTAMP '{naive(last_time(order)).isoformat(sep=' ')}')"


def _follows(task: Task, order: str) -> tuple[Json, ...]:
    """Return the condition that a row comes after a task, with its parameters."""
    columns, falls = ORDERS[order]

    def beyond(names: Sequence[str], sign: str = ">") -> str:
        compared = ", ".join(_compared(each, order) for each in names)
        return f"({compared}) {sign} ({', '.join('?' * len(names))})"

    def values(names: Sequence[str]) -> list[Json]:
        return [encode(kinds[name], value(name)) for name in names]

    def value(name: str) -> Json:
        found = getattr(task, name)
        return last_time(order) if found is None and name in NULLABLE_TIMES else found

    kinds = {column.name: column.kind for column in task_columns()}
    if not falls:
        names = (*columns, *_TIES)
        return beyond(names), *values(names)
    term = f"({beyond(columns, '<')} OR ({beyond(columns, '=')} AND {beyond(_TIES)}))"
    return term, *values(columns), *values(columns), *values(_TIES)


def _custom_terms(query: TaskQuery) -> Iterator[tuple[Json, ...]]:
    kinds = {column.name: column.kind for column in task_columns()}
    for name, value in query.custom.items():
        if name not in kinds:
            raise InvalidInputError(f"Tasks have no column {name!r}.")
        if value is None:
            yield (f"{quoted(name)} IS NULL",)
        elif isinstance(value, str) and not possible([value]):
            yield ("FALSE",)
        else:
            yield f"{quoted(name)} = ?", encode(kinds[name], value)


def possible(texts: Sequence[str]) -> list[str]:
    """Return the strings that a row can contain. PostgreSQL accepts no others as parameters."""
    return [each for each in texts if clean_text(each) == each]


def _statuses(status: TaskStatus | Sequence[TaskStatus]) -> list[str]:
    return [str(status)] if isinstance(status, str) else [str(each) for each in status]
