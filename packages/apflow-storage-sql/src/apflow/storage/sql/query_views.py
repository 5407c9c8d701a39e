"""The views that queries in SQL read: documented columns that stay when the tables of a store change.

A store copies the tables that a query names into files, by `SOURCES`, in SQL that DuckDB and PostgreSQL both
read. A separate process makes the views of them, by `VIEWS`, in the SQL of DuckDB. What interfaces mask is in
no view: inputs, params and results of tasks, and data of events.
"""

# ruff: noqa: S608  # only names of this package are interpolated

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from apflow.core.model.task import GROUP
from apflow.core.model.usage import TOTALS
from apflow.storage.sql.columns import ATTEMPTS, EVENTS, HAS_ENDED, TASKS, USAGE, type_of_total

MAX_TEXT: Final = 10_000  # characters of an error or a message
_SECONDS: Final = "CASE WHEN {0} >= {1} THEN epoch({0}) - epoch({1}) WHEN {0} < {1} THEN 0.0 END"
_TAGS: Final = "coalesce(CAST(CAST({}tags AS JSON) AS VARCHAR[]), []) AS tags"


@dataclass(frozen=True, slots=True)
class Source:
    """A table as it is copied: its columns, each with its type and its value."""

    table: str
    columns: Sequence[tuple[str, str, str]]

    @property
    def select(self) -> str:
        """The statement that reads it."""
        values = ", ".join(f"{value} AS {name}" for name, _, value in self.columns)
        return f"SELECT {values} FROM {self.table}"


def _columns(names: str, sql_type: str) -> list[tuple[str, str, str]]:
    return [(name, sql_type, name) for name in names.split()]


_ERROR: Final = ("error", "VARCHAR", f"left(error, {MAX_TEXT})")

SOURCES: Final[Mapping[str, Source]] = {
    "tasks": Source(
        TASKS,
        [
            *_columns("id root_id parent_id name label tags user_id status executor", "VARCHAR"),
            *_columns("original_task_id spawned_by", "VARCHAR"),
            ("key", "VARCHAR", "coalesce(key, id)"),
            _ERROR,
            *_columns("priority attempts earlier_attempts", "INTEGER"),
            *_columns("progress", "DOUBLE"),
            *_columns("created_at started_at updated_at completed_at not_before", "TIMESTAMP"),
            *_columns("cancel_requested_at run_requested_at run_ended_at", "TIMESTAMP"),
        ],
    ),
    "attempts": Source(
        ATTEMPTS,
        [
            *_columns("task_id outcome error_type", "VARCHAR"),
            _ERROR,
            *_columns("number", "INTEGER"),
            *_columns("started_at ended_at", "TIMESTAMP"),
        ],
    ),
    "events": Source(EVENTS, [*_columns("root_id body", "VARCHAR"), *_columns("first_sequence", "BIGINT")]),
    "usage": Source(
        USAGE,
        [
            *_columns("task_id root_id top_id user_id model", "VARCHAR"),
            *_columns("last_at", "TIMESTAMP"),
            *(
                (name, "DOUBLE" if type_of_total(name) == "DOUBLE PRECISION" else "BIGINT", name)
                for name in TOTALS
            ),
        ],
    ),
}
# What the process makes of the pages of events.
EVENT_COLUMNS: Final = (
    *((name, "VARCHAR") for name in ("root_id", "task_id", "key", "type", "status", "message", "error")),
    ("sequence", "BIGINT"),
    ("progress", "DOUBLE"),
    ("stored_at", "TIMESTAMP"),
)


@dataclass(frozen=True, slots=True)
class View:
    """A view: the sources that it reads, and its text. A source is a view in the schema `stored`."""

    sources: Sequence[str]
    text: str


VIEWS: Final[Mapping[str, View]] = {
    "tasks": View(
        ["tasks"],
        f"""SELECT id, root_id, parent_id, key, name, label,
    {_TAGS.format("")}, user_id, status,
    CASE WHEN executor <> '{GROUP}' THEN executor END AS executor,
    coalesce(executor = '{GROUP}', FALSE) AS is_group,
    priority, CASE WHEN {HAS_ENDED} THEN 1.0 ELSE progress END AS progress,
    attempts + earlier_attempts AS attempts, created_at, started_at, updated_at, completed_at,
    {_SECONDS.format("completed_at", "started_at")} AS seconds, error, original_task_id, spawned_by
FROM stored.tasks""",
    ),
    "runs": View(
        ["tasks"],
        f"""SELECT r.id, r.name, r.label, {_TAGS.format("r.")}, r.user_id, r.status,
    t.tasks, t.completed, t.failed, t.cancelled, t.skipped, r.created_at,
    r.run_requested_at AS requested_at, t.started_at, r.run_ended_at AS ended_at,
    {_SECONDS.format("r.run_ended_at", "t.started_at")} AS seconds, r.error, r.original_task_id, r.spawned_by
FROM stored.tasks AS r JOIN (
    SELECT root_id, count(*) AS tasks, count(*) FILTER (status = 'completed') AS completed,
        count(*) FILTER (status = 'failed') AS failed, count(*) FILTER (status = 'cancelled') AS cancelled,
        count(*) FILTER (status = 'skipped') AS skipped, min(started_at) AS started_at
    FROM stored.tasks GROUP BY root_id
) AS t ON t.root_id = r.id""",
    ),
    # As `all_attempts` of the core: a failure is the true record of an attempt with several, and the row of a
    # task has the data of an attempt without a record.
    "attempts": View(
        ["tasks", "attempts"],
        f"""WITH recorded AS (
    SELECT DISTINCT ON (task_id, number) * FROM stored.attempts
    ORDER BY task_id, number, coalesce(outcome IN ('failed', 'interrupted'), FALSE) DESC
), last AS (
    SELECT id AS task_id, attempts + earlier_attempts AS number,
        CASE WHEN attempts <= 1 THEN started_at
            WHEN status = 'in_progress' AND cancel_requested_at IS NULL THEN updated_at END AS started_at,
        CASE WHEN {HAS_ENDED} THEN completed_at END AS ended_at,
        CASE WHEN {HAS_ENDED} THEN status END AS outcome, error
    FROM stored.tasks
    WHERE attempts > 0 AND executor IS DISTINCT FROM '{GROUP}' AND status <> 'pending' AND not_before IS NULL
)
SELECT task_id, number, started_at, ended_at, {_SECONDS.format("ended_at", "started_at")} AS seconds, outcome,
    error, error_type
FROM recorded
UNION ALL
SELECT task_id, number, started_at, ended_at, {_SECONDS.format("ended_at", "started_at")}, outcome,
    error, NULL
FROM last ANTI JOIN recorded USING (task_id, number)""",
    ),
    "events": View(
        ["events"],
        """SELECT root_id, sequence, stored_at, type, task_id, key, status, progress, message, error
FROM stored.events""",
    ),
    "usage": View(
        ["usage"],
        f"SELECT task_id, root_id, top_id, user_id, model, last_at, {', '.join(TOTALS)} FROM stored.usage",
    ),
}


def views_in(text: str) -> list[str]:
    """Return the views that a query may read: those whose names it contains as words."""
    words = set(re.findall(r"\w+", text.lower()))
    return [name for name in VIEWS if name in words]


def sources_of(views: Sequence[str]) -> list[str]:
    """Return the sources of views."""
    return list(dict.fromkeys(source for name in views for source in VIEWS[name].sources))
