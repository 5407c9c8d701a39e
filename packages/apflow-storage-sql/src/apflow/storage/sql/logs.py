"""Lines that tasks log, as SQL for DuckDB and PostgreSQL, and the part that both stores have in common.

A row holds consecutive lines of one attempt. Its body is JSON: a list of entries, each a list of the fields
of `LogEntry`; a long one is compressed, as pages of events are.
"""

# ruff: noqa: S608  # only trusted names are interpolated; values are parameters

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from apflow.core.model.log import NUMBERS_OF_CHUNK, LogChunk, LogEntry, LogLine, LogQuery, lines_of
from apflow.core.model.task import Json, utc_now
from apflow.core.payload.json_value import dumps, loads
from apflow.storage.sql.columns import LOGS, naive
from apflow.storage.sql.pages import packed, unpacked
from apflow.storage.sql.queries import Statement, among_unnested, possible
from apflow.storage.sql.usage import SqlUsageStore

PAGE: Final = 64  # rows that are read at once

_LISTS: Final = (
    ("root_id", "VARCHAR"), ("task_id", "VARCHAR"), ("attempt", "INTEGER"), ("generation", "INTEGER"),
    ("top_level", "INTEGER"), ("body", "VARCHAR"),
)  # fmt: skip
INSERT: Final = (
    f"INSERT INTO {LOGS} (number, stored_at, {', '.join(name for name, _ in _LISTS)}) "
    "SELECT nextval('apflow_log_numbers'), $1, v.* FROM (SELECT "
    + ", ".join(f"unnest(${at}::{kind}[]) AS {name}" for at, (name, kind) in enumerate(_LISTS, start=2))
    + ") AS v RETURNING number"
)
DELETE_OF_TREES: Final = f"DELETE FROM {LOGS} WHERE root_id IN (SELECT unnest($1::VARCHAR[]))"
DELETE_OF_TASKS: Final = f"{DELETE_OF_TREES} AND task_id IN (SELECT unnest($2::VARCHAR[]))"
DELETE_OLD: Final = f"DELETE FROM {LOGS} WHERE stored_at < $1"


class SqlLogStore(SqlUsageStore):
    """The part of a store that keeps records, usage and log lines by SQL."""

    async def add_logs(self, chunks: Sequence[LogChunk]) -> None:
        if chunks:
            await self._write_record(_insert(chunks))

    async def logs(self, query: LogQuery) -> list[LogLine]:
        wanted = [query.root_task_id, *(query.task_ids or ())]
        if not possible([query.root_task_id]) or (query.task_ids is not None and not possible(wanted[1:])):
            return []
        found: list[LogLine] = []
        number = query.after // NUMBERS_OF_CHUNK  # of the chunk to begin with: some of it may be wanted
        while query.limit is None or len(found) < query.limit:
            rows = await self._read_records(_select(query, number))
            for row in rows:
                found += lines_of(_chunk(query.root_task_id, row), row[0], query)
            if len(rows) < PAGE:
                break
            number = rows[-1][0] + 1
        return found[: query.limit]


def _insert(chunks: Sequence[LogChunk]) -> Statement:
    rows = [
        (
            each.root_task_id,
            each.task_id,
            each.attempt,
            each.generation,
            max((entry.level for entry in each.entries), default=0),
            packed(dumps([[entry.timestamp.isoformat(), *entry[1:]] for entry in each.entries])),
        )
        for each in chunks
    ]
    return Statement(INSERT, [naive(utc_now()), *(list(column) for column in zip(*rows, strict=True))])


def _select(query: LogQuery, number: int) -> Statement:
    """Return the statement that reads a page of rows, from the one with a number."""
    where = ["root_id = $1", "number >= $2", "top_level >= $3"]
    parameters: list[Json] = [query.root_task_id, number, query.min_level]
    if query.attempt is not None:
        parameters.append(query.attempt)
        where.append(f"attempt = ${len(parameters)}")
    if query.task_ids is not None:
        parameters.append(possible(query.task_ids))
        where.append(among_unnested("task_id", f"${len(parameters)}", len(query.task_ids)))
    text = f"SELECT number, task_id, attempt, generation, body FROM {LOGS} WHERE {' AND '.join(where)}"
    return Statement(f"{text} ORDER BY number LIMIT {PAGE}", parameters)


def _chunk(root_id: str, row: Sequence[Any]) -> LogChunk:
    _, task_id, attempt, generation, body = row
    entries = [LogEntry(datetime.fromisoformat(time), *more) for time, *more in loads(unpacked(body))]
    return LogChunk(
        root_task_id=root_id, task_id=task_id, attempt=attempt, generation=generation, entries=entries
    )
