"""Runs the programs of the documents, each test in its own directory."""

import asyncio
import json
import os
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from installing import ROOT, Wheels, build
from peers.placed_workers import PlacedWorkers
from peers.stores import OpenStore
from seedprograms import FORMER, PRESENT, Seeds

from apflow.core import create_session
from apflow.core.extensions.runner import LocalRunner, chosen_runner
from apflow.core.settings import reset_settings
from apflow.core.store.base import TaskStore
from apflow.testing.postgres import postgres_server, postgres_url

__all__ = ["postgres_server", "postgres_url"]
PLUGINS = ROOT / "tests-integration" / "plugins"


@pytest.fixture(scope="session")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Wheels:
    """Build every distribution of this repository, and plugins of others."""
    folder = tmp_path_factory.mktemp("wheels")
    for project in sorted(ROOT.glob("packages/*/pyproject.toml")):
        build(project.parent, folder)
    for plugin in ("broken", "rival", "future", "greeting"):
        build(PLUGINS / plugin, folder)
    return Wheels(folder)


@pytest.fixture(params=[(FORMER, "duckdb"), (PRESENT, "duckdb"), (PRESENT, "postgresql")], ids="-".join)
def seeds(request: pytest.FixtureRequest, tmp_path: Path) -> Seeds:
    """Give a folder for one program; on each database it is the same program."""
    name, database = request.param
    on_postgres = database == "postgresql"
    url = request.getfixturevalue("postgres_url") if on_postgres else "duckdb:///seeds.duckdb"
    return Seeds(tmp_path, name, url)


@pytest.fixture(
    params=[
        "local",
        pytest.param("dask", marks=pytest.mark.long),
        pytest.param("workers", marks=pytest.mark.long),
    ]
)
async def each_runner(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[str]:
    """Set the runner for a test that reads its settings afterwards: the same tree runs with each."""
    monkeypatch.setenv("APFLOW_RUNNER", request.param)
    yield request.param
    if request.param == "dask":
        from apflow.runner.dask.cluster import close_local_clusters  # its import takes time

        monkeypatch.setenv("APFLOW_RUNNER", request.param)
        reset_settings()
        runner = chosen_runner()
        assert not isinstance(runner, LocalRunner)
        await runner.close()
        await asyncio.to_thread(close_local_clusters)


@pytest.fixture
def example_store(each_runner: str, request: pytest.FixtureRequest, tmp_path: Path) -> OpenStore:
    """Return a function that opens a store for an example, and starts a worker where that makes the calls.

    The worker has the settings of the moment.
    """
    url = request.getfixturevalue("postgres_url") if each_runner == "workers" else ""

    @asynccontextmanager
    async def opened() -> AsyncIterator[TaskStore]:
        if not url:
            async with create_session(f"duckdb:///{tmp_path}/example.duckdb") as db:
                yield db
            return
        own = {name: value for name, value in os.environ.items() if name.startswith("APFLOW_")}
        with PlacedWorkers(tmp_path, url, own | {"APFLOW_DATABASE_URL": url}) as workers:
            await asyncio.to_thread(workers.start)
            async with create_session(url) as db:
                yield db

    return opened


class Answers(BaseHTTPRequestHandler):
    """Returns its request as JSON."""

    def do_GET(self) -> None:
        self.answer(None)

    def do_POST(self) -> None:
        self.answer(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

    def answer(self, asked: Any) -> None:
        body = json.dumps({"path": self.path, "asked": asked}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        pass


@pytest.fixture
def server() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as peer:
        thread = threading.Thread(target=peer.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{peer.server_address[1]}"
        peer.shutdown()
        thread.join()
