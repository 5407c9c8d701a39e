"""Who may have the database file open, and what is noticed of changes behind its back."""

import os
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from apflow.core.errors import StoreError, StoreLockedError
from apflow.core.store.base import Record, TaskQuery
from apflow.storage.duckdb import DuckDBStore
from apflow.testing.building import a_task, a_tree

OPEN = """
import asyncio, sys
from apflow.storage.duckdb import DuckDBStore
from apflow.testing.building import a_task
from apflow.core.errors import StoreLockedError

try:
    asyncio.run(DuckDBStore(sys.argv[1]).add([a_task("second")]))
except StoreLockedError as error:
    print("locked by", error.pid)
else:
    print("opened")
"""


def url_of(path: Path) -> str:
    return f"duckdb:///{path}"


def opened_by_another(path: Path) -> str:
    command = [sys.executable, "-c", OPEN, url_of(path)]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.strip()


async def test_copying_the_open_file_does_not_let_a_second_process_open_it(tmp_path: Path):
    path = tmp_path / "tasks.duckdb"
    store = DuckDBStore(url_of(path))
    await store.add([a_task("first")])
    shutil.copy(path, tmp_path / "backup.duckdb")  # closes a descriptor: POSIX record locks are released
    path.read_bytes()
    assert opened_by_another(path) == f"locked by {os.getpid()}"
    await store.close()
    assert opened_by_another(path) == "opened"


async def test_a_hard_link_and_a_symbolic_link_are_the_same_file(tmp_path: Path):
    path = tmp_path / "tasks.duckdb"
    store = DuckDBStore(url_of(path))
    await store.add([a_task("first")])
    (tmp_path / "hard.duckdb").hardlink_to(path)
    (tmp_path / "soft.duckdb").symlink_to(path)
    for name in ("hard.duckdb", "soft.duckdb"):
        with pytest.raises(StoreLockedError):
            await DuckDBStore(url_of(tmp_path / name)).get(["first"])
    path.read_bytes()  # releases the record lock of DuckDB
    for name in ("hard.duckdb", "soft.duckdb"):
        assert opened_by_another(tmp_path / name) == f"locked by {os.getpid()}"
    await store.close()
    other = DuckDBStore(url_of(tmp_path / "hard.duckdb"))
    assert set(await other.get(["first"])) == {"first"}
    await other.close()


def delete(path: Path) -> None:
    path.unlink()


def replace(path: Path) -> None:
    shutil.copy(path, path.with_suffix(".new"))
    path.with_suffix(".new").replace(path)


@pytest.mark.parametrize("change", [delete, replace])
async def test_a_file_that_is_deleted_or_replaced_while_open_takes_no_more_changes(
    tmp_path: Path, change: Callable[[Path], None]
):
    path = tmp_path / "tasks.duckdb"
    store = DuckDBStore(url_of(path))
    await store.add([a_task("kept")])
    moved = tmp_path / "moved"
    moved.hardlink_to(path)
    change(path)
    for _ in range(2):
        with pytest.raises(StoreError, match="deleted or replaced while it was open"):
            await store.add([a_task("lost")])
        with pytest.raises(StoreError, match="deleted or replaced while it was open"):
            await store.put_record("kind", "lost", [1])
    moved.replace(path)
    await store.add([a_task("again")])  # the original file is back
    await store.close()


async def test_another_database_that_is_copied_over_the_open_one_is_left_as_it_is(tmp_path: Path):
    """The file keeps its inode, as when a backup is restored by `cp`; what was put there is not touched."""
    path, other = tmp_path / "tasks.duckdb", tmp_path / "other.duckdb"
    async with DuckDBStore(url_of(other)) as another:
        await another.add(a_tree("r", *map(str, range(200))))
    store = DuckDBStore(url_of(path))
    await store.add([a_task("kept")])
    shutil.copyfile(other, path)
    for _ in range(2):
        with pytest.raises(StoreError, match="deleted or replaced while it was open"):
            await store.add([a_task("lost")])
    await store.close()
    assert path.read_bytes() == other.read_bytes()


async def test_an_older_copy_of_the_open_file_is_noticed(tmp_path: Path):
    path = tmp_path / "tasks.duckdb"
    store = DuckDBStore(url_of(path))
    await store.add([a_task("kept")])
    backup = path.read_bytes()
    with store._database.cursor() as cursor:
        cursor.execute("CHECKPOINT")
    await store.add([a_task("after")])
    path.write_bytes(backup)
    with pytest.raises(StoreError, match="deleted or replaced while it was open"):
        await store.add([a_task("lost")])
    await store.close()
    assert path.read_bytes() == backup


def move(path: Path) -> None:
    path.rename(path.with_suffix(".moved"))


@pytest.mark.parametrize("change", [delete, move, replace])
async def test_changes_outlive_a_write_ahead_log_that_is_deleted_or_replaced(
    tmp_path: Path, change: Callable[[Path], None]
):
    path = tmp_path / "tasks.duckdb"
    store = DuckDBStore(url_of(path))
    await store.add([a_task("before")])
    change(path.with_name("tasks.duckdb.wal"))
    await store.add([a_task("after")])
    await store.put_record("kind", "key", [1])
    shutil.copyfile(path, tmp_path / "crashed.duckdb")
    shutil.copyfile(path.with_name("tasks.duckdb.wal"), tmp_path / "crashed.duckdb.wal")
    await store.close()
    for name in ("tasks.duckdb", "crashed.duckdb"):
        again = DuckDBStore(url_of(tmp_path / name))
        assert set(await again.get(["before", "after"])) == {"before", "after"}
        assert len(await again.records("kind")) == 1
        await again.close()


async def test_checkpoints_and_backups_of_the_open_file_disturb_nothing(tmp_path: Path):
    path = tmp_path / "tasks.duckdb"
    store = DuckDBStore(url_of(path))
    await store.add([a_task("first")])
    with store._database.cursor() as cursor:
        cursor.execute("SET checkpoint_threshold = '20KB'")
    for number in range(40):
        await store.add(a_tree(f"r{number}", *(f"{number}-{each}" for each in range(20))))
        shutil.copy2(path, tmp_path / "backup.duckdb")
        os.utime(path)
    await store.close()


async def test_what_is_not_a_regular_file_is_refused_without_being_opened(tmp_path: Path):
    path = tmp_path / "tasks.duckdb"
    os.mkfifo(path)  # opening it would wait for a writer
    with pytest.raises(StoreError, match="Not a regular file"):
        await DuckDBStore(url_of(path)).get(["r"])
    path.unlink()
    lock = tmp_path / "tasks.duckdb.lock"
    lock.unlink()
    lock.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StoreError, match=r"lock file .* cannot be opened"):
        await DuckDBStore(url_of(path)).get(["r"])
    assert not (tmp_path / "elsewhere").exists()


def test_a_child_that_is_forked_is_refused_at_once_and_the_parent_goes_on(tmp_path: Path):
    """Both a store that was used, and a new one of the same file; the child writes nothing as it ends."""
    program = textwrap.dedent("""
        import asyncio, os, sys, warnings
        from apflow.core import create_session
        from apflow.core.errors import StoreForkedError, StoreLockedError
        from apflow.testing.building import a_task, a_tree

        url = sys.argv[1]
        store = create_session(url)
        asyncio.run(store.add(a_tree("r", "a")))
        asyncio.run(store.get(["r"]))
        child = os.fork()
        if not child:
            calls = [lambda: store.add([a_task("x")]), lambda: store.get(["r"]), lambda: store.events("r"),
                     lambda: store.put_record("k", "x", [1]), lambda: store.records("k")]
            for call in calls:
                try:
                    asyncio.run(asyncio.wait_for(call(), 20))
                except StoreForkedError as error:
                    assert str(error.opened_by) in str(error)
                else:
                    sys.exit(f"{call} was not refused")
            try:
                asyncio.run(create_session(url).get(["r"]))
            except StoreLockedError as error:
                assert error.pid == os.getppid(), error
            else:
                sys.exit("the file was opened twice")
            other = create_session(url.replace("tasks", "other"))
            asyncio.run(other.add([a_task("own")]))
            sys.exit(0)  # with everything that the interpreter does at its end
        _, status = os.waitpid(child, 0)
        assert status == 0, status
        asyncio.run(store.add([a_task("after")]))
        asyncio.run(store.close())
        kept = asyncio.run(create_session(url).get(["r", "a", "after"]))
        assert set(kept) == {"r", "a", "after"}
    """)
    # Python 3.12 and newer warn of each fork of a process with threads.
    quiet = ["-W", "ignore:This process:DeprecationWarning"]
    command = [sys.executable, *quiet, "-c", program, url_of(tmp_path / "tasks.duckdb")]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    # The child never destroys the connection, and the binding of DuckDB reports that as a leak.
    assert (ended.returncode, ended.stderr.partition("nanobind: leaked")[0]) == (0, "")


async def test_a_checkpoint_succeeds_on_a_file_that_was_opened_again(tmp_path: Path):
    """No operation leaves a transaction open: with one open, the write-ahead log grows without limit."""
    path = tmp_path / "tasks.duckdb"
    store = DuckDBStore(url_of(path))
    await store.add(a_tree("r", "a", "b"))
    await store.put_record("kind", "key", [1])
    await store.close()
    store = DuckDBStore(url_of(path))
    await store.put_record("kind", "other", [1])
    await store.get(["r", "a"])
    await store.tree("r")
    await store.find(TaskQuery(limit=1))
    await store.count(TaskQuery())
    await store.events("r")
    assert [type(each) for each in await store.records("kind")] == [Record] * 2
    with store._database.cursor() as cursor:
        cursor.execute("SET checkpoint_threshold = '64KB'")
    log = path.with_name("tasks.duckdb.wal")
    largest = 0
    for number in range(60):
        await store.add(a_tree(f"r{number}", *(f"{number}-{each}" for each in range(100))))
        largest = max(largest, log.stat().st_size if log.exists() else 0)
    assert largest < 1_000_000
    await store.close()
