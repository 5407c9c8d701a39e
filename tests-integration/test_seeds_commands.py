"""The commands of the seed documents run as they are printed, also those that comments name.

Each runs in a shell, in its own folder, on a DuckDB file. What a command takes for granted is provided: the
executor `executor_id`, a model that answers, and `app.py`. `NOT_RUN` has the commands that no test runs, and
why.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from apflow.testing.modelserver import ModelServer, Reply, model_server

PRINTED = Path(__file__).parent / "seeds"
SCRIPTS = (
    "readme/install_core.sh",
    "readme/install_extras.sh",
    "readme/install_quick_start.sh",
    "readme/cli_usage.sh",
    "readme/create_app.py",
    "custom_tasks/generate.sh",
)
# A comment that names commands: "# Run with: COMMAND", "# Or: COMMAND (what it is)", "... THIS or THAT".
NAMED = re.compile(r"# (?:Run [\w ]+|Or|Or use the entry point): (?P<commands>.*?)(?: \(.*\))?")
NOT_RUN = {
    "pip install aipartnerupflow": "the packages are not on the public index; test_wheels.py installs them",
}
RUN_ENDS = ("aipartnerupflow run flow", "apflow run flow")
SHOW_HELP = ("aipartnerupflow", "apflow")
SERVE = (
    "apflow serve --port 8000",
    "python -m aipartnerupflow.api.main",
    "aipartnerupflow-server",
    "uvicorn app:app --port 8000",
)
DAEMON = ("apflow daemon start", "apflow daemon stop")
GENERATE = "apflow generate task-tree "
ADDRESS = ("127.0.0.1", 8000)
EXECUTOR = """
from aipartnerupflow import BaseTask, executor_register

@executor_register()
class Mine(BaseTask):
    id = "executor_id"
    async def execute(self, inputs):
        return {"seen": inputs["key"]}
"""
TASKS: list[dict[str, Any]] = [
    {"id": "all", "name": "Everything"},
    {"id": "cpu", "name": "system_info_executor", "parent_id": "all", "inputs": {"resource": "cpu"}},
]


def commands_in(text: str, *, is_shell: bool) -> Iterator[str]:
    """Yield the commands that comments name and, of a shell script, the others."""
    for line in text.splitlines():
        named = NAMED.fullmatch(line)
        if named:
            yield from named["commands"].split(" or ")
        elif is_shell and line and not line.startswith("#"):
            yield line


COMMANDS = [
    command
    for name in SCRIPTS
    for command in commands_in((PRINTED / name).read_text(), is_shell=name.endswith(".sh"))
]


def starting_with(*beginnings: str) -> list[str]:
    return sorted({each for each in COMMANDS if each.startswith(beginnings)})


class Place:
    """A folder with a database, in which the commands run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "my_executors.py").write_text(EXECUTOR)
        (folder / "app.py").write_text((PRINTED / "readme/create_app.py").read_text())
        kept = {
            name: value for name, value in os.environ.items() if not name.startswith(("APFLOW_", "OPENAI_"))
        }
        self.environment = {
            **kept,
            "PATH": os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"])),
            "PYTHONPATH": str(folder),
            "HOME": str(folder),
            "XDG_STATE_HOME": str(folder / "state"),
            "APFLOW_DATABASE_URL": f"duckdb:///{folder / 'seeds.duckdb'}",
            "APFLOW_IMPORT": "my_executors",
        }

    def __call__(self, command: str, **more: str) -> str:
        """Run a command in a shell, and return what it writes."""
        done = subprocess.run(
            ["sh", "-c", command], cwd=self.folder, env=self.environment | more,
            capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def json(self, command: str) -> Any:
        return json.loads(self(f"{command} --json"))


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_each_command_of_the_documents_is_run_or_there_is_a_reason_why_not():
    known = [*RUN_ENDS, *NOT_RUN, GENERATE]
    rest = {each for each in COMMANDS if not each.startswith(tuple(known))}
    assert rest == {*SHOW_HELP, *SERVE, *DAEMON}
    assert len(COMMANDS) == 35


@pytest.mark.parametrize("command", starting_with(*RUN_ENDS))
def test_commands_run_trees(place: Place, command: str):
    outcome = place.json(command)
    assert outcome["status"] == "completed"
    assert place.json(f"apflow tasks get {outcome['root_task_id']}")["task"]["result"] == {"seen": "value"}


@pytest.mark.parametrize("command", SHOW_HELP)
def test_the_program_alone_shows_its_help(place: Place, command: str):
    done = subprocess.run(
        ["sh", "-c", command],
        cwd=place.folder,
        env=place.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Usage: apflow" in done.stdout + done.stderr


@pytest.mark.parametrize("command", SERVE)
def test_servers_answer_at_port_8000(place: Place, command: str):
    require_free(ADDRESS)
    log = place.folder / "server.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            ["sh", "-c", f"exec {command}"],
            cwd=place.folder,
            env=place.environment,
            stdout=output,
            stderr=output,
        )
    try:
        wait_until_ready(process, log)
        done = place.json('apflow run flow executor_id --inputs \'{"key": "value"}\'')
        assert done["result"] == {"seen": "value"}
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) in (0, -signal.SIGTERM), log.read_text()
    finally:
        process.kill()
        process.wait()


def require_free(address: tuple[str, int]) -> None:
    """Skip a test if another program of this machine listens at the address that the document prints."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
        except OSError:
            pytest.skip(f"another program uses port {address[1]}")


def wait_until_ready(process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 60
    while not is_ready():
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.05)


def is_ready() -> bool:
    try:
        return httpx.get(f"http://{ADDRESS[0]}:{ADDRESS[1]}/ready", timeout=5).status_code == 200
    except httpx.TransportError:
        return False


def test_the_daemon_starts_and_stops(place: Place):
    start, stop = DAEMON
    try:
        assert "The daemon runs" in place(start)
        assert place.json("apflow daemon status")["running"]
        assert "has ended" in place(stop)
    finally:
        place("apflow daemon stop --force")
    assert place(stop) == "The daemon does not run.\n"


@pytest.fixture(scope="module")
def model() -> Iterator[ModelServer]:
    with model_server() as running:
        running.default = Reply(json.dumps({"tasks": TASKS}))
        yield running


@pytest.mark.parametrize(
    "command", starting_with(GENERATE), ids=lambda each: each.removeprefix(GENERATE)[:40]
)
def test_trees_are_generated(place: Place, model: ModelServer, command: str):
    settings = {"OPENAI_API_BASE": model.openai_url, "OPENAI_API_KEY": "of-tests"}
    before = len(model.requests)
    output = place(command, **settings)
    [request] = model.requests[before:]
    assert requirement_of(command) in json.dumps(request.body["messages"])
    if "--save" in command:
        [root] = place.json("apflow tasks list")["tasks"]
        assert (root["name"], root["user_id"], root["status"]) == ("Everything", "user123", "pending")
    else:
        assert json.loads(output) == TASKS
    if "--model" in command:
        body = request.body
        assert (body["model"], body["temperature"], body["max_tokens"]) == ("gpt-4o", 0.9, 6000)


def requirement_of(command: str) -> str:
    return command.split('"')[1]


def test_commands_in_comments_are_found():
    text = "# Run it with: a --b\n# Or: c (what it is)\n# Run CLI: d or e\n# Includes: f\n\ng h\n"
    assert list(commands_in(text, is_shell=True)) == ["a --b", "c", "d", "e", "g h"]
    assert list(commands_in(text, is_shell=False)) == ["a --b", "c", "d", "e"]
