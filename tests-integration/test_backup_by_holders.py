"""Backups and exports of a database that another process holds: by its socket, and by a server."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from peers.ports import free_socket, port_of

from apflow.client import SyncClient
from apflow.core.process.server_file import find_server
from apflow.core.store.base import TaskQuery
from apflow.storage.duckdb import DuckDBStore

SECRET = "s" * 40
SCRIPT = """
import asyncio, sys, time
from apflow.core import TaskService, create_session

async def main():
    db = create_session()
    service = TaskService(db)
    n = 0
    while True:
        n += 1
        root, child = {"id": f"r{n}", "name": "r"}, {"id": f"a{n}", "name": "a", "parent_id": f"r{n}"}
        await service.create([root, child])
        if n == 20:
            print("ready", flush=True)

asyncio.run(main())
"""


class Place:
    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self.database = self.folder / "held.duckdb"
        kept = {name: value for name, value in os.environ.items() if not name.startswith("APFLOW_")}
        self.environment = {**kept, "APFLOW_DATABASE_URL": f"duckdb:///{self.database}"}

    def __call__(self, *arguments: str, **more: str) -> tuple[int, str, str]:
        done = subprocess.run(
            [sys.executable, "-m", "apflow.cli", *arguments], cwd=self.folder, env=self.environment | more,
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        return done.returncode, done.stdout, done.stderr

    @contextmanager
    def running(self, *command: str, **more: str) -> Iterator[subprocess.Popen[str]]:
        log = self.folder / "process.log"
        with log.open("w") as output:
            process = subprocess.Popen(
                [sys.executable, *command], cwd=self.folder, env=self.environment | more, stdout=output,
                stderr=output, text=True,
            )  # fmt: skip
        try:
            yield process
        finally:
            process.kill()
            process.wait()

    def wait_for_log(self, text: str) -> None:
        deadline = time.monotonic() + 60
        while text not in (self.folder / "process.log").read_text():
            assert time.monotonic() < deadline, (self.folder / "process.log").read_text()
            time.sleep(0.05)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


async def trees_in(path: Path) -> int:
    async with DuckDBStore(f"duckdb:///{path}") as copy:
        counts = await copy.count(TaskQuery())
        total = sum(counts.values())
    assert total % 2 == 0  # trees of two tasks, each created in one transaction
    return total // 2


async def test_a_script_that_writes_is_copied_and_exported_by_its_socket(place: Place):
    with place.running("-c", SCRIPT) as process:
        place.wait_for_log("ready")
        for name in ("one.duckdb", "two.duckdb"):
            code, out, said = place("db", "backup", name)
            assert code == 0, said
            assert name in out
        holder = find_server(place.database)
        assert holder is not None
        assert holder.pid == process.pid
        code, _, said = place("db", "export", "all.jsonl")
        assert code == 0, said
        code, _, said = place("db", "backup", "one.duckdb")
        assert code == 2
        assert "exists" in said
        assert process.poll() is None
    first, second = [await trees_in(place.folder / name) for name in ("one.duckdb", "two.duckdb")]
    assert 20 <= first < second
    end = json.loads((place.folder / "all.jsonl").read_text().splitlines()[-1])
    assert end["counts"]["task"] >= 2 * second
    assert not list(place.folder.glob(".apflow-*"))
    assert not list(place.folder.glob("*partial*"))


@pytest.mark.parametrize("has_tokens", [False, True])
async def test_a_server_is_copied_over_http(place: Place, has_tokens: bool):
    jwt = pytest.importorskip("jwt")
    assert place("tasks", "create", "--tasks", '[{"name": "a"}, {"name": "b", "parent_id": "a"}]')[0] == 0
    settings = {"APFLOW_JWT_SECRET": SECRET} if has_tokens else {}
    claims = {"sub": "ann", "exp": int(time.time()) + 600}
    user = jwt.encode(claims, SECRET, "HS256")
    admin = jwt.encode(claims | {"role": "admin", "roles": ["admin"]}, SECRET, "HS256")
    token = {"APFLOW_API_TOKEN": admin} if has_tokens else {}
    with ExitStack() as stack:
        port = port_of(stack.enter_context(free_socket()))
        stack.enter_context(place.running("-m", "apflow.cli", "serve", "--port", str(port), **settings))
        place.wait_for_log("Serving")
        url = f"http://127.0.0.1:{port}"
        elsewhere = {"APFLOW_DATABASE_URL": "memory://"}
        code, _, said = place("db", "backup", "far.duckdb", "--server", url, **elsewhere, **token)
        assert code == 0, said
        code, _, said = place("db", "export", "far.jsonl", "--server", url, **elsewhere, **token)
        assert code == 0, said
        code, _, said = place("db", "backup", "near.duckdb", **token)  # the server is found by its file
        assert code == 0, said
        with SyncClient(url, admin if has_tokens else None) as client:
            client.backup(place.folder / "sync.duckdb")
        if has_tokens:
            for wrong in ({"APFLOW_API_TOKEN": user}, {}):
                code, _, said = place("db", "backup", "no.duckdb", "--server", url, **elsewhere, **wrong)
                assert code != 0
                assert not (place.folder / "no.duckdb").exists()
    for name in ("far.duckdb", "near.duckdb", "sync.duckdb"):
        assert await trees_in(place.folder / name) == 1
        assert (place.folder / name).stat().st_mode & 0o777 == 0o600
    assert not [each.name for each in place.folder.iterdir() if each.name.startswith(".apflow")]


def test_other_databases_are_not_files(place: Place, postgres_url: str):
    code, _, said = place("db", "backup", "copy", APFLOW_DATABASE_URL=postgres_url)
    assert code == 2
    assert "pg_dump" in said
    assert not (place.folder / "copy").exists()
