"""`apflow mcp serve`: a client starts it, and its standard output carries the protocol only."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
from mcp import ClientSession
from mcp.client.stdio import StdioServerParameters, stdio_client

ERAS = ["legacy", "modern"] if hasattr(ClientSession, "discover") else ["legacy"]
START_SECONDS = 60.0  # that the command may take to start on a busy machine
EXECUTOR = '''
import asyncio, os, subprocess, sys
from apflow.core import BaseTask, executor_register

print("printed by the import")

@executor_register()
class Loud(BaseTask):
    """Writes to standard output in every way."""
    id = "loud"
    cancelable = True

    def get_input_schema(self):
        return {"type": "object", "properties": {"waits": {"type": "boolean"}}}

    async def execute(self, inputs):
        print("printed by the task")
        os.write(1, b"written to the descriptor\\n")
        subprocess.run([sys.executable, "-c", "print('printed by a child')"], check=True)
        try:
            while inputs.get("waits"):
                open("running", "w").close()
                await asyncio.sleep(0.01)
        except asyncio.CancelledError:
            open("cancelled", "w").close()
            raise
        return {"read": sys.stdin.read()}
'''


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("mcp.client.session.DISCOVER_TIMEOUT_SECONDS", START_SECONDS, raising=False)
    (tmp_path / "loud.py").write_text(dedent(EXECUTOR))
    return tmp_path


def environment(folder: Path) -> dict[str, str]:
    given = {name: value for name, value in os.environ.items() if not name.startswith("APFLOW_")}
    own = {"APFLOW_DATABASE_URL": f"duckdb:///{folder / 'flow.duckdb'}", "PYTHONPATH": str(folder)}
    return given | own


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "apflow.cli", "mcp", "serve", "--import", "loud", *arguments]


@asynccontextmanager
async def started(folder: Path, *arguments: str, era: str = "legacy") -> AsyncGenerator[Any]:
    program, *given = command(*arguments)
    parameters = StdioServerParameters(command=program, args=given, env=environment(folder), cwd=folder)
    with (folder / "stderr").open("w") as errlog:
        async with stdio_client(parameters, errlog=errlog) as streams, ClientSession(*streams) as session:
            given_session: Any = session
            await (given_session.discover() if era == "modern" else given_session.initialize())
            yield given_session


def plain(result: Any) -> dict[str, Any]:
    return result.model_dump(mode="json", by_alias=True, exclude_none=True)


@pytest.mark.asyncio
@pytest.mark.parametrize("era", ERAS)
async def test_a_client_runs_tasks_that_write_to_standard_output(folder: Path, era: str):
    async with started(folder, "--tools", "default,executors", era=era) as session:
        tools = [each["name"] for each in plain(await session.list_tools())["tools"]]
        assert {"tasks_execute", "run_loud"} <= set(tools)
        done = plain(await session.call_tool("run_loud", {}))
        assert done["structuredContent"]["result"] == {"read": ""}
        task_id = done["structuredContent"]["task_id"]
        logged = plain(await session.call_tool("tasks_logs", {"task_id": task_id}))
        assert "printed by the task" in str(logged)


def messages(folder: Path, *arguments: str, requests: list[Any]) -> list[Any]:
    """Return what the command writes to standard output, for these lines as its input."""
    lines = "".join(json.dumps(each) + "\n" for each in requests)
    done = subprocess.run(
        command(*arguments),
        input=lines,
        capture_output=True,
        text=True,
        env=environment(folder),
        cwd=folder,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-06-18",
        "capabilities": {},
        "clientInfo": {"name": "test", "version": "1"},
    },
}


def test_the_command_ends_with_its_input(folder: Path):
    [answer] = messages(folder, requests=[INITIALIZE])
    assert answer["result"]["serverInfo"]["name"] == "apflow"


def test_a_signal_ends_the_command_and_leaves_the_run_to_others(folder: Path):
    call = {
        "jsonrpc": "2.0",
        "id": 2,
        "method": "tools/call",
        "params": {
            "name": "tasks_execute",
            "arguments": {"tasks": {"name": "loud", "inputs": {"waits": True}}, "wait": True},
        },
    }
    started_note = {"jsonrpc": "2.0", "method": "notifications/initialized"}
    process = subprocess.Popen(
        command(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(folder) | {"APFLOW_SHUTDOWN_TIMEOUT": "0.2"},
        cwd=folder,
    )
    with process:
        assert process.stdin is not None
        for each in (INITIALIZE, started_note, call):
            process.stdin.write(json.dumps(each) + "\n")
        process.stdin.flush()
        while not (folder / "running").exists():
            assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    read = [sys.executable, "-m", "apflow.cli", "tasks", "list", "--json"]
    listed = subprocess.run(
        read, capture_output=True, text=True, env=environment(folder), cwd=folder, check=True, timeout=60
    )
    [task] = json.loads(listed.stdout)["tasks"]
    assert task["status"] in ("pending", "in_progress")


@pytest.mark.parametrize(
    ("tools", "said"), [("tasks_gt", "Did you mean 'tasks_get'?"), ("nothing", "is not a tool")]
)
def test_tools_that_do_not_exist_are_refused(folder: Path, tools: str, said: str):
    done = subprocess.run(
        command("--tools", tools),
        input="",
        capture_output=True,
        text=True,
        env=environment(folder),
        cwd=folder,
        check=False,
        timeout=60,
    )
    assert done.returncode == 2, done.stderr
    assert said in done.stderr.replace("\n", " ")
    assert done.stdout == ""


def test_without_the_sdk_the_command_says_what_to_install(folder: Path):
    program = (
        "import sys; sys.modules['mcp'] = None; sys.argv = ['apflow', 'mcp', 'serve']; "
        "from apflow.cli import main; sys.exit(main())"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        input="",
        capture_output=True,
        text=True,
        env=environment(folder),
        cwd=folder,
        check=False,
        timeout=60,
    )
    assert done.returncode == 1
    assert 'pip install "apflow-server[mcp]"' in done.stderr.replace("\n", " ")
