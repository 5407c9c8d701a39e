"""Figures of tasks that have ended, as SQL for DuckDB and PostgreSQL, and the part that both stores share."""

# ruff: noqa: S608  # only trusted names are interpolated; values are parameters

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC
from typing import Final

from apflow.core.model.statistics import StatisticsField, TaskStatistics, TimedTask
from apflow.core.model.status import TaskStatus
from apflow.core.model.task import GROUP, Json
from apflow.core.store.base import TaskQuery
from apflow.storage.sql.columns import HAS_ENDED, TASKS, USAGE
from apflow.storage.sql.logs import SqlLogStore
from apflow.storage.sql.queries import Statement, conditions_of

_COUNTS: Final = f"{HAS_ENDED} AND executor IS DISTINCT FROM '{GROUP}'"
_SECONDS: Final = (
    "CASE WHEN completed_at >= started_at "
    "THEN CAST(extract(epoch FROM (completed_at - started_at)) AS DOUBLE PRECISION) "
    "WHEN completed_at < started_at THEN CAST(0 AS DOUBLE PRECISION) END"  # a clock was set back
)
# The value that each field groups by. The text of a list of tags is ["a","b"], without characters that JSON
# escapes.
_GROUPED: Final[Mapping[StatisticsField | None, str]] = {
    None: "CAST(NULL AS VARCHAR)",
    "executor": "executor",
    "name": "name",
    "user_id": "user_id",
    "label": "label",
    "tag": "unnest(CASE WHEN tags IS NULL THEN ARRAY[CAST(NULL AS VARCHAR)] "
    """ELSE string_to_array(substr(tags, 3, length(tags) - 4), '","') END)""",
}
_USED: Final = ("calls", "input_tokens", "output_tokens")
_USAGE: Final = (
    f"SELECT task_id, {', '.join(f'sum({name}) AS {name}' for name in (*_USED, 'cost_usd'))} "
    f"FROM {USAGE} GROUP BY task_id"
)


def _quantile(share: float) -> str:
    return f"percentile_cont({share}) WITHIN GROUP (ORDER BY seconds)"


def _sum(name: str, sql_type: str = "BIGINT") -> str:
    return f"CAST(coalesce(sum({name}), 0) AS {sql_type})"


_FIGURES: Final[Mapping[str, str]] = {
    "tasks": "count(*)",
    **{
        str(status): f"count(*) FILTER (WHERE status = '{status}')"
        for status in (TaskStatus.COMPLETED, TaskStatus.FAILED, TaskStatus.CANCELLED, TaskStatus.SKIPPED)
    },
    "retries": _sum("CASE WHEN attempts > 1 THEN attempts - 1 ELSE 0 END"),
    "seconds": _sum("seconds", "DOUBLE PRECISION"),
    "p50_seconds": _quantile(0.5),
    "p95_seconds": _quantile(0.95),
    "max_seconds": "max(seconds)",
    **{name: _sum(name) for name in _USED},
    "cost_usd": _sum("cost_usd", "DOUBLE PRECISION"),
}
_SELECTED: Final = ", ".join(f"{text} AS {name}_figure" for name, text in _FIGURES.items())
_TIMED: Final = ("id", "root_id", "name", "label", "executor", "user_id", "status", "started_at")


class SqlStatisticsStore(SqlLogStore):
    """The part of a store that computes figures by SQL."""

    async def statistics(
        self, query: TaskQuery, group_by: StatisticsField | None = None, limit: int | None = None
    ) -> list[TaskStatistics]:
        rows = await self._read_records(_figures(query, group_by, limit))
        found = [
            TaskStatistics(group=group, **dict(zip(_FIGURES, figures, strict=True)))
            for group, *figures in rows
        ]
        return [each for each in found if each.tasks]  # SQL has a row for no rows, too

    async def slowest(self, query: TaskQuery, limit: int) -> list[TimedTask]:
        rows = await self._read_records(_slowest(query, limit))
        return [_timed(*row) for row in rows]


def _figures(query: TaskQuery, group_by: StatisticsField | None, limit: int | None) -> Statement:
    conditions, parameters = conditions_of(query, more=[(_COUNTS,)])
    ended = (
        f"SELECT {_GROUPED[group_by]} AS grouped, id, status, attempts + earlier_attempts AS attempts, "
        f"{_SECONDS} AS seconds FROM {TASKS}{conditions}"
    )
    text = (
        f"SELECT {'NULL' if group_by is None else 'grouped'}, {_SELECTED} "
        f"FROM ({ended}) AS e LEFT JOIN ({_USAGE}) AS u ON u.task_id = e.id"
    )
    if group_by is not None:
        text += ' GROUP BY grouped ORDER BY tasks_figure DESC, grouped COLLATE "C" NULLS FIRST'
    if limit is not None:
        parameters.append(limit)
        text += f" LIMIT ${len(parameters)}"
    return Statement(text, parameters)


def _slowest(query: TaskQuery, limit: int) -> Statement:
    conditions, parameters = conditions_of(query, more=[(_COUNTS,), ("started_at IS NOT NULL",)])
    ended = f"SELECT {', '.join(_TIMED)}, {_SECONDS} AS seconds FROM {TASKS}{conditions}"
    text = (
        f"SELECT * FROM ({ended}) AS e WHERE seconds IS NOT NULL "
        f'ORDER BY seconds DESC, id COLLATE "C" LIMIT ${len(parameters) + 1}'
    )
    return Statement(text, [*parameters, limit])


def _timed(*row: Json) -> TimedTask:
    values = dict(zip((*_TIMED, "seconds"), row, strict=True))
    values |= {
        "status": TaskStatus(values["status"]),
        "started_at": values["started_at"].replace(tzinfo=UTC),
    }
    return TimedTask(**values)
