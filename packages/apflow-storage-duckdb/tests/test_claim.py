"""Who may have the database file open, what is noticed of changes behind its back, and what errors say."""

import os
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import duckdb
import pytest

from apflow.core.errors import (
    StoreDamagedError,
    StoreError,
    StoreLockedError,
)
from apflow.core.store import Record, TaskQuery
from apflow.storage.duckdb import DuckDBStore
from apflow.storage.duckdb.failure import as_store_error
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
    write_some(other, is_clean=True)
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
    command = [sys.executable, "-c", program, url_of(tmp_path / "tasks.duckdb")]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    # The child never destroys the connection, and the binding of DuckDB reports that as a leak.
    assert (ended.returncode, ended.stderr.partition("nanobind: leaked")[0]) == (0, "")


async def test_a_checkpoint_succeeds_on_a_file_that_was_opened_again(tmp_path: Path):
    """No operation leaves a transaction open, which would let the write-ahead log grow without end."""
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


def write_some(path: Path, *, is_clean: bool) -> None:
    """Write a database in a process that closes it, or that leaves a write-ahead log."""
    end = "asyncio.run(store.close())" if is_clean else "os._exit(0)"
    program = (
        "import asyncio, os, sys\nfrom apflow.storage.duckdb import DuckDBStore\n"
        "from apflow.testing.building import a_tree\nstore = DuckDBStore(sys.argv[1])\n"
        "asyncio.run(store.add(a_tree('r', *(f'{n}' for n in range(2000)))))\n"
        f"asyncio.run(store.add(a_tree('s', 'after')))\n{end}\n"
    )
    subprocess.run([sys.executable, "-c", program, url_of(path)], check=True, timeout=60)


def overwrite(path: Path, start: int, length: int = 64) -> None:
    data = bytearray(path.read_bytes())
    data[start : start + length] = b"\xa5" * length
    path.write_bytes(bytes(data))


async def open_it(path: Path) -> None:
    store = DuckDBStore(url_of(path))
    try:
        await store.tree("r")
        await store.tree("s")
    finally:
        await store.close()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "first block is damaged"),
        (b"a block of text\n" * 400, "first block is damaged"),
        (b"lock", "is not a valid"),
    ],
)
async def test_what_is_not_a_database_is_said_to_be_so(tmp_path: Path, content: bytes, words: str):
    path = tmp_path / "tasks.duckdb"
    path.write_bytes(content)
    with pytest.raises(StoreDamagedError, match=words):
        await open_it(path)
    assert path.read_bytes() == content


@pytest.mark.parametrize("start", [4096, 12288 + 100, 12288 + 262144 + 100])
async def test_a_damaged_file_is_not_taken_for_one_in_use(tmp_path: Path, start: int):
    path = tmp_path / "tasks.duckdb"
    write_some(path, is_clean=True)
    overwrite(path, start)
    with pytest.raises(StoreDamagedError, match="Corrupt database file") as raised:
        await open_it(path)
    assert "restore a backup" in str(raised.value)


async def test_a_file_that_ends_too_early_is_damaged(tmp_path: Path):
    path = tmp_path / "tasks.duckdb"
    write_some(path, is_clean=True)
    os.truncate(path, 5000)
    with pytest.raises(StoreDamagedError, match="restore a backup"):
        await open_it(path)


async def test_of_a_damaged_log_what_comes_before_the_damage_can_be_kept_as_advised(tmp_path: Path):
    path = tmp_path / "tasks.duckdb"
    write_some(path, is_clean=False)
    log = path.with_name("tasks.duckdb.wal")
    overwrite(log, log.stat().st_size - 100)
    with pytest.raises(StoreDamagedError, match="write-ahead log") as raised:
        await open_it(path)
    command = str(raised.value).partition("`")[2].partition("`")[0]
    assert command == f"truncate -s {command.split()[2]} {log}"
    os.truncate(log, int(command.split()[2]))
    store = DuckDBStore(url_of(path))
    assert len(await store.tree("r")) == 2001
    await store.close()


async def test_a_directory_and_a_place_that_cannot_be_written_are_named(tmp_path: Path):
    (tmp_path / "folder.duckdb").mkdir()
    with pytest.raises(StoreError, match=r"Is a directory.*Check that"):
        await open_it(tmp_path / "folder.duckdb")
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="cannot be created"):
        await open_it(tmp_path / "file" / "tasks.duckdb")


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (
            duckdb.IOException(
                'IO Error: Could not set lock on file "x": Conflicting lock is held in /python3 (PID 42). See'
            ),
            StoreLockedError,
            "process 42",
        ),
        (
            duckdb.IOException(
                "IO Error: Trying to read a database file with version number 99, but we can only"
            ),
            StoreError,
            "Upgrade the package duckdb",
        ),
        (
            duckdb.OutOfMemoryException("Out of Memory Error: could not allocate block"),
            StoreError,
            "memory_limit",
        ),
        (
            duckdb.IOException("IO Error: Could not write to file: No space left on device"),
            StoreError,
            "has space",
        ),
        (duckdb.BinderException("Binder Error: a block and a clock"), StoreError, "a block and a clock"),
    ],
)
def test_each_other_message_has_its_advice(error: duckdb.Error, kind: type[StoreError], words: str):
    read = as_store_error(error, "duckdb:///x", Path("/x"), doing="cannot be opened")
    assert type(read) is kind
    assert words in str(read)
