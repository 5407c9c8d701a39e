"""The contract of a store: queries in SQL over the history of tasks."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from apflow.core.errors import InvalidInputError
from apflow.core.model.attempt import AttemptOutcome, TaskAttempt
from apflow.core.model.sql_query import SqlQuery, SqlResult
from apflow.core.model.status import TaskStatus
from apflow.core.model.task import GROUP, Json, to_json
from apflow.core.model.usage import UsageEntry, UsageTotals
from apflow.core.store.base import TaskStore
from apflow.testing.building import a_move, a_task, a_tree, an_event
from apflow.testing.storebase import StoreMaker

SECONDS = 300.0  # for a query on a busy machine
START = datetime(2030, 1, 1, tzinfo=UTC)
HIDDEN = "kept-out-of-views"  # in what no view has
# Of an event, and hard to compress: its page is stored elsewhere.
LONG = "".join(sha256(str(number).encode()).hexdigest() for number in range(3000))


async def ask(store: TaskStore, text: str, **more: Any) -> SqlResult:
    """Return the result of a query."""
    given: dict[str, Any] = {"timeout": SECONDS, **more}
    return await store.query(SqlQuery(text=text, **given))


async def rows_of(store: TaskStore, text: str) -> list[list[Json]]:
    """Return the rows of a query."""
    return (await ask(store, text)).rows


async def hold_history(store: TaskStore) -> None:
    """Give a store a tree whose history the queries read."""
    end = START + timedelta(seconds=10)
    times: dict[str, Any] = {"started_at": START, "completed_at": end}
    root = a_task("r", executor=GROUP, tags=["a b", "c"], status=TaskStatus.FAILED, **times)
    root.run_ended_at = end + timedelta(seconds=2)
    hidden: dict[str, Any] = {
        "inputs": {"key": HIDDEN},
        "params": {"p": HIDDEN},
        "result": {"big": HIDDEN * 3000},
    }
    await store.add(
        [
            root,
            a_task("a", "r", executor="x", attempts=2, label='says "\\N", and\nmore', **hidden),
            a_task("b", "r", executor="x", attempts=1, status=TaskStatus.COMPLETED, key="kb", **times),
            a_task("c", "r", status=TaskStatus.SKIPPED, user_id="", error="not needed"),
            a_task("d", "r", executor="x", attempts=1),
        ]
    )
    failed = TaskAttempt(
        task_id="a", number=1, started_at=START, ended_at=end, outcome=AttemptOutcome.FAILED,
        error="first", error_type="E",
    )  # fmt: skip
    starts = a_move("a", "pending", "in_progress")
    # Of two records of one attempt, the failure is the true one.
    starts.attempts = (replace(failed, outcome=AttemptOutcome.CANCELLED, error="later"), failed)
    starts.events = (
        an_event("a", "r", message=LONG, data={"key": HIDDEN}),
        an_event("a", "r", progress=0.5),
    )
    fails = a_move("d", "pending", "failed", sets={"error": "of the row", **times})
    fails.attempts = (replace(failed, task_id="d"),)
    fails.events = ()
    await store.move([starts, fails])
    totals = UsageTotals(calls=2, input_tokens=10, cost_usd=0.5)
    ids = {"task_id": "a", "root_id": "r", "top_id": "r"}
    await store.add_usage([UsageEntry(**ids, user_id=None, model="m", totals=totals)])


class StoreSqlContract(StoreMaker):
    """Queries over the views, and what they may not do.

    The views are in `apflow.storage.sql.query_views`. A store that answers no SQL leaves
    `capabilities.has_sql` false.
    """

    @pytest.fixture
    def sql_store(self, store: TaskStore) -> TaskStore:
        """Return the store if it answers SQL; not for all tests, because the others of a store must run."""
        if not store.capabilities.has_sql:
            pytest.skip("the store answers no SQL")
        pytest.importorskip("duckdb")
        return store

    async def test_the_views_have_the_history(self, sql_store: TaskStore) -> None:
        await hold_history(sql_store)
        assert await rows_of(
            sql_store, "SELECT id, key, status, executor, is_group, seconds, tags FROM tasks ORDER BY id"
        ) == [
            ["a", "a", "in_progress", "x", False, None, []],
            ["b", "kb", "completed", "x", False, 10.0, []],
            ["c", "c", "skipped", None, False, None, []],
            ["d", "d", "failed", "x", False, 10.0, []],
            ["r", "r", "failed", None, True, 10.0, ["a b", "c"]],
        ]
        assert await rows_of(
            sql_store, "SELECT label, user_id, error FROM tasks WHERE id IN ('a', 'c') ORDER BY id"
        ) == [
            ['says "\\N", and\nmore', None, None],
            [None, "", "not needed"],
        ]
        assert await rows_of(
            sql_store, "FROM runs SELECT id, tasks, completed, failed, skipped, seconds, started_at"
        ) == [["r", 5, 1, 2, 1, 12.0, to_json(START.replace(tzinfo=None))]]
        assert await rows_of(
            sql_store,
            "SELECT task_id, number, outcome, error, seconds FROM attempts ORDER BY task_id, number",
        ) == [
            ["a", 1, "failed", "first", 10.0],
            ["a", 2, None, None, None],
            ["b", 1, "completed", None, 10.0],
            ["d", 1, "failed", "first", 10.0],
        ]
        assert await rows_of(
            sql_store,
            "SELECT sequence, type, task_id, length(message), "
            "CASE WHEN type = 'task_started' THEN progress END FROM events ORDER BY sequence",
        ) == [
            *(
                [number, "task_created", each, None, None]
                for number, each in enumerate(("r", "a", "b", "c", "d"), 1)
            ),
            [6, "task_started", "a", 10_000, None],
            [7, "task_started", "a", None, 0.5],
        ]
        assert await rows_of(
            sql_store, "SELECT model, calls, cost_usd FROM usage JOIN tasks ON task_id = id"
        ) == [["m", 2, 0.5]]

    async def test_what_interfaces_mask_is_in_no_view(self, sql_store: TaskStore) -> None:
        await hold_history(sql_store)
        views = ("tasks", "runs", "attempts", "events", "usage")
        rows = (f"FROM {view} AS v SELECT '{view}', to_json(v)::VARCHAR" for view in views)
        found = await rows_of(sql_store, " UNION ALL ".join(f"({each})" for each in rows))
        assert {name for name, _ in found} == set(views)
        # What the views are made of can be read, too.
        sources = ("tasks", "attempts", "events", "usage")
        rows = (f"FROM stored.{name} AS v SELECT '{name}', to_json(v)::VARCHAR" for name in sources)
        found += await rows_of(sql_store, " UNION ALL ".join(f"({each})" for each in rows))
        for _, text in found:
            assert HIDDEN not in text
            assert not {"inputs", "params", "result", "data"} & json.loads(text).keys()

    async def test_more_rows_than_the_limit_are_reported_and_a_file_has_as_many(
        self, sql_store: TaskStore, tmp_path: Path
    ) -> None:
        await sql_store.add(a_tree("r", "a", "b"))
        found = await ask(sql_store, "SELECT id, now() AS t FROM tasks ORDER BY id;", limit=2)
        assert ([row[0] for row in found.rows], found.row_count, found.has_more) == (["a", "b"], 2, True)
        assert [each.name for each in found.columns] == ["id", "t"]
        whole = await ask(sql_store, "SELECT id FROM tasks", limit=3)
        assert (whole.row_count, whole.has_more) == (3, False)
        file = await ask(sql_store, "SELECT id FROM tasks ORDER BY id", limit=2, is_parquet=True)
        assert (file.rows, file.row_count, file.has_more) == ([], 2, True)
        assert file.parquet is not None
        path = tmp_path / "rows.parquet"
        path.write_bytes(file.parquet)
        duckdb: Any = pytest.importorskip("duckdb")
        assert duckdb.read_parquet(str(path)).fetchall() == [("a",), ("b",)]

    async def test_what_changes_something_is_refused(self, sql_store: TaskStore) -> None:
        await sql_store.add(a_tree("r", "a"))
        with pytest.raises(InvalidInputError, match="Only a query that reads is possible"):
            await ask(sql_store, "DELETE FROM tasks")
        assert sorted(task.id for task in await sql_store.tree("r")) == ["a", "r"]

    async def test_a_query_is_stopped_at_its_limits(self, sql_store: TaskStore) -> None:
        endless = (
            "SELECT count(*) FROM range(10000000) AS a, range(10000000) AS b WHERE a.range * b.range % 7 = 3"
        )
        with pytest.raises(InvalidInputError, match="stopped after 2 s"):
            await ask(sql_store, endless, timeout=2)
        large = "SELECT repeat(range::VARCHAR, 1000000000) FROM range(3)"
        with pytest.raises(InvalidInputError, match=r"memory|larger than"):
            await ask(sql_store, large)
