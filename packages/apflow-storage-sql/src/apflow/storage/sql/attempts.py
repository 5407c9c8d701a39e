"""The table of attempts as SQL that DuckDB and PostgreSQL read alike."""

# ruff: noqa: S608  # only trusted names are interpolated; values are parameters

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from apflow.core.model.attempt import AttemptOutcome, TaskAttempt
from apflow.core.model.task import Json
from apflow.storage.sql.columnar import Slot
from apflow.storage.sql.columns import ATTEMPTS, Kind, encode

SLOTS = tuple(
    Slot(name, sql_type, is_same=False)
    for name, sql_type in (
        ("task_id", "VARCHAR"),
        ("number", "INTEGER"),
        ("started_at", "TIMESTAMP"),
        ("ended_at", "TIMESTAMP"),
        ("outcome", "VARCHAR"),
        ("error", "VARCHAR"),
        ("error_type", "VARCHAR"),
        ("traceback", "VARCHAR"),
    )
)
READ = f"SELECT {', '.join(slot.name for slot in SLOTS)} FROM {ATTEMPTS} WHERE task_id = $1 ORDER BY number"
DELETE = f"DELETE FROM {ATTEMPTS} WHERE task_id IN (SELECT unnest($1::VARCHAR[]))"


def columns_of_attempts(attempts: Mapping[str, Iterable[TaskAttempt]]) -> list[list[Json]]:
    """Return attempts of several tasks as lists of values, one for each slot."""
    rows = [
        (
            each.task_id,
            each.number,
            encode(Kind.TIME, each.started_at),
            encode(Kind.TIME, each.ended_at),
            each.outcome and str(each.outcome),
            each.error,
            each.error_type,
            each.traceback,
        )
        for of_task in attempts.values()
        for each in of_task
    ]
    return [list(column) for column in zip(*rows, strict=True)]


def read_attempts(rows: Iterable[Sequence[Any]]) -> list[TaskAttempt]:
    """Return the attempts that rows are."""
    return [
        TaskAttempt(
            task_id=task_id,
            number=number,
            started_at=_time(started_at),
            ended_at=_time(ended_at),
            outcome=AttemptOutcome(outcome) if outcome else None,
            error=error,
            error_type=error_type,
            traceback=traceback,
        )
        for task_id, number, started_at, ended_at, outcome, error, error_type, traceback in rows
    ]


def _time(value: datetime | None) -> datetime | None:
    return value and value.replace(tzinfo=UTC)
