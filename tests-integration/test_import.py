"""`apflow db import`: what it copies, what it refuses, and what a kill in the middle leaves."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pytest

from apflow.storage.duckdb.former import read_former

TABLE = """CREATE TABLE apflow_tasks (
    id VARCHAR, parent_id VARCHAR, user_id VARCHAR, name VARCHAR, status VARCHAR, priority INTEGER,
    dependencies JSON, inputs JSON, schemas JSON, result JSON, error TEXT, progress DOUBLE,
    created_at TIMESTAMP, "od""d" VARCHAR)"""
COLUMNS = "id, parent_id, name, status, inputs, result, created_at"


class Folder:
    """A folder with a database to import into, and the program run in it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        kept = {name: value for name, value in os.environ.items() if not name.startswith("APFLOW_")}
        self.environment = {**kept, "APFLOW_DATABASE_URL": f"duckdb:///{path / 'new.duckdb'}"}

    def source(self, *rows: tuple[Any, ...], table: str = TABLE) -> Path:
        path = self.path / "old.duckdb"
        with duckdb.connect(str(path)) as connection:
            connection.execute(table)
            for row in rows:
                connection.execute(f"INSERT INTO apflow_tasks ({COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?)", row)
        return path

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "apflow.cli", *arguments]
        pipe = subprocess.PIPE
        return subprocess.Popen(
            command, env=self.environment, cwd=self.path, stdout=pipe, stderr=pipe, text=True
        )

    def __call__(self, *arguments: str) -> tuple[int, str, str]:
        process = self.start(*arguments)
        out, err = process.communicate(timeout=120)
        assert "Traceback" not in err
        assert "fault in apflow" not in err
        return process.returncode, out, err

    def json(self, *arguments: str, code: int = 0) -> Any:
        done, out, err = self(*arguments, "--json")
        assert done == code, (done, out, err)
        return json.loads(out)

    def roots(self) -> set[str]:
        return {task["id"] for task in self.json("tasks", "list", "--limit", "1000")["tasks"]}


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def row(task_id: str, parent_id: str | None = None, **more: Any) -> tuple[Any, ...]:
    values = {"name": task_id, "status": "pending", "inputs": "{}", "result": None} | more
    return (
        task_id, parent_id, values["name"], values["status"], values["inputs"], values["result"],
        "2025-01-01 10:00:00",
    )  # fmt: skip


def test_trees_are_copied_once_and_keep_what_they_had(folder: Folder):
    rows = [
        row("g"),
        row("a", "g", status="completed", inputs='{"n": 1}', result='{"x": [1, "ü"]}'),
        row("b", "g", status="in_progress"),
        row("alone"),
    ]
    source = folder.source(*rows)
    before = source.read_bytes()
    assert folder.json("db", "import", str(source))["tasks"] == 4
    again = folder.json("db", "import", str(source))
    assert (again["trees"], sorted(again["skipped"])) == (0, ["alone", "g"])
    assert source.read_bytes() == before
    task = folder.json("tasks", "get", "a")["task"]
    assert (task["status"], task["result"]) == ("completed", {"x": [1, "ü"]})
    assert folder.json("tasks", "get", "b")["task"]["status"] == "pending"
    assert folder.json("db", "info")["runs_to_resume"] == 0


def test_a_tree_with_an_existing_id_is_skipped_as_a_whole(folder: Folder):
    assert folder.json("db", "import", str(folder.source(row("b"))))["trees"] == 1
    (folder.path / "old.duckdb").unlink()
    done = folder.json("db", "import", str(folder.source(row("g"), row("b", "g"), row("c"))))
    assert (done["trees"], done["skipped"]) == (1, ["g"])
    assert folder.roots() == {"b", "c"}


HOSTILE: dict[str, tuple[tuple[Any, ...], str]] = {
    "nested objects": (row("bad", inputs='{"a":' * 5000 + "1" + "}" * 5000), "nested"),
    "nested result": (row("bad", status="completed", result="[" * 100_000 + "]" * 100_000), "nested"),
    "inputs of another type": (row("bad", inputs="[1]"), "inputs"),
    "a tree within itself": (row("bad", "bad"), "contain each other"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_tree_that_cannot_be_read_is_named_and_the_others_are_copied(folder: Folder, kind: str):
    bad, why = HOSTILE[kind]
    table = TABLE.replace("JSON", "VARCHAR")  # DuckDB checks JSON itself
    code, out, err = folder("db", "import", str(folder.source(row("good"), bad, table=table)), "--json")
    assert code == 1
    done = json.loads(out)
    assert (done["trees"], list(done["refused"])) == (1, ["bad"])
    assert why in done["refused"]["bad"]
    assert "Tree bad is not copied" in err
    assert folder.roots() == {"good"}


def test_a_view_of_the_source_cannot_read_other_files(folder: Folder):
    (folder.path / "secret.txt").write_text("top secret")
    view = (
        "CREATE VIEW apflow_tasks AS SELECT 'v' AS id, content AS name "
        f"FROM read_text('{folder.path / 'secret.txt'}')"
    )
    code, out, err = folder("db", "import", str(folder.source(table=view)))
    assert code != 0
    assert "top secret" not in out + err
    assert folder.roots() == set()


def _damage(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[4096:] = os.urandom(len(data) - 4096)
    path.write_bytes(data)


DAMAGE: dict[str, Callable[[Path], object]] = {
    "no database": lambda path: path.write_bytes(b"no database at all" * 1000),
    "empty": lambda path: path.write_bytes(b""),
    "cut": lambda path: os.truncate(path, path.stat().st_size // 2),
    "random blocks": _damage,
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_file_is_reported_and_nothing_is_copied(folder: Folder, kind: str):
    source = folder.source(*[row(f"t{n}", inputs=json.dumps({"text": "x" * 500})) for n in range(200)])
    DAMAGE[kind](source)
    code, out, err = folder("db", "import", str(source))
    assert code in (2, 5), (code, out)
    assert "old.duckdb" in err
    assert folder.roots() == set()


def test_a_database_of_apflow_itself_is_refused(folder: Folder):
    folder.json("db", "info")
    other = folder.path / "other.duckdb"
    (folder.path / "new.duckdb").rename(other)
    code, _, err = folder("db", "import", str(other))
    assert code == 2
    assert "APFLOW_DATABASE_URL" in err


def test_a_column_with_quotes_in_its_name_is_read(folder: Folder):
    assert read_former(folder.source(row("a")))[0]['od"d'] is None


def test_a_kill_in_the_middle_leaves_whole_trees_and_a_second_import_copies_the_rest(folder: Folder):
    rows = [each for n in range(400) for each in (row(f"g{n}"), row(f"c{n}", f"g{n}"))]
    source = folder.source(*rows)
    new = folder.path / "new.duckdb"
    process = folder.start("db", "import", str(source))
    wal = new.with_name("new.duckdb.wal")
    deadline = time.monotonic() + 60
    while process.poll() is None and not (wal.exists() and wal.stat().st_size > 50_000):
        assert time.monotonic() < deadline
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    done = folder.json("db", "import", str(source))
    copied = len(done["skipped"])
    print(f"{copied} of 400 trees were copied before the kill")
    assert (done["trees"], done["tasks"], done["refused"]) == (400 - copied, 2 * (400 - copied), {})
    counts = folder.json("tasks", "count")
    assert counts["total"] == 800
