"""What is read while it is being written: rows and the number of the last event belong together."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from apflow.core.model.task import Task
from apflow.storage.duckdb import DuckDBStore
from apflow.testing.building import a_move, a_tree


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[DuckDBStore]:
    store = DuckDBStore(f"duckdb:///{tmp_path}/tasks.duckdb")
    await store.add(a_tree("r", "a"))
    yield store
    await store.close()


async def start(store: DuckDBStore) -> None:
    await store.move([a_move("r", "pending", "in_progress")])


async def read(store: DuckDBStore, by: str) -> Task:
    return (await store.tree("r"))[0] if by == "tree" else (await store.get(["r", "a"][: int(by)]))["r"]


def seen(root: Task) -> tuple[str, int]:
    return str(root.status), root.last_event


@pytest.mark.parametrize("by", ["tree", "1", "2"])
async def test_what_is_on_disk_and_not_counted_yet_is_read_with_its_number(
    store: DuckDBStore, by: str, monkeypatch: pytest.MonkeyPatch
):
    maintain, found = store._database.maintain_log, list[Task]()

    def look() -> None:  # the writer's thread has committed, and nothing more
        maintain()
        found.append(asyncio.run(read(store, by)))

    monkeypatch.setattr(store._database, "maintain_log", look)
    await start(store)
    assert [seen(root) for root in found] == [("in_progress", 3)]


@pytest.mark.parametrize("by", ["tree", "1", "2"])
@pytest.mark.parametrize("is_before", [True, False])
async def test_a_write_beside_the_reading_of_rows_changes_both_or_neither(
    store: DuckDBStore, by: str, is_before: bool, monkeypatch: pytest.MonkeyPatch
):
    execute, waiting = store._database.execute, [start]

    def beside(cursor: Any, text: str, parameters: Any) -> Any:
        if not text.startswith("SELECT") or not waiting:
            return execute(cursor, text, parameters)
        write = waiting.pop()
        if is_before:
            asyncio.run(write(store))
        result = execute(cursor, text, parameters)
        if not is_before:
            asyncio.run(write(store))
        return result

    monkeypatch.setattr(store._database, "execute", beside)
    assert seen(await read(store, by)) in [("pending", 2), ("in_progress", 3)]
    assert waiting == []
