"""The journal: what it acknowledges is in the database later, whatever happens in between."""

import asyncio
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import duckdb
import pytest

from apflow.core.errors import StoreDamagedError, StoreError
from apflow.core.model.task import Task
from apflow.core.store.base import TaskQuery
from apflow.storage.duckdb import DuckDBStore, application, writer
from apflow.storage.duckdb.journal import Journal, journal_of
from apflow.testing.building import a_move, a_task, a_tree

CRASH = """
import asyncio, os, signal, sys
from apflow.storage.duckdb import DuckDBStore, application, writer
from apflow.testing.building import a_move, a_task

writer.COMMITS_BEFORE_JOURNAL = 0
application.GATHER_SECONDS = float(sys.argv[2])

async def main():
    store = DuckDBStore(sys.argv[1])
    for number in range(int(sys.argv[3])):
        await store.add([a_task(f"t{number}")])
        await store.move([a_move(f"t{number}", "pending", "in_progress", root_id=f"t{number}")])
        print(number, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main())
"""
NEVER = 3600.0  # seconds


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the first commit go to the journal, and records wait until they are needed."""
    monkeypatch.setattr(writer, "COMMITS_BEFORE_JOURNAL", 0)
    monkeypatch.setattr(application, "GATHER_SECONDS", NEVER)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "tasks.duckdb"


@pytest.fixture
async def store(file: Path) -> AsyncIterator[DuckDBStore]:
    store = DuckDBStore(f"duckdb:///{file}")
    yield store
    await store.close()


def crash(file: Path, count: int = 10, gather: float = NEVER) -> None:
    """Run a process that stores tasks and is killed: only the journal has them."""
    done = subprocess.run(
        [sys.executable, "-c", CRASH, f"duckdb:///{file}", str(gather), str(count)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert done.stdout.split() == [str(number) for number in range(count)]


def rows_of(file: Path) -> int:
    with duckdb.connect(str(file), read_only=True) as connection:
        [[count]] = connection.execute("SELECT count(*) FROM apflow_tasks").fetchall()
    return count


async def statuses(file: Path) -> dict[str, str]:
    store = DuckDBStore(f"duckdb:///{file}")
    try:
        found = await store.get([f"t{number}" for number in range(10)])
        return {task.id: str(task.status) for task in found.values()}
    finally:
        await store.close()


STARTED = {f"t{number}": "in_progress" for number in range(10)}


async def test_what_was_acknowledged_is_there_after_a_crash(file: Path):
    crash(file)
    assert journal_of(file).exists()
    shutil.copy(file, copy := file.with_name("copy"))
    shutil.copy(f"{file}.wal", f"{copy}.wal")
    assert rows_of(copy) == 0
    assert await statuses(file) == STARTED


async def test_a_clean_close_leaves_no_journal(store: DuckDBStore, file: Path):
    await store.add([a_task("t")])
    assert journal_of(file).exists()
    await store.close()
    assert sorted(each.name for each in file.parent.iterdir()) == [file.name, f"{file.name}.lock"]
    assert rows_of(file) == 1


async def test_reads_see_what_was_acknowledged_before_them(store: DuckDBStore):
    await store.add(a_tree("r", "a", "b"))
    assert set(await store.get(["a"])) == {"a"}
    await store.move([a_move("a", "pending", "in_progress")])
    assert str((await store.get(["a"]))["a"].status) == "in_progress"
    assert [event.sequence for event in await store.events("r")] == [1, 2, 3, 4]


def plain(task: Task) -> dict[str, Any]:
    return {name: getattr(task, name) for name in task.__slots__}


async def test_a_tree_that_only_the_journal_has_is_read_from_there(store: DuckDBStore):
    await store.add(a_tree("r", "a", "b"))
    await store.move([a_move("a", "pending", "in_progress")])
    waiting = await store.tree("r")
    assert store._writer.application.figures()[0] == 2  # nothing was applied for it
    await store.checkpoint()
    assert store._writer.application.figures()[0] == 0
    assert [plain(task) for task in waiting] == [plain(task) for task in await store.tree("r")]


async def test_a_removed_task_is_gone_and_its_id_can_be_used_again(store: DuckDBStore):
    await store.add([a_task("t")])
    await store.remove(["t"])
    await store.add([a_task("t", name="again")])
    await store.get([])
    await store.remove(["t"])
    await store.add([a_task("t", name="and again")])
    assert (await store.get(["t"]))["t"].name == "and again"
    assert [event.sequence for event in await store.events("t")] == [1]


async def test_a_backup_has_everything_and_needs_no_journal(store: DuckDBStore, file: Path, tmp_path: Path):
    await store.add([a_task("t0")])
    await store.backup(copy := tmp_path / "copy.duckdb")
    assert await statuses(copy) == {"t0": "pending"}
    await store.add([a_task("t1")])
    await store.vacuum()
    await store.add([a_task("t2")])
    await store.close()
    assert set(await statuses(file)) == {"t0", "t1", "t2"}


async def test_a_journal_that_is_deleted_while_it_is_open_loses_nothing(store: DuckDBStore, file: Path):
    await store.add([a_task("t0")])
    for each in (journal_of(file), Path(f"{journal_of(file)}-wal")):
        each.unlink()
    await store.add([a_task("t1")])
    assert journal_of(file).exists()
    await store.close()
    assert set(await statuses(file)) == {"t0", "t1"}


def lose(file: Path) -> None:
    journal_of(file).unlink()


def lose_the_log(file: Path) -> None:
    Path(f"{journal_of(file)}-wal").unlink()


def take_another(file: Path) -> None:
    crash(other := file.with_name("other.duckdb"))
    for end in ("", "-wal"):
        Path(f"{journal_of(other)}{end}").replace(f"{journal_of(file)}{end}")


def be_older(file: Path) -> None:
    """Put a copy of the database in its place that was made before the journal deleted records."""
    change(file, "DELETE FROM records WHERE number < 5")


def have_an_older_journal(file: Path) -> None:
    with duckdb.connect(str(file)) as connection:
        connection.execute("UPDATE apflow_journal SET applied = 1000")


def be_changed(file: Path) -> None:
    change(file, "UPDATE records SET body = CAST(body || x'20' AS BLOB) WHERE number = 7")


def have_a_gap(file: Path) -> None:
    change(file, "DELETE FROM records WHERE number = 7")


def be_cut(file: Path) -> None:
    settle(file)
    path = journal_of(file)
    os.truncate(path, path.stat().st_size // 2)


def be_text(file: Path) -> None:
    settle(file)
    journal_of(file).write_text("no journal " * 1000)


def change(file: Path, statement: str) -> None:
    with closing(sqlite3.connect(journal_of(file), isolation_level=None)) as connection:
        connection.execute(statement)
    Path(f"{journal_of(file)}-wal").touch()  # everything is in the first file now


def settle(file: Path) -> None:
    """Put everything into the first file of the journal."""
    change(file, "UPDATE journal SET is_closed = 1")


BROKEN: dict[Callable[[Path], None], str] = {
    lose: "its journal .* is missing",
    lose_the_log: "its write-ahead log .* is missing",
    take_another: "belongs to another database",
    be_older: "record 1 is missing",
    have_an_older_journal: "the journal is older than the database",
    be_changed: "record 7 has a wrong checksum",
    have_a_gap: "record 7 is missing",
    be_cut: "malformed|not a database",
    be_text: "not a database",
}


@pytest.mark.parametrize(("break_it", "why"), BROKEN.items(), ids=[each.__name__ for each in BROKEN])
async def test_what_does_not_belong_together_is_refused_and_can_be_discarded(
    break_it: Callable[[Path], None], why: str, file: Path
):
    crash(file)
    break_it(file)
    for _ in range(2):
        with pytest.raises(StoreDamagedError, match=why) as caught:
            await statuses(file)
        assert "apflow db discard-journal" in str(caught.value)
    store = DuckDBStore(f"duckdb:///{file}")
    kept = await store.discard_journal()
    assert await store.get(["t0"]) == {}
    await store.close()
    assert (kept is not None and kept.exists()) is (break_it is not lose)
    assert not journal_of(file).exists()
    assert await statuses(file) == {}


async def test_a_database_that_is_copied_with_its_journal_goes_on(file: Path, tmp_path: Path):
    crash(file)
    (tmp_path / "there").mkdir()
    for end in ("", ".wal", ".journal", ".journal-wal"):
        shutil.copy(f"{file}{end}", tmp_path / "there" / f"{file.name}{end}")
    assert await statuses(tmp_path / "there" / file.name) == STARTED


async def test_an_empty_journal_that_no_database_names_is_removed(file: Path):
    await statuses(file)
    Journal.create(journal_of(file)).close()
    assert await statuses(file) == {}
    assert not journal_of(file).exists()


async def test_what_the_journal_does_not_take_is_not_acknowledged(
    store: DuckDBStore, file: Path, monkeypatch: pytest.MonkeyPatch
):
    await store.add([a_task("t0")])
    journal = store._writer._journal
    assert journal is not None
    journal._connection.execute("PRAGMA max_page_count = 1")
    with pytest.raises(StoreError, match=r"No space left|full"):
        await store.add([a_task("t1", name="x" * 10_000)])
    journal._connection.execute("PRAGMA max_page_count = 1000000")
    await store.add([a_task("t2")])
    await store.close()
    assert set(await statuses(file)) == {"t0", "t2"}


async def test_changes_beside_each_other_end_as_if_one_followed_the_other(file: Path):
    store = DuckDBStore(f"duckdb:///{file}")
    application.GATHER_SECONDS = 0.0

    async def one(number: int) -> None:
        await store.add(a_tree(f"r{number}", f"a{number}"))
        for before, after in (("pending", "in_progress"), ("in_progress", "completed")):
            [moved] = await store.move([a_move(f"a{number}", before, after, root_id=f"r{number}")])
            assert moved is not None
        assert len(await store.events(f"r{number}")) == 4

    await asyncio.gather(*(one(number) for number in range(50)))
    await store.close()
    assert rows_of(file) == 100


FORK = """
import asyncio, gc, os, signal, sys
from apflow.storage.duckdb import DuckDBStore, application, writer
from apflow.testing.building import a_task

writer.COMMITS_BEFORE_JOURNAL, application.GATHER_SECONDS = 0, 3600.0
store = DuckDBStore(sys.argv[1])
asyncio.run(store.add([a_task("t0")]))
if not os.fork():
    del store
    gc.collect()
    sys.exit()
os.wait()
asyncio.run(store.add([a_task("t1")]))
os.kill(os.getpid(), signal.SIGKILL)
"""


def run(program: str, url: str) -> tuple[int, str]:
    command = [sys.executable, "-W", "ignore", "-c", program, url]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.returncode, done.stderr


async def test_a_forked_process_leaves_the_journal_to_its_parent(file: Path):
    code, errors = await asyncio.to_thread(run, FORK, f"duckdb:///{file}")
    assert code == -signal.SIGKILL, errors
    assert await statuses(file) == {"t0": "pending", "t1": "pending"}


async def test_where_no_journal_can_be_created_the_database_takes_the_changes(store: DuckDBStore, file: Path):
    await store.count(TaskQuery())  # opens the database
    journal_of(file).mkdir()
    (journal_of(file) / "in the way").touch()
    await store.add([a_task("t0")])
    await store.move([a_move("t0", "pending", "in_progress", root_id="t0")])
    assert str((await store.get(["t0"]))["t0"].status) == "in_progress"
    assert [event.sequence for event in await store.events("t0")] == [1, 2]
    shutil.rmtree(journal_of(file))
    await store.add([a_task("t1")])
    assert journal_of(file).is_file()


async def test_a_change_that_is_too_large_for_the_journal_is_stored_with_its_events(store: DuckDBStore):
    await store.add([a_task("t0", inputs={"text": "x" * 300_000})])
    await store.add(a_tree("r", *(f"c{number}" for number in range(300))))
    assert store.journal() == (0, 0)
    assert [len(await store.events(root_id)) for root_id in ("t0", "r")] == [1, 301]


async def test_a_checkpoint_applies_the_journal(store: DuckDBStore, file: Path):
    await store.add([a_task("t0")])
    await store.add([a_task("t1")])
    before = store.journal()
    assert before is not None
    assert (before.records, before.size_bytes > 0) == (2, True)
    records, size = await store.checkpoint()
    assert (records, size > before.size_bytes) == (2, True)
    assert store.journal() == (0, 0)
    assert not file.with_name(f"{file.name}.wal").exists()


async def test_records_are_applied_in_parts_of_limited_size(
    store: DuckDBStore, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(application, "BYTES_TOGETHER", 50_000)
    sizes, write = list[int](), store._writer._writing.write

    def noting(batch: Any) -> Any:
        sizes.append(sum(len(str(each.task.inputs)) for each in batch.added.values()))
        return write(batch)

    monkeypatch.setattr(store._writer._writing, "write", noting)
    for number in range(10):
        await store.add([a_task(f"t{number}", inputs={"text": "x" * 20_000})])
    await store.checkpoint()
    assert len(await store.get([f"t{number}" for number in range(10)])) == 10
    assert max(sizes) < 50_000
    assert len(sizes) == 5
