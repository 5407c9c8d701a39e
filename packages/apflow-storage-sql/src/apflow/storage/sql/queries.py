"""Questions about tasks, as SQL that DuckDB and PostgreSQL read alike.

Parameters are numbered (`$1`), and lists are one parameter each, so that a question has one text however
many ids it names.
"""

# ruff: noqa: S608  # only names of our own columns are put in; values are parameters

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from apflow.core.errors import InvalidInputError
from apflow.core.states import TaskStatus
from apflow.core.store import TaskQuery
from apflow.core.task import Json
from apflow.storage.sql.columns import TASKS, encode, naive, quoted, task_columns
from apflow.storage.sql.rows import task_rows

_ORDERS = {
    "created_at": "created_at",
    "-created_at": "created_at DESC",
    "priority": "priority, created_at",
    "name": "name",
}


class Statement(NamedTuple):
    """SQL and its parameters."""

    text: str
    parameters: list[Json]


def select_tasks(query: TaskQuery) -> Statement:
    """Return the statement that finds the tasks of a query, in its order, all columns of each."""
    if query.order not in _ORDERS:
        raise InvalidInputError(f"Tasks cannot be ordered by {query.order!r}; by {', '.join(_ORDERS)}.")
    where, parameters = _where(query)
    order = f"ORDER BY {_ORDERS[query.order]}, position, id"
    page = ""
    if query.limit is not None:
        parameters.append(query.limit)
        page += f" LIMIT ${len(parameters)}"
    if query.offset:
        parameters.append(query.offset)
        page += f" OFFSET ${len(parameters)}"
    return Statement(f"SELECT {task_rows().selected} FROM {TASKS}{where} {order}{page}", parameters)


def select_by_id(ids: Sequence[str]) -> Statement:
    """Return the statement that reads the tasks of these ids, in any order."""
    is_one = len(ids) == 1  # planned in half the time
    where = "id = $1" if is_one else "id IN (SELECT unnest($1::VARCHAR[]))"
    parameter = ids[0] if is_one else list(ids)
    return Statement(f"SELECT {task_rows().selected} FROM {TASKS} WHERE {where}", [parameter])


def select_tree(root_id: str) -> Statement:
    """Return the statement that reads all tasks of a tree, in any order."""
    text = f"SELECT {task_rows().selected} FROM {TASKS} WHERE root_id = $1"
    return Statement(text, [root_id])


def count_tasks(query: TaskQuery) -> Statement:
    """Return the statement that counts the tasks of a query by status."""
    where, parameters = _where(query)
    return Statement(f"SELECT status, count(*) FROM {TASKS}{where} GROUP BY status", parameters)


def _where(query: TaskQuery) -> tuple[str, list[Json]]:
    terms: list[str] = []
    parameters: list[Json] = []
    for term, *value in _terms(query):
        parameters.extend(value)
        terms.append(term.replace("?", f"${len(parameters)}"))
    return (f" WHERE {' AND '.join(terms)}" if terms else ""), parameters


def _terms(query: TaskQuery) -> Iterator[tuple[Json, ...]]:
    """Give each condition, `?` for its parameter, and the parameter if it has one."""
    if query.ids is not None:
        yield "id IN (SELECT unnest(?::VARCHAR[]))", list(query.ids)
    if query.status is not None:
        yield "status IN (SELECT unnest(?::VARCHAR[]))", _statuses(query.status)
    for name in ("user_id", "name", "root_id", "parent_id", "original_task_id"):
        value = getattr(query, name)
        if value is not None:
            yield f"{name} = ?", value
    if query.root_only:
        yield ("id = root_id",)
    if query.created_after is not None:
        yield "created_at > ?", naive(query.created_after)
    if query.created_before is not None:
        yield "created_at < ?", naive(query.created_before)
    if query.is_requested is not None:
        yield (f"run_requested_at IS {'NOT ' if query.is_requested else ''}NULL",)
    yield from _custom_terms(query)


def _custom_terms(query: TaskQuery) -> Iterator[tuple[Json, ...]]:
    kinds = {column.name: column.kind for column in task_columns()}
    for name, value in query.custom.items():
        if name not in kinds:
            raise InvalidInputError(f"Tasks have no column {name!r}.")
        if value is None:
            yield (f"{quoted(name)} IS NULL",)
        else:
            yield f"{quoted(name)} = ?", encode(kinds[name], value)


def _statuses(status: TaskStatus | Sequence[TaskStatus]) -> list[str]:
    return [str(status)] if isinstance(status, str) else [str(each) for each in status]
