"""A DuckDB file that another process holds: commands are answered by that process, whatever it is."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from jupyter_client.manager import KernelManager

from apflow.client.local_client import LocalClient
from apflow.core.errors import HolderGoneError, NotFoundError, StoreHeldError
from apflow.core.process.server_file import ServerInfo, find_server, server_file_of

EXECUTORS = """
import asyncio
from apflow.core import BaseTask, executor_register

@executor_register(override=True)
class Hold(BaseTask):
    id = "hold"
    async def execute(self, inputs):
        print("holding", flush=True)
        await asyncio.sleep(inputs.get("seconds", 120))
        return {"held": True}
"""
# What a script does: it has run a tree, keeps the database open, and runs no event loop now.
SCRIPT = """
import asyncio, time
import executors
from apflow.core import TaskBuilder, create_session
db = create_session()
asyncio.run(TaskBuilder("hold", inputs={"seconds": 0}).run(db))
print("ready", flush=True)
time.sleep(120)
"""
# The cells of a notebook: a tree that has run, and one that runs in the background of the notebook.
CELLS = (
    """
import asyncio
import executors
from apflow.core import TaskBuilder, create_session
db = create_session()
await TaskBuilder("hold", inputs={"seconds": 0}).run(db)
""",
    """
running = asyncio.create_task(TaskBuilder("hold", inputs={"seconds": 120}).run(db))
""",
)


class Kernel:
    """The process of a notebook."""

    def __init__(self, manager: KernelManager) -> None:
        self._manager = manager
        self.pid: int = manager.provisioner.pid  # type: ignore[union-attr]

    def wait(self) -> None:
        """Wait until the process has ended."""
        wait_for(lambda: not self._manager.is_alive())


class Place:
    """A folder with a database and executors, in which commands run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self.database = self.folder / "held.duckdb"
        self.environment = {
            **os.environ,
            "APFLOW_DATABASE_URL": f"duckdb:///{self.database}",
            "APFLOW_BACKGROUND_DAEMON": "false",
            "PYTHONPATH": str(self.folder),
        }
        (self.folder / "executors.py").write_text(EXECUTORS)

    def __call__(self, *arguments: str) -> tuple[int, str, str]:
        """Run a command, and return its exit code, what it wrote, and what it said."""
        done = subprocess.run(
            self.command(*arguments), cwd=self.folder, env=self.environment, capture_output=True,
            text=True, timeout=60, check=False,
        )  # fmt: skip
        return done.returncode, done.stdout, done.stderr

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "apflow.cli", *arguments]

    def json(self, *arguments: str) -> Any:
        code, out, said = self(*arguments, "--json")
        assert code == 0, said
        return json.loads(out)

    @contextmanager
    def running(self, command: list[str], is_ready: Callable[[], bool]) -> Generator[subprocess.Popen[str]]:
        """Run a process until the context ends, from when it is ready."""
        log = self.folder / "process.log"
        with log.open("w") as output:
            process = subprocess.Popen(
                command, cwd=self.folder, env=self.environment, stdout=output, stderr=output, text=True
            )
        try:
            wait_for(lambda: process.poll() is not None or is_ready())
            assert process.poll() is None, log.read_text()
            yield process
        finally:
            process.kill()
            process.wait()

    def holder(self) -> ServerInfo:
        found = find_server(self.database)
        assert found is not None
        return found

    @contextmanager
    def run_flow(self) -> Generator[subprocess.Popen[str]]:
        inputs = ["--import", "executors", "--inputs", '{"seconds": 120}']
        with self.running(self.command("run", "flow", "hold", *inputs), self.has_started) as process:
            yield process

    @contextmanager
    def worker(self) -> Generator[subprocess.Popen[str]]:
        ready = lambda: find_server(self.database) is not None  # noqa: E731
        with self.running(self.command("worker", "--import", "executors"), ready) as process:
            yield process

    @contextmanager
    def script(self) -> Generator[subprocess.Popen[str]]:
        ready = lambda: "ready" in (self.folder / "process.log").read_text()  # noqa: E731
        with self.running([sys.executable, "-c", SCRIPT], ready) as process:
            yield process

    @contextmanager
    def notebook(self) -> Generator[Kernel]:
        """Run a Jupyter kernel, which is idle after its cells have been executed."""
        manager = KernelManager(kernel_name="python3")
        manager.start_kernel(cwd=str(self.folder), env=self.environment)
        client = manager.blocking_client()
        try:
            client.start_channels()
            client.wait_for_ready(timeout=60)
            for cell in CELLS:
                answer = client.execute(cell, reply=True, timeout=60)
                assert answer["content"]["status"] == "ok", answer["content"]
            wait_for(self.has_started)
            yield Kernel(manager)
        finally:
            client.stop_channels()
            manager.shutdown_kernel(now=True)

    def has_started(self) -> bool:
        if find_server(self.database) is None:
            return False
        found = json.loads(self("tasks", "list", "--status", "in_progress", "--json")[1])
        return bool(found["tasks"])


def wait_for(condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.02)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


HOLDERS = ("run_flow", "worker", "script", "notebook")


@pytest.mark.parametrize("holder", HOLDERS)
def test_ten_commands_at_once_are_answered_and_the_next_takes_over_from_a_killed_holder(
    place: Place, holder: str
):
    with getattr(place, holder)() as process:
        commands = [
            ("tasks", "list"),
            ("tasks", "count"),
            ("db", "info"),
            ("run", "flow", "hold", "--background", "--inputs", '{"seconds": 0}'),
            ("tasks", "list", "--all"),
        ]
        with ThreadPoolExecutor(10) as threads:
            done = list(threads.map(lambda each: place(*each, "--json"), [*commands, *commands]))
        assert [(code, said) for code, _, said in done] == [(0, "")] * 10
        assert place.holder().pid == process.pid
        before = place.json("tasks", "count")["total"]
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        assert place.json("tasks", "count")["total"] == before
        assert find_server(place.database) is None


def test_a_second_terminal_shows_watches_and_cancels_a_run(place: Place):
    with place.run_flow() as process:
        root = place.json("tasks", "list")["tasks"][0]["id"]
        assert place.json("tasks", "tree", root)["root"]["status"] == "in_progress"
        assert place.json("tasks", "get", root[:10])["task"]["name"] == "hold"
        assert place("tasks", "why", root)[1].startswith("hold is in_progress")
        watching = subprocess.Popen(
            place.command("tasks", "watch", root), cwd=place.folder, env=place.environment,
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert watching.stdout is not None
        assert "snapshot" in watching.stdout.readline()
        following = subprocess.Popen(
            place.command("logs", root, "--follow"), cwd=place.folder, env=place.environment,
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert following.stdout is not None
        assert "holding" in following.stdout.readline()
        assert place.json("tasks", "cancel", root)["tasks"][0]["status"] == "cancelled"
        following.communicate(timeout=30)
        assert following.returncode == 0
        said, _ = watching.communicate(timeout=30)
        assert "tree_cancelled" in said
        assert watching.returncode == 7
        assert process.wait(30) == 7
    assert place.json("tasks", "get", root)["task"]["status"] == "cancelled"


def test_what_a_run_does_not_do_for_others_ends_with_the_pid_and_advice(place: Place):
    with place.run_flow() as process:
        root = place.json("tasks", "list")["tasks"][0]["id"]
        for command in (
            ("run", "flow", "hold"),
            ("tasks", "create", "--tasks", '[{"name": "hold"}]'),
            ("tasks", "update", root, "--name", "other"),
            ("tasks", "copy", root),
            ("tasks", "delete", root),
            ("tasks", "execute", root),
            ("tasks", "resume", "--all"),
        ):
            code, out, said = place(*command)
            assert (code, out) == (5, ""), command
            assert f"process {process.pid}" in said
            assert "--wait-lock" in said
        assert place.json("tasks", "count")["total"] == 1


def test_a_worker_also_creates_changes_and_runs_for_others(place: Place):
    with place.worker():
        root = place.json("tasks", "create", "--tasks", '[{"name": "hold", "inputs": {"seconds": 0}}]')[
            "root"
        ]
        assert place.json("tasks", "update", root["id"], "--priority", "0")["task"]["priority"] == 0
        assert place.json("tasks", "execute", root["id"])["status"] == "completed"
        ran = place.json("run", "flow", "hold", "--inputs", '{"seconds": 0}')
        assert (ran["status"], ran["result"]) == ("completed", {"held": True})
        assert place.json("tasks", "delete", root["id"], "--force")["deleted_count"] == 1


def test_a_command_that_waits_for_the_lock_runs_when_the_holder_has_ended(place: Place):
    with place.run_flow() as process:
        wait = ["--wait-lock", "60", "--import", "executors", "--inputs", '{"seconds": 0}', "--json"]
        with ThreadPoolExecutor(1) as threads:
            waiting = threads.submit(place, "run", "flow", "hold", *wait)
            root = place.json("tasks", "list")["tasks"][0]["id"]
            assert place("tasks", "cancel", root)[0] == 0
            assert process.wait(30) == 7
            code, out, said = waiting.result()
        assert code == 0, said
        assert json.loads(out)["status"] == "completed"


def test_commands_at_the_same_time_without_a_holder_all_succeed(place: Place):
    create = ("tasks", "create", "--tasks", '[{"name": "hold"}]')
    assert place(*create)[0] == 0  # creates the database; an empty list would say so
    with ThreadPoolExecutor(4) as threads:
        done = list(
            threads.map(lambda each: place(*each), [create, ("tasks", "list"), ("tasks", "count")] * 2)
        )
    assert [(code, said) for code, _, said in done] == [(0, "")] * 6
    assert place.json("tasks", "count")["total"] == 3


def test_the_socket_and_the_file_are_for_their_owner_and_gone_afterwards(place: Place):
    with place.run_flow() as process:
        holder = place.holder()
        for path in (Path(holder.socket), server_file_of(place.database)):
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130
        assert not Path(holder.socket).exists()
        assert not server_file_of(place.database).exists()


async def test_a_client_gets_the_errors_of_operations_and_of_the_holder(place: Place):
    with place.run_flow() as process:
        client = LocalClient(place.holder())
        with pytest.raises(NotFoundError):
            await client.call("tasks.get", {"task_id": "nothing"})
        with pytest.raises(StoreHeldError) as held:
            await client.call("tasks.create", {"tasks": [{"name": "hold"}]})
        assert held.value.pid == process.pid
        assert not client.has_changed
        process.kill()
        process.wait()
        with pytest.raises(HolderGoneError) as gone:
            await client.call("tasks.list")
        assert not gone.value.was_sent


def test_what_is_not_a_request_ends_the_connection(place: Place):
    with place.script():
        for nonsense in (b"GET / HTTP/1.1\r\n\r\n", b"[1]\n", b"{}\n", b'{"jsonrpc": "2.0", "method": 1}\n'):
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(20)
                connection.connect(place.holder().socket)
                assert connection.recv(100).startswith(b'{"apflow"')
                connection.sendall(nonsense)
                assert connection.recv(100) == b""
        assert place("tasks", "count")[0] == 0


def test_a_database_with_a_long_path_is_answered_from_a_private_folder(tmp_path: Path):
    folder = tmp_path / ("deep" * 25)
    folder.mkdir()
    place = Place(folder)
    with place.script() as process:
        found = Path(place.holder().socket)
        assert stat.S_IMODE(found.parent.stat().st_mode) == 0o700
        assert place.json("tasks", "count")["total"] == 1
        assert place.holder().pid == process.pid


def test_asking_a_holder_needs_no_http(place: Place):
    with place.script():
        done = subprocess.run(
            [sys.executable, "-X", "importtime", *place.command("tasks", "count")[1:]],
            cwd=place.folder, env=place.environment, capture_output=True, text=True, timeout=60, check=True,
        )  # fmt: skip
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "apflow.client.local_client" in loaded
    assert "httpx" not in loaded


def test_doctor_looks_at_a_database_that_another_process_holds(place: Place):
    with place.script():
        checks = {each["name"]: each for each in place.json("doctor")["checks"]}
        assert checks["database"]["is_good"]
