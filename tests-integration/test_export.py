"""Exports and imports between DuckDB and PostgreSQL: every row arrives, or none does."""

# ruff: noqa: ASYNC220, ASYNC221, ASYNC240, ASYNC251  # no other task waits for these tests

# no other task waits for these tests

from __future__ import annotations

import gzip
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest
from exported import ProjectTask, everything, exported, fill, imported, refused, rows_of, without

from apflow.core.errors import ConflictError, InvalidInputError
from apflow.core.store.base import TaskStore
from apflow.core.store.memory import MemoryStore
from apflow.core.store.session import set_task_model_class
from apflow.storage.duckdb import DuckDBStore
from apflow.storage.postgres import PostgresStore
from apflow.testing.building import a_task
from apflow.testing.postgres import a_database, run_sql


def duckdb_in(folder: Path, name: str = "one.duckdb") -> DuckDBStore:
    return DuckDBStore(f"duckdb:///{folder / name}")


@pytest.fixture(params=["duckdb", "postgresql"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> TaskStore:
    if request.param == "duckdb":
        return duckdb_in(tmp_path, "target.duckdb")
    return PostgresStore(request.getfixturevalue("postgres_url"))


@pytest.fixture
def custom_columns() -> Iterator[None]:
    set_task_model_class(ProjectTask)
    yield
    set_task_model_class(None)


@pytest.mark.usefixtures("custom_columns")
async def test_everything_arrives_in_postgresql_and_comes_back(tmp_path: Path, postgres_url: str):
    from datetime import UTC, datetime

    custom = {
        "project": "~p",
        "weight": 1.5,
        "seen": 7,
        "is_urgent": True,
        "due_at": datetime(2026, 2, 3, tzinfo=UTC),
        "labels": {"a": [1, None]},
    }
    async with duckdb_in(tmp_path) as first:
        await fill(first, **custom)
        before, rows = await everything(first), await exported(first)
    async with PostgresStore(postgres_url) as second:
        await imported(second, rows)
        assert await everything(second) == before
        back = await exported(second)
    async with duckdb_in(tmp_path, "back.duckdb") as third:
        await imported(third, back)
        assert await everything(third) == before
        assert sorted(rows_of(await exported(third))) == sorted(rows_of(rows)) == sorted(rows_of(back))


async def test_columns_that_the_process_does_not_know_are_exported_too(tmp_path: Path, postgres_url: str):
    set_task_model_class(ProjectTask)
    try:
        async with duckdb_in(tmp_path) as first:
            await first.add([a_task("r", extra={"project": "p", "weight": 0.5})])
    finally:
        set_task_model_class(None)
    async with duckdb_in(tmp_path) as first, PostgresStore(postgres_url) as second:
        await imported(second, await exported(first))
    found = run_sql(postgres_url, "SELECT project, weight, seen, is_urgent FROM apflow_tasks")
    assert found == [("p", 0.5, 3, False)]


async def test_a_tree_continues_to_grow_after_an_import(tmp_path: Path, store: TaskStore):
    async with duckdb_in(tmp_path) as first:
        await fill(first, 3)
        rows = await exported(first)
    async with store:
        await imported(store, rows)
        await store.add([a_task("new", "r1")])
        tasks = {each.id: each for each in await store.tree("r1")}
        assert tasks["new"].position == 3
        assert [each.sequence for each in await store.events("r1")] == [1, 2, 3, 4, 5, 6]
        assert tasks["r1"].last_event == 6


async def test_an_import_is_added_to_other_trees(tmp_path: Path, store: TaskStore):
    async with duckdb_in(tmp_path) as first:
        await fill(first, 3)
        rows = await exported(first)
    async with store:
        await store.add([a_task("other"), a_task("child", "other", inputs={"large": "x" * 100_000})])
        before = await everything(store)
        await imported(store, rows)
        after = await everything(store)
        assert after["other"] == before["other"]
        assert set(after) == {"other", "r0", "r1", "r2", "records", "usage"}


@pytest.mark.parametrize("taken", ["b2", "record"])
async def test_rows_that_exist_are_named_and_nothing_is_imported(
    tmp_path: Path, store: TaskStore, taken: str
):
    async with duckdb_in(tmp_path) as first:
        await fill(first, 3)
        rows = await exported(first)
    async with store:
        if taken == "record":
            await store.put_record("webhook", "w2", 1)
        else:
            await store.add([a_task("b2")])
        error = await refused(store, rows)
        assert isinstance(error, ConflictError)
        assert ("webhook/w2" if taken == "record" else "'b2'") in str(error)
        assert "Nothing was imported" in str(error)


def _cut(lines: list[bytes]) -> list[bytes]:
    return lines[:-1]


def _cut_in_a_line(lines: list[bytes]) -> list[bytes]:
    return [*lines[:-2], lines[-2][:30]]


def _line_missing(lines: list[bytes]) -> list[bytes]:
    return [*lines[:4], *lines[5:]]


def _line_twice(lines: list[bytes]) -> list[bytes]:
    return [*lines[:4], *lines[3:]]


def _changed(old: bytes, new: bytes, at: int = 2) -> Any:
    def change(lines: list[bytes]) -> list[bytes]:
        assert old in lines[at], lines[at]
        return [line.replace(old, new) if n == at else line for n, line in enumerate(lines)]

    return change


INVALID: dict[str, tuple[Any, str]] = {
    "the end is missing": (_cut, "incomplete"),
    "cut within a line": (_cut_in_a_line, "incomplete"),
    "a line is missing": (_line_missing, "lines are missing"),
    "a line is there twice": (_line_twice, ""),
    "no JSON": (_changed(b'"status":', b'"status"'), "line 3: this is not JSON"),
    "a status": (_changed(b'"completed"', b'"perfect"'), "line 3: 'status' must be one of"),
    "a number": (_changed(b'"priority":0', b'"priority":"0"'), "line 3: 'priority' must be an integer"),
    "a large number": (_changed(b'"priority":0', b'"priority":9999999999'), "line 3: 'priority' must be"),
    "a time": (_changed(b'"created_at":"20', b'"created_at":"x'), "line 3: 'created_at' must be a time"),
    "an object": (_changed(b'"inputs":{', b'"inputs":["x"],"params":{'), "line 3: 'inputs' must be an"),
    "a name": (_changed(b'"name":"plain a"', b'"name":null'), "line 3: 'name' is missing"),
    "U+0000": (_changed(b'"name":"plain a"', b'"name":"\\u0000"'), "line 3: 'name' contains U+0000"),
    "U+0000 in JSON": (_changed(b'"text":"plain"', b'"text":"\\u0000"'), "line 3: 'inputs' contains U+0000"),
    "an unknown field": (_changed(b'"name":', b'"colour":"red","name":'), "line 3: 'colour' is not a field"),
    "an unknown type": (_changed(b'"type":"task"', b'"type":"thing"'), "line 3: 'thing' is not a type"),
    "a later format": (_changed(b'"format":1', b'"format":2', 0), "line 1: the format 2"),
    "no header": (lambda lines: lines[1:], "line 1: the file is not an export"),
    "more after the end": (lambda lines: [*lines, b"{}\n"], "continues after its last line"),
    "empty": (lambda _: [], "line 1: the file ends here"),
}  # fmt: skip


@pytest.mark.parametrize("kind", INVALID)
async def test_an_invalid_file_is_refused_with_its_line_and_nothing_is_imported(
    tmp_path: Path, store: TaskStore, kind: str
):
    change, message = INVALID[kind]
    async with duckdb_in(tmp_path) as first:
        await fill(first, 4, large=10)
        lines = (await exported(first)).splitlines(keepends=True)
    async with store:
        await store.add([a_task("other")])
        error = await refused(store, b"".join(change(lines)))
    assert message in str(error)
    assert "Nothing was imported" in str(error)


async def test_a_custom_column_of_an_unsupported_type_is_named(tmp_path: Path):
    async with duckdb_in(tmp_path) as first:
        await first.add([a_task("r")])
    with duckdb.connect(str(tmp_path / "one.duckdb")) as connection:
        connection.execute("ALTER TABLE apflow_tasks ADD COLUMN parts VARCHAR[]")
    async with duckdb_in(tmp_path) as first:
        with pytest.raises(InvalidInputError, match=r"'parts' has the type VARCHAR\[\]"):
            await exported(first)


async def test_a_store_in_memory_says_that_it_cannot():
    async with MemoryStore("memory://") as db:
        with pytest.raises(InvalidInputError, match="only DuckDB and PostgreSQL"):
            await exported(db)


def test_every_table_of_a_database_is_exported(tmp_path: Path):
    """A table that is added to the schema must be added to exports, or to the ones that they leave out."""
    import asyncio

    from apflow.storage.sql.transfer import transfer_tables

    async def create() -> None:
        async with duckdb_in(tmp_path) as db:
            await db.add([a_task("r")])

    asyncio.run(create())
    with duckdb.connect(str(tmp_path / "one.duckdb")) as connection:
        tables = {row[0] for row in connection.execute("SELECT table_name FROM duckdb_tables()").fetchall()}
    # Large values are part of the rows that refer to them. Version and journal belong to the database.
    left_out = {"apflow_values", "apflow_schema", "apflow_journal"}
    assert tables - left_out == {each.name for each in transfer_tables([]).values()}


class Place:
    """A folder in which commands run on one database."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder = folder
        self.environment = {**os.environ, "APFLOW_DATABASE_URL": url}

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "apflow.cli", *arguments]

    def __call__(self, *arguments: str, stdin: bytes | None = None) -> tuple[int, bytes, str]:
        done = subprocess.run(
            self.command(*arguments), cwd=self.folder, env=self.environment, capture_output=True,
            input=stdin, timeout=120, check=False,
        )  # fmt: skip
        return done.returncode, done.stdout, done.stderr.decode()

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            self.command(*arguments), cwd=self.folder, env=self.environment,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip


async def test_commands_export_and_import_plain_compressed_and_piped(tmp_path: Path, postgres_server: str):
    async with duckdb_in(tmp_path) as first:
        await fill(first, 5)
        before = await everything(first)
    here = Place(tmp_path, f"duckdb:///{tmp_path / 'one.duckdb'}")
    for name in ("all.jsonl", "all.jsonl.gz"):
        code, out, said = here("db", "export", name, "--json")
        assert code == 0, said
        rows = json.loads(out)["rows"]
        assert 5 <= rows.pop("events") <= 15  # fewer, where changes were written to the file together
        assert rows == {
            "task": 15,
            "attempt": 5,
            "log": 10,
            "record": 2,
            "usage": 1,
        }
        assert (tmp_path / name).stat().st_mode & 0o777 == 0o600
    code, piped, said = here("db", "export", "-")
    assert code == 0, said
    assert "15 tasks" in said
    assert without(piped, "apflow-export") == without((tmp_path / "all.jsonl").read_bytes(), "apflow-export")
    assert gzip.decompress((tmp_path / "all.jsonl.gz").read_bytes()).count(b"\n") == piped.count(b"\n")
    for source, stdin in (("all.jsonl", None), ("all.jsonl.gz", None), ("-", piped)):
        with a_database(postgres_server) as url:
            there = Place(tmp_path, url)
            code, out, said = there("db", "import", source, stdin=stdin)
            assert code == 0, said
            assert out.startswith(b"Imported 15 tasks")
            code, _, said = there("db", "import", source, stdin=stdin)
            assert code == 4
            assert "already has tasks" in said
            async with PostgresStore(url) as second:
                assert await everything(second) == before


async def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path):
    async with duckdb_in(tmp_path) as first:
        await fill(first, 20)
    here = Place(tmp_path, f"duckdb:///{tmp_path / 'one.duckdb'}")
    assert here("db", "export", "all.jsonl.gz")[0] == 0
    there = Place(tmp_path, f"duckdb:///{tmp_path / 'two.duckdb'}")
    whole = (tmp_path / "all.jsonl.gz").read_bytes()
    for broken in (whole[:-20], whole[: len(whole) // 2], whole[:50] + b"x" * 50 + whole[100:]):
        (tmp_path / "broken.jsonl.gz").write_bytes(broken)
        code, _, said = there("db", "import", "broken.jsonl.gz")
        assert code == 2, said
        assert "broken.jsonl.gz, line " in said
    code, _, said = there("db", "import", "nowhere.jsonl")
    assert code == 2
    assert "No such file" in said
    assert json.loads(there("tasks", "count", "--json")[1])["total"] == 0


async def test_a_full_disk_is_named_and_leaves_no_file(tmp_path: Path):
    async with duckdb_in(tmp_path) as first:
        await fill(first, 20)
    here = Place(tmp_path, f"duckdb:///{tmp_path / 'one.duckdb'}")
    limited = f"ulimit -f 100; exec {sys.executable} -m apflow.cli db export all.jsonl"
    done = subprocess.run(
        ["sh", "-c", limited], cwd=tmp_path, env=here.environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 5, done.stderr
    assert "all.jsonl cannot be written: File too large." in done.stderr
    assert not list(tmp_path.glob("all*"))


def test_an_export_replaces_no_file(tmp_path: Path):
    here = Place(tmp_path, f"duckdb:///{tmp_path / 'one.duckdb'}")
    (tmp_path / "all.jsonl").write_text("mine")
    code, _, said = here("db", "export", "all.jsonl")
    assert code == 2
    assert "exists" in said
    assert (tmp_path / "all.jsonl").read_text() == "mine"
    code, _, said = here("db", "export", "nowhere/all.jsonl")
    assert code == 2
    assert "create it first" in said
    assert {each.name for each in tmp_path.iterdir()} <= {"all.jsonl", "one.duckdb", "one.duckdb.lock"}


@pytest.mark.parametrize("target", ["duckdb", "postgresql"])
async def test_a_killed_import_leaves_nothing_and_the_next_one_succeeds(
    tmp_path: Path, postgres_url: str, target: str
):
    async with duckdb_in(tmp_path) as first:
        await fill(first, 1500, large=20_000)
        rows = await exported(first)
    (tmp_path / "all.jsonl").write_bytes(rows)
    url = postgres_url if target == "postgresql" else f"duckdb:///{tmp_path / 'target.duckdb'}"
    make = PostgresStore if target == "postgresql" else DuckDBStore
    async with make(url) as second:  # creates the tables
        await second.add([a_task("other")])
    there = Place(tmp_path, url)
    for part in (0.3, 0.6, 0.9):
        reader = os.pipe()
        process = subprocess.Popen(
            there.command("db", "import", "-"), cwd=tmp_path, env=there.environment,
            stdin=reader[0], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(reader[0])
        with os.fdopen(reader[1], "wb") as pipe:
            pipe.write(rows[: int(len(rows) * part)])
            pipe.flush()
            time.sleep(0.2)  # what the pipe holds is read and inserted
            process.send_signal(signal.SIGKILL)
            process.wait()
    async with make(url) as second:
        assert set(await everything(second)) == {"other", "records", "usage"}
    code, _, said = there("db", "import", "all.jsonl")
    assert code == 0, said
    async with make(url) as second:
        after = await exported(second)
    assert set(rows_of(rows)[:-1]) <= set(rows_of(after))
    assert len(rows_of(after)) == len(rows_of(rows)) + 2  # the other task, and its event


async def test_a_killed_export_leaves_no_file_of_that_name(tmp_path: Path):
    async with duckdb_in(tmp_path) as first:
        await fill(first, 800, large=50_000)
    here = Place(tmp_path, f"duckdb:///{tmp_path / 'one.duckdb'}")
    process = here.start("db", "export", "all.jsonl")
    deadline = time.monotonic() + 60
    while not any(each.stat().st_size for each in tmp_path.glob("all.jsonl.partial-*")):
        assert time.monotonic() < deadline
        assert process.poll() is None
    process.kill()
    process.wait()
    assert not (tmp_path / "all.jsonl").exists()
    assert here("db", "export", "all.jsonl")[0] == 0
