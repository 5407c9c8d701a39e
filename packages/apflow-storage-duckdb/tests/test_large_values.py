"""Large values are stored outside their rows, and are deleted with them."""

from __future__ import annotations

import asyncio
import random
from datetime import timedelta
from pathlib import Path

import duckdb
import pytest

from apflow.core.errors import StoreError
from apflow.core.model.event import EventType, TaskEvent
from apflow.core.model.task import Json, Task, utc_now
from apflow.core.store.base import Change, Move, TaskQuery
from apflow.storage.duckdb import DuckDBStore
from apflow.storage.duckdb.database import migrate
from apflow.storage.duckdb.large_values import MARK, MAX_INLINE
from apflow.testing.building import a_task, a_tree

BEFORE_LARGE_VALUES = 5  # the version of the schema


def url_of(path: Path) -> str:
    return f"duckdb:///{path}/tasks.duckdb"


def large(seed: int = 0, size: int = 100_000) -> dict[str, Json]:
    return {"text": random.Random(seed).randbytes(size // 2).hex()}


def count_values(path: Path) -> int:
    with duckdb.connect(str(path / "tasks.duckdb")) as connection:
        [[found]] = connection.execute("SELECT count(DISTINCT number) FROM apflow_values").fetchall()
    return int(found)


def setting(task_id: str, root_id: str, **sets: Json) -> Change:
    return Change(moves=[Move(task_id, root_id, expects={}, sets=sets)])


def event_of(task: Task, result: Json) -> TaskEvent:
    return TaskEvent(
        type=EventType.TASK_COMPLETED,
        task_id=task.id,
        root_task_id=task.root_id,
        timestamp=utc_now(),
        result=result,
    )


@pytest.mark.parametrize("size", [MAX_INLINE - 20, MAX_INLINE + 1, 4000 * 5 - 11, 3_000_000])
async def test_values_of_any_size_are_read_as_they_were_written(tmp_path: Path, size: int):
    value = {"text": 'é~\\"\n' + "x" * (size - 20) + "\U0001f600"}
    tree = a_tree("r", "a", "b")
    tree[0].inputs, tree[1].params, tree[2].schemas = value, value, value
    async with DuckDBStore(url_of(tmp_path)) as store:
        await store.add(tree)
        await store.write(setting("a", "r", result=value))
        for _ in range(2):
            found = {task.id: task for task in await store.tree("r")}
            assert (found["r"].inputs, found["a"].params, found["b"].schemas) == (value, value, value)
            assert found["a"].result == value
            assert (await store.get(["a"]))["a"].result == value
            assert {task.id for task in await store.find(TaskQuery()) if task.result == value} == {"a"}
    async with DuckDBStore(url_of(tmp_path)) as store:
        assert (await store.get(["a"]))["a"].result == value


async def test_a_row_holds_a_reference_and_a_text_that_looks_like_one_is_no_reference(tmp_path: Path):
    tree = a_tree("r", "a", "b")
    tree[0].inputs, tree[1].inputs, tree[2].name = large(), {MARK: f"{MARK}1"}, f"{MARK}1"
    async with DuckDBStore(url_of(tmp_path)) as store:
        await store.add(tree)
        await store.write(setting("a", "r", result=f"{MARK}1"))
        found = {task.id: task for task in await store.tree("r")}
    assert (found["a"].inputs, found["a"].result, found["b"].name) == (
        {MARK: f"{MARK}1"},
        f"{MARK}1",
        f"{MARK}1",
    )
    with duckdb.connect(str(tmp_path / "tasks.duckdb")) as connection:
        [[text]] = connection.execute("SELECT inputs FROM apflow_tasks WHERE id = 'r'").fetchall()
    assert text == f"{MARK}1"


async def test_deleted_tasks_leave_no_values(tmp_path: Path):
    tree = a_tree("r", "a", "b")
    for number, task in enumerate(tree):
        task.inputs = large(number)
    async with DuckDBStore(url_of(tmp_path)) as store:
        await store.add(tree)
        await store.write(
            Change(
                moves=[
                    Move(
                        "a", "r", expects={}, sets={"result": large(7)}, events=(event_of(tree[1], large(7)),)
                    )
                ]
            )
        )
    assert count_values(tmp_path) == 5  # the inputs, the result, and the page of its event
    async with DuckDBStore(url_of(tmp_path)) as store:
        await store.write(Change(remove=["a"]))
        assert [event.result for event in await store.events("r")][-1] == large(7)
    assert count_values(tmp_path) == 3
    async with DuckDBStore(url_of(tmp_path)) as store:
        await store.write(Change(remove=["b", "r"]))
        assert await store.events("r") == []
    assert count_values(tmp_path) == 0


@pytest.mark.parametrize("is_reopened", [False, True])
@pytest.mark.parametrize("after", [None, {"small": 1}, large(2)])
async def test_a_replaced_value_is_deleted(tmp_path: Path, after: Json, is_reopened: bool):
    store = DuckDBStore(url_of(tmp_path))
    await store.add(a_tree("r", "a"))
    await store.write(setting("a", "r", result=large(1)))
    if is_reopened:
        await store.close()
        store = DuckDBStore(url_of(tmp_path))
    await store.write(setting("a", "r", result=after))
    assert (await store.get(["a"]))["a"].result == after
    await store.close()
    assert count_values(tmp_path) == (1 if after == large(2) else 0)


async def test_a_value_that_tasks_share_is_deleted_with_the_last_of_them(tmp_path: Path):
    shared = large()
    tree = a_tree("r", "a", "b")
    for task in tree:
        task.inputs = shared
    async with DuckDBStore(url_of(tmp_path)) as store:
        await store.add(tree)
    assert count_values(tmp_path) == 1
    async with DuckDBStore(url_of(tmp_path)) as store:
        await store.write(setting("a", "r", inputs={}))
        await store.write(Change(remove=["b"]))
        assert (await store.get(["r"]))["r"].inputs == shared
        await store.write(Change(remove=["a", "r"]))
    assert count_values(tmp_path) == 0


async def test_a_change_that_fails_leaves_no_values(tmp_path: Path):
    async with DuckDBStore(url_of(tmp_path)) as store:
        await store.add(a_tree("r", "a"))
        failing = a_task("x", inputs=large())
        with pytest.raises(StoreError):
            await store.write(
                Change(add=[failing], moves=[Move("a", "r", expects={}, sets={"priority": "not a number"})])
            )
        await store.write(setting("a", "r", result={"small": 1}))
        assert (await store.get(["x"])) == {}
    assert count_values(tmp_path) == 0


async def test_moves_may_expect_large_values(tmp_path: Path):
    async with DuckDBStore(url_of(tmp_path)) as store:
        await store.add(a_tree("r", "a"))
        await store.write(setting("a", "r", inputs=large(1)))
    async with DuckDBStore(url_of(tmp_path)) as store:
        wrong = Move("a", "r", expects={"inputs": large(2)}, sets={"priority": 7})
        right = Move("a", "r", expects={"inputs": large(1)}, sets={"priority": 8})
        assert await store.write(Change(moves=[wrong])) == [None]
        assert await store.write(Change(moves=[right])) != [None]


async def test_removed_events_leave_no_values(tmp_path: Path):
    async with DuckDBStore(url_of(tmp_path)) as store:
        tree = a_tree("r", "a")
        await store.add(tree)
        await store.write(
            Change(moves=[Move("a", "r", expects={}, sets={}, events=(event_of(tree[1], large()),))])
        )
    assert count_values(tmp_path) == 1
    async with DuckDBStore(url_of(tmp_path), event_retention=timedelta(0)) as store:
        await store.write(setting("a", "r", priority=3))
        assert all(event.result is None for event in await store.events("r"))
    assert count_values(tmp_path) == 0


async def test_readers_see_values_that_are_replaced_meanwhile(tmp_path: Path):
    async with DuckDBStore(url_of(tmp_path)) as store:
        await store.add(a_tree("r", "a"))
        is_over = False

        async def replace() -> None:
            nonlocal is_over
            for seed in range(60):
                await store.write(setting("a", "r", result=large(seed)))
            is_over = True

        async def read() -> None:
            while not is_over:
                for found in (await store.get(["a"]), {task.id: task for task in await store.tree("r")}):
                    result = found["a"].result
                    assert result is None or len(result["text"]) == len(large()["text"])

        await asyncio.gather(replace(), read(), read())
    assert count_values(tmp_path) == 1


async def test_large_values_of_an_earlier_version_are_read_changed_and_deleted(tmp_path: Path):
    old, text = large(5), '{"text":"' + large(5)["text"] + '"}'
    with duckdb.connect(str(tmp_path / "tasks.duckdb")) as connection:
        migrate(connection, "", BEFORE_LARGE_VALUES)
        for number, task_id in enumerate(["r", "a", "b"], start=1):
            connection.execute(
                "INSERT INTO apflow_tasks (row_number, id, parent_id, root_id, name, status, priority, "
                "inputs, result, progress, has_children, attempts, created_at, has_copy, position, "
                "generation, interruptions, last_event) VALUES ($1, $2, $3, 'r', 'old', 'completed', 1, "
                "$4, $4, 1, $5, 1, now()::TIMESTAMP, FALSE, $1, 0, 0, 0)",
                [number, task_id, None if task_id == "r" else "r", text, task_id == "r"],
            )
    async with DuckDBStore(url_of(tmp_path)) as store:
        assert [task.result for task in await store.tree("r")] == [old, old, old]
        await store.write(setting("a", "r", result=large(6)))
        await store.write(Change(remove=["b"]))
    async with DuckDBStore(url_of(tmp_path)) as store:
        found = {task.id: task for task in await store.tree("r")}
        assert (found["a"].inputs, found["a"].result, found["r"].result) == (old, large(6), old)
        await store.write(Change(remove=["a", "r"]))
    assert count_values(tmp_path) == 0


async def test_a_checkpoint_does_not_rewrite_the_large_values_of_other_rows(tmp_path: Path):
    names = [f"a{number}" for number in range(40)]
    async with DuckDBStore(url_of(tmp_path)) as store:
        await store.add(a_tree("r", *names))
        results = ({"result": large(number, 1_000_000)} for number in range(len(names)))
        moves = [Move(name, "r", expects={}, sets=sets) for name, sets in zip(names, results, strict=True)]
        await store.write(Change(moves=moves))
    before = _bytes_written()
    async with DuckDBStore(url_of(tmp_path)) as store:
        await store.write(setting("r", "r", result={"small": 1}))
    assert _bytes_written() - before < 10_000_000  # closing the file has written a checkpoint


def _bytes_written() -> int:
    try:
        lines = Path("/proc/self/io").read_text().splitlines()
    except OSError:
        pytest.skip("the system does not count what a process writes")
    return next(int(line.split()[1]) for line in lines if line.startswith("wchar"))
