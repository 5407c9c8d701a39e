"""The server as a process: how it starts, refuses to start, and ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
from peers.ports import free_socket, port_of
from serving import SECRET, Process, serve_process, wait_for

from apflow.core.errors import InvalidInputError
from apflow.core.settings import Settings
from apflow.core.store.memory import MemoryStore
from apflow.server.process.start import Start, check_sharing, place_of

MODULE = """
import asyncio, os
from apflow.core import BaseTask, executor_register

@executor_register()
class Sleeps(BaseTask):
    id = "sleeps"
    async def execute(self, inputs):
        await asyncio.sleep(inputs["seconds"])
        return {"slept": inputs["seconds"]}

@executor_register()
class Waits(BaseTask):
    id = "waits"
    async def execute(self, inputs):
        while not os.path.exists(inputs["for"]):
            await asyncio.sleep(0.01)
        return {}
"""
MEMORY = {"APFLOW_DATABASE_URL": "memory://"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "of_tests.py").write_text(MODULE)
    return tmp_path


def rpc(process: Process, method: str, params: Any = None, **more: Any) -> Any:
    request = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params or {}}
    answer = httpx.post(f"{process.url}/tasks", json=request, timeout=20, **more).json()
    assert "result" in answer, answer
    return answer["result"]


def run(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the server where it is to end by itself."""
    command = [sys.executable, "-m", "apflow.server", "--port", "0", *arguments]
    env = {**os.environ, **MEMORY, **environment}
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=30)


def sleep_for(seconds: float) -> dict[str, Any]:
    return {"tasks": [{"name": "sleeps", "inputs": {"seconds": seconds}}]}


def test_it_runs_what_a_named_module_registers_and_ends_with_0(folder: Path):
    with serve_process(folder, "start", "--import", "of_tests", environment=MEMORY) as process:
        assert rpc(process, "tasks.execute", sleep_for(0) | {"wait": True})["result"] == {"slept": 0}
        assert process.end() == 0
    assert "Traceback" not in process.log.read_text()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_told_to_end_it_lets_code_end_answers_meanwhile_and_says_that_it_is_not_ready(
    folder: Path, number: signal.Signals
):
    with serve_process(folder, "--import", "of_tests", environment=MEMORY) as process:
        end = folder / "end"
        work = {"tasks": [{"name": "waits", "inputs": {"for": str(end)}}]}
        task = rpc(process, "tasks.execute", work)["task_id"]
        wait_for(lambda: rpc(process, "tasks.get", {"id": task})["status"] == "in_progress")
        process.popen.send_signal(number)
        wait_for(lambda: httpx.get(f"{process.url}/ready").status_code == 503)
        assert httpx.get(f"{process.url}/health").status_code == 200
        assert rpc(process, "tasks.get", {"id": task})["status"] == "in_progress"
        with httpx.stream("GET", f"{process.url}/tasks/{task}/events", timeout=30) as stream:
            end.touch()
            events = [
                json.loads(line[6:])["type"] for line in stream.iter_lines() if line.startswith("data: ")
            ]
        assert events[-1] == "tree_completed"
        assert process.popen.wait(30) == 0


def test_a_caller_who_waits_is_told_that_the_server_ends_before_the_run(folder: Path):
    settings = MEMORY | {"APFLOW_SHUTDOWN_TIMEOUT": "0.5"}
    with serve_process(folder, "--import", "of_tests", environment=settings) as process:
        request = {
            "jsonrpc": "2.0",
            "id": 1,
            "method": "tasks.execute",
            "params": sleep_for(30) | {"wait": True},
        }
        with httpx.Client(base_url=process.url, timeout=20) as client:
            client.get("/health")
            wait_for_run(process, lambda: process.popen.send_signal(signal.SIGTERM))
            answer = client.post("/tasks", json=request)
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, -32010)
        assert process.popen.wait(30) == 0


def wait_for_run(process: Process, then: Any) -> None:
    """Call `then` in a moment, as soon as a task runs."""
    import threading

    def watch() -> None:
        wait_for(lambda: rpc(process, "tasks.count")["by_status"]["in_progress"] == 1)
        then()

    threading.Thread(target=watch, daemon=True).start()


def test_a_second_signal_ends_it_at_once(folder: Path):
    with serve_process(folder, "--import", "of_tests", environment=MEMORY) as process:
        task = rpc(process, "tasks.execute", sleep_for(30))["task_id"]
        wait_for(lambda: rpc(process, "tasks.get", {"id": task})["status"] == "in_progress")
        process.popen.send_signal(signal.SIGTERM)
        wait_for(lambda: httpx.get(f"{process.url}/ready", timeout=30).status_code == 503)
        assert process.end(timeout=2) == -signal.SIGTERM


@pytest.mark.parametrize(
    ("arguments", "environment", "expected"),
    [
        (["--host", "0.0.0.0"], {}, "APFLOW_JWT_SECRET"),
        (["--host", "no-such-host.invalid", "--insecure"], {}, "Listening at no-such-host.invalid"),
        (["--import", "nowhere_at_all"], {}, "There is no module 'nowhere_at_all'"),
        ([], {"APFLOW_RATE_LIMIT": "many"}, "APFLOW_RATE_LIMIT is 'many', which is not a whole number"),
        ([], {"APFLOW_JWKS_URL": "file:///keys"}, "APFLOW_JWKS_URL is 'file:///keys'"),
        ([], {"APFLOW_DATABASE_URL": "nonsense"}, "'nonsense' is not a valid database URL"),
    ],
    ids=str,
)
def test_what_cannot_be_is_refused_in_a_sentence(
    folder: Path, arguments: list[str], environment: dict[str, str], expected: str
):
    done = run(folder, *arguments, **environment)
    assert done.returncode == 2
    assert expected in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("wanted", [Start(workers=2), Start(has_reload=True)], ids=["workers", "reload"])
def test_a_database_of_one_process_takes_one_process(wanted: Start):
    with pytest.raises(InvalidInputError, match="memory:// admits one process"):
        check_sharing(MemoryStore(), wanted)
    check_sharing(MemoryStore(), Start())


def test_the_command_line_says_where_to_listen_before_the_setting_does():
    settings = Settings(bind="127.0.0.1:9000")
    assert place_of(settings, Start()) == ("127.0.0.1", 9000)
    assert place_of(settings, Start(host="::1")) == ("::1", 9000)
    assert place_of(settings, Start(port=0)) == ("127.0.0.1", 0)


def test_a_port_that_is_taken_is_named(folder: Path):
    with free_socket() as bound:
        bound.listen()
        done = run(folder, "--port", str(port_of(bound)))
    assert done.returncode == 2
    assert "Address already in use. Choose another place with --host and --port" in done.stderr
    assert "Serving" not in done.stderr


def test_with_a_secret_it_may_listen_everywhere_and_asks_for_tokens(folder: Path):
    environment = MEMORY | {"APFLOW_JWT_SECRET": SECRET, "APFLOW_IMPORT": "of_tests"}
    with serve_process(folder, "--host", "0.0.0.0", environment=environment) as process:
        assert httpx.post(f"{process.url}/call/tasks.count", json={}).status_code == 401
        assert "server" not in httpx.get(f"{process.url}/health").headers


def test_it_is_ready_soon_and_small(folder: Path):
    with serve_process(folder, environment=MEMORY) as process:
        proc = Path(f"/proc/{process.popen.pid}")
        status = (proc / "status").read_text()
        resident = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))
        assert resident < 150_000  # kB
        # Of a processor, since a busy machine gives it to others, too. The benchmarks measure the time.
        ticks = (proc / "stat").read_text().rpartition(")")[2].split()[11:13]
        assert sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK") < 10


def test_an_application_of_somebody_else_serves_as_well(folder: Path):
    (folder / "app.py").write_text("from apflow.server import create_app\n\napp = create_app()\n")
    with free_socket() as reserved:
        port = port_of(reserved)
        command = [sys.executable, "-m", "uvicorn", "app:app", "--port", str(port)]
        popen = subprocess.Popen(
            command, cwd=folder, env={**os.environ, **MEMORY}, stderr=subprocess.PIPE, text=True
        )
        try:
            wait_for(lambda: popen.poll() is not None or answers(port))
            popen.send_signal(signal.SIGTERM)
            _, errors = popen.communicate(timeout=30)
        finally:
            popen.kill()
    assert "Application shutdown complete" in errors
    assert "Traceback" not in errors


def answers(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/ready").status_code == 200
    except httpx.TransportError:
        return False
