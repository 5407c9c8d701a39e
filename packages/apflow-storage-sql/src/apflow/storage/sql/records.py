"""Records as SQL that DuckDB and PostgreSQL read alike, and the part that both stores have in common.

Each write is one statement with its condition in it, which gives back the version where it was written, and
no row where another writer came first.
"""

# ruff: noqa: S608  # only trusted names are interpolated; values are parameters

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

from apflow.core.errors import StoreUnavailableError
from apflow.core.model.attempt import TaskAttempt
from apflow.core.model.task import Json, utc_now
from apflow.core.payload.json_value import loads
from apflow.core.store.base import Change, Record, TaskStore, TransitionResult
from apflow.core.store.group_commit import GroupCommit
from apflow.core.store.rules import check_record, check_records, record_text
from apflow.storage.sql import attempts
from apflow.storage.sql.attempts import read_attempts
from apflow.storage.sql.columns import RECORDS, naive
from apflow.storage.sql.queries import Statement, possible

_INSERT = (
    f"INSERT INTO {RECORDS} AS r (kind, key, value, version, updated_at) VALUES ($1, $2, $3, 1, $4) "
    "ON CONFLICT (kind, key) DO"
)
PUT = (
    f"{_INSERT} UPDATE SET value = excluded.value, version = r.version + 1, "
    "updated_at = excluded.updated_at RETURNING version"
)
CREATE = f"{_INSERT} NOTHING RETURNING version"
REPLACE = (
    f"UPDATE {RECORDS} SET value = $3, version = version + 1, updated_at = $4 "
    "WHERE kind = $1 AND key = $2 AND version = $5 RETURNING version"
)
REMOVE = f"DELETE FROM {RECORDS} WHERE kind = $1 AND key = $2 RETURNING version"
REMOVE_VERSION = f"DELETE FROM {RECORDS} WHERE kind = $1 AND key = $2 AND version = $3 RETURNING version"
READ = (
    f"SELECT kind, key, value, version FROM {RECORDS} WHERE kind = $1 AND starts_with(key, $2) "
    "ORDER BY key LIMIT $3"
)


class SqlRecordStore(TaskStore):
    """The part of a store that commits changes in groups, and keeps records by SQL."""

    _group: GroupCommit

    @property
    def is_forked(self) -> bool:
        return self._group.guard.is_forked

    @property
    def trouble(self) -> StoreUnavailableError | None:
        return self._group.trouble

    @property
    def wrote_at(self) -> float:
        return self._group.wrote_at

    async def write(self, change: Change) -> TransitionResult:
        return await self._group.submit(change)

    def figures(self) -> Mapping[str, int]:
        return self._group.figures()

    @abstractmethod
    async def _write_record(self, statement: Statement) -> int | None:
        """Run a statement that writes, durably, and return the version that it gives back, if any."""

    @abstractmethod
    async def _read_records(self, statement: Statement) -> Sequence[Sequence[Any]]:
        """Run a statement that reads, and return its rows."""

    async def attempts(self, task_id: str) -> list[TaskAttempt]:
        if not possible([task_id]):
            return []
        return read_attempts(await self._read_records(Statement(attempts.READ, [task_id])))

    async def put_record(
        self, kind: str, key: str, value: Json, *, version: int | None = None
    ) -> Record | None:
        check_record(kind, key, version)
        plain, text = record_text(value)
        written = await self._write_record(_put(kind, key, text, version))
        return None if written is None else Record(kind, key, plain, written)

    async def records(self, kind: str, *, prefix: str = "", limit: int | None = None) -> list[Record]:
        check_records(kind, prefix, limit)
        rows = await self._read_records(Statement(READ, [kind, prefix, limit]))
        return [Record(kind, key, loads(text), version) for kind, key, text, version in rows]

    async def remove_record(self, kind: str, key: str, *, version: int | None = None) -> bool:
        check_record(kind, key, version)
        if version is None:
            statement = Statement(REMOVE, [kind, key])
        else:
            statement = Statement(REMOVE_VERSION, [kind, key, version])
        return await self._write_record(statement) is not None


def _put(kind: str, key: str, text: str, version: int | None) -> Statement:
    values: list[Json] = [kind, key, text, naive(utc_now())]
    match version:
        case None:
            return Statement(PUT, values)
        case 0:
            return Statement(CREATE, values)
        case _:
            return Statement(REPLACE, [*values, version])
