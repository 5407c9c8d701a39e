"""Exports, imports and backups of 100,000 tasks (`hatch run long tests-integration/test_export_long.py`)."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from exported import everything, exported, fill, rows_of

from apflow.core.store.base import TaskQuery, TaskStore
from apflow.storage.duckdb import DuckDBStore
from apflow.storage.postgres import PostgresStore
from apflow.testing.building import a_task, a_tree

pytestmark = [pytest.mark.long, pytest.mark.timeout(3600)]

TREES = 1000
CHILDREN = 99
MAX_MEMORY_KB = 700_000  # of an import or export, of which DuckDB may use 512 MB


async def fill_largely(db: TaskStore) -> None:
    """Write 100,000 tasks, some of them with events, attempts, logs and large values."""
    await fill(db, 400, large=200_000)
    for n in range(TREES - 12):
        tree = a_tree(f"t{n}", *(f"t{n}.{child}" for child in range(CHILDREN)))
        for each in tree:
            each.inputs = {"n": n, "text": "x" * 200}
        await db.add(tree)


# Linux counts what a process held before `exec`, which is the memory of its parent. This parent is small.
MEASURED = """
import resource, subprocess, sys
done = subprocess.run(sys.argv[1:])
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(done.returncode)
"""


def run(folder: Path, url: str, *arguments: str) -> int:
    """Run a command, print its time and memory, and return its maximum memory in KB."""
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, sys.executable, "-m", "apflow.cli", *arguments], cwd=folder,
        env={**os.environ, "APFLOW_DATABASE_URL": url}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    used = int(done.stdout.split()[-1])
    print(f"{arguments}: {time.monotonic() - began:.1f} s, at most {used / 1024:.0f} MB")
    return used


def kill_in_the_middle(folder: Path, url: str, is_time: Callable[[int], bool], *arguments: str) -> None:
    """Start a command, and kill it as soon as `is_time` returns true for its process id."""
    process = subprocess.Popen(
        [sys.executable, "-m", "apflow.cli", *arguments], cwd=folder,
        env={**os.environ, "APFLOW_DATABASE_URL": url}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    while not is_time(process.pid):
        assert process.poll() is None, f"{arguments} ended too early"
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL


def has_written(folder: Path, name: str) -> Callable[[int], bool]:
    """Return whether a part of a new file has been written."""
    return lambda _: any(each.stat().st_size > 1 << 20 for each in folder.glob(f"{name}.partial-*"))


def has_read(file: Path, part: float) -> Callable[[int], bool]:
    """Return whether a process has read this part of a file."""

    def is_time(pid: int) -> bool:
        with suppress(FileNotFoundError):
            for opened in Path(f"/proc/{pid}/fd").iterdir():
                if opened.readlink() == file:
                    position = Path(f"/proc/{pid}/fdinfo/{opened.name}").read_text().split()[1]
                    return int(position) > part * file.stat().st_size
        return False

    return is_time


async def test_a_hundred_thousand_tasks_are_equal_row_by_row(tmp_path: Path, postgres_url: str):
    first_url, back_url = (f"duckdb:///{tmp_path / name}" for name in ("one.duckdb", "back.duckdb"))
    async with DuckDBStore(first_url) as first:
        await fill_largely(first)
        assert sum((await first.count(TaskQuery())).values()) == 100_000
        before = await everything(first)
    kill_in_the_middle(tmp_path, first_url, has_written(tmp_path, "all.jsonl"), "db", "export", "all.jsonl")
    assert not (tmp_path / "all.jsonl").exists()
    assert run(tmp_path, first_url, "db", "export", "all.jsonl") < MAX_MEMORY_KB
    for part in (0.4, 0.8):
        when = has_read(tmp_path / "all.jsonl", part)
        kill_in_the_middle(tmp_path, postgres_url, when, "db", "import", "all.jsonl")
        async with PostgresStore(postgres_url) as second:
            assert await second.count(TaskQuery()) == {}
    assert run(tmp_path, postgres_url, "db", "import", "all.jsonl") < MAX_MEMORY_KB
    async with PostgresStore(postgres_url) as second:
        assert await everything(second) == before
    assert run(tmp_path, postgres_url, "db", "export", "back.jsonl") < MAX_MEMORY_KB
    for part in (0.4, 0.8):
        when = has_read(tmp_path / "back.jsonl", part)
        kill_in_the_middle(tmp_path, back_url, when, "db", "import", "back.jsonl")
        async with DuckDBStore(back_url) as third:
            assert await third.count(TaskQuery()) == {}
    assert run(tmp_path, back_url, "db", "import", "back.jsonl") < MAX_MEMORY_KB
    async with DuckDBStore(back_url) as third:
        assert await everything(third) == before
        assert sorted(rows_of(await exported(third))) == sorted(
            rows_of((tmp_path / "all.jsonl").read_bytes())
        )


async def test_a_large_database_is_copied_under_load(tmp_path: Path):
    async with DuckDBStore(f"duckdb:///{tmp_path / 'one.duckdb'}") as store:
        await fill_largely(store)
        number, slowest, is_over = 0, 0.0, False

        async def write() -> None:
            nonlocal number, slowest
            while not is_over:
                began = time.monotonic()
                number += 1
                await store.add(
                    [a_task(f"w{number}"), *(a_task(f"w{number}.{n}", f"w{number}") for n in range(9))]
                )
                slowest = max(slowest, time.monotonic() - began)

        writing = asyncio.create_task(write())
        began = time.monotonic()
        await store.backup(tmp_path / "copy.duckdb")
        print(f"copied in {time.monotonic() - began:.1f} s; {number} changes, the slowest {slowest:.2f} s")
        is_over = True
        await writing
        assert number > 1
    async with DuckDBStore(f"duckdb:///{tmp_path / 'copy.duckdb'}") as copy:
        found = await everything(copy)
        written = [tree for name, tree in found.items() if name.startswith("w")]
        assert all(len(each["tasks"]) == len(each["events"]) == 10 for each in written)
        assert len(found) - len(written) == 400 + TREES - 12 + 2  # with the records and the usage
