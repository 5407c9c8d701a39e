"""The write-ahead log stays bounded, whatever reads beside it."""

import asyncio
import os
import threading
from pathlib import Path

import pytest

from apflow.core.store.base import TaskQuery
from apflow.storage.duckdb import DuckDBStore, database
from apflow.testing.building import a_move, a_task, a_tree

MAX_LOG_BYTES = 300_000
RESULT_BYTES = 20_000


@pytest.fixture(autouse=True)
def small_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "MAX_LOG_BYTES", MAX_LOG_BYTES)
    monkeypatch.setattr(database, "CHECKPOINT_THRESHOLD", "100KB")


class ConstantReads:
    """Two threads, of which one has a transaction open at every moment, if the store lets the other begin."""

    def __init__(self, store: DuckDBStore) -> None:
        self._store = store
        self._is_over = False
        self._has_begun = (threading.Event(), threading.Event())
        self._threads = [threading.Thread(target=self._read, args=(number,)) for number in range(2)]

    def __enter__(self) -> None:
        for thread in self._threads:
            thread.start()

    def __exit__(self, *_: object) -> None:
        self._is_over = True
        for thread in self._threads:
            thread.join()

    def _read(self, number: int) -> None:
        while not self._is_over:
            with self._store._database.cursor() as cursor:
                cursor.begin()
                cursor.execute("SELECT count(*) FROM apflow_tasks").fetchall()
                self._has_begun[number].set()
                self._has_begun[1 - number].wait(timeout=0.1)
                self._has_begun[1 - number].clear()
                cursor.commit()


async def change(store: DuckDBStore, name: str) -> None:
    result = os.urandom(RESULT_BYTES // 2).hex()
    await store.move([a_move(name, "pending", "in_progress")])
    await store.move([a_move(name, "in_progress", "completed", sets={"result": result})])


async def test_constant_reads_do_not_keep_the_log_from_a_checkpoint(tmp_path: Path):
    store = DuckDBStore(f"duckdb:///{tmp_path / 'tasks.duckdb'}")
    names = [f"t{number}" for number in range(60)]
    await store.add(a_tree("r", *names))
    log = tmp_path / "tasks.duckdb.wal"
    largest = 0
    with ConstantReads(store):
        for name in names:
            await change(store, name)
            largest = max(largest, log.stat().st_size if log.exists() else 0)
    await store.close()
    assert largest < MAX_LOG_BYTES + 4 * RESULT_BYTES


async def test_checkpoints_do_not_divide_the_tables_into_ever_more_row_groups(tmp_path: Path):
    store = DuckDBStore(f"duckdb:///{tmp_path / 'tasks.duckdb'}")
    log = tmp_path / "tasks.duckdb.wal"
    tasks = 2000  # which is a quarter of a row group
    for _ in range(8 * database.MERGE_EVERY):
        added = [a_task(os.urandom(8).hex()) for _ in range(tasks - 1)]
        await store.add([*added, a_task(os.urandom(8).hex(), inputs={"text": os.urandom(100_000).hex()})])
        assert not log.exists()  # a checkpoint was written
    with store._database.cursor() as cursor:
        groups = {
            table: cursor.execute(
                f"SELECT max(row_group_id) + 1 FROM pragma_storage_info('{table}')"
            ).fetchone()
            for table in ("apflow_tasks", "apflow_events", "apflow_values")
        }
    await store.close()
    full = 8 * database.MERGE_EVERY * tasks / database.ROW_GROUP_SIZE
    assert max(found[0] or 0 for found in groups.values() if found) < full + 2 * database.MERGE_EVERY, groups


async def test_a_read_that_takes_long_holds_up_neither_changes_nor_other_reads_for_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(database, "READS_SECONDS", 0.05)
    store = DuckDBStore(f"duckdb:///{tmp_path / 'tasks.duckdb'}")
    names = [f"t{number}" for number in range(40)]
    await store.add(a_tree("r", *names))
    log = tmp_path / "tasks.duckdb.wal"
    with store._database.cursor() as cursor:
        cursor.begin()
        cursor.execute("SELECT count(*) FROM apflow_tasks").fetchall()
        async with asyncio.timeout(30):
            for name in names:
                await change(store, name)
                assert len(await store.tree("r")) == len(names) + 1
        assert log.stat().st_size > MAX_LOG_BYTES
        cursor.commit()
    monkeypatch.setattr(database, "CHECKPOINT_SECONDS", 0.0)
    monkeypatch.setattr(store._database, "_next_checkpoint", 0.0)
    await store.add([a_task("s")])
    await store.count(TaskQuery())  # waits until the database has what is in the journal
    assert not log.exists() or log.stat().st_size < MAX_LOG_BYTES
    await store.close()
