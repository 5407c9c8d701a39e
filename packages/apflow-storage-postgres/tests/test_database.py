"""The schema, custom columns, errors of opening, and the ways to a store."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest
from sqlalchemy import JSON, Column, Integer, String

from apflow.core.errors import StoreError, StoreVersionError
from apflow.core.settings import reset_settings
from apflow.core.store import session
from apflow.core.store.base import Change, Record, TaskQuery, Transition
from apflow.storage.postgres import PostgresStore
from apflow.storage.postgres.schema import LATEST, migrate
from apflow.storage.sql import TaskModel
from apflow.storage.sql.queries import select_tasks
from apflow.storage.sql.tables import metadata
from apflow.testing.building import a_task, a_tree, an_event
from apflow.testing.postgres import extended, run_sql
from apflow.testing.postgresserver import a_server


class ProjectTask(TaskModel):
    """A project, as the guide shows it."""

    __tablename__ = "apflow_tasks"
    project_id = Column(String(255), nullable=True, index=True)
    priority_level = Column(Integer, default=2)
    labels = Column(JSON)


@pytest.fixture(autouse=True)
def no_model() -> Iterator[None]:
    session.set_task_model_class(None)
    yield
    session.set_task_model_class(None)


@pytest.mark.parametrize("version", range(LATEST + 1))
async def test_a_database_of_any_earlier_version_is_brought_to_the_newest(postgres_url: str, version: int):
    connection = await asyncpg.connect(postgres_url)
    await migrate(connection, postgres_url, version)
    if version:
        await connection.execute("INSERT INTO apflow_events VALUES ('old', 1, 1, now(), '[]')")
    await connection.close()
    async with PostgresStore(postgres_url) as store:
        await store.add(a_tree("r", "a"))
        assert [task.position for task in await store.tree("r")] == [0, 1]
        assert await store.put_record("kind", "key", {"a": 1}) == Record("kind", "key", {"a": 1}, 1)
    connection = await asyncpg.connect(postgres_url)
    found = await connection.fetch(
        "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = 'public'"
    )
    versions = await connection.fetch("SELECT version FROM apflow_schema ORDER BY 1")
    kept = await connection.fetchval("SELECT count(*) FROM apflow_events WHERE root_id = 'old'")
    await connection.close()
    assert {tuple(row) for row in found} >= {
        (table.name, column.name) for table in metadata.tables.values() for column in table.columns
    }
    assert [row[0] for row in versions] == list(range(1, LATEST + 1))
    assert kept == (1 if version else 0)


async def test_processes_that_open_an_empty_database_at_once_make_its_schema_once(postgres_url: str):
    stores = [PostgresStore(postgres_url) for _ in range(6)]
    await asyncio.gather(*(store.add([a_task(f"t{at}")]) for at, store in enumerate(stores)))
    assert sum((await stores[0].count(TaskQuery())).values()) == 6
    await asyncio.gather(*(store.close() for store in stores))


class SlowConnection:
    """A connection that pauses after its first query, while another process makes the schema."""

    def __init__(self, connection: Any, url: str) -> None:
        self._connection, self._url, self._is_first = connection, url, True

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._connection, name)
        if not name.startswith("fetch") or not self._is_first:
            return method

        async def first_query(*args: Any) -> Any:
            self._is_first = False
            found = await method(*args)
            other = await asyncpg.connect(self._url)
            await migrate(other, self._url)
            await other.close()
            return found

        return first_query


async def test_a_schema_that_another_process_makes_meanwhile_is_not_a_foreign_one(postgres_url: str):
    connection = await asyncpg.connect(postgres_url)
    slow: Any = SlowConnection(connection, postgres_url)
    await migrate(slow, postgres_url)
    assert await connection.fetchval("SELECT max(version) FROM apflow_schema") == LATEST
    await connection.close()


async def test_a_database_of_a_newer_version_is_left_alone(postgres_url: str):
    async with PostgresStore(postgres_url) as store:
        await store.add([a_task("r")])
    run_sql(postgres_url, "INSERT INTO apflow_schema VALUES (99, now())")
    async with PostgresStore(postgres_url) as store:
        for work in (store.get(["r"]), store.add([a_task("s")])):
            with pytest.raises(StoreVersionError, match="99"):
                await work


async def test_a_user_who_may_only_read_and_write_rows_can_work(postgres_url: str):
    async with PostgresStore(postgres_url) as store:
        await store.add([a_task("r")])
    role = f"worker_{urlsplit(postgres_url).path.rpartition('_')[2]}"
    run_sql(
        postgres_url,
        f"CREATE ROLE {role} LOGIN PASSWORD 'right'",
        f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {role}",
        f"GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO {role}",
    )
    try:
        async with PostgresStore(as_user(postgres_url, role, "right")) as store:
            await store.add([a_task("s")])
            assert set(await store.get(["r", "s"])) == {"r", "s"}
            assert await store.put_record("k", "a", 1)
            assert await store.remove_record("k", "a")
    finally:
        run_sql(postgres_url, f"DROP OWNED BY {role}", f"DROP ROLE {role}")


def as_user(url: str, user: str, password: str) -> str:
    """Return a URL with another login."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=f"{user}:{password}@{parts.netloc.rpartition('@')[2]}"))


def test_a_wrong_password_is_told_and_not_shown():
    with a_server() as server:
        url = server.url()
        run_sql(url, "CREATE ROLE ann LOGIN PASSWORD 'right'", "GRANT CREATE ON SCHEMA public TO ann")
        rules = "local all ann scram-sha-256\nlocal all all trust\n"
        (server.data / "pg_hba.conf").write_text(rules)
        server.restart()

        async def read(password: str) -> None:
            async with PostgresStore(as_user(url, "ann", password)) as store:
                await store.get(["r"])

        with pytest.raises(StoreError, match=r"refused the login.*Check user and password") as caught:
            asyncio.run(read("hidden"))
        assert "hidden" not in str(caught.value)
        asyncio.run(read("right"))


async def test_columns_are_added_when_the_class_is_chosen_also_to_an_open_store(postgres_url: str):
    async with PostgresStore(postgres_url) as store, PostgresStore(postgres_url) as other:
        await store.add([a_task("old")])
        await other.get(["old"])
        session.set_task_model_class(ProjectTask)
        found = await asyncio.gather(
            *(each.find(TaskQuery(custom={"priority_level": 2})) for each in (store, other))
        )
        assert [[task.id for task in each] for each in found] == [["old"], ["old"]]
        await store.add([a_task("new", extra={"project_id": "p", "priority_level": 1, "labels": {"a": []}})])
        task = (await other.get(["new"]))["new"]
        assert (task.project_id, task.priority_level, task.labels) == ("p", 1, {"a": []})
        assert await other.move([Transition("new", "new", {"project_id": "q"}, {"labels": 1})]) == [None]
        assert await other.move([Transition("new", "new", {"labels": {"a": []}}, {"project_id": "q"})]) == [
            ()
        ]
        assert sum((await store.count(TaskQuery(custom={"project_id": "q"}))).values()) == 1


async def test_old_events_go_and_their_numbers_stay(postgres_url: str):
    store = PostgresStore(postgres_url)
    await store.add([a_task("r")])
    await store.close()
    run_sql(postgres_url, "UPDATE apflow_events SET stored_at = '2020-01-01'")
    async with PostgresStore(postgres_url, event_retention=timedelta(days=1)) as store:
        [events] = await store.move([Transition("r", "r", {}, {}, (an_event("r", "r"),))])
        assert events is not None
        assert [event.sequence for event in await store.events("r")] == [2]


async def test_a_vacuum_changes_nothing_but_the_space(postgres_url: str):
    async with PostgresStore(postgres_url) as store:
        await store.add(a_tree("r", *(f"t{each}" for each in range(100))))
        await store.write(Change(remove=[f"t{each}" for each in range(50)]))
        before, after = await store.vacuum()
        assert min(before, after) > 0
        assert len(await store.tree("r")) == 51
        await store.add([a_task("next", "r")])
    found = run_sql(
        postgres_url,
        "SELECT last_vacuum, last_analyze FROM pg_stat_user_tables WHERE relname = 'apflow_tasks'",
    )
    assert None not in found[0]


async def test_a_large_tree_is_read_whole(postgres_url: str):
    async with PostgresStore(postgres_url) as store:
        await store.add(a_tree("r", *(f"t{each}" for each in range(12_000))))
        tree = await store.tree("r")
        assert [task.position for task in tree] == list(range(12_001))


async def test_the_lease_is_counted_by_the_clock_of_the_database(postgres_url: str):
    async with PostgresStore(postgres_url, lease=timedelta(seconds=40)) as store:
        await store.add([a_task("r")])
        before = await now_there(postgres_url)
        await store.move([Transition("r", "r", {}, {"run_owner": "me"})])
        after = await now_there(postgres_url)
        until = (await store.get(["r"]))["r"].lease_until
        assert until is not None
        assert before <= until - timedelta(seconds=40) <= after


async def now_there(url: str) -> datetime:
    connection = await asyncpg.connect(url)
    moment: datetime = await connection.fetchval("SELECT clock_timestamp()")
    await connection.close()
    return moment.astimezone(UTC)


async def test_a_missing_database_is_told_with_what_to_do(postgres_url: str):
    missing = postgres_url.replace("/apflow_", "/nowhere_")
    async with PostgresStore(missing) as store:
        with pytest.raises(StoreError, match=r"nowhere_.*does not exist.*Create it"):
            await store.get(["r"])
        with pytest.raises(StoreError, match="Create it"):
            await store.add([a_task("r")])


async def test_a_server_that_is_not_there_is_told_at_once():
    async with PostgresStore("postgresql://ann:hidden@127.0.0.1:1/db") as store:
        with pytest.raises(StoreError, match=r"127\.0\.0\.1:1/db cannot be reached.*Check host") as caught:
            await store.get(["r"])
    assert "hidden" not in str(caught.value)


async def test_a_wrong_parameter_is_told(postgres_url: str):
    async with PostgresStore(extended(postgres_url, sslmode="perhaps")) as store:
        with pytest.raises(StoreError, match=r"sslmode.*Correct the URL"):
            await store.get(["r"])
    async with PostgresStore(extended(postgres_url, colour="blue")) as store:
        with pytest.raises(StoreError, match="colour"):
            await store.get(["r"])


async def test_a_session_is_made_from_any_form_of_the_url(postgres_url: str, monkeypatch: pytest.MonkeyPatch):
    store = session.create_session(postgres_url)
    assert isinstance(store, PostgresStore)
    other = postgres_url.replace("postgresql://", "postgres://")
    assert session.create_session(other) is store
    monkeypatch.setenv("DATABASE_URL", postgres_url.replace("postgresql://", "postgresql+asyncpg://"))
    reset_settings()
    assert session.create_session() is store
    await store.add([a_task("r")])
    await store.close()
    monkeypatch.delenv("DATABASE_URL")
    reset_settings()


async def test_trees_are_found_by_the_keys_of_their_roots_without_reading_the_table(postgres_url: str):
    async with PostgresStore(postgres_url) as store:
        await store.add([a_task(f"r{at}", key=f"bill-{at % 1000}") for at in range(3000)])
        query = TaskQuery(key="bill-7", root_only=True)
        assert {task.id for task in await store.find(query)} == {"r7", "r1007", "r2007"}
        text, parameters = select_tasks(query)
        connection = await asyncpg.connect(postgres_url)
        try:
            await connection.execute("ANALYZE apflow_tasks")
            plan = await connection.fetch(f"EXPLAIN {text}", *parameters)
        finally:
            await connection.close()
    shown = "\n".join(row[0] for row in plan)
    assert "apflow_tasks_key" in shown
    assert "Seq Scan" not in shown
