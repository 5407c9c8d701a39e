from typing import Any

import pytest
from peers.websocket import TOKEN, WebSocketPeer

from apflow.core.extensions.executor import BaseTask
from apflow.core.extensions.registry import executor_register, get_registry
from apflow.core.store.memory import MemoryStore
from apflow.core.task_executor import TaskExecutor


async def run(*tasks: dict[str, Any]) -> dict[str, Any]:
    async with MemoryStore() as store:
        return dict(await TaskExecutor().execute_tasks(list(tasks), db_session=store))


async def test_a_secret_reaches_the_server_and_nothing_else(
    peer: WebSocketPeer, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("APFLOW_SECRET_PEER", TOKEN)
    inputs = {
        "url": peer.url("/auth"),
        "headers": {"Authorization": {"$secret": "PEER"}},
        "message": {"token": {"$secret": "PEER"}},
    }
    done = await run({"name": "websocket_executor", "inputs": inputs})
    assert done["status"] == "completed"
    assert TOKEN not in str(done)
    assert done["result"]["response"] == {"token": "***"}


async def test_a_failure_fails_the_task(peer: WebSocketPeer):
    inputs = {"url": peer.url("/close?code=1008&reason=not+you"), "message": "a"}
    done = await run({"name": "websocket_executor", "inputs": inputs})
    assert (done["status"], done["result"]["error_type"]) == ("failed", "WebSocketClosedError")
    assert "1008 (policy violation), 'not you'" in done["error"]


@pytest.mark.parametrize("number", ["18446744073709551617", "-9223372036854775809", "1e400"])
async def test_a_number_that_cannot_be_kept_fails_the_task_with_its_path(peer: WebSocketPeer, number: str):
    inputs = {"url": peer.url("/echo"), "message": f'{{"items": [0, {{"id": {number}}}]}}'}
    done = await run({"name": "websocket_executor", "inputs": inputs})
    assert (done["status"], done["result"]["error_type"]) == ("failed", "ResultNotSerializable")
    assert "result.response.items[1].id is " in done["error"]
    assert done["error"].endswith("A service can send such a number as a string.")


async def test_an_integer_of_64_bits_is_kept(peer: WebSocketPeer):
    inputs = {"url": peer.url("/echo"), "message": '{"id": 18446744073709551615}'}
    done = await run({"name": "websocket_executor", "inputs": inputs})
    assert done["result"]["response"] == {"id": 18446744073709551615}


async def test_a_message_is_taken_from_what_the_task_refers_to(peer: WebSocketPeer):
    done = await run(
        {
            "id": "say",
            "name": "websocket_executor",
            "dependencies": ["hear"],
            "inputs": {"url": peer.url("/json"), "message": {"$from": "hear", "path": "response"}},
        },
        {
            "id": "hear",
            "name": "websocket_executor",
            "parent_id": "say",
            "inputs": {"url": peer.url("/greet")},
        },
    )
    assert done["status"] == "completed"
    assert done["result"]["response"] == {"heard": "welcome"}


async def test_the_result_of_another_task_never_says_who_is_connected_to(peer: WebSocketPeer):
    @executor_register(executor_id="test_hostile")
    class Hostile(BaseTask):
        async def execute(self, inputs: dict[str, Any]) -> Any:
            return {"url": peer.url("/echo"), "message": "a"}

    before = peer.seen["/echo"]
    try:
        done = await run(
            {"id": "talk", "name": "websocket_executor", "dependencies": ["read"]},
            {"id": "read", "name": "test_hostile", "parent_id": "talk"},
        )
    finally:
        get_registry().unregister("test_hostile")
    assert done["result"]["error_type"] == "ValidationError"
    assert peer.seen["/echo"] == before
