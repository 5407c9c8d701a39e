"""The official client of A2A 0.3, in a separate environment, and the A2A programs of the seed documents.

The programs run as printed, except for the address, the ID of the task, a missing import, a name that no
release has had, and the parts of a message, which have a `root` since 0.3.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from installing import must_run, run
from serving import Served, serving
from trees import Steps, steps

pytestmark = pytest.mark.wheels

PROGRAMS = Path(__file__).parent / "seeds" / "a2a"
REQUIREMENT = "a2a-sdk[http-server,grpc]>=0.3.26,<0.4"
CLIENT = """
import asyncio, sys, uuid
import httpx
import grpc.aio
from a2a.client import A2ACardResolver, ClientConfig, ClientFactory
from a2a.types import DataPart, Message, Part, Role, TaskIdParams, TaskQueryParams, TransportProtocol

URL, TRANSPORT = sys.argv[1:3]
TASKS = [{"id": "r", "name": "group"},
         {"id": "c", "name": "server_steps", "parent_id": "r",
          "inputs": {"n": 7, "waits": len(sys.argv) > 3}}]

async def main():
    async with httpx.AsyncClient(timeout=60) as http:
        card = await A2ACardResolver(http, URL).get_agent_card()
        config = ClientConfig(httpx_client=http, grpc_channel_factory=grpc.aio.insecure_channel,
                              supported_transports=[TransportProtocol(TRANSPORT)], use_client_preference=True)
        client = ClientFactory(config).create(card)
        part = Part(root=DataPart(data={"tasks": TASKS}))
        message = Message(message_id=uuid.uuid4().hex, role=Role.user, parts=[part])
        is_cancelled = False
        async for task, update in client.send_message(message):
            print(type(update).__name__, task.status.state.value)
            if len(sys.argv) > 3 and task.status.state.value == "working" and not is_cancelled:
                is_cancelled = True
                async for again, _ in client.resubscribe(TaskIdParams(id=task.id)):
                    print("resubscribed", again.status.state.value)
                    break
                await client.cancel_task(TaskIdParams(id=task.id))
        found = await client.get_task(TaskQueryParams(id=task.id))
        print("END", found.status.state.value, [each.name for each in found.artifacts or []])

asyncio.run(main())
"""


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment with the client."""
    folder = tmp_path_factory.mktemp("client")
    must_run("uv", "venv", "--quiet", folder)
    interpreter = folder / "bin" / "python"
    command = ("uv", "pip", "install", "--quiet", "--python", interpreter, REQUIREMENT)
    installed = run(*command, environment={"UV_CONSTRAINT": ""})  # our constraints name the present SDK
    assert installed.returncode == 0, installed.stderr
    return interpreter


@pytest.fixture
def served() -> Iterator[Served]:
    from apflow.core.settings import Settings

    with steps(), serving(Settings(a2a_grpc_bind="127.0.0.1:0")) as found:
        yield found


def printed(python: Path, folder: Path, program: str, *arguments: str) -> str:
    file = folder / "program.py"
    file.write_text(program)
    finished = run(python, file, *arguments)
    assert finished.returncode == 0, finished.stderr
    return finished.stdout


@pytest.mark.parametrize("transport", ["JSONRPC", "HTTP+JSON", "GRPC"])
def test_the_client_executes_subscribes_and_cancels(
    python: Path, served: Served, tmp_path: Path, transport: str
):
    shown = printed(python, tmp_path, CLIENT, served.url, transport)
    assert shown.splitlines()[-1] == "END completed ['server_steps', 'result']"
    shown = printed(python, tmp_path, CLIENT, served.url, transport, "waits")
    assert "resubscribed working" in shown
    assert "END canceled" in shown


def test_the_programs_of_the_documents_run(python: Path, served: Served, tmp_path: Path):
    def program(name: str, **replaced: str) -> str:
        text = (PROGRAMS / name).read_text().replace("http://localhost:8000", served.url)
        for old, new in replaced.items():
            assert old.replace("_", "-") in text
            text = text.replace(old.replace("_", "-"), new)
        return text

    # The first request imports the SDK; the programs wait 5 seconds for an answer.
    httpx.get(f"{served.url}/.well-known/agent-card.json", timeout=300).raise_for_status()
    printed(python, tmp_path, program("execute_task.py"))
    task = asyncio.run(served.db.get(["task-1"]))["task-1"]
    assert task.status == "completed"
    copying = program("copy_and_execute.py", my_existing_task_id="task-1")
    printed(python, tmp_path, f"import uuid\n{copying}")  # the document forgets it
    roots = [each for each in asyncio.run(_roots(served)) if each.original_task_id == "task-1"]
    assert [each.status for each in roots] == ["completed"]

    waiting = {"id": "runs", "name": Steps.id, "inputs": {"waits": True}}
    httpx.post(f"{served.url}/call/tasks.execute", json={"tasks": [waiting]}).raise_for_status()
    cancelling = program("cancel_task.py", my_running_task="runs").replace(", RequestContext", "")
    cancelling = cancelling.replace("in response.parts", "in (each.root for each in response.parts)")
    assert "Task cancelled successfully" in printed(python, tmp_path, cancelling)


async def _roots(served: Served):
    from apflow.core.store.base import TaskQuery

    return await served.db.find(TaskQuery(root_only=True))
