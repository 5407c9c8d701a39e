"""What users get from wheels alone: the core with one executor, a store that is added, and custom plugins.

The plugin is written by `apflow new`, and changed as docs/how-to/write-an-executor.md says.
"""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from a2a_clients import COMPLETED, agent, final_of, message, replies
from installing import CONSTRAINTS, PLAIN, ROOT, Environment, Wheels, must_run, new_environment, run
from mcp import ClientSession
from mcp.client.stdio import StdioServerParameters, stdio_client
from serving import free_socket, wait_for

from apflow.cli.scaffold.kinds import KINDS

pytestmark = pytest.mark.wheels

NAMES = (
    "apflow-core",
    "apflow-executor-system-info",
    "apflow-storage-sql",
    "apflow-storage-duckdb",
    "apflow-client",
    "apflow-cli",
    "apflow-http",
    "apflow-server",
    "apflow-testing",
)
GUIDE = ROOT / "docs" / "how-to" / "write-an-executor.md"
PROGRAM = """
import asyncio
import warnings

from apflow.core import TaskExecutor, TaskQuery, get_default_session

warnings.simplefilter("ignore")  # without a storage, one says that tasks are lost


async def main():
    task = {"id": "cpu", "name": "system_info_executor", "inputs": {"resource": "cpu"}}
    outcome = await TaskExecutor().execute_tasks([task])
    async with get_default_session() as db:
        print(outcome["status"], len(await db.find(TaskQuery())), type(db).__name__)


asyncio.run(main())
"""


@pytest.fixture(scope="module")
def developing(wheels: Wheels, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """Return the environment of an author: the command line, the test kit, the server, and mypy."""
    environment = new_environment(tmp_path_factory.mktemp("developing") / "venv")
    server = f"apflow-server[a2a,mcp] @ {wheels['apflow-server'].path.as_uri()}"
    installed = environment.install(*wheels.needed_by(each for each in NAMES if each != "apflow-server"))
    assert installed.returncode == 0, installed.stderr
    install(environment, server, wheels["apflow-http"].path, "mypy", "httpx")
    return environment


def install(environment: Environment, *what: str | Path) -> None:
    must_run("uv", "pip", "install", "--quiet", "--python", environment.python, "-c", CONSTRAINTS, *what)


def in_folder(folder: Path, *command: str | Path, **variables: str) -> str:
    done = subprocess.run(
        list(map(str, command)),
        cwd=folder,
        env=PLAIN | variables,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_store_that_is_installed_later_makes_the_same_program_durable(wheels: Wheels, tmp_path: Path):
    environment = new_environment(tmp_path / "venv")
    installed = environment.install(*wheels.needed_by(["apflow-executor-system-info"]))
    assert installed.returncode == 0, installed.stderr
    ours = re.findall(r"(?m)^apflow\S*", must_run("uv", "pip", "list", "--python", environment.python))
    assert ours == ["apflow-core", "apflow-executor-system-info"]
    (tmp_path / "program.py").write_text(PROGRAM)
    data = {"XDG_DATA_HOME": str(tmp_path / "data"), "HOME": str(tmp_path)}
    command = (environment.python, tmp_path / "program.py")
    for _ in range(2):
        assert in_folder(tmp_path, *command, **data) == "completed 1 MemoryStore\n"
    assert environment.install(*wheels.needed_by(["apflow-storage-duckdb"])).returncode == 0
    for stored in (1, 2):
        assert in_folder(tmp_path, *command, **data) == f"completed {stored} DuckDBStore\n"


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_a_new_package_installs_passes_its_tests_and_builds(
    developing: Environment, tmp_path: Path, kind: Any
):
    name = f"acme-{kind.name}"
    made = developing.apflow("new", kind.name, name, "--directory", str(tmp_path))
    assert made.returncode == 0, made.stderr
    folder = tmp_path / name
    install(developing, "-e", f"{folder}[test]")
    try:
        tested = in_folder(folder, developing.python, "-m", "pytest", "-q", "-p", "no:cacheprovider")
        assert re.search(r"\b\d+ passed\b", tested)
        typed = in_folder(folder, developing.python, "-m", "mypy", "--cache-dir", "/dev/null")
        assert "Success" in typed
    finally:
        must_run("uv", "pip", "uninstall", "--quiet", "--python", developing.python, name)
    in_folder(folder, "uv", "build", "--quiet", "--build-constraints", CONSTRAINTS, "-o", tmp_path, ".")
    assert [each.suffix for each in sorted(tmp_path.glob("acme_*"))] == [".whl", ".gz"]


@pytest.fixture(scope="module")
def plugin(developing: Environment, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Install the package of the guide from its wheel, and return a file that it can count."""
    folder = tmp_path_factory.mktemp("plugin")
    guide = GUIDE.read_text()
    [command] = re.findall(r"(?m)^apflow (new executor .*)$", guide)
    arguments = re.findall(r'"[^"]+"|\S+', command)
    made = developing.apflow(*(each.strip('"') for each in arguments), "--directory", str(folder))
    assert made.returncode == 0, made.stderr
    package = folder / "acme-count-lines"
    part = guide.partition("## Distribute it")[2]
    module, tests = re.findall(r"```python\n(.*?)```", part, re.DOTALL)
    places = re.findall(r"`((?:src|tests)/[\w/]+\.py)`", part)
    for place, text in zip(places, (module, tests), strict=True):
        assert (package / place).is_file(), "the guide names a file that `apflow new` does not write"
        (package / place).write_text(text)
    install(developing, "-e", f"{package}[test]")
    tested = in_folder(package, developing.python, "-m", "pytest", "-q", "-p", "no:cacheprovider")
    assert "15 passed" in tested
    must_run("uv", "pip", "uninstall", "--quiet", "--python", developing.python, "acme-count-lines")
    must_run("uv", "build", "--quiet", "--wheel", "--build-constraints", CONSTRAINTS, "-o", folder, package)
    [wheel] = folder.glob("*.whl")
    install(developing, wheel)
    shutil.rmtree(package)  # only the wheel is left
    (folder / "poem.txt").write_text("one\ntwo\nthree\n")
    yield folder / "poem.txt"
    must_run("uv", "pip", "uninstall", "--quiet", "--python", developing.python, "acme-count-lines")


def test_it_is_listed_and_runs_by_name_on_the_command_line(developing: Environment, plugin: Path):
    listed = {each["id"]: each for each in developing.answer("executors", "list")["executors"]}
    assert listed["count_lines"]["distribution"] == "acme-count-lines"
    assert listed["count_lines"]["is_usable"] is True
    ran = developing.answer("run", "flow", "count_lines", "--inputs", json.dumps({"path": str(plugin)}))
    assert ran["result"] == {"count": 3}
    refused = developing.apflow("run", "flow", "count_lines", "--inputs", "{}")
    assert refused.returncode != 0
    assert "path" in refused.stdout + refused.stderr


def test_it_runs_by_name_in_a_program(developing: Environment, plugin: Path, tmp_path: Path):
    program = (
        "import asyncio\n"
        "from apflow.core import MemoryStore, TaskExecutor\n"
        f"tasks = [{{'id': 'c', 'name': 'count_lines', 'inputs': {{'path': {str(plugin)!r}}}}}]\n"
        "print(asyncio.run(TaskExecutor().execute_tasks(tasks, db_session=MemoryStore()))['result'])\n"
    )
    assert in_folder(tmp_path, developing.python, "-c", program) == "{'count': 3}\n"


@pytest.fixture(scope="module")
def served(developing: Environment, plugin: Path) -> Iterator[str]:
    """Return the URL of a server in the environment of the plugin."""
    with free_socket() as bound:
        port = bound.getsockname()[1]
    url, log = f"http://127.0.0.1:{port}", plugin.parent / "server.log"
    settings = {
        "APFLOW_DATABASE_URL": f"duckdb:///{plugin.parent}/served.duckdb",
        "APFLOW_MCP_TOOLS": "default,run_count_lines",
        "XDG_CONFIG_HOME": str(plugin.parent),
    }
    with log.open("w") as output:
        command = [developing.python, "-m", "apflow.server", "--port", str(port)]
        process = subprocess.Popen(command, env=PLAIN | settings, stdout=output, stderr=output)
    try:
        wait_for(lambda: process.poll() is not None or is_ready(url), 120)
        assert process.poll() is None, log.read_text()
        yield url
    finally:
        process.terminate()
        process.wait(60)


def is_ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/ready", timeout=5).status_code == 200
    except httpx.TransportError:
        return False


def test_it_runs_by_the_api_of_a_server(served: str, plugin: Path):
    task = {"id": "c", "name": "count_lines", "inputs": {"path": str(plugin)}}
    answer = httpx.post(f"{served}/call/tasks.execute", json={"tasks": [task], "wait": True}, timeout=120)
    assert answer.status_code == 200, answer.text
    assert answer.json()["result"] == {"count": 3}


async def test_it_runs_by_a2a(served: str, plugin: Path):
    async with agent(served) as client:
        request = message({"path": str(plugin)}, metadata={"skill_id": "count_lines"})
        found = await replies(client.send_message(request))
    final = final_of(found)
    assert (final["status"], final["result"]) == ("completed", {"count": 3})
    assert found[-1].status_update.status.state == COMPLETED


async def test_it_runs_by_mcp(developing: Environment, plugin: Path):
    settings = {"APFLOW_DATABASE_URL": f"duckdb:///{plugin.parent}/mcp.duckdb", "HOME": str(plugin.parent)}
    arguments = ["-m", "apflow.cli", "mcp", "serve", "--tools", "default,run_count_lines"]
    server = StdioServerParameters(command=str(developing.python), args=arguments, env=PLAIN | settings)
    async with (
        asyncio.timeout(300),
        stdio_client(server) as (reading, writing),
        ClientSession(reading, writing) as session,
    ):
        await session.initialize()
        assert "run_count_lines" in [each.name for each in (await session.list_tools()).tools]
        answer = await session.call_tool("run_count_lines", {"path": str(plugin)})
    shown = answer.model_dump(mode="json", by_alias=True)
    assert shown["isError"] is False, shown
    assert shown["structuredContent"]["result"] == {"count": 3}


def test_an_executor_that_is_not_installed_is_found(developing: Environment):
    found = developing.answer("executors", "search", "crew", "batch")
    assert [each["command"] for each in found["executors"]] == ["pip install apflow-executor-crewai"]
    assert run(developing.python, "-c", "import apflow.executor.crewai").returncode != 0
