"""The file: where it is, who may read it, who holds it, and which versions of it can be opened."""

import asyncio
import gc
import os
import random
import stat
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import duckdb
import pytest

from apflow.core.errors import InvalidInputError, StoreError, StoreLockedError, StoreVersionError
from apflow.core.settings import Settings
from apflow.core.store.base import Change, Record, TaskQuery
from apflow.storage.duckdb import DuckDBStore, create_store, database
from apflow.storage.duckdb.database import migrate
from apflow.storage.duckdb.large_values import VALUES
from apflow.storage.duckdb.statements import MAX_LISTED
from apflow.storage.sql.migrations import LATEST
from apflow.storage.sql.tables import metadata
from apflow.testing.building import a_move, a_task, a_tree

HOLD = """
import asyncio, sys
from apflow.storage.duckdb import DuckDBStore
from apflow.testing.building import a_task

store = DuckDBStore(sys.argv[1])
asyncio.run(store.add([a_task("kept")]))
asyncio.run(store.put_record("kind", "kept", [1]))
print("held", flush=True)
sys.stdin.readline()
"""


def url_of(path: Path) -> str:
    return f"duckdb:///{path}"


def test_nothing_is_opened_before_the_first_operation(tmp_path: Path):
    store = DuckDBStore(url_of(tmp_path / "new" / "tasks.duckdb"))
    assert not (tmp_path / "new").exists()
    asyncio.run(store.close())
    assert not (tmp_path / "new").exists()


def test_a_relative_path_is_relative_to_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    store = create_store("duckdb:///tasks.duckdb", Settings())
    assert store.url == f"duckdb:///{tmp_path}/tasks.duckdb"
    assert store.url == create_store(store.url, Settings()).url
    assert store.file == tmp_path / "tasks.duckdb"
    assert create_store("duckdb:///:memory:", Settings()).file is None


@pytest.mark.parametrize("url", ["duckdb:tasks", "duckdb://tasks.duckdb", "sqlite:///x"])
def test_other_forms_of_url_are_refused_with_the_right_ones(url: str):
    with pytest.raises(InvalidInputError, match=r"duckdb:///file\.duckdb"):
        DuckDBStore(url)


async def test_the_file_and_its_log_are_for_their_owner_alone(tmp_path: Path):
    before = os.umask(0o022)
    try:
        store = DuckDBStore(url_of(tmp_path / "new" / "tasks.duckdb"))
        await store.add([a_task("r")])
    finally:
        os.umask(before)
    kept = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "new").iterdir()}
    names = ("tasks.duckdb", "tasks.duckdb.lock", "tasks.duckdb.server", "tasks.duckdb.wal")
    assert kept == dict.fromkeys([*names, *(each for each in kept if each == "tasks.duckdb.sock")], 0o600)
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o700
    await store.close()


async def test_a_file_that_another_process_holds_names_that_process_and_what_it_wrote_survives_it(
    tmp_path: Path,
):
    url = url_of(tmp_path / "tasks.duckdb")
    with subprocess.Popen(  # noqa: ASYNC220  the other process starts once, and is waited for
        [sys.executable, "-c", HOLD, url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        store = DuckDBStore(url)
        for operation in (store.get(["kept"]), store.add([a_task("mine")])):
            with pytest.raises(StoreLockedError) as caught:
                await operation
            assert caught.value.pid == holder.pid
            assert str(holder.pid) in str(caught.value)
        holder.kill()
    assert list(await store.get(["kept", "mine"])) == ["kept"]
    assert await store.records("kind") == [Record("kind", "kept", [1], 1)]
    await store.close()


SERVE = HOLD.replace(
    'print("held", flush=True)\nsys.stdin.readline()',
    """from apflow.core.process.server_file import describe_this_server, published
with published(describe_this_server(store.file, "http://127.0.0.1:8000", needs_token=sys.argv[2] == "yes")):
    print("held", flush=True)
    sys.stdin.readline()""",
)


@pytest.mark.parametrize("needs_token", ["yes", "no"])
def test_a_file_that_a_server_holds_tells_where_that_is(tmp_path: Path, needs_token: str):
    url = url_of(tmp_path / "tasks.duckdb")
    with subprocess.Popen(
        [sys.executable, "-c", SERVE, url, needs_token],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(StoreLockedError) as caught:
            asyncio.run(DuckDBStore(url).get(["kept"]))
        assert (caught.value.pid, caught.value.url) == (holder.pid, "http://127.0.0.1:8000")
        assert caught.value.needs_token is (needs_token == "yes")
        assert "--server http://127.0.0.1:8000" in str(caught.value)
        assert ("APFLOW_API_TOKEN" in str(caught.value)) is (needs_token == "yes")
        holder.communicate("\n", timeout=30)


async def test_two_stores_of_one_process_cannot_write_one_file(tmp_path: Path):
    url = url_of(tmp_path / "tasks.duckdb")
    store, other = DuckDBStore(url), DuckDBStore(url)
    await store.add([a_task("r")])
    with pytest.raises(StoreLockedError) as caught:
        await other.add([a_task("s")])
    assert caught.value.pid == os.getpid()
    await store.close()
    await other.add([a_task("s")])
    assert list(await other.get(["r", "s"])) == ["r", "s"]
    await other.close()


async def test_a_file_that_is_no_database_is_refused(tmp_path: Path):
    path = tmp_path / "tasks.duckdb"
    path.write_text("nothing of the kind " * 1000)
    with pytest.raises(StoreError, match="cannot be opened"):
        await DuckDBStore(url_of(path)).tree("r")


async def test_a_newer_file_is_refused_and_left_alone(tmp_path: Path):
    path = tmp_path / "tasks.duckdb"
    with duckdb.connect(str(path)) as connection:
        migrate(connection, "")
        connection.execute("INSERT INTO apflow_schema VALUES (99, now()::TIMESTAMP)")
    with pytest.raises(StoreVersionError) as caught:
        await DuckDBStore(url_of(path)).count(TaskQuery())
    assert (caught.value.found, caught.value.known) == (99, LATEST)


@pytest.mark.parametrize("version", range(LATEST + 1))
async def test_a_file_of_each_earlier_version_becomes_one_of_the_newest(tmp_path: Path, version: int):
    path = tmp_path / "tasks.duckdb"
    with duckdb.connect(str(path)) as connection:
        migrate(connection, "", version)
        if version:
            connection.execute("INSERT INTO apflow_events VALUES ('old', 1, 1, now()::TIMESTAMP, '[]')")
    store = DuckDBStore(url_of(path))
    await store.add(a_tree("r", "a"))
    assert len(await store.tree("r")) == 2
    assert await store.put_record("kind", "key", {"a": 1}) == Record("kind", "key", {"a": 1}, 1)
    await store.close()
    with duckdb.connect(str(path)) as connection:
        found = connection.execute(
            "SELECT table_name, column_name FROM information_schema.columns"
        ).fetchall()
        versions = connection.execute("SELECT version FROM apflow_schema ORDER BY 1").fetchall()
        kept = connection.execute("SELECT count(*) FROM apflow_events WHERE root_id = 'old'").fetchone()
    declared = {(table.name, column.name) for table in metadata.tables.values() for column in table.columns}
    declared |= {(VALUES, name) for name in ("number", "part", "body")}
    declared |= {("apflow_journal", name) for name in ("identity", "applied", "is_open")}
    assert set(found) == declared
    assert versions == [(each,) for each in range(1, LATEST + 1)]
    assert kept == (1 if version else 0,)


async def test_the_memory_limit_is_the_one_that_was_set(tmp_path: Path):
    store = create_store(url_of(tmp_path / "tasks.duckdb"), Settings(duckdb_memory_limit="123MB"))
    await store.add([a_task("r")])
    with duckdb.connect(str(tmp_path / "other.duckdb"), config={"memory_limit": "123MB"}) as other:
        expected = other.execute("SELECT current_setting('memory_limit')").fetchall()
    with store._database.cursor() as cursor:
        assert cursor.execute("SELECT current_setting('memory_limit')").fetchall() == expected
    await store.close()


async def test_a_large_tree_is_stored_and_read_in_order_and_the_memory_limit_stays(tmp_path: Path):
    large = a_tree("r", *(f"c{at}" for at in range(10_500)))
    async with DuckDBStore(url_of(tmp_path / "apflow.duckdb"), memory_limit="100MB") as store:
        await store.add(large)
        assert [task.id for task in await store.tree("r")] == [task.id for task in large]
        events = await store.events("r")
        assert [event.task_id for event in events] == [task.id for task in large]
        assert [event.sequence for event in events] == list(range(1, 10_502))
        with store._database.cursor() as cursor:
            assert cursor.execute("SELECT current_setting('memory_limit')").fetchall() == [("95.3 MiB",)]


async def test_rows_that_were_alike_change_apart(tmp_path: Path):
    async with DuckDBStore(url_of(tmp_path / "apflow.duckdb")) as store:
        await store.add(a_tree("r", "a", "b"))
        start, again = (a_move("a", "pending", "in_progress", sets={"owner": "me"}) for _ in range(2))
        assert [told is not None for told in await store.move([start])] == [True]
        assert await store.move([again]) == [None]
        other = a_move("b", "pending", "in_progress", sets={"owner": "you"})
        assert [told is not None for told in await store.move([other])] == [True]
        assert [task.owner for task in await store.tree("r")] == [None, "me", "you"]


async def test_of_changes_written_together_only_the_guilty_one_is_told(tmp_path: Path):
    store = DuckDBStore(url_of(tmp_path / "tasks.duckdb"))
    await store.add(a_tree("r", "a", "b", "c"))
    outcomes = await asyncio.gather(
        store.move([a_move("a", "pending", "in_progress")]),
        store.move([a_move("b", "pending", "in_progress", sets={"attempts": "not a number"})]),
        store.move([a_move("c", "pending", "in_progress")]),
        return_exceptions=True,
    )
    assert [isinstance(each, StoreError) for each in outcomes] == [False, True, False]
    statuses = {task.id: task.status for task in await store.tree("r")}
    assert statuses == {"r": "pending", "a": "in_progress", "b": "pending", "c": "in_progress"}
    assert [event.sequence for event in await store.events("r", after=4)] == [5, 6]
    await store.close()


async def test_a_reader_does_not_wait_for_a_writer(tmp_path: Path):
    store = DuckDBStore(url_of(tmp_path / "tasks.duckdb"))
    await store.add(a_tree("r", "a"))
    with store._database.cursor() as other:
        other.begin()
        other.execute("UPDATE apflow_tasks SET name = 'changing' WHERE id = 'a'")
        assert (await store.get(["a"]))["a"].name == "a"
        other.rollback()
    await store.close()


async def test_a_row_that_somebody_else_removed_is_noticed_and_nothing_is_written(tmp_path: Path):
    store = DuckDBStore(url_of(tmp_path / "tasks.duckdb"))
    await store.add(a_tree("r", "a"))
    with store._database.cursor() as other:
        other.execute("DELETE FROM apflow_tasks WHERE id = 'a'")
    with pytest.raises(StoreError, match="another program has changed"):
        await store.move([a_move("a", "pending", "in_progress")])
    assert await store.move([a_move("a", "pending", "in_progress")]) == [None]
    assert len(await store.events("r")) == 2
    await store.close()


async def test_a_record_may_be_stored_again_while_a_reader_still_sees_the_removed_one(tmp_path: Path):
    async with DuckDBStore(url_of(tmp_path / "tasks.duckdb")) as store:
        await store.put_record("k", "a", 1)
        with store._database.cursor() as reader:
            reader.begin()
            seen = reader.execute("SELECT value, version FROM apflow_records").fetchall()
            for _ in range(3):
                assert await store.remove_record("k", "a")
                assert await store.put_record("k", "a", 2, version=0)
            assert reader.execute("SELECT value, version FROM apflow_records").fetchall() == seen
            reader.rollback()
        assert await store.records("k") == [Record("k", "a", 2, 1)]


async def test_an_empty_change_is_nothing(tmp_path: Path):
    store = DuckDBStore(url_of(tmp_path / "tasks.duckdb"))
    assert await store.write(Change()) == []
    await store.close()


async def test_old_events_go_and_the_numbers_go_on(tmp_path: Path):
    url = url_of(tmp_path / "tasks.duckdb")
    store = DuckDBStore(url)
    await store.add(a_tree("r", "a"))
    await store.close()
    again = DuckDBStore(url, event_retention=timedelta(0))
    [events] = await again.move([a_move("a", "pending", "in_progress")])
    assert events is not None
    assert [event.sequence for event in events] == [3]
    assert [event.sequence for event in await again.events("r")] == [3]
    await again.close()
    last = DuckDBStore(url, event_retention=timedelta(0))
    await last.write(Change())
    assert await last.events("r") == []
    assert (await last.get(["r"]))["r"].last_event == 3
    await last.close()


def test_a_store_that_nobody_closes_ends_quietly_with_its_process_and_keeps_what_was_written(tmp_path: Path):
    url = url_of(tmp_path / "tasks.duckdb")
    write = HOLD.partition("print(")[0]
    ended = subprocess.run([sys.executable, "-c", write, url], capture_output=True, text=True, check=True)
    assert (ended.stdout, ended.stderr) == ("", "")
    store = DuckDBStore(url)
    assert list(asyncio.run(store.get(["kept"]))) == ["kept"]
    asyncio.run(store.close())


async def test_a_store_that_nobody_holds_lets_go_of_the_file(tmp_path: Path):
    url = url_of(tmp_path / "tasks.duckdb")
    store = DuckDBStore(url, memory_limit="100MB")
    await store.add([a_task("r")])
    del store
    gc.collect()
    other = DuckDBStore(url, memory_limit="200MB")  # DuckDB refuses two configurations of one open file
    assert list(await other.get(["r"])) == ["r"]
    await other.close()


@pytest.mark.parametrize("count", [2, MAX_LISTED, MAX_LISTED + 1])
async def test_any_number_of_tasks_can_be_named(tmp_path: Path, count: int):
    """Few ids are looked up in the index, many are joined: both find the same rows."""
    store = DuckDBStore(url_of(tmp_path / "tasks.duckdb"))
    ids = [f"task {number}" for number in range(count - 1)]
    await store.add(a_tree("r", *ids))
    asked = ["r", *ids]
    assert set(await store.get([*asked[1:], "missing"])) == set(ids)
    assert {task.id for task in await store.find(TaskQuery(ids=asked))} == set(asked)
    await store.close()
    again = DuckDBStore(url_of(tmp_path / "tasks.duckdb"))
    results = await again.write(Change(moves=[a_move(each, "pending", "cancelled") for each in asked]))
    assert len(results) == count
    assert all(result is not None for result in results)
    await again.close()


async def test_memory_is_given_back_after_few_rows_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Large results are few rows: the time since the last return of memory counts as well."""
    monkeypatch.setattr(database, "TRIM_SECONDS", 0.0)
    store = DuckDBStore(url_of(tmp_path / "tasks.duckdb"))
    await store.add([a_task("r")])
    times = [store._database._trimmed_at]
    await store.get(["r"])
    times.append(store._database._trimmed_at)
    await store.put_record("kind", "key", [1])
    times.append(store._database._trimmed_at)
    assert times == sorted(set(times))
    await store.close()


async def test_small_rows_are_stored_apart_from_large_ones(tmp_path: Path):
    """Reading a row among large compressed ones would decompress all of them."""
    path = tmp_path / "tasks.duckdb"
    for start in (0, 20):  # also when the file is opened again
        store = DuckDBStore(url_of(path))
        for number in range(start, start + 20):
            large = {"text": random.Random(number).randbytes(50_000).hex()}
            await store.add([a_task(f"r{number}", inputs=large)])
        await store.close()
    with duckdb.connect(str(path)) as connection:
        kinds = connection.execute(
            "SELECT DISTINCT compression FROM pragma_storage_info('apflow_tasks') "
            "WHERE segment_type = 'VARCHAR'"
        ).fetchall()
    assert ("ZSTD",) not in kinds
