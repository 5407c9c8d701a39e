"""Copies of a database that is in use, and of a file before it is migrated."""

# ruff: noqa: ASYNC240  # no other task waits for these tests

# no other task waits for these tests

from __future__ import annotations

import asyncio
import stat
from pathlib import Path

import duckdb
import pytest

from apflow.core.errors import InvalidInputError, StoreError
from apflow.core.model.log import LogChunk, LogEntry
from apflow.core.model.status import TaskStatus
from apflow.core.model.task import utc_now
from apflow.core.store.base import Change, Move, TaskQuery
from apflow.storage.duckdb import DuckDBStore, migration_copy
from apflow.storage.duckdb.database import migrate
from apflow.storage.duckdb.migration_copy import copy_of_version
from apflow.storage.sql.migrations import LATEST
from apflow.testing.building import a_task, a_tree, an_event


def store_in(folder: Path, name: str = "tasks.duckdb") -> DuckDBStore:
    return DuckDBStore(f"duckdb:///{folder / name}")


async def add(store: DuckDBStore, n: int) -> None:
    """Write a tree in one change, and events of all its tasks in another one."""
    tasks = a_tree(f"r{n}", f"a{n}", f"b{n}")
    tasks[1].inputs = {"large": "x" * 50_000}
    await store.add(tasks)
    moves = [
        Move(
            each.id,
            f"r{n}",
            {"status": TaskStatus.PENDING},
            {"status": TaskStatus.IN_PROGRESS},
            (an_event(each.id, f"r{n}"),),
        )
        for each in tasks
    ]
    await store.write(Change(moves=moves))
    entries = [LogEntry(utc_now(), 20, "stdout", "line")]
    await store.add_logs(
        [LogChunk(root_task_id=f"r{n}", task_id=f"a{n}", attempt=1, generation=0, entries=entries)]
    )


async def check(store: DuckDBStore) -> int:
    """Check that every tree of a copy is as one change left it, and return their number."""
    roots = await store.find(TaskQuery(root_only=True))
    for root in roots:
        tasks = await store.tree(root.id)
        events = await store.events(root.id)
        assert len(tasks) == 3
        assert len({each.status for each in tasks}) == 1
        assert len(events) == (3 if tasks[0].status == "pending" else 6)
        assert tasks[0].last_event == len(events)
        assert len(tasks[1].inputs["large"]) == 50_000
    return len(roots)


async def test_copies_that_are_made_while_others_write_are_consistent_and_can_be_used(tmp_path: Path):
    async with store_in(tmp_path) as store:
        await add(store, 0)
        number = 0
        is_over = False

        async def write() -> None:
            nonlocal number
            while not is_over:
                number += 1
                await add(store, number)

        writing = asyncio.create_task(write())
        counts: list[int] = []
        for at in range(4):
            await store.backup(tmp_path / f"copy{at}.duckdb")
            counts.append(number)
        is_over = True
        await writing
        assert counts[-1] > counts[0]  # the writer was not held up
    for at in range(4):
        path = tmp_path / f"copy{at}.duckdb"
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        async with store_in(tmp_path, path.name) as copy:
            assert await check(copy) >= 1
            await add(copy, 100_000)  # numbers of rows, values and log lines continue
            await check(copy)
    assert not list(tmp_path.glob("*partial*"))


async def test_a_copy_of_a_database_in_memory(tmp_path: Path):
    async with DuckDBStore() as store:
        await add(store, 1)
        await store.backup(tmp_path / "copy.duckdb")
    async with store_in(tmp_path, "copy.duckdb") as copy:
        assert await check(copy) == 1


async def test_a_copy_replaces_no_file_and_needs_a_directory_with_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    async with store_in(tmp_path) as store:
        await add(store, 1)
        (tmp_path / "mine").write_text("mine")
        for name, message in (
            ("mine", "exists"),
            ("nowhere/copy", "does not exist"),
            ("tasks.duckdb", "exists"),
        ):
            with pytest.raises(InvalidInputError, match=message):
                await store.backup(tmp_path / name)
        (tmp_path / "link").symlink_to(tmp_path / "nothing")
        with pytest.raises(InvalidInputError, match="exists"):
            await store.backup(tmp_path / "link")
        monkeypatch.setattr(migration_copy.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 10})())
        with pytest.raises(StoreError, match="10 bytes of free space"):
            await store.backup(tmp_path / "copy.duckdb")
        assert await check(store) == 1
    assert (tmp_path / "mine").read_text() == "mine"
    assert not list(tmp_path.glob("*partial*"))


async def test_a_copy_has_all_tables_indexes_and_the_version(tmp_path: Path):
    async with store_in(tmp_path) as store:
        await store.add([a_task("r")])
        await store.backup(tmp_path / "copy.duckdb")
    found = []
    for name in ("tasks.duckdb", "copy.duckdb"):
        with duckdb.connect(str(tmp_path / name)) as connection:
            found.append([
                sorted(connection.execute(text).fetchall())
                for text in (
                    "SELECT sql FROM duckdb_tables()",
                    "SELECT sql FROM duckdb_indexes()",
                    "SELECT table_name, constraint_text FROM duckdb_constraints()",
                    "SELECT version FROM apflow_schema",
                )
            ])  # fmt: skip
    assert found[0] == found[1]


def old_file(folder: Path, version: int = LATEST - 1) -> Path:
    """Create a file of an earlier version with one task, which a write-ahead log still has."""
    path = folder / "tasks.duckdb"
    connection = duckdb.connect(str(path))
    migrate(connection, "duckdb:///old", version)
    connection.execute("CHECKPOINT")
    connection.execute("PRAGMA disable_checkpoint_on_shutdown")
    connection.execute(
        "INSERT INTO apflow_tasks (row_number, id, root_id, name, status, priority, progress, has_children, "
        "attempts, created_at, has_copy, position, generation, interruptions, last_event) "
        "VALUES (1, 'old', 'old', 'old', 'pending', 2, 0, false, 0, '2026-01-01', false, 0, 0, 0, 0)"
    )
    connection.close()
    assert path.with_name("tasks.duckdb.wal").stat().st_size > 0
    return path


def version_of(path: Path) -> tuple[int, list[str]]:
    with duckdb.connect(str(path), read_only=True) as connection:
        [[version]] = connection.execute("SELECT max(version) FROM apflow_schema").fetchall()
        return version, [row[0] for row in connection.execute("SELECT id FROM apflow_tasks").fetchall()]


async def test_a_file_is_copied_before_it_is_migrated(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    path = old_file(tmp_path)
    async with store_in(tmp_path) as store:
        assert set(await store.get(["old"])) == {"old"}
        await store.add([a_task("new")])
    copy = copy_of_version(path, LATEST - 1)
    assert str(copy) in caplog.text
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    assert version_of(copy) == (LATEST - 1, ["old"])
    assert version_of(path) == (LATEST, ["old", "new"])
    written_at = copy.stat().st_mtime_ns
    async with store_in(tmp_path) as store:
        await store.get(["old"])
    assert copy.stat().st_mtime_ns == written_at


async def test_a_new_file_and_one_whose_copy_is_switched_off_are_not_copied(tmp_path: Path):
    async with store_in(tmp_path, "new.duckdb") as store:
        await store.add([a_task("r")])
    path = old_file(tmp_path)
    async with DuckDBStore(f"duckdb:///{path}", has_migration_copy=False) as store:
        assert set(await store.get(["old"])) == {"old"}
    assert not list(tmp_path.glob("*version*"))


async def test_a_file_that_cannot_be_copied_is_not_migrated(tmp_path: Path):
    path = old_file(tmp_path)
    copy = copy_of_version(path, LATEST - 1)
    copy.mkdir()
    async with store_in(tmp_path) as store:
        with pytest.raises(StoreError, match="APFLOW_MIGRATION_COPY"):
            await store.get(["old"])
        copy.rmdir()
        assert set(await store.get(["old"])) == {"old"}
    assert version_of(copy) == (LATEST - 1, ["old"])
    assert not list(tmp_path.glob("*partial*"))
