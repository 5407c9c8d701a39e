"""Agents on the official SDK 0.3, each in a fresh environment with that SDK, called by `a2a_executor`."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from installing import PLAIN, Environment, new_environment, run
from peers.apflowserver import until

from apflow.executor.a2a import A2aExecutor

pytestmark = pytest.mark.wheels

PROGRAM = Path(__file__).parent / "peers" / "a2aagent03.py"
POLL = {"use_streaming": False, "poll_interval": 0.05}


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    made = new_environment(tmp_path_factory.mktemp("former") / "venv")
    wanted = ["a2a-sdk[http-server,grpc]>=0.3,<0.4", "uvicorn"]
    command = ["uv", "pip", "install", "--quiet", "--python", made.python, *wanted]
    installed = run(*command, environment={"UV_CONSTRAINT": ""})  # our constraints name the present SDK
    assert installed.returncode == 0, installed.stderr
    return made


@pytest.fixture(scope="module", params=["JSONRPC", "HTTP+JSON", "GRPC"])
def agent(environment: Environment, request: pytest.FixtureRequest) -> Iterator[str]:
    """The URL of an agent with one transport."""
    command = [
        environment.python,
        "-P",
        PROGRAM,
        request.param,
    ]  # the peers beside it have names of libraries
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=PLAIN
    ) as process:
        assert process.stdout is not None
        try:
            yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.kill()


@pytest.mark.parametrize("more", [{}, POLL], ids=["stream", "poll"])
async def test_an_agent_of_0_3_answers(agent: str, more: dict[str, Any]):
    result = await A2aExecutor().execute({"agent": agent, "message": "sunny", "timeout": 30, **more})
    assert (result["status"], result["agent"]) == ("completed", "Agent of 0.3")
    assert "".join(part["text"] for part in result["artifacts"][0]["parts"]) == "It is sunny"
    assert result["data"] == [{"count": 3}]


async def test_a_question_of_an_agent_of_0_3_is_answered(agent: str):
    asked = await A2aExecutor().execute({"agent": agent, "message": "ask", "timeout": 30})
    assert asked["error_type"] == "A2aInputRequiredError"
    assert "Which city?" in asked["error"]
    known = {"task_id": asked["task_id"], "context_id": asked["context_id"]}
    answered = await A2aExecutor().execute({"agent": agent, "message": "Oslo", "timeout": 30, **known})
    assert (answered["status"], answered["task_id"]) == ("completed", asked["task_id"])


@pytest.mark.parametrize("more", [{}, POLL], ids=["stream", "poll"])
async def test_a_task_of_an_agent_of_0_3_is_cancelled(
    agent: str, more: dict[str, Any], caplog: pytest.LogCaptureFixture
):
    executor = A2aExecutor()
    given = {"agent": agent, "message": "hold", "timeout": 30, **more}
    running = asyncio.create_task(executor.execute(given))
    await until(lambda: executor._agent_call is not None and executor._agent_call.task_id is not None, 30)
    running.cancel()
    await asyncio.wait([running])
    assert running.cancelled()
    assert "may still run" not in caplog.text
