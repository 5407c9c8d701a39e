"""Rows about a file that is opened again, and about one with many tasks in it."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
from collections.abc import Generator
from contextlib import closing, contextmanager
from pathlib import Path
from time import perf_counter

from apflow.core import TaskCreator, create_session
from apflow.core.store.base import TaskQuery, TaskStore
from apflow.storage.duckdb.database import Database
from benchmarks import trees
from benchmarks.files import fresh_store
from benchmarks.keeping import timed
from benchmarks.line import Line
from benchmarks.running import create_and_run

SIZE = 999  # tasks below the root of each tree
MAX_LOG_BYTES, OPEN_WITHIN = 20.0, 1.0  # MB, seconds: what is asked for
LIST_WITHIN = 20.0  # ms, likewise
CREATED = 99  # tasks below the root of a tree that is created beside many


@contextmanager
def folder() -> Generator[Path]:
    """Yield a directory that is removed afterwards."""
    with tempfile.TemporaryDirectory(prefix="apflow-benchmark-") as path:
        yield Path(path)


def reopening(count: int) -> list[Line]:
    """Measure a file that is opened a second time, worked on, and left by a process that is killed."""
    with folder() as path:
        file = path / "benchmark.duckdb"
        for trees_to_run in (1, count):
            command = [sys.executable, "-m", "benchmarks.reopening", str(file), str(trees_to_run)]
            done = subprocess.run(command, check=False, stdout=subprocess.PIPE, text=True)
            assert done.returncode == (0 if trees_to_run == 1 else 9), done.returncode
        largest, early, late = map(float, done.stdout.split())
        opening = asyncio.run(_open(file))
    tasks = max(1, count // 5) * (SIZE + 1)
    about = f"{count} trees of {SIZE + 1:,} tasks on a file opened before"
    return [
        Line("reopen_wal", largest, MAX_LOG_BYTES, "MB", f"largest log of {about}; floor: what is asked for"),
        Line("reopen_trees", tasks / late, tasks / early, "tasks/s", f"last fifth of {about}; floor: first"),
        Line("reopen_open", opening, OPEN_WITHIN, "s", "opening it after kill -9; floor: what is asked for"),
    ]


async def _open(file: Path) -> float:
    begin = perf_counter()
    async with create_session(f"duckdb:///{file}") as store:
        await store.get(["opens the file"])
        return perf_counter() - begin


async def work(file: Path, count: int) -> None:
    """Run trees; print the size of the largest log, and the seconds of the first and the last fifth."""
    log, largest, times = file.with_name(f"{file.name}.wal"), 0, list[float]()
    async with create_session(f"duckdb:///{file}") as store:
        for _ in range(count):
            times.append(await create_and_run(store, trees.fan_out(SIZE)))
            largest = max(largest, log.stat().st_size if log.exists() else 0)
        fifth = max(1, count // 5)
        print(largest / 1e6, sum(times[:fifth]), sum(times[-fifth:]), flush=True)
        if count > 1:
            os._exit(9)


def many(count: int) -> list[Line]:
    """Measure creating and listing in a file that has so many finished tasks, and in an empty one."""
    with folder() as path:
        file = path / "benchmark.duckdb"
        return asyncio.run(_among_many(file, count))


async def _among_many(file: Path, count: int) -> list[Line]:
    async with fresh_store() as store:
        empty = await timed(lambda: _create(store), 10)
    await store_ended_trees(file, count)
    async with create_session(f"duckdb:///{file}") as store:
        await _create(store)
        full = await timed(lambda: _create(store), 10)
        newest = TaskQuery(root_only=True, order="-created_at", limit=100)
        listing = await timed(lambda: store.find(newest), 10)
    beside = f"beside {count:,} finished tasks"
    about = f"a tree of {CREATED + 1} {beside}; floor: in an empty file, of which 1.5 times is asked for"
    return [
        Line(f"create_beside_{count}", full * 1000, empty * 1000, "ms", about),
        Line(
            f"list_beside_{count}",
            listing * 1000,
            LIST_WITHIN,
            "ms",
            f"the newest 100 roots {beside}; floor: what is asked for",
        ),
    ]


async def store_ended_trees(file: Path, count: int) -> None:
    """Store so many finished tasks in a new file, in trees of `SIZE` tasks and a root."""
    async with create_session(f"duckdb:///{file}") as store:
        await create_and_run(store, trees.group(SIZE))
    _multiply(file, count // (SIZE + 1))


async def _create(store: TaskStore) -> None:
    await TaskCreator(store).create_task_tree_from_array(trees.group(CREATED))


def _multiply(file: Path, copies: int) -> None:
    """Store copies of the tree in a file, each with new ids and a minute later than the one before."""
    other = {
        "id": "id || '-' || n",
        "root_id": "root_id || '-' || n",
        "parent_id": "parent_id || '-' || n",
        "row_number": "row_number + n * 10000",
        "created_at": "created_at + n * INTERVAL 1 MINUTE",
    }
    database = Database(f"duckdb:///{file}", file, "2GB")  # which writes row groups of the size of the store
    with closing(database), database.cursor() as connection:
        names = [
            row[0]
            for row in connection.execute("SELECT name FROM pragma_table_info('apflow_tasks')").fetchall()
        ]
        selected = ", ".join(other.get(name, f'"{name}"') for name in names)
        for start in range(1, copies, 100):  # in parts, which need less memory
            end = min(start + 100, copies)
            connection.execute(
                f"INSERT INTO apflow_tasks SELECT {selected} FROM "
                "(SELECT * FROM apflow_tasks WHERE row_number <= 1000) "
                f"JOIN range({start}, {end}) AS r(n) ON true"
            )
            connection.execute(
                "INSERT INTO apflow_events SELECT root_id || '-' || n, * EXCLUDE (root_id, n) FROM "
                "(SELECT * FROM apflow_events WHERE length(root_id) = 36) "
                f"JOIN range({start}, {end}) AS r(n) ON true"
            )


if __name__ == "__main__":
    asyncio.run(work(Path(sys.argv[1]), int(sys.argv[2])))
