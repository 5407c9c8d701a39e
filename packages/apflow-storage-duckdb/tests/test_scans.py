"""What a read or a change of one tree costs does not grow with the number of other trees in the file."""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from apflow.core.model.status import TaskStatus
from apflow.core.model.task import utc_now
from apflow.core.store.base import Change, Transition
from apflow.storage.duckdb import DuckDBStore, database, writer
from apflow.storage.duckdb.database import Database
from apflow.storage.duckdb.statements import READ_EVENTS
from apflow.testing.building import a_move, a_task, a_tree

TREES, SIZE = 12, 1000
OLD_EVENTS = 10_000
GROUP = 2048  # rows; DuckDB accepts no smaller ones
NEWEST = f"root{TREES - 1}"

Statement = tuple[str, Sequence[Any]]


@pytest.fixture
async def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[DuckDBStore]:
    """Give a store with several trees, in several row groups."""
    monkeypatch.setattr(database, "ROW_GROUP_SIZE", GROUP)
    store = DuckDBStore(f"duckdb:///{tmp_path / 'tasks.duckdb'}")
    await store.add(a_tree("first"))  # opens the file
    with store._database.cursor() as cursor:
        cursor.execute(
            "INSERT INTO apflow_events SELECT if(n % 2 = 0, 'a', 'z') || n, n, 1000000, "
            f"TIMESTAMP '2020-01-01', '[]' FROM range({OLD_EVENTS}) AS old (n)"
        )
    for number in range(TREES):
        root_id = f"root{number}"
        await store.add(a_tree(root_id, *(f"{root_id}-{at}" for at in range(SIZE))))
    with store._database.cursor() as cursor:
        cursor.execute("CHECKPOINT")
    yield store
    await store.close()


async def change_after_restart(store: DuckDBStore) -> None:
    """Change a task of the newest tree in a store that knows nothing of it."""
    await store._group.run(store._writer.close)
    await store.move([a_move(f"{NEWEST}-1", "pending", "in_progress", root_id=NEWEST)])


async def executed(act: Callable[[], Awaitable[object]], monkeypatch: pytest.MonkeyPatch) -> list[Statement]:
    """Return the statements that an action executes."""
    statements: list[Statement] = []
    execute = Database.execute

    def recording(self: Database, cursor: Any, text: str, parameters: Sequence[Any]) -> Any:
        statements.append((text, parameters))
        return execute(self, cursor, text, parameters)

    with monkeypatch.context() as patched:
        patched.setattr(Database, "execute", recording)
        await act()
    return statements


def scans(store: DuckDBStore, statement: Statement, table: str) -> list[tuple[int, int]]:
    """Return how many row groups of a table a statement reads, and of how many, for each scan of it."""
    with store._database.cursor() as cursor:
        [[_, plan]] = cursor.execute(f"EXPLAIN ANALYZE {statement[0]}", statement[1]).fetchall()
    parts = re.findall(rf"{table}\b.*?Row Groups Scanned: (\d+) / (\d+)", plan, re.DOTALL)
    return [(int(read), int(there)) for read, there in parts]


@pytest.mark.parametrize("is_reopened", [False, True], ids=["since it was created", "since it was changed"])
async def test_events_that_are_older_than_a_tree_are_not_read_for_it(
    store: DuckDBStore, is_reopened: bool, monkeypatch: pytest.MonkeyPatch
):
    if is_reopened:
        await change_after_restart(store)
    for after, limit in ((0, 10), (SIZE, SIZE), (SIZE - 2, 1)):
        [statement] = await executed(lambda: store.events(NEWEST, after, limit), monkeypatch)  # noqa: B023
        [(read, there)] = scans(store, statement, "apflow_events")
        assert there >= OLD_EVENTS // GROUP
        assert read <= 2
    assert len(await store.events(NEWEST)) == SIZE + 1 + is_reopened


async def test_events_that_do_not_exist_yet_are_not_looked_for(
    store: DuckDBStore, monkeypatch: pytest.MonkeyPatch
):
    assert await executed(lambda: store.events(NEWEST, after=SIZE + 1, limit=100), monkeypatch) == []


@pytest.mark.parametrize("is_reopened", [False, True], ids=["since it was created", "since it was changed"])
async def test_only_the_row_groups_from_the_root_on_are_read_for_a_tree(
    store: DuckDBStore, is_reopened: bool, monkeypatch: pytest.MonkeyPatch
):
    if is_reopened:
        await change_after_restart(store)
    [statement] = await executed(lambda: store.tree(NEWEST), monkeypatch)
    [(read, there)] = scans(store, statement, "apflow_tasks")
    assert there >= TREES * SIZE // GROUP
    assert read <= 2
    assert len(await store.tree(NEWEST)) == SIZE + 1


async def test_tasks_of_an_older_tree_that_join_a_newer_one_are_read_with_it(store: DuckDBStore):
    await store.add(a_tree("new"))
    move = Transition("root0-1", "new", {"parent_id": "root0"}, {"root_id": "new", "parent_id": "new"})
    await store.write(Change(moves=[move]))
    assert [task.id for task in await store.tree("new")] == ["new", "root0-1"]
    assert len(await store.tree("root0")) == SIZE


async def test_tasks_of_an_older_tree_that_join_while_the_tree_is_read_are_read_with_it(
    store: DuckDBStore, monkeypatch: pytest.MonkeyPatch
):
    await store.add([*a_tree("new"), a_task("other", "new")])
    await store.checkpoint()  # so that the tree is read from the database
    move = Transition("root0-1", "new", {"parent_id": "root0"}, {"root_id": "new", "parent_id": "new"})
    execute, loop = Database.execute, asyncio.get_running_loop()
    moves = [move]

    def moving(self: Database, cursor: Any, text: str, parameters: Sequence[Any]) -> Any:
        if moves and "row_number >=" in text:  # in the thread of the read
            change = Change(moves=[moves.pop()])
            asyncio.run_coroutine_threadsafe(store.write(change), loop).result(timeout=60)
            store._writer.application.wait()  # until the database has it
        return execute(self, cursor, text, parameters)

    monkeypatch.setattr(Database, "execute", moving)
    assert [task.id for task in await store.tree("new")] == ["new", "other", "root0-1"]


async def test_events_that_are_stored_after_the_clock_was_set_back_are_read(
    store: DuckDBStore, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(writer, "utc_now", lambda: utc_now() - timedelta(hours=1))
    await store.move([a_move(NEWEST, "pending", "in_progress", root_id=NEWEST)])
    [event] = await store.events(NEWEST, after=SIZE + 1)
    assert event.status is TaskStatus.IN_PROGRESS
    assert len(await store.events(NEWEST)) == SIZE + 2


async def test_events_that_are_stored_after_the_clock_was_set_back_during_a_read_are_read(
    store: DuckDBStore, monkeypatch: pytest.MonkeyPatch
):
    execute, loop = Database.execute, asyncio.get_running_loop()
    moves = [a_move(NEWEST, "pending", "in_progress", root_id=NEWEST)]

    def moving(self: Database, cursor: Any, text: str, parameters: Sequence[Any]) -> Any:
        if moves and text == READ_EVENTS:  # in the thread of the read
            change = Change(moves=[moves.pop()])
            asyncio.run_coroutine_threadsafe(store.write(change), loop).result(timeout=60)
            store._writer.application.wait()  # until the database has it
        return execute(self, cursor, text, parameters)

    monkeypatch.setattr(writer, "utc_now", lambda: utc_now() - timedelta(hours=1))
    monkeypatch.setattr(Database, "execute", moving)
    assert len(await store.events(NEWEST, limit=SIZE + 2)) == SIZE + 2
