"""The usage of language models, as SQL for DuckDB and PostgreSQL, and what both stores have in common.

A row holds the totals of one task and one model.
"""

# ruff: noqa: S608  # only trusted names are interpolated; values are parameters

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from apflow.core.model.task import Json, utc_now
from apflow.core.model.usage import GROUP_FIELDS, TOTALS, UsageEntry, UsageQuery, UsageSum, UsageTotals
from apflow.storage.sql.columns import USAGE, naive, type_of_total
from apflow.storage.sql.queries import Statement, among_unnested, possible
from apflow.storage.sql.records import SqlRecordStore

_NAMES: Final = ("task_id", "model", "root_id", "top_id", "user_id", "last_at", *TOTALS)
_ADD: Final = (
    f"INSERT INTO {USAGE} AS u ({', '.join(_NAMES)}) "
    f"VALUES ({', '.join(f'${at}' for at in range(1, len(_NAMES) + 1))}) "
    "ON CONFLICT (task_id, model) DO UPDATE SET last_at = excluded.last_at, "
    + ", ".join(f"{name} = u.{name} + excluded.{name}" for name in TOTALS)
    + " RETURNING calls"
)
_SUMS: Final = ", ".join(f"CAST(sum({name}) AS {type_of_total(name)})" for name in TOTALS)


class SqlUsageStore(SqlRecordStore):
    """The part of a store that reads usage by SQL. Each store adds it so that a call is counted once."""

    async def usage(self, query: UsageQuery) -> list[UsageSum]:
        rows = await self._read_records(_select(query))
        size = len(query.group_by)
        return [_sum(query, row) for row in rows if row[size] is not None]  # otherwise there are no rows


def _sum(query: UsageQuery, row: Sequence[Json]) -> UsageSum:
    size = len(query.group_by)
    grouped: dict[str, Json] = dict(zip(query.group_by, row[:size], strict=True))
    totals: dict[str, Json] = dict(zip(TOTALS, row[size:], strict=True))
    return UsageSum(**grouped, totals=UsageTotals(**totals))


def addition_of(entry: UsageEntry) -> Statement:
    """Return the statement that adds an entry."""
    totals = [getattr(entry.totals, name) for name in TOTALS]
    values: list[Json] = [entry.task_id, entry.model, entry.root_id, entry.top_id]
    values += [entry.user_id, naive(utc_now()), *totals]
    return Statement(_ADD, values)


def _select(query: UsageQuery) -> Statement:
    """Return the statement that reads the sums of a query."""
    where: list[str] = []
    parameters: list[Json] = []
    named = (("top_id", query.top_ids), ("root_id", query.root_ids), ("task_id", query.task_ids))
    for column, ids in named:
        if ids is not None:
            parameters.append(possible(ids))
            where.append(among_unnested(column, f"${len(parameters)}", len(ids)))
    if query.user_id is not None:
        parameters.append(query.user_id)
        where.append(f"user_id = ${len(parameters)}")
    if query.since is not None:
        parameters.append(naive(query.since))
        where.append(f"last_at > ${len(parameters)}")
    names = [name for name in query.group_by if name in GROUP_FIELDS]
    selected = ", ".join([*names, _SUMS])
    text = f"SELECT {selected} FROM {USAGE}" + (f" WHERE {' AND '.join(where)}" if where else "")
    if names:
        text += f" GROUP BY {', '.join(names)} ORDER BY {', '.join(f'{name} NULLS FIRST' for name in names)}"
    return Statement(text, parameters)
