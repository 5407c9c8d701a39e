"""What is acknowledged is there, whatever becomes of a COMMIT and of its answer."""

import asyncio
import signal
import subprocess
import sys
import threading
from pathlib import Path

import asyncpg
import psutil
import pytest

from apflow.core.errors import InvalidInputError
from apflow.core.store.base import TaskQuery
from apflow.storage.postgres import PostgresStore
from apflow.storage.postgres.address import read_address
from apflow.testing.building import a_move, a_task, a_tree
from apflow.testing.postgres import run_sql
from apflow.testing.postgresserver import a_server


def kill(data: Path) -> None:
    """Kill a server with all its processes, as a power cut would."""
    server = psutil.Process(int((data / "postmaster.pid").read_text().split()[0]))
    family = [server, *server.children()]
    for each in family:
        each.send_signal(signal.SIGKILL)
    psutil.wait_procs(family, timeout=10)
    (data / "postmaster.pid").unlink()
    for lock in data.glob(".s.PGSQL.*"):
        lock.unlink()


@pytest.mark.parametrize("others", [False, True], ids=["alone", "others commit first"])
async def test_a_batch_whose_commit_died_with_the_server_is_written_all_the_same(
    monkeypatch: pytest.MonkeyPatch, *, others: bool
):
    execute = asyncpg.Connection.execute
    with a_server() as server:
        url = server.url()
        store = PostgresStore(url)
        await store.add(a_tree("r", "a"))
        run_sql(url, "CREATE TABLE others (x INTEGER)", "CHECKPOINT")
        uncut = asyncio.Event()

        def crash() -> None:
            kill(server.data)
            server.start()
            if others:  # they get the numbers of transactions that the crash has forgotten
                run_sql(url, *["INSERT INTO others VALUES (1)"] * 3)

        async def cut(self: asyncpg.Connection, query: str, *args: object, **options: float) -> str:
            if query == "COMMIT" and not uncut.is_set():
                uncut.set()
                await asyncio.to_thread(crash)
                raise asyncpg.ConnectionDoesNotExistError("cut before the COMMIT arrived")
            return await execute(self, query, *args, **options)

        monkeypatch.setattr(asyncpg.Connection, "execute", cut)
        [events] = await store.move([a_move("a", "pending", "in_progress")])
        assert events is not None
        assert (await store.get(["a"]))["a"].status == "in_progress"
        await store.close()


async def test_a_batch_whose_answer_was_lost_is_not_written_twice(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
):
    execute = asyncpg.Connection.execute
    uncut = asyncio.Event()

    async def cut(self: asyncpg.Connection, query: str, *args: object, **options: float) -> str:
        told: str = await execute(self, query, *args, **options)
        if query == "COMMIT" and not uncut.is_set():
            uncut.set()
            raise asyncpg.ConnectionDoesNotExistError("cut before the answer arrived")
        return told

    async with PostgresStore(postgres_url) as store:
        await store.add(a_tree("r", "a"))
        monkeypatch.setattr(asyncpg.Connection, "execute", cut)
        [events] = await store.move([a_move("a", "pending", "in_progress")])
        assert uncut.is_set()
        assert events is not None
        assert [event.sequence for event in await store.events("r")] == [1, 2, 3]


async def test_a_process_that_stops_inside_a_transaction_holds_others_up_for_less_than_a_lease(
    postgres_url: str,
):
    async with PostgresStore(postgres_url) as store:
        await store.add(a_tree("r", "a"))
        frozen = await asyncpg.connect(postgres_url, server_settings=dict(read_address(postgres_url).session))
        await frozen.execute("BEGIN")
        await frozen.execute("SELECT id FROM apflow_tasks WHERE id = 'r' FOR UPDATE")
        async with asyncio.timeout(15):
            [events] = await store.move([a_move("a", "pending", "in_progress")])
        assert events is not None
        frozen.terminate()


def test_a_program_that_closes_nothing_ends_without_a_word(postgres_url: str):
    program = (
        "import asyncio, sys\n"
        "from apflow.core.store.session import create_session\n"
        "from apflow.testing.building import a_task\n"
        "asyncio.run(create_session(sys.argv[1]).add([a_task('r')]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, postgres_url],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("place", ["connections", "commits"])
def test_a_store_that_is_collected_in_one_of_its_threads_closes(postgres_url: str, place: str):
    """Garbage collection runs in any thread, and the close waits for the threads of the store."""
    before = set(threading.enumerate())
    store = PostgresStore(postgres_url)
    io, group = store._io, store._group
    asyncio.run(store.add([a_task("r")]))
    threads = set(threading.enumerate()) - before
    last = [store]
    del store
    if place == "connections":
        io.soon(last.clear)
    else:
        asyncio.run(group.run(last.clear))
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()


@pytest.mark.parametrize(
    "url", ["postgresql://u:se/cret@h/d", "postgresql://u:se?cret@h/d", "postgresql://u:se\u2100@h/d"]
)
def test_a_url_that_cannot_be_read_shows_nothing_of_its_password(url: str):
    with pytest.raises(InvalidInputError) as caught:
        read_address(url)
    assert "'se" not in str(caught.value)
    assert "u:se" not in str(caught.value)


async def test_names_are_sorted_as_every_store_sorts_them(postgres_url: str):
    async with PostgresStore(postgres_url) as store:
        await store.add([a_task(name) for name in ("a", "B", "_c", "b", "A")])
        assert [task.name for task in await store.find(TaskQuery(order="name"))] == ["A", "B", "_c", "a", "b"]
    columns = (
        "SELECT attname FROM pg_attribute a JOIN pg_collation c ON c.oid = attcollation WHERE collname = 'C'"
    )
    connection = await asyncpg.connect(postgres_url)
    found = {row[0] for row in await connection.fetch(columns)}
    await connection.close()
    assert {"id", "root_id", "name"} <= found
