"""A2A and a server that is killed: executions end, subscribers get the rest, and pushes arrive."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from a2a.types import GetTaskRequest, SubscribeToTaskRequest
from a2a_clients import COMPLETED, agent, data_of, last_state, replies, tree
from receiver import Receiver, receiving
from serving import Process, serve_process

MODULE = '''
import asyncio
from pathlib import Path

from apflow.core import BaseTask, executor_register


@executor_register()
class Step(BaseTask):
    """Waits for a file."""

    id = "step"
    effect = "idempotent"

    async def execute(self, inputs):
        while inputs.get("file") and not Path(inputs["file"]).exists():
            await asyncio.sleep(0.01)
        return {"n": inputs["n"]}
'''
COUNT = 10


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "steps.py").write_text(MODULE)
    return tmp_path


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as found:
        yield found


def serve(folder: Path) -> Any:
    environment = {
        "APFLOW_DATABASE_URL": f"duckdb:///{folder}/t.duckdb",
        "APFLOW_CREDENTIALS_KEY": "a key of tests",
        "PYTHONPATH": str(folder),
    }
    return serve_process(folder, "--import", "steps", environment=environment, start=200)


async def test_executions_outlive_a_server_that_is_killed(folder: Path, receiver: Receiver):
    go_on = folder / "go-on"
    with serve(folder) as process:
        ids = await begin(process, go_on, receiver)
        process.end(signal.SIGKILL)
    with serve(folder) as process:
        async with agent(process.url) as client:
            streams = [client.subscribe(SubscribeToTaskRequest(id=each)) for each in ids]
            firsts = [await anext(aiter(each)) for each in streams]
            assert [each.task.id for each in firsts] == ids
            go_on.touch()
            rests = await asyncio.gather(*map(replies, streams))
            assert [last_state(each) for each in rests] == [COMPLETED] * COUNT
            for each in ids:
                task = await client.get_task(GetTaskRequest(id=each))
                assert task.status.state == COMPLETED
                assert task.context_id == "one-talk"
                assert data_of(task.history[0])["tasks"][0]["name"] == "group"
                assert task.history[-1].message_id == f"{each}:final"
        async with asyncio.timeout(400):
            while finals(receiver) != set(ids):  # noqa: ASYNC110 - the receiver is in a thread
                await asyncio.sleep(0.05)
    headers = {each.headers.get("x-a2a-notification-token") for each in receiver.requests}
    assert headers == {"the-token"}


async def begin(process: Process, go_on: Path, receiver: Receiver) -> list[str]:
    """Begin executions that wait for a file, each with a webhook, and return their IDs."""
    async with agent(process.url) as client:

        async def one(number: int) -> str:
            tasks = [
                {"id": f"r{number}", "name": "group"},
                {"id": "first", "name": "step", "parent_id": f"r{number}", "inputs": {"n": 1}},
                {
                    "id": "waits",
                    "name": "step",
                    "parent_id": f"r{number}",
                    "dependencies": ["first"],
                    "inputs": {"n": 2, "file": str(go_on)},
                },
            ]
            request = tree(*tasks, context_id="one-talk")
            hook = request.configuration.task_push_notification_config
            hook.url, hook.token = receiver.url, "the-token"
            stream = aiter(client.send_message(request))
            task_id = (await anext(stream)).task.id
            async for each in stream:
                if each.HasField("artifact_update"):
                    break
            return task_id

        async with asyncio.timeout(400):
            return list(await asyncio.gather(*(one(number) for number in range(COUNT))))


def finals(receiver: Receiver) -> set[str]:
    """The tasks of which a final status has arrived."""
    with receiver.lock:
        updates = [json.loads(each.body).get("statusUpdate") for each in receiver.requests]
    return {each["taskId"] for each in updates if each and each["status"]["state"] == "TASK_STATE_COMPLETED"}
