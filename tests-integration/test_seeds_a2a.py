"""The A2A programs of the Python API reference, translated to the present SDK, against a server on loopback.

They were written for SDKs before 1.0, and with some names that no release has had. Their translation:

| printed | present |
| --- | --- |
| `AgentCard(**response.json())` | the card at the same path, by `A2ACardResolver` |
| `DataPart(kind="data", data=...)`, `part.data` | `new_data_part(...)`, `MessageToDict(part.data)` |
| `Role.user` | `Role.ROLE_USER` |
| `Message(..., metadata={...})` | `message.metadata.update({...})` |
| `client.send_message(message)` | `client.send_message(SendMessageRequest(message=message))` |
| `isinstance(response, Message)` | the message of the final status update |
| `Configuration(push_notification_config=...)` | `configuration.task_push_notification_config` |
| `PushNotificationConfig(headers=...)` | its `authentication` |

`test_a2a_version_03.py` runs the whole programs with the SDK of version 0.3.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any

import httpx
import pytest
from a2a.client import ClientConfig, ClientFactory
from a2a.client.card_resolver import A2ACardResolver
from a2a.client.client import Client
from a2a.helpers import new_data_part
from a2a.types import AuthenticationInfo, Message, Role, SendMessageRequest, StreamResponse
from google.protobuf.json_format import MessageToDict
from receiver import receiving
from seedprograms import PRINTED
from serving import Served, serving, wait_for
from trees import Steps, steps

from apflow.core import TaskCreator
from apflow.core.settings import Settings
from apflow.core.store.base import TaskQuery

ONE = {
    "id": "task-1",
    "name": "My Task",
    "user_id": "user123",
    "schemas": {"method": "system_info_executor"},
    "inputs": {},
}


def of_document(name: str, variable: str) -> Any:
    """Return what a document assigns to a variable of literals."""
    namespace: dict[str, Any] = {}
    exec((PRINTED / name).read_text(), namespace)
    return namespace[variable]


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    monkeypatch.setenv("APFLOW_CREDENTIALS_KEY", "a key of tests")
    with steps(), serving(Settings(credentials_key="a key of tests")) as found:
        yield found


@pytest.fixture
async def client(served: Served) -> AsyncIterator[Client]:
    async with httpx.AsyncClient(base_url=served.url, timeout=120, trust_env=False) as http:
        # Any base URL gives the card, under the path that one of the programs uses, too.
        card = await A2ACardResolver(http, served.url, "/.well-known/agent-card").get_agent_card()
        yield ClientFactory(ClientConfig(streaming=True, httpx_client=http)).create(card)


def request(data: Any = None, metadata: Mapping[str, Any] | None = None, **more: Any) -> SendMessageRequest:
    parts = [] if data is None else [new_data_part(data)]
    message = Message(message_id=str(uuid.uuid4()), role=Role.ROLE_USER, parts=parts, **more)
    message.metadata.update(dict(metadata or {}))
    return SendMessageRequest(message=message)


def data_of(response: StreamResponse) -> dict[str, Any]:
    """Return the data of the message in a status update: what the programs print."""
    parts = response.status_update.status.message.parts
    return MessageToDict(parts[0].data) if parts else {}


async def sent(client: Client, made: SendMessageRequest) -> list[dict[str, Any]]:
    """Return the data of every response."""
    return [found for found in [data_of(each) async for each in client.send_message(made)] if found]


async def test_execute_task(client: Client):
    [result] = await sent(client, request({"tasks": [ONE]}))
    assert (result["status"], result["progress"]) == ("completed", 1)
    assert "cpu" in result["result"]


async def test_push_notification(client: Client, served: Served):
    with receiving() as receiver:
        made = request({"tasks": [ONE]})
        config = made.configuration.task_push_notification_config
        config.url = receiver.url
        config.authentication.CopyFrom(AuthenticationInfo(scheme="Bearer", credentials="your-token"))
        async for response in client.send_message(made):
            assert response.task.id  # the first response, and no others are waited for
            break
        wait_for(lambda: any("COMPLETED" in str(each.body) for each in receiver.requests))
        [first, *_] = receiver.requests
    assert {name.lower(): value for name, value in first.headers.items()}[
        "authorization"
    ] == "Bearer your-token"
    assert json.loads(first.body)["statusUpdate"]["taskId"] == response.task.id


async def test_cancel_task(client: Client, served: Served):
    waiting = {"id": "my-running-task", "name": Steps.id, "inputs": {"waits": True}}
    task = {"tasks": [waiting]}
    async with httpx.AsyncClient(timeout=120, trust_env=False) as http:
        (await http.post(f"{served.url}/call/tasks.execute", json=task)).raise_for_status()
    metadata = {"error_message": "User requested cancellation"}
    responses = client.send_message(request(metadata=metadata, task_id="my-running-task"))
    [last] = [each async for each in responses][-1:]
    text = str(MessageToDict(last))
    assert "cancelled" in text
    stored = (await served.db.get(["my-running-task"]))["my-running-task"]
    assert (stored.status, stored.error) == ("cancelled", "User requested cancellation")


async def test_streaming(client: Client):
    updates = [each async for each in client.send_message(request({"tasks": [ONE]}, {"stream": True}))]
    shown = [MessageToDict(each.status_update.metadata) for each in updates if each.HasField("status_update")]
    assert [each["apflow"]["status"] for each in shown if "apflow" in each][-1] == "completed"
    assert len(updates) > 2


async def test_task_tree(client: Client):
    tasks = of_document("python_api/task_tree_array.py", "tasks")
    *_, result = await sent(client, request({"tasks": tasks}))
    assert (result["status"], result["task_count"]) == ("completed", 3)
    assert {*result["result"]["results"]} == {"child-1", "child-2"}  # a Struct of protobuf has no order


async def stored_tree(served: Served, name: str) -> None:
    array = [
        {"id": name, "name": Steps.id, "inputs": {"n": 1}},
        {"id": f"{name}-below", "name": Steps.id, "parent_id": name, "inputs": {"n": 2}},
    ]
    await TaskCreator(served.db).create_task_tree_from_array(array)


@pytest.mark.parametrize(
    ("program", "task_id", "more", "copied"),
    [
        ("copy_basic", "existing-task-id", {}, 2),
        ("copy_children", "parent-task-id", {"copy_children": True}, 2),
        ("copy_and_execute", "my-existing-task-id", {"copy_children": True, "stream": True}, 2),
    ],
)
async def test_copies(
    client: Client, served: Served, program: str, task_id: str, more: dict[str, Any], copied: int
):
    printed = (PRINTED / f"a2a/{program}.py").read_text()
    assert f'"task_id": "{task_id}"' in printed
    assert all(f'"{name}": True' in printed for name in more)
    await stored_tree(served, task_id)
    *_, result = await sent(client, request({}, {"task_id": task_id, "copy_execution": True, **more}))
    assert (result["status"], result["metadata"]["original_task_id"]) == ("completed", task_id)
    assert result["root_task_id"] != task_id
    assert len(await served.db.tree(result["root_task_id"])) == copied
    assert {task.status for task in await served.db.tree(task_id)} == {"pending"}
    assert len(await served.db.find(TaskQuery(root_only=True))) == 2
