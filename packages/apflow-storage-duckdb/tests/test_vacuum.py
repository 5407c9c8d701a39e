"""A vacuum replaces the file by a compact copy while the database is in use."""

# ruff: noqa: ASYNC240  # no other task waits for these tests

from __future__ import annotations

import asyncio
import os
import stat
from pathlib import Path

import pytest

from apflow.core.errors import InvalidInputError, StoreError
from apflow.core.model.log import LogChunk, LogEntry, LogQuery
from apflow.core.model.task import utc_now
from apflow.core.store.base import Change, TaskQuery
from apflow.storage.duckdb import DuckDBStore, database, migration_copy
from apflow.testing.building import a_task, a_tree


def store_in(folder: Path, name: str = "tasks.duckdb") -> DuckDBStore:
    return DuckDBStore(f"duckdb:///{folder / name}")


async def add(store: DuckDBStore, n: int) -> None:
    """Write a tree with a large value and events, and log lines of it."""
    tasks = a_tree(f"r{n}", f"a{n}", f"b{n}")
    tasks[1].inputs = {"large": "x" * 50_000}
    await store.add(tasks)
    entries = [LogEntry(utc_now(), 20, "stdout", "line")]
    await store.add_logs(
        [LogChunk(root_task_id=f"r{n}", task_id=f"a{n}", attempt=1, generation=0, entries=entries)]
    )


async def check(store: DuckDBStore) -> int:
    """Check that every tree is whole, and return their number."""
    roots = await store.find(TaskQuery(root_only=True))
    for root in roots:
        tasks = await store.tree(root.id)
        assert [len(tasks), len(await store.events(root.id)), tasks[0].last_event] == [3, 3, 3]
        assert len(tasks[1].inputs["large"]) == 50_000
        [line] = await store.logs(LogQuery(root_task_id=root.id))
        assert line.entry.message == "line"
    return len(roots)


async def remove(store: DuckDBStore, *numbers: int) -> None:
    await store.write(Change(remove=[f"{each}{n}" for n in numbers for each in "rab"]))


async def test_the_file_shrinks_and_has_everything_that_is_left(tmp_path: Path):
    path = tmp_path / "tasks.duckdb"
    async with store_in(tmp_path) as store:
        await asyncio.gather(*(add(store, n) for n in range(60)))
        await remove(store, *range(3, 60))
        await store.put_record("kind", "key", {"a": 1})
    path.chmod(0o640)
    async with store_in(tmp_path) as store:
        before, after = await store.vacuum()
        assert after < 0.7 * before
        assert path.stat().st_size == after
        assert await check(store) == 3
        await add(store, 100)  # numbers of rows, values, events and log lines continue
        assert await check(store) == 4
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    async with store_in(tmp_path) as store:
        assert await check(store) == 4
        assert [each.value for each in await store.records("kind")] == [{"a": 1}]
    assert not list(tmp_path.glob("*vacuum*"))


async def test_others_read_and_write_meanwhile_and_nothing_is_lost(tmp_path: Path):
    async with store_in(tmp_path) as store:
        await add(store, 0)
        number = 1
        is_over = False

        async def write() -> None:
            nonlocal number
            while not is_over:
                await add(store, number)
                number += 1

        async def read() -> None:
            while not is_over:
                await store.count(TaskQuery())

        working = [asyncio.create_task(each) for each in (write(), read(), read())]
        for _ in range(2):
            await store.vacuum()
        written = number
        while number < written + 1:
            await asyncio.sleep(0.01)
        is_over = True
        await asyncio.gather(*working)
        assert await check(store) == number
    async with store_in(tmp_path) as store:
        assert await check(store) == number


async def test_a_link_to_the_file_stays_a_link(tmp_path: Path):
    real = tmp_path / "elsewhere" / "real.duckdb"
    real.parent.mkdir()
    async with store_in(real.parent, real.name) as store:
        await add(store, 1)
    (tmp_path / "tasks.duckdb").symlink_to(real)
    async with store_in(tmp_path) as store:
        await store.vacuum()
        assert await check(store) == 1
    assert (tmp_path / "tasks.duckdb").is_symlink()
    async with store_in(real.parent, real.name) as store:
        assert await check(store) == 1


async def test_a_file_with_several_names_is_left_as_it_is(tmp_path: Path):
    async with store_in(tmp_path) as store:
        await add(store, 1)
        os.link(tmp_path / "tasks.duckdb", tmp_path / "other.duckdb")
        with pytest.raises(InvalidInputError, match="hard links"):
            await store.vacuum()
        assert await check(store) == 1


async def test_without_room_or_while_reads_go_on_the_file_is_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    async with store_in(tmp_path) as store:
        await add(store, 1)
        inode = (tmp_path / "tasks.duckdb").stat().st_ino
        with monkeypatch.context() as patch:
            patch.setattr(migration_copy.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 10})())
            with pytest.raises(StoreError, match="10 bytes of free space"):
                await store.vacuum()
        monkeypatch.setattr(database, "CLOSE_SECONDS", 0.01)
        with store._database.cursor(), pytest.raises(StoreError, match="reads have not ended"):
            await store.vacuum()
        assert (tmp_path / "tasks.duckdb").stat().st_ino == inode
        await add(store, 2)
        assert await check(store) == 2
    assert not list(tmp_path.glob("*vacuum*"))


async def test_a_database_in_memory_has_nothing_to_vacuum():
    async with DuckDBStore() as store:
        await store.add([a_task("r")])
        assert await store.vacuum() == (0, 0)
        assert list(await store.get(["r"])) == ["r"]
