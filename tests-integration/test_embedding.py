"""The programs of docs/how-to/embed.md, each in the program that it is for."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import nbformat
import pytest
from nbclient import NotebookClient
from peers.ports import free_socket, port_of
from serving import wait_for

from apflow.testing.postgres import run_sql

PAGE = Path(__file__).parent.parent / "docs" / "how-to" / "embed.md"
PROGRAMS = dict(re.findall(r"^```python\n# ([^\n]+)\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE))
REPORT = {"tasks": [{"name": "total", "inputs": {"numbers": [1, 2]}}], "wait": True}
# Celery with a broker that is a folder, and a schedule that does not take a minute.
FAST = """
from schedule import app
folder = {"data_folder_in": "messages", "data_folder_out": "messages", "control_folder": "messages"}
app.conf.update(broker_url="filesystem://", broker_transport_options=folder)
app.conf.beat_schedule["report"]["schedule"] = 0.5
"""
# The first cell of a notebook that is interrupted while a task waits. ipykernel (7.4) cancels a cell at the
# next turn of its event loop, so the task makes turns.
WAITS = """
import asyncio, os, signal, threading
from apflow.core import BaseTask, TaskBuilder, TaskService, create_session, executor_register

@executor_register()
class Waits(BaseTask):
    id = "waits"
    async def execute(self, inputs):
        threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
        for _ in range(600):
            await asyncio.sleep(0.1)
"""
STATUS = "str((await TaskService(create_session()).list())[0]['status'])"


class Place:
    """A folder with the programs of the page, and a database."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {**os.environ, "PYTHONPATH": str(folder), "HOME": str(folder)}
        for name, text in PROGRAMS.items():
            if name.endswith(".py"):
                (folder / name).write_text(text)
        self.use(f"duckdb:///{folder}/embedded.duckdb")

    def use(self, database_url: str) -> None:
        self.environment["APFLOW_DATABASE_URL"] = database_url

    def run(self, *arguments: str, module: str | None = None) -> str:
        """Run a Python program to its end and return what it prints."""
        command = [sys.executable, *(["-m", module] if module else []), *arguments]
        done = subprocess.run(
            command, cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=90
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    @contextmanager
    def running(self, module: str, *arguments: str) -> Generator[subprocess.Popen[bytes]]:
        """Run a module as a program, with its output in a file; end it by SIGTERM and check its exit."""
        log = self.folder / f"{module}-{arguments[0]}.log"
        with log.open("w") as output:
            program = subprocess.Popen(
                [sys.executable, "-m", module, *arguments],
                cwd=self.folder,
                env=self.environment,
                stdout=output,
                stderr=output,
            )
        try:
            yield program
            program.send_signal(signal.SIGTERM)
            assert program.wait(30) in (0, -signal.SIGTERM), log.read_text()
        finally:
            if program.poll() is None:
                program.kill()
                program.wait()
        assert "Traceback" not in log.read_text(), log.read_text()


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@pytest.fixture
def on_postgres(place: Place, postgres_url: str) -> Place:
    place.use(postgres_url)
    place.run("db", "migrate", module="apflow.cli")
    return place


@contextmanager
def asgi(place: Place, module: str, *arguments: str, ready: str) -> Generator[httpx.Client]:
    """Run an ASGI server of the folder, and give a client of it once a path answers."""
    with free_socket() as reserved:
        port = port_of(reserved)
        named = ["--bind", f"127.0.0.1:{port}"] if module == "gunicorn" else ["--port", str(port)]
        with (
            place.running(module, *arguments, *named) as program,
            httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as http,
        ):
            wait_for(lambda: program.poll() is not None or is_answered(http, ready))
            yield http


def is_answered(http: httpx.Client, path: str) -> bool:
    try:
        return http.get(path).status_code == 200
    except httpx.TransportError:
        return False


def test_endpoints_run_trees(place: Place):
    with asgi(place, "uvicorn", "endpoints:app", ready="/total?a=1&b=1") as http:
        assert [http.get(f"/total?a={a}&b=2").json() for a in range(5)] == [
            {"sum": 2 * (a + 2)} for a in range(5)
        ]


@pytest.mark.parametrize("name", ["included", "mounted"])
def test_an_application_that_includes_or_mounts_the_server_runs_trees(place: Place, name: str):
    with asgi(place, "uvicorn", f"{name}:app", ready="/flow/ready") as http:
        assert http.post("/flow/call/tasks.execute", json=REPORT).json()["result"] == {"sum": 3}


@pytest.mark.parametrize("name", ["included", "mounted"])
def test_an_application_whose_lifespan_does_not_run_refuses_requests(place: Place, name: str):
    with asgi(place, "uvicorn", f"{name}:app", "--lifespan", "off", ready="/openapi.json") as http:
        refused = http.post("/flow/call/tasks.execute", json=REPORT)
        assert refused.status_code == 503
        assert "--lifespan on" in refused.json()["error"]["message"]
        assert http.get("/flow/ready").json() == {"status": "not started"}


def test_two_processes_of_gunicorn_share_postgresql(on_postgres: Place, postgres_url: str):
    options = ["--workers", "2", "--worker-class", "uvicorn_worker.UvicornWorker"]
    with asgi(on_postgres, "gunicorn", "included:app", *options, ready="/flow/ready") as http:
        owners = set[str]()
        while len(owners) < 2:  # the system chooses a process for each connection; the test has a timeout
            with ThreadPoolExecutor(8) as threads:
                submitted = [*threads.map(lambda _: call(http, "submit", tasks=REPORT["tasks"]), range(20))]
            wait_for(partial(have_completed, http, submitted))
            owners |= {each for (each,) in run_sql(postgres_url, "SELECT DISTINCT owner FROM apflow_tasks")}


def have_completed(http: httpx.Client, submitted: list[Any]) -> bool:
    return {call(http, "get", task_id=each["id"])["status"] for each in submitted} == {"completed"}


def call(http: httpx.Client, operation: str, **params: Any) -> Any:
    """Call an operation of tasks by a new connection, which goes to any of the processes."""
    return httpx.post(f"{http.base_url}/flow/call/tasks.{operation}", json=params, timeout=30).json()


def notebook(*cells: str) -> Any:
    return nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(each) for each in cells])  # type: ignore[no-untyped-call]


@pytest.fixture
def kernel(place: Place, monkeypatch: pytest.MonkeyPatch) -> Place:
    """Give the folder to the kernels that the test starts."""
    for name, value in place.environment.items():
        monkeypatch.setenv(name, value)
    return place


def test_a_notebook_runs_trees_and_closes_and_opens_the_database(kernel: Place):
    cells = [PROGRAMS["cell 1"], PROGRAMS["cell 1"], PROGRAMS["cell 2"], PROGRAMS["cell 1"]]
    found = notebook(*cells, PROGRAMS["cell 2"])
    NotebookClient(found, timeout=60, resources={"metadata": {"path": str(kernel.folder)}}).execute()
    shown = [each["outputs"][0]["data"]["text/plain"] for each in found.cells if each["outputs"]]
    assert shown == ["('completed', {'sum': 6})"] * 3
    assert len(json.loads(kernel.run("tasks", "list", "--json", module="apflow.cli"))["tasks"]) == 3


def test_an_interrupted_cell_cancels_its_tree(kernel: Place):
    found = notebook(WAITS, "await TaskBuilder('waits').run()", STATUS)
    folder = {"metadata": {"path": str(kernel.folder)}}
    NotebookClient(found, timeout=60, allow_errors=True, resources=folder).execute()
    assert found.cells[1]["outputs"][0]["ename"] == "CancelledError"
    assert found.cells[2]["outputs"][0]["data"]["text/plain"] == "'cancelled'"


def test_celery_beat_submits_trees_that_a_worker_runs(on_postgres: Place, postgres_url: str):
    (on_postgres.folder / "fast.py").write_text(FAST)
    (on_postgres.folder / "messages").mkdir()
    quiet = ["--concurrency", "2", "--without-gossip", "--without-mingle", "--without-heartbeat"]
    with (
        on_postgres.running("apflow.cli", "worker", "--import", "flows"),
        on_postgres.running("celery", "--app", "fast", "worker", *quiet),
        on_postgres.running("celery", "--app=fast", "beat", "--max-interval", "1"),
    ):
        ended = "SELECT count(*) FROM apflow_tasks WHERE parent_id IS NULL AND status = 'completed'"
        wait_for(lambda: run_sql(postgres_url, ended)[0][0] >= 3, timeout=60)
    found = run_sql(postgres_url, "SELECT result::text FROM apflow_tasks WHERE result IS NOT NULL")
    assert {json.loads(result)["sum"] for (result,) in found} == {3, 6}


@pytest.mark.parametrize("database", ["duckdb", "memory", "postgresql"])
def test_eight_threads_run_trees_on_one_store(place: Place, database: str, request: pytest.FixtureRequest):
    if database == "memory":
        place.use("memory://")
    if database == "postgresql":
        place.use(request.getfixturevalue("postgres_url"))
    assert place.run("threads.py") == f"{2 * sum(range(100))}\n"
